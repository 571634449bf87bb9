//! What operators may look at: plain values, made when asked.

use std::sync::Arc;

use proffer_codec::codec_struct;
use proffer_model::fact::{BlamedEvent, FrameworkStanding, SkippedEvent, UpgradeRecord};
use proffer_model::framework::Standing;
use proffer_model::{
    AgentId, AgentInfo, Amount, Bundle, Demand, Duration, FrameworkId, LaunchNumber, OfferId,
    Reason, Resources, RoleName, StepNumber, TaskId, TaskState, Timestamp,
};

use crate::agents::Agent;
use crate::config::CoreConfig;
use crate::event::PolicyIdentity;
use crate::machine::Core;
use crate::sums::{Sums, add_scalars};

/// What has happened with a framework, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Offers made to it.
    pub offers_made: u64,
    /// Offers of which it used something.
    pub offers_accepted: u64,
    /// Offers that it gave back, or left unsettled.
    pub offers_declined: u64,
    /// Offers that it let expire: it hoards if this grows.
    pub offers_expired: u64,
    /// Offers taken back by the host.
    pub offers_rescinded: u64,
    /// Tasks launched.
    pub tasks_launched: u64,
    /// Steps committed.
    pub steps: u64,
    /// Steps that failed.
    pub steps_failed: u64,
    /// Answers that came too late.
    pub answers_stale: u64,
    /// Commands that were rejected.
    pub commands_rejected: u64,
    /// Updates that agents sent again.
    pub updates_repeated: u64,
    /// Requests passed on.
    pub requests: u64,
    /// Requests refused because too many waited.
    pub requests_refused: u64,
    /// Names of published sandboxes dropped because there were too many.
    pub outputs_dropped: u64,
}

codec_struct!(Counters {
    offers_made,
    offers_accepted,
    offers_declined,
    offers_expired,
    offers_rescinded,
    tasks_launched,
    steps,
    steps_failed,
    answers_stale,
    commands_rejected,
    updates_repeated,
    requests,
    requests_refused,
    outputs_dropped
});

/// The pool in one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// What all agents have.
    pub total: Bundle,
    /// What is on offer.
    pub offered: Bundle,
    /// What tasks hold.
    pub used: Bundle,
    /// Agents, connected or not.
    pub agents: usize,
    /// Connected ones.
    pub agents_active: usize,
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Open offers.
    pub offers: usize,
    /// Decline filters.
    pub filters: usize,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentView {
    /// Its id.
    pub id: AgentId,
    /// What it is.
    pub info: Arc<AgentInfo>,
    /// Whether it is offered.
    pub active: bool,
    /// Its standing.
    pub standing: Standing,
    /// Since when.
    pub since: Timestamp,
    /// When it will be given up if it stays away; later if many are.
    pub gone_at: Option<Timestamp>,
    /// What it has.
    pub total: Resources,
    /// What is free.
    pub free: Resources,
    /// What is held beyond a total that fell.
    pub deficit: Resources,
    /// What tasks hold.
    pub used: Bundle,
    /// What is on offer.
    pub offered: Bundle,
    /// Tasks there that have not ended.
    pub tasks: usize,
    /// Where it serves outputs and logs.
    pub data_address: String,
}

/// A framework.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkView {
    /// Its id.
    pub id: FrameworkId,
    /// Its name.
    pub name: Arc<str>,
    /// Its component's version.
    pub version: String,
    /// Its component's digest.
    pub digest: String,
    /// Its roles; suppressed ones with `true`.
    pub roles: Vec<(RoleName, bool)>,
    /// Whether it takes gpus.
    pub gpus: bool,
    /// Whether it steps.
    pub standing: FrameworkStanding,
    /// Its last committed step.
    pub step: StepNumber,
    /// Tasks that have not ended, and those that have and are remembered.
    pub tasks: (usize, usize),
    /// What tasks hold.
    pub used: Bundle,
    /// What is on offer to it.
    pub offered: Bundle,
    /// What it could use, since when, and how many units of each are on offer.
    pub demands: Vec<(Demand, Timestamp, u32)>,
    /// Its configuration.
    pub config: String,
    /// Events that wait.
    pub queued: usize,
    /// How its last failure came about.
    pub last_fault: Option<Reason>,
    /// How long it waits after a failure.
    pub retry_in: Option<Duration>,
    /// The version that is being tried.
    pub upgrading: Option<String>,
    /// What came of the last upgrade.
    pub last_upgrade: Option<UpgradeRecord>,
    /// The event that keeps it in quarantine.
    pub blamed: Option<BlamedEvent>,
    /// Events that operators had passed over, oldest first.
    pub skipped: Vec<SkippedEvent>,
    /// In numbers.
    pub counters: Counters,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// Its framework's name.
    pub framework: Arc<str>,
    /// Its framework.
    pub framework_id: FrameworkId,
    /// Its id.
    pub id: TaskId,
    /// Its template's name.
    pub template: String,
    /// Its launch.
    pub launch: LaunchNumber,
    /// Where.
    pub agent: AgentId,
    /// Its agent's machine.
    pub hostname: Arc<str>,
    /// Where its agent serves outputs and logs.
    pub data_address: String,
    /// Under which role.
    pub role: RoleName,
    /// The newest state known.
    pub state: TaskState,
    /// Why.
    pub why: Reason,
    /// Exit status.
    pub exit: Option<i32>,
    /// What it holds or held.
    pub resources: Resources,
    /// When it was launched.
    pub launched_at: Timestamp,
    /// When it began to run.
    pub running_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The name that its sandbox is published under.
    pub output: String,
}

/// An open offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferView {
    /// Its id.
    pub id: OfferId,
    /// To whom.
    pub framework: Arc<str>,
    /// Under which role.
    pub role: RoleName,
    /// Whose.
    pub agent: AgentId,
    /// What.
    pub resources: Resources,
    /// Until when.
    pub expires: Timestamp,
    /// For which demand.
    pub demand: String,
}

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyView {
    /// The one that was loaded last.
    pub loaded: Option<Arc<PolicyIdentity>>,
    /// Whether the fallback decides instead.
    pub fallback: bool,
    /// Why it was left out for good.
    pub left_out: Option<Reason>,
    /// Its last fault.
    pub last_fault: Option<Reason>,
    /// Consecutive failed cycles.
    pub failures: u32,
    /// Cycles answered.
    pub cycles: u64,
    /// Of those by the fallback.
    pub fallback_cycles: u64,
    /// Cycles that failed or held invalid grants.
    pub failed_cycles: u64,
    /// Grants committed.
    pub grants: u64,
    /// Grants that were wrong only when they came.
    pub grants_stale: u64,
    /// Grants that were wrong by what the policy knew.
    pub grants_invalid: u64,
}

impl Core {
    /// The pool in one line.
    #[must_use]
    pub fn pool(&self) -> Pool {
        self.pool_with(&self.sums())
    }

    /// Sums of earlier, tasks among them; agents, offers and filters are counted as they are now.
    #[must_use]
    pub fn pool_with(&self, sums: &Sums) -> Pool {
        Pool {
            total: sums.total.clone(),
            offered: sums.offered.clone(),
            used: sums.used.clone(),
            tasks: sums.tasks,
            agents: self.agents.len(),
            agents_active: self.agents_connected(),
            offers: self.offers.len(),
            filters: self.filters.len(),
        }
    }

    /// Agents by id, those after `after`.
    pub fn agents(&self, after: Option<AgentId>) -> impl Iterator<Item = AgentView> {
        let from = after.map_or(0, |id| id.0.saturating_add(1));
        self.agents
            .range(AgentId(from)..)
            .map(|(id, agent)| self.agent_view(*id, agent))
    }

    /// An agent by id (`agent-7` or `7`) or hostname, if only one has it.
    #[must_use]
    pub fn agent_named(&self, name: &str) -> Option<AgentView> {
        let number = name.strip_prefix("agent-").unwrap_or(name);
        if let Some(id) = number.parse().ok().map(AgentId)
            && let Some(agent) = self.agents.get(&id)
        {
            return Some(self.agent_view(id, agent));
        }
        let mut named = self
            .agents
            .iter()
            .filter(|(_, agent)| *agent.record.info.hostname == *name);
        match (named.next(), named.next()) {
            (Some((id, agent)), None) => Some(self.agent_view(*id, agent)),
            _ => None,
        }
    }

    fn agent_view(&self, id: AgentId, agent: &Agent) -> AgentView {
        let (mut used, mut offered) = (Bundle::default(), Bundle::default());
        for (_, held) in agent.account.held() {
            used.add(&held.used.total());
            offered.add(&held.offered.total());
        }
        let unreachable = agent.standing == Standing::Unreachable;
        AgentView {
            id,
            info: Arc::clone(&agent.record.info),
            active: agent.is_active(),
            standing: agent.standing,
            since: agent.since,
            gone_at: self
                .config
                .agent_gone_after
                .filter(|_| unreachable)
                .map(|after| agent.since + after),
            total: agent.account.total().clone(),
            free: agent.account.free().clone(),
            deficit: agent.account.deficit().clone(),
            used,
            offered,
            tasks: agent.launches.len(),
            data_address: agent.record.data_address.clone(),
        }
    }

    /// Frameworks by id, those after `after`; what they hold is what these sums say.
    pub fn frameworks(
        &self,
        after: Option<FrameworkId>,
        sums: &Sums,
    ) -> impl Iterator<Item = FrameworkView> {
        let from = after.map_or(0, |id| id.0.saturating_add(1));
        self.frameworks
            .range(FrameworkId(from)..)
            .filter_map(|(id, _)| {
                let held = sums.frameworks.get(id).cloned().unwrap_or_default();
                self.framework(*id, held)
            })
    }

    /// What frameworks did so far: their names, how many of their tasks that ended are remembered, and counts.
    pub fn framework_counters(&self) -> impl Iterator<Item = (&Arc<str>, usize, &Counters)> {
        let frameworks = self.frameworks.values();
        frameworks.map(|fw| (&fw.record.name, fw.ended.len(), &fw.counters))
    }

    /// A framework by name.
    #[must_use]
    pub fn framework_named(&self, name: &str) -> Option<FrameworkView> {
        let id = *self.names.get(name)?;
        let fw = self.frameworks.get(&id)?;
        let (mut used, mut offered) = (Bundle::default(), Bundle::default());
        for agent in self.agents.values() {
            for client in fw.clients.values() {
                if let Some(held) = agent.account.held_by(*client) {
                    add_scalars(&mut used, &held.used);
                    add_scalars(&mut offered, &held.offered);
                }
            }
        }
        self.framework(id, (used, offered))
    }

    fn framework(
        &self,
        id: FrameworkId,
        (used, offered): (Bundle, Bundle),
    ) -> Option<FrameworkView> {
        let fw = self.frameworks.get(&id)?;
        Some(FrameworkView {
            id,
            name: Arc::clone(&fw.record.name),
            version: fw.record.version.clone(),
            digest: fw.record.digest.clone(),
            roles: fw
                .clients
                .keys()
                .map(|role| (role.clone(), fw.suppressed.contains(role)))
                .collect(),
            gpus: fw.record.gpus,
            standing: fw.record.standing.clone(),
            step: fw.record.step,
            tasks: (
                fw.tasks.len().saturating_sub(fw.ended.len()),
                fw.ended.len(),
            ),
            used,
            offered,
            demands: fw
                .demands
                .values()
                .map(|s| (s.demand.clone(), s.since, s.offered))
                .collect(),
            config: fw.record.config.clone(),
            queued: fw.queue.len(),
            last_fault: fw.supervision.last_fault.clone(),
            retry_in: self.retry_in(id),
            upgrading: fw
                .upgrade
                .as_ref()
                .map(|upgrade| upgrade.version().to_owned()),
            last_upgrade: fw.last_upgrade.clone(),
            blamed: fw.blamed.clone(),
            skipped: fw.skipped.iter().cloned().collect(),
            counters: fw.counters.clone(),
        })
    }

    /// Tasks by launch, those after `after`, of one framework if one is named.
    pub fn tasks(
        &self,
        framework: Option<FrameworkId>,
        after: Option<LaunchNumber>,
    ) -> impl Iterator<Item = TaskView> {
        let from = after.map_or(0, |launch| launch.0.saturating_add(1));
        self.launches
            .range(LaunchNumber(from)..)
            .filter(move |(_, (owner, _))| framework.is_none_or(|wanted| wanted == *owner))
            .filter_map(|(_, (owner, id))| self.task_view(*owner, id))
    }

    /// Tasks of a framework that have not ended, by id.
    pub fn live_tasks(&self, framework: FrameworkId) -> impl Iterator<Item = TaskView> {
        let tasks = self.frameworks.get(&framework);
        let live = tasks.into_iter().flat_map(|fw| fw.live_tasks());
        live.filter_map(move |task| self.task_view(framework, &task.spec.id))
    }

    /// A task by its framework's name and its id.
    #[must_use]
    pub fn task_named(&self, framework: &str, task: &str) -> Option<TaskView> {
        self.task_view(*self.names.get(framework)?, &TaskId::new(task).ok()?)
    }

    fn task_view(&self, owner: FrameworkId, id: &TaskId) -> Option<TaskView> {
        let fw = self.frameworks.get(&owner)?;
        let task = fw.tasks.get(id)?;
        let agent = self.agents.get(&task.agent);
        let state = if task.state.is_final() || task.state == TaskState::Unreachable {
            task.state
        } else {
            task.latest
        };
        Some(TaskView {
            framework: Arc::clone(&fw.record.name),
            framework_id: owner,
            id: id.clone(),
            template: task.spec.template.name.clone(),
            launch: task.launch,
            agent: task.agent,
            hostname: match agent {
                Some(agent) => Arc::clone(&agent.record.info.hostname),
                None => Arc::from(self.gone.hostname(task.agent)),
            },
            data_address: agent
                .map(|agent| agent.record.data_address.clone())
                .unwrap_or_default(),
            role: task.role.clone(),
            state,
            why: task.why.clone(),
            exit: task.exit,
            resources: task.spec.resources.clone(),
            launched_at: task.launched_at,
            running_at: task.running_at,
            ended_at: task.ended_at,
            output: task.spec.output.clone(),
        })
    }

    /// Open offers by id, those after `after`.
    pub fn offers(&self, after: Option<OfferId>) -> impl Iterator<Item = OfferView> {
        let from = after.map_or(0, |id| id.0.saturating_add(1));
        self.offers
            .range(OfferId(from)..)
            .filter(|(_, open)| !open.kept)
            .map(|(id, open)| OfferView {
                id: *id,
                framework: self
                    .frameworks
                    .get(&open.framework)
                    .map_or_else(|| Arc::from(""), |fw| Arc::clone(&fw.record.name)),
                role: open.offer.role.clone(),
                agent: open.offer.agent,
                resources: open.offer.resources.clone(),
                expires: open.offer.expires,
                demand: open.offer.demand.clone(),
            })
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &CoreConfig {
        &self.config
    }

    /// How many agents are known.
    #[must_use]
    pub fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// How many are connected.
    #[must_use]
    pub fn agents_connected(&self) -> usize {
        self.connections.len()
    }

    /// A framework's name.
    #[must_use]
    pub fn framework_name(&self, id: FrameworkId) -> Option<Arc<str>> {
        self.frameworks
            .get(&id)
            .map(|fw| Arc::clone(&fw.record.name))
    }

    /// Roles and their weights.
    pub fn roles(&self) -> impl Iterator<Item = (&RoleName, Amount)> {
        self.handles.roles.all()
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> PolicyView {
        let tally = &self.allocation.tally;
        let loaded = self.allocation.loaded.as_ref();
        PolicyView {
            loaded: loaded.map(|loaded| Arc::clone(&loaded.identity)),
            fallback: loaded
                .is_none_or(|l| l.left_out.is_some() || l.retry_at.is_some_and(|at| at > self.now)),
            left_out: loaded.and_then(|loaded| loaded.left_out.clone()),
            last_fault: loaded.and_then(|loaded| loaded.last_fault.clone()),
            failures: loaded.map_or(0, |loaded| loaded.failures),
            cycles: tally.cycles,
            fallback_cycles: tally.fallback_cycles,
            failed_cycles: tally.failures,
            grants: tally.grants,
            grants_stale: tally.grants_stale,
            grants_invalid: tally.grants_invalid,
        }
    }
}
