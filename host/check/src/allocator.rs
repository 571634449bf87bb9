//! Scenarios of kind allocator: what each step does.

use std::collections::{BTreeMap, BTreeSet};

use proffer_core::{Event, HoldingChange, Play, ReservationChange};
use proffer_model::{KindQuota, OfferId, Resources};

use crate::convert::{quota_rows, role_of};
use crate::expect::{self, Mismatch};
use crate::report::Failed;
use crate::scenario::{Scenario, Step};
use crate::seat::Seats;
use crate::stage::{Cycles, Made, Stage, duration, refusal};

mod agents;
mod frameworks;

use frameworks::Profile;

/// A scenario under way.
pub(crate) struct Run<'s> {
    pub(crate) stage: Stage<'s>,
    frameworks: BTreeMap<String, Profile>,
    /// The agents that are offered, by name: some are yet to come.
    allowed: Option<BTreeSet<String>>,
    /// Offers that the host took back since the last look.
    pub(crate) rescinded: Vec<Made>,
    /// Inverse offers seen so far, and those since the last look.
    inverse_seen: BTreeSet<u64>,
    pub(crate) inverse_made: Vec<(String, String)>,
}

/// What a policy offered in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepOffers {
    /// Counted from 0.
    pub step: usize,
    /// What was done.
    pub op: String,
    /// In words: to whom, of which agent, what.
    pub offers: String,
}

/// What a policy offers in each step, whatever the scenario expects. Ends where the scenario goes on
/// with what this policy did not offer; then why is the second.
pub(crate) fn offers(
    scenario: &Scenario,
    seats: &mut dyn Seats,
) -> Result<(Vec<StepOffers>, Option<Failed>), Failed> {
    let mut run = begin(scenario, seats)?;
    let mut steps = Vec::new();
    for (index, step) in scenario.steps.iter().enumerate() {
        // What was expected is another policy's: it is looked at, and not compared.
        if expect::look(&mut run, step).is_some() {
            continue;
        }
        if let Err(actual) = run.act(step) {
            let failed = Failed {
                step: Some(index),
                op: step.op(),
                expected: "it to be done".to_owned(),
                actual,
            };
            return Ok((steps, Some(failed)));
        }
        let made = std::mem::take(&mut run.stage.made);
        if !made.is_empty() {
            steps.push(StepOffers {
                step: index,
                op: step.op(),
                offers: expect::offers_text(&expect::summed(&made)),
            });
        }
    }
    Ok((steps, None))
}

pub(crate) fn run(scenario: &Scenario, seats: &mut dyn Seats) -> Result<(), Failed> {
    let mut run = begin(scenario, seats)?;
    for (index, step) in scenario.steps.iter().enumerate() {
        run.step(step).map_err(|mismatch| Failed {
            step: Some(index),
            op: step.op(),
            expected: mismatch.expected,
            actual: mismatch.actual,
        })?;
    }
    if run.stage.made.is_empty() {
        return Ok(());
    }
    Err(Failed {
        step: None,
        op: "the end".to_owned(),
        expected: "no offer that no step looked at".to_owned(),
        actual: expect::offers_text(&expect::summed(&run.stage.made)),
    })
}

fn begin<'s>(scenario: &Scenario, seats: &'s mut dyn Seats) -> Result<Run<'s>, Failed> {
    let whole = |problem: String| Failed {
        step: None,
        op: "the scenario".to_owned(),
        expected: "to be played".to_owned(),
        actual: problem,
    };
    let rescinds = scenario.needs.iter().any(|need| need == "rescind");
    let stage = Stage::new(&scenario.pool, rescinds, Cycles::Decided, seats).map_err(whole)?;
    Ok(Run {
        stage,
        frameworks: BTreeMap::new(),
        allowed: None,
        rescinded: Vec::new(),
        inverse_seen: BTreeSet::new(),
        inverse_made: Vec::new(),
    })
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Result<(), Mismatch> {
        if let Some(done) = expect::look(self, step) {
            return done;
        }
        let done = self.act(step);
        self.look_for_inverses();
        done.map_err(|actual| Mismatch {
            expected: "it to be done".to_owned(),
            actual,
        })
    }

    fn act(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::AddAgent { .. }
            | Step::UpdateAgent { .. }
            | Step::GrowAgent { .. }
            | Step::RemoveAgent { .. }
            | Step::DeactivateAgent { .. }
            | Step::ActivateAgent { .. }
            | Step::SetAllowedAgents { .. }
            | Step::SetUnavailable { .. } => self.act_on_agent(step),
            Step::AddFramework { .. }
            | Step::UpdateFramework { .. }
            | Step::RemoveFramework { .. }
            | Step::DeactivateFramework { .. }
            | Step::ActivateFramework { .. }
            | Step::Suppress { .. }
            | Step::Revive { .. }
            | Step::AnswerInverse { .. } => self.act_on_framework(step),
            Step::Advance { seconds } => self.stage.advance(duration(*seconds)?),
            Step::Allocate { agents } => {
                let ids = agents.as_ref().map(|agents| {
                    let ids = agents.iter().map(|agent| self.stage.agent(agent));
                    ids.collect::<Result<BTreeSet<_>, _>>()
                });
                let agents = ids.transpose()?;
                self.stage.play(Play::Cycle { agents })
            }
            Step::SetWeight { role, weight, .. } => {
                let role = role_of(role.as_deref().unwrap_or_default())?;
                let weight = weight.0;
                self.order_watched(|ticket| Event::RoleSet {
                    ticket,
                    role,
                    weight,
                })
            }
            Step::SetQuota {
                role,
                guarantees,
                limits,
            } => self.set_quota(role, quota_rows(guarantees, limits)),
            Step::RemoveQuota { role } => self.set_quota(role, Vec::new()),
            _ => self.act_on_holding(step),
        }
    }

    fn set_quota(&mut self, role: &str, quotas: Vec<KindQuota>) -> Result<(), String> {
        let role = role_of(role)?;
        self.order_watched(|ticket| Event::QuotaSet {
            ticket,
            role,
            quotas,
            weight: None,
            force: true,
        })
    }

    fn act_on_holding(&mut self, step: &Step) -> Result<(), String> {
        let (framework, role, agent, change) = match step {
            Step::Accept {
                framework,
                role,
                agent,
                resources,
            } => (
                framework,
                role,
                agent,
                HoldingChange::Use(resources.0.clone()),
            ),
            Step::Finish {
                framework,
                role,
                agent,
                resources,
            } => (
                framework,
                role,
                agent,
                HoldingChange::Finish(resources.0.clone()),
            ),
            Step::Release {
                framework,
                role,
                agent,
                resources,
            } => {
                let change = HoldingChange::Return(resources.0.clone(), refusal(0.0)?);
                (framework, role, agent, change)
            }
            Step::Decline {
                framework,
                role,
                agent,
                resources,
                refuse_seconds,
            } => {
                let change = HoldingChange::Return(resources.0.clone(), refusal(*refuse_seconds)?);
                (framework, role, agent, change)
            }
            Step::Convert {
                framework,
                role,
                agent,
                from,
                to,
            } => {
                let change = HoldingChange::Convert {
                    from: from.0.clone(),
                    to: to.0.clone(),
                };
                (framework, role, agent, change)
            }
            Step::ReleaseAll { framework } => return self.release_all(framework.as_deref()),
            Step::Reserve {
                agent,
                resources,
                framework,
                role,
                error,
            } => {
                let owner = framework.as_deref().zip(role.as_deref());
                let change = ReservationChange::Reserve;
                return self.reserve(agent, &resources.0, owner, change, *error);
            }
            Step::Unreserve {
                agent,
                resources,
                framework,
                role,
                error,
            } => {
                let owner = framework.as_deref().zip(role.as_deref());
                let change = ReservationChange::Unreserve;
                return self.reserve(agent, &resources.0, owner, change, *error);
            }
            _ => return Err("a step of the other kind".to_owned()),
        };
        let play = Play::Hold {
            framework: framework.clone(),
            role: role_of(role)?,
            agent: self.stage.agent(agent)?,
            change,
        };
        self.stage.play(play)
    }

    fn release_all(&mut self, framework: Option<&str>) -> Result<(), String> {
        let open: Vec<_> = self
            .stage
            .core
            .offers(None)
            .filter(|offer| framework.is_none_or(|wanted| *offer.framework == *wanted))
            .collect();
        for offer in open {
            self.stage.play(Play::Hold {
                framework: offer.framework.to_string(),
                role: offer.role,
                agent: offer.agent,
                change: HoldingChange::Return(offer.resources, refusal(0.0)?),
            })?;
        }
        Ok(())
    }

    fn reserve(
        &mut self,
        agent: &str,
        resources: &Resources,
        owner: Option<(&str, &str)>,
        change: ReservationChange,
        error: bool,
    ) -> Result<(), String> {
        let agent = self.stage.agent(agent)?;
        let resources = resources.clone();
        let done = match owner {
            Some((framework, role)) => self.stage.play(Play::Hold {
                framework: framework.to_owned(),
                role: role_of(role)?,
                agent,
                change: HoldingChange::Reserve(resources, change),
            }),
            None => self.stage.order(|ticket| Event::ReservationAsked {
                ticket,
                agent,
                resources,
                change,
            }),
        };
        match (done, error) {
            (Ok(()), true) => Err("done, though it should have been refused".to_owned()),
            (Err(_), true) => Ok(()),
            (done, false) => done,
        }
    }

    /// An order, with an eye on the offers that the core takes back for it.
    fn order_watched(
        &mut self,
        event: impl FnOnce(proffer_core::Ticket) -> Event,
    ) -> Result<(), String> {
        let before: BTreeMap<OfferId, Made> = self
            .stage
            .core
            .offers(None)
            .map(|offer| {
                let made = Made {
                    cycle: 0,
                    framework: offer.framework.to_string(),
                    role: offer.role,
                    agent: self.stage.agent_name(offer.agent),
                    resources: offer.resources,
                };
                (offer.id, made)
            })
            .collect();
        let ticket = self.stage.ticket();
        let (actions, ()) = self.stage.begin(event(ticket))?;
        // Before any cycle that comes of it.
        let left: BTreeSet<OfferId> = self.stage.core.offers(None).map(|offer| offer.id).collect();
        let gone = before.into_iter().filter(|(id, _)| !left.contains(id));
        self.rescinded.extend(gone.map(|(_, made)| made));
        self.stage.finish(actions, ())?;
        self.stage.granted()
    }

    fn look_for_inverses(&mut self) {
        let open: Vec<_> = self
            .stage
            .core
            .inverse_offers()
            .filter_map(|inverse| Some((inverse.open?, inverse)))
            .collect();
        for (id, inverse) in open {
            if self.inverse_seen.insert(id) {
                let framework = self.stage.core.framework_name(inverse.framework);
                let framework = framework.map_or_else(String::new, |name| name.to_string());
                let agent = self.stage.agent_name(inverse.agent);
                self.inverse_made.push((framework, agent));
            }
        }
    }
}
