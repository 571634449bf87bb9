//! A scripted pool for tests of allocation policies.

use std::collections::BTreeMap;

use proffer_model::policy::{
    Agent, Changes, ChangesPart, Client, ClientMarks, Cycle, Demand, Grants, Kind, NONE, Piece,
    Proposal, Role, TERMS_PLAIN, Terms, TermsMarks,
};
use proffer_model::{Amount, Bundle, RevocableUse, Timestamp};

use crate::policy::Policy;

/// The kinds that every pool has, in the order of their handles.
const KINDS: [&str; 5] = ["cpus", "mem", "disk", "gpus", "ports"];

/// More grants than a test looks at.
const GRANTS_MAX: u32 = 100_000;

/// A pool of plain resources, described in words, around a policy.
///
/// It feeds the policy what a host would, checks each grant against its own books, and states what
/// became of it with the next cycle. All grants that are right become offers; [`use_offers`] makes
/// tasks of them.
///
/// [`use_offers`]: PolicyKit::use_offers
///
/// ```
/// use proffer_sdk::policy::Drf;
/// use proffer_sdk::testkit::PolicyKit;
///
/// let mut kit = PolicyKit::new(Drf::default());
/// kit.add_agent("agent1", "cpus:4;mem:4096");
/// kit.add_role("eng", "1");
/// kit.add_client("web", "eng");
/// kit.add_client("batch", "eng");
/// kit.demand("web", "cpus:1;mem:128", 10);
/// kit.demand("batch", "cpus:1;mem:128", 10);
/// kit.cycle();
/// assert_eq!((kit.held("web", "cpus"), kit.held("batch", "cpus")), (2_000, 2_000));
/// ```
pub struct PolicyKit<P> {
    policy: P,
    pending: Changes,
    agents: Vec<String>,
    roles: Vec<String>,
    clients: Vec<String>,
    demands: BTreeMap<u32, Demand>,
    totals: BTreeMap<(u32, u32), i64>,
    cells: BTreeMap<(u32, u32, u32), Cell>,
    cycles: u64,
}

/// What a client holds of a kind on an agent.
#[derive(Clone, Copy, Default)]
struct Cell {
    offered: i64,
    used: i64,
}

/// A grant, by names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// To whom.
    pub client: String,
    /// Where.
    pub agent: String,
    /// What, by kind, in thousandths.
    pub amounts: Vec<(&'static str, i64)>,
}

impl<P: Policy> PolicyKit<P> {
    /// An empty pool around this policy, without configuration.
    pub fn new(policy: P) -> Self {
        Self::with_config(policy, "")
    }

    /// An empty pool around this policy.
    ///
    /// # Panics
    /// The policy refuses the configuration.
    pub fn with_config(mut policy: P, config: &str) -> Self {
        if let Err(refused) = policy.configure(config) {
            panic!("the policy refuses its configuration: {refused}");
        }
        let mut pending = Changes {
            part: ChangesPart::SnapshotLast,
            ..Changes::default()
        };
        pending.terms.push(Terms {
            handle: TERMS_PLAIN,
            reserved: Vec::new(),
            marks: TermsMarks::default(),
        });
        for (handle, name) in (0..).zip(KINDS) {
            pending.kinds.push(Kind {
                handle,
                name: name.to_owned(),
                counted: name == "ports",
            });
        }
        Self {
            policy,
            pending,
            agents: Vec::new(),
            roles: Vec::new(),
            clients: Vec::new(),
            demands: BTreeMap::new(),
            totals: BTreeMap::new(),
            cells: BTreeMap::new(),
            cycles: 0,
        }
    }

    /// Adds an agent with these resources, in the operators' text form (well-known kinds only).
    pub fn add_agent(&mut self, name: &str, resources: &str) {
        let handle = add(&mut self.agents, name);
        let amounts = amounts(resources);
        self.pending.agents.push(Agent {
            handle,
            name: name.to_owned(),
            region: String::new(),
            zone: String::new(),
            active: true,
            allowed: true,
            has_gpus: amounts
                .iter()
                .any(|(kind, _)| KINDS[*kind as usize] == "gpus"),
            down: None,
        });
        for (kind, amount) in amounts {
            self.totals.insert((handle, kind), amount);
            self.pending.totals.agent.push(handle);
            self.pending.totals.terms.push(TERMS_PLAIN);
            self.pending.totals.kind.push(kind);
            self.pending.totals.total.push(amount);
        }
    }

    /// Adds a role below the root with this weight, `"1"` or `"2.5"`.
    ///
    /// # Panics
    /// The weight is not a number.
    pub fn add_role(&mut self, name: &str, weight: &str) {
        let handle = add(&mut self.roles, name);
        let weight: Amount = match weight.parse() {
            Ok(weight) => weight,
            Err(error) => panic!("{error}"),
        };
        self.pending.roles.push(Role {
            handle,
            name: name.to_owned(),
            parent: NONE,
            weight,
            delegated: false,
            quotas: Vec::new(),
        });
    }

    /// Adds a framework under a role.
    pub fn add_client(&mut self, name: &str, role: &str) {
        let role = find(&self.roles, "role", role);
        let handle = add(&mut self.clients, name);
        self.pending.clients.push(Client {
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
        });
    }

    /// Sets a client's one demand: so many units of a shape; an empty shape is whole agents.
    pub fn demand(&mut self, client: &str, shape: &str, count: u32) {
        let client = find(&self.clients, "client", client);
        let pieces = amounts(shape).into_iter().map(|(kind, amount)| Piece {
            terms: NONE,
            kind,
            amount: Amount::from_milli(amount),
        });
        let demand = Demand {
            handle: client,
            client,
            count,
            offered: 0,
            gang: 0,
            per_agent: 0,
            priority: 0,
            since: Timestamp(self.cycles),
            pieces: pieces.collect(),
            mask: 0,
            near: Vec::new(),
            near_until: Timestamp(0),
            revocable: RevocableUse::Never,
        };
        self.pending.demands.push(demand.clone());
        self.demands.insert(client, demand);
    }

    /// One cycle over all agents: applies what has changed, and makes offers of the grants.
    ///
    /// # Panics
    /// A grant is wrong, and how.
    pub fn cycle(&mut self) -> Vec<Granted> {
        let changes = std::mem::take(&mut self.pending);
        self.policy.apply(&changes);
        self.cycles += 1;
        let Proposal { grants, .. } = self.policy.decide(&Cycle {
            number: self.cycles,
            now: Timestamp(self.cycles),
            seed: self.cycles,
            agents: None,
            grants_max: GRANTS_MAX,
        });
        let mut granted = Vec::new();
        let mut piece = 0;
        for row in 0..grants.len() {
            granted.push(self.commit(&grants, row, &mut piece));
        }
        self.restate_cells();
        granted
    }

    /// All offers become tasks, and the demand that they answered is restated without them.
    pub fn use_offers(&mut self) {
        for cell in self.cells.values_mut() {
            cell.used += std::mem::take(&mut cell.offered);
        }
        for demand in self.demands.values_mut() {
            demand.count -= std::mem::take(&mut demand.offered).min(demand.count);
            self.pending.demands.push(demand.clone());
        }
        self.restate_cells();
    }

    /// All that a client has, offers and tasks, comes free.
    pub fn release(&mut self, client: &str) {
        let client = find(&self.clients, "client", client);
        for ((_, holder, _), cell) in &mut self.cells {
            if *holder == client {
                *cell = Cell::default();
            }
        }
        self.restate_cells();
    }

    /// What a client holds of a kind, offers and tasks, in thousandths.
    pub fn held(&self, client: &str, kind: &str) -> i64 {
        let client = find(&self.clients, "client", client);
        let kind = kind_of(kind);
        let cells = self.cells.iter();
        cells
            .filter(|((_, holder, own), _)| *holder == client && *own == kind)
            .map(|(_, cell)| cell.offered + cell.used)
            .sum()
    }

    /// The policy.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    fn commit(&mut self, grants: &Grants, row: usize, piece: &mut usize) -> Granted {
        let column = |name: &str, column: &[u32]| match column.get(row) {
            Some(value) => *value,
            None => panic!("the column grants.{name} is shorter than the others"),
        };
        let agent = column("agent", &grants.agent);
        let client = column("client", &grants.client);
        let demand = column("demand", &grants.demand);
        let pieces = column("pieces", &grants.pieces) as usize;
        let agent_name = known("agent", &self.agents, agent);
        let client_name = known("client", &self.clients, client);
        let amounts: Vec<(u32, i64)> = if pieces == 0 {
            (0..)
                .zip(KINDS)
                .map(|(kind, _)| (kind, self.free(agent, kind)))
                .collect()
        } else {
            let rows = *piece..*piece + pieces;
            *piece += pieces;
            let Some((kinds, amounts)) = grants.kind.get(rows.clone()).zip(grants.amount.get(rows))
            else {
                panic!("the columns of grants' pieces are shorter than grants.pieces says");
            };
            kinds.iter().copied().zip(amounts.iter().copied()).collect()
        };
        let mut granted = Granted {
            client: client_name,
            agent: agent_name,
            amounts: Vec::new(),
        };
        for (kind, amount) in amounts.into_iter().filter(|(_, amount)| *amount != 0) {
            let free = self.free(agent, kind);
            let Some(name) = KINDS.get(kind as usize) else {
                panic!("grant {row} is of kind {kind}, and there is none");
            };
            assert!(
                0 < amount && amount <= free,
                "grant {row} to {} is of {amount} {name} on {}, where {free} are free",
                granted.client,
                granted.agent
            );
            self.cells.entry((agent, client, kind)).or_default().offered += amount;
            granted.amounts.push((name, amount));
        }
        self.count_units(demand, &granted);
        granted
    }

    /// Keeps account of how many units of a demand are on offer.
    fn count_units(&mut self, demand: u32, granted: &Granted) {
        let Some(demand) = self.demands.get_mut(&demand) else {
            return;
        };
        let units = demand.pieces.iter().filter_map(|piece| {
            let (_, amount) = granted
                .amounts
                .iter()
                .find(|(kind, _)| kind_of(kind) == piece.kind)?;
            amount.checked_div(piece.amount.milli())
        });
        // Whole agents count as one each.
        let units = units.min().unwrap_or(1);
        demand.offered = demand
            .offered
            .saturating_add(u32::try_from(units).unwrap_or(0));
        self.pending.demands.push(demand.clone());
    }

    fn free(&self, agent: u32, kind: u32) -> i64 {
        let total = self.totals.get(&(agent, kind)).copied().unwrap_or(0);
        let held: i64 = self
            .cells
            .iter()
            .filter(|((at, _, own), _)| *at == agent && *own == kind)
            .map(|(_, cell)| cell.offered + cell.used)
            .sum();
        total - held
    }

    fn restate_cells(&mut self) {
        let rows = &mut self.pending.cells;
        for ((agent, client, kind), cell) in &self.cells {
            rows.agent.push(*agent);
            rows.client.push(*client);
            rows.terms.push(TERMS_PLAIN);
            rows.kind.push(*kind);
            rows.offered.push(cell.offered);
            rows.used.push(cell.used);
            rows.kept.push(0);
        }
    }
}

/// Kinds and thousandths of a text such as `cpus:1;mem:128`.
fn amounts(text: &str) -> Vec<(u32, i64)> {
    let bundle: Bundle = match text.parse() {
        Ok(bundle) => bundle,
        Err(error) => panic!("{error}"),
    };
    bundle
        .amounts()
        .map(|(kind, amount)| (kind_of(kind), amount.milli()))
        .collect()
}

fn kind_of(name: &str) -> u32 {
    match (0..).zip(KINDS).find(|(_, kind)| *kind == name) {
        Some((handle, _)) => handle,
        None => panic!("the kit's pool has no kind '{name}'"),
    }
}

fn add(names: &mut Vec<String>, name: &str) -> u32 {
    assert!(
        !names.iter().any(|own| own == name),
        "there is a '{name}' already"
    );
    names.push(name.to_owned());
    u32::try_from(names.len() - 1).unwrap_or(NONE)
}

fn find(names: &[String], noun: &str, name: &str) -> u32 {
    match (0..).zip(names).find(|(_, own)| *own == name) {
        Some((handle, _)) => handle,
        None => panic!("the kit's pool has no {noun} '{name}'"),
    }
}

fn known(noun: &str, names: &[String], handle: u32) -> String {
    match names.get(handle as usize) {
        Some(name) => name.clone(),
        None => panic!("a grant names {noun} {handle}, and there is none"),
    }
}
