//! Facts: what the core wants durable before anything that depends on it happens.
//!
//! The sequence of facts since the beginning (or since a snapshot, which is itself a list of facts)
//! rebuilds the core's durable state. A framework's own state (`writes`) is kept beside it.

use std::sync::Arc;

use crate::framework::{Due, Event, StateWrite};
use crate::policy::Section;
use crate::{
    AgentId, AgentInfo, Amount, Bundle, Constraint, Demand, Duration, FrameworkId, KindQuota,
    LaunchNumber, Reason, Resources, RoleName, StepNumber, TaskId, TaskSpec, TaskState, Timestamp,
    Window,
};

/// One durable change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Ids below these are spent; the host reserves them in blocks, so that none is used twice.
    IdsReserved {
        /// Offers, inverse offers.
        offers_below: u64,
        /// Requests.
        requests_below: u64,
    },
    /// An agent registered for the first time, or came back with other properties.
    AgentSet(Box<AgentRecord>),
    /// An agent is gone for good: it is refused from now on.
    AgentGone(Box<GoneRecord>),
    /// A framework was added or its record changed.
    FrameworkSet(Box<FrameworkRecord>),
    /// A framework is gone, with its state.
    FrameworkRemoved {
        /// Which.
        framework: FrameworkId,
    },
    /// A step and all that came of it.
    StepCommitted(Box<StepRecord>),
    /// A change outside a step.
    Changed {
        /// Whose.
        framework: FrameworkId,
        /// What.
        effect: Effect,
    },
    /// A role's weight.
    RoleSet {
        /// Which.
        role: RoleName,
        /// 1 is [`Amount::ONE`].
        weight: Amount,
    },
    /// An agent has been away for so long that its tasks are in doubt.
    AgentUnreachable {
        /// Which.
        agent: AgentId,
        /// Since when.
        since: Timestamp,
    },
    /// An unreachable agent is back.
    AgentReturned {
        /// Which.
        agent: AgentId,
    },
    /// The host runs: what comes after is told from time in which no host ran.
    HostAlive {
        /// When it said so.
        at: Timestamp,
    },
    /// A host goes on where the facts before end.
    HostResumed {
        /// When.
        at: Timestamp,
        /// So long nobody ran: timers and absences are put off by it.
        away: Duration,
    },
    /// A role's quota; no rows: it has none.
    QuotaSet {
        /// Which.
        role: RoleName,
        /// Per kind.
        quotas: Vec<KindQuota>,
    },
    /// What the host or an operator made of an agent, beside what it registered with.
    AgentShaped(Box<AgentShape>),
    /// Only these agents are offered; none: all.
    AgentsAllowed {
        /// By id.
        agents: Option<Vec<AgentId>>,
    },
    /// What a framework takes, and where.
    FrameworkShaped {
        /// Which.
        framework: FrameworkId,
        /// How.
        options: Box<FrameworkOptions>,
    },
    /// Another allocation policy decides from now on.
    PolicySet(Box<PolicyRecord>),
    /// A role's own policy; none: it has none any more.
    RolePolicySet {
        /// Whose subtree.
        role: RoleName,
        /// Which, by whom and when.
        policy: Option<Box<PolicyRecord>>,
    },
    /// What the policy said that a successor should know; it may trap before it is asked again.
    PolicyCarried {
        /// All of it; replaces what was carried before.
        sections: Vec<Section>,
    },
    /// What becomes of what is reserved to a framework's own roles when it is removed; until this: it is kept.
    ReservationsDecided {
        /// Which.
        framework: FrameworkId,
        /// What.
        fate: ReservationFate,
    },
}

/// What becomes of what is reserved, at run time, to roles that only a framework is in when it is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReservationFate {
    /// Reservations and volumes stay with their roles.
    #[default]
    Keep,
    /// Reservations are let go. No volume may be among them.
    Release,
    /// Volumes are destroyed with what is in them, and reservations let go.
    Wipe,
}

/// An allocation policy that was put in, and how it came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Counts up from 1.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The component's digest; the shell keeps the file under it. Empty: the host's native policy.
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
    /// What takes it out again.
    pub guards: Vec<WaitGuard>,
    /// The number of the record that a rollback of this one returns to.
    pub before: Option<u64>,
}

impl PolicyRecord {
    /// Whether it is the host's native policy without a configuration, which nobody has to load.
    #[must_use]
    pub fn is_fallback(&self) -> bool {
        self.digest.is_empty() && self.config.is_empty()
    }
}

/// Waits of demand that fits stay below this, or the policy is taken out again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitGuard {
    /// Which waits.
    pub wait: GuardedWait,
    /// Below what.
    pub below: Duration,
}

/// Which waits a guard is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardedWait {
    /// The longest that there is now.
    Longest,
    /// All but one in a hundred, of those that there are now and the last thousand.
    P99,
}

impl std::fmt::Display for WaitGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wait = match self.wait {
            GuardedWait::Longest => "max-wait",
            GuardedWait::P99 => "p99-wait",
        };
        write!(f, "{wait}<{}", self.below)
    }
}

/// How a policy came to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyCause {
    /// The host's settings name it, or no other.
    Settings,
    /// An operator swapped it in.
    Swapped,
    /// An operator rolled its successor back.
    RolledBack,
    /// Its successor failed.
    Failed(Reason),
    /// It decides for these roles' subtrees, beside the policy that decides for the rest.
    Canary {
        /// Which.
        roles: Vec<RoleName>,
    },
    /// It decides for nobody any more, and was not put in.
    CanaryEnded(Reason),
}

impl PolicyCause {
    /// Whether it is of a policy that decides beside the one of the seat.
    #[must_use]
    pub const fn is_beside(&self) -> bool {
        matches!(self, Self::Canary { .. } | Self::CanaryEnded(_))
    }
}

/// An agent that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneRecord {
    /// Its id.
    pub agent: AgentId,
    /// Its key, refused from now on.
    pub key: String,
    /// Its machine's name.
    pub hostname: String,
    /// When it was given up.
    pub at: Timestamp,
    /// Why.
    pub why: Reason,
}

/// An agent as host and operators made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentShape {
    /// Its id.
    pub agent: AgentId,
    /// Reserved, revocable and indivisible piles that it registered with.
    pub special: Resources,
    /// All that it has now, reservations and volumes made at run time included.
    pub total: Resources,
    /// An operator keeps it from being offered.
    pub deactivated: bool,
    /// When it is planned to be down.
    pub down: Option<Window>,
}

/// What a framework takes, and where: the rest of its registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkOptions {
    /// Whether it takes part; otherwise it is offered nothing, and keeps what it holds.
    pub active: bool,
    /// It takes revocable resources.
    pub revocable: bool,
    /// It takes shared volumes.
    pub shared: bool,
    /// It takes reservations refined below a role.
    pub refined: bool,
    /// It takes agents of other regions than the host's.
    pub region_aware: bool,
    /// Rules of its own under single roles.
    pub rules: Vec<RoleRules>,
}

impl Default for FrameworkOptions {
    fn default() -> Self {
        Self {
            active: true,
            revocable: false,
            shared: false,
            refined: false,
            region_aware: false,
            rules: Vec::new(),
        }
    }
}

/// A framework's rules under one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRules {
    /// The role.
    pub role: RoleName,
    /// Alternatives of the least that is worth an offer; none: the pool's.
    pub least: Option<Vec<Bundle>>,
    /// Where it may be at all: groups are alternatives, in a group all must hold.
    pub constraints: Vec<Vec<Constraint>>,
}

/// An agent, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRecord {
    /// Its id.
    pub agent: AgentId,
    /// Its key.
    pub key: String,
    /// The boot that it was last seen under.
    pub boot: String,
    /// What it is.
    pub info: Arc<AgentInfo>,
    /// What it has.
    pub total: Bundle,
    /// Where it serves outputs.
    pub data_address: String,
}

/// A framework, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkRecord {
    /// Its id.
    pub framework: FrameworkId,
    /// Its name, unique.
    pub name: Arc<str>,
    /// The component's version, as its manifest says.
    pub version: String,
    /// The component's digest, `sha256:…`; the shell keeps the file under it.
    pub digest: String,
    /// Its roles.
    pub roles: Vec<RoleName>,
    /// Its configuration.
    pub config: String,
    /// Whether it takes gpus.
    pub gpus: bool,
    /// Whether it steps.
    pub standing: FrameworkStanding,
    /// The last committed step (0: none), so that a snapshot needs no steps.
    pub step: StepNumber,
}

/// Whether a framework steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameworkStanding {
    /// It does.
    Active,
    /// It failed too often; tasks and queue stay.
    Quarantined(Reason),
    /// It is done or being removed: its tasks end, then it goes.
    Removing(Reason),
}

/// A committed step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Whose.
    pub framework: FrameworkId,
    /// Which.
    pub step: StepNumber,
    /// Its state writes, in order.
    pub writes: Vec<StateWrite>,
    /// What it changed, in order.
    pub effects: Vec<Effect>,
}

/// One durable change to a framework's things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The life-cycle event was taken.
    Started,
    /// A task was launched.
    TaskLaunched(Box<LaunchRecord>),
    /// An update was taken; the agent may forget it.
    TaskAcknowledged {
        /// Which.
        task: TaskId,
        /// Up to which sequence.
        sequence: u64,
        /// The state that it told.
        state: TaskState,
        /// Why.
        why: Reason,
        /// Exit status.
        exit: Option<i32>,
        /// When.
        at: Timestamp,
    },
    /// The host itself decided a task's state.
    TaskDecided {
        /// Which.
        task: TaskId,
        /// The state.
        state: TaskState,
        /// Why.
        why: Reason,
        /// When.
        at: Timestamp,
    },
    /// An ended task's record was dropped.
    TaskForgotten {
        /// Which.
        task: TaskId,
    },
    /// A kill was asked for; it is sent until the task has ended.
    TaskKillAsked {
        /// Which.
        task: TaskId,
        /// Between TERM and KILL.
        grace: Duration,
    },
    /// Demand was set.
    DemandSet {
        /// What.
        demand: Box<Demand>,
        /// Since when it stands in this shape.
        since: Timestamp,
    },
    /// Demand went.
    DemandCleared {
        /// Its key.
        key: String,
    },
    /// Roles were suppressed.
    Suppressed {
        /// Which.
        roles: Vec<RoleName>,
    },
    /// Roles were revived.
    Revived {
        /// Which.
        roles: Vec<RoleName>,
    },
    /// A timer was set.
    TimerSet {
        /// Its id.
        id: String,
        /// As set.
        due: Due,
        /// When it fires.
        at: Timestamp,
    },
    /// A timer was cancelled, or was delivered.
    TimerCleared {
        /// Its id.
        id: String,
    },
    /// The host has something to tell that nobody else keeps.
    EventQueued {
        /// Counts up within the framework.
        number: u64,
        /// What. One row where the event is a list.
        event: Event,
    },
    /// That was delivered.
    EventTaken {
        /// Which.
        number: u64,
    },
    /// Another version of its component was tried.
    UpgradeTried(Box<UpgradeRecord>),
    /// What keeps it in quarantine; none: no event does.
    EventBlamed {
        /// The event.
        event: Option<BlamedEvent>,
    },
    /// An operator had an event passed over.
    EventSkipped(Box<SkippedEvent>),
    /// What was held of an agent became something else: reserved, a volume, or nothing.
    Converted {
        /// Where.
        agent: AgentId,
        /// This of the agent's total.
        from: Resources,
        /// Is this from now on.
        to: Resources,
    },
    /// A published sandbox was bound to its name, anew if it had been.
    OutputBound(Box<OutputRecord>),
    /// No host tells an earlier time from now on.
    TimeTold {
        /// When the step was committed.
        at: Timestamp,
    },
}

/// A published sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRecord {
    /// The task's [`output`](TaskSpec::output).
    pub name: String,
    /// Whose sandbox.
    pub task: TaskId,
    /// Its launch.
    pub launch: LaunchNumber,
    /// Where it is.
    pub agent: AgentId,
    /// A fetch from it failed: a later task that finishes under the name takes its place.
    pub suspect: bool,
}

/// What came of trying another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeRecord {
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

/// An event that a framework fails at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlamedEvent {
    /// What an operator calls it, with its kind and number: `update:TASK:SEQUENCE`, `timer:ID`,
    /// `event:NUMBER`, `started`.
    pub id: String,
    /// Its content in short.
    pub what: String,
}

/// An event that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedEvent {
    /// As [`BlamedEvent::id`].
    pub id: String,
    /// Its content in short.
    pub what: String,
    /// When.
    pub at: Timestamp,
}

/// A launched task, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchRecord {
    /// Its number.
    pub launch: LaunchNumber,
    /// Where.
    pub agent: AgentId,
    /// Under which role.
    pub role: RoleName,
    /// What.
    pub task: Arc<TaskSpec>,
    /// The first launch number of its group, or its own.
    pub group: LaunchNumber,
    /// When.
    pub at: Timestamp,
}
