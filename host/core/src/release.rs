//! What a framework leaves behind when it is removed: what was reserved at run time, and volumes.
//!
//! A reservation belongs to a role, and the ledger does not say who made it. So what a framework
//! leaves is what was reserved at run time to roles that are **its own**: no other framework is in them or
//! below them. What is reserved to a role that others share stays, whatever is asked, and so does what
//! agents were set up with; of that only the volumes may go.
//!
//! Nothing or everything: what stands in the way is looked for before the removal begins, while it
//! goes on nobody else may come into the roles, and what goes, goes in the facts with which the
//! framework does.

use std::collections::{BTreeMap, BTreeSet};

use proffer_model::fact::{Fact, ReservationFate};
use proffer_model::{
    AgentId, Bundle, FrameworkId, Reason, Remedy, Resources, RoleName, Terms, code,
};

use crate::machine::Core;
use crate::reservations::{Conversion, without_last};

/// A pile that a framework leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// Where.
    pub agent: AgentId,
    /// One pile.
    pub resources: Resources,
    /// Whether its role is the framework's own; otherwise it stays.
    pub own: bool,
    /// What becomes of it.
    pub becomes: Left,
}

/// What becomes of a pile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It stays with its role.
    Kept,
    /// It is nobody's, or of the role that it was refined from.
    Released,
    /// The volume is destroyed; what it was made of is released, if it was reserved at run time.
    Wiped,
}

impl Core {
    /// What a framework that is removed leaves behind, agent by agent, and what becomes of it.
    pub fn left_behind(
        &self,
        framework: FrameworkId,
        fate: ReservationFate,
    ) -> impl Iterator<Item = LeftBehind> {
        let roles = self.roles_of(framework);
        self.agents.iter().flat_map(move |(id, agent)| {
            let piles = agent.account.total().piles();
            let left = piles.filter_map(|(terms, bundle)| {
                let own = *roles.get(terms.reserved.last()?)?;
                can_go(terms).then(|| LeftBehind {
                    agent: *id,
                    resources: Resources::pile(terms.clone(), bundle.clone()),
                    own,
                    becomes: becomes(terms, own, fate),
                })
            });
            left.collect::<Vec<_>>()
        })
    }

    /// Why a framework's reservations cannot be done away with in this way; none: they can.
    #[must_use]
    pub fn release_refused(&self, framework: FrameworkId, fate: ReservationFate) -> Option<Reason> {
        let refused = |text: String| Some(Reason::new(code::INVALID, Remedy::ChooseAnew, text));
        if fate == ReservationFate::Keep {
            return None;
        }
        for left in self.left_behind(framework, fate).filter(|left| left.own) {
            let (id, resources) = (left.agent, &left.resources);
            if let Some(volume) = volume_of(resources)
                && fate == ReservationFate::Release
            {
                return refused(format!(
                    "the volume {volume} on {id} holds data: keep the reservations, or wipe them"
                ));
            }
            if let Some(other) = self.held_by_another(framework, id, resources) {
                return refused(format!(
                    "{other} uses some of {resources} on {id}: end its tasks there first"
                ));
            }
        }
        None
    }

    /// Another framework that holds part of what is there.
    fn held_by_another(
        &self,
        framework: FrameworkId,
        id: AgentId,
        what: &Resources,
    ) -> Option<String> {
        let agent = self.agents.get(&id)?;
        let holders = agent.account.held().filter(|(_, held)| {
            let has = |part: &Resources| what.piles().any(|(terms, _)| part.get(terms).is_some());
            has(&held.offered) || has(&held.used)
        });
        let mut others = holders.filter_map(|(client, _)| self.handles.owner(client));
        let (owner, _) = others.find(|(owner, _)| *owner != framework)?;
        let name = self.framework_name(*owner);
        Some(name.map_or_else(|| owner.to_string(), |name| name.to_string()))
    }

    /// A framework's roles, and whether each is its own.
    fn roles_of(&self, framework: FrameworkId) -> BTreeMap<RoleName, bool> {
        let Some(fw) = self.frameworks.get(&framework) else {
            return BTreeMap::new();
        };
        let others = self.frameworks.iter().filter(|(id, _)| **id != framework);
        let others: BTreeSet<&RoleName> = others.flat_map(|(_, fw)| &fw.record.roles).collect();
        let is_own = |role: &RoleName| !others.iter().any(|other| lies_in(other, role));
        let roles = fw.record.roles.iter();
        roles.map(|role| (role.clone(), is_own(role))).collect()
    }

    /// What is to become of what a framework leaves; durable.
    pub(crate) fn decide_fate(&mut self, framework: FrameworkId, fate: ReservationFate) {
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        if fw.reservations != fate {
            fw.reservations = fate;
            self.facts
                .push(Fact::ReservationsDecided { framework, fate });
        }
    }

    /// A framework that finishes lets its reservations go, and its volumes; if something stands in the way they
    /// stay, and that is said.
    pub(crate) fn wipe_if_possible(&mut self, framework: FrameworkId) {
        match self.release_refused(framework, ReservationFate::Wipe) {
            None => self.decide_fate(framework, ReservationFate::Wipe),
            Some(why) => self.note(Some(framework), why),
        }
    }

    /// Why a framework may not come into these roles now.
    pub(crate) fn roles_refused(&self, roles: &[RoleName]) -> Result<(), Reason> {
        for leaving in &self.removing {
            let Some(fw) = self.frameworks.get(leaving) else {
                continue;
            };
            if fw.reservations == ReservationFate::Keep {
                continue;
            }
            let own = fw.record.roles.iter();
            let mut clash = own.filter(|role| roles.iter().any(|other| lies_in(other, role)));
            if let Some(role) = clash.next() {
                let text = format!(
                    "{} is being removed, and what is reserved to {role} with it: wait until it is gone",
                    fw.record.name
                );
                return Err(Reason::new(code::INVALID, Remedy::ChooseAnew, text));
            }
        }
        Ok(())
    }

    /// What goes with a framework: looked at before it goes, while its roles are known.
    pub(crate) fn to_be_released(&self, framework: FrameworkId) -> BTreeMap<AgentId, Resources> {
        let fate = self.frameworks.get(&framework).map(|fw| fw.reservations);
        let mut goes: BTreeMap<AgentId, Resources> = BTreeMap::new();
        let left = fate.map(|fate| self.left_behind(framework, fate));
        for left in left.into_iter().flatten() {
            if left.becomes != Left::Kept {
                goes.entry(left.agent).or_default().add(&left.resources);
            }
        }
        goes
    }

    /// It has gone, and nobody holds what it leaves.
    pub(crate) fn release(&mut self, goes: BTreeMap<AgentId, Resources>, roles: &[RoleName]) {
        for (id, from) in goes {
            let Some(agent) = self.agents.get(&id) else {
                continue;
            };
            let free = agent.account.free();
            if !free.contains(&from) {
                // Something that no book of ours knows of: what is reserved stays, and it is said.
                let text = format!("{from} on {id} is kept: it is in use");
                self.note(None, Reason::new("reservation-kept", Remedy::Retry, text));
                continue;
            }
            let to = released(&from, roles, free);
            self.convert_free(id, &Conversion { from, to });
        }
    }
}

/// Whether a role is that role or below it.
fn lies_in(role: &RoleName, outer: &RoleName) -> bool {
    role == outer || role.is_strictly_below(outer)
}

/// What was made at run time: a reservation, or a volume.
fn can_go(terms: &Terms) -> bool {
    terms.marks.dynamic || !terms.volume.is_empty()
}

fn becomes(terms: &Terms, own: bool, fate: ReservationFate) -> Left {
    match fate {
        _ if !own => Left::Kept,
        ReservationFate::Keep => Left::Kept,
        ReservationFate::Release => Left::Released,
        ReservationFate::Wipe if terms.volume.is_empty() => Left::Released,
        ReservationFate::Wipe => Left::Wiped,
    }
}

fn volume_of(resources: &Resources) -> Option<&str> {
    let mut piles = resources.piles();
    let (terms, _) = piles.find(|(terms, _)| !terms.volume.is_empty())?;
    Some(&terms.volume)
}

/// What is left of piles without their volumes and without what was reserved at run time to these roles.
fn released(from: &Resources, roles: &[RoleName], held: &Resources) -> Resources {
    let mut to = Resources::none();
    for (terms, bundle) in from.piles() {
        let mut terms: Terms = terms.clone();
        if !terms.volume.is_empty() {
            terms.volume.clear();
            terms.marks.shared = false;
        }
        // Refined reservations go level by level; each pass takes one role off.
        while terms.marks.dynamic
            && terms
                .reserved
                .last()
                .is_some_and(|role| roles.contains(role))
        {
            match without_last(&terms, held) {
                Ok(outer) => terms = outer,
                Err(_) => break,
            }
        }
        let bundle: &Bundle = bundle;
        to.add_pile(&terms, bundle);
    }
    to
}
