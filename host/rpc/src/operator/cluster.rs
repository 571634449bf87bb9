//! The cluster as a whole: status, agents, offers, roles, use over time.

use bytes::Bytes;
use proffer_model::{
    AgentId, AgentInfo, Amount, Bundle, Duration, KindQuota, OfferId, Reason, Resources, RoleName,
    Timestamp,
};

use super::Page;

/// Asks for [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusQuery {}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The host's version.
    pub version: String,
    /// The version of the plug-in contract that it speaks.
    pub contract: String,
    /// The cluster's id.
    pub cluster: String,
    /// When the host started.
    pub started: Timestamp,
    /// The host's time.
    pub now: Timestamp,
    /// Where its pages, `/metrics` and `/healthz` are; empty: nowhere.
    pub http_address: String,
    /// Agents known.
    pub agents: u32,
    /// Agents connected and offered from.
    pub agents_active: u32,
    /// Frameworks, quarantined ones included.
    pub frameworks: u32,
    /// Tasks that have not ended.
    pub tasks_active: u64,
    /// Ended tasks that are remembered.
    pub tasks_ended: u64,
    /// All that active agents have.
    pub pool: Bundle,
    /// Held by tasks.
    pub used: Bundle,
    /// Held out to frameworks.
    pub offered: Bundle,
    /// Allocation cycles since the host started.
    pub cycles: u64,
    /// Of all frameworks.
    pub offers: OfferCounts,
}

/// What became of offers, since the host started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfferCounts {
    /// Made.
    pub made: u64,
    /// Used, at least in part.
    pub accepted: u64,
    /// Given back.
    pub declined: u64,
    /// Run out.
    pub expired: u64,
    /// Taken back.
    pub rescinded: u64,
}

/// Asks for agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentQuery {
    /// Which part.
    pub page: Page,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Where it stands.
    pub state: AgentState,
    /// Since when.
    pub since: Option<Timestamp>,
    /// What it says of itself.
    pub info: AgentInfo,
    /// All that it has.
    pub total: Bundle,
    /// Held by tasks.
    pub used: Bundle,
    /// Held out to frameworks.
    pub offered: Bundle,
    /// Tasks that have not ended.
    pub tasks: u32,
    /// Where it serves outputs.
    pub data_address: String,
    /// When it is given up if it stays unreachable; later if many are.
    pub gone_at: Option<Timestamp>,
}

/// Says that an agent will not be back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclareAgentGone {
    /// Its id or hostname.
    pub agent: String,
}

/// Where an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// Connected and offered from.
    Active,
    /// Its connection broke a moment ago.
    Disconnected,
    /// Not heard of for long.
    Unreachable,
    /// It will not be back.
    Gone,
}

impl AgentState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disconnected => "disconnected",
            Self::Unreachable => "unreachable",
            Self::Gone => "gone",
        }
    }
}

/// Asks for offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferQuery {
    /// Which part.
    pub page: Page,
    /// A framework's name; empty: all.
    pub framework: String,
}

/// An offer outstanding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its id.
    pub id: OfferId,
    /// The name of the framework that has it.
    pub framework: String,
    /// Under which role.
    pub role: RoleName,
    /// Whose resources.
    pub agent: AgentId,
    /// Its machine's name.
    pub hostname: String,
    /// What.
    pub resources: Resources,
    /// When it returns by itself.
    pub expires: Timestamp,
    /// Key of the demand that it answers, or empty.
    pub demand: String,
}

/// Asks for roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleQuery {
    /// Which part.
    pub page: Page,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its whole name.
    pub name: RoleName,
    /// Against its siblings.
    pub weight: Amount,
    /// Names of the frameworks that may use it.
    pub frameworks: Vec<String>,
    /// Held by their tasks under it.
    pub used: Bundle,
    /// Of the pool, by the kind that it uses most of.
    pub share_milli: u32,
    /// Its quota, per kind.
    pub quotas: Vec<KindQuota>,
    /// Reserved to it and the roles below it, scalars only.
    pub reserved: Bundle,
    /// Its own policy, if it has one.
    pub policy: Option<RolePolicy>,
}

/// A role's own policy, which shares among the clients within what the subtree is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolePolicy {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The component's digest.
    pub digest: String,
    /// Its configuration.
    pub config: String,
    /// Who set it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What they said; may be empty.
    pub why: String,
    /// The native policy decides within instead.
    pub fallback: bool,
    /// How it failed last.
    pub last_fault: Option<Reason>,
    /// How often it, or another in its place, was asked.
    pub turns: u64,
    /// Of those, the native policy.
    pub native_turns: u64,
    /// How often the subtree was granted something.
    pub granted: u64,
    /// Offers that were made of it.
    pub offers: u64,
    /// Its grants that were overtaken by events.
    pub stale: u64,
    /// How often it failed.
    pub failures: u64,
    /// What leaves it out again, as in `max-wait<10s`.
    pub guards: Vec<String>,
    /// Demands for which it was given something, and which it leaves without an offer.
    pub waiting: u32,
    /// The longest of them, so long.
    pub longest_wait: Duration,
    /// All but one in a hundred, the last ones included.
    pub p99_wait: Duration,
}

/// Gives a role a policy of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetRolePolicy {
    /// Which.
    pub name: RoleName,
    /// Its component; empty: none of its own any more.
    pub component: Bytes,
    /// Its configuration.
    pub config: String,
    /// Who asks; empty: operator.
    pub by: String,
    /// What they say; may be empty.
    pub why: String,
    /// What leaves it out again, as in `max-wait<10s`.
    pub guards: Vec<String>,
}

/// Sets a role's quota: the whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetQuota {
    /// Which.
    pub name: RoleName,
    /// Per kind; none: no quota.
    pub quotas: Vec<KindQuota>,
    /// Even if the pool cannot hold it, or the role is over its limit now.
    pub force: bool,
    /// Its weight too, both or neither.
    pub weight: Option<Amount>,
}

/// Reserves what is free on an agent, or lets reservations go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Where.
    pub agent: AgentId,
    /// In reserved form: the last role of each pile is what comes or goes.
    pub resources: Resources,
    /// They go.
    pub unreserve: bool,
}

/// Sets a role's weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetRole {
    /// Which.
    pub name: RoleName,
    /// Against its siblings.
    pub weight: Amount,
}

/// Asks for [`Usage`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageQuery {
    /// From when on.
    pub since: Timestamp,
}

/// Who used how much of the pool, over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Ascending.
    pub times: Vec<Timestamp>,
    /// By name.
    pub frameworks: Vec<FrameworkUsage>,
}

/// One framework's part of [`Usage`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameworkUsage {
    /// Its name.
    pub framework: String,
    /// At each of the times: of the pool, by the kind that it used most of.
    pub share_milli: Vec<u32>,
}
