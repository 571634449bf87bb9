//! Which components are referred to: a file of any other is of no use.

use std::collections::BTreeSet;

use crate::machine::Core;

impl Core {
    /// The digests of all components that a framework runs or tries, that a policy decides with or is to,
    /// a role's own among them, and that a rollback may bring back.
    #[must_use]
    pub fn components_in_use(&self) -> BTreeSet<String> {
        let frameworks = self.frameworks.values().flat_map(|framework| {
            let tried = framework.upgrade.as_ref().map(|upgrade| upgrade.digest());
            let runs = framework.record.digest.as_str();
            std::iter::once(runs).chain(tried)
        });
        let swaps = &self.allocation.swaps;
        let history = swaps.history.iter().map(|record| record.digest.as_str());
        let candidate = swaps.candidate.iter();
        let candidate = candidate.map(|candidate| candidate.swap.identity.digest.as_str());
        let loaded = self.allocation.loaded.iter();
        let loaded = loaded.map(|loaded| loaded.identity.digest.as_str());
        let tenants = self.allocation.tenants.digests();
        let policies = history.chain(candidate).chain(loaded).chain(tenants);
        let digests = frameworks.chain(policies);
        // The native policy has none.
        let digests = digests.filter(|digest| !digest.is_empty());
        digests.map(str::to_owned).collect()
    }
}
