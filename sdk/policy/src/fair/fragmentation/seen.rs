//! What has been asked for, and how often: what free resources have to be of use for.

use proffer_model::policy::{Changes, Demand, Noun};

use crate::cluster::Cluster;

/// Shapes that are remembered, the most frequent: each is compared with each agent at every turn.
const SHAPES_MAX: usize = 64;

/// Shapes by how many units of them were asked for since the snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Kinds and amounts, and units.
    pub(super) shapes: Vec<(Vec<(u32, i64)>, i64)>,
    /// By demand handle: how many units it asked for last.
    counts: Vec<u32>,
    /// Of which [`Cluster::generation`].
    generation: u64,
}

impl Seen {
    /// Counts what demands have grown by.
    pub(super) fn add(&mut self, cluster: &Cluster, changes: &Changes) {
        if self.generation != cluster.generation() {
            *self = Self {
                generation: cluster.generation(),
                ..Self::default()
            };
        }
        let gone = changes.removed.iter();
        for gone in gone.filter(|gone| gone.what == Noun::Demand) {
            self.set_count(gone.handle, 0);
        }
        for row in &changes.demands {
            // As the cluster took it, if it did.
            let Some(demand) = cluster.demand(row.handle) else {
                continue;
            };
            let before = self.counts.get(row.handle as usize).copied().unwrap_or(0);
            self.set_count(demand.handle, demand.count);
            let grown = demand.count.saturating_sub(before);
            if grown > 0 && !demand.pieces.is_empty() {
                self.count(shape_of(demand), grown.into());
            }
        }
    }

    fn set_count(&mut self, demand: u32, count: u32) {
        let index = demand as usize;
        if index >= self.counts.len() {
            if count == 0 {
                return;
            }
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = count;
    }

    fn count(&mut self, shape: Vec<(u32, i64)>, units: i64) {
        if let Some(known) = self.shapes.iter_mut().find(|(known, _)| *known == shape) {
            known.1 = known.1.saturating_add(units);
            return;
        }
        if self.shapes.len() < SHAPES_MAX {
            return self.shapes.push((shape, units));
        }
        // The rarest makes room, and leaves its count: a newcomer that goes on coming then stays, one
        // that came once is the next to go.
        let rarest = (0..self.shapes.len()).min_by_key(|&at| self.shapes[at].1);
        if let Some(rarest) = rarest.and_then(|at| self.shapes.get_mut(at)) {
            *rarest = (shape, rarest.1.saturating_add(units));
        }
    }
}

/// One unit by kind, kinds ascending.
pub(super) fn shape_of(demand: &Demand) -> Vec<(u32, i64)> {
    let mut shape: Vec<(u32, i64)> = Vec::new();
    for piece in &demand.pieces {
        match shape.iter_mut().find(|(kind, _)| *kind == piece.kind) {
            Some(known) => known.1 = known.1.saturating_add(piece.amount.milli()),
            None => shape.push((piece.kind, piece.amount.milli())),
        }
    }
    shape.sort_unstable();
    shape
}
