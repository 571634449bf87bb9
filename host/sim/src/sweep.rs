//! Many seeds, on several threads: each seed is one thread's from its beginning to its end.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::check::Tally;
use crate::run::{Outcome, Run};

/// What came of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many ran.
    pub seeds: u64,
    /// Events handled.
    pub events: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Tasks that machines started.
    pub tasks: u64,
    /// How often hosts began to lead.
    pub terms: u64,
    /// How often each invariant was checked.
    pub tally: Tally,
    /// Seeds that failed, by seed.
    pub failures: Vec<Outcome>,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        self.simulated_ms += outcome.simulated_ms;
        self.tasks += outcome.tasks as u64;
        self.terms += outcome.terms;
        self.tally.add(&outcome.tally);
        if outcome.violation.is_some() {
            self.failures.push(outcome);
        }
    }
}

/// Runs `like` with every seed of the range on so many threads; `told` hears of the state of things
/// after each seed.
#[must_use]
pub fn sweep(like: Run, seeds: Range<u64>, jobs: usize, told: impl Fn(&Summary) + Sync) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = Run { seed, ..like }.run();
                    // A sum is whole after every addition.
                    let mut summary = summary
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    summary.add(outcome);
                    told(&summary);
                }
            });
        }
    });
    let mut summary = summary
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    summary.failures.sort_by_key(|outcome| outcome.seed);
    summary
}
