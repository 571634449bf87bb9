//! Taking changes into the picture, row by row.

use proffer_model::policy::{
    Cells, Changes, ChangesPart, Client, Demand, Filters, Masks, Noun, Removed, Totals,
};

use super::agent::{AgentRow, Cell, Moved, Pile, Refusal};
use super::{ClientRow, Cluster, Open};

impl Cluster {
    /// Takes changes in, in the order of their fields. Values are absolute, so a row may come
    /// twice. A snapshot after a whole snapshot begins anew.
    pub fn apply(&mut self, changes: &Changes) {
        if changes.part != ChangesPart::Delta && self.complete {
            *self = Self {
                ignored: self.ignored,
                // Whoever worked something out of the old roles and clients sees that these are others.
                structure: self.structure.wrapping_add(1),
                generation: self.generation.wrapping_add(1),
                ..Self::default()
            };
        }
        self.reported.clear();
        for removed in &changes.removed {
            self.remove(*removed);
        }
        self.describe(changes);
        self.set_masks(&changes.masks);
        self.set_totals(&changes.totals);
        self.set_cells(&changes.cells);
        self.put_demands(&changes.demands);
        self.put_filters(&changes.filters);
        self.put_tasks(&changes.tasks);
        if changes.part == ChangesPart::SnapshotLast {
            self.complete = true;
        }
    }

    pub(super) fn ignore(&mut self, rows: usize) {
        self.ignored = self.ignored.saturating_add(rows as u64);
    }

    fn describe(&mut self, changes: &Changes) {
        for kind in &changes.kinds {
            match self.kinds.place(kind.handle) {
                Some(place) => *place = Some(kind.clone()),
                None => self.ignore(1),
            }
        }
        for terms in &changes.terms {
            match self.terms.place(terms.handle) {
                Some(place) => *place = Some(terms.clone()),
                None => self.ignore(1),
            }
        }
        for agent in &changes.agents {
            match self.agents.place(agent.handle) {
                Some(Some(row)) => row.agent = agent.clone(),
                Some(place) => *place = Some(AgentRow::new(agent.clone())),
                None => self.ignore(1),
            }
        }
        for role in &changes.roles {
            self.structure = self.structure.wrapping_add(1);
            match self.roles.place(role.handle) {
                Some(place) => *place = Some(role.clone()),
                None => self.ignore(1),
            }
        }
        for client in &changes.clients {
            self.put_client(client);
        }
    }

    fn put_client(&mut self, client: &Client) {
        self.structure = self.structure.wrapping_add(1);
        match self.clients.place(client.handle) {
            Some(Some(row)) => row.client = client.clone(),
            Some(place) => {
                *place = Some(ClientRow {
                    client: client.clone(),
                    held: Vec::new(),
                    plain: Vec::new(),
                    demands: Vec::new(),
                });
            }
            None => self.ignore(1),
        }
    }

    fn set_masks(&mut self, masks: &Masks) {
        let Masks {
            mask,
            agent,
            admits,
        } = masks;
        let rows = mask.len();
        if agent.len() != rows || admits.len() != rows {
            return self.ignore(rows.max(agent.len()).max(admits.len()));
        }
        for ((&mask, &agent), &admits) in mask.iter().zip(agent).zip(admits) {
            if mask == 0 || self.agents.get(agent).is_none() {
                self.ignore(1);
                continue;
            }
            match self.masks.place(mask) {
                Some(place) => place.get_or_insert_default().set(agent, admits != 0),
                None => self.ignore(1),
            }
        }
    }

    fn set_totals(&mut self, totals: &Totals) {
        let Totals {
            agent,
            terms,
            kind,
            total,
        } = totals;
        let rows = agent.len();
        if terms.len() != rows || kind.len() != rows || total.len() != rows {
            return self.ignore(rows.max(terms.len()).max(kind.len()).max(total.len()));
        }
        for (((&agent, &terms), &kind), &total) in agent.iter().zip(terms).zip(kind).zip(total) {
            let known = self.terms.get(terms).is_some() && self.kinds.get(kind).is_some();
            let Some(row) = self.agents.get_mut(agent).filter(|_| known && total >= 0) else {
                self.ignore(1);
                continue;
            };
            let piles = row.set_total(terms, kind, total);
            let before = piles.0.map_or(0, |pile| pile.total);
            let grown = total.saturating_sub(before);
            self.add_total(kind, grown);
            self.move_open(terms, kind, piles);
            let owner = self
                .terms
                .get(terms)
                .and_then(|terms| terms.reserved.last());
            if let Some(&role) = owner.filter(|_| grown != 0) {
                self.add_reserved(role, kind, grown);
            }
        }
    }

    fn add_reserved(&mut self, role: u32, kind: u32, grown: i64) {
        let index = role as usize;
        // A handle elsewhere would make the table large.
        if self.roles.get(role).is_none() {
            return self.ignore(1);
        }
        if index >= self.reserved.len() {
            self.reserved.resize(index + 1, Vec::new());
        }
        super::add_at(&mut self.reserved[index], kind, grown);
    }

    /// A pile became another: what is open of its kind over the pool moves with it.
    fn move_open(&mut self, terms: u32, kind: u32, Moved(before, after): Moved<Option<Pile>>) {
        let counts = self.counts_in_quota(terms);
        let of = |pile: Option<Pile>| -> Open {
            let Some(pile) = pile else {
                return Open::default();
            };
            let left = pile.total.saturating_sub(pile.taken);
            match counts {
                true => Open {
                    free: pile.spare().max(0),
                    balance: left,
                },
                // Idle or held it is none of the open; held beyond its total it is somebody else's.
                false => Open {
                    free: 0,
                    balance: left.min(0),
                },
            }
        };
        let (before, after) = (of(before), of(after));
        if before == after {
            return;
        }
        let index = kind as usize;
        if index >= self.open.len() {
            self.open.resize(index + 1, Open::default());
        }
        let open = &mut self.open[index];
        open.free = open
            .free
            .saturating_add(after.free.saturating_sub(before.free));
        open.balance = open
            .balance
            .saturating_add(after.balance.saturating_sub(before.balance));
    }

    fn add_total(&mut self, kind: u32, grown: i64) {
        let index = kind as usize;
        if index >= self.totals.len() {
            self.totals.resize(index + 1, 0);
        }
        self.totals[index] = self.totals[index].saturating_add(grown);
    }

    fn set_cells(&mut self, cells: &Cells) {
        let rows = cells.agent.len();
        let lengths = [
            cells.client.len(),
            cells.terms.len(),
            cells.kind.len(),
            cells.offered.len(),
            cells.used.len(),
            cells.kept.len(),
        ];
        if lengths.iter().any(|&length| length != rows) {
            return self.ignore(lengths.into_iter().fold(rows, usize::max));
        }
        let places = cells.agent.iter().zip(&cells.client);
        let piles = cells.terms.iter().zip(&cells.kind);
        let amounts = cells.offered.iter().zip(&cells.used).zip(&cells.kept);
        for (((&agent, &client), (&terms, &kind)), ((&offered, &used), &kept)) in
            places.zip(piles).zip(amounts)
        {
            let cell = Cell {
                client,
                terms,
                kind,
                offered,
                used,
                kept,
                counted: 0,
            };
            self.set_cell(agent, cell);
        }
    }

    fn set_cell(&mut self, agent: u32, cell: Cell) {
        let sound = cell.offered >= 0 && cell.used >= 0 && cell.kept >= 0;
        let known = sound && self.kinds.get(cell.kind).is_some();
        let counts = self.counts_in_quota(cell.terms);
        let (Some(row), Some(client), Some(terms), true) = (
            self.agents.get_mut(agent),
            self.clients.get_mut(cell.client),
            self.terms.get(cell.terms),
            known,
        ) else {
            return self.ignore(1);
        };
        let (cells, piles) = row.set_cell(cell, terms.marks.shared);
        let Moved(old, new) = cells;
        client.add_held(cell.kind, new.counted.saturating_sub(old.counted), counts);
        self.move_open(cell.terms, cell.kind, piles);
        self.note_report(agent, &old, &new);
    }

    /// Use that grew while no offer became less was reported by an agent. What became less elsewhere
    /// in the pair was converted.
    fn note_report(&mut self, agent: u32, old: &Cell, new: &Cell) {
        let pair = (agent, new.client);
        if new.used > old.used && new.held() > old.held() {
            if self.reported.last() != Some(&pair) {
                self.reported.push(pair);
            }
        } else if new.held() < old.held() && self.reported.last() == Some(&pair) {
            self.reported.pop();
        }
    }

    fn put_demands(&mut self, demands: &[Demand]) {
        // (client, demand) whose place among the client's may be another.
        let mut touched: Vec<(u32, u32)> = Vec::with_capacity(demands.len());
        for demand in demands {
            let sound = demand.pieces.iter().all(|piece| piece.amount.milli() >= 0);
            if !sound || self.clients.get(demand.client).is_none() {
                self.ignore(1);
                continue;
            }
            let mut demand = demand.clone();
            // Nothing of a kind is no condition.
            demand.pieces.retain(|piece| !piece.amount.is_zero());
            demand.near.sort_unstable();
            let (client, handle) = (demand.client, demand.handle);
            let Some(place) = self.demands.place(handle) else {
                self.ignore(1);
                continue;
            };
            let old = place.replace(Box::new(demand));
            touched.push((client, handle));
            touched.extend(old.map(|old| (old.client, handle)));
        }
        touched.sort_unstable();
        touched.dedup();
        for of_client in touched.chunk_by(|one, other| one.0 == other.0) {
            self.sort_demands(of_client);
        }
    }

    /// Puts demands of one client that are new, changed or gone into their places among its others.
    /// `touched`: the client and a demand, by demand.
    fn sort_demands(&mut self, touched: &[(u32, u32)]) {
        let demands = &self.demands;
        let Some((row, client)) = touched
            .first()
            .and_then(|&(client, _)| Some((self.clients.get_mut(client)?, client)))
        else {
            return;
        };
        let is_touched = |handle: &u32| touched.binary_search(&(client, *handle)).is_ok();
        row.demands.retain(|handle| !is_touched(handle));
        let own = touched.iter().map(|&(_, handle)| handle);
        let own = own.filter(|&handle| {
            let demand = demands.get(handle);
            demand.is_some_and(|demand| demand.client == client)
        });
        row.demands.extend(own);
        row.demands.sort_by_key(|&handle| {
            let demand = demands.get(handle);
            (
                std::cmp::Reverse(demand.map_or(i32::MIN, |demand| demand.priority)),
                demand.map_or(u64::MAX, |demand| demand.since.0),
                handle,
            )
        });
    }

    fn put_filters(&mut self, filters: &Filters) {
        let rows = filters.handle.len();
        let pieces =
            (filters.pieces.iter()).fold(0_usize, |sum, &count| sum.saturating_add(count as usize));
        let equal = filters.client.len() == rows
            && filters.agent.len() == rows
            && filters.inside.len() == rows
            && filters.pieces.len() == rows
            && filters.terms.len() == pieces
            && filters.kind.len() == pieces
            && filters.amount.len() == pieces;
        if !equal {
            return self.ignore(rows.max(1));
        }
        let mut next = 0;
        for row in 0..rows {
            let end = next + filters.pieces[row] as usize;
            let mut refused: Vec<(u32, u32, i64)> = (next..end)
                .map(|at| (filters.terms[at], filters.kind[at], filters.amount[at]))
                .collect();
            next = end;
            refused.sort_unstable();
            let refusal = Refusal {
                handle: filters.handle[row],
                client: filters.client[row],
                inside: filters.inside[row] != 0,
                pieces: refused,
            };
            self.put_filter(filters.agent[row], refusal);
        }
    }

    fn put_filter(&mut self, agent: u32, refusal: Refusal) {
        if self.clients.get(refusal.client).is_none() || self.agents.get(agent).is_none() {
            return self.ignore(1);
        }
        let place = (agent, refusal.client);
        let old = self.filters.insert(refusal.handle, place);
        if let Some((agent, client)) = old.filter(|old| *old != place)
            && let Some(row) = self.agents.get_mut(agent)
        {
            row.remove_refusal(client, refusal.handle);
        }
        if let Some(row) = self.agents.get_mut(agent) {
            row.put_refusal(refusal);
        }
    }

    fn remove(&mut self, removed: Removed) {
        let handle = removed.handle;
        let known = match removed.what {
            Noun::Agent => self.remove_agent(handle),
            Noun::Role => {
                self.structure = self.structure.wrapping_add(1);
                self.roles.remove(handle).is_some()
            }
            Noun::Client => self.remove_client(handle),
            Noun::Terms => self.terms.remove(handle).is_some(),
            // These three go with their client and agent, perhaps before the host says so.
            Noun::Demand => {
                if let Some(demand) = self.demands.remove(handle) {
                    self.sort_demands(&[(demand.client, handle)]);
                }
                true
            }
            Noun::Filter => {
                if let Some((agent, client)) = self.filters.remove(&handle)
                    && let Some(row) = self.agents.get_mut(agent)
                {
                    row.remove_refusal(client, handle);
                }
                true
            }
            Noun::Task => {
                self.remove_task(handle);
                true
            }
            // Not kept here, so there is nothing to check them against.
            Noun::Reclaim => true,
        };
        if !known {
            self.ignore(1);
        }
    }

    fn remove_agent(&mut self, handle: u32) -> bool {
        let Some(row) = self.agents.remove(handle) else {
            return false;
        };
        for pile in row.piles() {
            self.add_total(pile.kind, pile.total.saturating_neg());
            self.move_open(pile.terms, pile.kind, Moved(Some(*pile), None));
            let owner = self
                .terms
                .get(pile.terms)
                .and_then(|terms| terms.reserved.last());
            if let Some(&role) = owner {
                self.add_reserved(role, pile.kind, pile.total.saturating_neg());
            }
        }
        for cell in row.cells() {
            let counts = self.counts_in_quota(cell.terms);
            if let Some(client) = self.clients.get_mut(cell.client) {
                client.add_held(cell.kind, cell.counted.saturating_neg(), counts);
            }
        }
        for refusal in row.refusals() {
            self.filters.remove(&refusal.handle);
        }
        for &task in row.tasks() {
            self.tasks.remove(task);
        }
        for (_, mask) in self.masks.iter_mut() {
            mask.set(handle, false);
        }
        true
    }

    fn remove_client(&mut self, handle: u32) -> bool {
        let Some(row) = self.clients.remove(handle) else {
            return false;
        };
        self.structure = self.structure.wrapping_add(1);
        for demand in row.demands {
            self.demands.remove(demand);
        }
        let mut moved = Vec::new();
        for (_, agent) in self.agents.iter_mut() {
            for cell in agent.emptied_cells_of(handle) {
                let shared = self
                    .terms
                    .get(cell.terms)
                    .is_some_and(|terms| terms.marks.shared);
                let (_, piles) = agent.set_cell(cell, shared);
                moved.push((cell.terms, cell.kind, piles));
            }
            let gone: Vec<u32> = agent
                .refusals_of(handle)
                .iter()
                .map(|refusal| refusal.handle)
                .collect();
            for filter in gone {
                agent.remove_refusal(handle, filter);
                self.filters.remove(&filter);
            }
            let tasks = &mut self.tasks;
            agent.retain_tasks(|task| {
                let own = tasks.get(task).is_some_and(|task| task.client == handle);
                if own {
                    tasks.remove(task);
                }
                !own
            });
        }
        for (terms, kind, piles) in moved {
            self.move_open(terms, kind, piles);
        }
        true
    }
}
