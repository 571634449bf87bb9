//! What roles with limits may still be granted, in one judgement.

use std::collections::BTreeMap;

use proffer_model::{Amounts, Resources, RoleName, difference};

use crate::handles::ClientId;
use crate::holdings::add;
use crate::machine::Core;
use crate::quota::limits;

/// Per role with limits what is left of them; kinds without a limit are not in it. Worked out once
/// a judgement, and only if there is such a role.
#[derive(Debug, Default)]
pub(crate) struct QuotaLeft {
    roles: BTreeMap<RoleName, Amounts>,
}

impl QuotaLeft {
    pub(crate) fn of(core: &Core) -> Self {
        let mut roles = BTreeMap::new();
        for (role, quotas) in core.handles.roles.with_quota() {
            let limits = limits(quotas);
            let binds = core.config.nested_quota || role.parent().is_none();
            if limits.is_empty() || !binds {
                continue;
            }
            let consumed = core.role_sums(role).consumed;
            let mut left = difference(&limits, &consumed);
            for kind in limits.into_keys() {
                left.entry(kind).or_default();
            }
            roles.insert(role.clone(), left);
        }
        Self { roles }
    }

    /// The roles whose limits bind a client: its own, and with quota at every depth those around.
    fn binding<'a>(&self, core: &'a Core, client: ClientId) -> Vec<&'a RoleName> {
        let Some((_, role)) = core.handles.owner(client) else {
            return Vec::new();
        };
        let binds = |limited: &RoleName| {
            limited == role || (core.config.nested_quota && role.is_strictly_below(limited))
        };
        let all = core.handles.roles.with_quota().map(|(role, _)| role);
        all.filter(|limited| binds(limited)).collect()
    }

    /// Why a grant is over a limit.
    pub(crate) fn over(&self, core: &Core, client: ClientId, what: &Resources) -> Option<String> {
        if self.roles.is_empty() {
            return None;
        }
        let plain = counted(what);
        for role in self.binding(core, client) {
            let left = self.roles.get(role)?;
            for (kind, amount) in &plain {
                if let Some(left) = left.get(kind).filter(|left| *left < amount) {
                    return Some(format!(
                        "{amount} {kind}, and the limit of {role} leaves {left}"
                    ));
                }
            }
        }
        None
    }

    /// A grant passed.
    pub(super) fn take(&mut self, core: &Core, client: ClientId, what: &Resources) {
        if self.roles.is_empty() {
            return;
        }
        let plain = counted(what);
        for role in self.binding(core, client) {
            if let Some(left) = self.roles.get_mut(role) {
                let rest = difference(left, &plain);
                for (kind, amount) in left.iter_mut() {
                    *amount = rest.get(kind).copied().unwrap_or_default();
                }
            }
        }
    }
}

/// What quota counts of a grant.
fn counted(what: &Resources) -> Amounts {
    let mut amounts = Amounts::new();
    // A shared volume counts once, and whoever holds it may be granted it again.
    let plain = what.only(|terms| terms.counts_in_quota() && !terms.marks.shared);
    add(&mut amounts, &plain.total());
    amounts
}
