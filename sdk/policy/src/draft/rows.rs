//! The rows of a proposal: one for each client and demand on an agent, however many turns it had.

use proffer_model::policy::Grants;

use super::room::Site;
use super::{Draft, Round};

/// Rows of one (client, demand) on the agent at hand: one grant in the end, however many turns.
#[derive(Debug)]
pub(super) struct OpenRow {
    pub(super) client: u32,
    pub(super) demand: u32,
    /// Units per turn; 0: it is a whole rest, and done.
    pub(super) turn: u32,
    /// Terms, kind and amount.
    pub(super) pieces: Vec<(u32, u32, i64)>,
    /// How often the client was served in it: an allocation each in whole rests.
    pub(super) times: u32,
}

/// No grants, with room for so many of all that their clients may have.
pub(super) fn columns(rows: usize) -> Grants {
    let column = || Vec::with_capacity(rows);
    Grants {
        agent: column(),
        client: column(),
        demand: column(),
        gang: column(),
        lease: column(),
        pieces: column(),
        ..Grants::default()
    }
}

impl OpenRow {
    /// Adds pieces, those of one pile together.
    pub(super) fn add(&mut self, more: &[(u32, u32, i64)]) {
        for &(terms, kind, amount) in more {
            let same = |piece: &&mut (u32, u32, i64)| (piece.0, piece.1) == (terms, kind);
            match self.pieces.iter_mut().find(same) {
                Some(piece) => piece.2 = piece.2.saturating_add(amount),
                None => self.pieces.push((terms, kind, amount)),
            }
        }
    }
}

impl Draft<'_> {
    /// What is planned as a grant's pieces; none for all that the client may have.
    pub(super) fn planned_pieces(&self, site: Site) -> Vec<(u32, u32, i64)> {
        if self.plan.everything {
            return Vec::new();
        }
        let piece = |&(index, amount): &(usize, i64)| {
            let pile = self.room.spots(site)[index];
            (pile.terms, pile.kind, amount)
        };
        self.plan.takes.iter().map(piece).collect()
    }

    pub(super) fn push_grant(
        &mut self,
        whom: (u32, u32, u32),
        gang: u32,
        pieces: &[(u32, u32, i64)],
    ) {
        let grants = &mut self.grants;
        grants.agent.push(whom.0);
        grants.client.push(whom.1);
        grants.demand.push(whom.2);
        grants.gang.push(gang);
        grants.lease.push(0);
        self.times.push(1);
        grants
            .pieces
            .push(u32::try_from(pieces.len()).unwrap_or(u32::MAX));
        for &(terms, kind, amount) in pieces {
            grants.terms.push(terms);
            grants.kind.push(kind);
            grants.amount.push(amount);
        }
    }

    pub(super) fn close_rows(&mut self) {
        let Some(agent) = self.agent_at_hand() else {
            return;
        };
        if self.roams || self.round == Round::First {
            if !self.open.is_empty() {
                let mut rows = std::mem::take(&mut self.open);
                self.rows_put_by += rows.len();
                self.put_by.entry(agent).or_default().append(&mut rows);
            }
            return;
        }
        let mut open = std::mem::take(&mut self.open);
        for mut row in open.drain(..) {
            self.push_grant((agent, row.client, row.demand), 0, &row.pieces);
            if let Some(times) = self.times.last_mut() {
                *times = row.times;
            }
            if row.pieces.capacity() > 0 {
                row.pieces.clear();
                self.spare.push(row.pieces);
            }
        }
        // Kept for its memory.
        self.open = open;
    }

    /// What was granted on agents that were not gone to again.
    pub(super) fn close_put_by(&mut self) {
        self.rows_put_by = 0;
        for (agent, rows) in std::mem::take(&mut self.put_by) {
            for row in rows {
                self.push_grant((agent, row.client, row.demand), 0, &row.pieces);
            }
        }
    }
}
