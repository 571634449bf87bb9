//! Facts: what the core wants durable before anything that depends on it happens.
//!
//! The sequence of facts since the beginning (or since a snapshot, which is itself a list of facts)
//! rebuilds the core's durable state. A framework's own state (`writes`) is kept beside it.

use std::sync::Arc;

use crate::framework::{Due, Event, StateWrite};
use crate::{
    AgentId, AgentInfo, Amount, Bundle, Demand, Duration, FrameworkId, LaunchNumber, Reason,
    RoleName, StepNumber, TaskId, TaskSpec, TaskState, Timestamp,
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
    /// An agent is gone for good: its id, key and tasks are refused.
    AgentRemoved {
        /// Which.
        agent: AgentId,
        /// Its key, refused from now on.
        key: String,
    },
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
