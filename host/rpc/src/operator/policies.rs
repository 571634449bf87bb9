//! The allocation policy: which decides, which decided before, and how another is put in.

use bytes::Bytes;
use proffer_model::{Bundle, Duration, Reason, Timestamp};

use super::Page;

/// Asks for [`Policy`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyQuery {}

/// Which policy decides, and how it does. Counts are since the host started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The component's digest; empty: it is native.
    pub digest: String,
    /// The native reference policy stands in for one that fails.
    pub fallback: bool,
    /// Its configuration.
    pub config: String,
    /// Cycles that it decided.
    pub cycles: u64,
    /// Grants that became offers.
    pub grants: u64,
    /// Grants that were wrong by what it knew.
    pub rejected: u64,
    /// Grants that were overtaken by events.
    pub stale: u64,
    /// Cycles that it failed in.
    pub failures: u64,
    /// How it failed last.
    pub last_fault: Option<Reason>,
    /// The number of its record in the history; 0: there was no swap yet.
    pub number: u64,
    /// The policy that is being put in, or empty.
    pub swapping: String,
    /// Cycles in which a failure takes it back at once.
    pub probation: u32,
    /// The record that a rollback returns to.
    pub before: Option<u64>,
    /// Policies put in by operators.
    pub swapped: u64,
    /// Of those taken back by the host.
    pub taken_back: u64,
    /// What takes it out again, as in `max-wait<10s`.
    pub guards: Vec<String>,
    /// Demands that fit somewhere and have no offer.
    pub waiting: u32,
    /// The longest of them has waited so long.
    pub longest_wait: Duration,
    /// All but one in a hundred waited no longer, the last thousand that waited included.
    pub p99_wait: Duration,
    /// The trial that is under way, or was the last.
    pub trial: Option<PolicyTrial>,
    /// Another one decides for some roles.
    pub canary: Option<PolicyCanary>,
    /// What it would have taken back, in words, by pairs of roles; since the host started.
    pub would_take_back: Vec<String>,
}

/// A policy that decides within some roles' subtrees, beside the one of the seat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyCanary {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The component's digest.
    pub digest: String,
    /// The roles.
    pub roles: Vec<String>,
    /// Since when.
    pub since: Timestamp,
    /// Until when; none: until it is promoted or rolled back.
    pub until: Option<Timestamp>,
    /// Then it takes the seat; otherwise it goes.
    pub promotes: bool,
    /// Cycles that it answered.
    pub cycles: u64,
    /// Its grants that became offers.
    pub grants: u64,
    /// Its grants that were overtaken, by events or by the other policy's.
    pub stale: u64,
    /// Its grants to clients of other roles, which do not count.
    pub outside: u64,
    /// Grants of the other policy to clients of its roles, which do not count either.
    pub left_to_it: u64,
    /// Demands of its roles that fit somewhere and have no offer.
    pub waiting: u32,
    /// The longest of them has waited so long.
    pub longest_wait: Duration,
    /// All but one in a hundred waited no longer.
    pub p99_wait: Duration,
    /// What takes it out again.
    pub guards: Vec<String>,
}

/// What the running policy and a candidate did in the same cycles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyTrial {
    /// The candidate's name and version.
    pub candidate: String,
    /// When it ends, or ended.
    pub until: Timestamp,
    /// Whether it has.
    pub ended: bool,
    /// It ended because of this.
    pub fault: Option<Reason>,
    /// Cycles that both answered.
    pub cycles: u64,
    /// Of those with the very same grants.
    pub alike: u64,
    /// Demands that wanted something, summed over cycles.
    pub wanting: u64,
    /// Of those with a grant.
    pub served: u64,
    /// Of those with a grant of the candidate's.
    pub would_serve: u64,
    /// Reclaims.
    pub reclaims: u64,
    /// Reclaims of the candidate's.
    pub would_reclaim: u64,
    /// Grants about what there is not.
    pub invalid: u64,
    /// Such grants of the candidate's.
    pub would_be_invalid: u64,
    /// By role.
    pub roles: Vec<TrialRole>,
    /// The longest wait of demand that fits somewhere.
    pub longest_wait: Duration,
    /// So long the candidate passed such demand over.
    pub would_wait: Duration,
    /// What would be taken back, in words, by pairs of roles.
    pub take_back: Vec<String>,
    /// What the candidate would take back.
    pub would_take_back: Vec<String>,
}

/// What two policies granted to a role, sub-roles apart; summed over cycles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrialRole {
    /// Which.
    pub role: String,
    /// Grants.
    pub grants: u64,
    /// Grants of the candidate's.
    pub would_grant: u64,
    /// What they came to.
    pub amounts: Bundle,
    /// What the candidate's came to.
    pub would_amounts: Bundle,
    /// Of the pool, by the kind that it has most of, with what it is granted: the mean.
    pub share_milli: u32,
    /// The same with what the candidate would grant.
    pub would_share_milli: u32,
}

/// The policy that is being put in is not wanted any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CancelPolicySwap {}

/// Puts another policy in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwapPolicy {
    /// Its component; empty: the host's native policy.
    pub component: Bytes,
    /// Its configuration.
    pub config: String,
    /// Who asks; empty: operator.
    pub by: String,
    /// What they say; may be empty.
    pub why: String,
    /// What takes it out again, as in `max-wait<10s`.
    pub guards: Vec<String>,
    /// It is compared with the running policy for so long first.
    pub shadow: Option<Duration>,
    /// And is not put in.
    pub dry_run: bool,
    /// It decides for these roles' subtrees first, until it is promoted or rolled back.
    pub canary: Vec<String>,
    /// Which it is by itself after so long: promoted, or rolled back if it is a dry run.
    pub canary_for: Option<Duration>,
}

/// The canary takes the seat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromotePolicy {
    /// Who asks; empty: operator.
    pub by: String,
    /// What they say; may be empty.
    pub why: String,
}

/// Goes back to the policy before the last swap, or drops the canary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollBackPolicy {
    /// Who asks; empty: operator.
    pub by: String,
    /// What they say; may be empty.
    pub why: String,
}

/// Another policy decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwappedPolicy {
    /// The one before.
    pub from: PolicyRecord,
    /// The one that decides now; none: it is compared with the running policy first.
    pub record: Option<PolicyRecord>,
}

/// Asks for policies that were put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyHistoryQuery {
    /// Which part.
    pub page: Page,
}

/// How a policy came to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyCause {
    /// The host's settings name it, or no other.
    Settings,
    /// An operator swapped it in.
    Swapped,
    /// An operator rolled its successor back.
    RolledBack,
    /// Its successor failed.
    Failed,
    /// It decides for some roles.
    Canary,
    /// It decides for nobody any more.
    CanaryEnded,
}

impl PolicyCause {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Swapped => "swapped",
            Self::RolledBack => "rolled back",
            Self::Failed => "its successor failed",
            Self::Canary => "canary",
            Self::CanaryEnded => "canary ended",
        }
    }
}

/// A policy that was put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Counts up from 1.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The component's digest; empty: it is native.
    pub digest: String,
    /// Its configuration.
    pub config: String,
    /// Who put it in.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// How it came to decide.
    pub cause: PolicyCause,
    /// What whoever put it in said; may be empty.
    pub why: String,
    /// How its successor failed, or why a canary ended.
    pub fault: Option<Reason>,
    /// The record that a rollback returns to.
    pub before: Option<u64>,
    /// What takes it out again.
    pub guards: Vec<String>,
    /// The roles of a canary.
    pub roles: Vec<String>,
    /// What it would have taken back, in words, by pairs of roles; since the host started.
    pub would_take_back: Vec<String>,
}
