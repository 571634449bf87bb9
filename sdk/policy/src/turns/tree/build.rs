//! Making the tree: of the cluster as it is, with those who take part.

use proffer_model::policy::NONE;

use super::{NEVER, Node, Queue, ROOT};
use crate::cluster::Cluster;
use crate::turns::counts::{Counts, Ranks};
use crate::turns::share::{Share, Weight};

/// So many siblings are not moved about one by one.
const MANY: u32 = 16;

impl Node {
    /// A role's, without anybody in it. `standing`: its rank and count.
    fn new(parent: u32, role: u32, standing: (u32, u64)) -> Self {
        Self {
            parent,
            part: (0, 0),
            first: 0,
            children: 0,
            sorted: 0,
            done: NEVER,
            cursor: 0,
            cursor_visit: NEVER,
            client: NONE,
            role,
            direct: false,
            priority: 0,
            rank: standing.0,
            weight: Weight::ONE,
            share: Share::NOTHING,
            count: standing.1,
        }
    }
}

/// Who takes part.
pub(super) struct TakingPart {
    /// By client handle.
    clients: Vec<bool>,
    /// By role handle: whether anybody does in it, and whether anybody does below it.
    roles: Vec<(bool, bool)>,
}

impl TakingPart {
    pub(super) fn of(cluster: &Cluster, ranks: &Ranks, takes_part: impl Fn(u32) -> bool) -> Self {
        let mut part = Self {
            clients: vec![false; cluster.clients_bound()],
            roles: vec![(false, false); cluster.roles_bound()],
        };
        for row in cluster.clients() {
            let client = row.client.handle;
            let takes = takes_part(client);
            if let Some(place) = part.clients.get_mut(client as usize) {
                *place = takes;
            }
            // Its role and those around it may be known to have somebody already.
            let own = part.roles.get(row.client.role as usize);
            if !takes || own.is_some_and(|own| own.0) {
                continue;
            }
            for (step, role) in ranks.way_up(row.client.role).enumerate() {
                if let Some(role) = part.roles.get_mut(role as usize) {
                    role.0 |= step == 0;
                    role.1 |= step > 0;
                }
            }
        }
        part
    }

    fn takes(&self, client: u32) -> bool {
        self.clients.get(client as usize).copied().unwrap_or(false)
    }
}

impl Queue {
    /// Adds a node that holds so much of each kind.
    fn add_node(&mut self, node: Node, held: impl Iterator<Item = i64>) -> u32 {
        let index = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.nodes.push(node);
        self.held.extend(held);
        index
    }

    /// Adds a node that holds nothing itself.
    fn add_empty(&mut self, node: Node) -> u32 {
        let kinds = self.measure.kinds();
        self.add_node(node, std::iter::repeat_n(0, kinds))
    }

    /// Adds the root, the roles that have somebody who takes part in or below them, and their own
    /// clients' nodes. Answers where a role's clients go; roles that are not in it have nobody.
    pub(super) fn add_roles(
        &mut self,
        cluster: &Cluster,
        (counts, ranks): (&Counts, &Ranks),
        part: &TakingPart,
    ) -> Vec<u32> {
        let bound = cluster.roles_bound();
        self.add_empty(Node::new(ROOT, NONE, (0, 0)));
        let mut of_role = vec![NONE; bound];
        let mut of_clients = vec![NONE; bound];
        // From the top down, so that a parent's node is there before its children's.
        for &role in ranks.downwards() {
            let Some(&(own, below)) = part.roles.get(role as usize) else {
                continue;
            };
            let Some(row) = cluster.role(role).filter(|_| own || below) else {
                continue;
            };
            let parent = ranks
                .parent(role)
                .and_then(|parent| of_role.get(parent as usize));
            let parent = parent.copied().filter(|&parent| parent != NONE);
            let (count, rank) = (counts.of_role(role), ranks.of_role(role));
            let index = self.add_empty(Node {
                priority: ranks.priority(role),
                weight: Weight::from_milli(row.weight.milli()),
                ..Node::new(parent.unwrap_or(ROOT), role, (rank.0, count.0))
            });
            of_role[role as usize] = index;
            of_clients[role as usize] = index;
            if own && below {
                let direct = self.add_empty(Node {
                    direct: true,
                    ..Node::new(index, role, (rank.1, count.1))
                });
                of_clients[role as usize] = direct;
            }
        }
        of_clients
    }

    /// Adds the clients that take part, with what they hold; what others hold is their roles'.
    pub(super) fn add_clients(
        &mut self,
        cluster: &Cluster,
        (counts, ranks): (&Counts, &Ranks),
        part: &TakingPart,
        of_clients: &[u32],
    ) {
        let kinds: Vec<u32> = self.measure.handles().collect();
        for row in cluster.clients() {
            let client = &row.client;
            if !client.marks.known {
                continue;
            }
            // The nearest role up that has a node: others in a role without one hold things too.
            let own = of_clients
                .get(client.role as usize)
                .copied()
                .unwrap_or(NONE);
            let above = || {
                let mut way = ranks.way_up(client.role).skip(1);
                way.find_map(|role| {
                    let node = of_clients.get(role as usize).copied()?;
                    let node = (node != NONE).then_some(node)?;
                    // What is held below a role is not its own clients'.
                    Some(match self.nodes[node as usize].direct {
                        true => self.nodes[node as usize].parent,
                        false => node,
                    })
                })
            };
            let parent = match own {
                NONE => above().unwrap_or(ROOT),
                own => own,
            };
            let amounts = kinds.iter().map(|&kind| row.held(kind));
            if own != NONE && part.takes(client.handle) {
                self.leaves += 1;
                let (rank, count) = (
                    ranks.of_client(client.handle),
                    counts.of_client(client.handle),
                );
                let leaf = Node {
                    client: client.handle,
                    ..Node::new(parent, client.role, (rank, count))
                };
                self.add_node(leaf, amounts);
            } else {
                let held = &mut self.held[parent as usize * kinds.len()..][..kinds.len()];
                for (held, amount) in held.iter_mut().zip(amounts) {
                    *held = held.saturating_add(amount);
                }
            }
        }
    }

    /// Charges what is held to all roles around, works out shares, and counts children.
    pub(super) fn sum_up(&mut self) {
        let kinds = self.measure.kinds();
        // From the bottom up: what is below a node was summed up before it.
        for index in (0..self.nodes.len()).rev() {
            let (above, below) = self.held.split_at_mut(index * kinds);
            let held = &below[..kinds];
            let node = &mut self.nodes[index];
            node.share = self.measure.share(held, node.weight);
            let parent = node.parent as usize;
            if index == ROOT as usize {
                break;
            }
            let sums = &mut above[parent * kinds..][..kinds];
            for (sum, &held) in sums.iter_mut().zip(held) {
                *sum = sum.saturating_add(held);
            }
            self.nodes[parent].children += 1;
        }
    }

    /// Gives each node its part of `children`, with as much room again where they are many.
    pub(super) fn link(&mut self) {
        let mut next = 0;
        for node in &mut self.nodes {
            node.first = next;
            next += node.children;
            if node.children >= MANY {
                next += node.children;
            }
            node.part = (node.first, next);
            node.children = 0;
        }
        self.children = vec![0; next as usize];
        for index in 1..self.nodes.len() {
            let parent = self.nodes[index].parent as usize;
            let parent = &mut self.nodes[parent];
            let place = parent.first + parent.children;
            parent.children += 1;
            self.children[place as usize] = u32::try_from(index).unwrap_or(NONE);
        }
    }
}
