//! Processor time of a plug-in's calls, as its own threads' clocks measure it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::fault::{Overran, TimeBudget};

/// An epoch.
const TICK_NS: u64 = 1_000_000;

/// How many budgets a call may run beyond its own without having seen the epochs for it.
const OVERDRAFT: u64 = 3;

/// Shared between the executor, which brackets each poll, and the epoch callback, which runs within
/// one. Only the thread that polls writes; other threads may read a value that is a little old.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Of earlier polls.
    before_ns: AtomicU64,
    /// The thread's clock when the current poll began.
    began_ns: AtomicU64,
    /// In what `spent` counts.
    cpu_until_ns: AtomicU64,
    cpu_limit_ns: AtomicU64,
    /// Epochs that the call has seen while it ran.
    ticks: AtomicU64,
    /// What `spent` was when an epoch was last counted.
    within_ns: AtomicU64,
    /// Whether the last call was stopped.
    overran: AtomicBool,
    made: Instant,
    /// After `made`.
    wall_until_ns: AtomicU64,
    wall_limit_ns: AtomicU64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            before_ns: AtomicU64::new(0),
            began_ns: AtomicU64::new(0),
            cpu_until_ns: AtomicU64::new(u64::MAX),
            cpu_limit_ns: AtomicU64::new(u64::MAX),
            ticks: AtomicU64::new(0),
            within_ns: AtomicU64::new(0),
            overran: AtomicBool::new(false),
            made: Instant::now(),
            wall_until_ns: AtomicU64::new(u64::MAX),
            wall_limit_ns: AtomicU64::new(u64::MAX),
        }
    }

    /// A poll begins on this thread.
    pub(crate) fn begin(&self) {
        self.began_ns.store(thread_cpu_ns(), Ordering::Relaxed);
    }

    /// A poll ends on this thread.
    pub(crate) fn end(&self) {
        let spent = thread_cpu_ns().saturating_sub(self.began_ns.load(Ordering::Relaxed));
        self.before_ns.fetch_add(spent, Ordering::Relaxed);
    }

    /// All processor time so far. Only within a poll.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent_ns())
    }

    fn spent_ns(&self) -> u64 {
        let began = self.began_ns.load(Ordering::Relaxed);
        self.before_ns.load(Ordering::Relaxed) + thread_cpu_ns().saturating_sub(began)
    }

    /// A call begins that may take this long. Only within a poll.
    pub(crate) fn allow(&self, cpu: Duration, wall: Duration) {
        let (cpu, wall) = (nanos(cpu), nanos(wall));
        let now = nanos(self.made.elapsed());
        self.cpu_limit_ns.store(cpu, Ordering::Relaxed);
        self.ticks.store(0, Ordering::Relaxed);
        self.overran.store(false, Ordering::Relaxed);
        let spent = self.spent_ns();
        self.within_ns.store(spent, Ordering::Relaxed);
        self.cpu_until_ns
            .store(spent.saturating_add(cpu), Ordering::Relaxed);
        self.wall_limit_ns.store(wall, Ordering::Relaxed);
        self.wall_until_ns
            .store(now.saturating_add(wall), Ordering::Relaxed);
    }

    /// Whether the call may go on: asked at every epoch that it sees, within a poll.
    ///
    /// A virtual machine that was halted for 40 ms shows that as processor time of whoever ran, but
    /// its clock thread was halted too. So a budget counts as spent only if half of it was seen in
    /// epochs, or if it was overdrawn so far that the clock thread must have starved.
    pub(crate) fn check(&self) -> Result<(), Overran> {
        let checked = self.within_budget();
        self.overran.store(checked.is_err(), Ordering::Relaxed);
        checked
    }

    /// Whether a budget stopped the last call.
    pub(crate) fn overran(&self) -> bool {
        self.overran.load(Ordering::Relaxed)
    }

    fn within_budget(&self) -> Result<(), Overran> {
        let spent = self.spent_ns();
        // Epochs also come early, for short calls that others make way for: those are not counted.
        let counts = spent.saturating_sub(self.within_ns.load(Ordering::Relaxed)) >= TICK_NS / 2;
        if counts {
            self.within_ns.store(spent, Ordering::Relaxed);
        }
        let ticks = self.ticks.fetch_add(u64::from(counts), Ordering::Relaxed) + u64::from(counts);
        let seen_ns = ticks.saturating_mul(TICK_NS);
        let limit = self.cpu_limit_ns.load(Ordering::Relaxed);
        let until = self.cpu_until_ns.load(Ordering::Relaxed);
        let starved = until.saturating_add(limit.saturating_mul(OVERDRAFT));
        if spent > until && (seen_ns.saturating_mul(2) >= limit || spent > starved) {
            return Err(Overran(TimeBudget::Cpu(Duration::from_nanos(limit))));
        }
        if nanos(self.made.elapsed()) > self.wall_until_ns.load(Ordering::Relaxed) {
            let limit = self.wall_limit_ns.load(Ordering::Relaxed);
            return Err(Overran(TimeBudget::Wall(Duration::from_nanos(limit))));
        }
        Ok(())
    }

    /// The same in a function of ours that a guest has called, where no epoch is seen: asked as often
    /// as you like, it counts one for each epoch's worth of processor time.
    pub(crate) fn check_within(&self) -> Result<(), Overran> {
        let within = self.within_ns.load(Ordering::Relaxed);
        if self.spent_ns().saturating_sub(within) < TICK_NS {
            return Ok(());
        }
        self.check()
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// This thread's processor time.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_ours_ends_with_the_budget_of_the_call_that_it_is_in() {
        let meter = Meter::new();
        meter.begin();
        meter.allow(Duration::from_millis(4), Duration::from_secs(60));
        assert!(meter.check_within().is_ok());
        let over = loop {
            if let Err(over) = meter.check_within() {
                break over;
            }
            // Far more than four budgets: nobody asked too early, and it ends.
            assert!(meter.spent() < Duration::from_secs(5));
        };
        assert_eq!(over.0, TimeBudget::Cpu(Duration::from_millis(4)));
        assert!(meter.spent() > Duration::from_millis(4));
    }
}
