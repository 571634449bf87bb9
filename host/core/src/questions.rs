//! What only the policy can say of why somebody is not offered something: its turn, quota, headroom.
//!
//! The core's own predicates come first; for agents that pass them all the policy is asked, by the shell
//! or whoever has it, and its findings take the place of the core's guess.

use std::collections::BTreeMap;

use proffer_model::policy::{Finding, Question, kind};
use proffer_model::{AgentId, Bundle, Quantity, Reason, Resources, code};

use crate::explain::{AgentReason, FrameworkReport};
use crate::machine::Core;

/// Demands of one framework that are asked about: an answer for people.
const DEMANDS_MAX: usize = 16;
/// Agents of one question: the contract's bound.
const AGENTS_MAX: usize = 1_000;

/// What is to be asked of the policy about one demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandQuestion {
    /// The demand's key.
    pub key: String,
    /// The question.
    pub question: Question,
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
            let domain = self.canary_domain();
            if domain.is_some_and(|domain| domain.holds(&standing.demand.role)) {
                // The policy of the seat does not decide there.
                continue;
            }
            let mut agents: Vec<u32> = Vec::new();
            for id in self.agents.keys() {
                let (why, _) = self.why_not(*id, client, standing);
                if is_for_the_policy(&why) {
                    agents.push(id.0);
                }
                if agents.len() == AGENTS_MAX {
                    break;
                }
            }
            if agents.is_empty() {
                continue;
            }
            questions.push(DemandQuestion {
                key: key.clone(),
                question: Question {
                    client: client.0,
                    demand: standing.handle,
                    agents,
                },
            });
            if questions.len() == DEMANDS_MAX {
                break;
            }
        }
        questions
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
        found: &[(String, Vec<Finding>)],
    ) -> FrameworkReport {
        for (key, findings) in found {
            let demand = report.demands.iter_mut().find(|d| d.demand.key == *key);
            let Some(demand) = demand else { continue };
            let mut by_code: BTreeMap<String, AgentReason> = BTreeMap::new();
            for finding in findings {
                let entry = by_code
                    .entry(finding.why.code.to_string())
                    .or_insert_with(|| AgentReason {
                        why: finding.why.clone(),
                        agents: 0,
                        sample: Some(AgentId(finding.agent)),
                        short: self.short_of(finding),
                    });
                entry.agents += 1;
            }
            // Agents beyond the question keep the core's word.
            let mut asked = u32::try_from(findings.len()).unwrap_or(u32::MAX);
            for reason in &mut demand.reasons {
                if is_for_the_policy(&reason.why) {
                    let taken = reason.agents.min(asked);
                    reason.agents -= taken;
                    asked -= taken;
                }
            }
            demand.reasons.retain(|reason| reason.agents > 0);
            for (code, found) in by_code {
                match demand.reasons.iter_mut().find(|own| own.why.code == code) {
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

/// The core has nothing against it: who comes first, and what is held ready, is the policy's.
fn is_for_the_policy(why: &Reason) -> bool {
    matches!(why.code.as_ref(), code::TURN | code::OFFERABLE)
}
