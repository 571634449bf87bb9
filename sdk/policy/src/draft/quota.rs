//! Quota while grants are being made: what roles lack of their guarantees, what their limits leave,
//! and what of the pool is not held ready for somebody.

use proffer_model::policy::NONE;

use super::rules::{DemandUse, Rules};
use crate::cluster::Cluster;

/// No bound.
pub(super) const UNBOUND: i64 = i64::MAX;

/// All quotas of a cycle. Without any it costs a comparison here and there.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    rows: Vec<Row>,
    /// By role handle: its row, or that of the nearest role around it that has one ([`NONE`]: none).
    nearest: Vec<u32>,
    /// By kind: open over the pool, less what was granted since.
    available: Vec<i64>,
    /// By kind: what all roles together lack of their guarantees.
    required: Vec<i64>,
    nested: bool,
    /// Whether headroom is looked at at all.
    whole: bool,
    kinds: usize,
}

/// A role with a quota that counts.
#[derive(Debug)]
struct Row {
    role: u32,
    /// The nearest row around it, or [`NONE`].
    parent: u32,
    consumed: Vec<i64>,
    guarantee: Vec<i64>,
    limit: Vec<i64>,
    /// What is held ready for the rows below it.
    below: Vec<i64>,
    /// What is held ready for it and those below it: its guarantee is there for theirs.
    needs: Vec<i64>,
}

impl Row {
    fn unmet(&self, kind: usize) -> i64 {
        self.guarantee[kind]
            .saturating_sub(self.consumed[kind])
            .max(0)
    }

    /// What it lacks beyond what is held ready for those below it.
    fn claim(&self, kind: usize) -> i64 {
        self.unmet(kind).saturating_sub(self.below[kind]).max(0)
    }
}

impl Quotas {
    pub(super) fn new(cluster: &Cluster, rules: &Rules) -> Self {
        let kinds = cluster
            .kinds()
            .map(|kind| kind.handle as usize + 1)
            .max()
            .unwrap_or(0);
        let whole = rules.demand == DemandUse::Ignore;
        let available = (0..kinds).map(|kind| {
            let open = cluster.open(kind as u32);
            if whole { open.balance } else { open.free }
        });
        let mut quotas = Self {
            available: available.collect(),
            required: vec![0; kinds],
            nested: rules.nested_quota,
            whole,
            kinds,
            ..Self::default()
        };
        quotas.add_rows(cluster);
        if !quotas.rows.is_empty() {
            quotas.place_roles(cluster);
            quotas.consume(cluster);
            for row in 0..quotas.rows.len() as u32 {
                quotas.look_again_from(row);
            }
        }
        quotas
    }

    fn add_rows(&mut self, cluster: &Cluster) {
        for role in cluster.roles() {
            let counts = self.nested || cluster.role(role.parent).is_none();
            if role.quotas.is_empty() || !counts {
                continue;
            }
            let mut row = Row {
                role: role.handle,
                parent: NONE,
                consumed: vec![0; self.kinds],
                guarantee: vec![0; self.kinds],
                limit: vec![UNBOUND; self.kinds],
                below: vec![0; self.kinds],
                needs: vec![0; self.kinds],
            };
            for quota in &role.quotas {
                let kind = quota.kind as usize;
                if kind < self.kinds {
                    row.guarantee[kind] = quota.guarantee.milli();
                    row.limit[kind] = quota.limit.map_or(UNBOUND, |limit| limit.milli());
                }
            }
            self.rows.push(row);
        }
    }

    /// Where each role's quota, or the nearest around it, is.
    fn place_roles(&mut self, cluster: &Cluster) {
        let own: Vec<u32> = (0..cluster.roles_bound() as u32)
            .map(|role| {
                let found = self.rows.iter().position(|row| row.role == role);
                found.map_or(NONE, |row| row as u32)
            })
            .collect();
        let nearest = |from: u32| -> u32 {
            let mut role = from;
            // As many steps as there are roles: circles are malformed.
            for _ in 0..=own.len() {
                match own.get(role as usize) {
                    Some(&NONE) => {}
                    Some(&row) => return row,
                    None => return NONE,
                }
                match cluster.role(role) {
                    Some(row) => role = row.parent,
                    None => return NONE,
                }
            }
            NONE
        };
        self.nearest = (0..cluster.roles_bound() as u32).map(nearest).collect();
        for index in 0..self.rows.len() {
            let parent = cluster
                .role(self.rows[index].role)
                .map_or(NONE, |role| role.parent);
            let around = self.nearest.get(parent as usize).copied().unwrap_or(NONE);
            // A role that is its own ancestor is malformed.
            let circle = around != NONE && around as usize >= self.rows.len();
            self.rows[index].parent = if circle || around as usize == index {
                NONE
            } else {
                around
            };
        }
    }

    fn consume(&mut self, cluster: &Cluster) {
        for row in cluster.clients().filter(|row| row.client.marks.known) {
            for (kind, &amount) in row.plain().iter().enumerate() {
                self.charge_up(self.row_around(row.client.role), kind, amount);
            }
        }
        for role in 0..cluster.roles_bound() as u32 {
            for (kind, &amount) in cluster.reserved_to(role).iter().enumerate() {
                self.charge_up(self.row_around(role), kind, amount);
            }
        }
    }

    /// The row of a role, or the nearest around it.
    fn row_around(&self, role: u32) -> u32 {
        self.nearest.get(role as usize).copied().unwrap_or(NONE)
    }

    /// The row that a role is charged to: in Mesos a sub-role to none until the next cycle counts anew.
    fn charged_to(&self, role: u32) -> u32 {
        let row = self.row_around(role);
        let own = self.rows.get(row as usize).map(|row| row.role) == Some(role);
        if own || self.nested { row } else { NONE }
    }

    fn charge_up(&mut self, from: u32, kind: usize, amount: i64) {
        let mut at = from;
        // Rows lead upwards and end; as many steps as there are rows bound a malformed circle.
        for _ in 0..self.rows.len() {
            let Some(row) = self.rows.get_mut(at as usize) else {
                return;
            };
            if let Some(consumed) = row.consumed.get_mut(kind) {
                *consumed = consumed.saturating_add(amount);
            }
            at = row.parent;
        }
    }

    /// Works out anew what is held ready, after a role was charged.
    pub(super) fn look_again(&mut self, role: u32) {
        self.look_again_from(self.charged_to(role));
    }

    /// The same of one row and those around it.
    fn look_again_from(&mut self, row: u32) {
        for kind in 0..self.kinds {
            let mut at = row;
            for _ in 0..self.rows.len() {
                let Some(row) = self.rows.get_mut(at as usize) else {
                    break;
                };
                let needs = row.unmet(kind).max(row.below[kind]);
                let more = needs.saturating_sub(row.needs[kind]);
                row.needs[kind] = needs;
                at = row.parent;
                let around = match self.rows.get_mut(at as usize) {
                    Some(row) => &mut row.below[kind],
                    None => &mut self.required[kind],
                };
                *around = around.saturating_add(more);
            }
        }
    }

    /// Whether any role lacks anything.
    pub(super) fn is_any_unmet(&self) -> bool {
        let lacks = |row: &Row| (0..self.kinds).any(|kind| row.unmet(kind) > 0);
        self.rows.iter().any(lacks)
    }

    /// What roles lack of their guarantees: role, kind and how much.
    pub(super) fn all_unmet(&self) -> Vec<(u32, u32, i64)> {
        let rows = self.rows.iter().flat_map(|row| {
            let kinds = (0..self.kinds).map(|kind| (row.role, kind as u32, row.unmet(kind)));
            kinds.filter(|(.., lacking)| *lacking > 0)
        });
        rows.collect()
    }

    /// Whether a role lacks something of what it is guaranteed.
    pub(super) fn is_unmet(&self, role: u32) -> bool {
        (0..self.kinds).any(|kind| self.claim(role, kind) > 0)
    }

    /// What a role lacks of a kind of what it is guaranteed, within the limits around it.
    pub(super) fn unmet(&self, role: u32, kind: u32) -> i64 {
        if kind as usize >= self.kinds {
            return 0;
        }
        self.claim(role, kind as usize)
            .min(self.limit_left(role, kind))
    }

    /// What a role may have of what is held ready: of its own guarantee what is not for somebody below
    /// it. What a role around it is guaranteed is for that role's own.
    fn claim(&self, role: u32, kind: usize) -> i64 {
        let row = self.rows.get(self.row_around(role) as usize);
        let own = row.filter(|row| row.role == role);
        own.map_or(0, |row| row.claim(kind))
    }

    /// What limits leave to a role of a kind.
    pub(super) fn limit_left(&self, role: u32, kind: u32) -> i64 {
        let mut left = UNBOUND;
        let mut at = self.row_around(role);
        for _ in 0..self.rows.len() {
            let Some(row) = self.rows.get(at as usize) else {
                break;
            };
            let binds = self.nested || row.role == role;
            if binds
                && let Some(&limit) = row.limit.get(kind as usize)
                && limit != UNBOUND
            {
                let used = row.consumed[kind as usize];
                left = left.min(limit.saturating_sub(used).max(0));
            }
            at = row.parent;
        }
        left
    }

    /// What of a kind is not held ready for anybody.
    pub(super) fn surplus(&self, kind: u32) -> i64 {
        let kind = kind as usize;
        if !self.whole && self.rows.is_empty() {
            return UNBOUND;
        }
        let available = self.available.get(kind).copied().unwrap_or(0);
        let required = self.required.get(kind).copied().unwrap_or(0);
        available.saturating_sub(required).max(0)
    }

    /// What a role may be granted of a kind, of what is neither reserved nor revocable: what it
    /// lacks of its own guarantee and what nobody is held ready, within limits.
    pub(super) fn allowance(&self, role: u32, kind: u32) -> i64 {
        if self.rows.is_empty() {
            return self.surplus(kind);
        }
        let own = self.unmet(role, kind);
        own.saturating_add(self.surplus(kind))
            .min(self.limit_left(role, kind))
    }

    /// What everybody else may be granted in Mesos's second round: nothing of what is held ready,
    /// not even for itself.
    pub(super) fn rest_allowance(&self, role: u32, kind: u32) -> i64 {
        if self.rows.is_empty() {
            return self.surplus(kind);
        }
        self.surplus(kind).min(self.limit_left(role, kind))
    }

    /// Charges a grant. In Mesos a sub-role without a quota of its own is charged to its parent only
    /// when the next cycle counts anew.
    pub(super) fn take(&mut self, role: u32, kind: u32, amount: i64) {
        if let Some(available) = self.available.get_mut(kind as usize) {
            *available = available.saturating_sub(amount);
        }
        if self.rows.is_empty() {
            return;
        }
        self.charge_up(self.charged_to(role), kind as usize, amount);
    }

    /// Whether a role is at a limit: the reason, if nothing of a kind can be granted.
    pub(super) fn is_at_limit(&self, role: u32) -> bool {
        (0..self.kinds).any(|kind| self.limit_left(role, kind as u32) == 0)
    }

    /// What a role, and each around it, holds of a kind beyond what it is guaranteed. `lost`: what
    /// somebody within a role has lost of it.
    pub(super) fn above_guarantee(&self, role: u32, kind: u32, lost: impl Fn(u32) -> i64) -> i64 {
        let mut above = UNBOUND;
        let mut at = self.row_around(role);
        for _ in 0..self.rows.len() {
            let Some(row) = self.rows.get(at as usize) else {
                break;
            };
            if let (Some(&consumed), Some(&guarantee)) = (
                row.consumed.get(kind as usize),
                row.guarantee.get(kind as usize),
            ) && guarantee > 0
            {
                let left = consumed.saturating_sub(lost(row.role));
                above = above.min(left.saturating_sub(guarantee).max(0));
            }
            at = row.parent;
        }
        above
    }

    /// Whether quota can keep anything from anybody.
    pub(super) fn binds(&self) -> bool {
        self.whole || !self.rows.is_empty()
    }
}
