//! One launch: where it stands, and its stream of updates.

use std::collections::VecDeque;
use std::sync::Arc;

use proffer_model::agent::{FromAgent, Launch, LaunchUpdate};
use proffer_model::{
    AgentId, Duration, LaunchNumber, Reason, TaskState, TaskUpdate, Timestamp, UpdateSource,
};

use super::{Action, Counters, Logic, Outbox, Record, StopCause};

/// Bytes that an update may carry, by the framework contract.
const DATA_MAX: usize = 64 * 1024;

/// A launch that is remembered.
#[derive(Debug)]
pub(super) struct LaunchState {
    pub(super) launch: Arc<Launch>,
    /// All of its group, itself included; one alone is a group too.
    pub(super) group: Arc<[LaunchNumber]>,
    pub(super) phase: Phase,
    pub(super) stop: Option<Stop>,
    /// The newest state, whether or not the host knows it yet.
    pub(super) latest: TaskState,
    pub(super) stream: Stream,
    pub(super) too_long_at: Option<Timestamp>,
}

/// Where a launch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its sandbox is being made.
    Preparing,
    /// Its sandbox is ready; others of its group are not.
    Prepared,
    /// It was handed to its runner, which has not answered.
    Handed,
    /// It runs.
    Running,
    /// It does not run any more, or never did.
    Ended {
        /// Since when.
        at: Timestamp,
    },
}

/// A launch that is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) cause: StopCause,
    pub(super) by: Timestamp,
}

/// What can come due for a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The update in flight was not acknowledged.
    Resend,
    /// It has run as long as it may.
    TooLong,
}

/// Updates in order; the first is in flight while the agent is registered.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) pending: VecDeque<Arc<TaskUpdate>>,
    /// Sequence of the newest update; 0 before the first.
    pub(super) last: u64,
    /// How long the front waits before it is sent again; none: it was not sent on this connection.
    pub(super) in_flight: Option<InFlight>,
}

/// When the front is sent again.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) at: Timestamp,
    pub(super) wait: Duration,
}

/// What a runner, or what it left behind, says of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It runs.
    Running,
    /// It ended.
    Ended(End),
    /// It was handed over, and never reached the runner.
    NeverStarted,
    /// There is no runner to hand it to, and none can be started; why.
    NoRunner(String),
    /// Its runner died; nothing of it runs any more, and nobody knows how it ended.
    Lost,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// In which way.
    pub outcome: Outcome,
    /// Whether the runner had been told to end it before.
    pub stopped: bool,
    /// The task's own result.
    pub data: Vec<u8>,
}

/// In which way a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It wanted more memory than it may have.
    OutOfMemory(String),
    /// Its program broke: a trap, for people.
    Broke(String),
    /// It could not be started; why.
    NotStarted(String),
}

/// Why a sandbox could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unprepared {
    /// For the task's framework.
    pub why: Reason,
    /// The outputs, by name, and the tasks, by id, whose files are no more.
    pub lost: Vec<String>,
}

impl From<Reason> for Unprepared {
    /// Nothing is lost.
    fn from(why: Reason) -> Self {
        Self {
            why,
            lost: Vec::new(),
        }
    }
}

/// What is new about a launch.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub(super) state: TaskState,
    pub(super) source: UpdateSource,
    pub(super) why: Reason,
    pub(super) exit: Option<i32>,
    pub(super) data: Vec<u8>,
}

impl LaunchState {
    pub(super) fn new(launch: Arc<Launch>, group: Arc<[LaunchNumber]>) -> Self {
        Self {
            launch,
            group,
            phase: Phase::Preparing,
            stop: None,
            latest: TaskState::Staging,
            stream: Stream::default(),
            too_long_at: None,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Whether the host knows all of it and nothing more will come.
    pub(super) fn is_settled(&self) -> bool {
        self.has_ended() && self.stream.pending.is_empty()
    }

    fn message(&self) -> Option<FromAgent> {
        let front = self.stream.pending.front()?;
        Some(FromAgent::Update(Box::new(LaunchUpdate {
            framework: self.launch.framework,
            launch: self.launch.number,
            update: (**front).clone(),
            latest: self.latest,
        })))
    }
}

impl Logic {
    /// Adds an update to a launch's stream, and sends it if none is in flight.
    pub(super) fn tell(
        &mut self,
        now: Timestamp,
        number: LaunchNumber,
        news: News,
        outbox: &mut Outbox,
    ) {
        let agent = self.identity.agent;
        let Some(state) = self.launches.get_mut(&number) else {
            return;
        };
        state.stream.last += 1;
        state.latest = news.state;
        let update = Arc::new(news.into_update(state, agent, now));
        outbox.push(Action::Persist(Record::Updated {
            launch: number,
            update: Arc::clone(&update),
        }));
        state.stream.pending.push_back(update);
        if news_is_final(state) {
            state.phase = Phase::Ended { at: now };
            self.active -= 1;
            outbox.push(Action::Publish {
                launch: number,
                finished: state.latest == TaskState::Finished,
            });
            if let Some(at) = state.too_long_at.take() {
                self.dues.remove(&(at, number, Due::TooLong));
            }
            count_end(&mut self.counters, state.latest);
        }
        self.send_front(now, number, outbox);
    }

    /// Sends the first unacknowledged update if it is not in flight on this connection.
    pub(super) fn send_front(&mut self, now: Timestamp, number: LaunchNumber, outbox: &mut Outbox) {
        if !self.link.is_online() {
            return;
        }
        let wait = self.settings.timings.resend_first;
        let Some(state) = self.launches.get_mut(&number) else {
            return;
        };
        if state.stream.in_flight.is_some() {
            return;
        }
        let Some(message) = state.message() else {
            return;
        };
        let at = now + wait;
        state.stream.in_flight = Some(InFlight { at, wait });
        self.dues.insert((at, number, Due::Resend));
        self.counters.updates += 1;
        self.say(now, message, outbox);
    }

    /// Sends the update in flight once more, and waits twice as long for its acknowledgement.
    pub(super) fn resend(&mut self, now: Timestamp, number: LaunchNumber, outbox: &mut Outbox) {
        let longest = self.settings.timings.resend_max;
        let Some(state) = self.launches.get_mut(&number) else {
            return;
        };
        let (Some(in_flight), Some(message)) = (state.stream.in_flight, state.message()) else {
            return;
        };
        let wait = Duration(in_flight.wait.0.saturating_mul(2)).min(longest);
        let at = now + wait;
        state.stream.in_flight = Some(InFlight { at, wait });
        self.dues.insert((at, number, Due::Resend));
        self.counters.updates_resent += 1;
        self.say(now, message, outbox);
    }

    /// The host has the update in flight: the next may go.
    pub(super) fn acknowledge(
        &mut self,
        now: Timestamp,
        number: LaunchNumber,
        sequence: u64,
        outbox: &mut Outbox,
    ) {
        let front = self.launches.get_mut(&number).filter(|state| {
            let front = state.stream.pending.front();
            front.is_some_and(|front| front.sequence == sequence)
        });
        let Some(state) = front else {
            self.counters.acknowledgements_refused += 1;
            return;
        };
        state.stream.pending.pop_front();
        if let Some(in_flight) = state.stream.in_flight.take() {
            self.dues.remove(&(in_flight.at, number, Due::Resend));
        }
        outbox.push(Action::Persist(Record::Acknowledged {
            launch: number,
            sequence,
        }));
        self.send_front(now, number, outbox);
    }
}

fn news_is_final(state: &LaunchState) -> bool {
    state.latest.is_final() && !state.has_ended()
}

fn count_end(counters: &mut Counters, state: TaskState) {
    let counter = match state {
        TaskState::Finished => &mut counters.finished,
        TaskState::Killed => &mut counters.killed,
        TaskState::Dropped | TaskState::Error => &mut counters.dropped,
        _ => &mut counters.failed,
    };
    *counter += 1;
}

impl News {
    pub(super) fn by_agent(state: TaskState, why: Reason) -> Self {
        Self {
            state,
            source: UpdateSource::Agent,
            why,
            exit: None,
            data: Vec::new(),
        }
    }

    /// The framework contract: names one a line, as many as fit.
    pub(super) fn unprepared(Unprepared { why, lost }: Unprepared) -> Self {
        let mut data = Vec::new();
        for name in lost {
            if data.len() + name.len() + 1 > DATA_MAX {
                break;
            }
            data.extend_from_slice(name.as_bytes());
            data.push(b'\n');
        }
        Self {
            data,
            ..Self::by_agent(TaskState::Failed, why)
        }
    }

    pub(super) fn by_runner(state: TaskState, why: Reason) -> Self {
        Self {
            source: UpdateSource::Executor,
            ..Self::by_agent(state, why)
        }
    }

    fn into_update(self, of: &LaunchState, agent: Option<AgentId>, at: Timestamp) -> TaskUpdate {
        TaskUpdate {
            task: of.launch.task.id.clone(),
            agent,
            state: self.state,
            sequence: of.stream.last,
            at,
            source: self.source,
            why: self.why,
            exit: self.exit,
            healthy: None,
            ready: None,
            address: String::new(),
            data: self.data,
        }
    }
}
