//! Everything that can wake the core. If it can, it is a variant here.

use std::sync::Arc;

use proffer_codec::{codec_enum, codec_newtype, codec_struct};
use proffer_model::agent::{LaunchUpdate, Registration};
use proffer_model::framework::{Answer, StateWrite};
use proffer_model::policy::{Feeds, Proposal};
use proffer_model::{Amount, Duration, FrameworkId, Reason, RoleName, StepNumber};

use crate::action::Seq;

/// A connection of an agent. The shell never uses a number twice: what comes late on an old
/// connection is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// An operator's call that waits for [`crate::Action::Reply`]. The shell never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

codec_newtype!(ConnectionId, Ticket);

/// What has happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An agent connected and said what it is and runs.
    AgentRegistered {
        /// On which connection.
        connection: ConnectionId,
        /// What it said.
        registration: Box<Registration>,
    },
    /// An agent's connection ended.
    AgentDisconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// An agent gave a sign of life.
    AgentHeard {
        /// On which connection.
        connection: ConnectionId,
    },
    /// An agent told what became of a task.
    TaskUpdated {
        /// On which connection.
        connection: ConnectionId,
        /// What.
        update: Box<LaunchUpdate>,
    },
    /// An operator added a framework; its component is loaded and stored under its digest.
    FrameworkAdded {
        /// Who waits.
        ticket: Ticket,
        /// What.
        framework: Box<NewFramework>,
    },
    /// An operator wants a framework gone: its tasks end, then it goes.
    FrameworkRemovalAsked {
        /// Who waits.
        ticket: Ticket,
        /// Its name.
        name: String,
    },
    /// An operator wants a framework to go on as another version of its component, which is loaded,
    /// checked and stored under its digest.
    FrameworkUpgradeAsked {
        /// Who waits.
        ticket: Ticket,
        /// What.
        upgrade: Box<FrameworkUpgrade>,
    },
    /// An operator wants the event that a quarantined framework fails at passed over.
    EventSkipAsked {
        /// Who waits.
        ticket: Ticket,
        /// The framework's name.
        name: String,
        /// The event's id, as [`proffer_model::fact::BlamedEvent`] has it.
        event: String,
    },
    /// An operator says that an agent will not be back.
    AgentGoneAsked {
        /// Who waits.
        ticket: Ticket,
        /// Its id or hostname.
        agent: String,
    },
    /// An operator wants a quarantined framework to try again.
    FrameworkResumeAsked {
        /// Who waits.
        ticket: Ticket,
        /// Its name.
        name: String,
    },
    /// A framework's step answered.
    StepCompleted {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        step: StepNumber,
        /// Which try of it.
        attempt: u32,
        /// What it wrote.
        writes: Vec<StateWrite>,
        /// What it wants.
        answer: Box<Answer>,
    },
    /// A framework's step failed and left no trace.
    StepFailed {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        step: StepNumber,
        /// Which try of it.
        attempt: u32,
        /// How.
        fault: Reason,
    },
    /// An operator's request to a framework.
    RequestArrived {
        /// Who waits.
        ticket: Ticket,
        /// The framework's name.
        framework: String,
        /// `GET`, `POST`, …
        method: String,
        /// Begins with a slash.
        path: String,
        /// Without the question mark.
        query: String,
        /// Names in lower case.
        headers: Vec<(String, String)>,
        /// At most 1 MiB.
        body: Vec<u8>,
        /// Who asks.
        principal: String,
    },
    /// Whoever waited for a reply does not any more.
    TicketDropped {
        /// Which.
        ticket: Ticket,
    },
    /// A policy is configured and ready for a snapshot.
    PolicyLoaded {
        /// Which.
        identity: Arc<PolicyIdentity>,
        /// What it wants to be fed.
        feeds: Feeds,
    },
    /// The policy answered a cycle.
    PolicyProposed {
        /// Which cycle.
        cycle: u64,
        /// What.
        proposal: Box<Proposal>,
    },
    /// The policy failed in a cycle.
    PolicyFailed {
        /// Which cycle.
        cycle: u64,
        /// How.
        fault: Reason,
    },
    /// An operator wants a task to end.
    TaskKillAsked {
        /// Who waits.
        ticket: Ticket,
        /// The framework's name.
        framework: String,
        /// The task's id.
        task: String,
        /// Between TERM and KILL; none: the template's.
        grace: Option<Duration>,
    },
    /// An operator changed a role.
    RoleSet {
        /// Who waits.
        ticket: Ticket,
        /// Which.
        role: RoleName,
        /// Against its siblings.
        weight: Amount,
    },
    /// All facts up to this are durable.
    Persisted(Seq),
    /// A time that [`crate::Action::Wake`] named has come, or any other moment.
    Ticked,
}

codec_enum!(Event {
    AgentRegistered { connection, registration }, AgentDisconnected { connection },
    AgentHeard { connection }, TaskUpdated { connection, update },
    FrameworkAdded { ticket, framework }, FrameworkRemovalAsked { ticket, name },
    FrameworkUpgradeAsked { ticket, upgrade }, EventSkipAsked { ticket, name, event },
    AgentGoneAsked { ticket, agent }, FrameworkResumeAsked { ticket, name },
    StepCompleted { framework, step, attempt, writes, answer },
    StepFailed { framework, step, attempt, fault },
    RequestArrived { ticket, framework, method, path, query, headers, body, principal },
    TicketDropped { ticket }, PolicyLoaded { identity, feeds },
    PolicyProposed { cycle, proposal }, PolicyFailed { cycle, fault },
    TaskKillAsked { ticket, framework, task, grace }, RoleSet { ticket, role, weight },
    Persisted(a), Ticked,
});

/// A framework to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFramework {
    /// Its name, unique in the cluster.
    pub name: Arc<str>,
    /// The component's version.
    pub version: String,
    /// The component's digest.
    pub digest: String,
    /// Its roles; not empty.
    pub roles: Vec<RoleName>,
    /// Its configuration.
    pub config: String,
    /// Whether it takes gpus.
    pub gpus: bool,
}

/// Another version of a framework's component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkUpgrade {
    /// The framework's name.
    pub name: String,
    /// The component's version.
    pub version: String,
    /// The component's digest.
    pub digest: String,
    /// Its configuration; none: as before.
    pub config: Option<String>,
}

codec_struct!(FrameworkUpgrade {
    name,
    version,
    digest,
    config
});
codec_struct!(NewFramework {
    name,
    version,
    digest,
    roles,
    config,
    gpus
});

/// Which policy decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyIdentity {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The component's digest, or empty for a native one.
    pub digest: String,
}

codec_struct!(PolicyIdentity {
    name,
    version,
    digest
});
