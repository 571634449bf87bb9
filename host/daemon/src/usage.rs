//! How much of the pool is used, and who used how much over time: a bounded series of samples.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proffer_core::{Core, Sums};
use proffer_model::{AgentId, Amount, Bundle, Duration as Span, Timestamp};
use proffer_rpc::operator::{FrameworkUsage, Usage};

/// Samples kept: an hour at the finest grain.
const SAMPLES_MAX: usize = 18_000;
/// Between two looks at the pool. A look at a small one makes a sample.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Agents up to which every sample is kept.
const SMALL_POOL_AGENTS: usize = 1_000;
/// Between two samples that are kept in a larger pool.
const KEPT_EVERY: Span = Span::from_secs(5);
/// Agents of one look: two milliseconds. A sample of a larger pool takes several.
const AGENTS_AT_ONCE: usize = 2_000;

/// The series. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct UsageSeries(Arc<Mutex<Samples>>);

#[derive(Debug, Default)]
struct Samples {
    all: VecDeque<(Timestamp, BTreeMap<Arc<str>, u32>)>,
    /// The last sample's, and over how many agents.
    sums: Option<(Arc<Sums>, usize)>,
    /// The next one's, over agents up to this one.
    next: Sums,
    up_to: Option<AgentId>,
}

impl Samples {
    fn add(&mut self, core: &Core, now: Timestamp, sums: &Sums) {
        let last = self.all.back().map(|(at, _)| *at);
        let is_early = last.is_some_and(|at| now.since(at) < KEPT_EVERY);
        if is_early && core.agent_count() > SMALL_POOL_AGENTS {
            return;
        }
        let share = |used: &Bundle| share_milli(used, &sums.total);
        let held = sums.frameworks.iter();
        let shares =
            held.filter_map(|(id, (used, _))| Some((core.framework_name(*id)?, share(used))));
        self.all.push_back((now, shares.collect()));
        if self.all.len() > SAMPLES_MAX {
            self.all.pop_front();
        }
    }
}

impl UsageSeries {
    /// Looks at some agents; with the last of them it is a sample.
    pub(crate) fn look(&self, core: &Core, now: Timestamp) {
        let mut samples = self.samples();
        let from = samples.up_to;
        samples.up_to = core.add_up(&mut samples.next, from, AGENTS_AT_ONCE);
        if samples.up_to.is_none() {
            let sums = std::mem::take(&mut samples.next);
            samples.add(core, now, &sums);
            samples.sums = Some((Arc::new(sums), core.agent_count()));
        }
    }

    /// What the pool has and who holds it: of a small one now, of a large one at the last sample. To look at each
    /// agent for everybody who asks would be all that the host does.
    pub(crate) fn sums(&self, core: &Core) -> Arc<Sums> {
        let mut samples = self.samples();
        let agents = core.agent_count();
        let is_old = |of: usize| agents < AGENTS_AT_ONCE || agents / 2 > of;
        match &samples.sums {
            Some((sums, of)) if !is_old(*of) => Arc::clone(sums),
            _ => {
                let sums = Arc::new(core.sums());
                samples.sums = Some((Arc::clone(&sums), agents));
                sums
            }
        }
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The samples since a time, in columns.
    pub(crate) fn since(&self, since: Timestamp) -> Usage {
        let samples = self.samples();
        let part: Vec<_> = samples.all.iter().filter(|(at, _)| *at >= since).collect();
        let mut rows: BTreeMap<Arc<str>, Vec<u32>> = BTreeMap::new();
        for (index, (_, shares)) in part.iter().enumerate() {
            for (name, share) in shares {
                let row = rows.entry(Arc::clone(name)).or_default();
                row.resize(index, 0);
                row.push(*share);
            }
        }
        let times: Vec<Timestamp> = part.iter().map(|(at, _)| *at).collect();
        let frameworks = rows.into_iter().map(|(framework, mut share_milli)| {
            share_milli.resize(times.len(), 0);
            FrameworkUsage {
                framework: framework.to_string(),
                share_milli,
            }
        });
        Usage {
            frameworks: frameworks.collect(),
            times,
        }
    }
}

/// The dominant share: of the kind that is used most of, in thousandths.
pub(crate) fn share_milli(used: &Bundle, total: &Bundle) -> u32 {
    let of = |used: Amount, total: Amount| {
        let (used, total) = (i128::from(used.milli()), i128::from(total.milli()));
        if total <= 0 { 0 } else { used * 1_000 / total }
    };
    let shares = [
        of(used.cpus, total.cpus),
        of(used.mem, total.mem),
        of(used.disk, total.disk),
        of(used.gpus, total.gpus),
    ];
    u32::try_from(shares.into_iter().max().unwrap_or(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_the_scarcest_kind() {
        let total: Bundle = "cpus:10;mem:1000".parse().unwrap();
        assert_eq!(share_milli(&"cpus:1;mem:500".parse().unwrap(), &total), 500);
        assert_eq!(share_milli(&"gpus:1".parse().unwrap(), &total), 0);
        assert_eq!(share_milli(&Bundle::default(), &Bundle::default()), 0);
    }
}
