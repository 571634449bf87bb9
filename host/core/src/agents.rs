//! Agents: registration, loss and return.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proffer_codec::codec_struct;
use proffer_model::agent::{KnownLaunch, Registration, ToAgent};
use proffer_model::fact::{AgentRecord, AgentShape, Fact};
use proffer_model::framework::Standing;
use proffer_model::{
    AgentId, Duration, LaunchNumber, OfferId, Reason, Remedy, Resources, TaskState, Timestamp,
    Window, code,
};

use crate::account::Account;
use crate::action::Action;
use crate::agenda::Deadline;
use crate::event::ConnectionId;
use crate::handles::ClientId;
use crate::machine::Core;

/// An agent and its ledger.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) record: AgentRecord,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) standing: Standing,
    pub(crate) since: Timestamp,
    pub(crate) last_heard: Timestamp,
    pub(crate) account: Account,
    pub(crate) offers: Vec<OfferId>,
    /// Of tasks there whose frameworks have not been told an end.
    pub(crate) launches: BTreeSet<LaunchNumber>,
    /// Known from facts alone: it has not registered since this host began.
    pub(crate) awaited: bool,
    /// Reserved, revocable and indivisible piles that it registered with.
    pub(crate) special: Resources,
    /// An operator keeps it from being offered.
    pub(crate) deactivated: bool,
    /// When it is planned to be down.
    pub(crate) down: Option<Window>,
    /// What is in use there that no task of ours accounts for.
    pub(crate) reported: BTreeMap<ClientId, Resources>,
    /// Frameworks were told that it is away.
    pub(crate) told_away: bool,
}

codec_struct!(Agent {
    record,
    connection,
    standing,
    since,
    last_heard,
    account,
    offers,
    launches,
    awaited,
    special,
    deactivated,
    down,
    reported,
    told_away
});

impl Agent {
    pub(crate) fn new(record: AgentRecord, now: Timestamp) -> Self {
        Self {
            account: Account::new(Resources::plain(record.total.clone())),
            record,
            connection: None,
            standing: Standing::Disconnected,
            since: now,
            last_heard: now,
            offers: Vec::new(),
            launches: BTreeSet::new(),
            awaited: false,
            special: Resources::none(),
            deactivated: false,
            down: None,
            reported: BTreeMap::new(),
            told_away: false,
        }
    }

    /// Whether outputs on it can be fetched, or will be in a moment.
    pub(crate) fn serves_outputs(&self) -> bool {
        self.is_active() || (self.awaited && self.standing == Standing::Disconnected)
    }

    /// Whether it is offered.
    pub(crate) fn is_active(&self) -> bool {
        self.connection.is_some()
    }

    pub(crate) fn has_gpus(&self) -> bool {
        let mut piles = self.account.total().piles();
        piles.any(|(_, bundle)| !bundle.gpus.is_zero())
    }

    /// What host and operators made of it.
    pub(crate) fn shape(&self) -> AgentShape {
        AgentShape {
            agent: self.record.agent,
            special: self.special.clone(),
            total: self.account.total().clone(),
            deactivated: self.deactivated,
            down: self.down,
        }
    }

    /// Whether it is other than it registered, so that a snapshot must say so.
    pub(crate) fn is_shaped(&self) -> bool {
        self.deactivated
            || self.down.is_some()
            || *self.account.total() != Resources::plain(self.record.total.clone())
    }
}

impl Core {
    /// An agent says what it is and runs.
    pub(crate) fn agent_registered(
        &mut self,
        connection: ConnectionId,
        registration: Registration,
    ) {
        if self.gone.has_key(&registration.key) {
            let why = "this agent was declared gone; give it a new data directory".to_owned();
            self.emit(Action::Send {
                connection,
                message: Box::new(ToAgent::Refused { why }),
            });
            self.emit(Action::Close { connection });
            return;
        }
        let id = self.agent_for(&registration);
        if self
            .connections
            .get(&connection)
            .is_some_and(|other| *other != id)
        {
            // One connection is one agent: whoever spoke on it before has left it.
            self.agent_disconnected(connection);
        }
        let Some(agent) = self.agents.get(&id) else {
            return;
        };
        if let Some(old) = agent.connection.filter(|old| *old != connection) {
            // Fenced: what still comes on the old connection is not the agent any more.
            self.connections.remove(&old);
            self.emit(Action::Close { connection: old });
            self.rescind_agent_offers(
                id,
                &Reason::new(
                    code::AGENT_DISCONNECTED,
                    Remedy::ChooseAnew,
                    "the agent reconnected",
                ),
            );
        }
        let was_offered = self.agents.get(&id).is_some_and(|agent| agent.is_active());
        self.connections.insert(connection, id);
        let (rebooted, changed) = self.update_agent(id, connection, &registration);
        let message = ToAgent::Registered {
            agent: id,
            heartbeat: self.config.heartbeat,
            timeout: self.config.agent_timeout,
        };
        self.emit_durable(Action::Send {
            connection,
            message: Box::new(message),
        });
        self.reconcile_launches(id, connection, &registration.launches, rebooted);
        self.feed.agents.insert(id);
        if changed || !was_offered || self.allocates_on_events() {
            self.agent_came(id);
        }
        self.finish_removals();
    }

    /// The agent's id: the one that it had, or a new one.
    fn agent_for(&mut self, registration: &Registration) -> AgentId {
        let known = self
            .agent_keys
            .get(&registration.key)
            .copied()
            .filter(|id| registration.agent.is_none_or(|claimed| claimed == *id));
        if let Some(id) = known {
            return id;
        }
        let id = AgentId(self.next_agent);
        self.next_agent = self.next_agent.saturating_add(1);
        let record = record_of(id, registration);
        self.agent_keys.insert(registration.key.clone(), id);
        let agent = Agent::new(record.clone(), self.now);
        self.agents.insert(id, Box::new(agent));
        self.facts.push(Fact::AgentSet(Box::new(record)));
        id
    }

    /// Takes over what may have changed; answers whether the machine was rebooted, and whether
    /// anything is other than before.
    fn update_agent(
        &mut self,
        id: AgentId,
        connection: ConnectionId,
        registration: &Registration,
    ) -> (bool, bool) {
        let now = self.now;
        let record = record_of(id, registration);
        let Some(agent) = self.agents.get_mut(&id) else {
            return (false, false);
        };
        let rebooted = agent.record.boot != record.boot;
        let returned = std::mem::take(&mut agent.told_away);
        let was_awaited = std::mem::take(&mut agent.awaited);
        let unreachable_since = (agent.standing == Standing::Unreachable).then_some(agent.since);
        let attributes_changed = agent.record.info != record.info;
        let plain = Resources::plain(record.total.clone()).plus(&registration.special);
        let before = Resources::plain(agent.record.total.clone()).plus(&agent.special);
        // What was reserved and made of it at run time stays.
        let more = plain.minus_down_to_zero(&before);
        let total = agent.account.total().plus(&more);
        let total = total.minus_down_to_zero(&before.minus_down_to_zero(&plain));
        let total_changed = plain != before;
        let special_changed = agent.special != registration.special;
        agent.special.clone_from(&registration.special);
        let changed = agent.record != record;
        agent.record = record.clone();
        agent.connection = Some(connection);
        agent.last_heard = now;
        agent.since = now;
        agent.standing = Standing::Returned;
        if was_awaited && unreachable_since.is_none() {
            self.agent_is_back();
        }
        if let Some(since) = unreachable_since {
            self.forget_absence(id, since);
        }
        if total_changed {
            self.with_total(id, total);
        }
        if attributes_changed {
            self.drop_agent_filters(id);
        }
        if changed {
            self.facts.push(Fact::AgentSet(Box::new(record)));
        }
        if special_changed
            || self
                .agents
                .get(&id)
                .is_some_and(|agent| changed && agent.is_shaped())
        {
            self.note_shape(id);
        }
        if returned {
            self.tell_agent_change(id, Standing::Returned);
        }
        (rebooted, changed || special_changed)
    }

    /// Compares what the agent runs with what it should run.
    fn reconcile_launches(
        &mut self,
        id: AgentId,
        connection: ConnectionId,
        known: &[KnownLaunch],
        rebooted: bool,
    ) {
        let reported: BTreeSet<LaunchNumber> = known.iter().map(|launch| launch.launch).collect();
        for launch in known {
            self.launch_reported(id, connection, launch);
        }
        let mut again = BTreeSet::new();
        for (launch, framework, task_id) in self.tasks_on(id) {
            if reported.contains(&launch) {
                continue;
            }
            let Some(task) = self
                .frameworks
                .get(&framework)
                .and_then(|f| f.tasks.get(&task_id))
            else {
                continue;
            };
            if task.queued_state.is_final() {
                // It ended, and that waits for its framework's next step.
                continue;
            }
            if task.seen {
                let text = if rebooted {
                    "its machine was rebooted"
                } else {
                    "its agent does not know it any more"
                };
                let why = Reason::new(code::AGENT_LOST, Remedy::Retry, text);
                self.decide_task(framework, &task_id, TaskState::Gone, why);
            } else {
                // Committed, but the message was lost: the agent runs a number at most once.
                again.insert((framework, task.group));
            }
        }
        for (framework, group) in again {
            self.send_launches(framework, group);
        }
    }

    /// One launch that the agent remembers.
    fn launch_reported(&mut self, id: AgentId, connection: ConnectionId, known: &KnownLaunch) {
        let owner = self
            .launches
            .get(&known.launch)
            .filter(|(owner, _)| *owner == known.framework)
            .cloned();
        let Some((framework, task_id)) = owner else {
            let gone = !self.frameworks.contains_key(&known.framework);
            let message = if gone {
                ToAgent::RemoveFramework {
                    framework: known.framework,
                }
            } else {
                ToAgent::Kill {
                    framework: known.framework,
                    launch: known.launch,
                    grace: Duration::ZERO,
                }
            };
            self.emit_durable(Action::Send {
                connection,
                message: Box::new(message),
            });
            return;
        };
        let Some(task) = self
            .frameworks
            .get_mut(&framework)
            .and_then(|f| f.tasks.get_mut(&task_id))
            .map(Arc::make_mut)
        else {
            return;
        };
        if task.agent != id {
            return;
        }
        task.seen = true;
        if task.state.is_final() && !known.latest.is_final() {
            // Its framework was told that it is over, so it must be.
            self.emit_durable(Action::Send {
                connection,
                message: Box::new(ToAgent::Kill {
                    framework,
                    launch: known.launch,
                    grace: Duration::ZERO,
                }),
            });
            return;
        }
        let returned = task.state == TaskState::Unreachable && !known.latest.is_final();
        self.task_heard_latest(framework, &task_id, known.latest);
        if returned {
            let why = Reason::new(code::RECONCILIATION, Remedy::Retry, "its agent is back");
            self.decide_task(framework, &task_id, known.latest, why);
        }
        self.send_kill(framework, &task_id);
    }

    /// A sign of life; answers whose it was. Old connections are nobody's.
    pub(crate) fn heard(&mut self, connection: ConnectionId) -> Option<AgentId> {
        let id = *self.connections.get(&connection)?;
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.last_heard = self.now;
        }
        Some(id)
    }

    pub(crate) fn agent_disconnected(&mut self, connection: ConnectionId) {
        let Some(id) = self.connections.remove(&connection) else {
            return;
        };
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        if agent.connection != Some(connection) {
            return;
        }
        agent.connection = None;
        agent.standing = Standing::Disconnected;
        agent.since = now;
        self.agenda.add(
            now + self.config.agent_timeout,
            Deadline::AgentUnreachable(id),
        );
        self.feed.agents.insert(id);
        self.rescind_agent_offers(
            id,
            &Reason::new(
                code::AGENT_DISCONNECTED,
                Remedy::ChooseAnew,
                "the agent disconnected",
            ),
        );
        self.tell_agent_change(id, Standing::Disconnected);
        self.finish_removals();
    }

    /// Says heartbeats, and takes silent connections for dead.
    pub(crate) fn heartbeat_round(&mut self) {
        let now = self.now;
        let timeout = self.config.agent_timeout;
        // Whose registration is not durable yet is told nothing before that.
        let unanswered = self.gate.connections_waiting();
        let connected: Vec<(ConnectionId, bool)> = self
            .agents
            .values()
            .filter_map(|agent| {
                agent
                    .connection
                    .map(|c| (c, now.since(agent.last_heard) >= timeout))
            })
            .collect();
        for (connection, silent) in connected {
            if silent {
                self.emit(Action::Close { connection });
                self.agent_disconnected(connection);
            } else if !unanswered.contains(&connection) {
                self.emit(Action::Send {
                    connection,
                    message: Box::new(ToAgent::Heartbeat),
                });
            }
        }
        self.say_alive();
        self.agenda
            .add(now + self.config.heartbeat, Deadline::HeartbeatRound);
    }
}

fn record_of(id: AgentId, registration: &Registration) -> AgentRecord {
    AgentRecord {
        agent: id,
        key: registration.key.clone(),
        boot: registration.boot.clone(),
        info: Arc::clone(&registration.info),
        total: registration.total.clone(),
        data_address: registration.data_address.clone(),
    }
}
