//! What two policies come to beside their grants: shares, waits, and what they would take back.
//!
//! Only the running policy's grants become offers, so the candidate's shares are those of what is held now
//! and what it would add, and its waits are of demand that fits and that it passes over.

use std::collections::{BTreeMap, BTreeSet};

use proffer_codec::codec_struct;
use proffer_model::{Amount, Bundle, Duration, RoleName, Timestamp};

use crate::allocation::judge::Summary;
use crate::machine::Core;
use crate::reclaims::{Key, ReclaimSums, WouldTake, sum_up};

/// Between two looks at shares, each of which goes through all that is held.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Demands that a candidate passes over, and reclaims, that are followed at once.
const FOLLOWED_MAX: usize = 10_000;

/// What a comparison remembers between cycles.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Demand that fits and that the candidate does not grant: since when it stands, and is passed over.
    passed_over: BTreeMap<u32, (Timestamp, Timestamp)>,
    /// Reclaims that were counted: of the running policy, of the candidate.
    counted: (BTreeSet<Key>, BTreeSet<Key>),
    looked_at: Timestamp,
}

codec_struct!(Beside {
    passed_over,
    counted,
    looked_at
});

impl Core {
    /// Both answers to a cycle are there.
    pub(super) fn compare_beside(&mut self, own: &Summary, other: &Summary) {
        let longest = self.waits().longest;
        let fitting = self.demands_that_fit(own);
        let shares = self.shares_with(own, other);
        let trials = &mut self.allocation.swaps.trials;
        let Some(trial) = &mut trials.last else {
            return;
        };
        let (sum, beside) = (&mut trial.compared, &mut trials.beside);
        count_new(&mut sum.taken.0, &mut beside.counted.0, &own.takes);
        count_new(&mut sum.taken.1, &mut beside.counted.1, &other.takes);
        let now = self.now;
        let passed_over = &mut beside.passed_over;
        passed_over.retain(|handle, (stands, _)| {
            fitting.get(handle) == Some(stands) && !other.demands.contains(handle)
        });
        for (handle, stands) in fitting {
            if !other.demands.contains(&handle) && passed_over.len() < FOLLOWED_MAX {
                passed_over.entry(handle).or_insert((stands, now));
            }
        }
        let longest_passed = passed_over
            .values()
            .map(|(_, since)| now.since(*since))
            .max();
        sum.longest_wait.0 = sum.longest_wait.0.max(longest);
        sum.longest_wait.1 = sum.longest_wait.1.max(longest_passed.unwrap_or_default());
        let Some(shares) = shares else { return };
        sum.looks += 1;
        for (role, (its, others)) in shares {
            let row = sum.roles.entry(role).or_default();
            row.shares.0 += its;
            row.shares.1 += others;
        }
    }

    /// Demand that fits somewhere, and since when it stands: it waits, or is granted.
    fn demands_that_fit(&self, own: &Summary) -> BTreeMap<u32, Timestamp> {
        let handles = self.demands_waiting().chain(own.demands.iter().copied());
        let standing = handles.filter_map(|handle| Some((handle, self.standing_demand(handle)?)));
        standing
            .map(|(handle, found)| (handle, found.since))
            .collect()
    }

    /// Roles' dominant shares in millionths, with what either policy would add; sub-roles apart. None: they
    /// were looked at a moment ago.
    fn shares_with(
        &mut self,
        own: &Summary,
        other: &Summary,
    ) -> Option<BTreeMap<RoleName, (u64, u64)>> {
        let now = self.now;
        let beside = &mut self.allocation.swaps.trials.beside;
        if now.since(beside.looked_at) < LOOK_EVERY {
            return None;
        }
        beside.looked_at = now;
        let mut held: BTreeMap<RoleName, Bundle> = BTreeMap::new();
        for agent in self.agents.values() {
            for (client, part) in agent.account.held() {
                if let Some((_, role)) = self.handles.owner(client) {
                    let sum = held.entry(role.clone()).or_default();
                    sum.add(&part.used.total());
                    sum.add(&part.offered.total());
                }
            }
        }
        let granted = own.roles.keys().chain(other.roles.keys());
        for role in granted.cloned().collect::<Vec<_>>() {
            held.entry(role).or_default();
        }
        let total = self.pool_total();
        let with = |held: &Bundle, summary: &Summary, role: &RoleName| {
            let mut sum = held.clone();
            if let Some((_, more)) = summary.roles.get(role) {
                sum.add(more);
            }
            dominant_micro(&sum, &total)
        };
        let shares = held.iter().map(|(role, held)| {
            let both = (with(held, own, role), with(held, other, role));
            (role.clone(), both)
        });
        Some(shares.collect())
    }
}

/// Of the kind of which there is most, in millionths.
fn dominant_micro(part: &Bundle, total: &Bundle) -> u64 {
    let totals: BTreeMap<&str, Amount> = total.amounts().collect();
    let share = |(kind, amount): (&str, Amount)| {
        let all = totals.get(kind).map_or(0, |all| all.milli());
        let micro = i128::from(amount.milli()) * 1_000_000 / i128::from(all.max(1));
        u64::try_from(micro).unwrap_or_default().min(1_000_000)
    };
    part.amounts().map(share).max().unwrap_or_default()
}

fn count_new(
    sums: &mut ReclaimSums,
    counted: &mut BTreeSet<Key>,
    takes: &BTreeMap<Key, WouldTake>,
) {
    let mut new = Vec::new();
    for (key, take) in takes {
        if counted.len() < FOLLOWED_MAX && counted.insert(*key) {
            new.push(take.clone());
        }
    }
    sum_up(sums, &new);
}
