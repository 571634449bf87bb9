//! Who used how much of the pool, over time: a bounded series of samples.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proffer_core::Core;
use proffer_model::{Amount, Bundle, Timestamp};
use proffer_rpc::operator::{FrameworkUsage, Usage};

/// Samples kept: an hour at the finest grain.
const SAMPLES_MAX: usize = 18_000;
/// Between two samples in a small pool.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// Agents up to which a pool is small: a sample looks at each of them.
const SMALL_POOL_AGENTS: usize = 1_000;
/// Of so many chances in a large pool, one is taken.
const LARGE_POOL_EVERY: u64 = 25;

/// The series. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct UsageSeries(Arc<Mutex<Samples>>);

#[derive(Debug, Default)]
struct Samples {
    all: VecDeque<(Timestamp, BTreeMap<Arc<str>, u32>)>,
    chances: u64,
}

impl UsageSeries {
    /// Takes a sample, if it is time for one.
    pub(crate) fn sample(&self, core: &Core, now: Timestamp) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.chances += 1;
        let large = core.agent_count() > SMALL_POOL_AGENTS;
        if large && samples.chances % LARGE_POOL_EVERY != 1 {
            return;
        }
        let total = core.pool_total();
        let shares = core
            .used_by_framework()
            .into_iter()
            .filter_map(|(id, used)| Some((core.framework_name(id)?, share_milli(&used, &total))))
            .collect();
        samples.all.push_back((now, shares));
        if samples.all.len() > SAMPLES_MAX {
            samples.all.pop_front();
        }
    }

    /// The samples since a time, in columns.
    pub(crate) fn since(&self, since: Timestamp) -> Usage {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
