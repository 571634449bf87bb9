//! What clients hold on agents, as the policy is told it.

use proffer_codec::{codec_enum, codec_struct};
use proffer_model::AgentId;
use proffer_model::policy::{self, Changes, Piece};

use crate::handles::ClientId;
use crate::machine::Core;

/// Who holds something else on which agent. Noted at offers and tasks, so in any order and some often;
/// put in order when it is taken, and whenever twice as many are there as there were then, so that
/// while no cycle takes them there are no more than a few times as many as there can be.
#[derive(Debug, Default)]
pub(crate) struct DirtyCells {
    pub(super) all: Vec<DirtyCell>,
    order_at: usize,
}

codec_struct!(DirtyCells { all, order_at });

/// A client on an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirtyCell {
    pub(super) agent: AgentId,
    pub(super) client: ClientId,
    pub(super) known: Known,
}

codec_struct!(DirtyCell {
    agent,
    client,
    known
});

/// What the policy was last told that a client holds on an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Known {
    /// If it holds nothing now either, as when an offer was made and given back since, there is
    /// nothing to tell.
    Nothing,
    /// Kinds that it does not hold are stated too.
    Something,
}

codec_enum!(Known { Nothing, Something });

/// So few are not worth the ordering.
const CELLS_UNORDERED_MIN: usize = 4_096;

impl DirtyCells {
    pub(crate) fn add(&mut self, agent: AgentId, client: ClientId, known: Known) {
        self.all.push(DirtyCell {
            agent,
            client,
            known,
        });
        if self.all.len() > self.order_at.max(CELLS_UNORDERED_MIN) {
            self.order();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn order(&mut self) {
        let place = |cell: &DirtyCell| (u64::from(cell.agent.0) << 32) | u64::from(cell.client.0);
        self.all.sort_unstable_by_key(place);
        self.all.dedup_by(|next, cell| {
            let same = (next.agent, next.client) == (cell.agent, cell.client);
            if same {
                cell.known = cell.known.max(next.known);
            }
            same
        });
        self.order_at = self.all.len() * 2;
    }

    fn take(&mut self) -> Vec<DirtyCell> {
        self.order();
        std::mem::take(self).all
    }
}

impl Core {
    pub(super) fn put_cells(&mut self, changes: &mut Changes) {
        for DirtyCell {
            agent: id,
            client,
            known,
        } in self.feed.cells.take()
        {
            let vanished = self.feed.vanishing.remove(&(id, client));
            let Some(agent) = self.agents.get(&id) else {
                continue;
            };
            let account = &agent.account;
            let held = account.held_by(client);
            if known == Known::Nothing && held.is_none() {
                continue;
            }
            if self.feed.changed_agents.last() != Some(&id) {
                self.feed.changed_agents.push(id);
            }
            let mut rows = CellRows::default();
            if known == Known::Something {
                let owned = [account.total(), account.deficit()];
                for owned in owned.into_iter().chain(&vanished) {
                    self.handles.each_piece(owned, |piece| {
                        rows.of(piece);
                    });
                }
            }
            if let Some(held) = held {
                self.handles.each_piece(&held.offered, |piece| {
                    rows.of(piece).offered = piece.amount.milli();
                });
                self.handles.each_piece(&held.used, |piece| {
                    rows.of(piece).used = piece.amount.milli();
                });
            }
            rows.put(id, client, &mut changes.cells);
        }
    }
}

/// What one client holds on one agent, by terms and kind. A handful: looked through, not searched.
#[derive(Debug, Default)]
struct CellRows(Vec<CellRow>);

#[derive(Debug)]
struct CellRow {
    terms: u32,
    kind: u32,
    offered: i64,
    used: i64,
}

impl CellRows {
    fn of(&mut self, piece: Piece) -> &mut CellRow {
        let Self(rows) = self;
        let is_it = |row: &CellRow| (row.terms, row.kind) == (piece.terms, piece.kind);
        let place = rows.iter().position(is_it).unwrap_or(rows.len());
        if place == rows.len() {
            rows.push(CellRow {
                terms: piece.terms,
                kind: piece.kind,
                offered: 0,
                used: 0,
            });
        }
        &mut rows[place]
    }

    fn put(mut self, agent: AgentId, client: ClientId, cells: &mut policy::Cells) {
        self.0.sort_unstable_by_key(|row| (row.terms, row.kind));
        for row in self.0 {
            cells.agent.push(agent.0);
            cells.client.push(client.0);
            cells.terms.push(row.terms);
            cells.kind.push(row.kind);
            cells.offered.push(row.offered);
            cells.used.push(row.used);
            cells.kept.push(0);
        }
    }
}
