//! How long demand that fits somewhere is left without an offer, whoever decides.
//!
//! It is looked at between two cycles, at most once a second and so many agents at a time: a pool of
//! thousands with little free is looked through over several seconds. A demand waits from the moment at
//! which it was first seen to fit, under its role's limits, to its next offer; one that does not fit
//! anywhere does not wait, nor do gangs: where one of them fits says little of all.

use std::collections::{BTreeMap, VecDeque};

use proffer_codec::codec_struct;
use proffer_model::fact::{GuardedWait, WaitGuard};
use proffer_model::{AgentId, Duration, FrameworkId, Reason, Remedy, Resources, Timestamp};

use super::judge::limits::QuotaLeft;
use crate::agents::Agent;
use crate::explain::missing;
use crate::framework::StandingDemand;
use crate::handles::ClientId;
use crate::machine::Core;

/// Between two looks.
const LOOK_EVERY: Duration = Duration(1_000);
/// Agents that one look takes in, at well under a microsecond each where nothing is free.
const LOOKS_MAX: usize = 10_000;
/// Demands that are followed at once: as many as a whole look could see.
const FOLLOWED_MAX: usize = 10_000;
/// Waits that have ended, for percentiles.
const ENDED_MAX: usize = 1_024;
/// Said of a guard that was breached.
const GUARD: &str = "guard";

/// Demand that waits.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    followed: BTreeMap<u32, Wait>,
    /// How long those waited that do not any more, oldest first; true: a canary decided for them.
    ended: VecDeque<(Duration, bool)>,
    /// Where the next look goes on: which demand, after which agent.
    cursor: (u32, Option<AgentId>),
    looked_at: Timestamp,
}

codec_struct!(Waits {
    followed,
    ended,
    cursor,
    looked_at
});

#[derive(Debug)]
struct Wait {
    /// Of the demand: its handle may come to mean another one.
    stands_since: Timestamp,
    since: Timestamp,
    /// Where it was seen to fit; none: it fitted, and is looked for again.
    agent: Option<AgentId>,
}

codec_struct!(Wait {
    stands_since,
    since,
    agent
});

/// How long demand that fits waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitView {
    /// Demands that wait now.
    pub waiting: usize,
    /// The longest of them has waited so long.
    pub longest: Duration,
    /// Of those that wait and the last thousand that waited, all but one in a hundred waited no longer.
    pub p99: Duration,
}

impl Core {
    /// How long demand that fits waits.
    #[must_use]
    pub fn waits(&self) -> WaitView {
        self.waits_of(|_| true)
    }

    /// Of demand for which a canary decides.
    pub(crate) fn waits_of_canary(&self) -> WaitView {
        self.waits_of(|of_canary| of_canary)
    }

    fn waits_of(&self, counts: impl Fn(bool) -> bool) -> WaitView {
        let waits = &self.allocation.waits;
        let standing = waits
            .followed
            .iter()
            .filter(|(handle, wait)| wait.agent.is_some() && counts(self.is_of_canary(**handle)));
        let now: Vec<Duration> = standing
            .map(|(_, wait)| self.now.since(wait.since))
            .collect();
        let ended = waits.ended.iter().filter(|(_, of)| counts(*of));
        let ended = ended.map(|(waited, _)| waited);
        let mut all: Vec<Duration> = ended.chain(&now).copied().collect();
        all.sort_unstable();
        let at = (all.len() * 99).div_ceil(100).saturating_sub(1);
        WaitView {
            waiting: now.len(),
            longest: now.iter().copied().max().unwrap_or_default(),
            p99: all.get(at).copied().unwrap_or_default(),
        }
    }

    /// Demand that was last seen to fit, and waits.
    pub(crate) fn demands_waiting(&self) -> impl Iterator<Item = u32> {
        let followed = self.allocation.waits.followed.iter();
        followed.filter_map(|(handle, wait)| wait.agent.is_some().then_some(*handle))
    }

    /// An offer was made for a demand.
    pub(super) fn demand_served(&mut self, handle: u32) {
        let now = self.now;
        let of_canary = self.is_of_canary(handle);
        let waits = &mut self.allocation.waits;
        if let Some(wait) = waits.followed.get_mut(&handle) {
            waits.ended.push_back((now.since(wait.since), of_canary));
            wait.since = now;
            if waits.ended.len() > ENDED_MAX {
                waits.ended.pop_front();
            }
        }
    }

    fn is_of_canary(&self, handle: u32) -> bool {
        let standing = self.standing_demand(handle);
        let domain = self.canary_domain().zip(standing);
        domain.is_some_and(|(domain, standing)| domain.holds(&standing.demand.role))
    }

    /// Who decides within a canary's domain has changed: what waits there waits for another policy.
    pub(crate) fn begin_canary_waits_anew(&mut self) {
        let now = self.now;
        let mut waits = std::mem::take(&mut self.allocation.waits);
        for wait in waits.followed.values_mut() {
            wait.since = now;
        }
        waits.ended.clear();
        self.allocation.waits = waits;
    }

    /// Another policy is judged by its own.
    pub(crate) fn begin_waits_anew(&mut self) {
        self.forget_reclaims();
        self.allocation.waits = Waits::default();
    }

    /// Looks, if it is time to.
    pub(super) fn look_at_waits(&mut self) {
        let now = self.now;
        if now.since(self.allocation.waits.looked_at) < LOOK_EVERY {
            return;
        }
        let mut waits = std::mem::take(&mut self.allocation.waits);
        waits.looked_at = now;
        self.look(&mut waits);
        self.allocation.waits = waits;
        self.check_guards();
    }

    fn look(&self, waits: &mut Waits) {
        let quota = QuotaLeft::of(self);
        let mut looks = LOOKS_MAX;
        waits.followed.retain(|handle, wait| {
            let standing = self.standing_demand(*handle);
            let stands = standing.is_some_and(|standing| standing.since == wait.stands_since);
            stands && self.feed.wanting.contains(handle)
        });
        for (handle, wait) in &mut waits.followed {
            let fits = wait.agent.is_some_and(|agent| {
                looks = looks.saturating_sub(1);
                self.demand_fits(*handle, agent, &quota)
            });
            if !fits {
                wait.agent = None;
            }
        }
        let (first, mut after) = waits.cursor;
        let wanting = &self.feed.wanting;
        let rest: Vec<u32> = wanting
            .range(first..)
            .chain(wanting.range(..first))
            .copied()
            .collect();
        for handle in rest {
            let wait = waits.followed.get(&handle);
            if wait.is_some_and(|wait| wait.agent.is_some())
                || (wait.is_none() && waits.followed.len() >= FOLLOWED_MAX)
            {
                continue;
            }
            let from = if handle == first { after.take() } else { None };
            let from = from.map_or(AgentId(0), |last| AgentId(last.0.saturating_add(1)));
            let mut found = None;
            for id in self.agents.range(from..).map(|(id, _)| *id) {
                if looks == 0 {
                    break;
                }
                looks -= 1;
                waits.cursor = (handle, Some(id));
                if self.demand_fits(handle, id, &quota) {
                    found = Some(id);
                    break;
                }
            }
            match found {
                Some(agent) => self.follow(waits, handle, agent),
                // Only part of the pool was looked through: the next look goes on there.
                None if looks == 0 => return,
                None => {
                    waits.followed.remove(&handle);
                }
            }
            waits.cursor = (handle.saturating_add(1), None);
        }
    }

    fn follow(&self, waits: &mut Waits, handle: u32, agent: AgentId) {
        let Some(standing) = self.standing_demand(handle) else {
            return;
        };
        let wait = waits.followed.entry(handle).or_insert(Wait {
            stands_since: standing.since,
            since: self.now,
            agent: None,
        });
        wait.agent = Some(agent);
    }

    /// Whether an offer for it could be made there, were it its turn.
    fn demand_fits(&self, handle: u32, id: AgentId, quota: &QuotaLeft) -> bool {
        let Some((framework, _)) = self.feed.demand_owners.get(&handle) else {
            return false;
        };
        let (Some(standing), Some(agent)) = (self.standing_demand(handle), self.agents.get(&id))
        else {
            return false;
        };
        let Some(client) = self.handles.find_client(*framework, &standing.demand.role) else {
            return false;
        };
        let wanted = &standing.demand;
        let bound = wanted.per_agent > 0 && self.has_offer_of(agent, *framework, &wanted.key);
        let elsewhere = !wanted.near.is_empty() && self.now < standing.since + wanted.near_for;
        if wanted.gang > 1 || bound || elsewhere {
            return false;
        }
        let takes_gpus = self
            .frameworks
            .get(framework)
            .is_some_and(|fw| fw.record.gpus);
        let free = agent.account.free();
        !free.is_empty()
            && self.is_offered(id, agent)
            && (takes_gpus || !self.config.gpu_guard || !agent.has_gpus())
            && self.has_room(standing, client, free)
            && standing.constraints.admit(&agent.record.info)
            && self.out_of_bounds(client, &agent.record.info).is_none()
            && !self.is_refused(id, client, free)
            && quota
                .over(self, client, &self.one_unit_of(standing, free))
                .is_none()
    }

    fn has_offer_of(&self, agent: &Agent, framework: FrameworkId, key: &str) -> bool {
        agent.offers.iter().any(|id| {
            self.offers
                .get(id)
                .is_some_and(|open| open.framework == framework && open.offer.demand == key)
        })
    }

    fn has_room(&self, standing: &StandingDemand, client: ClientId, free: &Resources) -> bool {
        let shape = &standing.demand.shape;
        if shape.is_anything() {
            return self.reaches_minimum(client, free);
        }
        let may = free.only(|terms| self.may_have(client, terms));
        missing(shape, &may.total()).is_empty()
    }

    /// What one unit takes of the limits of its role.
    fn one_unit_of(&self, standing: &StandingDemand, free: &Resources) -> Resources {
        if standing.demand.shape.is_anything() {
            return free.clone();
        }
        standing.demand.shape.resources.clone()
    }

    /// A policy that lets demand wait for longer than an operator bears gives its seat back. A canary
    /// answers for its own roles, and the other policy for the rest.
    fn check_guards(&mut self) {
        if let Some(canary) = self.policy_canary()
            && let Some(why) = breach(&canary.guards, &canary.waits)
        {
            self.end_canary(why);
        }
        let guards = self.policy_record();
        let guards = guards.map_or(&[][..], |record| record.guards.as_slice());
        if let Some(why) = breach(guards, &self.waits_of(|of_canary| !of_canary)) {
            self.guard_breached(why);
        }
    }
}

/// Which guard is breached, in words.
fn breach(guards: &[WaitGuard], view: &WaitView) -> Option<Reason> {
    let breached = |guard: &&WaitGuard| match guard.wait {
        GuardedWait::Longest => view.longest >= guard.below,
        GuardedWait::P99 => view.p99 >= guard.below,
    };
    let guard = guards.iter().find(breached)?;
    let text = format!(
        "its guard '{guard}' is breached: the longest wait of demand that fits is {}, all but one \
         in a hundred waited no longer than {}",
        view.longest, view.p99
    );
    Some(Reason::new(GUARD, Remedy::Denied, text))
}
