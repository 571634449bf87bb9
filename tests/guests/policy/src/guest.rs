//! What each word does. `whole` is what a good policy of few words does: it grants every agent to the
//! first client, whole; `rest` grants nothing.

use std::cell::{Cell, RefCell};

use crate::bindings::exports::proffer::policy::guest::Guest;
use crate::bindings::proffer::policy::model::{
    Changes, Cycle, Feeds, Finding, Grants, Piece, Place, Proposal, Question, Reclaim, Section,
};
use crate::bindings::proffer::types::log;
use crate::bindings::proffer::types::values::{Reason, Remedy};

pub(crate) struct Hostile;

const NONE: u32 = u32::MAX;

thread_local! {
    static CONFIG: RefCell<String> = const { RefCell::new(String::new()) };
    static DECISIONS: Cell<u32> = const { Cell::new(0) };
    static AGENTS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static CLIENT: Cell<u32> = const { Cell::new(NONE) };
    static CLIENTS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

impl Guest for Hostile {
    fn configure(config: String) -> Result<Feeds, String> {
        match config.as_str() {
            "configure-spin" => spin(),
            "configure-refuse" => return Err("I do not like this configuration".to_owned()),
            _ => {}
        }
        CONFIG.set(config);
        Ok(Feeds::DEMANDS)
    }

    fn apply(changes: Changes) {
        match word().as_str() {
            "apply-spin" => spin(),
            "apply-trap" => panic!("as ordered"),
            _ => {}
        }
        AGENTS.with_borrow_mut(|agents| {
            agents.extend(changes.agents.iter().map(|agent| agent.handle));
        });
        for client in &changes.clients {
            CLIENTS.with_borrow_mut(|clients| {
                if !clients.contains(&client.handle) {
                    clients.push(client.handle);
                }
            });
        }
        if let Some(client) = changes.clients.first() {
            CLIENT.set(client.handle);
        }
    }

    fn decide(cycle: Cycle) -> Proposal {
        DECISIONS.set(DECISIONS.get() + 1);
        let mut grants = Grants {
            agent: Vec::new(),
            client: Vec::new(),
            demand: Vec::new(),
            gang: Vec::new(),
            lease: Vec::new(),
            pieces: Vec::new(),
            terms: Vec::new(),
            kind: Vec::new(),
            amount: Vec::new(),
        };
        let mut reclaims = Vec::new();
        let word = word();
        let (word, number) = word.split_once(' ').unwrap_or((&word, ""));
        match word {
            "spin" => spin(),
            "spin-later" if DECISIONS.get() > number.parse().unwrap_or(0) => spin(),
            "memory" => eat(),
            "trap" if Some(DECISIONS.get()) == number.parse().ok() => panic!("as ordered"),
            "rest" if Some(DECISIONS.get()) == number.parse().ok() => panic!("as ordered"),
            "rest" => {}
            "flood" => {
                for n in 0..100_000 {
                    log::write(log::Level::Error, &format!("line {n}"));
                }
            }
            "uneven" => grants.agent.push(1),
            "unknown" => push(&mut grants, 1_000_000, 1_000_001, &[]),
            "million" => {
                for n in 0..1_100_000 {
                    push(&mut grants, n, 0, &[]);
                }
            }
            "over" => over(&mut grants),
            "negative" => of_each_agent(&mut grants, CLIENT.get(), -1_000),
            "strangers" => of_each_agent(&mut grants, 77, 1_000),
            "duplicate" => {
                whole(&mut grants, &cycle);
                whole(&mut grants, &cycle);
            }
            "idle" => {
                for client in CLIENTS.with_borrow(Vec::clone).into_iter().rev() {
                    of_each_agent(&mut grants, client, 1_000);
                }
            }
            "reclaim-all" => reclaims = reclaim_all(),
            _ => whole(&mut grants, &cycle),
        }
        Proposal {
            grants,
            reclaims,
            withdraw: Vec::new(),
        }
    }

    fn explain(question: Question) -> Vec<Finding> {
        let mut findings: Vec<Finding> =
            question.agents.iter().map(|agent| found(*agent)).collect();
        match word().as_str() {
            "explain-trap" => panic!("as ordered"),
            "explain-more" => findings.push(found(NONE)),
            _ => {}
        }
        findings
    }

    fn places() -> Vec<Place> {
        Vec::new()
    }

    fn carry() -> Vec<Section> {
        let bytes = if word() == "carry-huge" { 2 << 20 } else { 3 };
        vec![Section {
            name: "usage".to_owned(),
            version: 1,
            data: vec![7; bytes],
        }]
    }

    fn adopt(sections: Vec<Section>) -> Result<Vec<String>, String> {
        if word() == "adopt-refuse" {
            return Err("not mine".to_owned());
        }
        Ok(sections.into_iter().map(|section| section.name).collect())
    }
}

fn word() -> String {
    CONFIG.with_borrow(String::clone)
}

fn push(grants: &mut Grants, agent: u32, client: u32, pieces: &[Piece]) {
    grants.agent.push(agent);
    grants.client.push(client);
    grants.demand.push(NONE);
    grants.gang.push(0);
    grants.lease.push(0);
    grants.pieces.push(u32::try_from(pieces.len()).unwrap_or(0));
    for piece in pieces {
        grants.terms.push(piece.terms);
        grants.kind.push(piece.kind);
        grants.amount.push(piece.amount);
    }
}

fn whole(grants: &mut Grants, cycle: &Cycle) {
    let client = CLIENT.get();
    if client == NONE {
        return;
    }
    let all = AGENTS.with_borrow(Vec::clone);
    for agent in cycle.agents.as_ref().unwrap_or(&all) {
        push(grants, *agent, client, &[]);
    }
}

/// A million cpus of each agent.
fn over(grants: &mut Grants) {
    of_each_agent(grants, CLIENT.get(), 1_000_000_000);
}

/// So many thousandths of a cpu of each agent.
fn of_each_agent(grants: &mut Grants, client: u32, amount: i64) {
    for agent in AGENTS.with_borrow(Vec::clone) {
        let piece = Piece {
            terms: 0,
            kind: 0,
            amount,
        };
        push(grants, agent, client, &[piece]);
    }
}

/// Everything from everybody, at once.
fn reclaim_all() -> Vec<Reclaim> {
    let from = |agent| Reclaim {
        client: CLIENT.get(),
        agent,
        pieces: vec![Piece {
            terms: 0,
            kind: 0,
            amount: 1_000,
        }],
        tasks: Vec::new(),
        beneficiary: CLIENT.get(),
        demand: NONE,
        gang: 0,
        priority: 0,
        notice: 0,
        why: "because".to_owned(),
    };
    AGENTS
        .with_borrow(Vec::clone)
        .into_iter()
        .map(from)
        .collect()
}

fn found(agent: u32) -> Finding {
    Finding {
        agent,
        why: Reason {
            code: "turn".to_owned(),
            text: "others are served before".to_owned(),
            remedy: Remedy::Retry,
        },
        short: Vec::new(),
    }
}

fn spin() {
    let mut n = 0_u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

fn eat() {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&kept);
    }
}
