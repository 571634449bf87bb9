//! Why: recomputed when asked, by the predicates that decide.

use std::collections::BTreeMap;

use proffer_model::fact::FrameworkStanding;
use proffer_model::framework::{Event as Told, ExplainDemands, Explained, Explanation};
use proffer_model::{
    AgentId, Bundle, Demand, FrameworkId, Quantity, Reason, Remedy, Resources, RoleName, Shape,
    code,
};

use crate::commands::{StepRun, chunks, unanswered};
use crate::framework::{Item, StandingDemand};
use crate::handles::ClientId;
use crate::machine::Core;
use crate::view::{FrameworkView, TaskView};

/// Why agents are not offered for a demand: one reason, so many agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReason {
    /// Why.
    pub why: Reason,
    /// How many agents.
    pub agents: u32,
    /// One of them.
    pub sample: Option<AgentId>,
    /// What is missing there.
    pub short: Resources,
    /// The policy that says so: name and version. Empty: the host.
    pub policy: String,
}

/// A demand and why it is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandReport {
    /// Which.
    pub demand: Demand,
    /// Units on offer now.
    pub offered: u32,
    /// By reason, the most frequent first.
    pub reasons: Vec<AgentReason>,
}

/// Why a framework gets what it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkReport {
    /// The framework.
    pub framework: FrameworkView,
    /// What holds for the framework as a whole.
    pub general: Vec<Reason>,
    /// Per demand.
    pub demands: Vec<DemandReport>,
    /// Which policy decides: name and version.
    pub policy: String,
}

/// Where a task stands and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskReport {
    /// The task.
    pub task: TaskView,
    /// In words.
    pub sentences: Vec<String>,
}

impl Core {
    /// Why a framework gets the offers that it gets.
    #[must_use]
    pub fn explain_framework(&self, name: &str) -> Option<FrameworkReport> {
        let framework = self.framework_named(name)?;
        let fw = self.frameworks.get(&framework.id)?;
        let mut general = Vec::new();
        match &fw.record.standing {
            FrameworkStanding::Active => {}
            FrameworkStanding::Quarantined(why) | FrameworkStanding::Removing(why) => {
                general.push(why.clone())
            }
        }
        if let Some(blamed) = &fw.blamed {
            let text = format!(
                "it fails at '{}': {}; an upgrade resumes there, `framework skip-event {name} '{}'` passes it over",
                blamed.id, blamed.what, blamed.id
            );
            general.push(Reason::new(code::FRAMEWORK_INACTIVE, Remedy::Mend, text));
        }
        if let Some(upgrade) = &fw.last_upgrade
            && let Some(why) = &upgrade.refused
        {
            let text = format!(
                "the upgrade to {} was turned down, {} goes on: {}",
                upgrade.version, upgrade.from, why.text
            );
            general.push(Reason {
                text,
                ..why.clone()
            });
        }
        for role in &fw.suppressed {
            let text = format!("it suppressed offers under {role}");
            general.push(Reason::new(code::SUPPRESSED, Remedy::ChooseAnew, text));
        }
        if fw.demands.is_empty() {
            general.push(Reason::new(
                code::NO_DEMAND,
                Remedy::ChooseAnew,
                "it has said that it wants nothing",
            ));
        }
        if let (Some(fault), Some(wait)) = (&fw.supervision.last_fault, framework.retry_in) {
            let text = format!(
                "its last step failed and is tried again in {wait}: {}",
                fault.text
            );
            general.push(Reason {
                text,
                ..fault.clone()
            });
        }
        let id = framework.id;
        general.extend(self.reclaims_about(id));
        let demands = fw
            .demands
            .values()
            .map(|standing| self.demand_report(id, standing))
            .collect();
        Some(FrameworkReport {
            framework,
            general,
            demands,
            policy: self.policy_name_for(&self.frameworks.get(&id)?.record.roles),
        })
    }

    /// Who decides for these roles, in words: name and version.
    #[must_use]
    pub fn policy_name_for(&self, roles: &[RoleName]) -> String {
        let seat = std::iter::once(self.seats_name_for(roles));
        let all: Vec<String> = seat.chain(self.tenants_in_words(roles)).collect();
        all.join("; ")
    }

    fn seats_name_for(&self, roles: &[RoleName]) -> String {
        let Some(canary) = self.policy_canary() else {
            return self.policy_name();
        };
        let Some(domain) = self.canary_domain() else {
            return self.policy_name();
        };
        let (its, others): (Vec<&RoleName>, Vec<&RoleName>) =
            roles.iter().partition(|role| domain.holds(role));
        let name = format!("{} {}", canary.identity.name, canary.identity.version);
        match (its.is_empty(), others.is_empty()) {
            (true, _) => self.policy_name(),
            (false, true) => format!("{name}, a canary for {domain}"),
            (false, false) => format!(
                "{name}, a canary for {domain}; {} for the rest",
                self.policy_name()
            ),
        }
    }

    /// Who decides, in words: name and version.
    #[must_use]
    pub fn policy_name(&self) -> String {
        let view = self.policy();
        match (view.loaded, view.fallback) {
            (Some(identity), false) => format!("{} {}", identity.name, identity.version),
            (Some(identity), true) => {
                format!("native fallback for {} {}", identity.name, identity.version)
            }
            (None, _) => "the native drf policy".to_owned(),
        }
    }

    fn demand_report(&self, framework: FrameworkId, standing: &StandingDemand) -> DemandReport {
        let mut by_code: BTreeMap<String, AgentReason> = BTreeMap::new();
        if let Some(client) = self.handles.find_client(framework, &standing.demand.role) {
            for id in self.agents.keys() {
                let (why, short) = self.why_not(*id, client, standing);
                let entry = by_code
                    .entry(why.code.to_string())
                    .or_insert_with(|| AgentReason {
                        why,
                        agents: 0,
                        sample: Some(*id),
                        short,
                        policy: String::new(),
                    });
                entry.agents += 1;
            }
        }
        let mut reasons: Vec<AgentReason> = by_code.into_values().collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.agents));
        DemandReport {
            demand: standing.demand.clone(),
            offered: standing.offered,
            reasons,
        }
    }

    /// Why this agent is not offered for this demand now, and what is missing.
    pub(crate) fn why_not(
        &self,
        id: AgentId,
        client: ClientId,
        standing: &StandingDemand,
    ) -> (Reason, Resources) {
        let reason =
            |code, text: String| (Reason::new(code, Remedy::Retry, text), Resources::none());
        let Some(agent) = self.agents.get(&id) else {
            return reason(code::UNKNOWN, format!("there is no {id}"));
        };
        let Some((framework, role)) = self.handles.owner(client) else {
            return reason(code::UNKNOWN, "there is no such client".to_owned());
        };
        let Some(fw) = self.frameworks.get(framework) else {
            return reason(code::UNKNOWN, format!("there is no {framework}"));
        };
        if !fw.is_active() {
            return reason(
                code::FRAMEWORK_INACTIVE,
                "the framework does not run".to_owned(),
            );
        }
        if fw.suppressed.contains(role) {
            return reason(code::SUPPRESSED, format!("the framework suppressed {role}"));
        }
        if standing.demand.count <= standing.offered {
            return reason(
                code::DEMAND_MET,
                "all that it demands is on offer".to_owned(),
            );
        }
        if !agent.is_active() {
            return reason(code::AGENT_INACTIVE, format!("{id} is not connected"));
        }
        if self.config.gpu_guard && agent.has_gpus() && !fw.record.gpus {
            return reason(
                code::GPU_GUARD,
                format!("{id} has gpus, which are kept for those who take gpus"),
            );
        }
        if !standing.constraints.admit(&agent.record.info) {
            return reason(
                code::CONSTRAINT,
                format!("{id} does not meet the constraints"),
            );
        }
        let free = agent.account.free();
        let short = missing(&standing.demand.shape, &free.total());
        if !short.is_empty() {
            let text = format!("{id} has too little free: {short} is missing");
            return (
                Reason::new(code::NO_FIT, Remedy::Retry, text),
                Resources::plain(short),
            );
        }
        if let Some(filter) = self.filter_against(id, client, free) {
            let wait = filter.until.since(self.now);
            if filter.passed_over {
                let decides = self.policy_name_for(std::slice::from_ref(role));
                let text = format!(
                    "the policy that decides for {role} ({decides}) left {} of {id}, which goes to others for \
                     {wait} more",
                    filter.refused
                );
                return reason(code::PASSED_OVER, text);
            }
            return reason(
                code::FILTERED,
                format!(
                    "the framework refused {} of {id}, for {wait} more",
                    filter.refused
                ),
            );
        }
        let seen = agent.offers.len();
        if seen > 0 {
            return reason(
                code::TURN,
                format!("{id} fits what is left; others hold {seen} offers of it"),
            );
        }
        reason(
            code::OFFERABLE,
            format!("{id} would be offered in the next cycle"),
        )
    }

    /// Where a task stands and why.
    #[must_use]
    pub fn explain_task(&self, framework: &str, task: &str) -> Option<TaskReport> {
        let view = self.task_named(framework, task)?;
        let mut sentences = vec![format!(
            "{} of {} is {} on {} ({}) since its launch at {}",
            view.id,
            view.framework,
            view.state.name(),
            view.agent,
            view.hostname,
            view.launched_at
        )];
        sentences.push(format!("the last word on it: {}", view.why));
        if let Some(exit) = view.exit {
            sentences.push(format!("its exit status is {exit}"));
        }
        let agent = self.agents.get(&view.agent);
        if !view.state.is_final() && !agent.is_some_and(|agent| agent.is_active()) {
            sentences.push(format!(
                "{} is not connected: its word may come late",
                view.agent
            ));
        }
        let record = self.task(view.framework_id, &view.id)?;
        if let Some(grace) = record.kill.filter(|_| !view.state.is_final()) {
            sentences.push(format!("it is being killed, with {grace} of grace"));
        }
        Some(TaskReport {
            task: view,
            sentences,
        })
    }

    /// A framework's own question.
    pub(crate) fn explain_demands(&mut self, run: &mut StepRun, question: &ExplainDemands) {
        let framework = run.framework;
        if let Some(fw) = self.frameworks.get_mut(&framework)
            && std::mem::replace(&mut fw.asked.explains, true)
        {
            let why = unanswered("explain");
            return self.reject_with(run, "explain", question.token.clone(), why);
        }
        let mut rows = Vec::new();
        if let Some(fw) = self.frameworks.get(&framework) {
            for (key, standing) in &fw.demands {
                if !question.demands.is_empty() && !question.demands.contains(key) {
                    continue;
                }
                for reason in self.demand_report(framework, standing).reasons {
                    rows.push(Explanation {
                        demand: key.clone(),
                        why: reason.why,
                        agents: reason.agents,
                        sample: reason.sample,
                        short: reason.short,
                    });
                }
            }
        }
        for (rows, last) in chunks(rows) {
            let token = question.token.clone();
            let explained = Told::Explained(Explained { token, rows, last });
            self.enqueue(framework, Item::Told(Box::new(explained)));
        }
    }
}

/// What of one unit is not there.
pub(crate) fn missing(shape: &Shape, free: &Bundle) -> Bundle {
    let wanted = shape.resources.total();
    let mut short = wanted.minus_down_to_zero(free);
    short.ports = shape.fixed_ports.difference(&free.ports);
    let ports = u64::from(shape.ports);
    if free.ports.count() < ports {
        let lacking = Quantity::Scalar(proffer_model::Amount::from_units(
            i64::try_from(ports - free.ports.count()).unwrap_or(i64::MAX),
        ));
        short.other.insert("ports".into(), lacking);
    }
    short
}
