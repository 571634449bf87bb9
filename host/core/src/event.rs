//! Everything that can wake the core. If it can, it is a variant here.

use std::collections::BTreeSet;
use std::sync::Arc;

use proffer_codec::{codec_enum, codec_newtype, codec_struct};
use proffer_model::agent::{LaunchUpdate, Registration};
use proffer_model::fact::{FrameworkOptions, ReservationFate};
use proffer_model::framework::{Answer, StateWrite};
use proffer_model::policy::{Feeds, Proposal, Section};
use proffer_model::{
    AgentId, Amount, Attribute, Duration, FrameworkId, KindQuota, Reason, Resources, RoleName,
    StepNumber, Window,
};

use crate::action::Seq;

mod policies;

pub use policies::{CanaryEnd, CanaryOutcome, PolicyIdentity, PolicySwap, RolePolicy, SwapTrial};

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
        /// What becomes of what is reserved to roles that are its alone.
        reservations: ReservationFate,
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
        /// Whose fault it is.
        blame: Blame,
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
    /// A policy of the history that was to decide cannot be loaded.
    PolicyUnavailable {
        /// Why.
        fault: Reason,
    },
    /// An operator puts another policy in; the shell has loaded, kept and configured it.
    PolicySwapAsked {
        /// Who waits.
        ticket: Ticket,
        /// Which, and how.
        swap: Box<PolicySwap>,
    },
    /// A candidate has taken its snapshot in.
    CandidateReady {
        /// Which.
        candidate: u64,
    },
    /// A candidate failed before it took the seat.
    CandidateFailed {
        /// Which.
        candidate: u64,
        /// How.
        fault: Reason,
    },
    /// A candidate that is tried answered a cycle.
    CandidateProposed {
        /// Which.
        candidate: u64,
        /// Which cycle.
        cycle: u64,
        /// What it would have done.
        proposal: Box<Proposal>,
    },
    /// An operator does not want the policy that is being put in.
    SwapCancelAsked {
        /// Who waits.
        ticket: Ticket,
    },
    /// An operator has seen enough of a canary.
    CanaryEndAsked {
        /// Who waits.
        ticket: Ticket,
        /// What becomes of it.
        end: Box<CanaryEnd>,
    },
    /// An operator gives a role a policy of its own, or takes it away.
    RolePolicyAsked {
        /// Who waits.
        ticket: Ticket,
        /// Whose subtree.
        role: RoleName,
        /// Which policy.
        set: Box<RolePolicy>,
    },
    /// A role's own policy is there again, on a host that goes on.
    TenantLoaded {
        /// Whose subtree.
        role: RoleName,
        /// What the shell calls it.
        tenant: u64,
    },
    /// A role's own policy cannot be loaded.
    TenantUnavailable {
        /// Whose subtree.
        role: RoleName,
        /// Why.
        fault: Reason,
    },
    /// A role's own policy answered.
    TenantProposed {
        /// Which turn.
        turn: u64,
        /// What.
        proposal: Box<Proposal>,
    },
    /// A role's own policy failed.
    TenantFailed {
        /// In which turn.
        turn: u64,
        /// How.
        fault: Reason,
    },
    /// The policy said what a successor should know.
    PolicyCarried {
        /// What.
        sections: Vec<Section>,
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
    /// An operator set a role's quota, or took it away.
    QuotaSet {
        /// Who waits.
        ticket: Ticket,
        /// Which.
        role: RoleName,
        /// Per kind; no rows: no quota.
        quotas: Vec<KindQuota>,
        /// And its weight, both or neither.
        weight: Option<Amount>,
        /// Even if the pool cannot hold it, or the role is over its limit.
        force: bool,
    },
    /// An operator reserves what is free on an agent, or lets reservations go.
    ReservationAsked {
        /// Who waits.
        ticket: Ticket,
        /// Where.
        agent: AgentId,
        /// In reserved form: the last role of each pile is what comes or goes.
        resources: Resources,
        /// Which of both.
        change: ReservationChange,
    },
    /// An operator changed how an agent stands.
    AgentChangeAsked {
        /// Who waits.
        ticket: Ticket,
        /// Which.
        agent: AgentId,
        /// What.
        change: AgentChange,
    },
    /// An operator listed the agents that are offered.
    AgentsAllowed {
        /// Who waits.
        ticket: Ticket,
        /// None: all.
        agents: Option<BTreeSet<AgentId>>,
    },
    /// A framework is to take other things, or under other roles.
    FrameworkChangeAsked {
        /// Who waits.
        ticket: Ticket,
        /// Its name.
        name: String,
        /// What; what is not named stays.
        change: Box<FrameworkChange>,
    },
    /// Somebody plays frameworks and agents by hand, without steps and tasks.
    Played {
        /// Who waits.
        ticket: Ticket,
        /// What is played.
        play: Box<Play>,
    },
    /// All facts up to this are durable.
    Persisted(Seq),
    /// A time that [`crate::Action::Wake`] named has come, or any other moment.
    Ticked,
}

/// Whether a reservation comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationChange {
    /// It comes.
    Reserve,
    /// It goes.
    Unreserve,
}

/// What an operator does to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentChange {
    /// It may be offered again.
    Activate,
    /// It is not offered any more; tasks go on.
    Deactivate,
    /// Its downtime is planned, moved or cancelled.
    Down(Option<Window>),
}

/// What of a framework is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameworkChange {
    /// Its roles. What it holds under a role that it leaves stays its own.
    pub roles: Option<Vec<RoleName>>,
    /// The roles for which it wants no offers.
    pub suppressed: Option<BTreeSet<RoleName>>,
    /// Whether it takes gpus.
    pub gpus: Option<bool>,
    /// What else it takes, and whether it takes part.
    pub options: Option<FrameworkOptions>,
}

/// What can be played by hand: the ledger, filters and cycles without frameworks that step and
/// agents that run tasks. For checking policies; a daemon's loop never sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Play {
    /// Part of what is on offer, or in use, changes hands.
    Hold {
        /// Whose, by name.
        framework: String,
        /// Under which role.
        role: RoleName,
        /// Where.
        agent: AgentId,
        /// How.
        change: HoldingChange,
    },
    /// An agent tells what is in use there, and that it has more. Frameworks may yet be unknown.
    Report {
        /// Which agent.
        agent: AgentId,
        /// What it has more than before.
        grown: Resources,
        /// What is in use, by framework and role.
        uses: Vec<((String, RoleName), Resources)>,
        /// Whether uses that are known already are these same ones.
        again: bool,
    },
    /// An agent tells what it has in all, and its attributes.
    Tell {
        /// Which agent.
        agent: AgentId,
        /// Reservations and volumes included.
        total: Option<Resources>,
        /// All of them.
        attributes: Option<Vec<Attribute>>,
    },
    /// A framework suppresses or revives roles; none: all.
    Want {
        /// Whose, by name.
        framework: String,
        /// Which.
        roles: Vec<RoleName>,
        /// Offers wanted.
        wanted: bool,
    },
    /// A framework answers its open inverse offer.
    AnswerInverse {
        /// Whose, by name.
        framework: String,
        /// Where.
        agent: AgentId,
        /// It will give.
        accept: bool,
        /// Not to be asked again for so long; none: the default.
        refuse: Option<Duration>,
    },
    /// A cycle over these agents, or all.
    Cycle {
        /// None: all.
        agents: Option<BTreeSet<AgentId>>,
    },
}

/// What a client does with what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldingChange {
    /// Offered → in use.
    Use(Resources),
    /// In use → free.
    Finish(Resources),
    /// Offered → free, with a filter of so long; none: the default.
    Return(Resources, Option<Duration>),
    /// Held stays held, as something else.
    Convert {
        /// This.
        from: Resources,
        /// Becomes this.
        to: Resources,
    },
    /// Reserved, and still held.
    Reserve(Resources, ReservationChange),
}
codec_enum!(Event {
    AgentRegistered { connection, registration }, AgentDisconnected { connection },
    AgentHeard { connection }, TaskUpdated { connection, update },
    FrameworkAdded { ticket, framework }, FrameworkRemovalAsked { ticket, name, reservations },
    FrameworkUpgradeAsked { ticket, upgrade }, EventSkipAsked { ticket, name, event },
    AgentGoneAsked { ticket, agent }, FrameworkResumeAsked { ticket, name },
    StepCompleted { framework, step, attempt, writes, answer },
    StepFailed { blame, framework, step, attempt, fault },
    RequestArrived { ticket, framework, method, path, query, headers, body, principal },
    TicketDropped { ticket }, PolicyLoaded { identity, feeds },
    PolicyUnavailable { fault }, PolicySwapAsked { ticket, swap }, CandidateReady { candidate },
    CandidateFailed { candidate, fault }, CandidateProposed { candidate, cycle, proposal },
    SwapCancelAsked { ticket }, CanaryEndAsked { ticket, end }, RolePolicyAsked { ticket, role, set },
    TenantLoaded { role, tenant }, TenantUnavailable { role, fault },
    TenantProposed { turn, proposal }, TenantFailed { turn, fault }, PolicyCarried { sections },
    PolicyProposed { cycle, proposal }, PolicyFailed { cycle, fault },
    TaskKillAsked { ticket, framework, task, grace }, RoleSet { ticket, role, weight },
    QuotaSet { ticket, role, quotas, weight, force }, ReservationAsked { ticket, agent, resources, change },
    AgentChangeAsked { ticket, agent, change }, AgentsAllowed { ticket, agents },
    FrameworkChangeAsked { ticket, name, change }, Played { ticket, play },
    Persisted(a), Ticked,
});
codec_enum!(ReservationChange { Reserve, Unreserve });
codec_enum!(AgentChange { Activate, Deactivate, Down(a) });
codec_struct!(FrameworkChange {
    roles,
    suppressed,
    gpus,
    options
});
codec_enum!(Play {
    Hold { framework, role, agent, change }, Report { agent, grown, uses, again },
    Tell { agent, total, attributes }, Want { framework, roles, wanted },
    AnswerInverse { framework, agent, accept, refuse }, Cycle { agents },
});
codec_enum!(HoldingChange {
    Use(a), Finish(a), Return(a, b), Convert { from, to }, Reserve(a, b),
});

/// Whose fault a failed step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The framework's: it counts against it.
    Framework,
    /// The machine's or the host's: the same may work later, and is tried until it does.
    Host,
}

codec_enum!(Blame { Framework, Host });

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
    /// What else it takes, and where.
    pub options: FrameworkOptions,
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
    gpus,
    options
});
