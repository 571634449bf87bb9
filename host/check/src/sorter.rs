//! Scenarios of kind sorter: the order of service alone, by the policy's `places`. A client is a
//! role with one framework; what it holds is reported by agents.

use std::collections::{BTreeMap, BTreeSet};

use proffer_core::{Event, FrameworkChange, HoldingChange, NewFramework, Play};
use proffer_model::fact::{FrameworkOptions, ReservationFate};
use proffer_model::policy::{NONE, Place};
use proffer_model::{Amounts, Resources};

use crate::convert::role_of;
use crate::expect::{Mismatch, same};
use crate::report::Failed;
use crate::scenario::{Scenario, Step};
use crate::seat::Seats;
use crate::stage::{Cycles, Stage};
use crate::values::{Piles, Quantities, scalars, text, trimmed};

struct Run<'s> {
    stage: Stage<'s>,
    /// Clients by path, with their frameworks' names.
    clients: BTreeMap<String, String>,
    added: u32,
    /// What agents have; those that were taken away have nothing, and what is held there stays.
    totals: BTreeMap<String, Resources>,
}

pub(crate) fn run(scenario: &Scenario, seats: &mut dyn Seats) -> Result<(), Failed> {
    let stage = Stage::new(&scenario.pool, false, Cycles::Fed, seats).map_err(|actual| Failed {
        step: None,
        op: "the scenario".to_owned(),
        expected: "to be played".to_owned(),
        actual,
    })?;
    let mut run = Run {
        stage,
        clients: BTreeMap::new(),
        added: 0,
        totals: BTreeMap::new(),
    };
    for (index, step) in scenario.steps.iter().enumerate() {
        run.step(step).map_err(|mismatch| Failed {
            step: Some(index),
            op: step.op(),
            expected: mismatch.expected,
            actual: mismatch.actual,
        })?;
    }
    Ok(())
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Result<(), Mismatch> {
        match step {
            Step::AddAgent { id, resources, .. } => Ok(self.add_agent(id, &resources.0)?),
            Step::RemoveAgent { id } => Ok(self.set_total(id, Resources::none())?),
            Step::Add { client, active } => Ok(self.add(client, *active)?),
            Step::Remove { client } => {
                let name = self.client(client)?;
                self.clients.remove(client);
                let removal = |ticket| Event::FrameworkRemovalAsked {
                    ticket,
                    name,
                    reservations: ReservationFate::Keep,
                };
                Ok(self.stage.order(removal)?)
            }
            Step::Activate { client } => Ok(self.activate(client, true)?),
            Step::Deactivate { client } => Ok(self.activate(client, false)?),
            Step::SetWeight { path, weight, .. } => {
                let role = role_of(path.as_deref().unwrap_or_default())?;
                let weight = weight.0;
                Ok(self.stage.order(|ticket| Event::RoleSet {
                    ticket,
                    role,
                    weight,
                })?)
            }
            Step::Allocated {
                client,
                agent,
                resources,
            } => {
                let play = Play::Report {
                    agent: self.stage.agent(agent)?,
                    grown: Resources::none(),
                    uses: vec![(
                        (self.client(client)?, role_of(client)?),
                        resources.0.clone(),
                    )],
                    again: false,
                };
                Ok(self.stage.play(play)?)
            }
            Step::Unallocated {
                client,
                agent,
                resources,
            } => Ok(self.hold(client, agent, HoldingChange::Finish(resources.0.clone()))?),
            Step::Update {
                client,
                agent,
                from,
                to,
            } => {
                let change = HoldingChange::Convert {
                    from: from.0.clone(),
                    to: to.0.clone(),
                };
                self.hold(client, agent, change)?;
                // Of the client's holding alone: the agent has what it had.
                let total = self.totals.get(agent).cloned().unwrap_or_default();
                Ok(self.set_total(agent, total)?)
            }
            _ => self.look(step),
        }
    }

    fn look(&mut self, step: &Step) -> Result<(), Mismatch> {
        match step {
            Step::ExpectOrder { clients, or_else } => {
                let order = self.active_order()?;
                if or_else.contains(&order) {
                    return Ok(());
                }
                same(clients, &order, |order| format!("{order:?}"))
            }
            Step::ExpectMembers { clients } => {
                let wanted: BTreeSet<&String> = clients.iter().collect();
                let order = self.active_order()?;
                same(&wanted, &order.iter().collect(), |members| {
                    format!("{members:?}")
                })
            }
            Step::ExpectKnown {
                present,
                absent,
                count,
            } => {
                let places = self.places()?;
                let known: BTreeSet<String> = places
                    .iter()
                    .map(|place| self.stage.role_name(place.role))
                    .collect();
                let lacking = present.iter().find(|client| !known.contains(*client));
                let extra = absent.iter().find(|client| known.contains(*client));
                if let Some(client) = lacking.or(extra) {
                    let word = |known| if known { "known" } else { "not known" };
                    return Err(Mismatch {
                        expected: format!("{client} {}", word(lacking.is_some())),
                        actual: format!("it is {}", word(lacking.is_none())),
                    });
                }
                same(count, &known.len(), |count| format!("{count} clients"))
            }
            Step::ExpectAllocation {
                client,
                agents,
                total,
            } => self.same_allocation(client.as_deref(), agents, total.as_ref()),
            _ => Err("a step of the other kind".to_owned().into()),
        }
    }

    fn client(&self, path: &str) -> Result<String, String> {
        let name = self.clients.get(path);
        name.cloned()
            .ok_or_else(|| format!("there is no client {path}"))
    }

    fn add_agent(&mut self, id: &str, resources: &Resources) -> Result<(), String> {
        if self.stage.agent(id).is_ok() {
            return self.set_total(id, resources.clone());
        }
        self.totals.insert(id.to_owned(), resources.clone());
        let registering = self.stage.register(id, resources, "", Vec::new());
        self.stage.event(registering.event)
    }

    fn set_total(&mut self, id: &str, total: Resources) -> Result<(), String> {
        self.totals.insert(id.to_owned(), total.clone());
        let play = Play::Tell {
            agent: self.stage.agent(id)?,
            total: Some(total),
            attributes: None,
        };
        self.stage.play(play)
    }

    fn add(&mut self, path: &str, active: bool) -> Result<(), String> {
        self.added += 1;
        let name = format!("client-{}", self.added);
        self.clients.insert(path.to_owned(), name.clone());
        let framework = NewFramework {
            name: name.as_str().into(),
            version: String::new(),
            digest: String::new(),
            roles: vec![role_of(path)?],
            config: String::new(),
            gpus: false,
            options: options(active),
        };
        self.stage.order(|ticket| Event::FrameworkAdded {
            ticket,
            framework: Box::new(framework),
        })
    }

    fn activate(&mut self, path: &str, active: bool) -> Result<(), String> {
        let name = self.client(path)?;
        let change = FrameworkChange {
            options: Some(options(active)),
            ..FrameworkChange::default()
        };
        self.stage.order(|ticket| Event::FrameworkChangeAsked {
            ticket,
            name,
            change: Box::new(change),
        })
    }

    fn hold(&mut self, path: &str, agent: &str, change: HoldingChange) -> Result<(), String> {
        let play = Play::Hold {
            framework: self.client(path)?,
            role: role_of(path)?,
            agent: self.stage.agent(agent)?,
            change,
        };
        self.stage.play(play)
    }

    /// Clients in order of service.
    fn places(&mut self) -> Result<Vec<Place>, String> {
        let mut places = self.stage.places()?;
        places.retain(|place| place.client != NONE);
        Ok(places)
    }

    fn active_order(&mut self) -> Result<Vec<String>, String> {
        let places = self.places()?;
        let active = places.iter().filter(|place| place.active);
        Ok(active
            .map(|place| self.stage.role_name(place.role))
            .collect())
    }

    fn same_allocation(
        &self,
        client: Option<&str>,
        agents: &BTreeMap<String, Piles>,
        total: Option<&Quantities>,
    ) -> Result<(), Mismatch> {
        let paths: Vec<&String> = match client {
            Some(client) => self.clients.keys().filter(|path| *path == client).collect(),
            None => self.clients.keys().collect(),
        };
        let mut held: BTreeMap<String, Resources> = BTreeMap::new();
        let mut sum = Amounts::new();
        for path in paths {
            for name in self.stage.agent_names() {
                let agent = self.stage.agent(&name)?;
                let role = role_of(path)?;
                let (_, used) = self.stage.core.holding(&self.client(path)?, &role, agent);
                if !used.is_empty() {
                    for (kind, amount) in scalars(&used).total().amounts() {
                        *sum.entry(kind.to_owned()).or_default() += amount;
                    }
                    held.entry(name).or_default().add(&used);
                }
            }
        }
        if !agents.is_empty() {
            let wanted: BTreeMap<String, Resources> = agents
                .iter()
                .map(|(agent, piles)| (agent.clone(), piles.0.clone()))
                .collect();
            same(&wanted, &held, |held| {
                let rows = held
                    .iter()
                    .map(|(agent, what)| format!("{what} on {agent}"));
                rows.collect::<Vec<_>>().join(", ")
            })?;
        }
        match total {
            Some(total) => same(&trimmed(&total.amounts()), &sum, |sum| {
                format!("{} in all", text(sum))
            }),
            None => Ok(()),
        }
    }
}

fn options(active: bool) -> FrameworkOptions {
    FrameworkOptions {
        active,
        ..FrameworkOptions::default()
    }
}
