//! What a pool's operator sets for all policies that use the draft.

use proffer_model::Amount;

use crate::cluster::Cluster;

/// Whether what frameworks say that they could use is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DemandUse {
    /// A client without demand is granted nothing, one with demand what it asks for.
    #[default]
    Honour,
    /// Whole agents to everybody, as Mesos does.
    Ignore,
}

/// The rules of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether demand is looked at.
    pub demand: DemandUse,
    /// Alternatives, by kind name: a whole agent's rest that reaches none of them is not worth an
    /// offer. None at all: everything is. Units that were demanded are worth what they are.
    pub minimum: Vec<Vec<(String, Amount)>>,
    /// Agents with gpus are kept for clients that ask for gpus.
    pub gpu_guard: bool,
    /// The pool's own region: agents of others are kept from clients that do not know of regions.
    /// Empty: no difference.
    pub region: String,
    /// Quota binds at every depth, and a parent's bounds its subtree; otherwise, as in Mesos, only
    /// that of top-level roles counts.
    pub nested_quota: bool,
}

impl Default for Rules {
    fn default() -> Self {
        let least = |kind: &str, amount| vec![(kind.to_owned(), amount)];
        Self {
            demand: DemandUse::default(),
            // Mesos's own: a hundredth of a processor, or 32 MiB of memory.
            minimum: vec![
                least("cpus", Amount::from_milli(10)),
                least("mem", Amount::from_units(32)),
            ],
            gpu_guard: true,
            region: String::new(),
            nested_quota: true,
        }
    }
}

impl Rules {
    /// Whether an agent's region is another than the pool's.
    pub(crate) fn is_foreign(&self, region: &str) -> bool {
        !self.region.is_empty() && !region.is_empty() && self.region != region
    }

    /// The minimum with handles. An alternative that names a kind which the pool does not have
    /// cannot be reached.
    pub(crate) fn minimum_by_kind(&self, cluster: &Cluster) -> Vec<Vec<(u32, i64)>> {
        let handle = |name: &str| cluster.kinds().find(|kind| kind.name == name);
        let resolve = |alternative: &Vec<(String, Amount)>| {
            let pieces = alternative.iter().map(|(name, amount)| {
                let kind = handle(name).map_or(proffer_model::policy::NONE, |kind| kind.handle);
                (kind, amount.milli())
            });
            pieces.collect()
        };
        self.minimum.iter().map(resolve).collect()
    }
}
