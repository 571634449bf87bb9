//! Workloads: who asked for what, when, and for how long; and what the real core and a policy make
//! of them on machines that are not there.
//!
//! A workload comes from a trace ([`openb`], [`swf`]) or from a recording ([`recorded`]). It is
//! *demand*: what was placed where is not in it. [`simulate`] lets frameworks ask for it at its
//! times, and agents run what is placed for as long as it ran. Everything between is real: ledger,
//! offers, filters, leases, steps, facts, and the policy. Time is the workload's, so that months
//! take seconds.
//!
//! What it is not: the simulator of faults. Nothing fails here.

mod agents;
mod framework;
mod measure;
pub mod nodes;
pub mod openb;
pub mod outcome;
pub mod policies;
pub mod recorded;
mod run;
pub mod swf;
mod text;

use proffer_model::{Bundle, Constraint, Duration, Timestamp};

pub use outcome::{Outcome, Row, Waits};
pub use policies::{Decide, Native, UnfitPolicy};
pub use run::{SimulateError, Simulation, simulate};
pub use text::{InvalidTrace, TraceProblem};

/// Machines, owners and what they ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// Machines, by when they come.
    pub machines: Vec<Machine>,
    /// Who asks: a framework each.
    pub owners: Vec<Owner>,
    /// What is asked for, by when.
    pub tasks: Vec<Task>,
    /// When what is measured begins.
    pub begin: Timestamp,
    /// When it ends.
    pub end: Timestamp,
}

/// A machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Its hostname.
    pub name: String,
    /// What it has.
    pub total: Bundle,
    /// Properties for constraints.
    pub attributes: Vec<(String, String)>,
    /// When it comes.
    pub from: Timestamp,
}

/// A framework.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Whether it takes gpus.
    pub gpus: bool,
}

/// Something that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Whose: place in the list of owners.
    pub owner: usize,
    /// What one unit holds.
    pub shape: Bundle,
    /// Units; more than one start together or not at all.
    pub units: u32,
    /// Where it may be: groups are alternatives, in a group all must hold.
    pub constraints: Vec<Vec<Constraint>>,
    /// When it was first asked for.
    pub asked: Timestamp,
    /// How long it runs; none: to the end.
    pub runs: Option<Duration>,
}

impl Workload {
    /// The same, with tasks that never end: how full does the pool get?
    #[must_use]
    pub fn endless(mut self) -> Self {
        for task in &mut self.tasks {
            task.runs = None;
        }
        self
    }

    /// The same, with arrivals so many times closer to each other. Run times stay.
    #[must_use]
    pub fn faster(mut self, times: u32) -> Self {
        let times = u64::from(times.max(1));
        let begin = self.begin;
        let sooner = |at: Timestamp| begin + Duration(at.since(begin).0 / times);
        for task in &mut self.tasks {
            task.asked = sooner(task.asked);
        }
        for machine in &mut self.machines {
            machine.from = sooner(machine.from);
        }
        self.end = sooner(self.end);
        self
    }
}
