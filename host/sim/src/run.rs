//! One seed, from its choices to its outcome.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::check::{Invariant, Tally, Violation};
use crate::leaders::race;
use crate::plugins::Plugins;
use crate::scenario::Scenario;
use crate::world::World;

/// What is to be run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// Everything follows from it.
    pub seed: u64,
    /// Lines of the log that a failure shows. The log costs more than the run: one that fails is run
    /// again for it.
    pub log_max: usize,
    /// What runs in place of native plug-ins; none: they run.
    pub plugins: Option<&'static dyn Plugins>,
    /// A bug that every host of the run has.
    #[cfg(feature = "planted")]
    pub planted: crate::Planted,
}

/// What came of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// All that happened, in one number: the same for the same seed.
    pub hash: u64,
    /// Events handled.
    pub events: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Tasks that machines started.
    pub tasks: usize,
    /// How often a host began to lead, alone or of several.
    pub terms: u64,
    /// How often each invariant was checked.
    pub tally: Tally,
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
    /// The last events before that.
    pub last_events: Vec<String>,
}

impl Run {
    /// Of a seed, without a log.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Runs it.
    #[must_use]
    pub fn run(self) -> Outcome {
        let outcome = self.once(0);
        if outcome.violation.is_none() || self.log_max == 0 {
            return outcome;
        }
        self.once(self.log_max)
    }

    fn once(self, log_max: usize) -> Outcome {
        #[cfg(feature = "planted")]
        self.planted.plant();
        let mut world = World::new(self.seed, Scenario::new(self.seed), log_max);
        world.plugins = self.plugins;
        let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
        let violation = match ran {
            Ok(checked) => checked.err(),
            Err(panic) => Some(Violation {
                invariant: Invariant::NoPanic,
                text: said(panic.as_ref()),
            }),
        };
        let mut tally = world.tally().clone();
        tally.count(Invariant::NoPanic);
        let raced = race(self.seed, &mut tally);
        let hash = world.hash ^ raced.as_ref().unwrap_or(&0);
        let violation = violation.or(raced.err());
        Outcome {
            seed: self.seed,
            hash,
            events: world.events,
            simulated_ms: world.now,
            tasks: world.started(),
            terms: world.terms,
            tally,
            violation,
            last_events: world.last_events(),
        }
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}
