//! What the order of service needs besides shares: how many allocations there were so far, and the
//! order of names.

use std::cmp::Ordering;

use proffer_model::policy::NONE;

use crate::cluster::Cluster;

/// Allocations so far, by handle. They never go down.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    clients: Vec<u64>,
    /// In and below a role, and of its own clients.
    roles: Vec<(u64, u64)>,
}

impl Counts {
    pub(super) fn of_client(&self, client: u32) -> u64 {
        self.clients.get(client as usize).copied().unwrap_or(0)
    }

    pub(super) fn of_role(&self, role: u32) -> (u64, u64) {
        self.roles.get(role as usize).copied().unwrap_or_default()
    }

    /// One more for a client that the cluster knows, and for all roles around it.
    pub(super) fn add(&mut self, cluster: &Cluster, ranks: &Ranks, client: u32) {
        let Some(row) = cluster.client(client) else {
            return;
        };
        let count = self.of_client(client) + 1;
        self.set_client(client, count);
        for (step, role) in ranks.way_up(row.client.role).enumerate() {
            let (all, own) = self.of_role(role);
            self.set_role(role, (all + 1, own + u64::from(step == 0)));
        }
    }

    /// A role that has nobody any more begins anew, and one whose sub-roles have nobody any more
    /// counts only its own.
    pub(super) fn forget_absent(&mut self, cluster: &Cluster, ranks: &Ranks) {
        let mut there = vec![(false, false); self.roles.len()];
        for row in cluster.clients().filter(|row| row.client.marks.known) {
            for (step, role) in ranks.way_up(row.client.role).enumerate() {
                if let Some(there) = there.get_mut(role as usize) {
                    there.0 |= step == 0;
                    there.1 |= step > 0;
                }
            }
        }
        for (counts, (own, below)) in self.roles.iter_mut().zip(there) {
            if !own {
                counts.1 = 0;
            }
            if !below {
                counts.0 = counts.1;
            }
        }
    }

    /// Of a client that the cluster knows: handles elsewhere would make the table large.
    pub(super) fn set_client(&mut self, client: u32, count: u64) {
        let index = client as usize;
        if index >= self.clients.len() {
            self.clients.resize(index + 1, 0);
        }
        self.clients[index] = count;
    }

    /// Of a role that the cluster knows.
    pub(super) fn set_role(&mut self, role: u32, counts: (u64, u64)) {
        let index = role as usize;
        if index >= self.roles.len() {
            self.roles.resize(index + 1, (0, 0));
        }
        self.roles[index] = counts;
    }
}

/// Names' order and the roles' tree, worked out again when roles or clients have changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranks {
    /// Of which structure; none yet.
    structure: Option<u64>,
    clients: Vec<u32>,
    /// Of the role, and of its own clients among its sub-roles.
    roles: Vec<(u32, u32)>,
    /// Parents, [`NONE`] at the top; circles are cut.
    parents: Vec<u32>,
    downwards: Vec<u32>,
    /// By name, as configured.
    priorities: Vec<(String, i64)>,
    /// By role; none at all if none are configured.
    priority: Vec<i64>,
}

impl Ranks {
    /// Works everything out again if roles or clients have changed; answers whether they have.
    pub(super) fn refresh(&mut self, cluster: &Cluster) -> bool {
        if self.structure == Some(cluster.structure()) {
            return false;
        }
        self.structure = Some(cluster.structure());
        self.refresh_parents(cluster);
        let mut clients: Vec<u32> = cluster.clients().map(|row| row.client.handle).collect();
        let key = |handle: &u32| {
            let client = cluster.client(*handle).map(|row| &row.client);
            client.map(|client| (client.name.as_str(), client.framework, client.handle))
        };
        clients.sort_unstable_by(|one, other| key(one).cmp(&key(other)));
        self.clients = vec![NONE; cluster.clients_bound()];
        for (rank, client) in (0..).zip(clients) {
            self.clients[client as usize] = rank;
        }
        let mut roles: Vec<(u32, bool)> = cluster
            .roles()
            .flat_map(|role| [(role.handle, false), (role.handle, true)])
            .collect();
        roles.sort_by(|one, other| order_paths(cluster, *one, *other));
        self.roles = vec![(NONE, NONE); cluster.roles_bound()];
        for (rank, (role, own)) in (0..).zip(roles) {
            let ranks = &mut self.roles[role as usize];
            match own {
                false => ranks.0 = rank,
                true => ranks.1 = rank,
            }
        }
        self.refresh_priorities(cluster);
        true
    }

    /// Priorities of roles by name, from the next refresh on.
    pub(super) fn set_priorities(&mut self, priorities: Vec<(String, i64)>) {
        self.priorities = priorities;
        self.structure = None;
    }

    /// Of a role among its siblings.
    pub(super) fn priority(&self, role: u32) -> i64 {
        self.priority.get(role as usize).copied().unwrap_or(0)
    }

    /// Whether the one role's side has the higher priority where the ways down to both part.
    pub(super) fn outranks(&self, one: u32, other: u32) -> bool {
        let way = |role: u32| {
            let mut way: Vec<u32> = self.way_up(role).collect();
            way.reverse();
            way
        };
        let (one, other) = (way(one), way(other));
        let parted = one.iter().zip(&other).find(|(one, other)| one != other);
        parted.is_some_and(|(&one, &other)| self.priority(one) > self.priority(other))
    }

    fn refresh_priorities(&mut self, cluster: &Cluster) {
        self.priority.clear();
        if self.priorities.is_empty() {
            return;
        }
        self.priority = vec![0; cluster.roles_bound()];
        for role in cluster.roles() {
            let set = self.priorities.iter().find(|(name, _)| *name == role.name);
            if let Some((_, priority)) = set {
                self.priority[role.handle as usize] = *priority;
            }
        }
    }

    pub(super) fn of_client(&self, client: u32) -> u32 {
        self.clients.get(client as usize).copied().unwrap_or(NONE)
    }

    pub(super) fn of_role(&self, role: u32) -> (u32, u32) {
        (self.roles.get(role as usize).copied()).unwrap_or((NONE, NONE))
    }

    pub(super) fn parent(&self, role: u32) -> Option<u32> {
        let parent = self.parents.get(role as usize).copied()?;
        (parent != NONE).then_some(parent)
    }

    /// Roles, each after the one around it.
    pub(super) fn downwards(&self) -> &[u32] {
        &self.downwards
    }

    /// A role and those around it, from within.
    pub(super) fn way_up(&self, role: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(role), |&role| self.parent(role))
    }

    fn refresh_parents(&mut self, cluster: &Cluster) {
        self.parents = vec![NONE; cluster.roles_bound()];
        for role in cluster.roles() {
            let known = cluster.role(role.parent).is_some();
            // A circle is malformed: whoever is its own ancestor is taken for a top role.
            let circle =
                role.handle == role.parent || cluster.is_at_or_below(role.parent, role.handle);
            if known && !circle {
                self.parents[role.handle as usize] = role.parent;
            }
        }
        let mut by_depth: Vec<(usize, u32)> = cluster
            .roles()
            .map(|role| (self.way_up(role.handle).count(), role.handle))
            .collect();
        by_depth.sort_unstable();
        self.downwards = by_depth.into_iter().map(|(_, role)| role).collect();
    }
}

/// Paths as bytes; a role's own clients are `ROLE/.`.
fn order_paths(cluster: &Cluster, one: (u32, bool), other: (u32, bool)) -> Ordering {
    let path = |(role, own): (u32, bool)| {
        let name = cluster.role(role).map_or("", |role| role.name.as_str());
        name.bytes().chain(if own { "/." } else { "" }.bytes())
    };
    path(one).cmp(path(other)).then(one.cmp(&other))
}
