//! Open offers and decline filters.

use std::collections::{BTreeMap, BTreeSet};

use proffer_model::framework::Rescinded;
use proffer_model::policy::{Noun, Removed};
use proffer_model::{
    AgentId, Bundle, Duration, FrameworkId, Offer, OfferId, Quantity, Ranges, Reason, Remedy,
    Resources, Timestamp, code,
};

use crate::account::Account;
use crate::agenda::Deadline;
use crate::config::{Allocation, FILTER_GRAIN, REFUSE_DEFAULT, REFUSE_MAX};
use crate::framework::Item;
use crate::handles::ClientId;
use crate::machine::Core;

/// Filters of one client on one agent; a client that declines again and again in ever new
/// portions loses the oldest.
const FILTERS_PER_PAIR_MAX: usize = 8;

/// An offer that is out.
#[derive(Clone, Debug)]
pub(crate) struct OpenOffer {
    pub(crate) offer: Offer,
    pub(crate) framework: FrameworkId,
    pub(crate) client: ClientId,
    /// Units of its demand that it answers.
    pub(crate) units: u32,
    /// The framework has seen it.
    pub(crate) delivered: bool,
}

/// A refusal: offers of this agent that are contained in `refused` do not go to the client.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) handle: u32,
    pub(crate) agent: AgentId,
    pub(crate) client: ClientId,
    pub(crate) refused: Resources,
    pub(crate) made_at: Timestamp,
    pub(crate) until: Timestamp,
    /// The cycle of the instant at which it ends still honours it.
    pub(crate) after_cycle: bool,
    /// Generation of the feed in which it was made.
    pub(crate) made: u64,
    /// Whether the policy was last told that all counted items free there are among the refused.
    pub(crate) inside: bool,
}

/// All filters.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    all: BTreeMap<u32, Filter>,
    pairs: BTreeMap<(AgentId, ClientId), Vec<u32>>,
    by_client: BTreeMap<ClientId, BTreeSet<u32>>,
    /// When a client's filters last went at its own word; see [`Core::release_client_filters`].
    released: BTreeMap<ClientId, Timestamp>,
    given: u32,
}

impl Filters {
    pub(crate) fn get(&self, handle: u32) -> Option<&Filter> {
        self.all.get(&handle)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Filter> {
        self.all.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Notes what the policy is told of a filter.
    pub(crate) fn set_inside(&mut self, handle: u32, inside: bool) {
        if let Some(filter) = self.all.get_mut(&handle) {
            filter.inside = inside;
        }
    }

    /// Filters of one client, wherever.
    fn of_client(&self, client: ClientId) -> Vec<u32> {
        self.by_client
            .get(&client)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    fn insert(&mut self, filter: Filter) {
        let (handle, client) = (filter.handle, filter.client);
        let key = (filter.agent, client);
        self.pairs.entry(key).or_default().push(handle);
        self.by_client.entry(client).or_default().insert(handle);
        self.all.insert(handle, filter);
    }

    /// Filters of one client on one agent.
    pub(crate) fn of(&self, agent: AgentId, client: ClientId) -> impl Iterator<Item = &Filter> {
        self.pairs
            .get(&(agent, client))
            .into_iter()
            .flatten()
            .filter_map(|handle| self.all.get(handle))
    }

    /// Filters on one agent.
    pub(crate) fn on(&self, agent: AgentId) -> impl Iterator<Item = &Filter> {
        self.pairs
            .range((agent, ClientId(0))..=(agent, ClientId(u32::MAX)))
            .flat_map(|(_, handles)| handles)
            .filter_map(|handle| self.all.get(handle))
    }

    fn remove(&mut self, handle: u32) -> Option<Filter> {
        let filter = self.all.remove(&handle)?;
        let key = (filter.agent, filter.client);
        if let Some(handles) = self.pairs.get_mut(&key) {
            handles.retain(|other| *other != handle);
            if handles.is_empty() {
                self.pairs.remove(&key);
            }
        }
        if let Some(handles) = self.by_client.get_mut(&filter.client) {
            handles.remove(&handle);
            if handles.is_empty() {
                self.by_client.remove(&filter.client);
            }
        }
        Some(filter)
    }
}

/// Why an offer ends without being accepted.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// The framework gave it back, with a refusal of so long.
    Declined(Option<Duration>),
    /// Its lease ran out.
    Expired,
    /// The host took it back.
    Rescinded(Reason),
}

impl Core {
    /// Changes an agent's account for a client, remembering for the policy what it was.
    pub(crate) fn with_account<T>(
        &mut self,
        agent: AgentId,
        client: ClientId,
        change: impl FnOnce(&mut Account) -> T,
    ) -> Option<T> {
        let record = self.agents.get_mut(&agent)?;
        self.feed.note_free(agent, record.account.free());
        self.feed.cells.insert((agent, client));
        Some(change(&mut record.account))
    }

    pub(crate) fn with_total(&mut self, id: AgentId, total: Resources) {
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        let shrinks = !total.contains(agent.account.total());
        self.feed.note_free(id, agent.account.free());
        if shrinks {
            let why = Reason::new(
                code::AGENT_LOST,
                Remedy::ChooseAnew,
                "the agent has less than before",
            );
            self.rescind_agent_offers(id, &why);
        }
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        self.feed.retotal(id, agent.account.total());
        agent.account.set_total(total);
        let clients: Vec<ClientId> = agent.account.held().map(|(client, _)| client).collect();
        self.feed
            .cells
            .extend(clients.into_iter().map(|client| (id, client)));
    }

    /// Holds resources out to a client. The resources are free: the caller has looked.
    pub(crate) fn make_offer(
        &mut self,
        offer: Offer,
        framework: FrameworkId,
        client: ClientId,
        units: u32,
    ) {
        let id = offer.id;
        let taken = self.with_account(offer.agent, client, |account| {
            account.offer(client, &offer.resources)
        });
        debug_assert!(matches!(taken, Some(Ok(()))), "judged before");
        if let Some(agent) = self.agents.get_mut(&offer.agent) {
            agent.offers.insert(id);
        }
        self.agenda.add(offer.expires, Deadline::OfferExpires(id));
        self.count_offered(framework, &offer.demand, units, Count::Up);
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            fw.offers.insert(id);
            fw.counters.offers_made += 1;
        }
        self.offers.insert(
            id,
            OpenOffer {
                offer,
                framework,
                client,
                units,
                delivered: false,
            },
        );
        self.enqueue(framework, Item::Offer(id));
    }

    /// Takes an offer out of the book without touching the ledger: the caller moves its resources.
    pub(crate) fn close_offer(&mut self, id: OfferId) -> Option<OpenOffer> {
        let open = self.offers.remove(&id)?;
        self.agenda
            .remove(open.offer.expires, Deadline::OfferExpires(id));
        if let Some(agent) = self.agents.get_mut(&open.offer.agent) {
            agent.offers.remove(&id);
        }
        if let Some(fw) = self.frameworks.get_mut(&open.framework) {
            fw.kept.remove(&id);
            fw.offers.remove(&id);
        }
        self.count_offered(open.framework, &open.offer.demand, open.units, Count::Down);
        Some(open)
    }

    /// Ends an offer: its resources are free again.
    pub(crate) fn end_offer(&mut self, id: OfferId, ending: &Ending) {
        let Some(open) = self.close_offer(id) else {
            return;
        };
        let (agent, client) = (open.offer.agent, open.client);
        self.with_account(agent, client, |account| {
            account.withdraw(client, &open.offer.resources)
        });
        let counters = self.counters_mut(open.framework);
        match ending {
            Ending::Declined(refuse) => {
                counters.offers_declined += 1;
                self.refuse(agent, client, open.offer.resources.clone(), *refuse);
            }
            Ending::Expired => {
                counters.offers_expired += 1;
                let why = Reason::new(
                    code::LEASE_EXPIRED,
                    Remedy::ChooseAnew,
                    "the offer's lease ran out",
                );
                self.tell_rescinded(&open, why);
                self.refuse(
                    agent,
                    client,
                    open.offer.resources.clone(),
                    Some(Duration::ZERO),
                );
            }
            Ending::Rescinded(why) => {
                counters.offers_rescinded += 1;
                self.tell_rescinded(&open, why.clone());
            }
        }
        self.agent_has_more(agent);
    }

    fn tell_rescinded(&mut self, open: &OpenOffer, why: Reason) {
        if open.delivered {
            self.enqueue(
                open.framework,
                Item::Rescinded(Rescinded {
                    id: open.offer.id.0,
                    why,
                }),
            );
        }
    }

    /// Takes back every offer of an agent.
    pub(crate) fn rescind_agent_offers(&mut self, id: AgentId, why: &Reason) {
        let Some(agent) = self.agents.get(&id) else {
            return;
        };
        let offers: Vec<OfferId> = agent.offers.iter().copied().collect();
        for offer in offers {
            self.end_offer(offer, &Ending::Rescinded(why.clone()));
        }
    }

    /// Takes back every offer of a framework.
    pub(crate) fn rescind_framework_offers(&mut self, framework: FrameworkId, why: &Reason) {
        let Some(fw) = self.frameworks.get(&framework) else {
            return;
        };
        let offers: Vec<OfferId> = fw.offers.iter().copied().collect();
        for offer in offers {
            self.end_offer(offer, &Ending::Rescinded(why.clone()));
        }
    }

    /// Puts a filter up for what a client gave back.
    pub(crate) fn refuse(
        &mut self,
        agent: AgentId,
        client: ClientId,
        refused: Resources,
        refuse: Option<Duration>,
    ) {
        let asked = refuse.unwrap_or(REFUSE_DEFAULT);
        if asked > REFUSE_MAX {
            self.note(
                None,
                Reason::new(
                    code::LIMIT,
                    Remedy::Mend,
                    format!("a refusal of {asked} was cut to 365 days"),
                ),
            );
        }
        let asked = asked.min(REFUSE_MAX);
        let (length, after_cycle) = match self.config.allocation {
            Allocation::Events { reoffer, .. } => (asked.max(reoffer), false),
            Allocation::Interval(_) if asked == Duration::ZERO => return,
            Allocation::Interval(interval) => (asked.max(interval), true),
        };
        let mut until = self.now + length;
        if matches!(self.config.allocation, Allocation::Events { .. }) {
            until = Timestamp(until.0.next_multiple_of(FILTER_GRAIN.0));
        }
        if refused.is_empty() || !self.agents.contains_key(&agent) {
            return;
        }
        self.drop_covered_filters(agent, client, &refused, until);
        let handle = self.filters.given;
        self.filters.given = self.filters.given.wrapping_add(1);
        let filter = Filter {
            handle,
            agent,
            client,
            refused,
            made_at: self.now,
            until,
            after_cycle,
            made: self.feed.generation,
            inside: false,
        };
        self.agenda.add(until, filter_deadline(&filter));
        self.filters.insert(filter);
        self.feed.filters.insert(handle);
    }

    /// Filters that a new one makes needless, and the oldest beyond the limit.
    fn drop_covered_filters(
        &mut self,
        agent: AgentId,
        client: ClientId,
        refused: &Resources,
        until: Timestamp,
    ) {
        let mut needless: Vec<u32> = self
            .filters
            .of(agent, client)
            .filter(|old| old.until <= until && refused.contains(&old.refused))
            .map(|old| old.handle)
            .collect();
        let left = self.filters.of(agent, client).count() - needless.len();
        if left >= FILTERS_PER_PAIR_MAX {
            needless.extend(self.filters.of(agent, client).map(|old| old.handle).take(1));
        }
        for handle in needless {
            self.drop_filter(handle);
        }
    }

    pub(crate) fn drop_filter(&mut self, handle: u32) -> Option<Filter> {
        let filter = self.filters.remove(handle)?;
        self.agenda.remove(filter.until, filter_deadline(&filter));
        self.feed.removed.push(Removed {
            what: Noun::Filter,
            handle,
        });
        self.feed.filters.remove(&handle);
        Some(filter)
    }

    pub(crate) fn drop_agent_filters(&mut self, agent: AgentId) {
        let handles: Vec<u32> = self.filters.on(agent).map(|filter| filter.handle).collect();
        for handle in handles {
            self.drop_filter(handle);
        }
    }

    /// Drops a client's filters: it does not take part any more.
    pub(crate) fn drop_client_filters(&mut self, client: ClientId) {
        for handle in self.filters.of_client(client) {
            self.drop_filter(handle);
        }
        self.filters.released.remove(&client);
    }

    /// A client's filters go at its own word: it revives, or its demand grows.
    ///
    /// In events mode at once only when that was not done within `reoffer`; otherwise they end as
    /// if 0 s had been asked for. Without this a framework that declines and revives in one answer
    /// would be offered the same thing again in the same millisecond, for ever.
    pub(crate) fn release_client_filters(&mut self, client: ClientId) {
        let now = self.now;
        let handles = self.filters.of_client(client);
        if handles.is_empty() {
            return;
        }
        let reoffer = match self.config.allocation {
            Allocation::Events { reoffer, .. } => reoffer,
            Allocation::Interval(_) => Duration::ZERO,
        };
        let last = self.filters.released.get(&client);
        if last.is_none_or(|last| now.since(*last) >= reoffer) {
            self.filters.released.insert(client, now);
            for handle in handles {
                self.drop_filter(handle);
            }
            return;
        }
        for handle in handles {
            self.shorten_filter(handle, reoffer);
        }
    }

    fn shorten_filter(&mut self, handle: u32, length: Duration) {
        let Some(filter) = self.filters.all.get_mut(&handle) else {
            return;
        };
        let until = (filter.made_at + length).0.next_multiple_of(FILTER_GRAIN.0);
        let until = Timestamp(until);
        if until >= filter.until {
            return;
        }
        let before = std::mem::replace(&mut filter.until, until);
        let deadline = filter_deadline(filter);
        self.agenda.remove(before, deadline.clone());
        self.agenda.add(until, deadline);
    }

    /// The filter that keeps this from the client, if one does.
    ///
    /// Amounts count as they are; of counted kinds (ports) what matters is whether the agent has
    /// any free that was not refused, for a policy grants how many and not which.
    pub(crate) fn filter_against(
        &self,
        agent: AgentId,
        client: ClientId,
        what: &Resources,
    ) -> Option<&Filter> {
        let free = self.agents.get(&agent)?.account.free();
        self.filters
            .of(agent, client)
            .find(|filter| refuses(&filter.refused, what, free))
    }

    fn count_offered(&mut self, framework: FrameworkId, demand: &str, units: u32, count: Count) {
        let Some(standing) = self
            .frameworks
            .get_mut(&framework)
            .and_then(|fw| fw.demands.get_mut(demand))
        else {
            return;
        };
        standing.offered = match count {
            Count::Up => standing.offered.saturating_add(units),
            Count::Down => standing.offered.saturating_sub(units),
        };
        let handle = standing.handle;
        let waited = self.feed.wanting.contains(&handle);
        self.demand_changed(framework, demand);
        if !waited && self.feed.wanting.contains(&handle) {
            // While all of it was on offer, cycles passed it over on every agent.
            self.demand_waits_again(handle);
        }
    }
}

/// Whether a refusal keeps `what`, of what is free on the agent.
fn refuses(refused: &Resources, what: &Resources, free: &Resources) -> bool {
    what.piles().all(|(terms, wanted)| {
        refused.get(terms).is_some_and(|refused| {
            let counted_inside = free
                .get(terms)
                .is_none_or(|free| counted_is_inside(refused, free));
            scalars_within(refused, wanted) && (counted_inside || !has_counted(wanted))
        })
    })
}

fn scalars_within(refused: &Bundle, wanted: &Bundle) -> bool {
    let mut scalars = wanted.clone();
    scalars.ports = Ranges::default();
    scalars
        .other
        .retain(|_, quantity| matches!(quantity, Quantity::Scalar(_)));
    refused.contains(&scalars)
}

fn has_counted(bundle: &Bundle) -> bool {
    let scalar = |quantity: &Quantity| matches!(quantity, Quantity::Scalar(_));
    !bundle.ports.is_empty() || !bundle.other.values().all(scalar)
}

/// Whether all items of ranges and sets that are free are among the refused.
pub(crate) fn counted_is_inside(refused: &Bundle, free: &Bundle) -> bool {
    let mut counted = Bundle {
        ports: free.ports.clone(),
        ..Bundle::default()
    };
    for (kind, quantity) in &free.other {
        if !matches!(quantity, Quantity::Scalar(_)) {
            counted.other.insert(kind.clone(), quantity.clone());
        }
    }
    refused.contains(&counted)
}

#[derive(Clone, Copy)]
enum Count {
    Up,
    Down,
}

fn filter_deadline(filter: &Filter) -> Deadline {
    if filter.after_cycle {
        Deadline::FilterEndsAfterCycle(filter.handle)
    } else {
        Deadline::FilterEnds(filter.handle)
    }
}
