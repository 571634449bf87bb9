//! The kit's agents, and the tasks that were launched on them.

use std::collections::BTreeMap;

use crate::framework::{
    Act, Agent, AgentId, Event, Offer, OfferId, Part, Pile, Room, Task, TaskState, Template,
};

/// A task as it was launched.
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    /// What the framework asked for.
    pub task: Task,
    /// Its template.
    pub template: Template,
    /// Where it is.
    pub agent: AgentId,
    /// That agent's hostname.
    pub hostname: String,
    /// Its final state, once it has one.
    pub ended: Option<TaskState>,
    /// Whether the framework has asked to end it.
    pub killed: bool,
    sequence: u64,
}

struct Machine {
    agent: Agent,
    free: Room,
    lost: bool,
}

#[derive(Default)]
pub(super) struct Pool {
    machines: BTreeMap<AgentId, Machine>,
    tasks: BTreeMap<String, Launched>,
    offers: OfferId,
}

impl Pool {
    pub(super) fn add_agent(&mut self, hostname: &str, pile: Pile) -> AgentId {
        let id = self.machines.keys().last().map_or(1, |last| last + 1);
        let agent = Agent {
            id,
            hostname: hostname.to_owned(),
            region: String::new(),
            zone: String::new(),
            attributes: Vec::new(),
        };
        let machine = Machine {
            agent,
            free: Room::new(vec![pile]),
            lost: false,
        };
        self.machines.insert(id, machine);
        id
    }

    pub(super) fn id_of(&self, hostname: &str) -> AgentId {
        let found = self
            .machines
            .values()
            .find(|machine| machine.agent.hostname == hostname);
        match found {
            Some(machine) => machine.agent.id,
            None => panic!("the kit has no agent '{hostname}': add it with add_agent"),
        }
    }

    pub(super) fn lose(&mut self, agent: AgentId) {
        if let Some(machine) = self.machines.get_mut(&agent) {
            machine.lost = true;
        }
    }

    pub(super) fn next_offer(&mut self) -> OfferId {
        self.offers += 1;
        self.offers
    }

    /// What is free, agent by agent, where there is anything.
    pub(super) fn free(&self) -> Vec<(AgentId, Vec<Pile>)> {
        self.machines
            .iter()
            .filter(|(_, machine)| !machine.lost && !machine.free.piles().is_empty())
            .map(|(id, machine)| (*id, machine.free.piles().to_vec()))
            .collect()
    }

    pub(super) fn offers_of(&self, events: &[Event]) -> Vec<Offer> {
        let mut offers = Vec::new();
        for event in events {
            if let Event::Offers(new) = event {
                offers.extend(new.iter().cloned());
            }
        }
        offers
    }

    /// Every agent that the events name, once, by id.
    pub(super) fn agents_of(&self, events: &[Event]) -> Vec<Agent> {
        let mut ids = Vec::new();
        for event in events {
            match event {
                Event::Offers(offers) => ids.extend(offers.iter().map(|offer| offer.agent)),
                Event::Updates(updates) => {
                    ids.extend(updates.iter().filter_map(|update| update.agent));
                }
                Event::AgentsChanged(changes) => {
                    ids.extend(changes.iter().map(|change| change.agent));
                }
                Event::InverseOffers(offers) => ids.extend(offers.iter().map(|offer| offer.agent)),
                _ => {}
            }
        }
        ids.sort_unstable();
        ids.dedup();
        ids.iter()
            .filter_map(|id| self.machines.get(id).map(|machine| machine.agent.clone()))
            .collect()
    }

    /// Launches what a checked part launches.
    pub(super) fn accept(&mut self, part: &Part, offers: &[Offer], templates: &[Template]) {
        let offer = offers.iter().find(|offer| part.offers.contains(&offer.id));
        let Some(offer) = offer else { return };
        for operation in &part.operations {
            let (Act::Launch(tasks) | Act::LaunchGroup(tasks)) = &operation.act else {
                continue;
            };
            for task in tasks {
                let Some(template) = templates.get(task.template as usize) else {
                    continue;
                };
                self.launch(task.clone(), template.clone(), offer.agent);
            }
        }
    }

    fn launch(&mut self, task: Task, template: Template, agent: AgentId) {
        let mut hostname = String::new();
        if let Some(machine) = self.machines.get_mut(&agent) {
            hostname.clone_from(&machine.agent.hostname);
            for pile in &task.piles {
                machine.free.take_pile(pile);
            }
        }
        let launched = Launched {
            template,
            agent,
            hostname,
            ended: None,
            killed: false,
            sequence: 0,
            task,
        };
        self.tasks.insert(launched.task.id.clone(), launched);
    }

    pub(super) fn kill(&mut self, task: &str) {
        if let Some(launched) = self.tasks.get_mut(task) {
            launched.killed = true;
        }
    }

    pub(super) fn end(&mut self, task: &str, state: TaskState) {
        let Some(launched) = self.tasks.get_mut(task) else {
            return;
        };
        if launched.ended.replace(state).is_some() {
            return;
        }
        if let Some(machine) = self.machines.get_mut(&launched.agent) {
            let mut whole: Vec<Pile> = machine.free.piles().to_vec();
            for pile in &launched.task.piles {
                merge(&mut whole, pile);
            }
            machine.free = Room::new(whole);
        }
    }

    pub(super) fn next_sequence(&mut self, task: &str) -> (AgentId, u64) {
        match self.tasks.get_mut(task) {
            Some(launched) => {
                launched.sequence += 1;
                (launched.agent, launched.sequence)
            }
            None => panic!("task '{task}' was never launched"),
        }
    }

    pub(super) fn task(&self, id: &str) -> Option<&Launched> {
        self.tasks.get(id)
    }

    pub(super) fn running(&self) -> Vec<String> {
        self.ids(|launched| launched.ended.is_none())
    }

    pub(super) fn to_be_killed(&self) -> Vec<String> {
        self.ids(|launched| launched.ended.is_none() && launched.killed)
    }

    pub(super) fn tasks_on(&self, agent: AgentId) -> Vec<String> {
        self.ids(|launched| launched.ended.is_none() && launched.agent == agent)
    }

    fn ids(&self, wanted: impl Fn(&Launched) -> bool) -> Vec<String> {
        let found = self.tasks.iter().filter(|(_, launched)| wanted(launched));
        found.map(|(id, _)| id.clone()).collect()
    }
}

/// Adds to the pile of the same terms, so that what was split is one again.
fn merge(piles: &mut Vec<Pile>, back: &Pile) {
    match piles.iter_mut().find(|pile| pile.terms == back.terms) {
        Some(pile) => {
            pile.cpus += back.cpus;
            pile.mem += back.mem;
            pile.disk += back.disk;
            pile.gpus += back.gpus;
            pile.ports.extend(back.ports.iter().copied());
            pile.other.extend(back.other.iter().cloned());
        }
        None => piles.push(back.clone()),
    }
}
