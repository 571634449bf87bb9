//! What only the policy can say of why somebody is not offered something: its turn, quota, headroom.
//!
//! The core's own predicates come first; for agents that pass them all the policy that decides about them is
//! asked, by the shell or whoever has it, and its findings take the place of the core's guess.

use std::collections::BTreeMap;

use proffer_model::policy::{Finding, Question, kind};
use proffer_model::{AgentId, Bundle, Quantity, Reason, Resources, RoleName, code};

use crate::action::PolicySeat;
use crate::explain::{AgentReason, FrameworkReport};
use crate::framework::StandingDemand;
use crate::handles::ClientId;
use crate::machine::Core;

/// Demands of one framework that are asked about: an answer for people.
const DEMANDS_MAX: usize = 16;
/// Agents of one question: the contract's bound.
const AGENTS_MAX: usize = 1_000;

/// Whom a question is for: who decides about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Whoever has the seat, or stands in for it.
    Seat(PolicySeat),
    /// The candidate that is a canary, by its number.
    Canary(u64),
    /// A role's own policy, by its number: why it left what it was given in its last turn.
    Tenant(u64),
}

/// What is to be asked of a policy about one demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandQuestion {
    /// The demand's key.
    pub key: String,
    /// Whom.
    pub asked: Asked,
    /// Its name and version.
    pub policy: String,
    /// The question.
    pub question: Question,
}

/// What a policy said about one demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandFindings {
    /// The demand's key.
    pub key: String,
    /// Who was asked.
    pub asked: Asked,
    /// Its name and version.
    pub policy: String,
    /// By agent.
    pub findings: Vec<Finding>,
}

impl Core {
    /// What a policy is to be asked about a framework: its demands, on the agents that the core has
    /// nothing against.
    #[must_use]
    pub fn policy_questions(&self, name: &str) -> Vec<DemandQuestion> {
        let Some(framework) = self.names.get(name) else {
            return Vec::new();
        };
        let demands = self.frameworks.get(framework).into_iter();
        let demands = demands.flat_map(|fw| fw.demands.iter());
        let mut questions = Vec::new();
        for (key, standing) in demands {
            let client = self.handles.find_client(*framework, &standing.demand.role);
            let Some(client) = client else { continue };
            for (asked, policy) in self.deciders_of(&standing.demand.role) {
                let agents = self.agents_for(asked, client, standing);
                if agents.is_empty() {
                    continue;
                }
                questions.push(DemandQuestion {
                    key: key.clone(),
                    asked,
                    policy,
                    question: Question {
                        client: client.0,
                        demand: standing.handle,
                        agents,
                    },
                });
            }
            if questions.len() >= DEMANDS_MAX {
                break;
            }
        }
        questions
    }

    /// Who decides about offers under a role, with names and versions: whoever grants, and then the policy of
    /// the subtree.
    fn deciders_of(&self, role: &RoleName) -> Vec<(Asked, String)> {
        let candidate = self.allocation.swaps.candidate.as_ref();
        let within = self
            .canary_domain()
            .is_some_and(|domain| domain.holds(role));
        let first = match candidate.filter(|_| within) {
            Some(canary) => {
                let identity = &canary.swap.identity;
                let name = format!("{} {}", identity.name, identity.version);
                (Asked::Canary(canary.swap.candidate), name)
            }
            None => (Asked::Seat(self.who_decides()), self.policy_name()),
        };
        let own = self.tenant_to_ask(role);
        let own = own.map(|(number, name)| (Asked::Tenant(number), name));
        std::iter::once(first).chain(own).collect()
    }

    /// Agents of which the core has nothing against an offer but what that policy decides.
    fn agents_for(&self, asked: Asked, client: ClientId, standing: &StandingDemand) -> Vec<u32> {
        let is_for = |id: &&AgentId| is_for(asked, &self.why_not(**id, client, standing).0);
        let agents = self.agents.keys().filter(is_for);
        agents.take(AGENTS_MAX).map(|id| id.0).collect()
    }

    /// Why an agent is not offered for a demand, as far as the core can say, and what is missing there.
    #[must_use]
    pub fn explain_on(&self, name: &str, key: &str, agent: AgentId) -> Option<(Reason, Resources)> {
        let framework = self.names.get(name)?;
        let standing = self.frameworks.get(framework)?.demands.get(key)?;
        let client = self
            .handles
            .find_client(*framework, &standing.demand.role)?;
        Some(self.why_not(agent, client, standing))
    }

    /// What is short, as a policy says it, in words of the pool.
    #[must_use]
    pub fn short_of(&self, finding: &Finding) -> Resources {
        let mut short = Bundle::default();
        for piece in &finding.short {
            let one = match piece.kind {
                kind::CPUS => &mut short.cpus,
                kind::MEM => &mut short.mem,
                kind::DISK => &mut short.disk,
                kind::GPUS => &mut short.gpus,
                other => {
                    if let Some(name) = self.handles.kinds.name(other) {
                        let amount = Quantity::Scalar(piece.amount);
                        short.other.insert(name.into(), amount);
                    }
                    continue;
                }
            };
            *one = piece.amount;
        }
        Resources::plain(short)
    }

    /// Puts what the policy found in the place of what the core could only guess.
    #[must_use]
    pub fn with_findings(
        &self,
        mut report: FrameworkReport,
        found: &[DemandFindings],
    ) -> FrameworkReport {
        for said in found {
            let demand = report.demands.iter_mut();
            let Some(demand) = demand.into_iter().find(|d| d.demand.key == said.key) else {
                continue;
            };
            let mut by_code: BTreeMap<String, AgentReason> = BTreeMap::new();
            for finding in &said.findings {
                let entry = by_code
                    .entry(finding.why.code.to_string())
                    .or_insert_with(|| AgentReason {
                        why: finding.why.clone(),
                        agents: 0,
                        sample: Some(AgentId(finding.agent)),
                        short: self.short_of(finding),
                        policy: said.policy.clone(),
                    });
                entry.agents += 1;
            }
            // Agents beyond the question keep the core's word.
            let mut asked = u32::try_from(said.findings.len()).unwrap_or(u32::MAX);
            for reason in &mut demand.reasons {
                if reason.policy.is_empty() && is_for(said.asked, &reason.why) {
                    let taken = reason.agents.min(asked);
                    reason.agents -= taken;
                    asked -= taken;
                }
            }
            demand.reasons.retain(|reason| reason.agents > 0);
            for (code, found) in by_code {
                let alike = |own: &&mut AgentReason| {
                    own.why.code == code && (own.policy.is_empty() || own.policy == found.policy)
                };
                match demand.reasons.iter_mut().find(alike) {
                    Some(own) => {
                        let agents = own.agents + found.agents;
                        *own = AgentReason { agents, ..found };
                    }
                    None => demand.reasons.push(found),
                }
            }
            demand
                .reasons
                .sort_by_key(|reason| std::cmp::Reverse(reason.agents));
        }
        report
    }
}

/// Whether it is this policy's to say more. Where the core has nothing against an offer, who comes first and
/// what is held ready is for whoever grants; what was left, for whoever left it.
fn is_for(asked: Asked, why: &Reason) -> bool {
    match asked {
        Asked::Seat(_) | Asked::Canary(_) => {
            matches!(why.code.as_ref(), code::TURN | code::OFFERABLE)
        }
        Asked::Tenant(_) => why.code == code::PASSED_OVER,
    }
}
