//! Agents that are away: disconnected, unreachable and gone are three different things.
//!
//! *Disconnected*: its connection broke; its offers are taken back, frameworks are told, nothing is
//! decided. *Unreachable*, after [`crate::CoreConfig::agent_timeout`]: its tasks are in doubt, and
//! may come back. *Gone*, by an operator's word or after [`crate::CoreConfig::agent_gone_after`]: its
//! tasks are lost, and it is refused if it returns. That an agent is unreachable is told on time
//! however many are; that many are given up at once is braked, so that somebody can look first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proffer_codec::codec_struct;
use proffer_model::fact::{Fact, GoneRecord};
use proffer_model::framework::{AgentChange, Event as Told, Standing};
use proffer_model::{
    AgentId, FrameworkId, LaunchNumber, Reason, Remedy, TaskId, TaskState, Timestamp, code,
};

use crate::action::Reply;
use crate::agenda::Deadline;
use crate::event::Ticket;
use crate::framework::Item;
use crate::machine::Core;

/// Agents that are remembered as gone, so that they are refused: Mesos's number. The lowest ids go
/// first; what returns after that is a new agent, and what it still runs is told to end.
const GONE_AGENTS_MAX: usize = 102_400;

/// Agents that are gone, and the brake on giving up more.
#[derive(Debug, Default)]
pub(crate) struct GoneAgents {
    pub(crate) records: BTreeMap<AgentId, GoneRecord>,
    keys: BTreeSet<String>,
    /// Given up as soon as the brake lets them, the longest away first.
    waiting: BTreeSet<(Timestamp, AgentId)>,
    /// When the last ones were given up by time.
    given_up: VecDeque<Timestamp>,
}

codec_struct!(GoneAgents {
    records,
    keys,
    waiting,
    given_up
});

/// An agent that is gone, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneView {
    /// Its id.
    pub id: AgentId,
    /// Its machine's name.
    pub hostname: String,
    /// When it was given up.
    pub since: Timestamp,
    /// Why.
    pub why: Reason,
}

impl GoneAgents {
    pub(crate) fn hostname(&self, agent: AgentId) -> &str {
        self.records
            .get(&agent)
            .map_or("", |record| record.hostname.as_str())
    }

    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    pub(crate) fn insert(&mut self, record: GoneRecord) {
        self.keys.insert(record.key.clone());
        self.records.insert(record.agent, record);
        while self.records.len() > GONE_AGENTS_MAX {
            if let Some((_, oldest)) = self.records.pop_first() {
                self.keys.remove(&oldest.key);
            }
        }
    }
}

impl Core {
    /// It has been away for too long: its tasks are in doubt.
    pub(crate) fn agent_unreachable(&mut self, id: AgentId) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        // The deadline of an earlier disconnection says nothing about this one.
        let away = now.since(agent.since) >= self.config.agent_timeout;
        if agent.connection.is_some() || agent.standing == Standing::Unreachable || !away {
            return;
        }
        agent.standing = Standing::Unreachable;
        agent.since = now;
        self.facts.push(Fact::AgentUnreachable {
            agent: id,
            since: now,
        });
        self.expect_gone(id);
        for (_, framework, task) in self.tasks_on(id) {
            let ended = self
                .task(framework, &task)
                .is_none_or(|task| task.latest.is_final());
            if ended {
                continue;
            }
            let why = Reason::new(
                code::AGENT_LOST,
                Remedy::Retry,
                "its agent cannot be reached",
            );
            self.decide_task(framework, &task, TaskState::Unreachable, why);
        }
        self.tell_agent_change(id, Standing::Unreachable);
    }

    /// Sets the time at which an unreachable agent is given up.
    pub(crate) fn expect_gone(&mut self, id: AgentId) {
        if let (Some(after), Some(agent)) = (self.config.agent_gone_after, self.agents.get(&id)) {
            self.agenda
                .add(agent.since + after, Deadline::AgentGone(id));
        }
    }

    /// It has been unreachable for too long: it is given up as soon as the brake lets it.
    pub(crate) fn agent_gone_due(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get(&id) else {
            return;
        };
        // It may have been back in between.
        let due = self
            .config
            .agent_gone_after
            .is_some_and(|after| self.now.since(agent.since) >= after);
        if agent.standing == Standing::Unreachable && due {
            self.gone.waiting.insert((agent.since, id));
            self.give_up_agents();
        }
    }

    /// Gives up as many of those that wait as the brake lets: so many within so long.
    pub(crate) fn give_up_agents(&mut self) {
        let (max, window) = self.config.agent_removals;
        let now = self.now;
        while self
            .gone
            .given_up
            .front()
            .is_some_and(|at| now.since(*at) >= window)
        {
            self.gone.given_up.pop_front();
        }
        while self.gone.given_up.len() < max as usize {
            let Some((since, id)) = self.gone.waiting.pop_first() else {
                return;
            };
            self.gone.given_up.push_back(now);
            let away = now.since(since);
            let text = format!("it could not be reached for {away}");
            self.declare_gone(id, TaskState::Gone, &text);
        }
        if let Some(first) = self
            .gone
            .given_up
            .front()
            .filter(|_| !self.gone.waiting.is_empty())
        {
            self.agenda.add(*first + window, Deadline::BrakeLoosens);
        }
    }

    /// An agent is back: nobody gives it up.
    pub(crate) fn forget_absence(&mut self, id: AgentId, since: Timestamp) {
        self.gone.waiting.remove(&(since, id));
        if let Some(after) = self.config.agent_gone_after {
            self.agenda.remove(since + after, Deadline::AgentGone(id));
        }
        self.facts.push(Fact::AgentReturned { agent: id });
    }

    /// An operator says that an agent will not be back.
    pub(crate) fn agent_gone_asked(&mut self, ticket: Ticket, name: &str) {
        let Some(id) = self.find_agent(name) else {
            let text = format!("there is no agent '{name}'");
            let why = Reason::new(code::UNKNOWN, Remedy::ChooseAnew, text);
            return self.reply(ticket, Reply::Refused(why));
        };
        if self.agents.get(&id).is_some_and(|agent| agent.is_active()) {
            let text = format!("{id} is connected: end it first, then say that it is gone");
            let why = Reason::new(code::INVALID, Remedy::ChooseAnew, text);
            return self.reply(ticket, Reply::Refused(why));
        }
        self.declare_gone(
            id,
            TaskState::GoneByOperator,
            "an operator declared it gone",
        );
        self.reply(ticket, Reply::Done);
    }

    /// Its tasks are lost, its outputs too, and it is refused from now on.
    pub(crate) fn declare_gone(&mut self, id: AgentId, state: TaskState, text: &str) {
        let concerned = self.concerned_by(id);
        for (_, framework, task) in self.tasks_on(id) {
            let Some(known) = self.task(framework, &task) else {
                continue;
            };
            if known.queued_state.is_final() {
                // Its end waits for its framework's next step.
                continue;
            }
            let (state, why) = if known.latest.is_final() {
                let text = "its end was heard of before its agent was gone";
                (
                    known.latest,
                    Reason::new(code::AGENT_LOST, Remedy::Retry, text),
                )
            } else {
                let text = format!("its agent is gone: {text}");
                (state, Reason::new(code::AGENT_LOST, Remedy::Retry, text))
            };
            self.decide_task(framework, &task, state, why);
        }
        self.drop_agent_filters(id);
        self.inverses.down.remove(&id);
        self.forget_inverses(|(agent, _)| *agent == id);
        let Some(agent) = self.remove_agent(id) else {
            return;
        };
        let record = GoneRecord {
            agent: id,
            key: agent.record.key.clone(),
            hostname: agent.record.info.hostname.to_string(),
            at: self.now,
            why: Reason::new(code::AGENT_LOST, Remedy::Denied, text),
        };
        self.gone.waiting.remove(&(agent.since, id));
        self.gone.insert(record.clone());
        self.facts.push(Fact::AgentGone(Box::new(record)));
        self.tell_change(concerned, id, Standing::Gone);
        let text = format!("{id} ({}) is gone: {text}", agent.record.info.hostname);
        self.note(None, Reason::new(code::AGENT_LOST, Remedy::Denied, text));
        self.finish_removals();
    }

    /// Takes an agent out; live and in recovery alike. The outputs that it served keep their names: they
    /// are lost until others finish under them.
    pub(crate) fn remove_agent(&mut self, id: AgentId) -> Option<Box<crate::agents::Agent>> {
        let agent = self.agents.remove(&id)?;
        self.agent_keys.remove(&agent.record.key);
        self.feed.forget_agent(id);
        Some(agent)
    }

    /// Agents that are gone, by id, those after `after`.
    pub fn gone_agents(&self, after: Option<AgentId>) -> impl Iterator<Item = GoneView> {
        let from = after.map_or(0, |id| id.0.saturating_add(1));
        let records = self.gone.records.range(AgentId(from)..);
        records.map(|(id, record)| GoneView {
            id: *id,
            hostname: record.hostname.clone(),
            since: record.at,
            why: record.why.clone(),
        })
    }

    /// Agents that are remembered as gone.
    #[must_use]
    pub fn agents_gone(&self) -> usize {
        self.gone.records.len()
    }

    /// Unreachable agents whose time is up, and which the brake keeps.
    #[must_use]
    pub fn agents_braked(&self) -> usize {
        self.gone.waiting.len()
    }

    /// An agent by its id (`agent-7` or `7`) or hostname, if only one has it.
    fn find_agent(&self, name: &str) -> Option<AgentId> {
        self.agent_named(name).map(|view| view.id)
    }

    /// Tasks there whose frameworks have not been told an end.
    pub(crate) fn tasks_on(&self, id: AgentId) -> Vec<(LaunchNumber, FrameworkId, TaskId)> {
        let Some(agent) = self.agents.get(&id) else {
            return Vec::new();
        };
        let owner = |launch: &LaunchNumber| {
            self.launches
                .get(launch)
                .map(|(f, t)| (*launch, *f, t.clone()))
        };
        agent.launches.iter().filter_map(owner).collect()
    }

    /// Frameworks with tasks or outputs there are told.
    pub(crate) fn tell_agent_change(&mut self, id: AgentId, standing: Standing) {
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.told_away = standing != Standing::Returned;
        }
        let concerned = self.concerned_by(id);
        self.tell_change(concerned, id, standing);
    }

    fn tell_change(&mut self, concerned: Vec<FrameworkId>, id: AgentId, standing: Standing) {
        let change = AgentChange {
            agent: id,
            standing,
            since: self.now,
        };
        for framework in concerned {
            let Some(fw) = self.frameworks.get_mut(&framework) else {
                continue;
            };
            if fw.is_quarantined() {
                // Agents that come and go while nobody listens may not fill its queue.
                fw.changes_missed.insert(id, change.clone());
                continue;
            }
            let told = Told::AgentsChanged(vec![change.clone()]);
            self.enqueue(framework, Item::Told(Box::new(told)));
        }
    }

    fn concerned_by(&self, id: AgentId) -> Vec<FrameworkId> {
        let holds_there = |client| {
            self.agents
                .get(&id)
                .is_some_and(|agent| agent.account.held_by(client).is_some())
        };
        self.frameworks
            .iter()
            .filter(|(_, fw)| {
                fw.clients.values().any(|client| holds_there(*client)) || fw.outputs.on_agent(id)
            })
            .map(|(framework, _)| *framework)
            .collect()
    }
}
