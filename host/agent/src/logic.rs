//! What an agent does, as a deterministic state machine: `handle(now, Input, &mut Outbox)`.
//!
//! No clock, network, disk or process here: the shell (`crate::shell`) feeds inputs and performs
//! actions, in order. An action after a [`Action::Persist`] may only be performed once that is
//! durable, if it [needs that](Action::needs_durable); so what the agent reports, it will still know after a
//! crash.
//!
//! Terms: a *launch* is one start of a task and runs at most once, whatever happens; its *stream* is
//! its updates in order, of which the first unacknowledged one is in flight; the *link* is the
//! connection to the host.

mod check;
mod cleaning;
mod host;
mod launch;
mod link;
mod record;
mod recovery;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proffer_model::agent::{FromAgent, Launch, ToAgent};
use proffer_model::{AgentId, AgentInfo, Bundle, Duration, FrameworkId, LaunchNumber, Timestamp};

pub use cleaning::Cleaning;
pub use launch::{End, Found, Outcome, Unprepared};
pub use record::{Record, StopCause};
pub use recovery::Recovered;

pub(crate) use check::is_plain_path;

use launch::{Due, LaunchState, Phase};
use link::Link;

/// Launches that an agent remembers at once. More than any machine runs; a host that sends more has
/// lost count.
const LAUNCHES_MAX: usize = 100_000;

/// Numbers of forgotten launches that are kept one by one; of older ones only the highest.
const FORGOTTEN_MAX: usize = 65_536;

/// The machine.
#[derive(Debug)]
pub struct Logic {
    settings: Settings,
    identity: Identity,
    link: Link,
    launches: BTreeMap<LaunchNumber, LaunchState>,
    /// How many of them have not ended.
    active: usize,
    forgotten: BTreeSet<LaunchNumber>,
    /// Every number up to this one that is not in `launches` counts as forgotten.
    forgotten_up_to: LaunchNumber,
    /// Frameworks that are gone and of which something is still remembered here.
    removed: BTreeSet<FrameworkId>,
    dues: BTreeSet<(Timestamp, LaunchNumber, Due)>,
    counters: Counters,
    random: u64,
}

/// What does not change while an agent runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it is.
    pub info: Arc<AgentInfo>,
    /// What it has.
    pub total: Bundle,
    /// Where it serves sandboxes.
    pub data_address: String,
    /// How long it waits for what.
    pub timings: Timings,
    /// What it keeps of ended launches.
    pub cleaning: Cleaning,
}

/// How long an agent waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// An unacknowledged update is sent again after this.
    pub resend_first: Duration,
    /// The time doubles at each repeat, up to this.
    pub resend_max: Duration,
    /// Before the first attempt to connect again.
    pub reconnect_first: Duration,
    /// The time doubles at each attempt, up to this; a random part of it keeps agents apart.
    pub reconnect_max: Duration,
    /// A registration that is not answered by then has failed.
    pub register_within: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            resend_first: Duration::from_secs(10),
            resend_max: Duration::from_secs(600),
            reconnect_first: Duration(250),
            reconnect_max: Duration::from_secs(10),
            register_within: Duration::from_secs(15),
        }
    }
}

/// Who the agent is, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id, once the host gave it one.
    pub agent: Option<AgentId>,
    /// Its own secret name, made with its data directory.
    pub key: String,
    /// The machine's boot.
    pub boot: String,
}

/// What the machine is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The connection that was asked for is there.
    Connected,
    /// It could not be made, or is over.
    Disconnected {
        /// Why, for people.
        why: String,
    },
    /// The host does not know the token.
    Denied {
        /// In its words.
        why: String,
    },
    /// The host says something.
    FromHost(ToAgent),
    /// Inputs of a launch are not here yet, and are being fetched.
    Fetching {
        /// Of which.
        launch: LaunchNumber,
    },
    /// A launch can start: its sandbox is ready, with its inputs, or it needs none.
    Prepared {
        /// Which launch's.
        launch: LaunchNumber,
        /// Why not.
        outcome: Result<(), Unprepared>,
    },
    /// What a runner, or what is left of it, says of a launch.
    Runner {
        /// Which launch.
        launch: LaunchNumber,
        /// What.
        found: Found,
    },
    /// Time to look at what is due; see [`Logic::next_due`].
    Tick,
    /// Time to look at old sandboxes.
    Clean {
        /// Whether there is too little free disk.
        disk_is_low: bool,
    },
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make this durable before anything that follows.
    Persist(Record),
    /// Connect to the host.
    Connect,
    /// Close the connection.
    Disconnect {
        /// Why, for people.
        why: String,
    },
    /// Say this to the host.
    Send(FromAgent),
    /// Make the sandbox and fetch the inputs; what is there of an earlier try is replaced. One that is bare
    /// ([`Launch::is_bare`]) needs nothing but its component.
    Prepare(Arc<Launch>),
    /// That is not needed any more.
    CancelPrepare(LaunchNumber),
    /// Hand the launch to its runner.
    Start(Arc<Launch>),
    /// End what runs: TERM now, KILL after the grace.
    Stop {
        /// Which.
        launch: LaunchNumber,
        /// Whose.
        framework: FrameworkId,
        /// How long.
        grace: Duration,
    },
    /// Find out what became of launches that an earlier agent process handed to this runner.
    Inquire {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        launches: Vec<LaunchNumber>,
    },
    /// The launch has ended; its sandbox is served if it finished.
    Publish {
        /// Which.
        launch: LaunchNumber,
        /// Whether it finished.
        finished: bool,
    },
    /// Remove the sandbox of an ended launch.
    RemoveSandbox {
        /// Which.
        launch: LaunchNumber,
        /// Whose.
        framework: FrameworkId,
    },
    /// Nothing of a framework that is gone is remembered any more: its runner may end, and the runner's
    /// directory go.
    DismissRunner(FrameworkId),
    /// The host does not want this agent.
    Exit {
        /// Why.
        why: String,
    },
}

impl Action {
    /// Whether everything persisted before it has to be durable: it is seen by others, or cannot be taken
    /// back. The rest is done again as it was, should a crash have taken the memory of it.
    #[must_use]
    pub fn needs_durable(&self) -> bool {
        match self {
            Self::Persist(_)
            | Self::Connect
            | Self::Disconnect { .. }
            | Self::CancelPrepare(_)
            | Self::Inquire { .. }
            | Self::Send(FromAgent::Heartbeat) => false,
            // A sandbox would be left that nobody knows.
            Self::Prepare(launch) => !launch.is_bare(),
            Self::Send(_)
            | Self::Start(_)
            | Self::Stop { .. }
            | Self::Publish { .. }
            | Self::RemoveSandbox { .. }
            | Self::DismissRunner(_)
            | Self::Exit { .. } => true,
        }
    }
}

/// Actions in the order in which they are to be performed.
#[derive(Debug, Default)]
#[must_use = "actions that are not performed are lost"]
pub struct Outbox {
    actions: VecDeque<Action>,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Launches taken.
    pub launches: u64,
    /// Launches that came again and were left alone.
    pub launches_repeated: u64,
    /// Launches refused as malformed or unsupported.
    pub launches_refused: u64,
    /// Tasks that finished.
    pub finished: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Tasks that were killed.
    pub killed: u64,
    /// Tasks that never ran.
    pub dropped: u64,
    /// Updates sent for the first time.
    pub updates: u64,
    /// Updates sent again.
    pub updates_resent: u64,
    /// Acknowledgements of something that is not in flight.
    pub acknowledgements_refused: u64,
    /// Connections made.
    pub connections: u64,
    /// Sandboxes removed.
    pub sandboxes_removed: u64,
}

impl Outbox {
    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// The next action.
    pub fn pop(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// All actions, in order.
    pub fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions).into()
    }
}

impl Logic {
    /// Handles one input at one time.
    pub fn handle(&mut self, now: Timestamp, input: Input, outbox: &mut Outbox) {
        match input {
            Input::Connected => self.on_connected(now, outbox),
            Input::Disconnected { why } => self.on_disconnected(now, &why),
            // One that was let in before may be again: somebody is putting the token right, and tasks
            // run on meanwhile. A new one has a wrong token, and somebody to tell.
            Input::Denied { why } if self.identity.agent.is_none() => self.on_refused(why, outbox),
            Input::Denied { why } => self.on_disconnected(now, &why),
            Input::FromHost(message) => self.on_message(now, message, outbox),
            Input::Fetching { launch } => self.on_fetching(now, launch, outbox),
            Input::Prepared { launch, outcome } => self.on_prepared(now, launch, outcome, outbox),
            Input::Runner { launch, found } => self.on_found(now, launch, found, outbox),
            Input::Tick => self.on_tick(now, outbox),
            Input::Clean { disk_is_low } => self.clean(now, disk_is_low, outbox),
        }
    }

    /// When the next tick is wanted.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let launch = self.dues.first().map(|(at, _, _)| *at);
        let link = self.link.due();
        match (launch, link) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (due, None) | (None, due) => due,
        }
    }

    /// The id that the host gave.
    #[must_use]
    pub fn agent(&self) -> Option<AgentId> {
        self.identity.agent
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether it is registered.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.link.is_online()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many launches have not ended.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active
    }

    /// Every launch whose sandbox is kept: number, framework, and whether it finished (none: it runs).
    pub fn sandboxes(
        &self,
    ) -> impl Iterator<Item = (LaunchNumber, FrameworkId, Option<bool>)> + '_ {
        self.launches.iter().map(|(number, state)| {
            let finished = match state.phase {
                Phase::Ended { .. } => Some(state.latest == proffer_model::TaskState::Finished),
                _ => None,
            };
            (*number, state.launch.framework, finished)
        })
    }

    fn on_tick(&mut self, now: Timestamp, outbox: &mut Outbox) {
        self.link_tick(now, outbox);
        while let Some(&(at, launch, due)) = self.dues.first() {
            if at > now {
                break;
            }
            self.dues.remove(&(at, launch, due));
            match due {
                Due::Resend => self.resend(now, launch, outbox),
                Due::TooLong => self.stop_too_long(now, launch, outbox),
            }
        }
    }
}
