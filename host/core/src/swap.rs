//! Policies are swapped while the cluster runs.
//!
//! A policy that an operator brings is configured by the shell beside the one that decides: a
//! *candidate*. It is fed a snapshot and then every change that the running one is fed, and takes the
//! seat between two cycles once it has caught up, so that nobody waits for its snapshot. What the
//! predecessor carries goes over on the way. A policy that fails soon after it was put in is taken
//! back; each that was put in is a fact, so that a host that goes on loads the one that ran.

use std::collections::VecDeque;
use std::sync::Arc;

use proffer_codec::{codec_enum, codec_struct};
use proffer_model::fact::{Fact, PolicyCause, PolicyRecord};
use proffer_model::policy::{Changes, Feeds, Filters, Section, Tasks};
use proffer_model::{Duration, Reason, Remedy, Timestamp, code};

use crate::action::{Action, Reply};
use crate::allocation::Fed;
use crate::event::{PolicyIdentity, PolicySwap, Ticket};
use crate::machine::Core;

/// Records of policies that are kept: years of swaps by hand, and a page of them.
const HISTORY_MAX: usize = 100;
/// A policy that fails in one of its first cycles is taken back at once. A thousand are seconds of a
/// busy cluster and hours of a quiet one; later failures are tried again a few times first.
const PROBATION_CYCLES: u32 = 1_000;
/// How often a running policy is asked what a successor should know: it may trap before the next
/// time, and a minute of decayed usage is little.
const CARRY_EVERY: Duration = Duration::from_secs(60);
/// The contract's bound on what is carried.
const CARRIED_BYTES_MAX: usize = 1 << 20;
/// Bounds of what is remembered of each: a configuration is a page or two of JSON, the rest is
/// what somebody typed.
const CONFIG_BYTES_MAX: usize = 64 * 1024;
const WORDS_BYTES_MAX: usize = 1_024;
/// Who puts policies in when nobody asks for it.
const HOST: &str = "the host";

/// Policies that were put in, and the one that is being put in.
#[derive(Debug, Default)]
pub(crate) struct Swaps {
    /// The last is the one that decides; empty until the first swap.
    history: VecDeque<PolicyRecord>,
    /// What the policy said last that a successor should know.
    carried: Vec<Section>,
    carried_at: Timestamp,
    candidate: Option<Candidate>,
    /// Cycles in which a failure takes the policy back at once.
    probation: u32,
    /// The last of the history is being loaded; the fallback decides meanwhile.
    waking: bool,
    swapped: u64,
    taken_back: u64,
}

codec_struct!(Swaps {
    history,
    carried,
    carried_at,
    candidate,
    probation,
    waking,
    swapped,
    taken_back
});

/// A policy that is about to take the seat.
#[derive(Debug)]
struct Candidate {
    ticket: Ticket,
    swap: PolicySwap,
    stage: Stage,
}

codec_struct!(Candidate {
    ticket,
    swap,
    stage
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It knows nothing yet.
    Unfed,
    /// It takes its snapshot in, and what has changed since.
    Warming,
    /// It may take the seat between two cycles.
    Ready,
}

codec_enum!(Stage {
    Unfed,
    Warming,
    Ready
});

/// How policies are swapped, for those who look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapView {
    /// The one that is being put in.
    pub candidate: Option<Arc<PolicyIdentity>>,
    /// Cycles in which a failure still takes the policy back at once.
    pub probation: u32,
    /// The policy that is to decide is being loaded.
    pub waking: bool,
    /// Policies put in since the host started, by operators.
    pub swapped: u64,
    /// Of those taken back because they failed.
    pub taken_back: u64,
    /// Bytes that are kept for a successor.
    pub carried_bytes: usize,
}

impl Core {
    /// Policies that were put in, the last of which decides; none before the first swap.
    pub fn policy_history(&self) -> impl DoubleEndedIterator<Item = &PolicyRecord> {
        self.allocation.swaps.history.iter()
    }

    /// The policy that a rollback returns to.
    #[must_use]
    pub fn policy_before(&self) -> Option<&PolicyRecord> {
        let history = &self.allocation.swaps.history;
        let before = history.back()?.before?;
        history.iter().find(|record| record.number == before)
    }

    /// What the policy said last that a successor should know.
    #[must_use]
    pub fn policy_carried(&self) -> &[Section] {
        &self.allocation.swaps.carried
    }

    /// How policies are swapped.
    #[must_use]
    pub fn policy_swaps(&self) -> SwapView {
        let swaps = &self.allocation.swaps;
        SwapView {
            candidate: swaps
                .candidate
                .as_ref()
                .map(|candidate| Arc::clone(&candidate.swap.identity)),
            probation: swaps.probation,
            waking: swaps.waking,
            swapped: swaps.swapped,
            taken_back: swaps.taken_back,
            carried_bytes: bytes_of(&swaps.carried),
        }
    }

    pub(crate) fn policy_swap_asked(&mut self, ticket: Ticket, swap: PolicySwap) {
        if let Err(why) = self.check_swap(&swap) {
            return self.reply(ticket, Reply::Refused(why));
        }
        // The native policy has no instance that could be fed beside.
        let stage = if swap.identity.is_native() {
            Stage::Ready
        } else {
            Stage::Unfed
        };
        self.allocation.swaps.candidate = Some(Candidate {
            ticket,
            swap,
            stage,
        });
    }

    fn check_swap(&self, swap: &PolicySwap) -> Result<(), Reason> {
        let refuse = |code, remedy, text: String| Err(Reason::new(code, remedy, text));
        let swaps = &self.allocation.swaps;
        if let Some(other) = &swaps.candidate {
            let PolicyIdentity { name, version, .. } = &*other.swap.identity;
            let text = format!("{name} {version} is being put in already; ask again when it is");
            return refuse(code::LIMIT, Remedy::ChooseAnew, text);
        }
        if swaps.waking {
            let text = "the policy before is being loaded again; ask again when it is".to_owned();
            return refuse(code::LIMIT, Remedy::Retry, text);
        }
        for (what, text, max) in [
            ("configuration", &swap.identity.config, CONFIG_BYTES_MAX),
            ("reason", &swap.why, WORDS_BYTES_MAX),
            ("name of who asks", &swap.by, WORDS_BYTES_MAX),
        ] {
            if text.len() > max {
                let text = format!("the {what} has {} bytes, and {max} are room", text.len());
                return refuse(code::LIMIT, Remedy::Mend, text);
            }
        }
        let before = self.policy_before().map(|record| record.number);
        if swap.rollback_to.is_some() && swap.rollback_to != before {
            let text = "another policy was put in meanwhile; see `policy history`".to_owned();
            return refuse(code::INVALID, Remedy::ChooseAnew, text);
        }
        Ok(())
    }

    pub(crate) fn candidate_ready(&mut self, number: u64) {
        if let Some(candidate) = self.candidate_mut(number) {
            candidate.stage = Stage::Ready;
        }
    }

    /// The running policy is untouched.
    pub(crate) fn candidate_failed(&mut self, number: u64, fault: Reason) {
        if self.candidate_mut(number).is_none() {
            return;
        }
        if let Some(candidate) = self.allocation.swaps.candidate.take() {
            self.emit(Action::DropCandidate { candidate: number });
            self.reply(candidate.ticket, Reply::Refused(fault));
        }
    }

    fn candidate_mut(&mut self, number: u64) -> Option<&mut Candidate> {
        let candidate = self.allocation.swaps.candidate.as_mut();
        candidate.filter(|candidate| candidate.swap.candidate == number)
    }

    /// All that the policy of a seat has not been told; the candidate is told beside it.
    pub(crate) fn take_changes(&mut self, fed: Fed, feeds: Feeds) -> Vec<Changes> {
        let knows = self.allocation.fed.replace(fed) == Some(fed);
        let Some((other, stage)) = self.candidate_feeds() else {
            return if knows {
                self.take_delta(feeds)
            } else {
                self.take_snapshot(feeds)
            };
        };
        let (own, others) = match (knows, stage == Stage::Unfed) {
            (true, true) => (self.take_delta(feeds), self.take_snapshot(other)),
            (false, false) => {
                let others = self.take_delta(other);
                (self.take_snapshot(feeds), others)
            }
            (knows, _) => {
                let both = if knows {
                    self.take_delta(either(feeds, other))
                } else {
                    self.take_snapshot(either(feeds, other))
                };
                (only(both.clone(), feeds), both)
            }
        };
        self.feed_candidate(only(others, other));
        own
    }

    /// No cycle begins: a candidate that waits for its snapshot gets it alone, and one that knows all
    /// but what is removed that. The running policy then knows less than is told, and is told all anew.
    pub(crate) fn feed_candidate_alone(&mut self) {
        let Some((feeds, stage)) = self.candidate_feeds() else {
            return;
        };
        let changes = match stage {
            Stage::Unfed => self.take_snapshot(feeds),
            Stage::Warming | Stage::Ready if self.feed.is_overfull() => self.take_delta(feeds),
            Stage::Warming | Stage::Ready => return,
        };
        self.allocation.fed = None;
        self.feed_candidate(only(changes, feeds));
    }

    fn candidate_feeds(&self) -> Option<(Feeds, Stage)> {
        let candidate = self.allocation.swaps.candidate.as_ref()?;
        let fed = !candidate.swap.identity.is_native();
        fed.then_some((candidate.swap.feeds, candidate.stage))
    }

    fn feed_candidate(&mut self, mut changes: Vec<Changes>) {
        let Some(candidate) = &mut self.allocation.swaps.candidate else {
            return;
        };
        if candidate.stage == Stage::Unfed {
            candidate.stage = Stage::Warming;
        }
        for part in &mut changes {
            // What was rejected was another's.
            part.rejected = Vec::new();
        }
        let candidate = candidate.swap.candidate;
        self.emit(Action::FeedCandidate { candidate, changes });
    }

    /// Between two cycles a candidate that has caught up takes the seat.
    pub(crate) fn switch_policy(&mut self) {
        let swaps = &mut self.allocation.swaps;
        if swaps.waking {
            return;
        }
        let ready = |candidate: &mut Candidate| candidate.stage == Stage::Ready;
        let Some(Candidate { ticket, swap, .. }) = swaps.candidate.take_if(ready) else {
            return;
        };
        swaps.swapped += 1;
        self.remember_first();
        let (cause, before) = match swap.rollback_to {
            Some(_) => (
                PolicyCause::RolledBack,
                self.policy_before().and_then(|record| record.before),
            ),
            None => {
                let last = self.policy_history().next_back();
                (PolicyCause::Swapped, last.map(|record| record.number))
            }
        };
        let record = self.record(&swap.identity, cause, before);
        self.remember(PolicyRecord {
            by: swap.by,
            why: swap.why,
            ..record
        });
        let native = swap.identity.is_native();
        if native {
            self.allocation.loaded = None;
        } else {
            let load = self.seat(swap.identity, swap.feeds);
            self.allocation.fed = Some(Fed::Loaded(load));
        }
        // It is told of its own grants alone.
        self.feed.rejected.clear();
        let swaps = &mut self.allocation.swaps;
        swaps.probation = if native { 0 } else { PROBATION_CYCLES };
        swaps.carried_at = self.now;
        self.everything_wanted();
        self.emit(Action::SwitchPolicy {
            candidate: swap.candidate,
        });
        self.reply(ticket, Reply::Done);
    }

    /// Before the first swap the policy that decided is put on record, so that it can be gone back to.
    fn remember_first(&mut self) {
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

    fn record(
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
        let last = self.policy_history().next_back();
        PolicyRecord {
            number: last.map_or(1, |last| last.number + 1),
            name,
            version,
            digest,
            config,
            by: HOST.to_owned(),
            at: self.now,
            cause,
            why: String::new(),
            before,
        }
    }

    fn remember(&mut self, record: PolicyRecord) {
        self.facts.push(Fact::PolicySet(Box::new(record.clone())));
        self.replay_policy(record);
    }

    pub(crate) fn replay_policy(&mut self, record: PolicyRecord) {
        let history = &mut self.allocation.swaps.history;
        history.push_back(record);
        if history.len() > HISTORY_MAX {
            history.pop_front();
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

    fn return_to(&mut self, target: PolicyRecord, fault: &Reason) {
        let last = self.policy_history().next_back();
        let record = PolicyRecord {
            number: last.map_or(1, |last| last.number + 1),
            by: HOST.to_owned(),
            at: self.now,
            cause: PolicyCause::Failed(fault.clone()),
            why: String::new(),
            ..target
        };
        let waking = !record.digest.is_empty();
        self.remember(record.clone());
        self.allocation.loaded = None;
        let swaps = &mut self.allocation.swaps;
        swaps.taken_back += 1;
        swaps.probation = 0;
        swaps.waking = waking;
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

/// What of changes is for a policy that wants to be fed this.
fn only(mut changes: Vec<Changes>, feeds: Feeds) -> Vec<Changes> {
    for part in &mut changes {
        if !feeds.demands {
            part.demands = Vec::new();
        }
        if !feeds.filters {
            part.filters = Filters::default();
        }
        if !feeds.tasks {
            part.tasks = Tasks::default();
        }
    }
    changes
}

fn either(one: Feeds, other: Feeds) -> Feeds {
    Feeds {
        tasks: one.tasks || other.tasks,
        filters: one.filters || other.filters,
        demands: one.demands || other.demands,
    }
}

fn bytes_of(sections: &[Section]) -> usize {
    let one = |section: &Section| section.name.len() + section.data.len();
    sections.iter().map(one).sum()
}
