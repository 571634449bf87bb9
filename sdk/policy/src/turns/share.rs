//! Dominant shares, compared exactly and without floating point.
//!
//! A share is a fraction of whole numbers: held / (total × weight). An exact comparison multiplies
//! across, which needs 128 bits and more, and that is what makes a policy three times slower in
//! Wasm than native. So: within one kind and equal weights the amounts alone are compared; else, where
//! the pool's totals are too large or too unlike for products of 64 bits, two 64-bit quotients, which
//! are known to be wrong by no more than a bound; and only if they are closer than that, the exact
//! fractions.

use std::cmp::Ordering;

use proffer_model::policy::NONE;

use crate::cluster::Cluster;

/// Bits of the quotients' fraction, before the weight.
const QUOTIENT_BITS: u32 = 30;
/// More bits for the division by the weight.
const WEIGHT_BITS: u32 = 20;
/// Quotients before the weight are off by less than this: half for what is cut off the amount, two
/// for what is cut off the total (of at most twice the total, see [`Scale::quotient`]), one for
/// rounding.
const QUOTIENT_ERROR: u64 = 4;
/// A weight of one, in thousandths.
const WEIGHT_ONE: u64 = 1_000;

/// The kinds that count in shares, with their totals prepared for comparison.
#[derive(Clone, Debug, Default)]
pub(super) struct Measure {
    scales: Vec<Scale>,
    /// Products of what is held and another's total over its weight mostly fit 64 bits: no quotient,
    /// which is a division, is worked out.
    is_exact: bool,
}

#[derive(Clone, Debug)]
struct Scale {
    kind: u32,
    total: u64,
    /// Total over the common divisor of all totals: small in a pool of equal agents.
    reduced: u64,
    shift: u32,
    shifted: u64,
}

impl Measure {
    /// Of the scalar kinds that the pool has and that are not excluded, by handle.
    pub(super) fn new(cluster: &Cluster, excluded: &[String]) -> Self {
        let counts = cluster
            .kinds()
            .filter(|kind| !kind.counted && !excluded.contains(&kind.name));
        let totals: Vec<(u32, u64)> = counts
            .map(|kind| {
                (
                    kind.handle,
                    cluster.total(kind.handle).max(0).unsigned_abs(),
                )
            })
            .filter(|(_, total)| *total > 0)
            .collect();
        let common = totals
            .iter()
            .fold(0, |common, (_, total)| gcd(common, *total));
        let scale = |(kind, total): (u32, u64)| {
            // Down to 32 bits, so that an amount of twice the total still fits when shifted up.
            let shift = 32_u32.saturating_sub(total.leading_zeros());
            Scale {
                kind,
                total,
                reduced: total / common.max(1),
                shift,
                shifted: total >> shift,
            }
        };
        let scales: Vec<Scale> = totals.into_iter().map(scale).collect();
        let bits = |of: fn(&Scale) -> u64| {
            let largest = scales.iter().map(of).max().unwrap_or(0);
            u64::BITS - largest.leading_zeros()
        };
        let is_exact = bits(|scale| scale.total) + bits(|scale| scale.reduced) + WEIGHT_BITS <= 64;
        Self { scales, is_exact }
    }

    /// How many kinds count.
    pub(super) fn kinds(&self) -> usize {
        self.scales.len()
    }

    /// The place of a kind among those that count.
    pub(super) fn index_of(&self, kind: u32) -> Option<usize> {
        self.scales.iter().position(|scale| scale.kind == kind)
    }

    /// The kind handles that count.
    pub(super) fn handles(&self) -> impl Iterator<Item = u32> {
        self.scales.iter().map(|scale| scale.kind)
    }

    /// The dominant share of what is held (in the order of [`Measure::handles`]).
    pub(super) fn share(&self, held: &[i64], weight: Weight) -> Share {
        let mut dominant: Option<(u64, &Scale)> = None;
        for (scale, &held) in self.scales.iter().zip(held) {
            if held <= 0 {
                continue;
            }
            let held = held.unsigned_abs();
            // On a tie the first kind stands, so that equal holdings have equal shares in form too.
            if dominant.is_none_or(|other| compare_held((held, scale), other).is_gt()) {
                dominant = Some((held, scale));
            }
        }
        let Some((held, scale)) = dominant else {
            return Share::NOTHING;
        };
        let quotient = match self.is_exact {
            true => u64::MAX,
            false => scale.quotient(held),
        };
        let quotient = match quotient {
            u64::MAX => u64::MAX,
            quotient if weight.0 == WEIGHT_ONE => quotient << WEIGHT_BITS,
            quotient => ((quotient * WEIGHT_ONE) << WEIGHT_BITS) / weight.0,
        };
        Share {
            quotient,
            error: weight.error(),
            kind: scale.kind,
            held,
            reduced: scale.reduced,
            weight: weight.0,
        }
    }

    /// A share in millionths, for people.
    pub(super) fn micro(&self, share: &Share) -> u64 {
        let Some(scale) = self.scales.iter().find(|scale| scale.kind == share.kind) else {
            return 0;
        };
        let divisor = u128::from(scale.total) * u128::from(share.weight);
        let whole = u128::from(share.held) * 1_000_000 * u128::from(WEIGHT_ONE);
        let micro = (whole + divisor / 2) / divisor.max(1);
        u64::try_from(micro).unwrap_or(u64::MAX)
    }
}

impl Scale {
    /// held / total in 2^-30ths; [`u64::MAX`] if more than twice the total is held, which happens
    /// only after agents with it were lost: then there is no quotient, only the exact fraction.
    fn quotient(&self, held: u64) -> u64 {
        if held > self.total.saturating_mul(2) {
            return u64::MAX;
        }
        ((held >> self.shift) << QUOTIENT_BITS) / self.shifted.max(1)
    }
}

/// A weight in thousandths, at least one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight(u64);

impl Weight {
    pub(super) const ONE: Self = Self(WEIGHT_ONE);

    pub(super) fn from_milli(milli: i64) -> Self {
        Self(milli.max(1).unsigned_abs())
    }

    /// By how much a quotient over this weight may be wrong.
    fn error(self) -> u64 {
        match self.0 {
            WEIGHT_ONE => QUOTIENT_ERROR << WEIGHT_BITS,
            weight => ((QUOTIENT_ERROR * WEIGHT_ONE) << WEIGHT_BITS) / weight + 1,
        }
    }
}

/// A dominant share over a weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// About held / total / weight; [`u64::MAX`]: unknown, or not needed.
    quotient: u64,
    /// By how much `quotient` may be wrong.
    error: u64,
    kind: u32,
    held: u64,
    reduced: u64,
    weight: u64,
}

impl Share {
    /// Of whoever holds nothing.
    pub(super) const NOTHING: Self = Self {
        quotient: 0,
        error: 0,
        kind: NONE,
        held: 0,
        reduced: 1,
        weight: WEIGHT_ONE,
    };

    /// What is held of the dominant kind.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Whether it compares with another by what is held alone.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.held == 0 || (self.kind == other.kind && self.weight == other.weight)
    }

    /// Exactly.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        if other.held == 0 || self.is_like(other) {
            return self.held.cmp(&other.held);
        }
        let unknown = self.quotient == u64::MAX || other.quotient == u64::MAX;
        if !unknown && !close(self.quotient, other.quotient, self.error + other.error) {
            return self.quotient.cmp(&other.quotient);
        }
        let divisor = |share: &Self| {
            fits((share.reduced, share.weight)).then(|| share.reduced * share.weight)
        };
        match (divisor(self), divisor(other)) {
            (Some(own), Some(others)) => compare_products((self.held, others), (other.held, own)),
            _ => compare_fractions(self.fraction(), other.fraction()),
        }
    }

    fn fraction(&self) -> (u128, u128) {
        let divisor = u128::from(self.reduced) * u128::from(self.weight);
        (u128::from(self.held), divisor)
    }
}

/// Compares what is held of two kinds by their totals, exactly: at once where the products fit, else
/// only if the quotients are too close.
fn compare_held(one: (u64, &Scale), other: (u64, &Scale)) -> Ordering {
    let (own, others) = ((one.0, other.1.reduced), (other.0, one.1.reduced));
    if !(fits(own) && fits(others)) {
        let quotients = (one.1.quotient(one.0), other.1.quotient(other.0));
        if !close(quotients.0, quotients.1, 2 * QUOTIENT_ERROR) {
            return quotients.0.cmp(&quotients.1);
        }
    }
    compare_products(own, others)
}

fn close(one: u64, other: u64, error: u64) -> bool {
    one.abs_diff(other) <= error
}

/// Whether a product fits into 64 bits.
fn fits(pair: (u64, u64)) -> bool {
    pair.0.leading_zeros() + pair.1.leading_zeros() >= 64
}

/// Compares two products, in 64 bits if both fit.
fn compare_products(one: (u64, u64), other: (u64, u64)) -> Ordering {
    if fits(one) && fits(other) {
        return (one.0 * one.1).cmp(&(other.0 * other.1));
    }
    let product = |pair: (u64, u64)| u128::from(pair.0) * u128::from(pair.1);
    product(one).cmp(&product(other))
}

/// Compares two fractions (numerator, denominator; no denominator is 0) of any size exactly: by
/// their whole parts, then by the turned-round rests, as Euclid would.
#[must_use]
pub fn compare_fractions(mut one: (u128, u128), mut other: (u128, u128)) -> Ordering {
    let mut turned = false;
    loop {
        let (whole, other_whole) = (one.0 / one.1.max(1), other.0 / other.1.max(1));
        let rests = (one.0 % one.1.max(1), other.0 % other.1.max(1));
        let by_whole = whole.cmp(&other_whole);
        let ordering = match (by_whole, rests) {
            (Ordering::Equal, (0, _) | (_, 0)) => rests.0.cmp(&rests.1),
            (Ordering::Equal, _) => {
                one = (one.1, rests.0);
                other = (other.1, rests.1);
                turned = !turned;
                continue;
            }
            (unequal, _) => unequal,
        };
        return match turned {
            true => ordering.reverse(),
            false => ordering,
        };
    }
}

fn gcd(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests;
