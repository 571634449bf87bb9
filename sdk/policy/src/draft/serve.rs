//! Serving one client on one agent: what it demands, or the whole rest.

use proffer_model::policy::{Demand, NONE};

use super::room::Site;
use super::rows::OpenRow;
use super::{Draft, Round, Served, Verdict, total};
use crate::cluster::{ClientRow, Cluster};

/// In how many turns an agent is given to one client that could have all of it: the grain of
/// fairness on one agent. With more turns shares are closer at the end, and a cycle is longer.
const TURNS_PER_AGENT: u32 = 16;

impl Draft<'_> {
    pub(super) fn serve_demand(
        &mut self,
        row: &ClientRow,
        site: Site,
        demand: &Demand,
        units: u32,
    ) -> Result<Served, Verdict> {
        if self.left_of(demand.handle) == 0 {
            return Err(Verdict::DemandMet);
        }
        if demand.gang > 1 {
            return self.serve_gang(row, demand);
        }
        let most = self.units_bound(row, site, demand)?;
        if demand.pieces.is_empty() {
            return self.serve_whole(row, site, demand.handle);
        }
        self.serve_units(row, site, demand, (units, most))
    }

    /// How many units of a demand may be granted on an agent by everything but what is free there.
    pub(super) fn units_bound(
        &self,
        row: &ClientRow,
        site: Site,
        demand: &Demand,
    ) -> Result<u32, Verdict> {
        let agent = site.agent;
        if !self.cluster.mask_admits(demand.mask, agent) {
            return Err(Verdict::Constraint);
        }
        let mut most = self.left_of(demand.handle);
        if demand.per_agent == 0 && self.now >= demand.near_until {
            return Ok(most);
        }
        let given = self.given.get(&(agent, demand.handle)).copied();
        let here =
            given
                .unwrap_or(0)
                .saturating_add(units_on_offer(self.cluster, row, site, demand));
        if demand.per_agent > 0 {
            most = most.min(demand.per_agent.saturating_sub(here));
            if most == 0 {
                return Err(Verdict::AgentBound);
            }
        }
        if self.now < demand.near_until && !demand.near.is_empty() {
            let near = demand.near.binary_search_by_key(&agent, |near| near.0);
            let wanted = near.map_or(0, |index| demand.near[index].1);
            most = most.min(wanted.saturating_sub(here));
            if most == 0 {
                return Err(Verdict::Elsewhere);
            }
        }
        Ok(most)
    }

    pub(super) fn note_given(&mut self, agent: u32, demand: &Demand, units: u32) {
        self.use_up(demand.handle, units);
        if demand.per_agent > 0 || self.now < demand.near_until {
            let given = self.given.entry((agent, demand.handle)).or_default();
            *given = given.saturating_add(units);
        }
    }

    pub(super) fn serve_whole(
        &mut self,
        row: &ClientRow,
        site: Site,
        demand: u32,
    ) -> Result<Served, Verdict> {
        if self.is_full() {
            return Err(Verdict::CycleFull);
        }
        self.plan_whole(row, site, demand)?;
        if self.dry {
            return Ok(Served::Whole);
        }
        self.take_plan(site, row.client.handle);
        let pieces = self.planned_pieces(site);
        let client = row.client.handle;
        let open = self.open.iter_mut().find(|open| open.client == client);
        match open.filter(|_| self.round == Round::Second) {
            // Both rounds' portions are one grant.
            Some(open) => {
                open.times += 1;
                open.add(&pieces);
            }
            // In its place among the rows: whoever is given all the rest is given it after the others.
            None => self.open.push(OpenRow {
                client,
                demand,
                turn: 0,
                pieces,
                times: 1,
            }),
        }
        self.use_up(demand, 1);
        Ok(Served::Whole)
    }

    /// `units`: how many in one turn (0: a fair turn's worth), and how many at most.
    pub(super) fn serve_units(
        &mut self,
        row: &ClientRow,
        site: Site,
        demand: &Demand,
        units: (u32, u32),
    ) -> Result<Served, Verdict> {
        let client = row.client.handle;
        let (turn, most) = units;
        let fit = self.fit(row, site, demand, most);
        if fit == 0 {
            return Err(self.why_no_fit(row, site, demand));
        }
        let open = self
            .open
            .iter()
            .position(|open| open.demand == demand.handle && open.client == client);
        let turn = match (turn, open) {
            (0, Some(index)) => self.open[index].turn,
            (0, None) => fit.div_ceil(TURNS_PER_AGENT),
            (turn, _) => turn,
        };
        let mut units = turn.min(fit);
        if open.is_none() {
            if self.is_full() {
                return Err(Verdict::CycleFull);
            }
            // A filter refuses subsets: more than was refused may be granted, if it is there.
            if !self.plan_unrefused(row, site, demand, units) {
                units = fit;
                if !self.plan_unrefused(row, site, demand, units) {
                    return Err(Verdict::Filtered);
                }
            }
        } else if !self.plan_units(row, site, demand, units) {
            return Err(Verdict::NoFit);
        }
        if self.dry {
            return Ok(Served::Units(units));
        }
        self.take_plan(site, client);
        let index = open.unwrap_or_else(|| {
            self.open.push(OpenRow {
                client,
                demand: demand.handle,
                turn,
                pieces: self.spare.pop().unwrap_or_default(),
                times: 1,
            });
            self.open.len() - 1
        });
        for &(pile, amount) in &self.plan.takes {
            let pile = self.room.spots(site)[pile];
            self.open[index].add(&[(pile.terms, pile.kind, amount)]);
        }
        self.note_given(site.agent, demand, units);
        Ok(Served::Units(units))
    }
}

impl Draft<'_> {
    /// No unit fits: is it quota that keeps it?
    fn why_no_fit(&self, row: &ClientRow, site: Site, demand: &Demand) -> Verdict {
        if !self.quotas.binds() {
            return Verdict::NoFit;
        }
        let there = demand.pieces.iter().all(|piece| {
            let spots = self.room.spots(site).iter();
            let of_kind = spots.filter(|spot| spot.kind == piece.kind);
            total(of_kind.map(|spot| spot.free_for_anybody())) >= piece.amount.milli()
        });
        match there {
            true => self.kept_by_quota(row),
            false => Verdict::NoFit,
        }
    }
}

/// How many units of a demand a client has on offer on an agent: by what it is offered there under
/// any of its demands, for offers do not say to the policy which they answer.
fn units_on_offer(cluster: &Cluster, row: &ClientRow, site: Site, demand: &Demand) -> u32 {
    let Some(place) = cluster.agent(site.agent) else {
        return 0;
    };
    let cells = place.cells_of(row.client.handle);
    if cells.iter().all(|cell| cell.offered == 0) {
        return 0;
    }
    let units = demand.pieces.iter().map(|piece| {
        let of_piece = cells.iter().filter(|cell| {
            cell.kind == piece.kind && (piece.terms == NONE || piece.terms == cell.terms)
        });
        let offered = total(of_piece.map(|cell| cell.offered));
        offered / piece.amount.milli().max(1)
    });
    u32::try_from(units.min().unwrap_or(1)).unwrap_or(u32::MAX)
}
