//! The order of service: a tree of roles with clients as leaves, siblings ordered by priority (if any
//! was set), then by dominant share over weight, then by the number of allocations so far, then by
//! path.
//!
//! A role that has clients and sub-roles is an extra leaf of itself, `.` in its path, with weight
//! one: its own clients stand together against its sub-roles.
//!
//! Siblings are sorted as far as they are looked at: when one agent of many comes free, the first few
//! are all that matter. Within a cycle shares only grow, so a node that was served moves towards the
//! end, or behind what is sorted, and nothing that is sorted is sorted again.

mod build;
mod siblings;

use std::cmp::Ordering;

use proffer_model::policy::NONE;

use super::counts::{Counts, Ranks};
use super::share::{Measure, Share, Weight};
use crate::cluster::Cluster;

const ROOT: u32 = 0;
/// Of `done`: never. Visits of agents count from 1.
const NEVER: u32 = 0;
/// So many siblings are sorted at first: as many as refuse an agent before one takes it, mostly.
const AHEAD: usize = 16;

/// A role, a role's own clients, or a client.
#[derive(Clone, Debug)]
struct Node {
    parent: u32,
    /// Its part of `children`: here it begins, and before that it ends.
    part: (u32, u32),
    /// Its children begin here in its part.
    first: u32,
    children: u32,
    /// So many of them are in order; the rest, in none, come after them.
    sorted: u32,
    /// The visit in which nothing more is to be had below it.
    done: u32,
    /// All of its children before this one are done, in the visit `cursor_visit`.
    cursor: u32,
    cursor_visit: u32,
    /// Client handle, or [`NONE`].
    client: u32,
    /// Role handle; the client's role.
    role: u32,
    /// It is the role's own clients, apart from its sub-roles.
    direct: bool,
    priority: i64,
    rank: u32,
    weight: Weight,
    share: Share,
    count: u64,
}

/// Who comes next.
#[derive(Debug)]
pub(crate) struct Queue {
    nodes: Vec<Node>,
    /// By parent, with some room in each part.
    children: Vec<u32>,
    /// By node and kind of the measure.
    held: Vec<i64>,
    measure: Measure,
    /// What was gained last, by kind of the measure. Kept for its memory.
    gained: Vec<(usize, i64)>,
    leaves: usize,
    /// How many more siblings are sorted next. It doubles, so that a cycle that needs all of them
    /// does not go through the rest for each few.
    ahead: usize,
}

/// A node in the order of service, for people.
pub(super) struct Standing {
    pub(super) role: u32,
    /// [`NONE`] for the role itself.
    pub(super) client: u32,
    pub(super) share_micro: u64,
    pub(super) count: u64,
}

impl Queue {
    /// Of the clients that take part; what the others hold counts for their roles all the same.
    pub(super) fn new(
        cluster: &Cluster,
        measure: Measure,
        (counts, ranks): (&Counts, &Ranks),
        takes_part: impl Fn(u32) -> bool,
    ) -> Self {
        let room = 1 + 2 * cluster.roles_bound() + cluster.clients_bound();
        let mut queue = Self {
            nodes: Vec::with_capacity(room),
            children: Vec::new(),
            held: Vec::with_capacity(room * measure.kinds()),
            gained: Vec::new(),
            measure,
            leaves: 0,
            ahead: AHEAD,
        };
        let part = build::TakingPart::of(cluster, ranks, takes_part);
        let roots = queue.add_roles(cluster, (counts, ranks), &part);
        queue.add_clients(cluster, (counts, ranks), &part, &roots);
        queue.sum_up();
        queue.link();
        queue
    }

    /// How many clients are left.
    pub(crate) fn leaves(&self) -> usize {
        self.leaves
    }

    /// The first client for which this visit is not over.
    pub(crate) fn first(&mut self, visit: u32) -> Option<u32> {
        let mut at = ROOT;
        loop {
            let node = &self.nodes[at as usize];
            if node.client != NONE {
                return Some(at);
            }
            let (sorted, children) = (node.sorted, node.children);
            let cursor = match node.cursor_visit == visit {
                true => node.cursor as usize,
                false => 0,
            };
            let rest = self.sorted(at).get(cursor..).unwrap_or_default();
            let skipped = rest
                .iter()
                .take_while(|&&child| self.nodes[child as usize].done == visit)
                .count();
            let next = rest.get(skipped).copied();
            let node = &mut self.nodes[at as usize];
            node.cursor = (cursor + skipped) as u32;
            node.cursor_visit = visit;
            match next {
                Some(child) => at = child,
                None if sorted < children => self.sort_more(at, self.ahead),
                None => {
                    node.done = visit;
                    if at == ROOT {
                        return None;
                    }
                    at = ROOT;
                }
            }
        }
    }

    /// The leaves of some clients.
    pub(crate) fn leaves_where(&self, which: impl Fn(u32) -> bool) -> Vec<u32> {
        let leaf = |&index: &u32| {
            let client = self.nodes[index as usize].client;
            client != NONE && which(client)
        };
        (0..self.nodes.len() as u32).filter(leaf).collect()
    }

    /// Puts leaves into the order of service.
    pub(crate) fn sort(&self, leaves: &mut [u32]) {
        leaves.sort_by(|&one, &other| self.compare(one, other));
    }

    /// The order of two leaves: that of the siblings above them where their ways part.
    fn compare(&self, one: u32, other: u32) -> Ordering {
        let way = |leaf: u32| {
            let mut way: Vec<u32> = std::iter::successors(Some(leaf), |&at| {
                (at != ROOT).then(|| self.nodes[at as usize].parent)
            })
            .collect();
            way.reverse();
            way
        };
        let (one, other) = (way(one), way(other));
        let parted = one.iter().zip(&other).find(|(one, other)| one != other);
        parted.map_or(Ordering::Equal, |(&one, &other)| {
            order(&self.nodes[one as usize], &self.nodes[other as usize])
        })
    }

    /// The client of a leaf.
    pub(crate) fn client(&self, leaf: u32) -> u32 {
        self.nodes[leaf as usize].client
    }

    /// Nothing more for this leaf in this visit.
    pub(crate) fn pass_over(&mut self, leaf: u32, visit: u32) {
        self.nodes[leaf as usize].done = visit;
    }

    /// Nothing more for this leaf in this cycle.
    pub(crate) fn remove(&mut self, leaf: u32) {
        self.leaves -= 1;
        let mut at = leaf;
        while at != ROOT {
            let parent = self.nodes[at as usize].parent;
            let position = self.position(at);
            let siblings = self.siblings_mut(parent);
            if position < siblings.len() {
                // The first is taken off at the front.
                if position > 0 {
                    siblings[position..].rotate_left(1);
                }
                let node = &mut self.nodes[parent as usize];
                node.first += u32::from(position == 0);
                node.children -= 1;
                if position < node.sorted as usize {
                    node.sorted -= 1;
                }
                if position < node.cursor as usize {
                    node.cursor -= 1;
                }
            }
            if self.nodes[parent as usize].children > 0 {
                break;
            }
            at = parent;
        }
    }

    /// Charges a leaf and all above it with what it gained. Its place does not change yet, see
    /// [`Queue::settle`]. `first`: it is its first gain in this visit, which counts as an
    /// allocation.
    pub(crate) fn charge(&mut self, leaf: u32, gained: &[(u32, i64)], first: bool) {
        self.gained.clear();
        for &(kind, amount) in gained {
            let index = self.measure.index_of(kind);
            self.gained.extend(index.map(|index| (index, amount)));
        }
        let kinds = self.measure.kinds();
        let mut at = leaf;
        loop {
            let held = &mut self.held[at as usize * kinds..][..kinds];
            for &(index, amount) in &self.gained {
                held[index] = held[index].saturating_add(amount);
            }
            // The root has no siblings to be compared with.
            if at == ROOT {
                break;
            }
            let node = &mut self.nodes[at as usize];
            node.share = self.measure.share(held, node.weight);
            node.count += u64::from(first);
            at = node.parent;
        }
    }

    /// Moves a leaf that was charged, and all above it, to their places.
    pub(crate) fn settle(&mut self, leaf: u32) {
        let mut at = leaf;
        while at != ROOT {
            let position = self.position(at);
            let parent = self.nodes[at as usize].parent;
            let node = &self.nodes[at as usize];
            let sorted = self.sorted(parent);
            let mut last = sorted.len();
            // Whoever is not among the sorted has only gone further away from them.
            if let Some(behind) = sorted.get(position + 1..) {
                let is_before = |&other: &u32| order(&self.nodes[other as usize], node).is_lt();
                // Among equals whoever was served goes to the end.
                let passed = match behind.last() {
                    Some(last) if is_before(last) => behind.len(),
                    _ => behind.partition_point(is_before),
                };
                if passed > 0 {
                    // Who moves is not done, or the visit is over: the cursor stands.
                    self.move_behind(parent, position, passed);
                }
                last = position + passed;
            }
            // The last of the sorted may belong behind some of the rest.
            let above = &mut self.nodes[parent as usize];
            if last + 1 == above.sorted as usize && above.sorted < above.children {
                above.sorted -= 1;
            }
            at = parent;
        }
    }

    /// Everybody in the order of service.
    pub(super) fn standings(&mut self) -> Vec<Standing> {
        for index in 0..self.nodes.len() as u32 {
            self.sort_more(index, usize::MAX);
        }
        let mut standings = Vec::new();
        let mut stack: Vec<u32> = self.siblings(ROOT).iter().rev().copied().collect();
        while let Some(at) = stack.pop() {
            let node = &self.nodes[at as usize];
            if !node.direct {
                standings.push(Standing {
                    role: node.role,
                    client: node.client,
                    share_micro: self.measure.micro(&node.share),
                    count: node.count,
                });
            }
            if node.client == NONE {
                stack.extend(self.siblings(at).iter().rev());
            }
        }
        standings
    }
}

/// The order of siblings. Ranks differ, so no two are equal.
fn order(one: &Node, other: &Node) -> Ordering {
    (other.priority.cmp(&one.priority))
        .then_with(|| one.share.compare(&other.share))
        .then_with(|| one.count.cmp(&other.count))
        .then_with(|| one.rank.cmp(&other.rank))
}

#[cfg(test)]
mod tests;
