//! What a simulation comes to.

use proffer_model::{Duration, Timestamp};

/// The result, all of it simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Who decided.
    pub policy: String,
    /// Tasks in all.
    pub tasks: usize,
    /// Tasks that were placed.
    pub placed: usize,
    /// Tasks that ended.
    pub finished: usize,
    /// Of each kind, the part of the pool that was in use from begin to end of the workload, in
    /// millionths.
    pub utilisation: Vec<(String, u64)>,
    /// Over time.
    pub rows: Vec<Row>,
    /// Of tasks that were placed.
    pub waits: Waits,
    /// Fragmentation is of this kind.
    pub fragmented: String,
    /// When the last task ended.
    pub ended: Timestamp,
    /// Cycles of the policy.
    pub cycles: u64,
    /// Its grants that became offers.
    pub grants: u64,
    /// Cycles in which it failed, and its fallback decided.
    pub failures: u64,
    /// Commands that the core refused, tasks that it dropped.
    pub refused: u64,
    /// Events that the core handled.
    pub events: u64,
}

/// How the pool stood at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// When.
    pub at: Timestamp,
    /// Of each kind, the part of the pool in use, in millionths.
    pub used: Vec<(String, u64)>,
    /// Of what is free, the part that lies where a task of this workload, picked at random, does not
    /// fit; in millionths.
    pub fragmentation: u64,
    /// Tasks that run.
    pub running: usize,
    /// Tasks that wait.
    pub waiting: usize,
}

impl Outcome {
    /// The mean of the rows' fragmentation, in millionths.
    #[must_use]
    pub fn fragmentation(&self) -> u64 {
        let sum: u64 = self.rows.iter().map(|row| row.fragmentation).sum();
        sum / (self.rows.len() as u64).max(1)
    }
}

/// From first asked to placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// On average.
    pub mean: Duration,
    /// Half of them waited no longer.
    pub p50: Duration,
    /// All but a hundredth of them waited no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Waits {
    /// Of waits in any order.
    #[must_use]
    pub fn of(mut waits: Vec<u64>) -> Self {
        waits.sort_unstable();
        let Some(last) = waits.last() else {
            return Self::default();
        };
        let nth =
            |percent: usize| Duration(waits[(waits.len() * percent).div_ceil(100).max(1) - 1]);
        let sum: u128 = waits.iter().map(|wait| u128::from(*wait)).sum();
        let mean = sum / waits.len() as u128;
        Self {
            mean: Duration(u64::try_from(mean).unwrap_or(u64::MAX)),
            p50: nth(50),
            p99: nth(99),
            max: Duration(*last),
        }
    }
}

/// A part of a whole in millionths.
#[must_use]
pub fn part(part: i128, whole: i128) -> u64 {
    if whole <= 0 {
        return 0;
    }
    u64::try_from(part.max(0) * 1_000_000 / whole).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_waits_that_were() {
        let waits = Waits::of((1..=200).rev().collect());
        assert_eq!(
            waits,
            Waits {
                mean: Duration(100),
                p50: Duration(100),
                p99: Duration(198),
                max: Duration(200)
            }
        );
        assert_eq!(Waits::of(vec![7]).p99, Duration(7));
        assert_eq!(Waits::of(Vec::new()), Waits::default());
    }
}
