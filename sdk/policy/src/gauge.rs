//! How full an agent is, over all kinds at once.

use crate::cluster::Cluster;
use crate::draft::Draft;

/// A mean agent's amount of a kind counts so much: fine enough to tell a thousandth of a processor
/// of an agent with sixty-four.
const MEAN: i64 = 1 << 16;

/// Kinds, and what an agent of this pool has of each on average: a kind that is scarce in the pool
/// weighs more.
#[derive(Debug)]
pub(crate) struct Gauge {
    means: Vec<(u32, i64)>,
}

impl Gauge {
    /// Of all kinds that are amounts.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let agents = i64::try_from(cluster.agents().count()).unwrap_or(i64::MAX);
        let kinds = cluster.kinds().filter(|kind| !kind.counted);
        let means = kinds
            .map(|kind| (kind.handle, cluster.total(kind.handle)))
            .filter(|(_, total)| *total > 0)
            .map(|(kind, total)| (kind, (total / agents.max(1)).max(1)));
        Self {
            means: means.collect(),
        }
    }

    /// What is free on an agent, each kind against the mean agent's.
    pub(crate) fn free(&self, draft: &Draft<'_>, agent: u32) -> i64 {
        let parts = self
            .means
            .iter()
            .map(|&(kind, mean)| draft.free_on(agent, kind).saturating_mul(MEAN) / mean);
        parts.fold(0, i64::saturating_add)
    }
}
