//! What a step is told: items of a queue as events, neighbours of one kind merged.

use std::sync::Arc;

use proffer_model::framework::{Batch, Event as Told, Fired};
use proffer_model::{AgentId, FrameworkId, OfferId, StepNumber, TaskUpdate};

use crate::framework::Item;
use crate::machine::Core;

impl Core {
    /// Puts a batch together: neighbours of one kind merged, every agent named in it described. Its
    /// offers are delivered.
    pub(crate) fn batch(
        &mut self,
        framework: FrameworkId,
        step: StepNumber,
        kept: &[OfferId],
        items: &[Item],
    ) -> Batch {
        let mut events: Vec<Told> = Vec::new();
        let room = kept.len() + offers_in(items).count();
        for id in kept {
            self.deliver(*id, room, &mut events);
        }
        for item in items {
            if let Item::Offer(id) = item {
                self.deliver(*id, room, &mut events);
            } else if let Some(event) = self.told(framework, item) {
                merge(&mut events, event);
            }
        }
        let mut agents: Vec<AgentId> = events.iter().flat_map(agents_named).collect();
        agents.sort_unstable();
        agents.dedup();
        let described = agents.into_iter().filter_map(|id| {
            let agent = self.agents.get(&id)?;
            Some((id, Arc::clone(&agent.record.info)))
        });
        Batch {
            step,
            now: self.now,
            agents: described.collect(),
            events,
        }
    }

    /// Puts an offer into the events. `room`: how many there may be in a row.
    fn deliver(&mut self, id: OfferId, room: usize, events: &mut Vec<Told>) {
        let Some(open) = self.offers.get_mut(&id) else {
            return;
        };
        open.delivered = true;
        let offer = open.offer.clone();
        if let Some(Told::Offers(offers)) = events.last_mut() {
            offers.push(offer);
        } else {
            let mut offers = Vec::with_capacity(room);
            offers.push(offer);
            events.push(Told::Offers(offers));
        }
    }

    fn told(&self, framework: FrameworkId, item: &Item) -> Option<Told> {
        let fw = self.frameworks.get(&framework)?;
        Some(match item {
            Item::Started(cause) => Told::Started(cause.clone()),
            Item::Offer(_) => return None,
            Item::Rescinded(rescinded) => Told::Rescinded(vec![rescinded.clone()]),
            Item::Update { update, .. } => Told::Updates(vec![TaskUpdate::clone(update)]),
            Item::Durable(number) => fw.durable.get(number)?.clone(),
            Item::Told(event) => Told::clone(event),
            Item::Timer(id, _) => Told::Timers(vec![Fired {
                id: id.clone(),
                due: fw.timers.get(id)?.at,
            }]),
            Item::Request(id) => Told::Request(self.requests.get(id)?.request.clone()),
        })
    }
}

pub(crate) fn offers_in(items: &[Item]) -> impl Iterator<Item = OfferId> {
    items.iter().filter_map(|item| match item {
        Item::Offer(id) => Some(*id),
        _ => None,
    })
}

/// Appends an event, into the one before if both are lists of one kind.
fn merge(events: &mut Vec<Told>, event: Told) {
    match (events.last_mut(), event) {
        (Some(Told::Rescinded(all)), Told::Rescinded(rows)) => all.extend(rows),
        (Some(Told::Updates(all)), Told::Updates(rows)) => all.extend(rows),
        (Some(Told::OperationUpdates(all)), Told::OperationUpdates(rows)) => all.extend(rows),
        (Some(Told::AgentsChanged(all)), Told::AgentsChanged(rows)) => all.extend(rows),
        (Some(Told::Timers(all)), Told::Timers(rows)) => all.extend(rows),
        (Some(Told::Rejected(all)), Told::Rejected(rows)) => all.extend(rows),
        (_, event) => events.push(event),
    }
}

fn agents_named(event: &Told) -> Vec<AgentId> {
    match event {
        Told::Offers(rows) => rows.iter().map(|offer| offer.agent).collect(),
        Told::Updates(rows) => rows.iter().filter_map(|update| update.agent).collect(),
        Told::OperationUpdates(rows) => rows.iter().map(|update| update.agent).collect(),
        Told::AgentsChanged(rows) => rows.iter().map(|change| change.agent).collect(),
        Told::InverseOffers(rows) => rows.iter().map(|offer| offer.agent).collect(),
        Told::Holdings(holdings) => holdings.rows.iter().map(|row| row.agent).collect(),
        Told::Explained(explained) => explained.rows.iter().filter_map(|row| row.sample).collect(),
        _ => Vec::new(),
    }
}
