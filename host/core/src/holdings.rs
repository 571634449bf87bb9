//! What roles hold, summed over the pool: for quota, and for operators.

use std::collections::{BTreeMap, BTreeSet};

use proffer_model::{AgentId, Amount, Amounts, Bundle, KindQuota, Resources, RoleName, Terms};

use crate::agents::Agent;
use crate::handles::ClientId;
use crate::machine::Core;

/// What a role and the roles below it hold; items of ranges and sets counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleSums {
    /// Held by tasks.
    pub in_use: Amounts,
    /// On offer.
    pub offered: Amounts,
    /// Reserved, idle or held.
    pub reserved: Amounts,
    /// What quota counts: all that is reserved, and what is held unreserved and not revocable.
    pub consumed: Amounts,
}

/// A role as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleView {
    /// Its name.
    pub name: RoleName,
    /// Against its siblings.
    pub weight: Amount,
    /// Per kind.
    pub quotas: Vec<KindQuota>,
    /// With its sub-roles.
    pub sums: RoleSums,
}

impl RoleSums {
    /// Adds what is held of one agent, by tasks and on offer.
    fn add_held(&mut self, (used, offered): &(Resources, Resources), total: &Resources) {
        add(&mut self.in_use, &used.total());
        add(&mut self.offered, &offered.total());
        let mut plain = used.only(|terms| terms.counts_in_quota());
        join(
            &mut plain,
            &offered.only(|terms| terms.counts_in_quota()),
            total,
        );
        add(&mut self.consumed, &plain.total());
    }

    /// Adds a pile that is reserved.
    fn add_reserved(&mut self, terms: &Terms, bundle: &Bundle) {
        add(&mut self.reserved, bundle);
        if !terms.marks.revocable {
            add(&mut self.consumed, bundle);
        }
    }
}

impl Core {
    /// What a role and its sub-roles hold.
    #[must_use]
    pub fn role_sums(&self, role: &RoleName) -> RoleSums {
        let inside = |other: &RoleName| other == role || other.is_strictly_below(role);
        let clients: BTreeSet<ClientId> = self
            .handles
            .clients()
            // What is held by frameworks that are yet to be added counts for nobody.
            .filter(|(_, (framework, role))| {
                inside(role) && self.frameworks.contains_key(framework)
            })
            .map(|(client, _)| client)
            .collect();
        let mut sums = RoleSums::default();
        for agent in self.agents.values() {
            let total = agent.account.total();
            let mut here = (Resources::none(), Resources::none());
            for (client, held) in agent.account.held() {
                if clients.contains(&client) {
                    join(&mut here.0, &held.used, total);
                    join(&mut here.1, &held.offered, total);
                }
            }
            for (terms, bundle) in total.piles() {
                if terms.reserved.last().is_some_and(inside) {
                    sums.add_reserved(terms, bundle);
                }
            }
            sums.add_held(&here, total);
        }
        sums
    }

    /// The same of all roles that hold anything, in one pass over the agents.
    fn all_role_sums(&self) -> BTreeMap<RoleName, RoleSums> {
        let mut all: BTreeMap<RoleName, RoleSums> = BTreeMap::new();
        let mut ways: BTreeMap<&RoleName, Vec<RoleName>> = BTreeMap::new();
        for agent in self.agents.values() {
            let total = agent.account.total();
            let mut here: BTreeMap<RoleName, (Resources, Resources)> = BTreeMap::new();
            for (client, held) in agent.account.held() {
                let owner = self.handles.owner(client);
                let known = owner.filter(|(framework, _)| self.frameworks.contains_key(framework));
                let Some((_, role)) = known else { continue };
                for role in ways.entry(role).or_insert_with(|| way_up(role)) {
                    let here = here.entry(role.clone()).or_default();
                    join(&mut here.0, &held.used, total);
                    join(&mut here.1, &held.offered, total);
                }
            }
            for (terms, bundle) in total.piles() {
                for role in terms.reserved.last().map(way_up).unwrap_or_default() {
                    all.entry(role).or_default().add_reserved(terms, bundle);
                }
            }
            for (role, here) in here {
                all.entry(role).or_default().add_held(&here, total);
            }
        }
        all
    }

    /// Every role that matters: with frameworks, reservations, a quota, a weight or a policy of its own, and
    /// those around them.
    #[must_use]
    pub fn roles_known(&self) -> BTreeSet<RoleName> {
        let mut known: BTreeSet<RoleName> = BTreeSet::new();
        for fw in self.frameworks.values() {
            known.extend(fw.clients.keys().cloned());
        }
        for agent in self.agents.values() {
            for (terms, bundle) in agent.account.total().piles() {
                if has_scalars(bundle) {
                    known.extend(terms.reserved.last().cloned());
                }
            }
        }
        let roles = &self.handles.roles;
        known.extend(roles.weighted().map(|(role, _)| role.clone()));
        known.extend(roles.with_quota().map(|(role, _)| role.clone()));
        known.extend(self.roles_with_policies().cloned());
        let ancestors: Vec<RoleName> = known.iter().flat_map(way_up).collect();
        known.extend(ancestors);
        known
    }

    /// All known roles.
    #[must_use]
    pub fn role_views(&self) -> Vec<RoleView> {
        let mut sums = self.all_role_sums();
        let view = |name: RoleName| RoleView {
            weight: self.handles.roles.weight(&name),
            quotas: self.handles.roles.quota(&name).to_vec(),
            sums: sums.remove(&name).unwrap_or_default(),
            name,
        };
        self.roles_known().into_iter().map(view).collect()
    }

    /// Decline filters in force per role.
    #[must_use]
    pub fn filters_by_role(&self) -> BTreeMap<RoleName, usize> {
        let mut counts = BTreeMap::new();
        for filter in self.filters.all() {
            if let Some((_, role)) = self.handles.owner(filter.client) {
                *counts.entry(role.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// What all agents have, and what of it is on offer or in use.
    #[must_use]
    pub fn pool_use(&self) -> (Amounts, Amounts) {
        let (mut total, mut taken) = (Amounts::new(), Amounts::new());
        for agent in self.agents.values() {
            add(&mut total, &agent.account.total().total());
            let mut held = Resources::none();
            for (_, one) in agent.account.held() {
                join(&mut held, &one.used, agent.account.total());
                join(&mut held, &one.offered, agent.account.total());
            }
            add(&mut taken, &held.total());
        }
        (total, taken)
    }

    /// What a framework holds under a role on an agent: on offer, in use.
    #[must_use]
    pub fn holding(
        &self,
        framework: &str,
        role: &RoleName,
        agent: AgentId,
    ) -> (Resources, Resources) {
        let id = self.names.get(framework).or(self.expected.get(framework));
        let held = id
            .and_then(|id| self.handles.find_client(*id, role))
            .and_then(|client| self.agents.get(&agent)?.account.held_by(client));
        held.map(|held| (held.offered.clone(), held.used.clone()))
            .unwrap_or_default()
    }

    /// All that the pool has and that is not revocable.
    pub(crate) fn capacity(&self) -> Amounts {
        let mut capacity = Amounts::new();
        for agent in self.agents.values() {
            let firm = agent.account.total().only(|terms| !terms.marks.revocable);
            add(&mut capacity, &firm.total());
        }
        capacity
    }

    /// Whether an agent is offered at all.
    pub(crate) fn is_offered(&self, id: AgentId, agent: &Agent) -> bool {
        agent.is_active() && !agent.deactivated && self.is_allowed(id)
    }

    pub(crate) fn is_allowed(&self, id: AgentId) -> bool {
        self.allowed
            .as_ref()
            .is_none_or(|allowed| allowed.contains(&id))
    }
}

/// A role and those around it.
fn way_up(role: &RoleName) -> Vec<RoleName> {
    std::iter::successors(Some(role.clone()), RoleName::parent).collect()
}

/// Adds what is held of an agent's total; a volume that several hold, or one often, but once.
fn join(sum: &mut Resources, held: &Resources, total: &Resources) {
    for (terms, bundle) in held.piles() {
        if !terms.marks.shared {
            sum.add_pile(terms, bundle);
        } else if sum.get(terms).is_none() {
            sum.add_pile(terms, total.get(terms).unwrap_or(bundle));
        }
    }
}

/// Adds a bundle's amounts, items counted.
pub(crate) fn add(sum: &mut Amounts, bundle: &Bundle) {
    for (kind, amount) in bundle.amounts() {
        *sum.entry(kind.to_owned()).or_default() += amount;
    }
}

fn has_scalars(bundle: &Bundle) -> bool {
    let mut scalars = bundle.clone();
    scalars.ports = proffer_model::Ranges::default();
    scalars
        .other
        .retain(|_, quantity| matches!(quantity, proffer_model::Quantity::Scalar(_)));
    !scalars.is_empty()
}
