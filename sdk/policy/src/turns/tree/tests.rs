//! Tests of the parent module.

use proffer_model::Amount;
use proffer_model::policy::{
    Agent, Cells, Changes, Client, ClientMarks, Kind, Role, TERMS_PLAIN, Totals,
};

use super::*;
use crate::random::Random;

const CLIENTS: u32 = 60;
const ROLES: u32 = 8;

/// One agent, of which clients in a random tree of roles hold random amounts of two kinds.
fn cluster(random: &mut Random) -> Cluster {
    let mut changes = Changes::default();
    for handle in 0..2 {
        changes.kinds.push(Kind {
            handle,
            name: format!("kind{handle}"),
            counted: false,
        });
    }
    changes.agents.push(Agent {
        handle: 0,
        name: "agent".to_owned(),
        region: String::new(),
        zone: String::new(),
        active: true,
        allowed: true,
        has_gpus: false,
        down: None,
    });
    changes.totals = Totals {
        agent: vec![0; 2],
        terms: vec![TERMS_PLAIN; 2],
        kind: vec![0, 1],
        total: vec![1_000, 3_000],
    };
    for handle in 0..ROLES {
        changes.roles.push(Role {
            handle,
            name: format!("role{handle}"),
            parent: random.below(handle + 2).checked_sub(2).unwrap_or(NONE),
            weight: Amount::from_units(1 + i64::from(random.below(2))),
            delegated: false,
            quotas: Vec::new(),
        });
    }
    for handle in 0..CLIENTS {
        changes.clients.push(Client {
            handle,
            framework: handle,
            name: format!("client{handle}"),
            // Most in one role, so that many are siblings.
            role: random.below(3 * ROLES).saturating_sub(2 * ROLES),
            marks: ClientMarks {
                known: true,
                active: true,
                ..ClientMarks::default()
            },
            mask: 0,
            least: None,
        });
        for kind in 0..2 {
            changes.cells.agent.push(0);
            changes.cells.client.push(handle);
            changes.cells.terms.push(TERMS_PLAIN);
            changes.cells.kind.push(kind);
            changes.cells.offered.push(i64::from(random.below(5)));
        }
    }
    let rows = changes.cells.agent.len();
    changes.cells = Cells {
        used: vec![0; rows],
        kept: vec![0; rows],
        ..changes.cells
    };
    let mut cluster = Cluster::default();
    cluster.apply(&changes);
    cluster
}

#[test]
fn who_comes_next_does_not_depend_on_how_far_siblings_are_sorted() {
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let cluster = cluster(&mut random);
        let mut ranks = Ranks::default();
        ranks.refresh(&cluster);
        let queue = |ahead| {
            let measure = Measure::new(&cluster, &[]);
            let counts = Counts::default();
            let mut queue = Queue::new(&cluster, measure, (&counts, &ranks), |_| true);
            queue.ahead = ahead;
            queue
        };
        let mut queues = [queue(1), queue(AHEAD), queue(usize::MAX)];
        for visit in 1..40 {
            let mut late: Vec<u32> = Vec::new();
            for _ in 0..random.below(2 * CLIENTS) {
                let first = queues.each_mut().map(|queue| queue.first(visit));
                assert_eq!(first, [first[0]; 3], "seed {seed}, visit {visit}");
                let Some(leaf) = first[0] else { break };
                let what = random.below(40);
                let gained = [(random.below(2), i64::from(random.below(4)))];
                for queue in &mut queues {
                    match what {
                        0..16 => {
                            queue.charge(leaf, &gained, true);
                            queue.settle(leaf);
                        }
                        16..28 => {
                            queue.charge(leaf, &gained, true);
                            queue.pass_over(leaf, visit);
                        }
                        28..39 => queue.pass_over(leaf, visit),
                        _ => queue.remove(leaf),
                    }
                }
                if (16..28).contains(&what) {
                    late.push(leaf);
                }
            }
            for queue in &mut queues {
                late.iter().rev().for_each(|leaf| queue.settle(*leaf));
                check_order(queue, seed);
            }
        }
    }
}

/// Those that are sorted stand in the order of service before all others, and everybody stands once.
fn check_order(queue: &Queue, seed: u64) {
    for parent in 0..queue.nodes.len() as u32 {
        let node = |at: u32| &queue.nodes[at as usize];
        let (sorted, all) = (queue.sorted(parent), queue.siblings(parent));
        let in_order = sorted.is_sorted_by(|&one, &other| order(node(one), node(other)).is_lt());
        assert!(in_order, "seed {seed}, below {parent}");
        if let Some(&last) = sorted.last() {
            let mut rest = all[sorted.len()..].iter();
            let before = rest.all(|&other| order(node(last), node(other)).is_lt());
            assert!(before, "seed {seed}, below {parent}");
        }
        let mut once = all.to_vec();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all.len(), "seed {seed}, below {parent}");
        assert!(
            all.iter().all(|&child| node(child).parent == parent),
            "seed {seed}, below {parent}"
        );
    }
}
