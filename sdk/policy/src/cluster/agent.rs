//! One agent of the picture: its piles, who holds what of them, and what was refused there.

use proffer_model::policy::Agent;

/// Resources of one kind under one set of terms on one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pile {
    /// Terms handle.
    pub terms: u32,
    /// Kind handle.
    pub kind: u32,
    /// All of it, thousandths.
    pub total: i64,
    /// Offered to or used by somebody. Of a shared volume nothing, however many hold it.
    pub taken: i64,
    /// Free, but kept for somebody.
    pub kept: i64,
}

impl Pile {
    /// What anybody may have; what is kept for somebody is not in it.
    #[must_use]
    pub fn free(&self) -> i64 {
        self.spare().max(0)
    }

    /// The same, below nothing if more is held or kept than there is.
    pub(crate) fn spare(&self) -> i64 {
        self.total
            .saturating_sub(self.taken)
            .saturating_sub(self.kept)
    }
}

/// What one client holds of one pile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Client handle.
    pub client: u32,
    /// Terms handle.
    pub terms: u32,
    /// Kind handle.
    pub kind: u32,
    /// On offer, thousandths.
    pub offered: i64,
    /// In use.
    pub used: i64,
    /// Free, but only for this client.
    pub kept: i64,
    /// What of it counts as the client's: a shared volume once, whether it is offered, in use or both.
    pub(crate) counted: i64,
}

impl Cell {
    fn key(&self) -> (u32, u32, u32) {
        (self.client, self.terms, self.kind)
    }

    /// Offered and used.
    #[must_use]
    pub fn held(&self) -> i64 {
        self.offered.saturating_add(self.used)
    }

    fn is_empty(&self) -> bool {
        self.offered == 0 && self.used == 0 && self.kept == 0
    }
}

/// What a client refused on an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Filter handle.
    pub handle: u32,
    /// Who refused.
    pub client: u32,
    /// Whether the agent's counted items that are not in use are all among the refused.
    pub inside: bool,
    /// Terms, kind and amount, by terms and kind.
    pub pieces: Vec<(u32, u32, i64)>,
}

/// An agent and what is known of it.
#[derive(Clone, Debug)]
pub struct AgentRow {
    /// As the host described it.
    pub agent: Agent,
    /// By terms and kind, so that one content has one form, however it came about.
    piles: Vec<Pile>,
    /// By client, terms and kind.
    cells: Vec<Cell>,
    /// By client and filter.
    refusals: Vec<Refusal>,
    /// Handles, ascending.
    tasks: Vec<u32>,
    /// Cells that keep something: nearly always none.
    kept_cells: u32,
}

impl AgentRow {
    pub(crate) fn new(agent: Agent) -> Self {
        Self {
            agent,
            piles: Vec::new(),
            cells: Vec::new(),
            refusals: Vec::new(),
            tasks: Vec::new(),
            kept_cells: 0,
        }
    }

    /// Its resources, by terms and kind.
    #[must_use]
    pub fn piles(&self) -> &[Pile] {
        &self.piles
    }

    /// Who holds what, by client, terms and kind.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// What one client holds here.
    #[must_use]
    pub fn cells_of(&self, client: u32) -> &[Cell] {
        let from = self.cells.partition_point(|cell| cell.client < client);
        let rest = self.cells.get(from..).unwrap_or_default();
        let count = rest.partition_point(|cell| cell.client == client);
        rest.get(..count).unwrap_or_default()
    }

    /// What one client refused here.
    #[must_use]
    pub fn refusals_of(&self, client: u32) -> &[Refusal] {
        if self.refusals.is_empty() {
            return &[];
        }
        let from = self.refusals.partition_point(|row| row.client < client);
        let rest = self.refusals.get(from..).unwrap_or_default();
        let count = rest.partition_point(|row| row.client == client);
        rest.get(..count).unwrap_or_default()
    }

    /// What of a pile is kept for a client.
    #[must_use]
    pub fn kept_for(&self, client: u32, pile: &Pile) -> i64 {
        if self.kept_cells == 0 || pile.kept == 0 {
            return 0;
        }
        let own = |cell: &&Cell| cell.terms == pile.terms && cell.kind == pile.kind;
        let cell = self.cells_of(client).iter().find(own);
        cell.map_or(0, |cell| cell.kept)
    }

    /// Whether anybody refused anything here.
    pub(crate) fn is_refused(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// Whether anything is kept here for anybody.
    pub(crate) fn has_kept(&self) -> bool {
        self.kept_cells > 0
    }

    /// The pile of a kind under terms, if there is one.
    pub(crate) fn pile_of(&self, terms: u32, kind: u32) -> Option<&Pile> {
        let index = self
            .piles
            .binary_search_by(|pile| (pile.terms, pile.kind).cmp(&(terms, kind)));
        self.piles.get(index.ok()?)
    }

    /// Sets a total and answers by how much it grew.
    pub(crate) fn set_total(&mut self, terms: u32, kind: u32, total: i64) -> i64 {
        let pile = self.pile(terms, kind);
        let grown = total.saturating_sub(pile.total);
        pile.total = total;
        self.drop_if_empty(terms, kind);
        grown
    }

    /// Sets a cell and answers the old one. `shared`: see [`Pile::taken`].
    pub(crate) fn set_cell(&mut self, new: Cell, shared: bool) -> Cell {
        let old = match self
            .cells
            .binary_search_by(|cell| cell.key().cmp(&new.key()))
        {
            Ok(index) if new.is_empty() => self.cells.remove(index),
            Ok(index) => match self.cells.get_mut(index) {
                Some(cell) => std::mem::replace(cell, new),
                None => return new,
            },
            Err(_) if new.is_empty() => return new,
            Err(index) => {
                self.cells.insert(index, new);
                Cell {
                    offered: 0,
                    used: 0,
                    kept: 0,
                    counted: 0,
                    ..new
                }
            }
        };
        let taken = |cell: &Cell| if shared { 0 } else { cell.held() };
        self.kept_cells = self
            .kept_cells
            .saturating_add(u32::from(new.kept != 0))
            .saturating_sub(u32::from(old.kept != 0));
        let pile = self.pile(new.terms, new.kind);
        pile.taken = pile
            .taken
            .saturating_add(taken(&new).saturating_sub(taken(&old)));
        pile.kept = pile.kept.saturating_add(new.kept.saturating_sub(old.kept));
        if pile.total == 0 {
            self.drop_if_empty(new.terms, new.kind);
        }
        old
    }

    /// The cells of a client, to be set to nothing by the caller.
    pub(crate) fn emptied_cells_of(&self, client: u32) -> Vec<Cell> {
        let empty = |cell: &Cell| Cell {
            offered: 0,
            used: 0,
            kept: 0,
            counted: 0,
            ..*cell
        };
        self.cells_of(client).iter().map(empty).collect()
    }

    pub(crate) fn put_refusal(&mut self, refusal: Refusal) {
        let key = (refusal.client, refusal.handle);
        match self
            .refusals
            .binary_search_by(|row| (row.client, row.handle).cmp(&key))
        {
            Ok(index) => {
                if let Some(row) = self.refusals.get_mut(index) {
                    *row = refusal;
                }
            }
            Err(index) => self.refusals.insert(index, refusal),
        }
    }

    pub(crate) fn remove_refusal(&mut self, client: u32, handle: u32) {
        let key = (client, handle);
        if let Ok(index) = self
            .refusals
            .binary_search_by(|row| (row.client, row.handle).cmp(&key))
        {
            self.refusals.remove(index);
        }
    }

    pub(crate) fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    pub(super) fn tasks(&self) -> &[u32] {
        &self.tasks
    }

    pub(super) fn put_task(&mut self, task: u32) {
        if let Err(index) = self.tasks.binary_search(&task) {
            self.tasks.insert(index, task);
        }
    }

    pub(super) fn remove_task(&mut self, task: u32) {
        if let Ok(index) = self.tasks.binary_search(&task) {
            self.tasks.remove(index);
        }
    }

    pub(super) fn retain_tasks(&mut self, mut stays: impl FnMut(u32) -> bool) {
        self.tasks.retain(|task| stays(*task));
    }

    fn pile(&mut self, terms: u32, kind: u32) -> &mut Pile {
        let index = match self
            .piles
            .binary_search_by(|pile| (pile.terms, pile.kind).cmp(&(terms, kind)))
        {
            Ok(index) => index,
            Err(index) => {
                let pile = Pile {
                    terms,
                    kind,
                    total: 0,
                    taken: 0,
                    kept: 0,
                };
                self.piles.insert(index, pile);
                index
            }
        };
        &mut self.piles[index]
    }

    fn drop_if_empty(&mut self, terms: u32, kind: u32) {
        self.piles.retain(|pile| {
            (pile.terms, pile.kind) != (terms, kind)
                || pile.total != 0
                || pile.taken != 0
                || pile.kept != 0
        });
    }
}
