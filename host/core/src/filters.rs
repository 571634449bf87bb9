//! Decline filters: what clients gave back and do not want to see again for a while.

use std::collections::{BTreeMap, BTreeSet};

use proffer_codec::codec_struct;
use proffer_model::policy::Noun;
use proffer_model::{
    AgentId, Bundle, Duration, Quantity, Ranges, Reason, Remedy, Resources, Timestamp, code,
};

use crate::agenda::Deadline;
use crate::config::{Allocation, FILTER_GRAIN, REFUSE_DEFAULT, REFUSE_MAX};
use crate::handles::ClientId;
use crate::machine::Core;

/// Filters of one client on one agent; a client that declines again and again in ever new
/// portions loses the oldest.
const FILTERS_PER_PAIR_MAX: usize = 8;

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
    /// Not the client refused it: the policy that decides within its domain left it.
    pub(crate) passed_over: bool,
}

codec_struct!(Filter {
    handle,
    agent,
    client,
    refused,
    made_at,
    until,
    after_cycle,
    made,
    inside,
    passed_over
});

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

codec_struct!(Filters {
    all,
    pairs,
    by_client,
    released,
    given
});

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

impl Core {
    /// Puts a filter up for what a client gave back.
    pub(crate) fn refuse(
        &mut self,
        agent: AgentId,
        client: ClientId,
        refused: Resources,
        refuse: Option<Duration>,
    ) {
        #[cfg(feature = "planted")]
        if crate::planted::Planted::FilterForgotten.is_planted() {
            return;
        }
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
            // One that lasts exactly an interval is honoured by the cycle of its end.
            Allocation::Interval(interval) => (asked.max(interval), asked <= interval),
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
            passed_over: false,
        };
        self.agenda.add(until, filter_deadline(&filter));
        self.filters.insert(filter);
        self.feed.filters.insert(handle);
    }

    /// What the policy of a client's domain left of what it was given goes to others at once, and to the
    /// client again as if it had been declined for no time.
    pub(crate) fn pass_over(&mut self, agent: AgentId, client: ClientId, left: Resources) {
        let handle = self.filters.given;
        self.refuse(agent, client, left, Some(Duration::ZERO));
        if let Some(filter) = self.filters.all.get_mut(&handle) {
            filter.passed_over = true;
        }
    }

    /// Filters that a new one makes needless, and the oldest beyond the limit.
    fn drop_covered_filters(
        &mut self,
        agent: AgentId,
        client: ClientId,
        refused: &Resources,
        until: Timestamp,
    ) {
        let all = self.filters.of(agent, client).count();
        if !self.allocates_on_events() && all < FILTERS_PER_PAIR_MAX {
            // Mesos counts every refusal.
            return;
        }
        let mut needless: Vec<u32> = self
            .filters
            .of(agent, client)
            .filter(|old| old.until <= until && refused.contains(&old.refused))
            .map(|old| old.handle)
            .collect();
        let left = all - needless.len();
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
        self.feed.forget(Noun::Filter, handle);
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

    /// Whether the client itself refused all of this; what a policy left is not its doing.
    pub(crate) fn is_refused(&self, agent: AgentId, client: ClientId, free: &Resources) -> bool {
        let mut filters = self.filters.of(agent, client);
        filters.any(|filter| !filter.passed_over && refuses(&filter.refused, free, free))
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
        let mut filters = self.filters.of(agent, client).peekable();
        filters.peek()?;
        let free = self.agents.get(&agent)?.account.free();
        filters.find(|filter| refuses(&filter.refused, what, free))
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

fn filter_deadline(filter: &Filter) -> Deadline {
    if filter.after_cycle {
        Deadline::FilterEndsAfterCycle(filter.handle)
    } else {
        Deadline::FilterEnds(filter.handle)
    }
}
