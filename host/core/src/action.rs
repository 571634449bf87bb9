//! What the core wants done.

use proffer_codec::{codec_enum, codec_newtype};
use proffer_model::agent::ToAgent;
use proffer_model::fact::{Fact, FrameworkRecord, PolicyRecord};
use proffer_model::framework::{Batch, Response};
use proffer_model::policy::{Changes, Cycle};
use proffer_model::{FrameworkId, Reason, Timestamp};

use crate::event::{ConnectionId, Ticket};

/// Counts [`Action::Persist`]s from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

codec_newtype!(Seq);

/// What the shell is to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make these durable, in order, then say [`crate::Event::Persisted`]. Several may be put in one commit.
    Persist {
        /// Which.
        seq: Seq,
        /// What.
        facts: Vec<Fact>,
    },
    /// Tell an agent.
    Send {
        /// On which connection; if it is gone, the message is too.
        connection: ConnectionId,
        /// What.
        message: Box<ToAgent>,
    },
    /// End a connection.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Make a framework's actor: its first step follows. If there is one, it ends after its call and
    /// the new one goes on with its state; that is how another version takes over.
    StartFramework(Box<FrameworkRecord>),
    /// End a framework's actor. With `forget`, its state goes too.
    StopFramework {
        /// Which.
        framework: FrameworkId,
    },
    /// Call a framework; answer with [`crate::Event::StepCompleted`] or [`crate::Event::StepFailed`].
    RunStep {
        /// Whose.
        framework: FrameworkId,
        /// Which try.
        attempt: u32,
        /// What.
        batch: Box<Batch>,
    },
    /// Feed the policy and ask it; answer with [`crate::Event::PolicyProposed`] or [`crate::Event::PolicyFailed`].
    RunPolicy {
        /// Whom to ask.
        seat: PolicySeat,
        /// What it is to know first. A snapshot goes to a new instance.
        changes: Vec<Changes>,
        /// What to decide.
        cycle: Cycle,
    },
    /// Feed a candidate, in order, and ask it if there is a cycle; say [`crate::Event::CandidateReady`] once it has taken its snapshot
    /// in, [`crate::Event::CandidateProposed`] for the cycle, or [`crate::Event::CandidateFailed`].
    FeedCandidate {
        /// Which.
        candidate: u64,
        /// A snapshot at first, then what the running policy is fed too.
        changes: Vec<Changes>,
        /// What it would decide is to be compared.
        cycle: Option<Cycle>,
    },
    /// A candidate takes the seat, before the next cycle: what its predecessor carries goes over, and is
    /// said with [`crate::Event::PolicyCarried`].
    SwitchPolicy {
        /// Which; the native policy's has no instance.
        candidate: u64,
    },
    /// A candidate is not wanted any more.
    DropCandidate {
        /// Which.
        candidate: u64,
    },
    /// Ask a role's own policy, or the native one in its place, in an instance of its own that lives for this alone: tell it
    /// the picture, what the instance before it carried, and the cycle; answer with [`crate::Event::TenantProposed`] or
    /// [`crate::Event::TenantFailed`].
    RunTenant {
        /// Which; none: the native policy.
        tenant: Option<u64>,
        /// Which turn.
        turn: u64,
        /// All that it is to know.
        changes: Vec<Changes>,
        /// What to decide.
        cycle: Cycle,
    },
    /// A role's own policy is not wanted any more.
    DropTenant {
        /// Which.
        tenant: u64,
    },
    /// Load a policy that was put in before; answer with [`crate::Event::PolicyLoaded`] or
    /// [`crate::Event::PolicyUnavailable`].
    LoadPolicy(Box<PolicyRecord>),
    /// Ask the loaded policy what a successor should know; answer with [`crate::Event::PolicyCarried`],
    /// if it answers.
    CarryPolicy,
    /// Answer an operator.
    Reply {
        /// Who waits.
        ticket: Ticket,
        /// What.
        reply: Reply,
    },
    /// Send [`crate::Event::Ticked`] at this time; replaces the one before.
    Wake(Timestamp),
    /// Something that an operator should see in the log.
    Note {
        /// Of which framework, if one.
        framework: Option<FrameworkId>,
        /// What and why.
        why: Reason,
    },
}

codec_enum!(Action {
    Persist { seq, facts }, Send { connection, message }, Close { connection }, StartFramework(a),
    StopFramework { framework }, RunStep { framework, attempt, batch },
    RunPolicy { seat, changes, cycle }, FeedCandidate { candidate, changes, cycle },
    SwitchPolicy { candidate }, DropCandidate { candidate }, LoadPolicy(a), CarryPolicy, RunTenant { tenant, turn, changes, cycle }, DropTenant { tenant }, Reply { ticket, reply }, Wake(a), Note { framework, why },
});

/// Who is asked in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicySeat {
    /// The policy that was loaded last.
    Loaded,
    /// The native reference policy.
    Fallback,
}

codec_enum!(PolicySeat { Loaded, Fallback });

/// An answer to an operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Done, durably.
    Done,
    /// A framework was added.
    Added(FrameworkId),
    /// A framework's response.
    Response(Box<Response>),
    /// Not done.
    Refused(Reason),
}

codec_enum!(Reply { Done, Added(a), Response(a), Refused(a) });

/// Where [`crate::Core::handle`] leaves its actions.
#[must_use]
#[derive(Debug, Default)]
pub struct Outbox {
    actions: Vec<Action>,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Takes what is in it, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Action> {
        self.actions.drain(..)
    }
}
