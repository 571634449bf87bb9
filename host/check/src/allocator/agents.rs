//! Steps about agents.

use proffer_core::{AgentChange, Event, Play};
use proffer_model::{Resources, Window};

use super::Run;
use crate::convert::{attributes_of, uses_of};
use crate::scenario::{Downtime, Step};
use crate::stage::duration;

impl Run<'_> {
    pub(super) fn act_on_agent(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::AddAgent {
                id,
                resources,
                used,
                attributes,
                region,
                unavailable,
            } => {
                let attributes = attributes_of(attributes)?;
                let registering = self.stage.register(id, &resources.0, region, attributes);
                let uses = uses_of(used)?;
                if uses.is_empty() && unavailable.is_none() && self.allowed.is_none() {
                    return self.stage.event(registering.event);
                }
                // Known with all of it before anything is decided: as one that is not offered yet.
                self.stage.hold_cycles();
                self.stage.event(registering.event)?;
                self.allow()?;
                let agent = self.stage.agent(id)?;
                self.stage.play(Play::Report {
                    agent,
                    grown: Resources::none(),
                    uses,
                    again: false,
                })?;
                if let Some(unavailable) = unavailable {
                    let down = Some(self.window(*unavailable)?);
                    self.stage.order(|ticket| Event::AgentChangeAsked {
                        ticket,
                        agent,
                        change: AgentChange::Down(down),
                    })?;
                }
                self.stage.let_cycles()
            }
            Step::UpdateAgent {
                id,
                resources,
                attributes,
            } => {
                let play = Play::Tell {
                    agent: self.stage.agent(id)?,
                    total: resources.as_ref().map(|resources| resources.0.clone()),
                    attributes: attributes.as_deref().map(attributes_of).transpose()?,
                };
                self.order_watched(|ticket| Event::Played {
                    ticket,
                    play: Box::new(play),
                })
            }
            Step::GrowAgent {
                id,
                resources,
                used,
            } => {
                let play = Play::Report {
                    agent: self.stage.agent(id)?,
                    grown: resources.0.clone(),
                    uses: uses_of(used)?,
                    again: false,
                };
                self.stage.play(play)
            }
            Step::RemoveAgent { id } => {
                let agent = self.stage.agent(id)?.to_string();
                self.stage.disconnect(id)?;
                self.stage
                    .order(|ticket| Event::AgentGoneAsked { ticket, agent })?;
                self.stage.forget_agent(id);
                Ok(())
            }
            Step::DeactivateAgent { id } => self.change_agent(id, AgentChange::Deactivate),
            Step::ActivateAgent { id } => self.change_agent(id, AgentChange::Activate),
            Step::SetAllowedAgents { agents } => {
                self.allowed = agents
                    .clone()
                    .flatten()
                    .map(|names| names.into_iter().collect());
                self.allow()
            }
            Step::SetUnavailable { agent, unavailable } => {
                let down = unavailable.flatten();
                let down = down.map(|down| self.window(down)).transpose()?;
                let agent = self.stage.agent(agent)?;
                self.order_watched(|ticket| Event::AgentChangeAsked {
                    ticket,
                    agent,
                    change: AgentChange::Down(down),
                })
            }
            _ => Ok(()),
        }
    }

    fn allow(&mut self) -> Result<(), String> {
        let known = |name: &String| self.stage.agent(name).ok();
        let agents = self.allowed.as_ref();
        let agents = agents.map(|names| names.iter().filter_map(known).collect());
        self.stage
            .order(|ticket| Event::AgentsAllowed { ticket, agents })
    }

    fn change_agent(&mut self, name: &str, change: AgentChange) -> Result<(), String> {
        let agent = self.stage.agent(name)?;
        self.stage.order(|ticket| Event::AgentChangeAsked {
            ticket,
            agent,
            change,
        })
    }

    fn window(&self, downtime: Downtime) -> Result<Window, String> {
        Ok(Window {
            start: self.stage.now + duration(downtime.start_in)?,
            length: downtime.lasts.map(duration).transpose()?,
        })
    }
}
