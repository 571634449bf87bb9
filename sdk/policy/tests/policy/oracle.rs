//! The decision written down slowly: everything is worked out anew for every turn, with fractions
//! of 128 bits, and compared with what the policy proposes.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use proffer_model::policy::{Changes, Client, Demand, NONE, Piece, Proposal, kind};
use proffer_policy::{Policy, Random};

use crate::case::{Case, CellKey};
use crate::scene::Scene;

const SEEDS: u64 = 1_500;

#[test]
fn whole_agents_go_as_the_oracle_says() {
    compare(r#"{"demand":"ignore"}"#, |oracle| oracle.whole());
}

#[test]
fn units_go_as_the_oracle_says() {
    compare("", |oracle| oracle.units());
}

fn compare(config: &str, decide: fn(&mut Oracle<'_>)) {
    let mut granted = 0;
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut case = Case::configured(config);
        case.seed = seed;
        Scene::Plain.describe(&mut case, &mut random);
        let pool = case.pending.clone();
        let proposal = case.decide();
        let mut oracle = Oracle::new(&case, &pool);
        decide(&mut oracle);
        assert_eq!(rows(&case, &proposal), oracle.granted, "seed {seed}");
        granted += proposal.grants.len();
    }
    assert!(granted > SEEDS as usize, "only {granted} grants in all");
}

/// Agent, client, demand and what is granted by kind.
type Row = (u32, u32, u32, BTreeMap<u32, i64>);

fn rows<P: Policy>(case: &Case<P>, proposal: &Proposal) -> Vec<Row> {
    let grants = &proposal.grants;
    let amounts = case.amounts(proposal);
    amounts
        .iter()
        .enumerate()
        .map(|(row, amounts)| {
            let kinds = amounts.iter().map(|((.., kind), amount)| (*kind, *amount));
            (
                grants.agent[row],
                grants.client[row],
                grants.demand[row],
                kinds.collect(),
            )
        })
        .collect()
}

/// So many units, by kind.
fn times(pieces: &[Piece], units: i64) -> BTreeMap<u32, i64> {
    let amount = |piece: &Piece| (piece.kind, piece.amount.milli() * units);
    pieces.iter().map(amount).collect()
}

struct Oracle<'a> {
    pool: &'a Changes,
    held: BTreeMap<CellKey, i64>,
    /// Free by agent and kind.
    free: BTreeMap<(u32, u32), i64>,
    totals: BTreeMap<u32, i64>,
    counts: BTreeMap<u32, u64>,
    left: BTreeMap<u32, u32>,
    order: Vec<u32>,
    granted: Vec<Row>,
}

impl<'a> Oracle<'a> {
    fn new<P: Policy>(case: &Case<P>, pool: &'a Changes) -> Self {
        let held = case
            .held
            .iter()
            .map(|(key, (offered, used, _))| (*key, offered + used));
        let mut free = BTreeMap::new();
        let mut totals: BTreeMap<u32, i64> = BTreeMap::new();
        for (&(agent, terms, kind), total) in &case.totals {
            free.insert((agent, kind), case.free(agent, NONE, terms, kind));
            *totals.entry(kind).or_default() += total;
        }
        let active = pool.agents.iter().filter(|agent| agent.active);
        let mut order: Vec<u32> = active.map(|agent| agent.handle).collect();
        Random::new(case.seed).shuffle(&mut order);
        Self {
            pool,
            held: held.collect(),
            free,
            totals,
            counts: BTreeMap::new(),
            left: pool
                .demands
                .iter()
                .map(|demand| (demand.handle, demand.count - demand.offered))
                .collect(),
            order,
            granted: Vec::new(),
        }
    }

    fn whole(&mut self) {
        for agent in self.order.clone() {
            for client in self.in_order(|_| true) {
                if self.give_whole(agent, &client, NONE) {
                    self.charge(&client);
                }
            }
        }
    }

    fn units(&mut self) {
        for agent in self.order.clone() {
            let mut passed: Vec<u32> = Vec::new();
            let mut turns: BTreeMap<u32, i64> = BTreeMap::new();
            let first = self.granted.len();
            let mut served: Vec<u32> = Vec::new();
            let mut late: Vec<Client> = Vec::new();
            loop {
                let wanting: Vec<u32> = self
                    .pool
                    .demands
                    .iter()
                    .filter(|demand| self.left[&demand.handle] > 0)
                    .map(|demand| demand.client)
                    .collect();
                let order = self.in_order(|client| wanting.contains(&client.handle));
                let alone = order.len() == 1;
                let next = order.iter().find(|client| !passed.contains(&client.handle));
                let Some(client) = next.cloned() else { break };
                match self.give(agent, &client, alone, (first, &mut turns)) {
                    Some(whole) => {
                        let again = served.contains(&client.handle);
                        served.push(client.handle);
                        if whole {
                            passed.push(client.handle);
                        }
                        if !again && !whole {
                            self.charge(&client);
                        } else if !again {
                            late.push(client);
                        }
                    }
                    None => passed.push(client.handle),
                }
            }
            for client in late {
                self.charge(&client);
            }
        }
    }

    /// Gives of the client's first demand that can be met; whether it was whole, if any was.
    fn give(
        &mut self,
        agent: u32,
        client: &Client,
        alone: bool,
        (first, turns): (usize, &mut BTreeMap<u32, i64>),
    ) -> Option<bool> {
        let mut demands: Vec<Demand> = self.pool.demands.clone();
        demands.retain(|demand| demand.client == client.handle && self.left[&demand.handle] > 0);
        demands.sort_by_key(|demand| (-demand.priority, demand.since, demand.handle));
        for demand in demands {
            if !self.admits(client.mask, agent) || !self.admits(demand.mask, agent) {
                continue;
            }
            if demand.pieces.is_empty() {
                if self.give_whole(agent, client, demand.handle) {
                    *self.left.get_mut(&demand.handle).unwrap() -= 1;
                    return Some(true);
                }
                continue;
            }
            let free = |piece: &Piece| self.free[&(agent, piece.kind)] / piece.amount.milli();
            let fit = demand.pieces.iter().map(free).min().unwrap();
            let fit = fit.min(i64::from(self.left[&demand.handle]));
            if fit <= 0 {
                continue;
            }
            let open = self.granted[first..]
                .iter()
                .position(|row| row.1 == client.handle && row.2 == demand.handle);
            let turn = match (alone, open) {
                (true, _) => fit,
                (false, Some(_)) => turns[&demand.handle],
                (false, None) => (fit + 15) / 16,
            };
            let mut units = turn.min(fit);
            let times = |units: i64| times(&demand.pieces, units);
            if open.is_none() && self.refused(agent, client.handle, &times(units)) {
                units = fit;
                if self.refused(agent, client.handle, &times(units)) {
                    continue;
                }
            }
            if open.is_none() {
                turns.insert(
                    demand.handle,
                    if alone { i64::from(u32::MAX) } else { turn },
                );
            }
            self.take(agent, client.handle, &times(units));
            *self.left.get_mut(&demand.handle).unwrap() -= u32::try_from(units).unwrap();
            match open {
                Some(row) => {
                    for (kind, amount) in times(units) {
                        *self.granted[first + row].3.entry(kind).or_default() += amount;
                    }
                }
                None => {
                    let row = (agent, client.handle, demand.handle, times(units));
                    self.granted.push(row);
                }
            }
            return Some(false);
        }
        None
    }

    fn give_whole(&mut self, agent: u32, client: &Client, demand: u32) -> bool {
        let free = self.free.range((agent, 0)..(agent + 1, 0));
        let all: BTreeMap<u32, i64> = free
            .filter(|(_, free)| **free > 0)
            .map(|((_, kind), free)| (*kind, *free))
            .collect();
        let of = |kind: u32| all.get(&kind).copied().unwrap_or(0);
        let worth = of(kind::CPUS) >= 10 || of(kind::MEM) >= 32_000;
        if !worth || !self.admits(client.mask, agent) || self.refused(agent, client.handle, &all) {
            return false;
        }
        self.take(agent, client.handle, &all);
        self.granted.push((agent, client.handle, demand, all));
        true
    }

    fn take(&mut self, agent: u32, client: u32, amounts: &BTreeMap<u32, i64>) {
        for (&kind, amount) in amounts {
            *self.free.get_mut(&(agent, kind)).unwrap() -= amount;
            *self.held.entry((agent, client, 0, kind)).or_default() += amount;
        }
    }

    /// One allocation more.
    fn charge(&mut self, client: &Client) {
        *self.counts.entry(client.handle).or_default() += 1;
    }

    fn admits(&self, mask: u32, agent: u32) -> bool {
        let masks = &self.pool.masks;
        let mut rows = masks.mask.iter().zip(&masks.agent);
        mask == 0 || rows.any(|row| row == (&mask, &agent))
    }

    fn refused(&self, agent: u32, client: u32, amounts: &BTreeMap<u32, i64>) -> bool {
        let filters = &self.pool.filters;
        let mut next = 0;
        (0..filters.handle.len()).any(|row| {
            let rows = next..next + filters.pieces[row] as usize;
            next = rows.end;
            let within = amounts.iter().all(|(kind, amount)| {
                rows.clone()
                    .any(|at| filters.kind[at] == *kind && *amount <= filters.amount[at])
            });
            within && (filters.agent[row], filters.client[row]) == (agent, client)
        })
    }

    /// Who takes part, in the order of service.
    fn in_order(&self, wants: impl Fn(&Client) -> bool) -> Vec<Client> {
        let part =
            |client: &&Client| client.marks.active && !client.marks.suppressed && wants(client);
        let clients: Vec<Client> = self.pool.clients.iter().filter(part).cloned().collect();
        let mut order = Vec::new();
        self.walk(NONE, &clients, &mut order);
        order
    }

    /// Walks a role: its sub-roles and, as one more, its own clients; or its clients if it has no
    /// sub-roles with anybody in them.
    fn walk(&self, role: u32, clients: &[Client], order: &mut Vec<Client>) {
        let own: Vec<Client> = clients
            .iter()
            .filter(|client| client.role == role)
            .cloned()
            .collect();
        let mut children: Vec<(Option<u32>, Key)> = self
            .pool
            .roles
            .iter()
            .filter(|sub| sub.parent == role)
            .filter(|sub| clients.iter().any(|client| self.is_in(client, sub.handle)))
            .map(|sub| {
                let key = self.key(
                    |client| self.is_in(client, sub.handle),
                    (sub.weight.milli(), sub.name.clone()),
                );
                (Some(sub.handle), key)
            })
            .collect();
        if !own.is_empty() {
            let name = self.pool.roles[role as usize].name.clone() + "/.";
            let key = self.key(|client| client.role == role, (1_000, name));
            children.push((None, key));
        }
        children.sort_by(|one, other| one.1.compare(&other.1));
        for (child, _) in children {
            match child {
                Some(sub) => self.walk(sub, clients, order),
                None => {
                    let mut own: Vec<(Key, Client)> = own
                        .iter()
                        .map(|client| {
                            let only = |other: &Client| other.handle == client.handle;
                            (self.key(only, (1_000, client.name.clone())), client.clone())
                        })
                        .collect();
                    own.sort_by(|one, other| one.0.compare(&other.0));
                    order.extend(own.into_iter().map(|(_, client)| client));
                }
            }
        }
    }

    fn is_in(&self, client: &Client, role: u32) -> bool {
        let mut at = client.role;
        while at != NONE {
            if at == role {
                return true;
            }
            at = self.pool.roles[at as usize].parent;
        }
        false
    }

    fn key(&self, belongs: impl Fn(&Client) -> bool, (weight, name): (i64, String)) -> Key {
        let mut share: (i128, i128) = (0, 1);
        for (&kind, &total) in self.totals.iter().filter(|(_, total)| **total > 0) {
            let of_kind = self.held.iter().filter(|((_, client, _, of), _)| {
                *of == kind && belongs(&self.pool.clients[*client as usize])
            });
            let held: i64 = of_kind.map(|(_, amount)| amount).sum();
            let fraction = (i128::from(held), i128::from(total) * i128::from(weight));
            if fraction.0 * share.1 > share.0 * fraction.1 {
                share = fraction;
            }
        }
        let clients = self.pool.clients.iter().filter(|client| belongs(client));
        let counts = clients.map(|client| self.counts.get(&client.handle).copied().unwrap_or(0));
        Key {
            share,
            count: counts.sum(),
            name,
        }
    }
}

struct Key {
    share: (i128, i128),
    count: u64,
    name: String,
}

impl Key {
    fn compare(&self, other: &Self) -> Ordering {
        let (one, two) = (self.share, other.share);
        (one.0 * two.1)
            .cmp(&(two.0 * one.1))
            .then(self.count.cmp(&other.count))
            .then(self.name.cmp(&other.name))
    }
}
