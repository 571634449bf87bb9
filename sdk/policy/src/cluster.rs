//! The cluster as a policy sees it, kept from the changes.
//!
//! Everything is found by handle: handles are dense, so they are indices. What is derived (what is
//! free, what a client holds, the pool's totals) is kept up with each row that is applied, so a
//! decision costs what it looks at and not the size of the pool.
//!
//! The host is trusted to mean well, not to be without fault: a row that names what is not known,
//! or columns of unequal length, are left out and counted ([`Cluster::ignored`]).

mod agent;
mod apply;
mod mask;
mod table;
mod tasks;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use proffer_model::policy::{Client, Demand, Kind, Role, TERMS_PLAIN, Terms, TermsMarks};

pub use agent::{AgentRow, Cell, Pile, Refusal};
use mask::Mask;
use table::Table;
pub use tasks::Task;

/// The picture of the cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    kinds: Table<Kind>,
    terms: Table<Terms>,
    agents: Table<AgentRow>,
    roles: Table<Role>,
    clients: Table<ClientRow>,
    demands: Table<Box<Demand>>,
    masks: Table<Mask>,
    /// Empty unless the policy asked for them.
    tasks: Table<Task>,
    /// Where a filter is, for its removal. Filters come and go by the million, so their handles
    /// are no indices. Never iterated, so its order decides nothing.
    filters: HashMap<u32, (u32, u32), BuildHasherDefault<HandleHasher>>,
    /// The pool's total per kind, every agent and all terms counted.
    totals: Vec<i64>,
    /// By kind: what quota counts and nobody holds; see [`Cluster::open`].
    open: Vec<Open>,
    /// By role handle and kind: what is reserved to the role itself.
    reserved: Vec<Vec<i64>>,
    /// (agent, client) of the last changes where use was reported that nobody had granted.
    reported: Vec<(u32, u32)>,
    ignored: u64,
    /// The last part of the snapshot has come.
    complete: bool,
    /// Grows when roles or clients come, go or change: what is derived from them is then stale.
    structure: u64,
    /// How often it has begun anew with a snapshot: handles of before name nothing any more.
    generation: u64,
}

/// What is not reserved, not revocable and not held, of one kind over the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Open {
    /// Each agent's, where there is any.
    pub(crate) free: i64,
    /// The pool's total without all that is held and all that is idle of reservations and revocable
    /// resources: agents that are short count against those that are not, as in Mesos.
    pub(crate) balance: i64,
}

/// A client and what is known of it.
#[derive(Clone, Debug)]
pub struct ClientRow {
    /// As the host described it.
    pub client: Client,
    /// Offered and used, by kind handle.
    held: Vec<i64>,
    /// The same without what is reserved or revocable: what quota counts.
    plain: Vec<i64>,
    /// Its demands: highest priority first, then oldest, then lowest handle.
    demands: Vec<u32>,
}

impl ClientRow {
    /// What it holds of a kind, everywhere and under all terms: offered and used.
    #[must_use]
    pub fn held(&self, kind: u32) -> i64 {
        self.held.get(kind as usize).copied().unwrap_or(0)
    }

    /// What quota counts of what it holds, by kind handle.
    pub(crate) fn plain(&self) -> &[i64] {
        &self.plain
    }

    /// Its demands: highest priority first, then oldest, then lowest handle.
    #[must_use]
    pub fn demands(&self) -> &[u32] {
        &self.demands
    }

    fn add_held(&mut self, kind: u32, grown: i64, counts_in_quota: bool) {
        add_at(&mut self.held, kind, grown);
        if counts_in_quota {
            add_at(&mut self.plain, kind, grown);
        }
    }
}

fn add_at(amounts: &mut Vec<i64>, kind: u32, grown: i64) {
    let index = kind as usize;
    if index >= amounts.len() {
        amounts.resize(index + 1, 0);
    }
    amounts[index] = amounts[index].saturating_add(grown);
}

impl Default for Cluster {
    fn default() -> Self {
        let mut terms = Table::default();
        if let Some(place) = terms.place(TERMS_PLAIN) {
            *place = Some(Terms {
                handle: TERMS_PLAIN,
                reserved: Vec::new(),
                marks: TermsMarks::default(),
            });
        }
        Self {
            kinds: Table::default(),
            terms,
            agents: Table::default(),
            roles: Table::default(),
            clients: Table::default(),
            demands: Table::default(),
            masks: Table::default(),
            tasks: Table::default(),
            filters: HashMap::default(),
            totals: Vec::new(),
            open: Vec::new(),
            reserved: Vec::new(),
            reported: Vec::new(),
            ignored: 0,
            complete: false,
            structure: 0,
            generation: 0,
        }
    }
}

impl Cluster {
    /// A kind of resource.
    #[must_use]
    pub fn kind(&self, handle: u32) -> Option<&Kind> {
        self.kinds.get(handle)
    }

    /// Every kind, by handle.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.iter().map(|(_, kind)| kind)
    }

    /// Terms of piles.
    #[must_use]
    pub fn terms(&self, handle: u32) -> Option<&Terms> {
        self.terms.get(handle)
    }

    /// An agent.
    #[must_use]
    pub fn agent(&self, handle: u32) -> Option<&AgentRow> {
        self.agents.get(handle)
    }

    /// Every agent, by handle.
    pub fn agents(&self) -> impl Iterator<Item = &AgentRow> {
        self.agents.iter().map(|(_, agent)| agent)
    }

    /// One more than the highest agent handle: the size of a table by agent.
    #[must_use]
    pub fn agents_bound(&self) -> usize {
        self.agents.bound()
    }

    /// A role.
    #[must_use]
    pub fn role(&self, handle: u32) -> Option<&Role> {
        self.roles.get(handle)
    }

    /// Every role, by handle.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.iter().map(|(_, role)| role)
    }

    /// One more than the highest role handle.
    #[must_use]
    pub fn roles_bound(&self) -> usize {
        self.roles.bound()
    }

    /// A framework under one role.
    #[must_use]
    pub fn client(&self, handle: u32) -> Option<&ClientRow> {
        self.clients.get(handle)
    }

    /// Every client, by handle.
    pub fn clients(&self) -> impl Iterator<Item = &ClientRow> {
        self.clients.iter().map(|(_, client)| client)
    }

    /// One more than the highest client handle: the size of a table by client.
    #[must_use]
    pub fn clients_bound(&self) -> usize {
        self.clients.bound()
    }

    /// A demand.
    #[must_use]
    pub fn demand(&self, handle: u32) -> Option<&Demand> {
        self.demands.get(handle).map(|demand| &**demand)
    }

    /// One more than the highest demand handle: the size of a table by demand.
    #[must_use]
    pub fn demands_bound(&self) -> usize {
        self.demands.bound()
    }

    /// The pool's total of a kind: every agent, inactive ones too, and all terms.
    #[must_use]
    pub fn total(&self, kind: u32) -> i64 {
        self.totals.get(kind as usize).copied().unwrap_or(0)
    }

    /// What is neither reserved, nor revocable, nor held, of a kind over the pool.
    pub(crate) fn open(&self, kind: u32) -> Open {
        self.open.get(kind as usize).copied().unwrap_or_default()
    }

    /// What is reserved to a role itself, not to those below, by kind.
    pub(crate) fn reserved_to(&self, role: u32) -> &[i64] {
        self.reserved
            .get(role as usize)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// (agent, client) of the last changes where somebody uses more, and no offer became less.
    pub(crate) fn reported(&self) -> &[(u32, u32)] {
        &self.reported
    }

    /// Whether quota counts what is held under these terms.
    pub(crate) fn counts_in_quota(&self, terms: u32) -> bool {
        terms == TERMS_PLAIN
            || self
                .terms
                .get(terms)
                .is_some_and(|terms| terms.reserved.is_empty() && !terms.marks.revocable)
    }

    /// Whether a mask admits an agent. Mask 0 admits all; one that was never described, none.
    #[must_use]
    pub fn mask_admits(&self, mask: u32, agent: u32) -> bool {
        mask == 0 || self.masks.get(mask).is_some_and(|mask| mask.admits(agent))
    }

    /// Whether a role is another or lies below it.
    #[must_use]
    pub fn is_at_or_below(&self, role: u32, other: u32) -> bool {
        let mut at = role;
        // As many steps as there are roles: parents that lead round in a circle are malformed.
        for _ in 0..=self.roles.bound() {
            if at == other {
                return true;
            }
            match self.roles.get(at) {
                Some(row) => at = row.parent,
                None => return false,
            }
        }
        false
    }

    /// Rows that were left out because they were malformed.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Whether the whole snapshot has come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// How often a snapshot has come after a whole one: what was kept by handles of before is void.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Grows when roles or clients come, go or change.
    pub(crate) fn structure(&self) -> u64 {
        self.structure
    }
}

/// A handle's hash: one multiplication (Fibonacci hashing). The handles are the host's, so nobody
/// can aim for collisions.
#[derive(Clone, Copy, Debug, Default)]
struct HandleHasher(u64);

impl Hasher for HandleHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn write_u32(&mut self, handle: u32) {
        let product = u64::from(handle).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ product.rotate_left(32);
    }
}
