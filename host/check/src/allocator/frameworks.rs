//! Steps about frameworks.

use std::collections::BTreeSet;

use proffer_core::{Event, FrameworkChange, NewFramework, Play};
use proffer_model::Resources;
use proffer_model::fact::{FrameworkOptions, ReservationFate, RoleRules};

use super::Run;
use crate::convert::{constraints_of, role_of, roles_of};
use crate::scenario::{Capability, Conditions, Minimums, Step, UseOf};
use crate::stage::{minimum, refusal};

/// What a framework was described with: parts of it are replaced.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    capabilities: Vec<Capability>,
    min_offer: Minimums,
    constraints: Conditions,
    active: bool,
}

impl Run<'_> {
    pub(super) fn act_on_framework(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::AddFramework { .. } => self.add_framework(step),
            Step::UpdateFramework {
                id,
                roles,
                suppressed,
                capabilities,
                min_offer,
                constraints,
            } => {
                let profile = self.frameworks.entry(id.clone()).or_default();
                if let Some(capabilities) = capabilities {
                    profile.capabilities.clone_from(capabilities);
                }
                if let Some(min_offer) = min_offer {
                    profile.min_offer.clone_from(min_offer);
                }
                if let Some(constraints) = constraints {
                    profile.constraints.clone_from(constraints);
                }
                let profile = profile.clone();
                let roles = roles.as_deref().map(roles_of).transpose()?;
                let suppressed = suppressed.as_deref().map(roles_of).transpose()?;
                let change = FrameworkChange {
                    roles,
                    suppressed: suppressed.map(|roles| roles.into_iter().collect()),
                    gpus: Some(profile.capabilities.contains(&Capability::Gpus)),
                    options: Some(profile.options()?),
                };
                self.change_framework(id, change)
            }
            Step::RemoveFramework { id } => {
                self.frameworks.remove(id);
                let name = id.clone();
                self.stage.order(|ticket| Event::FrameworkRemovalAsked {
                    ticket,
                    name,
                    reservations: ReservationFate::Keep,
                })
            }
            Step::DeactivateFramework { id } => self.activate(id, false),
            Step::ActivateFramework { id } => self.activate(id, true),
            Step::Suppress { framework, roles } => self.want(framework, roles.as_deref(), false),
            Step::Revive { framework, roles } => self.want(framework, roles.as_deref(), true),
            Step::AnswerInverse {
                framework,
                agent,
                accept,
                refuse_seconds,
            } => {
                let play = Play::AnswerInverse {
                    framework: framework.clone(),
                    agent: self.stage.agent(agent)?,
                    accept: *accept,
                    refuse: refusal(*refuse_seconds)?,
                };
                self.stage.play(play)
            }
            _ => Ok(()),
        }
    }

    /// Known with all that it uses before anything is decided for it.
    fn add_framework(&mut self, step: &Step) -> Result<(), String> {
        let Step::AddFramework {
            id,
            roles,
            suppressed,
            capabilities,
            active,
            used,
            min_offer,
            constraints,
        } = step
        else {
            return Ok(());
        };
        let profile = Profile {
            capabilities: capabilities.clone(),
            min_offer: min_offer.clone(),
            constraints: constraints.clone(),
            active: false,
        };
        let framework = NewFramework {
            name: id.as_str().into(),
            version: String::new(),
            digest: String::new(),
            roles: roles_of(roles)?,
            config: String::new(),
            gpus: capabilities.contains(&Capability::Gpus),
            options: profile.options()?,
        };
        self.frameworks.insert(id.clone(), profile);
        self.stage.order(|ticket| Event::FrameworkAdded {
            ticket,
            framework: Box::new(framework),
        })?;
        if !suppressed.is_empty() {
            self.want(id, Some(suppressed), false)?;
        }
        for UseOf {
            agent,
            role,
            resources,
        } in used
        {
            let Ok(agent) = self.stage.agent(agent) else {
                continue;
            };
            self.stage.play(Play::Report {
                agent,
                grown: Resources::none(),
                uses: vec![((id.clone(), role_of(role)?), resources.0.clone())],
                again: true,
            })?;
        }
        if *active {
            self.activate(id, true)?;
        }
        Ok(())
    }

    fn activate(&mut self, id: &str, active: bool) -> Result<(), String> {
        let profile = self.frameworks.entry(id.to_owned()).or_default();
        profile.active = active;
        let change = FrameworkChange {
            options: Some(profile.options()?),
            ..FrameworkChange::default()
        };
        let before = self.stage.cycles_run;
        self.change_framework(id, change)?;
        if active && self.stage.cycles_run == before {
            // It was active already; whoever activates it wants a cycle all the same.
            return self.stage.play(Play::Cycle { agents: None });
        }
        Ok(())
    }

    fn change_framework(&mut self, id: &str, change: FrameworkChange) -> Result<(), String> {
        let name = id.to_owned();
        self.order_watched(|ticket| Event::FrameworkChangeAsked {
            ticket,
            name,
            change: Box::new(change),
        })
    }

    fn want(&mut self, id: &str, roles: Option<&[String]>, wanted: bool) -> Result<(), String> {
        let roles = roles_of(roles.unwrap_or_default())?;
        self.stage.play(Play::Want {
            framework: id.to_owned(),
            roles,
            wanted,
        })
    }
}

impl Profile {
    fn options(&self) -> Result<FrameworkOptions, String> {
        let takes = |capability| self.capabilities.contains(&capability);
        let roles: BTreeSet<&String> = self
            .min_offer
            .keys()
            .chain(self.constraints.keys())
            .collect();
        let rules = roles.into_iter().map(|role| {
            let least = self.min_offer.get(role).map(|least| minimum(least));
            let groups = self
                .constraints
                .get(role)
                .map(Vec::as_slice)
                .unwrap_or_default();
            Ok(RoleRules {
                role: role_of(role)?,
                least: least.transpose()?,
                constraints: constraints_of(groups)?,
            })
        });
        Ok(FrameworkOptions {
            active: self.active,
            revocable: takes(Capability::Revocable),
            shared: takes(Capability::Shared),
            refined: takes(Capability::RefinedReservations),
            region_aware: takes(Capability::RegionAware),
            rules: rules.collect::<Result<_, String>>()?,
        })
    }
}
