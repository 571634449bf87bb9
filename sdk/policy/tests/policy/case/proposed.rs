//! What proposals come to, and what becomes of them.

use std::collections::BTreeMap;

use proffer_model::Amount;
use proffer_model::policy::{Piece, Proposal};
use proffer_policy::Policy;

use super::{Case, CellKey, push_pieces};

impl<P: Policy> Case<P> {
    /// What a proposal's grants come to: (agent, client, terms, kind) and amount, by row.
    pub(crate) fn amounts(&self, proposal: &Proposal) -> Vec<Vec<(CellKey, i64)>> {
        let grants = &proposal.grants;
        let mut taken: BTreeMap<(u32, u32, u32), i64> = BTreeMap::new();
        let mut next = 0;
        let mut rows = Vec::new();
        for row in 0..grants.len() {
            let (agent, client) = (grants.agent[row], grants.client[row]);
            let count = grants.pieces[row] as usize;
            let mut pieces: Vec<((u32, u32), i64)> = (next..next + count)
                .map(|at| ((grants.terms[at], grants.kind[at]), grants.amount[at]))
                .collect();
            next += count;
            if count == 0 {
                pieces = self
                    .totals
                    .keys()
                    .filter(|key| key.0 == agent && self.may(client, key.1))
                    .map(|&(_, terms, kind)| {
                        let already = taken.get(&(agent, terms, kind)).copied().unwrap_or(0);
                        (
                            (terms, kind),
                            self.free(agent, client, terms, kind) - already,
                        )
                    })
                    .filter(|piece| piece.1 > 0)
                    .collect();
            }
            for &((terms, kind), amount) in &pieces {
                *taken.entry((agent, terms, kind)).or_default() += amount;
            }
            let cells = pieces
                .into_iter()
                .map(|((terms, kind), amount)| ((agent, client, terms, kind), amount));
            rows.push(cells.collect());
        }
        rows
    }

    /// The host commits all of a proposal.
    pub(crate) fn commit(&mut self, proposal: &Proposal) {
        for row in self.amounts(proposal) {
            for (key, amount) in row {
                let (offered, used, kept) = self.held.get(&key).copied().unwrap_or_default();
                // What is kept for somebody is for this.
                let holding = (offered + amount, used, (kept - amount).max(0));
                self.hold(key.0, key.1, key.2, key.3, holding);
            }
        }
        let grants = &proposal.grants;
        for (row, &handle) in grants.demand.iter().enumerate() {
            let units = self.units_of(proposal, row);
            if let Some(demand) = self
                .demands
                .values_mut()
                .find(|demand| demand.handle == handle)
            {
                demand.offered += units;
                self.pending.demands.push(demand.clone());
            }
        }
    }

    /// How many units of its demand a row of a proposal is.
    pub(crate) fn units_of(&self, proposal: &Proposal, row: usize) -> u32 {
        let handle = proposal.grants.demand[row];
        let Some(demand) = self.demands.values().find(|demand| demand.handle == handle) else {
            return 0;
        };
        let Some(piece) = demand.pieces.first() else {
            return 1;
        };
        let granted: i64 = self.amounts(proposal)[row]
            .iter()
            .filter(|((.., kind), _)| *kind == piece.kind)
            .map(|(_, amount)| amount)
            .sum();
        u32::try_from(granted / piece.amount.milli()).unwrap()
    }

    /// Every client refuses what it was granted where it was granted it; answers the filters.
    pub(crate) fn decline(&mut self, proposal: &Proposal) -> std::ops::Range<u32> {
        let first = self.filters;
        for row in self.amounts(proposal) {
            let Some(((agent, client, ..), _)) = row.first() else {
                continue;
            };
            let filters = &mut self.pending.filters;
            filters.handle.push(self.filters);
            filters.client.push(*client);
            filters.agent.push(*agent);
            filters.inside.push(1);
            let pieces = row.iter().map(|((_, _, terms, kind), amount)| Piece {
                terms: *terms,
                kind: *kind,
                amount: Amount::from_milli(*amount),
            });
            push_pieces(filters, &pieces.collect::<Vec<_>>());
            self.filters += 1;
        }
        first..self.filters
    }
}
