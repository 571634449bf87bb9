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
use proffer_model::fact::{PolicyCause, PolicyRecord};
use proffer_model::policy::{Changes, Cycle, Feeds, Filters, Noun, Rejected, Section, Tasks};
use proffer_model::{Reason, Remedy, Timestamp, code};

use crate::action::{Action, Reply};
use crate::agenda::Deadline;
use crate::allocation::Fed;
use crate::canary::Canary;
use crate::event::{PolicyIdentity, PolicySwap, Ticket};
use crate::machine::Core;
use crate::policy_records::bytes_of;
use crate::trial::Trials;

/// A policy that fails in one of its first cycles is taken back at once. A thousand are seconds of a
/// busy cluster and hours of a quiet one; later failures are tried again a few times first.
const PROBATION_CYCLES: u32 = 1_000;
/// Bounds of what is remembered of each: a configuration is a page or two of JSON, the rest is
/// what somebody typed.
pub(crate) const CONFIG_BYTES_MAX: usize = 64 * 1024;
pub(crate) const WORDS_BYTES_MAX: usize = 1_024;
/// There are two kinds.
pub(crate) const GUARDS_MAX: usize = 8;

/// Policies that were put in, and the one that is being put in.
#[derive(Debug, Default)]
pub(crate) struct Swaps {
    /// The last is the one that decides; empty until the first swap.
    pub(crate) history: VecDeque<PolicyRecord>,
    /// What the policy said last that a successor should know.
    pub(crate) carried: Vec<Section>,
    pub(crate) carried_at: Timestamp,
    pub(crate) candidate: Option<Candidate>,
    pub(crate) trials: Trials,
    /// The candidate decides for some roles.
    pub(crate) canary: Option<Canary>,
    /// Cycles in which a failure takes the policy back at once.
    pub(crate) probation: u32,
    /// The last of the history is being loaded; the fallback decides meanwhile.
    pub(crate) waking: bool,
    pub(crate) swapped: u64,
    pub(crate) taken_back: u64,
}

codec_struct!(Swaps {
    history,
    carried,
    carried_at,
    candidate,
    trials,
    canary,
    probation,
    waking,
    swapped,
    taken_back
});

/// A policy that is about to take the seat.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// None: whoever waited has had an answer.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) swap: PolicySwap,
    pub(crate) stage: Stage,
    /// Of its last proposal, if that counted.
    pub(crate) rejected: Vec<Rejected>,
}

codec_struct!(Candidate {
    ticket,
    swap,
    stage,
    rejected
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It knows nothing yet.
    Unfed,
    /// It takes its snapshot in, and what has changed since.
    Warming,
    /// It is asked too, and what it says is compared.
    Shadowing,
    /// It is asked too, and decides for some roles.
    Canary,
    /// It may take the seat between two cycles.
    Ready,
}

codec_enum!(Stage {
    Unfed,
    Warming,
    Shadowing,
    Canary,
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

    /// The record of the policy of the seat; none before the first swap.
    #[must_use]
    pub fn policy_record(&self) -> Option<&PolicyRecord> {
        self.policy_history()
            .rev()
            .find(|record| !record.cause.is_beside())
    }

    /// The policy that a rollback returns to.
    #[must_use]
    pub fn policy_before(&self) -> Option<&PolicyRecord> {
        let before = self.policy_record()?.before?;
        self.policy_history().find(|record| record.number == before)
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
        // A trial has no end to wait for: its beginning is the answer, a canary's when it decides.
        let ticket = match &swap.trial {
            Some(trial) if trial.canary.is_empty() => {
                self.reply(ticket, Reply::Done);
                None
            }
            _ => Some(ticket),
        };
        // The native policy has no instance that could be fed beside.
        let stage = if swap.identity.is_fallback() {
            Stage::Ready
        } else {
            Stage::Unfed
        };
        self.allocation.swaps.candidate = Some(Candidate {
            ticket,
            swap,
            stage,
            rejected: Vec::new(),
        });
    }

    fn check_swap(&self, swap: &PolicySwap) -> Result<(), Reason> {
        let refuse = |code, remedy, text: String| Err(Reason::new(code, remedy, text));
        let swaps = &self.allocation.swaps;
        if let Some(other) = &swaps.candidate {
            let PolicyIdentity { name, version, .. } = &*other.swap.identity;
            let text = if other.stage == Stage::Canary {
                format!("{name} {version} is a canary: promote it or roll it back first")
            } else {
                format!("{name} {version} is being put in already; ask again when it is")
            };
            return refuse(code::LIMIT, Remedy::ChooseAnew, text);
        }
        if swaps.waking {
            let text = "the policy before is being loaded again; ask again when it is".to_owned();
            return refuse(code::LIMIT, Remedy::Retry, text);
        }
        if swap.trial.is_some() && swap.identity.is_fallback() {
            let text =
                "the native policy is tried as its component, or with a configuration; give one"
                    .to_owned();
            return refuse(code::INVALID, Remedy::Mend, text);
        }
        if let Some(trial) = &swap.trial {
            if trial.canary.is_empty() && trial.length.is_none() {
                let text = "a comparison ends some time: say when".to_owned();
                return refuse(code::INVALID, Remedy::Mend, text);
            }
            self.check_canary(&trial.canary)?;
        }
        if swap.guards.len() > GUARDS_MAX {
            let text = format!("{} guards, and {GUARDS_MAX} are room", swap.guards.len());
            return refuse(code::LIMIT, Remedy::Mend, text);
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
        let now = self.now;
        let Some(candidate) = self.candidate_mut(number) else {
            return;
        };
        let Some(trial) = &candidate.swap.trial else {
            candidate.stage = Stage::Ready;
            return;
        };
        if !trial.canary.is_empty() {
            return self.begin_canary(number);
        }
        candidate.stage = Stage::Shadowing;
        let until = now + trial.length.unwrap_or_default();
        let identity = Arc::clone(&candidate.swap.identity);
        self.agenda.add(until, Deadline::TrialEnds(number));
        self.begin_shadow(identity, until);
        // Something to compare, at once.
        self.everything_wanted_in_events();
    }

    pub(crate) fn trial_ends(&mut self, number: u64) {
        let Some(candidate) = self.candidate_mut(number) else {
            return;
        };
        match candidate.stage {
            Stage::Canary => return self.canary_is_over(),
            Stage::Shadowing => {}
            Stage::Unfed | Stage::Warming | Stage::Ready => return,
        }
        let switches = candidate
            .swap
            .trial
            .as_ref()
            .is_some_and(|trial| trial.switch);
        candidate.stage = Stage::Ready;
        self.end_shadow(None);
        if !switches {
            self.drop_candidate();
        }
    }

    /// The running policy is untouched.
    pub(crate) fn candidate_failed(&mut self, number: u64, fault: Reason) {
        if self.candidate_mut(number).is_none() {
            return;
        }
        if self.allocation.swaps.canary.is_some() {
            return self.end_canary(fault);
        }
        self.end_shadow(Some(fault.clone()));
        if let Some(ticket) = self.drop_candidate() {
            self.reply(ticket, Reply::Refused(fault));
        }
    }

    /// An operator does not want the policy any more that is being put in.
    pub(crate) fn swap_cancel_asked(&mut self, ticket: Ticket) {
        let why = Reason::new(
            code::OPERATOR,
            Remedy::ChooseAnew,
            "an operator cancelled it",
        );
        if self.allocation.swaps.candidate.is_none() {
            let text = "no policy is being put in";
            let why = Reason::new(code::INVALID, Remedy::ChooseAnew, text);
            return self.reply(ticket, Reply::Refused(why));
        }
        if self.allocation.swaps.canary.is_some() {
            self.end_canary(why);
            return self.reply(ticket, Reply::Done);
        }
        self.end_shadow(Some(why.clone()));
        if let Some(waiting) = self.drop_candidate() {
            self.reply(waiting, Reply::Refused(why));
        }
        self.reply(ticket, Reply::Done);
    }

    /// Answers who waits for it.
    pub(crate) fn drop_candidate(&mut self) -> Option<Ticket> {
        let Candidate { ticket, swap, .. } = self.allocation.swaps.candidate.take()?;
        self.emit(Action::DropCandidate {
            candidate: swap.candidate,
        });
        ticket
    }

    fn candidate_mut(&mut self, number: u64) -> Option<&mut Candidate> {
        let candidate = self.allocation.swaps.candidate.as_mut();
        candidate.filter(|candidate| candidate.swap.candidate == number)
    }

    /// All that the policy of a seat has not been told; the candidate is told beside it.
    pub(crate) fn take_changes(
        &mut self,
        fed: Fed,
        feeds: Feeds,
    ) -> (Vec<Changes>, Option<Vec<Changes>>) {
        let knows = self.allocation.fed.replace(fed) == Some(fed);
        let Some((other, stage)) = self.candidate_feeds() else {
            let own = if knows {
                self.take_delta(feeds)
            } else {
                self.take_snapshot(feeds)
            };
            return (own, None);
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
        (own, Some(only(others, other)))
    }

    /// No cycle begins: a candidate that waits for its snapshot gets it alone, and one that knows all
    /// but what is removed that. The running policy then knows less than is told, and is told all anew.
    pub(crate) fn feed_candidate_alone(&mut self) {
        let Some((feeds, stage)) = self.candidate_feeds() else {
            return;
        };
        let changes = match stage {
            Stage::Unfed => self.take_snapshot(feeds),
            _ if self.feed.is_overfull() => self.take_delta(feeds),
            Stage::Warming | Stage::Shadowing | Stage::Canary | Stage::Ready => return,
        };
        self.allocation.fed = None;
        self.feed_candidate(only(changes, feeds), None);
    }

    /// Whether a policy that is loaded or being put in is told of tasks.
    pub(crate) fn wants_tasks(&self) -> bool {
        let loaded = self.allocation.loaded.as_ref();
        let candidate = self.candidate_feeds();
        loaded.is_some_and(|loaded| loaded.feeds.tasks)
            || candidate.is_some_and(|(feeds, _)| feeds.tasks)
    }

    fn candidate_feeds(&self) -> Option<(Feeds, Stage)> {
        let candidate = self.allocation.swaps.candidate.as_ref()?;
        let fed = !candidate.swap.identity.is_fallback();
        fed.then_some((candidate.swap.feeds, candidate.stage))
    }

    /// With the cycle, if it is asked too.
    pub(crate) fn feed_candidate(&mut self, mut changes: Vec<Changes>, cycle: Option<Cycle>) {
        let Some(candidate) = &mut self.allocation.swaps.candidate else {
            return;
        };
        if candidate.stage == Stage::Unfed {
            candidate.stage = Stage::Warming;
        }
        let mut rejected = std::mem::take(&mut candidate.rejected);
        for part in &mut changes {
            // What was rejected there was another's.
            part.rejected = std::mem::take(&mut rejected);
        }
        let asked = matches!(candidate.stage, Stage::Shadowing | Stage::Canary);
        let cycle = cycle.filter(|_| asked);
        let candidate = candidate.swap.candidate;
        self.emit(Action::FeedCandidate {
            candidate,
            changes,
            cycle,
        });
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
                let last = self.policy_record();
                (PolicyCause::Swapped, last.map(|record| record.number))
            }
        };
        let record = self.record(&swap.identity, cause, before);
        self.remember(PolicyRecord {
            by: swap.by,
            why: swap.why,
            guards: swap.guards,
            ..record
        });
        let native = swap.identity.is_fallback();
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
        swaps.canary = None;
        self.everything_wanted();
        self.emit(Action::SwitchPolicy {
            candidate: swap.candidate,
        });
        if let Some(ticket) = ticket {
            self.reply(ticket, Reply::Done);
        }
        self.begin_waits_anew();
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
            part.removed.retain(|gone| gone.what != Noun::Task);
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
