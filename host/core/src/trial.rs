//! A policy in the shadow of the one that decides: it is asked the same, and what it would have done is
//! compared with what was proposed.

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_codec::codec_struct;
use proffer_model::policy::Proposal;
use proffer_model::{Bundle, Duration, Reason, RoleName, Timestamp};

use crate::allocation::judge::Summary;
use crate::event::PolicyIdentity;
use crate::machine::Core;
use crate::reclaims::ReclaimSums;
use crate::swap::Stage;

mod beside;

use beside::Beside;

/// Cycles of which one of the two has answered and the other has not; beyond, the oldest is left out.
const UNPAIRED_MAX: usize = 64;

/// What two policies did in the same cycles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Cycles that both answered.
    pub cycles: u64,
    /// Of those with the very same grants.
    pub alike: u64,
    /// Per role.
    pub roles: BTreeMap<RoleName, RoleCompared>,
    /// Demands with a grant, summed over cycles: of the running policy, of the candidate.
    pub demands: (u64, u64),
    /// Demands that wanted something, summed over cycles.
    pub wanting: u64,
    /// Reclaims: of the running policy, of the candidate.
    pub reclaims: (u64, u64),
    /// From which role for which, each proposal once: of the running policy, of the candidate.
    pub taken: (ReclaimSums, ReclaimSums),
    /// The longest wait of demand that fits somewhere: with the running policy, and how long the candidate
    /// has granted nothing to such demand.
    pub longest_wait: (Duration, Duration),
    /// How often shares were looked at.
    pub looks: u64,
    /// Grants about what there is not: of the running policy, of the candidate.
    pub invalid: (u64, u64),
}

codec_struct!(Compared {
    cycles,
    alike,
    roles,
    demands,
    wanting,
    reclaims,
    taken,
    longest_wait,
    looks,
    invalid
});

/// What two policies granted to a role, subroles apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleCompared {
    /// Grants of the running policy, of the candidate.
    pub grants: (u64, u64),
    /// What they come to.
    pub amounts: (Bundle, Bundle),
    /// Its dominant share of the pool with what it holds and is granted, in millionths, summed over looks.
    pub shares: (u64, u64),
}

codec_struct!(RoleCompared {
    grants,
    amounts,
    shares
});

/// A trial, under way or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The candidate.
    pub candidate: Arc<PolicyIdentity>,
    /// When it ends, or ended.
    pub until: Timestamp,
    /// What came of it so far.
    pub compared: Compared,
    /// It has ended.
    pub ended: bool,
    /// It ended because of this.
    pub failed: Option<Reason>,
}

codec_struct!(Trial {
    candidate,
    until,
    compared,
    ended,
    failed
});

/// The trial that is under way or was last, and what of it waits for its other half.
#[derive(Debug, Default)]
pub(crate) struct Trials {
    pub(crate) last: Option<Trial>,
    own: BTreeMap<u64, (Summary, u64)>,
    others: BTreeMap<u64, Summary>,
    pub(crate) beside: Beside,
}

codec_struct!(Trials {
    last,
    own,
    others,
    beside
});

impl Core {
    /// The trial that is under way, or the last one since the host started.
    #[must_use]
    pub fn policy_trial(&self) -> Option<&Trial> {
        self.allocation.swaps.trials.last.as_ref()
    }

    pub(crate) fn begin_shadow(&mut self, candidate: Arc<PolicyIdentity>, until: Timestamp) {
        self.allocation.swaps.trials = Trials {
            last: Some(Trial {
                candidate,
                until,
                compared: Compared::default(),
                ended: false,
                failed: None,
            }),
            ..Trials::default()
        };
    }

    pub(crate) fn end_shadow(&mut self, failed: Option<Reason>) {
        let now = self.now;
        let trials = &mut self.allocation.swaps.trials;
        if let Some(trial) = trials.last.as_mut().filter(|trial| !trial.ended) {
            trial.until = now;
            trial.ended = true;
            trial.failed = failed;
        }
        trials.own.clear();
        trials.others.clear();
        trials.beside = Beside::default();
    }

    /// The running policy proposed this, and nothing of it is done yet.
    pub(crate) fn compare_own(&mut self, cycle: u64, proposal: &Proposal) {
        if self.in_shadow().is_none() {
            return;
        }
        // What cannot be read is a fault of the cycle, told elsewhere.
        let Ok(summary) = self.summary_of(proposal) else {
            return;
        };
        let wanting = self.feed.wanting.len() as u64;
        let trials = &mut self.allocation.swaps.trials;
        trials.own.insert(cycle, (summary, wanting));
        if trials.own.len() > UNPAIRED_MAX {
            trials.own.pop_first();
        }
        self.compare(cycle);
    }

    /// The candidate would have proposed this.
    pub(crate) fn candidate_proposed(&mut self, number: u64, cycle: u64, proposal: &Proposal) {
        if self.canary_proposed(number, cycle, proposal) || self.in_shadow() != Some(number) {
            return;
        }
        match self.summary_of(proposal) {
            Ok(summary) => {
                let trials = &mut self.allocation.swaps.trials;
                trials.others.insert(cycle, summary);
                if trials.others.len() > UNPAIRED_MAX {
                    trials.others.pop_first();
                }
                self.compare(cycle);
            }
            Err(fault) => self.candidate_failed(number, fault),
        }
    }

    /// The candidate that is asked beside the running policy.
    fn in_shadow(&self) -> Option<u64> {
        let candidate = self.allocation.swaps.candidate.as_ref()?;
        (candidate.stage == Stage::Shadowing).then_some(candidate.swap.candidate)
    }

    fn compare(&mut self, cycle: u64) {
        let trials = &mut self.allocation.swaps.trials;
        if !trials.own.contains_key(&cycle) || !trials.others.contains_key(&cycle) {
            return;
        }
        let own = trials.own.remove(&cycle);
        let other = trials.others.remove(&cycle);
        let (Some((own, wanting)), Some(other), Some(trial)) = (own, other, &mut trials.last)
        else {
            return;
        };
        let sum = &mut trial.compared;
        sum.cycles += 1;
        sum.alike += u64::from(own.grants == other.grants);
        sum.wanting += wanting;
        sum.demands.0 += own.demands.len() as u64;
        sum.demands.1 += other.demands.len() as u64;
        sum.reclaims.0 += own.reclaims;
        sum.reclaims.1 += other.reclaims;
        sum.invalid.0 += own.invalid;
        sum.invalid.1 += other.invalid;
        for (role, (grants, amounts)) in &own.roles {
            let row = sum.roles.entry(role.clone()).or_default();
            row.grants.0 += grants;
            row.amounts.0.add(amounts);
        }
        for (role, (grants, amounts)) in &other.roles {
            let row = sum.roles.entry(role.clone()).or_default();
            row.grants.1 += grants;
            row.amounts.1.add(amounts);
        }
        self.compare_beside(&own, &other);
    }
}
