//! What would be taken back: from whom, so that one more unit of a demand fits on an agent.

use std::collections::BTreeMap;

use proffer_model::Amount;
use proffer_model::policy::{Demand, NONE, Piece, Reclaim};

use super::plan::Class;
use super::{Draft, total};
use crate::cluster::ClientRow;

/// Whoever may be taken from, and what of it.
struct Victim {
    client: u32,
    /// What may be taken back at any time goes first.
    class: Class,
    terms: u32,
    kind: u32,
    used: i64,
    /// If a guarantee may cover it: of which role.
    role: Option<u32>,
}

impl Draft<'_> {
    /// What would be taken back on an agent so that one unit of a demand fits there: of clients that
    /// `from` names, revocable resources first, and nothing that a guarantee covers. None if the agent
    /// is not for the client, or that much is not to be had.
    pub(crate) fn reclaims_for(
        &self,
        (client, demand): (u32, u32),
        agent: u32,
        from: impl Fn(u32) -> bool,
    ) -> Option<Vec<Reclaim>> {
        let demand = self.cluster.demand(demand)?;
        let (row, site) = self.admit(client, agent).ok()?;
        self.units_bound(row, site, demand).ok()?;
        let within = |piece: &Piece| {
            self.quotas.limit_left(row.client.role, piece.kind) >= piece.amount.milli()
        };
        if demand.pieces.is_empty() || !demand.pieces.iter().all(within) {
            return None;
        }
        let lacking = self.shortfall(client, demand.handle, agent);
        let mut victims = self.victims(row, demand, agent, from);
        victims.sort_by_key(|victim| {
            let revocable = victim.class == Class::Revocable;
            (!revocable, victim.client, victim.terms, victim.kind)
        });
        let mut taken: BTreeMap<u32, Vec<Piece>> = BTreeMap::new();
        // Role, kind and amount: what a guarantee covers does not grow with the victims.
        let mut lost: Vec<(u32, u32, i64)> = Vec::new();
        for piece in lacking {
            let mut missing = piece.amount.milli();
            for victim in &victims {
                if victim.kind != piece.kind || (piece.terms != NONE && piece.terms != victim.terms)
                {
                    continue;
                }
                let mut amount = victim.used.min(missing);
                if let Some(role) = victim.role {
                    let above = self.above_guarantee(role, victim.kind, &lost);
                    amount = amount.min(above);
                    lost.push((role, victim.kind, amount));
                }
                missing -= amount;
                if amount > 0 {
                    taken.entry(victim.client).or_default().push(Piece {
                        terms: victim.terms,
                        kind: victim.kind,
                        amount: Amount::from_milli(amount),
                    });
                }
            }
            if missing > 0 {
                return None;
            }
        }
        let reclaim = |(from, pieces): (u32, Vec<Piece>)| Reclaim {
            client: from,
            agent,
            pieces,
            tasks: Vec::new(),
            beneficiary: client,
            demand: demand.handle,
            gang: 0,
            priority: demand.priority,
            notice: proffer_model::Duration::ZERO,
            why: String::new(),
        };
        Some(taken.into_iter().map(reclaim).collect())
    }

    /// What a role may lose of a kind, having lost so much.
    fn above_guarantee(&self, role: u32, kind: u32, lost: &[(u32, u32, i64)]) -> i64 {
        self.quotas.above_guarantee(role, kind, |around| {
            let within = lost.iter().filter(|(role, other, _)| {
                *other == kind && self.cluster.is_at_or_below(*role, around)
            });
            total(within.map(|lost| lost.2))
        })
    }

    /// Adds what is taken back for one unit of a demand to the proposal, and charges it: what is taken
    /// back after it is within the same guarantees and limits.
    pub(crate) fn propose_reclaims(&mut self, demand: u32, reclaims: Vec<Reclaim>) {
        for reclaim in &reclaims {
            let pieces = reclaim.pieces.iter();
            let counted = pieces.filter(|piece| self.cluster.counts_in_quota(piece.terms));
            let lost: Vec<(u32, i64)> = counted
                .map(|piece| (piece.kind, piece.amount.milli().saturating_neg()))
                .collect();
            self.charge_client(reclaim.client, &lost);
        }
        if let Some(demand) = self.cluster.demand(demand) {
            let pieces = demand.pieces.iter();
            let won: Vec<(u32, i64)> = pieces
                .map(|piece| (piece.kind, piece.amount.milli()))
                .collect();
            self.charge_client(demand.client, &won);
        }
        self.reclaims.extend(reclaims);
    }

    fn charge_client(&mut self, client: u32, amounts: &[(u32, i64)]) {
        let Some(row) = self.cluster.client(client) else {
            return;
        };
        let role = row.client.role;
        for &(kind, amount) in amounts {
            self.quotas.take(role, kind, amount);
        }
        self.quotas.look_again(role);
    }

    fn victims(
        &self,
        row: &ClientRow,
        demand: &Demand,
        agent: u32,
        from: impl Fn(u32) -> bool,
    ) -> Vec<Victim> {
        let Some(place) = self.cluster.agent(agent) else {
            return Vec::new();
        };
        let mut victims = Vec::new();
        for cell in place.cells() {
            if cell.used <= 0 || !from(cell.client) {
                continue;
            }
            let Some(class) = self.class_in(row, demand, NONE, cell.terms) else {
                continue;
            };
            let role = self.cluster.client(cell.client).map(|row| row.client.role);
            victims.push(Victim {
                client: cell.client,
                class,
                terms: cell.terms,
                kind: cell.kind,
                used: cell.used,
                role: role.filter(|_| self.cluster.counts_in_quota(cell.terms)),
            });
        }
        victims
    }
}
