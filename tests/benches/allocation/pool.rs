//! A pool of equal agents whose every offer comes back after each cycle.

use std::collections::BTreeMap;

use proffer_model::policy::{
    Agent, Changes, ChangesPart, Client, ClientMarks, Cycle, Demand, Kind, NONE, Piece, Proposal,
    Role, TERMS_PLAIN,
};
use proffer_model::{Amount, RevocableUse, Timestamp};

/// What the clients want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Whole agents to whoever comes next, all in one role.
    Whole,
    /// The same, with a role each.
    WholeWithRoles,
    /// Units of demand, more than the pool holds.
    Units,
}

impl Work {
    pub(crate) fn config(self) -> &'static str {
        match self {
            Self::Whole | Self::WholeWithRoles => r#"{"demand":"ignore"}"#,
            Self::Units => "",
        }
    }
}

/// cpus, mem, disk and ports of an agent, in thousandths: those of Mesos's own benchmark.
const TOTALS: [(u32, i64); 4] = [(0, 24_000), (1, 4_096_000), (2, 4_096_000), (4, 1_001_000)];

pub(crate) struct Pool {
    agents: usize,
    clients: usize,
    work: Work,
    changes: Changes,
    /// What is on offer: (agent, client, kind) and amount.
    offered: BTreeMap<(u32, u32, u32), i64>,
    cycles: u64,
}

impl Pool {
    pub(crate) fn new(agents: usize, clients: usize, work: Work) -> Self {
        Self {
            agents,
            clients,
            work,
            changes: Changes::default(),
            offered: BTreeMap::new(),
            cycles: 0,
        }
    }

    pub(crate) fn work(&self) -> Work {
        self.work
    }

    pub(crate) fn snapshot(&self) -> Changes {
        let mut changes = Changes {
            part: ChangesPart::SnapshotLast,
            ..Changes::default()
        };
        for (handle, name) in (0..).zip(["cpus", "mem", "disk", "gpus", "ports"]) {
            changes.kinds.push(Kind {
                handle,
                name: name.to_owned(),
                counted: name == "ports",
            });
        }
        for handle in 0..self.agents as u32 {
            changes.agents.push(Agent {
                handle,
                name: format!("agent{handle}"),
                region: String::new(),
                zone: String::new(),
                active: true,
                allowed: true,
                has_gpus: false,
                down: None,
            });
            for (kind, total) in TOTALS {
                changes.totals.agent.push(handle);
                changes.totals.terms.push(TERMS_PLAIN);
                changes.totals.kind.push(kind);
                changes.totals.total.push(total);
            }
        }
        for handle in 0..self.clients as u32 {
            let own_role = self.work == Work::WholeWithRoles;
            if own_role || handle == 0 {
                changes.roles.push(Role {
                    handle,
                    name: format!("role{handle}"),
                    parent: NONE,
                    weight: Amount::ONE,
                    delegated: false,
                    quotas: Vec::new(),
                });
            }
            changes.clients.push(client(handle, own_role));
            if self.work == Work::Units {
                changes.demands.push(demand(handle));
            }
        }
        changes
    }

    pub(crate) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    pub(crate) fn cycle(&mut self) -> Cycle {
        self.cycles += 1;
        Cycle {
            number: self.cycles,
            now: Timestamp(self.cycles * 1_000),
            seed: self.cycles,
            agents: None,
            grants_max: u32::MAX,
        }
    }

    /// Everything that was proposed is on offer.
    pub(crate) fn commit(&mut self, proposal: &Proposal) {
        let grants = &proposal.grants;
        let mut next = 0;
        for row in 0..grants.len() {
            let (agent, client) = (grants.agent[row], grants.client[row]);
            let end = next + grants.pieces[row] as usize;
            let explicit = (next..end).map(|at| (grants.kind[at], grants.amount[at]));
            match end == next {
                true => TOTALS
                    .iter()
                    .for_each(|&(kind, amount)| self.offer(agent, client, kind, amount)),
                false => {
                    explicit.for_each(|(kind, amount)| self.offer(agent, client, kind, amount))
                }
            }
            next = end;
        }
        for (key, amount) in &self.offered {
            state(&mut self.changes, *key, *amount);
        }
    }

    /// Everything on offer comes back.
    pub(crate) fn release_all(&mut self) {
        for key in std::mem::take(&mut self.offered).into_keys() {
            state(&mut self.changes, key, 0);
        }
    }

    fn offer(&mut self, agent: u32, client: u32, kind: u32, amount: i64) {
        *self.offered.entry((agent, client, kind)).or_default() += amount;
    }
}

fn client(handle: u32, own_role: bool) -> Client {
    Client {
        handle,
        framework: handle,
        name: format!("framework{handle}"),
        role: if own_role { handle } else { 0 },
        marks: ClientMarks {
            known: true,
            active: true,
            ..ClientMarks::default()
        },
        mask: 0,
        least: None,
    }
}

fn demand(client: u32) -> Demand {
    let piece = |kind, amount| Piece {
        terms: NONE,
        kind,
        amount: Amount::from_units(amount),
    };
    Demand {
        handle: client,
        client,
        count: 1_000_000,
        offered: 0,
        gang: 0,
        per_agent: 0,
        priority: 0,
        since: Timestamp(1),
        pieces: vec![piece(0, 1), piece(1, 128)],
        mask: 0,
        near: Vec::new(),
        near_until: Timestamp(0),
        revocable: RevocableUse::Never,
    }
}

fn state(changes: &mut Changes, key: (u32, u32, u32), offered: i64) {
    let cells = &mut changes.cells;
    cells.agent.push(key.0);
    cells.client.push(key.1);
    cells.terms.push(TERMS_PLAIN);
    cells.kind.push(key.2);
    cells.offered.push(offered);
    cells.used.push(0);
    cells.kept.push(0);
}
