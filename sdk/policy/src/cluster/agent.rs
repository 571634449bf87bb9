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

    fn is_nothing(&self) -> bool {
        self.total == 0 && self.taken == 0 && self.kept == 0
    }
}

/// What something was, and what it became.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved<T>(pub(crate) T, pub(crate) T);

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
    fn key(&self) -> (u32, u64) {
        (self.client, joined(self.terms, self.kind))
    }

    /// Offered and used.
    #[must_use]
    pub fn held(&self) -> i64 {
        self.offered.saturating_add(self.used)
    }

    fn is_empty(&self) -> bool {
        self.offered == 0 && self.used == 0 && self.kept == 0
    }

    /// With nothing in it.
    fn emptied(&self) -> Self {
        Self {
            offered: 0,
            used: 0,
            kept: 0,
            counted: 0,
            ..*self
        }
    }
}

/// Terms and kind as one number: compared at once.
fn joined(terms: u32, kind: u32) -> u64 {
    (u64::from(terms) << 32) | u64::from(kind)
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

    /// Where the pile of a kind under terms is, or would be.
    fn place_of(&self, terms: u32, kind: u32) -> Result<usize, usize> {
        self.piles
            .binary_search_by_key(&joined(terms, kind), |pile| joined(pile.terms, pile.kind))
    }

    /// Sets a total. Answers the pile as it was and as it is.
    pub(crate) fn set_total(&mut self, terms: u32, kind: u32, total: i64) -> Moved<Option<Pile>> {
        let place = self.place_of(terms, kind);
        self.change_pile((terms, kind), place, |pile| pile.total = total)
    }

    /// Sets a cell. `shared`: see [`Pile::taken`]. Answers it and its pile as they were and as they
    /// are.
    pub(crate) fn set_cell(
        &mut self,
        mut new: Cell,
        shared: bool,
    ) -> (Moved<Cell>, Moved<Option<Pile>>) {
        let place = self.place_of(new.terms, new.kind);
        let pile = place.ok().map(|place| self.piles[place]);
        new.counted = match pile {
            // However often it was offered meanwhile.
            Some(pile) if shared => new.held().min(pile.total),
            _ => new.held(),
        };
        let found = self
            .cells
            .binary_search_by(|cell| cell.key().cmp(&new.key()));
        let old = match found {
            Ok(index) if new.is_empty() => self.cells.remove(index),
            Ok(index) => std::mem::replace(&mut self.cells[index], new),
            Err(_) if new.is_empty() => return (Moved(new, new), Moved(pile, pile)),
            Err(index) => {
                self.cells.insert(index, new);
                new.emptied()
            }
        };
        self.kept_cells = self
            .kept_cells
            .saturating_add(u32::from(new.kept != 0))
            .saturating_sub(u32::from(old.kept != 0));
        let taken = |cell: &Cell| if shared { 0 } else { cell.held() };
        let piles = self.change_pile((new.terms, new.kind), place, |pile| {
            pile.taken = pile
                .taken
                .saturating_add(taken(&new).saturating_sub(taken(&old)));
            pile.kept = pile.kept.saturating_add(new.kept.saturating_sub(old.kept));
        });
        (Moved(old, new), piles)
    }

    /// Changes a pile, which comes when there is anything of it and goes when there is nothing.
    fn change_pile(
        &mut self,
        (terms, kind): (u32, u32),
        place: Result<usize, usize>,
        change: impl FnOnce(&mut Pile),
    ) -> Moved<Option<Pile>> {
        let before = place.ok().map(|place| self.piles[place]);
        let mut pile = before.unwrap_or(Pile {
            terms,
            kind,
            total: 0,
            taken: 0,
            kept: 0,
        });
        change(&mut pile);
        let after = (!pile.is_nothing()).then_some(pile);
        match (place, after) {
            (Ok(place), Some(pile)) => self.piles[place] = pile,
            (Ok(place), None) => {
                self.piles.remove(place);
            }
            (Err(place), Some(pile)) => self.piles.insert(place, pile),
            (Err(_), None) => {}
        }
        Moved(before, after)
    }

    /// The cells of a client, to be set to nothing by the caller.
    pub(crate) fn emptied_cells_of(&self, client: u32) -> Vec<Cell> {
        self.cells_of(client).iter().map(Cell::emptied).collect()
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
}
