//! The order of service: a tree of roles with clients as leaves, siblings ordered by priority (if any
//! was set), then by dominant share over weight, then by the number of allocations so far, then by
//! path.
//!
//! A role that has clients and sub-roles is an extra leaf of itself, `.` in its path, with weight
//! one: its own clients stand together against its sub-roles.
//!
//! Siblings are kept sorted. Within a cycle shares only grow, so a node that was served moves
//! towards the end by one rotation, and nothing is sorted again.

mod build;

use std::cmp::Ordering;

use proffer_model::policy::NONE;

use super::counts::{Counts, Ranks};
use super::share::{Measure, Share, Weight};
use crate::cluster::Cluster;

const ROOT: u32 = 0;
/// Of `done`: never. Visits of agents count from 1.
const NEVER: u32 = 0;

/// A role, a role's own clients, or a client.
#[derive(Clone, Debug)]
struct Node {
    parent: u32,
    /// Its children, in order, begin here in `children`.
    first: u32,
    children: u32,
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
    children: Vec<u32>,
    /// By node and kind of the measure.
    held: Vec<i64>,
    measure: Measure,
    leaves: usize,
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
        let mut queue = Self {
            nodes: Vec::new(),
            children: Vec::new(),
            held: Vec::new(),
            measure,
            leaves: 0,
        };
        let roots = queue.add_roles(cluster, (counts, ranks), &takes_part);
        queue.add_clients(cluster, (counts, ranks), &takes_part, &roots);
        queue.link();
        queue.weigh();
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
            let (from, to) = (node.first as usize, (node.first + node.children) as usize);
            let cursor = match node.cursor_visit == visit {
                true => node.cursor as usize,
                false => 0,
            };
            let rest = &self.children[from + cursor..to];
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
                siblings[position..].rotate_left(1);
                let node = &mut self.nodes[parent as usize];
                node.children -= 1;
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
        let kinds = self.measure.kinds();
        let mut at = leaf;
        loop {
            let held = &mut self.held[at as usize * kinds..][..kinds];
            for &(kind, amount) in gained {
                if let Some(index) = self.measure.index_of(kind) {
                    held[index] = held[index].saturating_add(amount);
                }
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
            let siblings = self.siblings(parent);
            if let Some(behind) = siblings.get(position + 1..) {
                let is_before = |&other: &u32| order(&self.nodes[other as usize], node).is_lt();
                // Among equals whoever was served goes to the end.
                let passed = match behind.last() {
                    Some(last) if is_before(last) => behind.len(),
                    _ => behind.partition_point(is_before),
                };
                if passed > 0 {
                    // Who moves is not done, or the visit is over: the cursor stands.
                    let siblings = self.siblings_mut(parent);
                    siblings[position..=position + passed].rotate_left(1);
                }
            }
            at = parent;
        }
    }

    /// Everybody in the order of service.
    pub(super) fn standings(&self) -> Vec<Standing> {
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

    fn siblings(&self, parent: u32) -> &[u32] {
        let node = &self.nodes[parent as usize];
        &self.children[node.first as usize..][..node.children as usize]
    }

    fn siblings_mut(&mut self, parent: u32) -> &mut [u32] {
        let node = &self.nodes[parent as usize];
        &mut self.children[node.first as usize..][..node.children as usize]
    }

    /// Where a node is among its siblings; past them if it was removed.
    fn position(&self, at: u32) -> usize {
        let parent = &self.nodes[self.nodes[at as usize].parent as usize];
        let siblings = self.siblings(self.nodes[at as usize].parent);
        // Whoever is served is the first that is not done, so it stands at the cursor.
        let cursor = parent.cursor as usize;
        if siblings.get(cursor) == Some(&at) {
            return cursor;
        }
        let found = siblings.iter().position(|&other| other == at);
        found.unwrap_or(siblings.len())
    }

    /// Works out all shares and sorts all siblings.
    fn weigh(&mut self) {
        let kinds = self.measure.kinds();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let held = &self.held[index * kinds..][..kinds];
            node.share = self.measure.share(held, node.weight);
        }
        for node in &self.nodes {
            let siblings = &mut self.children[node.first as usize..][..node.children as usize];
            sort(&self.nodes, siblings);
        }
    }
}

/// Puts siblings into the order of service. Nearly always they differ in amounts of one kind alone,
/// which are compared without the nodes.
fn sort(nodes: &[Node], siblings: &mut [u32]) {
    let node = |at: &u32| &nodes[*at as usize];
    let Some(first) = siblings.first().map(node) else {
        return;
    };
    let mut shares = siblings.iter().map(|at| &node(at).share);
    let holder = shares.clone().find(|share| share.held() > 0);
    let one_kind = holder.is_none_or(|holder| shares.all(|share| share.is_like(holder)));
    if one_kind
        && siblings
            .iter()
            .all(|at| node(at).priority == first.priority)
    {
        let key = |at: &u32| (node(at).share.held(), node(at).count, node(at).rank);
        siblings.sort_by_cached_key(key);
    } else {
        siblings.sort_unstable_by(|one, other| order(node(one), node(other)));
    }
}

/// The order of siblings. Ranks differ, so no two are equal.
fn order(one: &Node, other: &Node) -> Ordering {
    (other.priority.cmp(&one.priority))
        .then_with(|| one.share.compare(&other.share))
        .then_with(|| one.count.cmp(&other.count))
        .then_with(|| one.rank.cmp(&other.rank))
}
