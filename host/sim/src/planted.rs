//! Bugs planted on purpose, wherever they are: all of them by name.

use proffer_core::Planted as InCore;
use proffer_store::leadership::planted::ignore_lease;

/// A bug that every host of a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// One of the core's, or none.
    InCore(InCore),
    /// A leader leads on when its lease is over, until it is told.
    LeadershipIgnored,
}

impl Default for Planted {
    fn default() -> Self {
        Self::InCore(InCore::Nothing)
    }
}

impl Planted {
    /// Every bug, with its name.
    pub fn all() -> Vec<(&'static str, Self)> {
        let core = InCore::ALL.map(|(name, planted)| (name, Self::InCore(planted)));
        let more = [("leadership-ignored", Self::LeadershipIgnored)];
        core.into_iter().chain(more).collect()
    }

    /// From here on every host of this thread has this bug, and no other.
    pub(crate) fn plant(self) {
        let (core, leads_on) = match self {
            Self::InCore(planted) => (planted, false),
            Self::LeadershipIgnored => (InCore::Nothing, true),
        };
        core.plant();
        ignore_lease(leads_on);
    }
}
