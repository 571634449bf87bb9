//! A small pool that a test describes in words: it feeds a policy the changes that a host would,
//! and keeps account of what becomes of the proposals.

// By its path, for others have this file by its path too.
#[path = "case/proposed.rs"]
mod proposed;
#[path = "case/tasks.rs"]
mod tasks;

use std::collections::BTreeMap;

use proffer_model::policy::{
    Agent, Cells, Changes, ChangesPart, Client, ClientMarks, Cycle, Demand, Filters, Finding, Kind,
    NONE, Noun, Piece, Proposal, Question, Quota, Removed, Role, TERMS_PLAIN, Terms, TermsMarks,
    kind,
};
use proffer_model::{Amount, Bundle, RevocableUse, Timestamp};
use proffer_policy::{Drf, NativePolicy, Policy, native};

/// Offered, used and kept of one pile, for one client on one agent.
pub(crate) type Holding = (i64, i64, i64);

/// Agent, client, terms and kind of a pile that is held.
pub(crate) type CellKey = (u32, u32, u32, u32);

/// A pool and its policy.
pub(crate) struct Case<P = Drf> {
    pub(crate) policy: P,
    pub(crate) pending: Changes,
    pub(crate) agents: Vec<String>,
    pub(crate) clients: Vec<String>,
    roles: Vec<String>,
    kinds: Vec<String>,
    terms: Vec<Terms>,
    rows: BTreeMap<u32, Client>,
    demands: BTreeMap<String, Demand>,
    filters: u32,
    tasks: u32,
    /// (agent, client, terms, kind).
    pub(crate) held: BTreeMap<CellKey, Holding>,
    pub(crate) totals: BTreeMap<(u32, u32, u32), i64>,
    pub(crate) seed: u64,
    pub(crate) now: u64,
    cycles: u64,
}

impl Case<Drf> {
    pub(crate) fn new() -> Self {
        Self::with(Drf::default(), "")
    }

    pub(crate) fn configured(config: &str) -> Self {
        Self::with(Drf::default(), config)
    }
}

impl Case<NativePolicy> {
    /// With a built-in policy.
    pub(crate) fn named(name: &str, config: &str) -> Self {
        Self::with(native(name).unwrap(), config)
    }
}

impl<P: Policy> Case<P> {
    pub(crate) fn with(mut policy: P, config: &str) -> Self {
        policy.configure(config).unwrap();
        let kinds = ["cpus", "mem", "disk", "gpus", "ports"].map(str::to_owned);
        let mut case = Self {
            policy,
            pending: Changes {
                part: ChangesPart::SnapshotLast,
                ..Changes::default()
            },
            agents: Vec::new(),
            clients: Vec::new(),
            roles: Vec::new(),
            kinds: Vec::new(),
            terms: Vec::new(),
            rows: BTreeMap::new(),
            demands: BTreeMap::new(),
            filters: 0,
            tasks: 0,
            held: BTreeMap::new(),
            totals: BTreeMap::new(),
            seed: 1,
            now: 1_000,
            cycles: 0,
        };
        for kind in kinds {
            case.kind(&kind);
        }
        case
    }

    pub(crate) fn kind(&mut self, name: &str) -> u32 {
        let position = self.kinds.iter().position(|kind| kind == name);
        let handle = u32::try_from(position.unwrap_or(self.kinds.len())).unwrap();
        if position.is_none() {
            self.kinds.push(name.to_owned());
            self.pending.kinds.push(Kind {
                handle,
                name: name.to_owned(),
                counted: handle == kind::PORTS,
            });
        }
        handle
    }

    pub(crate) fn agent(&mut self, name: &str, resources: &str) -> u32 {
        self.agent_with(name, resources, |_| {})
    }

    pub(crate) fn agent_with(
        &mut self,
        name: &str,
        resources: &str,
        change: impl FnOnce(&mut Agent),
    ) -> u32 {
        let handle = u32::try_from(self.agents.len()).unwrap();
        self.agents.push(name.to_owned());
        let pieces = self.pieces(TERMS_PLAIN, resources);
        let mut agent = Agent {
            handle,
            name: name.to_owned(),
            region: String::new(),
            zone: String::new(),
            active: true,
            allowed: true,
            has_gpus: pieces.iter().any(|piece| piece.kind == kind::GPUS),
            down: None,
        };
        change(&mut agent);
        self.pending.agents.push(agent);
        self.total(handle, &pieces);
        handle
    }

    /// Adds to an agent's total, under these terms.
    pub(crate) fn more(&mut self, agent: u32, terms: u32, resources: &str) {
        let pieces = self.pieces(terms, resources);
        self.total(agent, &pieces);
    }

    fn total(&mut self, agent: u32, pieces: &[Piece]) {
        for piece in pieces {
            let total = self
                .totals
                .entry((agent, piece.terms, piece.kind))
                .or_default();
            *total += piece.amount.milli();
            let totals = &mut self.pending.totals;
            totals.agent.push(agent);
            totals.terms.push(piece.terms);
            totals.kind.push(piece.kind);
            totals.total.push(*total);
        }
    }

    pub(crate) fn terms(&mut self, reserved: &[&str], marks: TermsMarks) -> u32 {
        let handle = u32::try_from(self.terms.len() + 1).unwrap();
        let reserved = reserved.iter().map(|role| self.role(role, 1)).collect();
        let terms = Terms {
            handle,
            reserved,
            marks,
        };
        self.terms.push(terms.clone());
        self.pending.terms.push(terms);
        handle
    }

    /// A role and those around it, of this weight if it is new.
    pub(crate) fn role(&mut self, name: &str, weight: i64) -> u32 {
        if let Some(index) = self.roles.iter().position(|role| role == name) {
            return u32::try_from(index).unwrap();
        }
        let parent = name
            .rsplit_once('/')
            .map_or(NONE, |(parent, _)| self.role(parent, 1));
        let handle = u32::try_from(self.roles.len()).unwrap();
        self.roles.push(name.to_owned());
        self.pending.roles.push(Role {
            handle,
            name: name.to_owned(),
            parent,
            weight: Amount::from_units(weight),
            delegated: false,
            quotas: Vec::new(),
        });
        handle
    }

    /// A role's quota; none: no limit.
    pub(crate) fn quota(&mut self, role: &str, guarantee: &str, limit: Option<&str>) {
        let handle = self.role(role, 1);
        let guarantee = self.pieces(TERMS_PLAIN, guarantee);
        let limit = limit.map(|limit| self.pieces(TERMS_PLAIN, limit));
        let amount = |pieces: &[Piece], kind: u32| {
            let piece = pieces.iter().find(|piece| piece.kind == kind);
            piece.map(|piece| piece.amount)
        };
        let kinds = 0..u32::try_from(self.kinds.len()).unwrap();
        let quotas = kinds.filter_map(|kind| {
            let floor = amount(&guarantee, kind);
            let ceiling = limit.as_ref().and_then(|limit| amount(limit, kind));
            (floor.is_some() || ceiling.is_some()).then(|| Quota {
                kind,
                guarantee: floor.unwrap_or(Amount::ZERO),
                limit: ceiling,
            })
        });
        let quotas = quotas.collect();
        let parent = role
            .rsplit_once('/')
            .map_or(NONE, |(parent, _)| self.role(parent, 1));
        self.pending.roles.push(Role {
            handle,
            name: role.to_owned(),
            parent,
            weight: Amount::ONE,
            delegated: false,
            quotas,
        });
    }

    pub(crate) fn client(&mut self, role: &str, name: &str) -> u32 {
        self.client_with(role, name, |_| {})
    }

    pub(crate) fn client_with(
        &mut self,
        role: &str,
        name: &str,
        change: impl FnOnce(&mut Client),
    ) -> u32 {
        let role = self.role(role, 1);
        let known = self.clients.iter().position(|client| client == name);
        let handle = u32::try_from(known.unwrap_or(self.clients.len())).unwrap();
        if known.is_none() {
            self.clients.push(name.to_owned());
        }
        let mut client = Client {
            handle,
            framework: handle,
            name: name.to_owned(),
            role,
            marks: ClientMarks {
                known: true,
                active: true,
                ..ClientMarks::default()
            },
            mask: 0,
            least: None,
        };
        change(&mut client);
        self.rows.insert(handle, client.clone());
        self.pending.clients.push(client);
        handle
    }

    /// A demand of a client; the key is the client's name, then whatever.
    pub(crate) fn wants(&mut self, client: u32, key: &str, shape: &str, count: u32) {
        self.demand_with(client, key, shape, count, |_| {});
    }

    pub(crate) fn demand_with(
        &mut self,
        client: u32,
        key: &str,
        shape: &str,
        count: u32,
        change: impl FnOnce(&mut Demand),
    ) -> u32 {
        let handle = u32::try_from(self.demands.len()).unwrap();
        let old = self.demands.get(key);
        let (handle, offered) = old.map_or((handle, 0), |old| (old.handle, old.offered));
        let mut demand = Demand {
            handle,
            client,
            count,
            offered,
            gang: 0,
            per_agent: 0,
            priority: 0,
            since: Timestamp(self.now),
            pieces: self.pieces(NONE, shape),
            mask: 0,
            near: Vec::new(),
            near_until: Timestamp::default(),
            revocable: RevocableUse::Never,
        };
        change(&mut demand);
        self.pending.demands.push(demand.clone());
        self.demands.insert(key.to_owned(), demand);
        handle
    }

    pub(crate) fn pieces(&mut self, terms: u32, resources: &str) -> Vec<Piece> {
        let bundle: Bundle = resources.parse().unwrap();
        let amounts: Vec<(String, Amount)> = bundle
            .amounts()
            .map(|(kind, amount)| (kind.to_owned(), amount))
            .collect();
        let piece = |(name, amount): (String, Amount)| Piece {
            terms,
            kind: self.kind(&name),
            amount,
        };
        amounts.into_iter().map(piece).collect()
    }

    pub(crate) fn mask(&mut self, mask: u32, agents: &[u32]) {
        for &agent in agents {
            self.pending.masks.mask.push(mask);
            self.pending.masks.agent.push(agent);
            self.pending.masks.admits.push(1);
        }
    }

    /// The client refuses these resources on the agent; answers the filter.
    pub(crate) fn refuse(&mut self, client: u32, agent: u32, terms: u32, resources: &str) -> u32 {
        let pieces = self.pieces(terms, resources);
        let handle = self.filters;
        self.filters += 1;
        let filters = &mut self.pending.filters;
        filters.handle.push(handle);
        filters.client.push(client);
        filters.agent.push(agent);
        filters.inside.push(1);
        push_pieces(filters, &pieces);
        handle
    }

    pub(crate) fn remove(&mut self, what: Noun, handle: u32) {
        self.pending.removed.push(Removed { what, handle });
    }

    /// Sets what a client holds of one pile.
    pub(crate) fn hold(
        &mut self,
        agent: u32,
        client: u32,
        terms: u32,
        kind: u32,
        holding: Holding,
    ) {
        self.held.insert((agent, client, terms, kind), holding);
        state_cell(
            &mut self.pending.cells,
            (agent, client, terms, kind),
            holding,
        );
    }

    /// Feeds what has changed and asks for a proposal over all agents.
    pub(crate) fn decide(&mut self) -> Proposal {
        self.decide_over(None, u32::MAX)
    }

    pub(crate) fn decide_over(&mut self, agents: Option<Vec<u32>>, grants_max: u32) -> Proposal {
        let changes = std::mem::take(&mut self.pending);
        self.policy.apply(&changes);
        self.cycles += 1;
        self.policy.decide(&Cycle {
            number: self.cycles,
            now: Timestamp(self.now),
            seed: self.seed,
            agents,
            grants_max,
        })
    }

    /// Whether a client may have resources under these terms.
    pub(crate) fn may(&self, client: u32, terms: u32) -> bool {
        let client = &self.rows[&client];
        let Some(terms) = terms.checked_sub(1).map(|at| &self.terms[at as usize]) else {
            return true;
        };
        let role = self.role_name(client.role);
        let reserved = terms.reserved.last().is_none_or(|&reserved| {
            let rest = role.strip_prefix(self.role_name(reserved));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        reserved
            && (terms.reserved.len() < 2 || client.marks.refined)
            && (!terms.marks.revocable || client.marks.revocable)
    }

    /// Free for a client by the case's own account.
    pub(crate) fn free(&self, agent: u32, client: u32, terms: u32, kind: u32) -> i64 {
        let total = self.totals.get(&(agent, terms, kind)).copied().unwrap_or(0);
        let others = self
            .held
            .iter()
            .filter(|((at, _, under, of), _)| (*at, *under, *of) == (agent, terms, kind));
        let taken: i64 = others
            .map(|((_, who, ..), (offered, used, kept))| {
                offered + used + if *who == client { 0 } else { *kept }
            })
            .sum();
        total - taken
    }

    /// Neither offered nor used.
    pub(crate) fn unheld(&self, agent: u32, terms: u32, kind: u32) -> i64 {
        let total = self.totals.get(&(agent, terms, kind)).copied().unwrap_or(0);
        let cells = self
            .held
            .iter()
            .filter(|((at, _, under, of), _)| (*at, *under, *of) == (agent, terms, kind));
        total
            - cells
                .map(|(_, (offered, used, _))| offered + used)
                .sum::<i64>()
    }

    pub(crate) fn demands(&self) -> Vec<Demand> {
        self.demands.values().cloned().collect()
    }

    pub(crate) fn demand(&self, handle: u32) -> Option<&Demand> {
        self.demands.values().find(|demand| demand.handle == handle)
    }

    pub(crate) fn role_name(&self, role: u32) -> &str {
        &self.roles[role as usize]
    }

    /// Everything on offer comes back; nobody refuses anything.
    pub(crate) fn release_all(&mut self) {
        let keys: Vec<_> = self.held.keys().copied().collect();
        for key in keys {
            let (_, used, kept) = self.held[&key];
            self.hold(key.0, key.1, key.2, key.3, (0, used, kept));
        }
        for demand in self.demands.values_mut() {
            demand.offered = 0;
            self.pending.demands.push(demand.clone());
        }
    }

    /// A proposal in words: `AGENT CLIENT cpus:1;mem:2`, sorted; `*` for all that it may have.
    pub(crate) fn words(&self, proposal: &Proposal) -> Vec<String> {
        let grants = &proposal.grants;
        let mut next = 0;
        let mut lines = Vec::new();
        for row in 0..grants.len() {
            let count = grants.pieces[row] as usize;
            let mut pieces: Vec<String> = (next..next + count)
                .map(|at| {
                    let kind = &self.kinds[grants.kind[at] as usize];
                    let amount = Amount::from_milli(grants.amount[at]);
                    match grants.terms[at] {
                        TERMS_PLAIN => format!("{kind}:{amount}"),
                        terms => format!("{kind}({terms}):{amount}"),
                    }
                })
                .collect();
            next += count;
            if pieces.is_empty() {
                pieces.push("*".to_owned());
            }
            let gang = match grants.gang[row] {
                0 => String::new(),
                gang => format!(" gang {gang}"),
            };
            lines.push(format!(
                "{} {} {}{gang}",
                self.agents[grants.agent[row] as usize],
                self.clients[grants.client[row] as usize],
                pieces.join(";")
            ));
        }
        lines.sort();
        lines
    }

    /// Decides, commits, and says what was granted.
    pub(crate) fn step(&mut self) -> Vec<String> {
        let proposal = self.decide();
        let words = self.words(&proposal);
        self.commit(&proposal);
        words
    }

    /// Why the client is not granted each agent: codes, agent by agent.
    pub(crate) fn explain(&mut self, client: u32) -> Vec<Finding> {
        let changes = std::mem::take(&mut self.pending);
        self.policy.apply(&changes);
        self.policy.explain(&Question {
            client,
            demand: NONE,
            agents: (0..u32::try_from(self.agents.len()).unwrap()).collect(),
        })
    }
}

/// States one cell in the columns.
pub(crate) fn state_cell(cells: &mut Cells, key: CellKey, holding: Holding) {
    cells.agent.push(key.0);
    cells.client.push(key.1);
    cells.terms.push(key.2);
    cells.kind.push(key.3);
    cells.offered.push(holding.0);
    cells.used.push(holding.1);
    cells.kept.push(holding.2);
}

fn push_pieces(filters: &mut Filters, pieces: &[Piece]) {
    filters.pieces.push(u32::try_from(pieces.len()).unwrap());
    for piece in pieces {
        filters.terms.push(piece.terms);
        filters.kind.push(piece.kind);
        filters.amount.push(piece.amount.milli());
    }
}
