//! A proposal in the making: what is still free while grants are being made, and whether a client
//! may have what it would be granted.
//!
//! The agents of a cycle are visited one after the other in an order shuffled by its seed
//! ([`Draft::next_agent`]), or as the author likes, again and again ([`Draft::go_to`]). On the agent
//! at hand the author picks clients ([`Draft::serve`]); the draft knows the rules: who may have what (reservations, revocable resources, gpus, masks), what
//! is demanded and how much of it is left, what was refused, what is worth an offer. So an author
//! decides only who comes next.

mod fence;
mod gang;
mod plan;
mod quota;
mod reclaims;
mod room;
mod rows;
mod rules;
mod serve;
mod visits;

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_model::policy::{Cycle, Grants, NONE, Piece, Proposal, Reclaim};
use proffer_model::{Amount, Timestamp};

use crate::cluster::{ClientRow, Cluster};
use crate::random::Random;

pub use fence::Fence;
use plan::Plan;
use quota::Quotas;
use room::{Room, Site};
use rows::OpenRow;
pub use rules::{DemandUse, Rules};
use visits::Round;

/// Why a client is not served on an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The host has not described it.
    Unknown,
    /// The framework does not take part.
    ClientInactive,
    /// It suppressed the role.
    Suppressed,
    /// It has said that it wants nothing.
    NoDemand,
    /// All that it demands is on offer, or was granted in this cycle.
    DemandMet,
    /// All that it demands for one agent is on offer or granted here.
    AgentBound,
    /// Inactive, or not on the operator's list.
    AgentInactive,
    /// The agent fails the client's constraints, or the demand's.
    Constraint,
    /// The demand's preferred places come first for now.
    Elsewhere,
    /// The agent has gpus and the client did not ask for any.
    GpuGuard,
    /// The agent is of another region.
    Region,
    /// What could be granted was refused.
    Filtered,
    /// Less than is worth an offer.
    BelowMinimum,
    /// Too little is free.
    NoFit,
    /// It fits here, but not the whole gang at once.
    GangShort,
    /// The cycle has as many grants as it may have.
    CycleFull,
    /// Its role, or one around it, is at the limit of its quota.
    OverLimit,
    /// What is free is held ready for other roles' guarantees.
    HeldBack,
    /// The agent is on the other side of a fence.
    FencedOff,
}

/// A proposal in the making.
#[derive(Debug)]
pub struct Draft<'a> {
    cluster: &'a Cluster,
    rules: &'a Rules,
    /// The rules' minimum by kind handle.
    minimum: Vec<Vec<(u32, i64)>>,
    now: Timestamp,
    order: Vec<u32>,
    /// How many of `order` have been begun.
    visited: usize,
    at_hand: Option<u32>,
    /// Agents are gone to as the author likes, and may be gone to again.
    roams: bool,
    fence: Option<Arc<Fence>>,
    room: Room,
    /// Units still to be granted, by demand.
    left: Vec<u32>,
    /// Kinds that every demand asks for, and the least that any does.
    least: Vec<(u32, i64)>,
    /// Units granted, of demands that are bounded per agent.
    given: BTreeMap<(u32, u32), u32>,
    open: Vec<OpenRow>,
    /// Lists of pieces that rows had, for the rows to come.
    spare: Vec<Vec<(u32, u32, i64)>>,
    plan: Plan,
    gained: Vec<(u32, i64)>,
    quotas: Quotas,
    /// Shuffles agents and pieces.
    random: Random,
    /// Rows of agents that were left and may be gone to again, and how many they are.
    put_by: BTreeMap<u32, Vec<OpenRow>>,
    rows_put_by: usize,
    round: Round,
    grants: Grants,
    /// Parallel to the grants: how often their clients were served in them.
    times: Vec<u32>,
    grants_max: usize,
    gangs: u32,
    reclaims: Vec<Reclaim>,
    /// Nothing is granted: it is only asked whether it would be.
    dry: bool,
}

impl<'a> Draft<'a> {
    /// For one cycle: over the active and allowed agents of its scope.
    #[must_use]
    pub fn new(cluster: &'a Cluster, rules: &'a Rules, cycle: &Cycle) -> Self {
        let offerable = |handle: &u32| {
            let row = cluster.agent(*handle);
            row.is_some_and(|row| row.agent.active && row.agent.allowed)
        };
        let mut order: Vec<u32> = match &cycle.agents {
            Some(agents) => agents.iter().copied().filter(offerable).collect(),
            None => (cluster.agents().map(|row| row.agent.handle))
                .filter(offerable)
                .collect(),
        };
        // Twice the same agent would be two visits, and the second one's merging of rows is lost.
        order.sort_unstable();
        order.dedup();
        // All agents are looked at in the order in which they lie in memory, and then laid out in that
        // in which they will be visited.
        let mut room = Room::new(cluster);
        for &agent in &order {
            room.enter(cluster, rules, agent);
        }
        let mut random = Random::new(cycle.seed);
        random.shuffle(&mut order);
        room.lay_out(&order);
        let left = (0..cluster.demands_bound()).map(|handle| {
            let demand = cluster.demand(handle as u32);
            demand.map_or(0, |demand| demand.count.saturating_sub(demand.offered))
        });
        let left: Vec<u32> = left.collect();
        let least = match rules.demand {
            DemandUse::Honour => least_of_all(cluster, &left),
            DemandUse::Ignore => Vec::new(),
        };
        // About one for each agent.
        let rows = order.len().min(cycle.grants_max as usize);
        Self {
            cluster,
            rules,
            minimum: rules.minimum_by_kind(cluster),
            now: cycle.now,
            order,
            visited: 0,
            at_hand: None,
            roams: false,
            fence: None,
            room,
            left,
            least,
            given: BTreeMap::new(),
            open: Vec::new(),
            spare: Vec::new(),
            plan: Plan::default(),
            gained: Vec::new(),
            quotas: Quotas::new(cluster, rules),
            random,
            put_by: BTreeMap::new(),
            rows_put_by: 0,
            round: Round::Only,
            grants: rows::columns(rows),
            times: Vec::with_capacity(rows),
            grants_max: cycle.grants_max as usize,
            gangs: 0,
            reclaims: Vec::new(),
            dry: false,
        }
    }

    /// With clients and agents on both sides of a fence.
    #[must_use]
    pub fn fenced(mut self, fence: Option<Arc<Fence>>) -> Self {
        self.fence = fence;
        self
    }

    /// The cluster as it is; the draft's own grants are not in it.
    #[must_use]
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// The cycle's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What is free of a kind on an agent of the cycle, kept for nobody, under whatever terms.
    #[must_use]
    pub fn free_on(&self, agent: u32, kind: u32) -> i64 {
        let Some(site) = self.room.site(agent) else {
            return 0;
        };
        let spots = self.room.spots(site).iter();
        total(
            spots
                .filter(|spot| spot.kind == kind)
                .map(|spot| spot.free_for_anybody()),
        )
    }

    /// Whether demand is looked at.
    #[must_use]
    pub fn honours_demand(&self) -> bool {
        self.rules.demand == DemandUse::Honour
    }

    /// How many units of a demand are neither on offer nor granted in this cycle.
    #[must_use]
    pub fn left_of(&self, demand: u32) -> u32 {
        self.left.get(demand as usize).copied().unwrap_or(0)
    }

    /// Whether a client's role lacks something of its guarantee now.
    #[must_use]
    pub fn lacks(&self, client: u32) -> bool {
        self.cluster
            .client(client)
            .is_some_and(|row| self.quotas.is_unmet(row.client.role))
    }

    /// What roles lack of their guarantees now, and is held ready for them: role, kind and how much.
    #[must_use]
    pub fn unmet_guarantees(&self) -> Vec<(u32, u32, i64)> {
        self.quotas.all_unmet()
    }

    /// Grants what a client's role lacks of its guarantee, of the agent at hand, and with it all else
    /// there that it may have.
    ///
    /// # Errors
    /// Nothing was granted, and why.
    pub fn serve_guarantee(&mut self, client: u32) -> Result<Served, Verdict> {
        let agent = self.agent_at_hand().ok_or(Verdict::AgentInactive)?;
        self.gained.clear();
        let (row, site) = self.admit(client, agent)?;
        self.serve_whole(row, site, NONE)
    }

    /// Whether so little is free on the agent at hand that nobody can be served: nothing at all, or
    /// of some kind less than every demand asks for.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        let below = |&(kind, least): &(u32, i64)| self.room.rest(kind) < least;
        self.room.is_empty() || self.least.iter().any(below)
    }

    /// What is free of a kind on the agent at hand, under whatever terms and for whomever.
    #[must_use]
    pub fn free(&self, kind: u32) -> i64 {
        self.room.rest(kind)
    }

    /// Whether a client takes part at all and wants something that it has not been granted.
    ///
    /// # Errors
    /// Why not.
    pub fn wants(&self, client: u32) -> Result<(), Verdict> {
        let row = self.cluster.client(client).ok_or(Verdict::Unknown)?;
        let marks = row.client.marks;
        if !marks.known || !marks.active {
            return Err(Verdict::ClientInactive);
        }
        if marks.suppressed {
            return Err(Verdict::Suppressed);
        }
        if self.rules.demand == DemandUse::Ignore {
            return Ok(());
        }
        let mut verdict = Verdict::NoDemand;
        for &demand in row.demands() {
            if self.left_of(demand) > 0 {
                return Ok(());
            }
            let asked = self.cluster.demand(demand);
            if asked.is_some_and(|demand| demand.count > 0) {
                verdict = Verdict::DemandMet;
            }
        }
        Err(verdict)
    }

    /// Grants something of the agent at hand to a client: of its first demand that can be met here,
    /// at most `units` (0: a fair turn's worth), or the whole rest of the agent if that is what is
    /// demanded or demand is not looked at. What it gained is then in [`Draft::gained`].
    ///
    /// # Errors
    /// Nothing was granted, and why: the reason of its first demand that could be served elsewhere.
    pub fn serve(&mut self, client: u32, units: u32) -> Result<Served, Verdict> {
        self.serve_any(client, units, NONE)
    }

    /// The same of one of its demands.
    ///
    /// # Errors
    /// Nothing was granted, and why.
    pub fn serve_demand_of(
        &mut self,
        client: u32,
        demand: u32,
        units: u32,
    ) -> Result<Served, Verdict> {
        self.serve_any(client, units, demand)
    }

    /// Whether [`Draft::serve`] would grant one unit now; `demand`: of which, or [`NONE`] for any.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn probe(&mut self, client: u32, demand: u32) -> Result<(), Verdict> {
        self.wants(client)?;
        self.dry = true;
        let answer = self.serve_any(client, 1, demand);
        self.dry = false;
        answer.map(|_| ())
    }

    fn serve_any(&mut self, client: u32, units: u32, only: u32) -> Result<Served, Verdict> {
        let agent = self.agent_at_hand().ok_or(Verdict::AgentInactive)?;
        self.gained.clear();
        let (row, site) = self.admit(client, agent)?;
        if self.rules.demand == DemandUse::Ignore {
            return self.serve_whole(row, site, NONE);
        }
        let mut verdict = None;
        for &handle in row.demands() {
            let Some(demand) = self.cluster.demand(handle) else {
                continue;
            };
            if only != NONE && only != handle {
                continue;
            }
            match self.serve_demand(row, site, demand, units) {
                Ok(served) => return Ok(served),
                Err(Verdict::DemandMet) => {}
                Err(other) => verdict = verdict.or(Some(other)),
            }
        }
        match verdict {
            Some(verdict) => Err(verdict),
            None => Err(self.wants(client).err().unwrap_or(Verdict::NoDemand)),
        }
    }

    /// By how much one unit of a demand does not fit on an agent of the cycle.
    pub(crate) fn shortfall(&self, client: u32, demand: u32, agent: u32) -> Vec<Piece> {
        let (Some(row), Some(demand)) = (self.cluster.client(client), self.cluster.demand(demand))
        else {
            return Vec::new();
        };
        let Some(site) = self.room.site(agent) else {
            return Vec::new();
        };
        let lacking = |piece: &Piece| {
            let free = self.free_for(row, site, demand, (piece.terms, piece.kind));
            let lacking = piece.amount.milli().saturating_sub(free);
            (lacking > 0).then_some(Piece {
                amount: Amount::from_milli(lacking),
                ..*piece
            })
        };
        demand.pieces.iter().filter_map(lacking).collect()
    }

    /// What the last [`Draft::serve`] granted: amounts by kind, on all agents of a gang together.
    #[must_use]
    pub fn gained(&self) -> &[(u32, i64)] {
        &self.gained
    }

    /// The grants so far. Ends the visit of the agent at hand.
    pub fn rows(&mut self) -> &Grants {
        self.close_rows();
        self.at_hand = None;
        self.close_put_by();
        &self.grants
    }

    /// How often clients were served, by row of [`Draft::rows`].
    #[must_use]
    pub fn times(&self) -> &[u32] {
        &self.times
    }

    /// The proposal.
    #[must_use]
    pub fn finish(mut self) -> Proposal {
        self.close_rows();
        self.close_put_by();
        Proposal {
            grants: self.grants,
            reclaims: self.reclaims,
            withdraw: Vec::new(),
        }
    }

    fn agent_at_hand(&self) -> Option<u32> {
        self.at_hand
    }

    fn is_full(&self) -> bool {
        self.grants.len() + self.open.len() + self.rows_put_by >= self.grants_max
    }

    fn use_up(&mut self, demand: u32, units: u32) {
        if let Some(left) = self.left.get_mut(demand as usize) {
            *left = left.saturating_sub(units);
        }
    }

    /// Whether a client may be offered anything of an agent of the cycle, whatever it wants.
    fn admit(&self, client: u32, agent: u32) -> Result<(&'a ClientRow, Site), Verdict> {
        let row = self.cluster.client(client).ok_or(Verdict::Unknown)?;
        let site = self.room.site(agent).ok_or(Verdict::AgentInactive)?;
        if !self.cluster.mask_admits(row.client.mask, agent) {
            return Err(Verdict::Constraint);
        }
        if let Some(fence) = &self.fence
            && !fence.admits(client, agent)
        {
            return Err(Verdict::FencedOff);
        }
        if self.rules.gpu_guard && site.has_gpus && !row.client.marks.gpus {
            return Err(Verdict::GpuGuard);
        }
        if site.foreign && !row.client.marks.region_aware {
            return Err(Verdict::Region);
        }
        Ok((row, site))
    }

    /// Takes what is planned out of what is free, and into [`Draft::gained`].
    fn take_plan(&mut self, site: Site, client: u32) {
        let role = self.cluster.client(client).map(|row| row.client.role);
        for &(index, amount) in &self.plan.takes {
            let spot = self.room.spots(site)[index];
            let kind = spot.kind;
            if let Some(role) = role.filter(|_| self.cluster.counts_in_quota(spot.terms)) {
                self.quotas.take(role, kind, amount);
            }
            self.room.take(self.cluster, site, client, (index, amount));
            add_amount(&mut self.gained, kind, amount);
        }
        if let Some(role) = role.filter(|_| self.round != Round::Second) {
            self.quotas.look_again(role);
        }
    }
}

/// What [`Draft::serve`] granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// All that the client may have on the agent.
    Whole,
    /// So many units of a demand.
    Units(u32),
    /// So many units of a demand on this and later agents, together or not at all.
    Gang(u32),
}

/// Adds to the sum of a kind. Kinds nearly always come in ascending order, and once each: then nothing
/// is searched.
fn add_amount(sums: &mut Vec<(u32, i64)>, kind: u32, amount: i64) {
    if sums.last().is_none_or(|last| last.0 < kind) {
        sums.push((kind, amount));
    } else {
        add_among(sums, kind, amount);
    }
}

fn add_among(sums: &mut Vec<(u32, i64)>, kind: u32, amount: i64) {
    match sums.binary_search_by_key(&kind, |sum| sum.0) {
        Ok(place) => sums[place].1 = sums[place].1.saturating_add(amount),
        Err(place) => sums.insert(place, (kind, amount)),
    }
}

/// A sum that stops at the ends of its range, for the host's numbers may be wrong.
fn total(amounts: impl Iterator<Item = i64>) -> i64 {
    amounts.fold(0, i64::saturating_add)
}

/// Per kind the least that any demand with something left asks for, if all of them ask for some.
fn least_of_all(cluster: &Cluster, left: &[u32]) -> Vec<(u32, i64)> {
    let mut least: Option<Vec<(u32, i64)>> = None;
    for (handle, _) in (0..).zip(left).filter(|(_, left)| **left > 0) {
        let Some(demand) = cluster.demand(handle) else {
            continue;
        };
        let amount = |kind: u32| -> i64 {
            let pieces = demand.pieces.iter().filter(|piece| piece.kind == kind);
            total(pieces.map(|piece| piece.amount.milli()))
        };
        let asked: Vec<(u32, i64)> = match &least {
            None => (demand.pieces.iter())
                .map(|piece| (piece.kind, amount(piece.kind)))
                .collect(),
            Some(least) => (least.iter())
                .map(|&(kind, least)| (kind, least.min(amount(kind))))
                .filter(|(_, least)| *least > 0)
                .collect(),
        };
        if asked.is_empty() {
            return asked;
        }
        least = Some(asked);
    }
    least.unwrap_or_default()
}
