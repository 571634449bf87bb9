//! Fixed-point amounts: thousandths of a kind's unit, never floats.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

/// Thousandths of a unit: of a cpu, a gpu, a MiB of memory or disk, an item of a range or set.
///
/// Sums saturate: an amount never wraps into its opposite, and the ledger rejects inputs long
/// before that ([`Amount::MAX_INPUT`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One unit.
    pub const ONE: Self = Self(1_000);
    /// The most that any single input may state: ten thousand million units. A million agents of
    /// that size still sum without saturating.
    pub const MAX_INPUT: Self = Self(10_000_000_000_000);

    /// From thousandths of the unit.
    #[must_use]
    pub const fn from_milli(milli: i64) -> Self {
        Self(milli)
    }

    /// From whole units, saturating.
    #[must_use]
    pub const fn from_units(units: i64) -> Self {
        Self(units.saturating_mul(1_000))
    }

    /// Thousandths of the unit.
    #[must_use]
    pub const fn milli(self) -> i64 {
        self.0
    }

    /// Whether this is exactly nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether this is a whole number of units.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.0 % 1_000 == 0
    }

    /// The smaller of two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Ord::min(self, other)
    }

    /// `self × count`, saturating.
    #[must_use]
    pub const fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(count as i64))
    }
}

impl Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Amount {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Amount {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Amount {
    /// Decimal without trailing zeros: `4`, `0.5`, `-1.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let (whole, part) = (magnitude / 1_000, magnitude % 1_000);
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{part:03}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// Why a text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseAmountError {
    /// The text as given.
    pub text: String,
}

impl fmt::Display for ParseAmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is not an amount: wanted a number from 0 to {} with at most three decimals, such as 4 or 0.5",
            self.text,
            Amount::MAX_INPUT
        )
    }
}

impl std::error::Error for ParseAmountError {}

impl FromStr for Amount {
    type Err = ParseAmountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseAmountError {
            text: text.to_owned(),
        };
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 3 {
            return Err(fail());
        }
        let whole: i64 = whole.parse().map_err(|_| fail())?;
        let part: i64 = format!("{part:0<3}").parse().map_err(|_| fail())?;
        let milli = whole
            .checked_mul(1_000)
            .and_then(|m| m.checked_add(part))
            .ok_or_else(fail)?;
        if milli > Self::MAX_INPUT.0 {
            return Err(fail());
        }
        Ok(Self(milli))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_parse_and_print_exactly() {
        for (text, milli) in [
            ("4", 4_000),
            ("0.5", 500),
            ("1.25", 1_250),
            ("0.001", 1),
            ("0", 0),
        ] {
            let amount: Amount = text.parse().unwrap();
            assert_eq!(amount.milli(), milli);
            assert_eq!(amount.to_string(), text);
        }
        for text in [
            "",
            "-1",
            "1.",
            "1.2345",
            ".5",
            "1e3",
            "99999999999999999999",
            "x",
        ] {
            let parsed: Result<Amount, _> = text.parse();
            assert_eq!(parsed.is_ok(), text == "1.", "{text}");
        }
    }

    #[test]
    fn sums_of_thousandths_never_drift() {
        let tenth = Amount::from_milli(100);
        let sum: Amount = (0..10).map(|_| tenth).sum();
        assert_eq!(sum, Amount::ONE);
    }
}
