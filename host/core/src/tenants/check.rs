//! What must hold of what is kept for subtrees.

use crate::invariants::{InvariantBroken, broken};
use crate::machine::Core;

impl Core {
    /// What is kept for a subtree is in its tenant's hands, and nothing else is.
    pub(crate) fn check_tenants(&self) -> Result<(), InvariantBroken> {
        let tenants = &self.allocation.tenants;
        if tenants.settling {
            let problem = "a turn is being settled between two events".to_owned();
            return Err(broken("tenants", problem));
        }
        let mut kept = 0;
        for (role, tenant) in &tenants.all {
            let turn = tenant.turn.iter().flat_map(|turn| &turn.offers);
            let turn = turn.map(|(id, _)| id);
            let open = tenant.waiting.iter().chain(turn);
            for open in open.filter_map(|id| self.offers.get(id)) {
                let own = &open.offer.role;
                if !open.kept || !(own == role || own.is_strictly_below(role)) {
                    let problem = format!("it is for the subtree of {role}, and of {own}");
                    return Err(broken(open.offer.id, problem));
                }
                kept += 1;
            }
        }
        let all = self.offers.values().filter(|open| open.kept).count();
        if kept != all {
            let problem = format!("{all} offers are kept, and their policies have {kept}");
            return Err(broken("tenants", problem));
        }
        Ok(())
    }
}
