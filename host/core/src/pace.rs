//! The core's time against the host's clock: it never falls, over a change of host neither.
//!
//! Clocks of hosts differ. A host that goes on begins no earlier than the last time that is in the
//! facts. If its own clock is behind that, the core's time runs on from there at three quarters of
//! the clock's speed until the clock has caught up. So time that was an hour ahead is right again after
//! four, and leases and time-outs take a third longer in the meantime: nothing stands still, and
//! nothing is cut short.

use proffer_codec::codec_struct;
use proffer_model::{Duration, Timestamp};

/// Of so many milliseconds of the host's clock ...
const OF: u64 = 4;
/// ... the core's time takes so many while it is ahead: slow enough to end soon, fast enough that a
/// time-out of half a minute stays one of less than a minute.
const RUNS: u64 = 3;

/// When the host went on, by its own clock and by the core's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    clock: Timestamp,
    time: Timestamp,
}

codec_struct!(Pace { clock, time });

impl Pace {
    /// The core's time is `time` when the clock shows `clock`.
    pub(crate) fn new(clock: Timestamp, time: Timestamp) -> Self {
        Self { clock, time }
    }

    /// The core's time when the clock shows that.
    pub(crate) fn time(self, clock: Timestamp) -> Timestamp {
        let passed = clock.since(self.clock).0;
        let slowly = passed / OF * RUNS + passed % OF * RUNS / OF;
        clock.max(self.time + Duration(slowly))
    }

    /// What the clock shows when the core's time is that: no earlier, and next to no later.
    pub(crate) fn clock(self, time: Timestamp) -> Timestamp {
        let left = time.since(self.time).0;
        let rest = (left % RUNS * OF).div_ceil(RUNS);
        let slowly = (left / RUNS).saturating_mul(OF).saturating_add(rest);
        time.min(self.clock + Duration(slowly))
    }

    /// How far the core's time is ahead.
    pub(crate) fn ahead(self, clock: Timestamp) -> Duration {
        self.time(clock).since(clock)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_that_is_ahead_runs_at_three_quarters_until_the_clock_has_caught_up() {
        let pace = Pace::new(Timestamp(1_000), Timestamp(5_000));
        let times = [1_000, 1_004, 9_000, 16_999, 17_000, 17_001, 30_000];
        let times = times.map(|clock| pace.time(Timestamp(clock)).0);
        assert_eq!(
            times,
            [5_000, 5_003, 11_000, 16_999, 17_000, 17_001, 30_000]
        );
        assert_eq!(pace.ahead(Timestamp(1_004)), Duration(3_999));
        assert_eq!(pace.ahead(Timestamp(17_000)), Duration::ZERO);
        // One that is not ahead is the clock.
        let level = Pace::new(Timestamp(7), Timestamp(7));
        assert_eq!(level.time(Timestamp(1_000_003)), Timestamp(1_000_003));
        assert_eq!(level.clock(Timestamp(1_000_003)), Timestamp(1_000_003));
    }

    proptest! {
        #[test]
        fn time_never_falls_and_whoever_is_woken_for_it_finds_that_it_has_come(
            clock in 0_u64..1 << 44,
            ahead in 0_u64..1 << 36,
            one in 0_u64..1 << 37,
            more in 0_u64..1 << 20,
        ) {
            let pace = Pace::new(Timestamp(clock), Timestamp(clock + ahead));
            let (one, two) = (Timestamp(clock + one), Timestamp(clock + one + more));
            prop_assert!(pace.time(one) <= pace.time(two));
            prop_assert!(pace.time(one) >= one);
            let due = pace.time(one) + Duration(more);
            let woken = pace.clock(due);
            prop_assert!(pace.time(woken) >= due);
            prop_assert!(pace.time(woken).0 <= due.0 + 1);
        }
    }
}
