//! Sets of whole numbers, kept as sorted, disjoint, non-adjacent inclusive ranges.

use std::fmt;

use smallvec::SmallVec;

use crate::Amount;

/// Both ends included; `begin <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    begin: u32,
    end: u32,
}

/// Why two numbers are not a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRange {
    /// As given.
    pub begin: u64,
    /// As given.
    pub end: u64,
}

impl fmt::Display for InvalidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{} is not a range: wanted begin <= end and end at most {}",
            self.begin,
            self.end,
            Range::END_MAX
        )
    }
}

impl std::error::Error for InvalidRange {}

impl Range {
    /// Largest end: counts of items then fit an [`Amount`].
    pub const END_MAX: u64 = 1_000_000_000;

    /// Checks `begin <= end <= END_MAX`.
    ///
    /// # Errors
    /// If not.
    pub fn new(begin: u64, end: u64) -> Result<Self, InvalidRange> {
        match (u32::try_from(begin), u32::try_from(end)) {
            (Ok(first), Ok(last)) if begin <= end && end <= Self::END_MAX => Ok(Self {
                begin: first,
                end: last,
            }),
            _ => Err(InvalidRange { begin, end }),
        }
    }

    /// First number.
    #[must_use]
    pub const fn begin(self) -> u64 {
        self.begin as u64
    }

    /// Last number.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end as u64
    }

    /// How many numbers.
    #[must_use]
    pub const fn count(self) -> u64 {
        (self.end - self.begin) as u64 + 1
    }
}

/// A set of whole numbers, such as ports. Canonical: equal sets compare equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(List);

/// Sorted, disjoint, not adjacent. Two are no larger than where many would be.
type List = SmallVec<[Range; 2]>;

impl Ranges {
    /// Any ranges, in any order, overlapping or not.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = Range>) -> Self {
        let mut sorted: List = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut merged = List::new();
        for range in sorted {
            match merged.last_mut() {
                Some(last) if range.begin <= last.end.saturating_add(1) => {
                    last.end = last.end.max(range.end);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    /// The ranges, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[Range] {
        &self.0
    }

    /// Whether there is no number in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|range| range.count()).sum()
    }

    /// How many numbers, as an amount.
    #[must_use]
    pub fn amount(&self) -> Amount {
        Amount::from_units(i64::try_from(self.count()).unwrap_or(i64::MAX))
    }

    /// Whether every number of `other` is in `self`.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        let mut ours = self.0.iter();
        let mut current = ours.next();
        other.0.iter().all(|range| {
            while current.is_some_and(|own| own.end < range.begin) {
                current = ours.next();
            }
            current.is_some_and(|own| own.begin <= range.begin && range.end <= own.end)
        })
    }

    /// Whether no number is in both.
    #[must_use]
    pub fn is_disjoint(&self, other: &Self) -> bool {
        let (mut a, mut b) = (0, 0);
        while let (Some(x), Some(y)) = (self.0.get(a), other.0.get(b)) {
            if x.end < y.begin {
                a += 1;
            } else if y.end < x.begin {
                b += 1;
            } else {
                return false;
            }
        }
        true
    }

    /// Numbers in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return other.clone();
        }
        Self::new(self.0.iter().chain(&other.0).copied())
    }

    /// Numbers of `self` that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = List::new();
        let mut cuts = other.0.iter().peekable();
        for &range in &self.0 {
            let mut begin = range.begin;
            while cuts.peek().is_some_and(|cut| cut.end < begin) {
                cuts.next();
            }
            let mut rest = cuts.clone();
            while let Some(cut) = rest.next_if(|cut| cut.begin <= range.end) {
                if cut.begin > begin {
                    left.push(Range {
                        begin,
                        end: cut.begin - 1,
                    });
                }
                begin = begin.max(cut.end + 1);
            }
            if begin <= range.end {
                left.push(Range {
                    begin,
                    end: range.end,
                });
            }
        }
        Self(left)
    }

    /// Numbers in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.difference(&self.difference(other))
    }

    /// The lowest `count` numbers, or all if there are fewer.
    #[must_use]
    pub fn lowest(&self, count: u64) -> Self {
        let mut wanted = count;
        let mut taken = List::new();
        for &range in &self.0 {
            if wanted == 0 {
                break;
            }
            let take = wanted.min(range.count());
            taken.push(Range {
                begin: range.begin,
                // At most the range's own end.
                end: u32::try_from(range.begin() + take - 1).unwrap_or(range.end),
            });
            wanted -= take;
        }
        Self(taken)
    }
}

impl fmt::Display for Ranges {
    /// `[31000-31009,31020-31020]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}-{}", range.begin, range.end)?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ranges(pairs: &[(u64, u64)]) -> Ranges {
        Ranges::new(
            pairs
                .iter()
                .map(|&(begin, end)| Range::new(begin, end).unwrap()),
        )
    }

    fn numbers(ranges: &Ranges) -> BTreeSet<u64> {
        ranges
            .as_slice()
            .iter()
            .flat_map(|range| range.begin()..=range.end())
            .collect()
    }

    #[test]
    fn neighbours_merge_and_gaps_stay() {
        assert_eq!(ranges(&[(5, 6), (1, 2), (3, 3)]).to_string(), "[1-3,5-6]");
        assert_eq!(
            ranges(&[(1, 9)])
                .difference(&ranges(&[(3, 4), (9, 9)]))
                .to_string(),
            "[1-2,5-8]"
        );
        assert_eq!(ranges(&[(1, 2), (5, 9)]).lowest(4).to_string(), "[1-2,5-6]");
        Range::new(2, 1).unwrap_err();
    }

    fn any_ranges() -> impl Strategy<Value = Ranges> {
        prop::collection::vec((0_u64..40, 0_u64..6), 0..8).prop_map(|pairs| {
            Ranges::new(
                pairs
                    .into_iter()
                    .map(|(begin, len)| Range::new(begin, begin + len).unwrap()),
            )
        })
    }

    proptest! {
        #[test]
        fn operations_agree_with_sets_of_numbers(a in any_ranges(), b in any_ranges(), n in 0_u64..50) {
            let (x, y) = (numbers(&a), numbers(&b));
            prop_assert_eq!(numbers(&a.union(&b)), &x | &y);
            prop_assert_eq!(numbers(&a.difference(&b)), &x - &y);
            prop_assert_eq!(numbers(&a.intersection(&b)), &x & &y);
            prop_assert_eq!(a.contains(&b), x.is_superset(&y));
            prop_assert_eq!(a.is_disjoint(&b), x.is_disjoint(&y));
            prop_assert_eq!(a.count(), x.len() as u64);
            prop_assert_eq!(numbers(&a.lowest(n)), x.iter().copied().take(n as usize).collect::<BTreeSet<_>>());
            prop_assert_eq!(Ranges::new(a.as_slice().iter().copied()), a);
        }
    }
}
