//! The book of open offers.

use proffer_codec::codec_struct;
use proffer_model::framework::Rescinded;
use proffer_model::{
    AgentId, Duration, FrameworkId, Offer, OfferId, Reason, Remedy, Resources, code,
};

use crate::account::Account;
use crate::agenda::Deadline;
use crate::feed::Known;
use crate::framework::Item;
use crate::handles::ClientId;
use crate::machine::Core;

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
    /// It is not the client's but its subtree's, whose own policy has not given it on yet.
    pub(crate) kept: bool,
}

codec_struct!(OpenOffer {
    offer,
    framework,
    client,
    units,
    delivered,
    kept
});

/// An offer that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewOffer {
    pub(crate) framework: FrameworkId,
    pub(crate) id: OfferId,
    /// See [`OpenOffer::kept`].
    pub(crate) kept: bool,
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
        let is_noted = self.free_is_noted();
        let account = &mut self.agents.get_mut(&agent)?.account;
        if is_noted {
            self.feed.note_free(agent, account.free());
        }
        Some(self.feed.change((agent, client), account, change))
    }

    pub(crate) fn with_total(&mut self, id: AgentId, total: Resources) {
        let on_events = self.allocates_on_events();
        let is_noted = self.free_is_noted();
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        let before = agent.account.total();
        let revocable = |total: &Resources| total.only(|terms| terms.marks.revocable);
        let estimate_changed = revocable(&total) != revocable(before);
        let shrinks = on_events && !total.contains(before);
        if is_noted {
            self.feed.note_free(id, agent.account.free());
        }
        if self.config.rescinds && estimate_changed {
            self.rescind_revocable_offers(id);
        }
        if self.config.rescinds && shrinks {
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
        for (client, _) in agent.account.held() {
            self.feed.cells.add(id, client, Known::Something);
        }
    }

    /// What may be taken back at any time was estimated anew.
    fn rescind_revocable_offers(&mut self, id: AgentId) {
        let why = Reason::new(
            code::AGENT_LOST,
            Remedy::ChooseAnew,
            "the agent's revocable resources have changed",
        );
        let holds = |open: &OpenOffer| {
            let mut piles = open.offer.resources.piles();
            open.offer.agent == id && piles.any(|(terms, _)| terms.marks.revocable)
        };
        let offers: Vec<OfferId> = self
            .offers
            .iter()
            .filter(|(_, open)| holds(open))
            .map(|(offer, _)| *offer)
            .collect();
        for offer in offers {
            self.end_offer(offer, &Ending::Rescinded(why.clone()));
        }
    }

    /// Holds resources out to a client. The resources are free: the caller has looked. Its framework
    /// does not know of it before [`Core::hand_over`].
    pub(crate) fn make_offer(&mut self, open: OpenOffer) -> NewOffer {
        let offer = &open.offer;
        let (id, client) = (offer.id, open.client);
        let is_noted = self.free_is_noted();
        if let Some(agent) = self.agents.get_mut(&offer.agent) {
            let account = &mut agent.account;
            if is_noted {
                self.feed.note_free(offer.agent, account.free());
            }
            let taken = self.feed.change((offer.agent, client), account, |account| {
                account.offer(client, &offer.resources)
            });
            debug_assert!(taken.is_ok(), "judged before");
            agent.offers.push(id);
        }
        self.agenda.add(offer.expires, Deadline::OfferExpires(id));
        if !offer.demand.is_empty() {
            self.count_offered(open.framework, &offer.demand, open.units, Count::Up);
        }
        if open.kept {
            self.granted_to_tenant(&offer.role, id);
        }
        let new = NewOffer {
            framework: open.framework,
            id,
            kept: open.kept,
        };
        self.offers.insert(id, Box::new(open));
        new
    }

    /// Lets frameworks know of the offers that were made to them, in that order: each is gone to once.
    pub(crate) fn hand_over(&mut self, mut made: Vec<NewOffer>) {
        made.sort_by_key(|new| new.framework);
        for of_one in made.chunk_by(|one, other| one.framework == other.framework) {
            let Some(framework) = of_one.first().map(|new| new.framework) else {
                continue;
            };
            let Some(fw) = self.frameworks.get_mut(&framework) else {
                continue;
            };
            fw.offers.extend(of_one.iter().map(|new| new.id));
            let waiting = fw.queue.len();
            let own = of_one.iter().filter(|new| !new.kept);
            fw.queue.extend(own.map(|new| Item::Offer(new.id)));
            let handed = fw.queue.len() - waiting;
            fw.counters.offers_made += handed as u64;
            if handed > 0 {
                self.ready.insert(framework);
            }
        }
    }

    /// Takes an offer out of the book without touching the ledger: the caller moves its resources.
    pub(crate) fn close_offer(&mut self, id: OfferId) -> Option<Box<OpenOffer>> {
        let open = self.offers.remove(&id)?;
        self.agenda
            .remove(open.offer.expires, Deadline::OfferExpires(id));
        if let Some(agent) = self.agents.get_mut(&open.offer.agent) {
            agent.offers.retain(|other| *other != id);
        }
        if let Some(fw) = self.frameworks.get_mut(&open.framework) {
            fw.kept.remove(&id);
            fw.offers.remove(&id);
        }
        if !open.offer.demand.is_empty() {
            self.count_offered(open.framework, &open.offer.demand, open.units, Count::Down);
        }
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
        if open.kept {
            // The framework never knew of it.
            return self.agent_has_more(agent);
        }
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
        let offers = agent.offers.clone();
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

#[derive(Clone, Copy)]
enum Count {
    Up,
    Down,
}
