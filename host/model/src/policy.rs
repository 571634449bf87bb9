//! The vocabulary between host and allocation policy, in the host's types: changes in, proposals
//! out. `wit/policy` is the same in WIT, with the promises of each.
//!
//! Handles are dense numbers of one policy instance's life, given by the core; [`NONE`] means none.
//! Hot data are columns of equal length.

use crate::{Amount, Duration, Reason, Timestamp};

pub use crate::RevocableUse;

/// No handle.
pub const NONE: u32 = u32::MAX;

/// Handles of the kinds that every pool has; other kinds follow.
pub mod kind {
    /// Processors.
    pub const CPUS: u32 = 0;
    /// Memory, MiB.
    pub const MEM: u32 = 1;
    /// Disk, MiB.
    pub const DISK: u32 = 2;
    /// Accelerators.
    pub const GPUS: u32 = 3;
    /// Ports, counted.
    pub const PORTS: u32 = 4;
}

/// The terms that every pool has: unreserved, plain.
pub const TERMS_PLAIN: u32 = 0;

/// What a policy wants to be fed besides agents, roles, clients, totals and cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feeds {
    /// One row per task.
    pub tasks: bool,
    /// Decline filters.
    pub filters: bool,
    /// Demand.
    pub demands: bool,
}

/// So much of a kind under terms. In a demand, terms [`NONE`]: any that the client may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Terms handle.
    pub terms: u32,
    /// Kind handle.
    pub kind: u32,
    /// How much.
    pub amount: Amount,
}

/// A kind of resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its handle.
    pub handle: u32,
    /// Its name.
    pub name: String,
    /// Ranges and sets: a policy sees how many, the host picks which.
    pub counted: bool,
}

/// Terms of piles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Its handle.
    pub handle: u32,
    /// Role handles, outermost first.
    pub reserved: Vec<u32>,
    /// Marks.
    pub marks: TermsMarks,
}

/// Yes-or-no terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TermsMarks {
    /// Reserved at run time.
    pub dynamic: bool,
    /// May be taken back at any time.
    pub revocable: bool,
    /// A volume.
    pub volume: bool,
    /// A volume for several.
    pub shared: bool,
    /// Whole or not at all.
    pub indivisible: bool,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its handle.
    pub handle: u32,
    /// Its hostname and id, for logs and ties.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// Connected and not deactivated.
    pub active: bool,
    /// On the operator's list, or there is none.
    pub allowed: bool,
    /// Has gpus.
    pub has_gpus: bool,
    /// When it will be down.
    pub down: Option<crate::Window>,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its handle.
    pub handle: u32,
    /// Its whole name.
    pub name: String,
    /// The role around it, or [`NONE`].
    pub parent: u32,
    /// Against its siblings; 1 is [`Amount::ONE`].
    pub weight: Amount,
    /// Its subtree has a policy of its own.
    pub delegated: bool,
    /// Per kind.
    pub quotas: Vec<Quota>,
}

/// A role's quota of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Kind handle.
    pub kind: u32,
    /// Floor.
    pub guarantee: Amount,
    /// Ceiling.
    pub limit: Option<Amount>,
}

/// A framework under one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its handle.
    pub handle: u32,
    /// The framework's number.
    pub framework: u32,
    /// The framework's name.
    pub name: String,
    /// Role handle.
    pub role: u32,
    /// Marks.
    pub marks: ClientMarks,
    /// Mask handle of its constraints; 0: every agent.
    pub mask: u32,
    /// Alternatives of smallest amounts worth an offer; none: the pool's.
    pub least: Option<Vec<Vec<Piece>>>,
}

/// Yes-or-no properties of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientMarks {
    /// The framework has been added (its use may be known before).
    pub known: bool,
    /// It takes part.
    pub active: bool,
    /// It suppressed the role.
    pub suppressed: bool,
    /// It takes gpus.
    pub gpus: bool,
    /// It takes revocable resources.
    pub revocable: bool,
    /// It takes shared volumes.
    pub shared: bool,
    /// It takes refined reservations.
    pub refined: bool,
    /// It takes agents of other regions.
    pub region_aware: bool,
}

/// A client's demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Its handle.
    pub handle: u32,
    /// Client handle.
    pub client: u32,
    /// How many units in all.
    pub count: u32,
    /// How many of them are on offer now.
    pub offered: u32,
    /// Fewer at once are of no use; 0, 1: any number.
    pub gang: u32,
    /// At most so many on one agent; 0: no bound.
    pub per_agent: u32,
    /// Higher first, among the client's.
    pub priority: i32,
    /// Since when it stands.
    pub since: Timestamp,
    /// One unit; empty: anything, whole agents.
    pub pieces: Vec<Piece>,
    /// Mask handle of its constraints and fixed ports; 0: every agent.
    pub mask: u32,
    /// (agent handle, units) where it would rather be.
    pub near: Vec<(u32, u32)>,
    /// Until when only there.
    pub near_until: Timestamp,
    /// Whether revocable will do.
    pub revocable: RevocableUse,
}

/// Where a reclaim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The inverse offer is out.
    Asked,
    /// The framework will give.
    Accepted,
    /// It will not.
    Declined,
    /// The host takes.
    Enforcing,
    /// It is back.
    Done,
    /// The policy took it back.
    Withdrawn,
    /// The core does not do it.
    Refused,
}

/// A reclaim and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// Its handle.
    pub handle: u32,
    /// Where it stands.
    pub stage: Stage,
    /// Until when.
    pub until: Timestamp,
    /// As proposed.
    pub reclaim: Reclaim,
}

/// A sub-policy's debt to its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Agent handle.
    pub agent: u32,
    /// What.
    pub pieces: Vec<Piece>,
    /// By when.
    pub by: Timestamp,
}

/// A grant of the last proposal that was not committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its row.
    pub index: u32,
    /// Why.
    pub why: Reason,
}

/// What a [`Removed`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noun {
    /// An agent.
    Agent,
    /// A role.
    Role,
    /// A client.
    Client,
    /// Terms.
    Terms,
    /// A demand.
    Demand,
    /// A filter.
    Filter,
    /// A task.
    Task,
    /// A reclaim.
    Reclaim,
}

/// Something that is no more. Its handle is not used again, but a demand's: that may name another one
/// from the next apply on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Removed {
    /// What.
    pub what: Noun,
    /// Its handle.
    pub handle: u32,
}

/// What has changed since the last apply. Values are absolute: a row may come twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Snapshot or delta.
    pub part: ChangesPart,
    /// Applied first.
    pub removed: Vec<Removed>,
    /// New kinds.
    pub kinds: Vec<Kind>,
    /// New terms.
    pub terms: Vec<Terms>,
    /// New or changed agents.
    pub agents: Vec<Agent>,
    /// New or changed roles.
    pub roles: Vec<Role>,
    /// New or changed clients.
    pub clients: Vec<Client>,
    /// Changed masks.
    pub masks: Masks,
    /// Changed totals.
    pub totals: Totals,
    /// Changed cells.
    pub cells: Cells,
    /// New or changed demands.
    pub demands: Vec<Demand>,
    /// New or changed filters.
    pub filters: Filters,
    /// New or changed tasks.
    pub tasks: Tasks,
    /// Changed reclaims.
    pub reclaims: Vec<Reclaimed>,
    /// Replaces the whole list.
    pub owed: Vec<Owed>,
    /// Of the last proposal.
    pub rejected: Vec<Rejected>,
}

/// Which part of the picture changes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangesPart {
    /// A part of the first picture; more follow.
    Snapshot,
    /// The last part of the first picture.
    SnapshotLast,
    /// What has changed.
    #[default]
    Delta,
}

/// Which agents a mask admits; mask 0 admits all, others begin with none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// Mask handles.
    pub mask: Vec<u32>,
    /// Agent handles.
    pub agent: Vec<u32>,
    /// 1 or 0.
    pub admits: Vec<u8>,
}

/// Agents' totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Agent handles.
    pub agent: Vec<u32>,
    /// Terms handles.
    pub terms: Vec<u32>,
    /// Kind handles.
    pub kind: Vec<u32>,
    /// Thousandths.
    pub total: Vec<i64>,
}

/// What clients hold on agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cells {
    /// Agent handles.
    pub agent: Vec<u32>,
    /// Client handles.
    pub client: Vec<u32>,
    /// Terms handles.
    pub terms: Vec<u32>,
    /// Kind handles.
    pub kind: Vec<u32>,
    /// On offer, thousandths.
    pub offered: Vec<i64>,
    /// In use.
    pub used: Vec<i64>,
    /// Free, but only for this client.
    pub kept: Vec<i64>,
}

/// Decline filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Filter handles.
    pub handle: Vec<u32>,
    /// Client handles.
    pub client: Vec<u32>,
    /// Agent handles.
    pub agent: Vec<u32>,
    /// 1 if the agent's counted items that are not in use are all among the refused.
    pub inside: Vec<u8>,
    /// Rows of the last three columns.
    pub pieces: Vec<u32>,
    /// Terms handles.
    pub terms: Vec<u32>,
    /// Kind handles.
    pub kind: Vec<u32>,
    /// Refused, thousandths.
    pub amount: Vec<i64>,
}

/// Tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// Task handles.
    pub handle: Vec<u32>,
    /// Client handles.
    pub client: Vec<u32>,
    /// Agent handles.
    pub agent: Vec<u32>,
    /// Priorities.
    pub priority: Vec<i32>,
    /// When started, ms.
    pub started: Vec<u64>,
    /// Grace, ms.
    pub grace: Vec<u32>,
    /// Rows of the last three columns.
    pub pieces: Vec<u32>,
    /// Terms handles.
    pub terms: Vec<u32>,
    /// Kind handles.
    pub kind: Vec<u32>,
    /// Held, thousandths.
    pub amount: Vec<i64>,
}

/// What a decide is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Counts cycles from 1.
    pub number: u64,
    /// Its time.
    pub now: Timestamp,
    /// The only randomness.
    pub seed: u64,
    /// Agent handles, ascending; none: all.
    pub agents: Option<Vec<u32>>,
    /// Grants past it are rejected.
    pub grants_max: u32,
}

/// What a policy proposes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// Whom to offer what.
    pub grants: Grants,
    /// From whom to take back what.
    pub reclaims: Vec<Reclaim>,
    /// Reclaim handles to be dropped.
    pub withdraw: Vec<u32>,
}

/// Grants: validated in order, each by itself; those of one gang (not 0) together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Agent handles.
    pub agent: Vec<u32>,
    /// Client handles.
    pub client: Vec<u32>,
    /// Demand handles, or [`NONE`].
    pub demand: Vec<u32>,
    /// Gangs.
    pub gang: Vec<u32>,
    /// Lease in ms; 0: the host's.
    pub lease: Vec<u32>,
    /// Rows of the last three columns; 0: all that the client may have there.
    pub pieces: Vec<u32>,
    /// Terms handles.
    pub terms: Vec<u32>,
    /// Kind handles.
    pub kind: Vec<u32>,
    /// Thousandths.
    pub amount: Vec<i64>,
}

impl Grants {
    /// How many grants.
    #[must_use]
    pub fn len(&self) -> usize {
        self.agent.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agent.is_empty()
    }

    /// Adds a grant. `pieces` empty: all that the client may have there.
    pub fn push(&mut self, agent: u32, client: u32, demand: u32, pieces: &[Piece]) {
        self.agent.push(agent);
        self.client.push(client);
        self.demand.push(demand);
        self.gang.push(0);
        self.lease.push(0);
        self.pieces
            .push(u32::try_from(pieces.len()).unwrap_or(u32::MAX));
        for piece in pieces {
            self.terms.push(piece.terms);
            self.kind.push(piece.kind);
            self.amount.push(piece.amount.milli());
        }
    }
}

/// A proposal to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaim {
    /// From whom.
    pub client: u32,
    /// Where.
    pub agent: u32,
    /// What.
    pub pieces: Vec<Piece>,
    /// Whom to end if it comes to that; none: the host's choice.
    pub tasks: Vec<u32>,
    /// For whom.
    pub beneficiary: u32,
    /// For which of its demands.
    pub demand: u32,
    /// Together or not at all.
    pub gang: u32,
    /// Its priority.
    pub priority: i32,
    /// How much notice.
    pub notice: Duration,
    /// For people.
    pub why: String,
}

/// Why is this client not granted anything on these agents?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Client handle.
    pub client: u32,
    /// Demand handle, or [`NONE`].
    pub demand: u32,
    /// Agent handles.
    pub agents: Vec<u32>,
}

/// An answer for one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Agent handle.
    pub agent: u32,
    /// Why.
    pub why: Reason,
    /// By how much it does not fit.
    pub short: Vec<Piece>,
}

/// Where somebody stands in the order in which they would be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Role handle.
    pub role: u32,
    /// Client handle, or [`NONE`] for the role itself.
    pub client: u32,
    /// Takes part.
    pub active: bool,
    /// Dominant share over weight, in millionths.
    pub share_micro: u64,
    /// How many allocations.
    pub count: u64,
}

/// A piece of a policy's memory for its successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Its bytes.
    pub data: Vec<u8>,
}
