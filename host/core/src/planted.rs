//! Bugs planted on purpose, to see that the simulator finds them. Not in any release: only tests enable
//! the feature.
//!
//! The bug is the thread's, not the machine's: so no state, and nothing that is recorded of it, is
//! another with the feature than without.

use std::cell::Cell;

/// A bug to be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    /// None.
    #[default]
    Nothing,
    /// Effects do not wait for the facts that they depend on.
    EffectBeforeFact,
    /// An update is acknowledged when it comes, not when a durable step has taken it.
    AckBeforeWrite,
    /// Offers stand for ever.
    LeaseIgnored,
    /// What was declined is offered again at once.
    FilterForgotten,
    /// What a task held comes free twice.
    FreedTwice,
    /// A host that goes on believes its own clock, whatever facts have told.
    ClockBelieved,
}

thread_local! {
    static PLANTED: Cell<Planted> = const { Cell::new(Planted::Nothing) };
}

impl Planted {
    /// Every bug, with its name.
    pub const ALL: [(&str, Self); 6] = [
        ("effect-before-fact", Self::EffectBeforeFact),
        ("ack-before-write", Self::AckBeforeWrite),
        ("lease-ignored", Self::LeaseIgnored),
        ("filter-forgotten", Self::FilterForgotten),
        ("freed-twice", Self::FreedTwice),
        ("clock-believed", Self::ClockBelieved),
    ];

    /// From here on every core of this thread has this bug.
    pub fn plant(self) {
        PLANTED.set(self);
    }

    /// Whether the cores of this thread have it.
    pub(crate) fn is_planted(self) -> bool {
        PLANTED.get() == self
    }
}
