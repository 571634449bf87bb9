//! An agent's fragmentation, and by how much a unit makes it grow.

use proffer_model::policy::Demand;

use super::seen::{Seen, shape_of};
use crate::draft::Draft;

/// The shapes that free resources are measured by.
#[derive(Debug)]
pub(super) struct Gradient {
    scarce: u32,
    /// Kinds that any shape asks for, and the scarce one.
    kinds: Vec<u32>,
    /// Amounts in the order of `kinds`, and how often.
    shapes: Vec<(Vec<i64>, i64)>,
}

impl Gradient {
    /// Of the shapes that ask for some of the scarce kind.
    pub(super) fn new(scarce: u32, seen: &Seen) -> Self {
        let asks =
            |shape: &[(u32, i64)]| shape.iter().any(|piece| piece.0 == scarce && piece.1 > 0);
        let shapes = seen.shapes.iter().filter(|(shape, _)| asks(shape));
        let mut kinds: Vec<u32> = shapes
            .clone()
            .flat_map(|(shape, _)| shape.iter().map(|piece| piece.0))
            .chain([scarce])
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        let amounts = |shape: &[(u32, i64)]| -> Vec<i64> {
            let of = |kind: &u32| shape.iter().find(|piece| piece.0 == *kind);
            kinds
                .iter()
                .map(|kind| of(kind).map_or(0, |piece| piece.1))
                .collect()
        };
        let shapes = shapes
            .map(|(shape, units)| (amounts(shape), *units))
            .collect();
        Self {
            scarce,
            kinds,
            shapes,
        }
    }

    /// One unit of a demand, by kind.
    pub(super) fn shape(&self, demand: &Demand) -> Vec<(u32, i64)> {
        shape_of(demand)
    }

    /// What is free of the scarce kind on an agent, times the units that do not fit there.
    pub(super) fn lost(&self, draft: &Draft<'_>, agent: u32) -> i64 {
        self.lost_of(&self.free(draft, agent))
    }

    /// By how much one unit there makes that grow.
    pub(super) fn growth(&self, draft: &Draft<'_>, agent: u32, unit: &[(u32, i64)]) -> i64 {
        let before = self.free(draft, agent);
        let mut after = before.clone();
        match unit.is_empty() {
            // All that is free.
            true => after.fill(0),
            false => {
                for (free, kind) in after.iter_mut().zip(&self.kinds) {
                    let taken = unit.iter().find(|piece| piece.0 == *kind);
                    *free = free.saturating_sub(taken.map_or(0, |piece| piece.1)).max(0);
                }
            }
        }
        self.lost_of(&after).saturating_sub(self.lost_of(&before))
    }

    fn free(&self, draft: &Draft<'_>, agent: u32) -> Vec<i64> {
        let kinds = self.kinds.iter();
        kinds.map(|&kind| draft.free_on(agent, kind)).collect()
    }

    fn lost_of(&self, free: &[i64]) -> i64 {
        let scarce = self
            .kinds
            .iter()
            .zip(free)
            .find(|(kind, _)| **kind == self.scarce);
        let scarce = scarce.map_or(0, |(_, free)| *free);
        if scarce <= 0 {
            return 0;
        }
        let fits = |shape: &[i64]| shape.iter().zip(free).all(|(asked, free)| asked <= free);
        let unfit = self.shapes.iter().filter(|(shape, _)| !fits(shape));
        let units = unfit.fold(0, |sum: i64, (_, units)| sum.saturating_add(*units));
        scarce.saturating_mul(units)
    }
}
