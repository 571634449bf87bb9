//! What the pool has and who holds it, summed up agent by agent: all at once, or some agents at a time, for
//! a large pool takes longer to look through than an event may.

use std::collections::BTreeMap;

use proffer_model::{AgentId, Amount, Bundle, FrameworkId, Quantity, Resources};

use crate::machine::Core;

/// Sums over agents. Scalars alone: which ports and items there are is each agent's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// What agents have.
    pub total: Bundle,
    /// What is on offer.
    pub offered: Bundle,
    /// What tasks hold.
    pub used: Bundle,
    /// Tasks that have not ended.
    pub tasks: usize,
    /// What each framework holds: used, and on offer.
    pub frameworks: BTreeMap<FrameworkId, (Bundle, Bundle)>,
}

impl Core {
    /// Over all agents.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        self.add_up(&mut sums, None, usize::MAX);
        sums
    }

    /// Adds so many agents at most, by id, those after `after`. Answers the last one if there may be more.
    pub fn add_up(&self, sums: &mut Sums, after: Option<AgentId>, most: usize) -> Option<AgentId> {
        let from = after.map_or(0, |id| id.0.saturating_add(1));
        let mut last = None;
        let mut looked_at = 0;
        for (id, agent) in self.agents.range(AgentId(from)..).take(most) {
            let account = &agent.account;
            add_scalars(&mut sums.total, account.total());
            sums.tasks += agent.launches.len();
            for (client, held) in account.held() {
                add_scalars(&mut sums.offered, &held.offered);
                add_scalars(&mut sums.used, &held.used);
                if let Some((framework, _)) = self.handles.owner(client) {
                    let own = sums.frameworks.entry(*framework).or_default();
                    add_scalars(&mut own.0, &held.used);
                    add_scalars(&mut own.1, &held.offered);
                }
            }
            last = Some(*id);
            looked_at += 1;
        }
        last.filter(|_| looked_at == most)
    }
}

/// Adds what there is under whatever terms.
pub(crate) fn add_scalars(sum: &mut Bundle, resources: &Resources) {
    for (_, bundle) in resources.piles() {
        sum.cpus += bundle.cpus;
        sum.mem += bundle.mem;
        sum.disk += bundle.disk;
        sum.gpus += bundle.gpus;
        for (kind, quantity) in &bundle.other {
            if let Quantity::Scalar(amount) = quantity {
                let own = sum.other.entry(kind.clone());
                if let Quantity::Scalar(sum) = own.or_insert(Quantity::Scalar(Amount::ZERO)) {
                    *sum += *amount;
                }
            }
        }
    }
}
