//! Gangs: so many units at once, or none.

use proffer_model::policy::Demand;

use super::plan::Plan;
use super::room::Site;
use super::{Draft, Served, Verdict};
use crate::cluster::ClientRow;

/// What of a gang goes on one agent.
struct Member {
    site: Site,
    units: u32,
    plan: Plan,
}

impl Draft<'_> {
    /// Grants one gang over the agent at hand and those not yet visited. If it does not fit, the
    /// demand is out of this cycle: what is free only gets less.
    ///
    /// A gang takes its whole turn at once, so its client may then be further above the others than
    /// a turn's worth; it waits the longer afterwards.
    pub(super) fn serve_gang(
        &mut self,
        row: &ClientRow,
        demand: &Demand,
    ) -> Result<Served, Verdict> {
        let gang = demand.gang;
        let placed = match self.left_of(demand.handle) >= gang {
            true => self.place_gang(row, demand, gang),
            false => Vec::new(),
        };
        let whole: u32 = placed.iter().map(|member| member.units).sum();
        if self.dry {
            return match whole < gang {
                true => Err(Verdict::GangShort),
                false => Ok(Served::Gang(gang)),
            };
        }
        if whole < gang {
            self.use_up(demand.handle, u32::MAX);
            return Err(Verdict::GangShort);
        }
        let rows = self.grants.len() + self.open.len() + self.rows_put_by;
        if rows + placed.len() > self.grants_max {
            return Err(Verdict::CycleFull);
        }
        // The rows of the agent at hand come first: what is left there is left after them. Rows that
        // are added to in later visits all say what they take, so their order does not matter.
        if !self.roams {
            self.close_rows();
        }
        self.gangs += 1;
        for member in placed {
            let agent = member.site.agent;
            self.plan = member.plan;
            self.take_plan(member.site, row.client.handle);
            let pieces = self.planned_pieces(member.site);
            let whom = (agent, row.client.handle, demand.handle);
            self.push_grant(whom, self.gangs, &pieces);
            self.note_given(agent, demand, member.units);
        }
        Ok(Served::Gang(gang))
    }

    /// Where a gang goes; fewer units than a gang if it does not fit.
    fn place_gang(&mut self, row: &ClientRow, demand: &Demand, gang: u32) -> Vec<Member> {
        let mut placed: Vec<Member> = Vec::new();
        let mut missing = gang;
        let from = match self.roams {
            true => 0,
            false => self.visited.saturating_sub(1),
        };
        for index in from..self.order.len() {
            let agent = self.order[index];
            let Ok((_, site)) = self.admit(row.client.handle, agent) else {
                continue;
            };
            let Ok(most) = self.units_bound(row, site, demand) else {
                continue;
            };
            let units = if demand.pieces.is_empty() {
                u32::from(self.plan_whole(row, site, demand.handle).is_ok())
            } else {
                let units = self.fit(row, site, demand, most.min(missing));
                match units > 0 && self.plan_unrefused(row, site, demand, units) {
                    true => units,
                    false => 0,
                }
            };
            if units > 0 {
                let plan = self.plan.clone();
                // What one has of a quota the others have not.
                self.charge_quota(row, (site, &plan), 1);
                placed.push(Member { site, units, plan });
                missing -= units;
            }
            if missing == 0 {
                break;
            }
        }
        for member in &placed {
            self.charge_quota(row, (member.site, &member.plan), -1);
        }
        placed
    }

    /// Charges what is planned to the client's role, so many times: that it is not taken yet is of no
    /// account.
    fn charge_quota(&mut self, row: &ClientRow, (site, plan): (Site, &Plan), times: i64) {
        if !self.quotas.binds() {
            return;
        }
        for &(index, amount) in &plan.takes {
            let spot = self.room.spots(site)[index];
            if self.cluster.counts_in_quota(spot.terms) {
                let amount = amount.saturating_mul(times);
                self.quotas.take(row.client.role, spot.kind, amount);
            }
        }
        self.quotas.look_again(row.client.role);
    }
}
