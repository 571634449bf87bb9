//! Policies on record: those that were put in, the one that a failing one gives its seat back to, and what
//! they carry.

use std::sync::Arc;

use proffer_model::fact::{Fact, PolicyCause, PolicyRecord};
use proffer_model::policy::Section;
use proffer_model::{Duration, Reason, Remedy, code};

use crate::action::Action;
use crate::event::PolicyIdentity;
use crate::machine::Core;

/// Records of policies that are kept: years of swaps by hand, and a page of them.
const HISTORY_MAX: usize = 100;
/// How often a running policy is asked what a successor should know: it may trap before the next
/// time, and a minute of decayed usage is little.
const CARRY_EVERY: Duration = Duration::from_secs(60);
/// The contract's bound on what is carried.
const CARRIED_BYTES_MAX: usize = 1 << 20;
/// Who puts policies in when nobody asks for it.
pub(crate) const HOST: &str = "the host";

impl Core {
    /// Before the first swap the policy that decided is put on record, so that it can be gone back to.
    pub(crate) fn remember_first(&mut self) {
        if !self.allocation.swaps.history.is_empty() {
            return;
        }
        let identity = match &self.allocation.loaded {
            Some(loaded) => Arc::clone(&loaded.identity),
            None => Arc::new(PolicyIdentity::native()),
        };
        let record = self.record(&identity, PolicyCause::Settings, None);
        self.remember(record);
    }

    pub(crate) fn record(
        &self,
        identity: &PolicyIdentity,
        cause: PolicyCause,
        before: Option<u64>,
    ) -> PolicyRecord {
        let PolicyIdentity {
            name,
            version,
            digest,
            config,
        } = identity.clone();
        PolicyRecord {
            number: self.next_record_number(),
            name,
            version,
            digest,
            config,
            by: HOST.to_owned(),
            at: self.now,
            cause,
            why: String::new(),
            guards: Vec::new(),
            before,
        }
    }

    pub(crate) fn next_record_number(&self) -> u64 {
        let last = self.policy_history().next_back();
        last.map_or(1, |last| last.number + 1)
    }

    pub(crate) fn remember(&mut self, record: PolicyRecord) {
        self.facts.push(Fact::PolicySet(Box::new(record.clone())));
        self.replay_policy(record);
    }

    pub(crate) fn replay_policy(&mut self, record: PolicyRecord) {
        let history = &mut self.allocation.swaps.history;
        history.push_back(record);
        if history.len() <= HISTORY_MAX {
            return;
        }
        // However many canaries came and went, who has the seat stays known, and whom it goes back to.
        let kept = self.policy_record().map(|seat| (seat.number, seat.before));
        let goes = |record: &PolicyRecord| {
            kept.is_none_or(|(seat, before)| record.number != seat && Some(record.number) != before)
        };
        let history = &mut self.allocation.swaps.history;
        if let Some(oldest) = history.iter().position(goes) {
            history.remove(oldest);
        }
    }

    /// A cycle of the loaded policy went well.
    pub(crate) fn policy_does_well(&mut self) {
        let now = self.now;
        let swaps = &mut self.allocation.swaps;
        swaps.probation = swaps.probation.saturating_sub(1);
        if now.since(swaps.carried_at) >= CARRY_EVERY {
            swaps.carried_at = now;
            self.emit(Action::CarryPolicy);
        }
    }

    pub(crate) fn policy_carried_over(&mut self, sections: Vec<Section>) {
        if sections == self.allocation.swaps.carried {
            return;
        }
        let bytes = bytes_of(&sections);
        if bytes > CARRIED_BYTES_MAX {
            let text = format!("the policy carries {bytes} bytes, more than {CARRIED_BYTES_MAX}");
            return self.note(None, Reason::new(code::LIMIT, Remedy::Mend, text));
        }
        self.facts.push(Fact::PolicyCarried {
            sections: sections.clone(),
        });
        self.replay_carried(sections);
    }

    pub(crate) fn replay_carried(&mut self, sections: Vec<Section>) {
        self.allocation.swaps.carried = sections;
    }

    /// The loaded policy failed. False: it has its time yet, or there is none to go back to.
    pub(crate) fn take_policy_back(&mut self, fault: &Reason, failures: u32) -> bool {
        let on_probation = self.allocation.swaps.probation > 0;
        if !on_probation && failures < self.config.policy_failures_max {
            return false;
        }
        let Some(target) = self.policy_before().cloned() else {
            return false;
        };
        self.return_to(target, fault);
        true
    }

    /// The policy that is to decide cannot be loaded: the one before it is, in the end the native one.
    pub(crate) fn policy_unavailable(&mut self, fault: &Reason) {
        self.note(None, fault.clone());
        let native = || self.record(&PolicyIdentity::native(), PolicyCause::Settings, None);
        let target = self.policy_before().cloned().unwrap_or_else(native);
        self.return_to(target, fault);
    }

    /// What an operator said of waits is not so any more.
    pub(crate) fn guard_breached(&mut self, why: Reason) {
        self.note(None, why.clone());
        if let Some(target) = self.policy_before().cloned() {
            return self.return_to(target, &why);
        }
        if let Some(loaded) = &mut self.allocation.loaded {
            loaded.left_out = Some(why);
        }
        self.begin_waits_anew();
    }

    fn return_to(&mut self, target: PolicyRecord, fault: &Reason) {
        let record = PolicyRecord {
            number: self.next_record_number(),
            by: HOST.to_owned(),
            at: self.now,
            cause: PolicyCause::Failed(fault.clone()),
            why: String::new(),
            ..target
        };
        let waking = !record.is_fallback();
        self.remember(record.clone());
        self.allocation.loaded = None;
        let swaps = &mut self.allocation.swaps;
        swaps.taken_back += 1;
        swaps.probation = 0;
        swaps.waking = waking;
        self.begin_waits_anew();
        self.everything_wanted();
        if waking {
            self.emit(Action::LoadPolicy(Box::new(record)));
        }
    }

    /// The shell has loaded a policy.
    pub(crate) fn policy_woke(&mut self) {
        let now = self.now;
        let swaps = &mut self.allocation.swaps;
        swaps.waking = false;
        swaps.carried_at = now;
    }

    /// What of policies a snapshot needs.
    pub(crate) fn policy_facts(&self) -> impl Iterator<Item = Fact> {
        let swaps = &self.allocation.swaps;
        let records = swaps.history.iter();
        let records = records.map(|record| Fact::PolicySet(Box::new(record.clone())));
        let carried = (!swaps.carried.is_empty()).then(|| Fact::PolicyCarried {
            sections: swaps.carried.clone(),
        });
        records.chain(carried)
    }
}

pub(crate) fn bytes_of(sections: &[Section]) -> usize {
    let one = |section: &Section| section.name.len() + section.data.len();
    sections.iter().map(one).sum()
}
