//! What a step is told: items of a queue as events, neighbours of one kind merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_model::framework::{Batch, Event as Told, Fired};
use proffer_model::{AgentId, AgentInfo, FrameworkId, OfferId, StepNumber, TaskUpdate};

use crate::framework::Item;
use crate::machine::Core;

impl Core {
    /// Puts a batch together: neighbours of one kind merged, every agent named in it described.
    pub(crate) fn batch(
        &self,
        framework: FrameworkId,
        step: StepNumber,
        kept: &[OfferId],
        items: &[Item],
    ) -> Batch {
        let mut events: Vec<Told> = Vec::new();
        let kept_offers = kept
            .iter()
            .filter_map(|id| self.offers.get(id))
            .map(|open| open.offer.clone());
        merge(&mut events, Told::Offers(kept_offers.collect()));
        for item in items {
            if let Some(event) = self.told(framework, item) {
                merge(&mut events, event);
            }
        }
        let mut agents: BTreeMap<AgentId, Arc<AgentInfo>> = BTreeMap::new();
        for id in events.iter().flat_map(agents_named) {
            if let Some(agent) = self.agents.get(&id) {
                agents.insert(id, Arc::clone(&agent.record.info));
            }
        }
        Batch {
            step,
            now: self.now,
            agents: agents.into_iter().collect(),
            events,
        }
    }

    fn told(&self, framework: FrameworkId, item: &Item) -> Option<Told> {
        let fw = self.frameworks.get(&framework)?;
        Some(match item {
            Item::Started(cause) => Told::Started(cause.clone()),
            Item::Offer(id) => Told::Offers(vec![self.offers.get(id)?.offer.clone()]),
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
        (_, Told::Offers(rows)) if rows.is_empty() => {}
        (Some(Told::Offers(all)), Told::Offers(rows)) => all.extend(rows),
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
