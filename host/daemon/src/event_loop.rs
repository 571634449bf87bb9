//! The event loop: one task owns the core, feeds it events and does what it asks.
//!
//! Nothing here waits for anybody: plug-ins, agents and the store answer with inputs of their own.
//! What would have no bound otherwise is bounded here: while too many facts wait for the store, the
//! loop takes no new inputs, and whoever sends them waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proffer_core::{Action, ConnectionId, Core, Event, Outbox, Reply, Seq, Ticket};
use proffer_model::agent::{FromAgent, ToAgent};
use proffer_model::fact::Fact;
use proffer_model::{FrameworkId, Reason, Timestamp};
use proffer_record::Recorder;
use proffer_rpc::agent::{AgentConnectionEvent, ToAgentSender};
use proffer_store::etcd::Authority;
use proffer_store::{JournalLimit, WriteStoreError};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::frameworks::Frameworks;
use crate::handle::Input;
use crate::metrics::Metrics;
use crate::persister::{Job, Persister};
use crate::policy_seat::PolicySeats;
use crate::usage::{LOOK_EVERY, UsageSeries};

/// Facts that may wait for the store. At a kilobyte each it is a hundred megabytes; a store that is
/// so far behind will not catch up by being given more.
const FACTS_WAITING_MAX: usize = 100_000;

/// Inputs handled before the loop looks at its other duties.
const INPUTS_AT_ONCE: usize = 256;

/// Why the loop ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was told to.
    Shutdown,
    /// The store takes no more writes: nothing may happen that is not durable.
    Store(WriteStoreError),
    /// This host does not lead any more: no effect leaves it.
    Deposed,
    /// The store's thread panicked.
    StoreGone,
}

/// Everything that the loop owns.
pub(crate) struct EventLoop {
    pub(crate) core: Core,
    pub(crate) clock: Clock,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) persister: Persister,
    /// Whether effects may leave this host.
    pub(crate) authority: Authority,
    pub(crate) journal_len: u64,
    /// When it began, by its clock.
    pub(crate) began: Timestamp,
    /// When a snapshot replaces the journal, at the next quiet moment.
    pub(crate) journal_limit: JournalLimit,
    pub(crate) frameworks: Frameworks,
    pub(crate) policies: PolicySeats,
    pub(crate) recorder: Recorder,
    pub(crate) usage: UsageSeries,
    pub(crate) metrics: Arc<Metrics>,
    /// Told when one is no more: nobody may use its component.
    pub(crate) framework_removed: Arc<Notify>,
    pub(crate) shutdown: watch::Receiver<bool>,
    pub(crate) waiting: Waiting,
}

/// What waits in the loop.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    connections: HashMap<ConnectionId, ToAgentSender>,
    tickets: HashMap<Ticket, oneshot::Sender<Reply>>,
    /// For the store.
    facts: Vec<Fact>,
    facts_seq: Seq,
    /// What the store is writing ends with this.
    writing_seq: Option<Seq>,
    /// How long the journal was that a snapshot is being written for.
    replaced_len: Option<u64>,
    wake: Option<Timestamp>,
    /// Digest of the component of each framework, for the log.
    names: BTreeMap<FrameworkId, Arc<str>>,
}

impl EventLoop {
    /// Runs until the shutdown or the store's end.
    pub(crate) async fn run(mut self) -> Ended {
        let ended = self.work().await;
        self.persister.end().await;
        ended
    }

    async fn work(&mut self) -> Ended {
        let mut sampling = tokio::time::interval(LOOK_EVERY);
        sampling.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut batch = Vec::with_capacity(INPUTS_AT_ONCE);
        // What recovery left to be done: frameworks to start, removals to finish.
        self.handle(Event::Ticked);
        while self.authority.holds() {
            self.give_store_work();
            self.recorder.rest(&self.core);
            let wake = self.waiting.wake.map(|at| self.clock.deadline(at));
            let open = !self.must_wait_for_store();
            tokio::select! {
                // Cancel-safe: recv_many takes nothing unless it completes.
                count = self.inputs.recv_many(&mut batch, INPUTS_AT_ONCE), if open => {
                    if count == 0 {
                        return Ended::Shutdown;
                    }
                    for input in batch.drain(..) {
                        self.input(input);
                    }
                }
                // Cancel-safe. None: the store's thread has panicked.
                written = self.persister.written() => {
                    match written {
                        Some(Ok(facts)) => self.stored(facts),
                        Some(Err(error)) => return Ended::Store(error),
                        None => return Ended::StoreGone,
                    }
                }
                () = sleep_until(wake) => {
                    self.waiting.wake = None;
                    self.handle(Event::Ticked);
                }
                _ = sampling.tick() => {
                    self.usage.look(&self.core, self.clock.now());
                    let pool = self.core.pool_with(&self.usage.sums(&self.core));
                    self.metrics.sample(&self.core, &pool, self.clock.now());
                    self.metrics.sample_recording(&self.recorder.tally());
                    let core = &self.core;
                    self.frameworks.forget_gone(|id| core.framework_name(id).is_some());
                }
                // An error means that the host's handle is gone: a shutdown too.
                _ = self.shutdown.changed() => return Ended::Shutdown,
            }
        }
        Ended::Deposed
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.handle(event),
            Input::Call {
                event,
                ticket,
                reply,
            } => {
                self.waiting.tickets.insert(ticket, reply);
                self.handle(event);
            }
            Input::Query(query) => query(&self.core),
            Input::Connection(event) => self.connection(event),
        }
    }

    fn handle(&mut self, event: Event) {
        if let Event::TicketDropped { ticket } = &event {
            self.waiting.tickets.remove(ticket);
        }
        let mut out = Outbox::new();
        let now = self.clock.now();
        self.recorder.event(now, &event);
        self.core.handle(now, event, &mut out);
        self.metrics.events.inc();
        let actions: Vec<Action> = out.drain().collect();
        self.recorder.actions(&actions);
        // Asked after all that took time: nothing is between this and the effects.
        if !self.authority.holds() {
            return;
        }
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Persist { seq, facts } => {
                let is_removal = |fact: &Fact| matches!(fact, Fact::FrameworkRemoved { .. });
                if facts.iter().any(is_removal) {
                    self.framework_removed.notify_one();
                }
                self.waiting.facts.extend(facts);
                self.waiting.facts_seq = seq;
            }
            Action::Send {
                connection,
                message,
            } => self.send(connection, *message),
            Action::Close { connection } => {
                if let Some(agent) = self.waiting.connections.remove(&connection) {
                    agent.close("the host ended the connection");
                }
            }
            Action::StartFramework(record) => {
                self.waiting
                    .names
                    .insert(record.framework, Arc::clone(&record.name));
                self.frameworks.start(*record);
            }
            Action::StopFramework { framework } => self.frameworks.stop(framework),
            Action::RunStep {
                framework,
                attempt,
                batch,
            } => self.frameworks.step(framework, attempt, *batch),
            action @ (Action::RunPolicy { .. }
            | Action::FeedCandidate { .. }
            | Action::SwitchPolicy { .. }
            | Action::DropCandidate { .. }
            | Action::LoadPolicy(_)
            | Action::RunTenant { .. }
            | Action::DropTenant { .. }
            | Action::CarryPolicy) => {
                let others = self.policies.perform(action);
                debug_assert!(others.is_none(), "all of them are for policies");
            }
            Action::Reply { ticket, reply } => {
                if let Some(waiting) = self.waiting.tickets.remove(&ticket) {
                    // Whoever asked has gone: nobody misses the answer.
                    let _gone = waiting.send(reply).is_err();
                }
            }
            Action::Wake(at) => self.waiting.wake = Some(at),
            Action::Note { framework, why } => self.note(framework, &why),
        }
    }

    fn note(&self, framework: Option<FrameworkId>, why: &Reason) {
        let name = framework
            .and_then(|id| self.waiting.names.get(&id))
            .map_or("", |name| &**name);
        tracing::warn!(framework = name, code = %why.code, "{}", why.text);
    }

    fn send(&mut self, connection: ConnectionId, message: ToAgent) {
        let Some(agent) = self.waiting.connections.get(&connection) else {
            return;
        };
        if let Err(error) = agent.send(message) {
            tracing::warn!(%error, connection = connection.0, "a message to an agent was not sent");
            self.metrics.messages_unsent.inc();
        }
    }

    fn connection(&mut self, event: AgentConnectionEvent) {
        match event {
            AgentConnectionEvent::Opened {
                connection,
                peer,
                to_agent,
            } => {
                tracing::debug!(connection = connection.0, peer, "an agent connected");
                self.waiting
                    .connections
                    .insert(ConnectionId(connection.0), to_agent);
            }
            AgentConnectionEvent::Message {
                connection,
                message,
            } => {
                let connection = ConnectionId(connection.0);
                self.handle(match message {
                    FromAgent::Register(registration) => Event::AgentRegistered {
                        connection,
                        registration,
                    },
                    FromAgent::Update(update) => Event::TaskUpdated { connection, update },
                    FromAgent::Heartbeat => Event::AgentHeard { connection },
                });
            }
            AgentConnectionEvent::Closed { connection, why } => {
                tracing::info!(
                    connection = connection.0,
                    why,
                    "an agent's connection ended"
                );
                let connection = ConnectionId(connection.0);
                self.waiting.connections.remove(&connection);
                self.handle(Event::AgentDisconnected { connection });
            }
        }
    }

    /// So many facts are on the disk.
    fn stored(&mut self, facts: u64) {
        self.metrics.commits.inc();
        if let Some(before) = self.waiting.replaced_len.take() {
            tracing::info!(before, after = facts, "a snapshot replaced the journal");
            self.journal_len = facts;
            self.journal_limit.replaced(facts);
        }
        if let Some(seq) = self.waiting.writing_seq.take() {
            self.handle(Event::Persisted(seq));
        }
    }

    fn give_store_work(&mut self) {
        if self.persister.is_busy() {
            return;
        }
        if !self.waiting.facts.is_empty() {
            let facts = std::mem::take(&mut self.waiting.facts);
            self.journal_len += facts.len() as u64;
            self.metrics.facts.inc_by(facts.len() as u64);
            self.waiting.writing_seq = Some(self.waiting.facts_seq);
            self.persister.give(Job::Append(facts));
        } else if self.is_snapshot_due() && self.core.held_effects() == 0 {
            // Nothing waits and nothing is held back: all that the core knows is durable.
            // How long it is, the thread that makes it will say.
            self.waiting.replaced_len = Some(std::mem::take(&mut self.journal_len));
            self.persister.give(Job::Snapshot(self.core.snapshot()));
        }
    }

    fn is_snapshot_due(&self) -> bool {
        let led_for = self.clock.now().since(self.began);
        self.journal_limit.is_due(self.journal_len, led_for)
    }

    fn must_wait_for_store(&self) -> bool {
        let behind = self.waiting.facts.len() >= FACTS_WAITING_MAX;
        let overdue = self.journal_limit.is_overdue(self.journal_len);
        self.persister.is_busy() && (behind || overdue)
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
