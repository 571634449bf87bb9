//! Reservations: what of an agent belongs to a role, by its set-up or made at run time.

use proffer_model::fact::{AgentShape, Fact};
use proffer_model::{AgentId, OfferId, Reason, Remedy, Resources, RoleName, Terms, code};

use crate::account::Part;
use crate::action::Reply;
use crate::event::{ReservationChange, Ticket};
use crate::handles::ClientId;
use crate::machine::Core;

/// What a reservation that comes or goes makes of what.
#[derive(Clone, Debug)]
pub(crate) struct Conversion {
    pub(crate) from: Resources,
    pub(crate) to: Resources,
}

impl Core {
    pub(crate) fn reservation_asked(
        &mut self,
        ticket: Ticket,
        id: AgentId,
        resources: &Resources,
        change: ReservationChange,
    ) {
        match self.reserve_free(id, resources, change) {
            Ok(()) => self.reply(ticket, Reply::Done),
            Err(text) => {
                let why = Reason::new(code::INVALID, Remedy::ChooseAnew, text);
                self.reply(ticket, Reply::Refused(why));
            }
        }
    }

    /// An operator's: only what is free can become something else.
    fn reserve_free(
        &mut self,
        id: AgentId,
        resources: &Resources,
        change: ReservationChange,
    ) -> Result<(), String> {
        let agent = self
            .agents
            .get(&id)
            .ok_or_else(|| format!("there is no {id}"))?;
        let made = conversion(resources, change, agent.account.free())?;
        if !agent.account.free().contains(&made.from) {
            let short = made.from.minus_down_to_zero(agent.account.free());
            return Err(format!("{short} of it is not free on {id}"));
        }
        self.convert_free(id, &made);
        Ok(())
    }

    /// What is free of an agent becomes something else, durably.
    pub(crate) fn convert_free(&mut self, id: AgentId, made: &Conversion) {
        let is_noted = self.free_is_noted();
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        if is_noted {
            self.feed.note_free(id, agent.account.free());
        }
        self.feed.retotal(id, agent.account.total());
        agent.account.retotal(&made.from, &made.to);
        self.note_shape(id);
        self.agent_has_more(id);
    }

    /// What a client holds becomes something else, in its offers and in the agent's total.
    pub(crate) fn convert_held(
        &mut self,
        id: AgentId,
        client: ClientId,
        part: Part,
        made: &Conversion,
    ) {
        let Some(agent) = self.agents.get(&id) else {
            return;
        };
        self.feed.retotal(id, agent.account.total());
        self.feed.note_vanishing((id, client), &made.from);
        self.with_account(id, client, |account| {
            account.convert(client, part, &made.from, &made.to)
        });
    }

    /// The same in the book: offers of the client on the agent.
    pub(crate) fn rewrite_offers(&mut self, id: AgentId, client: ClientId, made: &Conversion) {
        let mut first = true;
        self.shrink_offers(id, client, &made.from, |open| {
            if std::mem::take(&mut first) {
                open.add(&made.to);
            }
        });
    }

    /// Takes from the client's open offers on an agent, oldest first; `touched` may put something
    /// else in. Offers of which nothing is left are closed.
    pub(crate) fn shrink_offers(
        &mut self,
        id: AgentId,
        client: ClientId,
        what: &Resources,
        mut touched: impl FnMut(&mut Resources),
    ) {
        let mut left = what.clone();
        for offer in self.offers_of(id, client) {
            let Some(open) = self.offers.get_mut(&offer) else {
                continue;
            };
            let rest = left.minus_down_to_zero(&open.offer.resources);
            if rest == left {
                continue;
            }
            let taken = left.minus_down_to_zero(&rest);
            open.offer.resources = open.offer.resources.minus_down_to_zero(&taken);
            touched(&mut open.offer.resources);
            left = rest;
            if open.offer.resources.is_empty() {
                self.close_offer(offer);
            }
            if left.is_empty() {
                return;
            }
        }
    }

    /// Open offers of a client on an agent, oldest first.
    pub(crate) fn offers_of(&self, id: AgentId, client: ClientId) -> Vec<OfferId> {
        let Some(agent) = self.agents.get(&id) else {
            return Vec::new();
        };
        let own = |offer: &&OfferId| {
            self.offers
                .get(offer)
                .is_some_and(|open| open.client == client)
        };
        agent.offers.iter().filter(own).copied().collect()
    }

    /// What host and operators made of an agent is durable.
    pub(crate) fn note_shape(&mut self, id: AgentId) {
        if let Some(agent) = self.agents.get(&id) {
            self.facts.push(Fact::AgentShaped(Box::new(agent.shape())));
        }
    }

    pub(crate) fn replay_shape(&mut self, shape: AgentShape) -> Result<(), String> {
        let AgentShape {
            agent: id,
            special,
            total,
            deactivated,
            down,
        } = shape;
        let agent = self
            .agents
            .get_mut(&id)
            .ok_or_else(|| format!("there is no {id}"))?;
        agent.special = special;
        agent.account.set_total(total);
        agent.deactivated = deactivated;
        agent.down = down;
        Ok(())
    }
}

/// What a framework may reserve of what it was offered under a role: for that role.
pub(crate) fn conversion_for(
    resources: &Resources,
    change: ReservationChange,
    role: &RoleName,
    held: &Resources,
) -> Result<Conversion, String> {
    for (terms, _) in resources.piles() {
        if terms.reserved.last() != Some(role) {
            let owner = terms.reserved.last().map_or("nobody", |role| role.as_str());
            return Err(format!(
                "it is to be reserved to {owner}, and was offered to {role}"
            ));
        }
    }
    conversion(resources, change, held)
}

/// From the reserved form: the last role of each pile comes or goes. `held`: what there is of it.
fn conversion(
    resources: &Resources,
    change: ReservationChange,
    held: &Resources,
) -> Result<Conversion, String> {
    if resources.is_empty() {
        return Err("nothing is named".to_owned());
    }
    let mut popped = Resources::none();
    for (terms, bundle) in resources.piles() {
        popped.add_pile(&without_last(terms, held)?, bundle);
    }
    Ok(match change {
        ReservationChange::Reserve => Conversion {
            from: popped,
            to: resources.clone(),
        },
        ReservationChange::Unreserve => Conversion {
            from: resources.clone(),
            to: popped,
        },
    })
}

pub(crate) fn without_last(terms: &Terms, held: &Resources) -> Result<Terms, String> {
    let mut outer = terms.clone();
    let Some(role) = outer.reserved.pop() else {
        return Err("a pile names no role to reserve it to".to_owned());
    };
    if role == RoleName::star() {
        return Err("nothing is reserved to *".to_owned());
    }
    if let Some(parent) = outer
        .reserved
        .last()
        .filter(|parent| !role.is_strictly_below(parent))
    {
        return Err(format!("{role} does not lie below {parent}"));
    }
    if terms.marks.revocable {
        return Err("revocable resources are not reserved".to_owned());
    }
    if !terms.volume.is_empty() {
        return Err(format!("the volume {} is destroyed first", terms.volume));
    }
    outer.label = String::new();
    outer.marks.dynamic = terms.marks.dynamic && !outer.reserved.is_empty();
    if outer.marks.dynamic && held.get(&outer).is_none() {
        // What was refined at run time may be of the agent's own set-up below.
        outer.marks.dynamic = false;
        let set_up = held.get(&outer).is_some();
        outer.marks.dynamic = !set_up;
    }
    Ok(outer)
}
