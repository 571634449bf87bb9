//! How long demand that fits somewhere is left without an offer, and who left it.
//!
//! It is looked at between two cycles, at most once a second and so many agents at a time: a pool of
//! thousands with little free is looked through over several seconds. A demand waits from the moment at
//! which it was first seen to fit, under its role's limits, to its next offer; one that does not fit
//! anywhere does not wait, and a gang fits where all of it does.
//!
//! Of each wait that part is a tenant's in which the policy of its subtree had what would do and left it,
//! or had not decided on it; the rest is the canary's within its domain, and elsewhere the policy's of the
//! seat. Guards are held against each by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proffer_codec::codec_struct;
use proffer_model::fact::{GuardedWait, WaitGuard};
use proffer_model::{AgentId, Duration, Reason, Remedy, RoleName, Timestamp};

mod fits;

use super::judge::limits::QuotaLeft;
use crate::framework::StandingDemand;
use crate::machine::Core;
use fits::Found;

/// Between two looks.
const LOOK_EVERY: Duration = Duration(1_000);
/// Agents that one look takes in, at well under a microsecond each where nothing is free.
const LOOKS_MAX: usize = 10_000;
/// Demands that are followed at once, and the agents on which their gangs fit: as many as a whole look
/// could see.
const FOLLOWED_MAX: usize = 10_000;
/// Waits that have ended, for percentiles.
const ENDED_MAX: usize = 1_024;
/// Said of a guard that was breached.
const GUARD: &str = "guard";

/// Demand that waits.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    followed: BTreeMap<u32, Wait>,
    /// Those that have ended, oldest first.
    ended: VecDeque<Waited>,
    cursor: Cursor,
    looked_at: Timestamp,
}

codec_struct!(Waits {
    followed,
    ended,
    cursor,
    looked_at
});

/// Where the next look goes on.
#[derive(Debug, Default)]
struct Cursor {
    demand: u32,
    /// Agents up to this one were looked at.
    after: Option<AgentId>,
    /// Of those, where part of the gang fits.
    part: Vec<AgentId>,
}

codec_struct!(Cursor {
    demand,
    after,
    part
});

#[derive(Debug)]
struct Wait {
    /// Of the demand: its handle may come to mean another one.
    stands_since: Timestamp,
    since: Timestamp,
    /// Where it was seen to fit; nowhere: it fitted, and is looked for again.
    agents: Vec<AgentId>,
    /// Something for it is with its subtree's policy.
    kept: bool,
    /// At the last look it was that policy's to serve it.
    with_tenant: bool,
    seen_at: Timestamp,
    /// How long it was, up to the last look.
    left: Duration,
}

codec_struct!(Wait {
    stands_since,
    since,
    agents,
    kept,
    with_tenant,
    seen_at,
    left
});

/// A wait and whose it is.
#[derive(Debug)]
struct Waited {
    all: Duration,
    /// The tenant's part.
    left: Duration,
    tenant: Option<RoleName>,
    /// The rest is a canary's.
    of_canary: bool,
}

codec_struct!(Waited {
    all,
    left,
    tenant,
    of_canary
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

impl Wait {
    fn new(stands_since: Timestamp, now: Timestamp) -> Self {
        Self {
            stands_since,
            since: now,
            agents: Vec::new(),
            kept: false,
            with_tenant: false,
            seen_at: now,
            left: Duration::ZERO,
        }
    }

    fn begin_anew(&mut self, now: Timestamp) {
        self.since = now;
        self.seen_at = now;
        self.left = Duration::ZERO;
    }

    fn stands(&self) -> bool {
        self.kept || !self.agents.is_empty()
    }

    /// The tenant's part of it.
    fn left_by(&self, now: Timestamp) -> Duration {
        let since_seen = match self.with_tenant {
            true => now.since(self.seen_at),
            false => Duration::ZERO,
        };
        Duration(self.left.0.saturating_add(since_seen.0))
    }
}

impl Waited {
    fn of_seat(&self) -> Option<Duration> {
        (!self.of_canary).then(|| self.without_tenant())?
    }

    fn of_canary(&self) -> Option<Duration> {
        self.of_canary.then(|| self.without_tenant())?
    }

    fn of_tenant(&self, role: &RoleName) -> Option<Duration> {
        let own = self.tenant.as_ref() == Some(role);
        (own && self.left > Duration::ZERO).then_some(self.left)
    }

    fn without_tenant(&self) -> Option<Duration> {
        let rest = Duration(self.all.0.saturating_sub(self.left.0));
        (rest > Duration::ZERO || self.left == Duration::ZERO).then_some(rest)
    }
}

impl Core {
    /// How long demand that fits waits, whoever lets it.
    #[must_use]
    pub fn waits(&self) -> WaitView {
        self.waits_of(|waited| Some(waited.all))
    }

    /// Of demand for which a canary decides.
    pub(crate) fn waits_of_canary(&self) -> WaitView {
        self.waits_of(Waited::of_canary)
    }

    /// How long a role's own policy lets demand wait for which it was given something.
    #[must_use]
    pub fn waits_of_tenant(&self, role: &RoleName) -> WaitView {
        self.waits_of(|waited| waited.of_tenant(role))
    }

    fn waits_of(&self, part: impl Fn(&Waited) -> Option<Duration>) -> WaitView {
        let waits = &self.allocation.waits;
        let standing = waits.followed.iter().filter(|(_, wait)| wait.stands());
        let now: Vec<Duration> = standing
            .filter_map(|(handle, wait)| part(&self.waited(*handle, wait)))
            .collect();
        let ended = waits.ended.iter().filter_map(&part);
        let mut all: Vec<Duration> = ended.chain(now.iter().copied()).collect();
        all.sort_unstable();
        let at = (all.len() * 99).div_ceil(100).saturating_sub(1);
        WaitView {
            waiting: now.len(),
            longest: now.iter().copied().max().unwrap_or_default(),
            p99: all.get(at).copied().unwrap_or_default(),
        }
    }

    /// A wait as it would be if it ended now.
    fn waited(&self, handle: u32, wait: &Wait) -> Waited {
        let role = self.standing_demand(handle).map(|s| &s.demand.role);
        let within = self.canary_domain().zip(role);
        Waited {
            all: self.now.since(wait.since),
            left: wait.left_by(self.now),
            tenant: role.and_then(|role| self.tenant_of(role)).cloned(),
            of_canary: within.is_some_and(|(domain, role)| domain.holds(role)),
        }
    }

    /// Demand that was last seen to fit, and waits.
    pub(crate) fn demands_waiting(&self) -> impl Iterator<Item = u32> {
        let followed = self.allocation.waits.followed.iter();
        followed.filter_map(|(handle, wait)| wait.stands().then_some(*handle))
    }

    /// An offer was made for a demand, or granted to its subtree.
    pub(super) fn demand_served(&mut self, handle: u32) {
        let Some(wait) = self.allocation.waits.followed.get(&handle) else {
            return;
        };
        let standing = self.standing_demand(handle);
        if standing.is_some_and(|standing| self.is_for_tenant(&standing.demand.role)) {
            // Nobody has it yet.
            return;
        }
        let waited = self.waited(handle, wait);
        let now = self.now;
        let waits = &mut self.allocation.waits;
        if let Some(wait) = waits.followed.get_mut(&handle) {
            wait.begin_anew(now);
        }
        // Several offers at once, as a gang's, end one wait.
        if waited.all > Duration::ZERO {
            waits.ended.push_back(waited);
            if waits.ended.len() > ENDED_MAX {
                waits.ended.pop_front();
            }
        }
    }

    /// Who decides within a canary's domain has changed: what waits there waits for another policy.
    pub(crate) fn begin_canary_waits_anew(&mut self) {
        let now = self.now;
        let waits = &mut self.allocation.waits;
        for wait in waits.followed.values_mut() {
            wait.begin_anew(now);
        }
        waits.ended.clear();
    }

    /// Another policy decides within a role's subtree.
    pub(crate) fn begin_tenant_waits_anew(&mut self, role: &RoleName) {
        let now = self.now;
        let mut waits = std::mem::take(&mut self.allocation.waits);
        let own = |waited: &Waited| waited.tenant.as_ref() == Some(role);
        for (handle, wait) in &mut waits.followed {
            if own(&self.waited(*handle, wait)) {
                wait.begin_anew(now);
            }
        }
        waits.ended.retain(|waited| !own(waited));
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
        let kept = self.demands_kept();
        let mut looks = LOOKS_MAX;
        waits.followed.retain(|handle, wait| {
            let standing = self.standing_demand(*handle);
            let stands = standing.is_some_and(|standing| standing.since == wait.stands_since);
            stands && (self.feed.wanting.contains(handle) || kept.contains(handle))
        });
        for (handle, wait) in &mut waits.followed {
            wait.left = wait.left_by(self.now);
            wait.seen_at = self.now;
            match self.find(*handle, wait.agents.iter().copied(), &mut looks, &quota) {
                Found::There(agents) => wait.agents = agents,
                Found::Nowhere => wait.agents.clear(),
                Found::Unknown { .. } => {}
            }
        }
        let places = |wait: &Wait| wait.agents.len().max(1);
        let mut room = FOLLOWED_MAX;
        room = room.saturating_sub(waits.followed.values().map(places).sum());
        for handle in &kept {
            self.follow(waits, *handle, Vec::new(), &mut room);
        }
        for (handle, wait) in &mut waits.followed {
            wait.kept = kept.contains(handle);
        }
        self.look_further(waits, (looks, room), &quota);
        for (handle, wait) in &mut waits.followed {
            wait.with_tenant = self.is_with_tenant(*handle, wait);
        }
    }

    /// Looks for places where demand fits that is not known to fit anywhere.
    fn look_further(
        &self,
        waits: &mut Waits,
        (mut looks, mut room): (usize, usize),
        quota: &QuotaLeft,
    ) {
        let Cursor {
            demand: first,
            mut after,
            mut part,
        } = std::mem::take(&mut waits.cursor);
        let wanting = &self.feed.wanting;
        let rest = wanting.range(first..).chain(wanting.range(..first));
        for handle in rest.copied() {
            let (after, part) = match handle == first {
                true => (after.take(), std::mem::take(&mut part)),
                false => (None, Vec::new()),
            };
            let (known, kept) = match waits.followed.get(&handle) {
                Some(wait) if !wait.agents.is_empty() => continue,
                wait => (wait.is_some(), wait.is_some_and(|wait| wait.kept)),
            };
            if !known && room == 0 {
                continue;
            }
            if looks == 0 {
                let demand = handle;
                waits.cursor = Cursor {
                    demand,
                    after,
                    part,
                };
                return;
            }
            let from = after.map_or(AgentId(0), |last| AgentId(last.0.saturating_add(1)));
            let beyond = self.agents.range(from..).map(|(id, _)| *id);
            match self.find(handle, part.into_iter().chain(beyond), &mut looks, quota) {
                Found::There(agents) => self.follow(waits, handle, agents, &mut room),
                // Only part of the pool was looked through: the next look goes on there.
                Found::Unknown { after, part } => {
                    waits.cursor = Cursor {
                        demand: handle,
                        after,
                        part,
                    };
                    return;
                }
                Found::Nowhere if kept => {}
                Found::Nowhere => {
                    waits.followed.remove(&handle);
                }
            }
            waits.cursor.demand = handle.saturating_add(1);
        }
    }

    /// `room`: so many more agents can be looked at again each time.
    fn follow(&self, waits: &mut Waits, handle: u32, agents: Vec<AgentId>, room: &mut usize) {
        let Some(standing) = self.standing_demand(handle) else {
            return;
        };
        let held = usize::from(waits.followed.contains_key(&handle));
        let Some(left) = room.checked_sub(agents.len().max(1) - held) else {
            return;
        };
        *room = left;
        let wait = waits.followed.entry(handle);
        let wait = wait.or_insert_with(|| Wait::new(standing.since, self.now));
        if !agents.is_empty() {
            wait.agents = agents;
        }
    }

    /// Demands for which something is with the policy of their subtree.
    fn demands_kept(&self) -> BTreeSet<u32> {
        let offers = self.offers_with_tenants();
        let open = offers.filter_map(|offer| self.offers.get(&offer));
        let demands = open.filter_map(|open| {
            let fw = self.frameworks.get(&open.framework)?;
            Some(fw.demands.get(&open.offer.demand)?.handle)
        });
        demands.collect()
    }

    /// Whether it is the policy of the demand's subtree that has what would do, or has just left it.
    fn is_with_tenant(&self, handle: u32, wait: &Wait) -> bool {
        let Some((framework, standing)) = self.demand_of(handle) else {
            return false;
        };
        let role = &standing.demand.role;
        let decides = self
            .tenant_of(role)
            .is_some_and(|own| self.own_decides(own));
        let client = self.handles.find_client(framework, role);
        let left = |agent: &AgentId| {
            let mut filters = client.into_iter().flat_map(|c| self.filters.of(*agent, c));
            filters.any(|filter| filter.passed_over)
        };
        decides && (wait.kept || wait.agents.iter().any(left))
    }

    fn demand_of(&self, handle: u32) -> Option<(proffer_model::FrameworkId, &StandingDemand)> {
        let (framework, _) = self.feed.demand_owners.get(&handle)?;
        Some((*framework, self.standing_demand(handle)?))
    }

    /// A policy that lets demand wait for longer than an operator bears gives its seat back. A canary
    /// answers for its own roles, a role's own policy for what it left, and the seat's for the rest.
    fn check_guards(&mut self) {
        if let Some(canary) = self.policy_canary()
            && let Some(why) = breach(&canary.guards, &canary.waits)
        {
            self.end_canary(why);
        }
        let breached = self.tenants_guarded().filter_map(|(role, guards)| {
            let why = breach(guards, &self.waits_of_tenant(role))?;
            Some((role.clone(), why))
        });
        for (role, why) in breached.collect::<Vec<_>>() {
            self.leave_tenant_out(&role, why);
        }
        let guards = self.policy_record();
        let guards = guards.map_or(&[][..], |record| record.guards.as_slice());
        if let Some(why) = breach(guards, &self.waits_of(Waited::of_seat)) {
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
