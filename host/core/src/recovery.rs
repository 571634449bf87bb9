//! From facts back to a core.

use std::fmt;
use std::sync::Arc;

use proffer_model::fact::{AgentRecord, Effect, Fact, FrameworkStanding, LaunchRecord};
use proffer_model::framework::Standing;
use proffer_model::{AgentId, FrameworkId, Quantity, Resources, Timestamp};

use crate::agenda::Deadline;
use crate::agents::Agent;
use crate::config::{CoreConfig, ID_GAP};
use crate::framework::Item;
use crate::machine::Core;
use crate::pace::Pace;

/// Why facts do not make a core: the store is of another version or damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverError {
    /// Which fact, counted from 0.
    pub index: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fact {} does not fit those before it: {}",
            self.index, self.problem
        )
    }
}

impl std::error::Error for RecoverError {}

/// A core in the making: it takes facts one by one, as somebody else's core commits them, and can go
/// on at any moment where they end.
#[derive(Debug)]
pub struct Replica {
    core: Core,
    /// Facts taken.
    taken: usize,
}

impl Replica {
    /// One that knows no facts yet.
    #[must_use]
    pub fn new(config: CoreConfig, now: Timestamp) -> Self {
        let mut core = Core::new(config, now);
        core.replaying = true;
        // No host has said that it runs.
        core.alive_at = Timestamp(0);
        Self { core, taken: 0 }
    }

    /// Takes the next fact.
    ///
    /// # Errors
    /// If it is about something that no fact before it made; the replica is of no use then.
    pub fn apply(&mut self, fact: Fact) -> Result<(), RecoverError> {
        let index = self.taken;
        self.taken += 1;
        self.core
            .replay(fact)
            .map_err(|problem| RecoverError { index, problem })
    }

    /// The core. Agents are disconnected until they register; frameworks are started by the first
    /// [`Core::handle`].
    ///
    /// Time goes on no earlier than facts have told, whatever the clock shows.
    #[must_use]
    pub fn lead(self, clock: Timestamp) -> Core {
        let mut core = self.core;
        core.now = core.now.max(clock).max(core.told_until());
        core.pace = Pace::new(clock, core.now);
        core.note_clock(clock);
        core.replaying = false;
        core.recovered = true;
        core.ids.next = core.ids.below + ID_GAP;
        core.ids.next_request = core.ids.requests_below + ID_GAP;
        core.resume();
        core.end_canary_of_before();
        core.after_replay();
        core
    }
}

impl Core {
    /// A core that goes on where the facts end. Agents are disconnected until they register;
    /// frameworks are started by the first [`Core::handle`].
    ///
    /// # Errors
    /// A fact about something that no fact before it made.
    pub fn recover(
        config: CoreConfig,
        facts: impl IntoIterator<Item = Fact>,
        now: Timestamp,
    ) -> Result<Self, RecoverError> {
        let mut replica = Replica::new(config, now);
        for fact in facts {
            replica.apply(fact)?;
        }
        Ok(replica.lead(now))
    }

    fn replay(&mut self, fact: Fact) -> Result<(), String> {
        match fact {
            Fact::IdsReserved {
                offers_below,
                requests_below,
            } => {
                self.ids.below = self.ids.below.max(offers_below);
                self.ids.requests_below = self.ids.requests_below.max(requests_below);
            }
            Fact::AgentSet(record) => self.replay_agent(*record),
            Fact::AgentGone(record) => {
                self.remove_agent(record.agent);
                self.next_agent = self.next_agent.max(record.agent.0.saturating_add(1));
                self.gone.insert(*record);
            }
            Fact::AgentUnreachable { agent, since } => {
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.standing = Standing::Unreachable;
                    agent.since = since;
                    agent.told_away = true;
                }
            }
            Fact::AgentReturned { agent } => {
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.standing = Standing::Disconnected;
                    agent.told_away = false;
                }
            }
            Fact::HostAlive { at } => self.alive_at = self.alive_at.max(at),
            Fact::HostResumed { at, away } => {
                self.put_off(away);
                self.alive_at = self.alive_at.max(at);
            }
            Fact::FrameworkSet(record) => {
                let framework = record.framework;
                self.next_framework = self.next_framework.max(framework.0.saturating_add(1));
                match self.frameworks.get_mut(&framework) {
                    Some(fw) => fw.record = *record,
                    None => self.insert_framework(*record),
                }
                self.demands_changed(framework);
            }
            Fact::FrameworkRemoved { framework } => {
                self.next_framework = self.next_framework.max(framework.0.saturating_add(1));
                self.remove_framework(framework);
            }
            Fact::StepCommitted(step) => {
                self.known_framework(step.framework)?;
                for effect in &step.effects {
                    self.replay_effect(step.framework, effect)?;
                }
                if let Some(fw) = self.frameworks.get_mut(&step.framework) {
                    fw.record.step = step.step;
                }
            }
            Fact::Changed { framework, effect } => {
                self.known_framework(framework)?;
                self.replay_effect(framework, &effect)?;
            }
            Fact::RoleSet { role, weight } => {
                self.handles.roles.set_weight(&role, weight);
            }
            Fact::QuotaSet { role, quotas } => {
                self.handles.roles.set_quota(&role, quotas);
            }
            Fact::AgentShaped(shape) => self.replay_shape(*shape)?,
            Fact::AgentsAllowed { agents } => {
                self.allowed = agents.map(|agents| agents.into_iter().collect());
            }
            Fact::FrameworkShaped { framework, options } => {
                self.known_framework(framework)?;
                self.put_options(framework, *options)
                    .map_err(|why| why.text)?;
            }
            Fact::PolicySet(record) => self.replay_policy(*record),
            Fact::RolePolicySet { role, policy } => {
                self.put_role_policy(&role, policy.map(|record| *record));
            }
            Fact::PolicyCarried { sections } => self.replay_carried(sections),
            Fact::ReservationsDecided { framework, fate } => {
                self.known_framework(framework)?;
                if let Some(fw) = self.frameworks.get_mut(&framework) {
                    fw.reservations = fate;
                }
            }
        }
        Ok(())
    }

    fn known_framework(&self, framework: FrameworkId) -> Result<(), String> {
        if self.frameworks.contains_key(&framework) {
            Ok(())
        } else {
            Err(format!("there is no {framework}"))
        }
    }

    fn replay_agent(&mut self, record: AgentRecord) {
        let id = record.agent;
        self.next_agent = self.next_agent.max(id.0.saturating_add(1));
        self.agent_keys.insert(record.key.clone(), id);
        match self.agents.get_mut(&id) {
            Some(agent) => {
                // What differs from it is said by the shape that follows.
                let plain = proffer_model::Resources::plain(record.total.clone());
                agent.account.set_total(plain.plus(&agent.special));
                agent.record = record;
            }
            None => {
                let mut agent = Agent::new(record, self.now);
                agent.awaited = true;
                self.agents.insert(id, Box::new(agent));
            }
        }
    }

    fn replay_effect(&mut self, framework: FrameworkId, effect: &Effect) -> Result<(), String> {
        // One that is gone may be forgotten; what ran there has ended.
        if let Effect::TaskLaunched(launch) = effect
            && launch.agent.0 >= self.next_agent
        {
            return Err(format!("there is no {}", launch.agent));
        }
        self.apply_effect(framework, effect);
        if let Effect::TaskLaunched(launch) = effect {
            self.replay_holding(framework, launch);
        }
        if let Effect::Converted { agent, from, to } = effect {
            let agent = self
                .agents
                .get_mut(agent)
                .ok_or_else(|| format!("there is no {agent}"))?;
            agent.account.retotal(from, to);
        }
        Ok(())
    }

    /// A replayed launch holds its resources, unless facts show that it ended: a port that was given
    /// to a later launch on the agent had come free before. That an agent has said so is in no fact
    /// until the framework has taken it.
    fn replay_holding(&mut self, framework: FrameworkId, launch: &LaunchRecord) {
        let mut ended = Vec::new();
        let mut is_last = true;
        let items = share_items(&launch.task.resources, &launch.task.resources);
        let others = if items {
            self.tasks_on(launch.agent)
        } else {
            Vec::new()
        };
        for (number, owner, id) in others {
            let Some(other) = self.task(owner, &id) else {
                continue;
            };
            let holds = number != launch.launch && other.holds;
            if !holds || !share_items(&other.spec.resources, &launch.task.resources) {
                continue;
            }
            if number < launch.launch {
                ended.push((owner, id));
            } else {
                is_last = false;
            }
        }
        for (owner, id) in ended {
            self.release_task(owner, &id);
        }
        let client = self.client_of(framework, &launch.role);
        if let Some(agent) = self.agents.get_mut(&launch.agent).filter(|_| is_last) {
            agent.account.occupy(client, &launch.task.resources);
        } else if let Some(task) = self
            .frameworks
            .get_mut(&framework)
            .and_then(|fw| fw.tasks.get_mut(&launch.task.id))
            .map(Arc::make_mut)
        {
            task.holds = false;
        }
    }

    /// What follows from the facts but is in none of them.
    fn after_replay(&mut self) {
        let now = self.now;
        let timeout = self.config.agent_timeout;
        let ids: Vec<(AgentId, Standing)> = self
            .agents
            .iter()
            .map(|(id, agent)| (*id, agent.standing))
            .collect();
        for (id, standing) in ids {
            if standing == Standing::Unreachable {
                self.expect_gone(id);
            } else {
                self.agenda
                    .add(now + timeout, Deadline::AgentUnreachable(id));
            }
            if self
                .agents
                .get(&id)
                .is_some_and(|agent| agent.down.is_some())
            {
                self.inverses.down.insert(id);
            }
        }
        let frameworks: Vec<FrameworkId> = self.frameworks.keys().copied().collect();
        for framework in frameworks {
            // What is wanted follows from all facts together: a demand may have been set while its
            // role was suppressed, and the role revived after.
            self.demands_changed(framework);
            let Some(fw) = self.frameworks.get(&framework) else {
                continue;
            };
            let numbers: Vec<u64> = fw.durable.keys().copied().collect();
            let standing = fw.record.standing.clone();
            for number in numbers {
                self.enqueue(framework, Item::Durable(number));
            }
            match standing {
                FrameworkStanding::Active => self.start_framework(framework),
                FrameworkStanding::Quarantined(_) => {}
                FrameworkStanding::Removing(_) => {
                    self.removing.insert(framework);
                }
            }
        }
        self.everything_wanted();
    }
}

/// Whether both name an item of a range or a set that is there only once.
fn share_items(one: &Resources, other: &Resources) -> bool {
    one.piles().any(|(terms, one)| {
        let Some(other) = other.get(terms) else {
            return false;
        };
        let ports = one.ports.difference(&other.ports) != one.ports;
        ports
            || one
                .other
                .iter()
                .any(|(kind, quantity)| match (quantity, other.other.get(kind)) {
                    (Quantity::Ranges(one), Some(Quantity::Ranges(other))) => {
                        one.difference(other) != *one
                    }
                    (Quantity::Items(one), Some(Quantity::Items(other))) => !one.is_disjoint(other),
                    _ => false,
                })
    })
}
