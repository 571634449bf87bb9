//! What must hold, checked from outside: from what is durable, what is sent, what machines run and
//! what frameworks are told. Nothing here asks the core whether it is right, but for its own books.

mod durable;
mod machines;
mod offers;
mod policies;
mod told;

use std::fmt;

use proffer_core::Core;
use proffer_model::LaunchNumber;
use proffer_model::fact::Fact;

pub(crate) use durable::Durable;
pub(crate) use machines::{Machines, Start};
pub(crate) use offers::Offers;
pub(crate) use policies::{By, Policies};
pub(crate) use told::Told;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// total + deficit = free + offered + used, and all of the core's books agree.
    Conservation,
    /// What runs on a machine fits it, and no port is in two tasks' hands.
    ResourcesOnce,
    /// What leaves the host depends only on durable facts.
    EffectsAfterFacts,
    /// A launch that a committed step made is known until its end was delivered.
    LaunchesKnown,
    /// Updates of a task are told in order, and once per committed step.
    UpdatesInOrder,
    /// In the end every framework was told the end of each of its tasks.
    UpdatesDelivered,
    /// Nothing comes after a final state.
    FinalIsFinal,
    /// No launch number is started twice, on no machine.
    StartedOnce,
    /// What was declined is not offered again while the refusal stands.
    FiltersHonoured,
    /// No offer outlives its lease.
    LeasesEnd,
    /// Of several hosts one leads at a time, and the store takes no write of one that led before.
    OneLeader,
    /// Each policy grants within its own domain, and a subtree gets no more than it was granted.
    DomainsKept,
    /// A request that was answered with success has left its trace.
    RepliesLast,
    /// A task gets all parts of its inputs or none.
    InputsWhole,
    /// A version that does not start never becomes a framework.
    VersionsStart,
    /// A host that begins anew knows what was durable.
    RecoveryTrue,
    /// No step is told a time before that of one that was committed, on whatever host.
    TimeNeverFalls,
    /// When faults stop, all demand that fits is served, all tasks end, all queues drain.
    Liveness,
    /// Nothing panics.
    NoPanic,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Conservation,
        Self::ResourcesOnce,
        Self::EffectsAfterFacts,
        Self::LaunchesKnown,
        Self::UpdatesInOrder,
        Self::UpdatesDelivered,
        Self::FinalIsFinal,
        Self::StartedOnce,
        Self::FiltersHonoured,
        Self::LeasesEnd,
        Self::OneLeader,
        Self::DomainsKept,
        Self::RepliesLast,
        Self::InputsWhole,
        Self::VersionsStart,
        Self::RecoveryTrue,
        Self::TimeNeverFalls,
        Self::Liveness,
        Self::NoPanic,
    ];

    /// In a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Conservation => "conservation",
            Self::ResourcesOnce => "resources-once",
            Self::EffectsAfterFacts => "effects-after-facts",
            Self::LaunchesKnown => "launches-known",
            Self::UpdatesInOrder => "updates-in-order",
            Self::UpdatesDelivered => "updates-delivered",
            Self::FinalIsFinal => "final-is-final",
            Self::StartedOnce => "started-once",
            Self::FiltersHonoured => "filters-honoured",
            Self::LeasesEnd => "leases-end",
            Self::OneLeader => "one-leader",
            Self::DomainsKept => "domains-kept",
            Self::RepliesLast => "replies-last",
            Self::InputsWhole => "inputs-whole",
            Self::VersionsStart => "versions-start",
            Self::RecoveryTrue => "recovery-true",
            Self::TimeNeverFalls => "time-never-falls",
            Self::Liveness => "liveness",
            Self::NoPanic => "no-panic",
        }
    }
}

/// How often each was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; Invariant::ALL.len()]);

impl Tally {
    /// Counts one check that held or not.
    pub(crate) fn count(&mut self, invariant: Invariant) {
        self.0[invariant as usize] += 1;
    }

    /// How often it was checked.
    #[must_use]
    pub fn of(&self, invariant: Invariant) -> u64 {
        self.0[invariant as usize]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (own, theirs) in self.0.iter_mut().zip(other.0) {
            *own += theirs;
        }
    }

    /// Counts, and fails unless it holds.
    pub(crate) fn holds(
        &mut self,
        invariant: Invariant,
        holds: bool,
        text: impl FnOnce() -> String,
    ) -> Result<(), Violation> {
        self.count(invariant);
        if holds {
            Ok(())
        } else {
            Err(Violation {
                invariant,
                text: text(),
            })
        }
    }
}

/// An invariant that does not hold: a bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant.name(), self.text)
    }
}

impl std::error::Error for Violation {}

/// A check's outcome.
pub(crate) type Checked = Result<(), Violation>;

/// Everything that is kept to check by.
#[derive(Debug, Default)]
pub(crate) struct Check {
    pub(crate) tally: Tally,
    pub(crate) durable: Durable,
    pub(crate) told: Told,
    pub(crate) offers: Offers,
    pub(crate) policies: Policies,
    pub(crate) machines: Machines,
}

impl Check {
    /// Recounts the core's books, and compares its tasks with what is durable. `pending` are facts that
    /// the core has emitted and that are not.
    pub(crate) fn recount<'f>(
        &mut self,
        core: &Core,
        pending: impl Iterator<Item = &'f Fact> + Clone,
    ) -> Checked {
        let books = core.check_invariants();
        self.tally
            .holds(Invariant::Conservation, books.is_ok(), || {
                books.err().map_or_else(String::new, |b| b.to_string())
            })?;
        let mut known = core.tasks(None, None).map(|task| task.launch).peekable();
        for launch in self.durable.live() {
            while known.next_if(|own| *own < launch).is_some() {}
            let is_known = known.peek() == Some(&launch);
            // What the core has forgotten by a fact that is under way is checked when that is durable.
            let knows = is_known || {
                let owner = self.durable.owner(launch);
                core.framework_name(owner).is_none()
                    || self.durable.is_forgotten_by(launch, pending.clone())
            };
            self.tally.holds(Invariant::LaunchesKnown, knows, || {
                format!(
                    "{} is durable and has not ended, and the core does not know it",
                    number(launch)
                )
            })?;
        }
        Ok(())
    }
}

fn number(launch: LaunchNumber) -> String {
    format!("launch {}", launch.0)
}
