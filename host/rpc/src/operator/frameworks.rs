//! Frameworks: what they are, how to add and remove them, how to talk to them.

use bytes::Bytes;
use proffer_model::{AgentId, Bundle, FrameworkId, Reason, Resources, RoleName, Timestamp};

use super::{OfferCounts, Page, Task};

/// Asks for frameworks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameworkQuery {
    /// Which part.
    pub page: Page,
}

/// A framework.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framework {
    /// Its id.
    pub id: FrameworkId,
    /// Its name, unique in the cluster.
    pub name: String,
    /// The component's version.
    pub version: String,
    /// The component's digest.
    pub digest: String,
    /// The roles that it may use.
    pub roles: Vec<RoleName>,
    /// Where it stands.
    pub state: FrameworkState,
    /// Why, if it is not active.
    pub why: Option<Reason>,
    /// Tasks that have not ended.
    pub tasks_active: u64,
    /// Ended tasks that are remembered.
    pub tasks_ended: u64,
    /// Held by its tasks.
    pub used: Bundle,
    /// Of the pool, by the kind that it uses most of.
    pub share_milli: u32,
    /// What became of its offers.
    pub offers: OfferCounts,
}

/// Where a framework stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameworkState {
    /// It steps.
    Active,
    /// It failed too often and waits for an operator.
    Quarantined,
    /// Its tasks end, then it goes.
    Removing,
}

impl FrameworkState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Quarantined => "quarantined",
            Self::Removing => "removing",
        }
    }
}

/// Asks for [`FrameworkDetail`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkName {
    /// Its name.
    pub name: String,
}

/// A framework in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkDetail {
    /// As in lists.
    pub framework: Framework,
    /// Its configuration.
    pub config: String,
    /// Steps committed.
    pub steps: u64,
    /// Steps that failed since the host started.
    pub steps_failed: u64,
    /// How it failed last.
    pub last_fault: Option<Reason>,
    /// What it says that it could use.
    pub demands: Vec<DemandRow>,
    /// Roles that it suppressed.
    pub suppressed: Vec<String>,
    /// Its limits, `name=value`.
    pub limits: Vec<String>,
    /// What keeps it in quarantine, if it is one event.
    pub failing: Option<FailingEvent>,
    /// The version that is being tried, or empty.
    pub upgrading: String,
    /// What came of the last upgrade.
    pub last_upgrade: Option<UpgradeOutcome>,
    /// Events that were passed over, the last ones, oldest first.
    pub skipped: Vec<SkippedEvent>,
}

/// An event that a framework fails at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingEvent {
    /// What [`SkipEvent`] calls it: its kind and number.
    pub id: String,
    /// Its content in short.
    pub what: String,
}

/// An event that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedEvent {
    /// As in [`FailingEvent`].
    pub id: String,
    /// Its content in short.
    pub what: String,
    /// When.
    pub at: Timestamp,
}

/// What came of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeOutcome {
    /// The version before.
    pub from: String,
    /// The version that was tried.
    pub version: String,
    /// Its component's digest.
    pub digest: String,
    /// When it was decided.
    pub at: Timestamp,
    /// Why the version before goes on; none: the new one does.
    pub refused: Option<Reason>,
}

/// What a framework says that it could use, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandRow {
    /// The author's name for it.
    pub key: String,
    /// Under which role.
    pub role: RoleName,
    /// One unit.
    pub shape: Resources,
    /// How many.
    pub count: u32,
    /// Since when it stands in this shape.
    pub since: Timestamp,
}

/// Asks what a component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectComponent {
    /// The component.
    pub component: Bytes,
}

/// What a component is and asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// By its manifest.
    pub name: String,
    /// By its manifest.
    pub version: String,
    /// `framework` or `policy`.
    pub world: String,
    /// The version of the contract that it was built against.
    pub contract: String,
    /// One line for people.
    pub description: String,
    /// `sha256:…`.
    pub digest: String,
    /// In bytes.
    pub size: u64,
    /// Roles that it asks for.
    pub roles: Vec<String>,
    /// What has to be approved: interfaces that it imports, and `gpus` if it takes them.
    pub imports: Vec<String>,
    /// Limits that it asks for.
    pub limits: Vec<Limit>,
    /// JSON schema of its configuration, or empty.
    pub config_schema: String,
}

/// A limit by its documented name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name.
    pub name: String,
    /// How much.
    pub value: u64,
}

/// Adds a framework.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddFramework {
    /// Its name in the cluster; empty: the manifest's.
    pub name: String,
    /// The component.
    pub component: Bytes,
    /// Roles that it may use; none: the manifest's, or `*`.
    pub roles: Vec<RoleName>,
    /// Its configuration.
    pub config: String,
    /// Interfaces that an operator approved.
    pub approved: Vec<String>,
}

/// A framework was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedFramework {
    /// Its id.
    pub id: FrameworkId,
    /// Its name.
    pub name: String,
    /// The component's digest.
    pub digest: String,
}

/// Lets a framework go on as another version of its component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeFramework {
    /// Its name.
    pub name: String,
    /// The component.
    pub component: Bytes,
    /// Its configuration; none: as before.
    pub config: Option<String>,
    /// Interfaces that an operator approved.
    pub approved: Vec<String>,
}

/// A framework goes on as another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradedFramework {
    /// The version before.
    pub from: String,
    /// The version now.
    pub version: String,
    /// Its component's digest.
    pub digest: String,
}

/// Passes over the event that a quarantined framework fails at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkipEvent {
    /// The framework's name.
    pub name: String,
    /// The event's id.
    pub event: String,
}

/// What becomes of what is reserved at run time to roles that only the removed framework is in, and of
/// volumes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationFate {
    /// All of it stays with its role.
    Keep,
    /// Reservations are let go. Refused if there is a volume.
    Release,
    /// Volumes are destroyed, and reservations let go.
    Wipe,
}

/// Asks what a removal would end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRemoval {
    /// The framework's name.
    pub name: String,
    /// How it would be removed.
    pub reservations: ReservationFate,
}

/// A reservation or a volume that a removed framework leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// Where.
    pub agent: AgentId,
    /// Its agent's machine.
    pub hostname: String,
    /// One pile, reserved to its last role.
    pub resources: Resources,
    /// Other frameworks are in the role: it stays, whatever is asked.
    pub shared_role: bool,
    /// What would become of it.
    pub becomes: Left,
}

/// What becomes of a reservation or a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It stays.
    Kept,
    /// The reservation is let go.
    Released,
    /// The volume is destroyed.
    Wiped,
}

/// What a removal would end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalPlan {
    /// Tasks that would be killed.
    pub tasks_active: u64,
    /// Of those on agents that are not connected: they are presumed to end.
    pub tasks_away: u64,
    /// The first of them, at most [`super::PAGE_SIZE_MAX`].
    pub tasks: Vec<Task>,
    /// Reservations and volumes that would stay.
    pub kept: u64,
    /// Reservations that would be let go.
    pub released: u64,
    /// Volumes that would be destroyed.
    pub wiped: u64,
    /// The first of all of these, at most [`super::PAGE_SIZE_MAX`].
    pub left: Vec<LeftBehind>,
    /// Why it would be refused; empty: it would not.
    pub refused: String,
}

/// Removes a framework.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveFramework {
    /// Its name.
    pub name: String,
    /// What becomes of its reservations.
    pub reservations: ReservationFate,
}

/// Lets a quarantined framework try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeFramework {
    /// Its name.
    pub name: String,
}

/// A request to a framework's own interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkRequest {
    /// Its name.
    pub framework: String,
    /// `GET`, `POST`, …
    pub method: String,
    /// Begins with a slash.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most 1 MiB.
    pub body: Bytes,
    /// Who asks; empty: `operator`.
    pub principal: String,
}

/// A framework's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}
