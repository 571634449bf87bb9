//! Policies as operators put them in: which, how, and what becomes of those that are tried first.

use std::sync::Arc;

use proffer_codec::{codec_enum, codec_struct};
use proffer_model::fact::WaitGuard;
use proffer_model::policy::Feeds;
use proffer_model::{Duration, RoleName};

/// Which policy decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyIdentity {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The component's digest, or empty for a native one.
    pub digest: String,
    /// Its configuration.
    pub config: String,
}

impl PolicyIdentity {
    /// The host's own, which decides when no other does.
    #[must_use]
    pub fn native() -> Self {
        Self {
            name: "drf".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            digest: String::new(),
            config: String::new(),
        }
    }

    /// Whether it is the host's own.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.digest.is_empty()
    }

    /// Whether it is the host's own as it stands in for others: without a configuration. Nobody has to
    /// load it.
    #[must_use]
    pub fn is_fallback(&self) -> bool {
        self.is_native() && self.config.is_empty()
    }
}

codec_struct!(PolicyIdentity {
    name,
    version,
    digest,
    config
});

/// A policy that an operator puts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySwap {
    /// What the shell calls the configured instance; never used twice. The host's own has none.
    pub candidate: u64,
    /// Which policy.
    pub identity: Arc<PolicyIdentity>,
    /// What it wants to be fed.
    pub feeds: Feeds,
    /// Who puts it in.
    pub by: String,
    /// What they say; may be empty.
    pub why: String,
    /// It goes back to this record; none: it is another policy.
    pub rollback_to: Option<u64>,
    /// What takes it out again.
    pub guards: Vec<WaitGuard>,
    /// It is tried beside the running policy first.
    pub trial: Option<SwapTrial>,
}

/// A policy is asked beside the one that decides, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapTrial {
    /// For so long; none, of a canary only: until an operator says.
    pub length: Option<Duration>,
    /// Then it takes the seat; otherwise it goes.
    pub switch: bool,
    /// It is a canary: it decides for these roles' subtrees meanwhile. None: it is compared, and decides
    /// for nobody.
    pub canary: Vec<RoleName>,
}

codec_struct!(SwapTrial {
    length,
    switch,
    canary
});

/// What becomes of a canary, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryEnd {
    /// It takes the seat, or decides for nobody any more.
    pub outcome: CanaryOutcome,
    /// Who says so.
    pub by: String,
    /// What they say; may be empty.
    pub why: String,
}

/// What becomes of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryOutcome {
    /// It takes the seat.
    Promoted,
    /// The policy of the seat decides for all again.
    RolledBack,
}

codec_struct!(CanaryEnd { outcome, by, why });
codec_enum!(CanaryOutcome {
    Promoted,
    RolledBack
});

codec_struct!(PolicySwap {
    candidate,
    identity,
    feeds,
    by,
    why,
    rollback_to,
    guards,
    trial
});

/// A policy for a role's subtree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolePolicy {
    /// What the shell calls the configured policy; never used twice.
    pub tenant: u64,
    /// Which policy; none: the role has none of its own any more.
    pub identity: Option<Arc<PolicyIdentity>>,
    /// Who says so.
    pub by: String,
    /// What they say; may be empty.
    pub why: String,
    /// What leaves it out again.
    pub guards: Vec<WaitGuard>,
}

codec_struct!(RolePolicy {
    tenant,
    identity,
    by,
    why,
    guards
});
