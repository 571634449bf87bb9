//! A canary: a candidate that decides for some roles' subtrees, its domain, while the policy of the seat
//! decides for the rest.
//!
//! Both are fed the same changes and asked the same cycles, and both see everybody, so that each reckons
//! shares as it would in the seat. Of the canary's grants those within its domain count, of the other's
//! those outside; the rest is told to either as `out-of-domain`, and is nobody's fault. The two answers to
//! a cycle are judged together when both are there, on one ledger, so that nothing is given twice: whoever
//! comes second finds what is taken *stale*, and then comes first in the next cycle. What the policy of the seat would have granted in the domain and
//! the canary left goes to others at once, and to those clients no sooner than a declined offer would.
//!
//! A canary that fails, proposes nonsense or breaches its guard decides for nobody any more, at once, and
//! the history says why. So it is when the host starts anew: nobody may be watching then.

use std::collections::BTreeSet;
use std::sync::Arc;

use proffer_codec::codec_struct;
use proffer_model::fact::{PolicyCause, PolicyRecord, WaitGuard};
use proffer_model::policy::{Feeds, Proposal, Rejected};
use proffer_model::{AgentId, Duration, Reason, Remedy, RoleName, Timestamp, code};

use crate::action::Reply;
use crate::agenda::Deadline;
use crate::allocation::WaitView;
use crate::allocation::judge::{Stray, Verdict, Within};
use crate::domain::Domain;
use crate::event::{CanaryEnd, CanaryOutcome, PolicyIdentity, Ticket};
use crate::handles::ClientId;
use crate::machine::Core;
use crate::policy_records::HOST;
use crate::swap::Stage;

/// Roles of one canary: an operator types them, and every grant is held against each.
pub(crate) const ROLES_MAX: usize = 16;
/// Bounds of how long a canary that ends by itself may decide: less shows nothing, more is forgotten.
pub const CANARY_LENGTH: std::ops::RangeInclusive<Duration> =
    Duration(1_000)..=Duration(30 * Duration::DAY.0);
/// Said of one that is over because its time is.
const OVER: &str = "canary-over";
/// Said of one that a restart ended.
const RESTARTED: &str = "host-restarted";

/// The canary that decides.
#[derive(Debug)]
pub(crate) struct Canary {
    pub(crate) candidate: u64,
    pub(crate) domain: Domain,
    pub(crate) since: Timestamp,
    until: Option<Timestamp>,
    switch: bool,
    /// Its grants are looked at before the other policy's.
    first: bool,
    tally: CanaryTally,
}

codec_struct!(Canary {
    candidate,
    domain,
    since,
    until,
    switch,
    first,
    tally
});

/// What came of its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CanaryTally {
    /// Cycles that it answered.
    pub cycles: u64,
    /// Its grants that became offers.
    pub grants: u64,
    /// Its grants that were overtaken, by events or by the other policy's.
    pub stale: u64,
    /// Its grants to clients outside of its domain, which do not count.
    pub outside: u64,
    /// Grants of the policy of the seat within the domain, which do not count either.
    pub left_to_it: u64,
}

codec_struct!(CanaryTally {
    cycles,
    grants,
    stale,
    outside,
    left_to_it
});

/// A canary, for those who look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryView {
    /// Which policy.
    pub identity: Arc<PolicyIdentity>,
    /// The roles within whose subtrees it decides.
    pub roles: Vec<RoleName>,
    /// Since when.
    pub since: Timestamp,
    /// Until when; none: until an operator says.
    pub until: Option<Timestamp>,
    /// Then it takes the seat; otherwise it goes.
    pub switch: bool,
    /// What came of its answers.
    pub tally: CanaryTally,
    /// How long demand within its domain waits.
    pub waits: WaitView,
    /// What takes it out again.
    pub guards: Vec<WaitGuard>,
}

/// The two answers to a cycle that a canary is asked too.
#[derive(Debug)]
pub(crate) struct Joint {
    pub(crate) candidate: u64,
    /// Of the policy of the seat.
    pub(crate) own: Option<Proposal>,
    pub(crate) canary: Option<Proposal>,
}

codec_struct!(Joint {
    candidate,
    own,
    canary
});

impl Core {
    /// The canary that decides for some roles.
    #[must_use]
    pub fn policy_canary(&self) -> Option<CanaryView> {
        let swaps = &self.allocation.swaps;
        let (canary, candidate) = (swaps.canary.as_ref()?, swaps.candidate.as_ref()?);
        Some(CanaryView {
            identity: Arc::clone(&candidate.swap.identity),
            roles: canary.domain.roles().to_vec(),
            since: canary.since,
            until: canary.until,
            switch: canary.switch,
            tally: canary.tally,
            waits: self.waits_of_canary(),
            guards: candidate.swap.guards.clone(),
        })
    }

    /// The domain of the canary that decides.
    pub(crate) fn canary_domain(&self) -> Option<&Domain> {
        let canary = self.allocation.swaps.canary.as_ref();
        canary.map(|canary| &canary.domain)
    }

    pub(crate) fn check_canary(&self, roles: &[RoleName]) -> Result<(), Reason> {
        if roles.len() > ROLES_MAX {
            let text = format!("{} roles, and {ROLES_MAX} are room", roles.len());
            return Err(Reason::new(code::LIMIT, Remedy::Mend, text));
        }
        let known: BTreeSet<&RoleName> = self.handles.roles.all().map(|(name, _)| name).collect();
        if let Some(role) = roles.iter().find(|role| !known.contains(role)) {
            let text = format!("no role '{role}' is in use; see `role list`");
            return Err(Reason::new(code::UNKNOWN, Remedy::ChooseAnew, text));
        }
        Ok(())
    }

    /// The candidate knows all that the policy of the seat does: from the next cycle on it decides too.
    pub(crate) fn begin_canary(&mut self, number: u64) {
        let now = self.now;
        let Some(candidate) = self.allocation.swaps.candidate.as_mut() else {
            return;
        };
        let Some(trial) = candidate.swap.trial.clone() else {
            return;
        };
        candidate.stage = Stage::Canary;
        let (ticket, swap) = (candidate.ticket.take(), candidate.swap.clone());
        let domain = Domain::of(trial.canary);
        let until = trial.length.map(|length| now + length);
        if let Some(until) = until {
            self.agenda.add(until, Deadline::TrialEnds(number));
        }
        self.remember_first();
        let roles = domain.roles().to_vec();
        let record = self.record(&swap.identity, PolicyCause::Canary { roles }, None);
        self.remember(PolicyRecord {
            by: swap.by,
            why: swap.why,
            guards: swap.guards,
            ..record
        });
        self.allocation.swaps.canary = Some(Canary {
            candidate: number,
            domain,
            since: now,
            until,
            switch: trial.switch,
            first: false,
            tally: CanaryTally::default(),
        });
        self.begin_canary_waits_anew();
        self.everything_wanted_in_events();
        if let Some(ticket) = ticket {
            self.reply(ticket, Reply::Done);
        }
    }

    /// Its time is over.
    pub(crate) fn canary_is_over(&mut self) {
        let Some(canary) = &self.allocation.swaps.canary else {
            return;
        };
        if canary.switch {
            return self.promote_canary(None);
        }
        let why = Reason::new(OVER, Remedy::ChooseAnew, "its time as a canary is over");
        self.end_canary(why);
    }

    pub(crate) fn canary_end_asked(&mut self, ticket: Ticket, end: CanaryEnd) {
        let CanaryEnd { outcome, by, why } = end;
        let decides = self.allocation.swaps.candidate.as_ref();
        if decides.is_none_or(|candidate| candidate.stage != Stage::Canary) {
            let text = "no canary decides for anybody; see `policy show`";
            let why = Reason::new(code::INVALID, Remedy::ChooseAnew, text);
            return self.reply(ticket, Reply::Refused(why));
        }
        match outcome {
            CanaryOutcome::Promoted => {
                if let Some(candidate) = &mut self.allocation.swaps.candidate {
                    candidate.swap.by = by;
                    candidate.swap.why = why;
                }
                self.promote_canary(Some(ticket));
            }
            CanaryOutcome::RolledBack => {
                let text = "an operator took it out";
                let reason = Reason::new(code::OPERATOR, Remedy::ChooseAnew, text);
                self.end_canary_by(reason, by, why);
                self.reply(ticket, Reply::Done);
            }
        }
    }

    /// It takes the seat between two cycles.
    fn promote_canary(&mut self, ticket: Option<Ticket>) {
        if let Some(candidate) = &mut self.allocation.swaps.candidate {
            candidate.stage = Stage::Ready;
            candidate.ticket = ticket;
        }
    }

    pub(crate) fn end_canary(&mut self, why: Reason) {
        self.note(None, why.clone());
        self.end_canary_by(why, HOST.to_owned(), String::new());
    }

    /// The policy of the seat decides for all again, the cycle under way too.
    fn end_canary_by(&mut self, reason: Reason, by: String, why: String) {
        let swaps = &mut self.allocation.swaps;
        let Some(identity) = swaps
            .candidate
            .as_ref()
            .map(|candidate| Arc::clone(&candidate.swap.identity))
        else {
            return;
        };
        if swaps.canary.take().is_none() {
            return;
        }
        let cause = PolicyCause::CanaryEnded(reason.clone());
        let record = self.record(&identity, cause, None);
        self.remember(PolicyRecord { by, why, ..record });
        if let Some(waiting) = self.drop_candidate() {
            self.reply(waiting, Reply::Refused(reason));
        }
        self.begin_canary_waits_anew();
        self.everything_wanted();
        if let Some((in_flight, own)) = self.take_cycle_without_canary() {
            self.conclude(in_flight, &own, None);
        }
    }

    /// A host that goes on finds a canary on record that nobody feeds.
    pub(crate) fn end_canary_of_before(&mut self) {
        let cause = |record: &&PolicyRecord| !matches!(record.cause, PolicyCause::Failed(_));
        let Some(last) = self.policy_history().rev().find(cause).cloned() else {
            return;
        };
        if !matches!(last.cause, PolicyCause::Canary { .. }) {
            return;
        }
        let text =
            "the host started anew; a canary decides only while the host that it was given to runs";
        let reason = Reason::new(RESTARTED, Remedy::Retry, text);
        let number = self.next_record_number();
        self.remember(PolicyRecord {
            number,
            by: HOST.to_owned(),
            at: self.now,
            cause: PolicyCause::CanaryEnded(reason),
            why: String::new(),
            guards: Vec::new(),
            ..last
        });
    }

    /// What the cycle that begins waits for besides the policy of the seat.
    pub(crate) fn joint_with_canary(&self) -> Option<Joint> {
        let candidate = self.allocation.swaps.candidate.as_ref()?;
        (candidate.stage == Stage::Canary).then_some(Joint {
            candidate: candidate.swap.candidate,
            own: None,
            canary: None,
        })
    }

    /// The policy of the seat answered. True: its answer is kept until the canary's is there.
    pub(crate) fn waits_for_canary(&mut self, cycle: u64, proposal: &Proposal) -> bool {
        let Some(joint) = self.joint_of(cycle) else {
            return false;
        };
        if joint.canary.is_some() {
            return false;
        }
        joint.own = Some(proposal.clone());
        true
    }

    /// A candidate answered. False: not as a canary.
    pub(crate) fn canary_proposed(&mut self, number: u64, cycle: u64, proposal: &Proposal) -> bool {
        let stands = self.allocation.swaps.canary.as_ref();
        if stands.is_none_or(|canary| canary.candidate != number) {
            return false;
        }
        let Some(joint) = self.joint_of(cycle) else {
            // Of a cycle that another policy has decided meanwhile.
            return true;
        };
        joint.canary = Some(proposal.clone());
        let Some(own) = joint.own.take() else {
            return true;
        };
        if let Some(in_flight) = self.take_cycle(cycle) {
            self.conclude(in_flight, &own, Some(proposal));
        }
        true
    }

    /// Judges both answers, each for its own roles; what is left is the verdicts on the own one's.
    ///
    /// # Errors
    /// The columns of the own one do not fit; nothing is done then.
    pub(crate) fn judge_both(
        &mut self,
        cycle: u64,
        feeds: Feeds,
        (own, canary): (&Proposal, &Proposal),
    ) -> Result<Vec<(u32, Verdict)>, Reason> {
        let Some(canary_stands) = &self.allocation.swaps.canary else {
            return self.judge(own, feeds);
        };
        let (domain, first) = (canary_stands.domain.clone(), canary_stands.first);
        let mine = self.within(own, |role| !domain.holds(role))?;
        let its = match self.within(canary, |role| domain.holds(role)) {
            Ok(its) => its,
            Err(fault) => {
                self.end_canary(fault);
                return self.judge(own, feeds);
            }
        };
        let canary_feeds = self.allocation.swaps.candidate.as_ref();
        let canary_feeds = canary_feeds.map_or(feeds, |candidate| candidate.swap.feeds);
        let seen = self.feed.seen_free_all();
        let (verdicts, of_canary);
        if first {
            of_canary = self.judge(&its.proposal, canary_feeds)?;
            self.feed.see_as_before(seen);
            verdicts = self.judge(&mine.proposal, feeds)?;
        } else {
            verdicts = self.judge(&mine.proposal, feeds)?;
            self.feed.see_as_before(seen);
            of_canary = self.judge(&its.proposal, canary_feeds)?;
        }
        let overtaken = |verdicts: &[(u32, Verdict)]| {
            let stale =
                |(_, verdict): &(u32, Verdict)| matches!(verdict, Verdict::Stale(Some(_), _));
            verdicts.iter().any(stale)
        };
        let second = if first { &verdicts } else { &of_canary };
        if let Some(canary) = &mut self.allocation.swaps.canary
            && overtaken(second)
        {
            canary.first = !first;
        }
        for stray in &mine.strays {
            let why = out_of_domain("another policy decides there");
            self.feed.rejected.push(Rejected {
                index: stray.index,
                why,
            });
        }
        let granted = self.canary_judged(cycle, &its, of_canary);
        self.leave_to_canary(&mine.strays, &granted);
        let whole = |(index, verdict)| (mine.row(index), verdict);
        Ok(verdicts.into_iter().map(whole).collect())
    }

    /// What became of the canary's grants; answers whom it granted something, and where.
    fn canary_judged(
        &mut self,
        cycle: u64,
        its: &Within,
        verdicts: Vec<(u32, Verdict)>,
    ) -> BTreeSet<(AgentId, ClientId)> {
        let mut granted = BTreeSet::new();
        let mut rejected = Vec::new();
        let mut tally = CanaryTally {
            cycles: 1,
            ..CanaryTally::default()
        };
        let (mut faults, mut first_fault) = (0, None);
        for (index, verdict) in verdicts {
            let row = its.row(index);
            match verdict {
                Verdict::Granted => {
                    tally.grants += 1;
                    granted.extend(its.pair(index));
                }
                Verdict::Stale(agent, why) => {
                    tally.stale += 1;
                    if let Some(agent) = agent {
                        self.agent_has_more(agent);
                    }
                    rejected.push(Rejected { index: row, why });
                }
                Verdict::Fault(why) => {
                    faults += 1;
                    first_fault.get_or_insert_with(|| why.clone());
                    rejected.push(Rejected { index: row, why });
                }
            }
        }
        for stray in &its.strays {
            tally.outside += 1;
            rejected.push(Rejected {
                index: stray.index,
                why: out_of_domain("it decides for its own roles only"),
            });
        }
        let all = &mut self.allocation.tally;
        all.grants += tally.grants;
        all.grants_stale += tally.stale;
        all.grants_invalid += faults;
        if let Some(candidate) = &mut self.allocation.swaps.candidate {
            candidate.rejected = rejected;
        }
        if let Some(canary) = &mut self.allocation.swaps.canary {
            canary.tally.add(tally);
        }
        if let Some(why) = first_fault {
            let text = format!(
                "{faults} invalid grants in cycle {cycle}, the first: {}",
                why.text
            );
            self.end_canary(Reason { text, ..why });
        }
        granted
    }

    /// What the other policy would have granted in the domain, and the canary did not, is as if those
    /// clients had declined it: otherwise that policy would hold it ready for them for ever.
    fn leave_to_canary(&mut self, strays: &[Stray], granted: &BTreeSet<(AgentId, ClientId)>) {
        let Some(canary) = &mut self.allocation.swaps.canary else {
            // It has ended: the other policy decides for all in the next cycle.
            return;
        };
        canary.tally.left_to_it += strays.len() as u64;
        let pairs = strays.iter().map(|stray| (stray.agent, stray.client));
        let pairs: BTreeSet<(AgentId, ClientId)> = pairs.collect();
        for (agent, client) in pairs.difference(granted).copied() {
            let free = self.agents.get(&agent).map(|agent| agent.account.free());
            let Some(left) = free.map(|free| free.only(|terms| self.may_have(client, terms)))
            else {
                continue;
            };
            if left.is_empty() {
                continue;
            }
            self.pass_over(agent, client, left);
            self.agent_has_more(agent);
        }
    }
}

impl CanaryTally {
    fn add(&mut self, other: Self) {
        let Self {
            cycles,
            grants,
            stale,
            outside,
            left_to_it,
        } = other;
        self.cycles += cycles;
        self.grants += grants;
        self.stale += stale;
        self.outside += outside;
        self.left_to_it += left_to_it;
    }
}

fn out_of_domain(text: &'static str) -> Reason {
    Reason::new(code::OUT_OF_DOMAIN, Remedy::ChooseAnew, text)
}
