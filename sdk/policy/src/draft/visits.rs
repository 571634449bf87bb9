//! Which agent is at hand: one after the other in random order, or as the author likes.

use super::{DemandUse, Draft};

/// Which round of visits this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// There is but one.
    Only,
    /// Guarantees.
    First,
    /// The rest.
    Second,
}

impl Draft<'_> {
    /// Goes on to the next agent; none after the last, or when the cycle has as many grants as it
    /// may have.
    pub fn next_agent(&mut self) -> Option<u32> {
        self.close_rows();
        if self.is_full() {
            return None;
        }
        let agent = self.order.get(self.visited).copied()?;
        self.visited += 1;
        self.enter(agent);
        Some(agent)
    }

    /// Goes to an agent of the cycle, for the first time or again; false if the cycle has as many
    /// grants as it may have, or no such agent. What a client is served there in several visits is
    /// one grant. Whoever goes to agents like this does not call [`Draft::next_agent`].
    pub fn go_to(&mut self, agent: u32) -> bool {
        self.roams = true;
        if self.at_hand == Some(agent) {
            return true;
        }
        self.close_rows();
        if self.is_full() || self.room.site(agent).is_none() {
            return false;
        }
        self.enter(agent);
        true
    }

    fn enter(&mut self, agent: u32) {
        self.at_hand = Some(agent);
        self.room.go_to(self.cluster, agent);
        if (self.roams || self.round == Round::Second)
            && let Some(rows) = self.put_by.remove(&agent)
        {
            self.rows_put_by -= rows.len();
            self.open = rows;
        }
    }

    /// The agents of the cycle that have not been visited, in the order in which they will be.
    #[must_use]
    pub fn agents(&self) -> &[u32] {
        self.order.get(self.visited..).unwrap_or_default()
    }

    /// Puts the agents that have not been visited into an order; those of equal keys stay in random
    /// order.
    pub fn arrange<K: Ord>(&mut self, key: impl Fn(&Self, u32) -> K) {
        let mut order = std::mem::take(&mut self.order);
        if let Some(rest) = order.get_mut(self.visited..) {
            rest.sort_by_cached_key(|&agent| key(self, agent));
        }
        self.order = order;
    }

    /// Begins a round for guarantees alone, if any is unmet: agents are visited, and
    /// [`Draft::serve_guarantee`] serves those whose roles lack something. [`Draft::begin_rest`]
    /// ends it. What a client is served in both rounds is one grant.
    pub fn begins_with_guarantees(&mut self) -> bool {
        // With demand, what is guaranteed is held ready in every allowance, and one round does.
        let unmet = self.rules.demand == DemandUse::Ignore && self.quotas.is_any_unmet();
        if unmet {
            self.round = Round::First;
        }
        unmet
    }

    /// All agents once more, in a new order, for everybody.
    pub fn begin_rest(&mut self) {
        self.close_rows();
        if self.round == Round::First {
            self.visited = 0;
            self.at_hand = None;
            self.random.shuffle(&mut self.order);
            self.round = Round::Second;
        }
    }

    /// Leaves the agent at hand.
    pub(crate) fn leave(&mut self) {
        self.close_rows();
        self.at_hand = None;
    }

    /// All agents of the cycle, visited or not.
    pub(crate) fn all_agents(&self) -> &[u32] {
        &self.order
    }
}
