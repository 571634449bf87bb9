//! Allocation cycles: when, by whom, and what becomes of proposals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proffer_codec::{codec_enum, codec_struct};
use proffer_model::policy::{Cycle, Feeds, Proposal, Rejected};
use proffer_model::{AgentId, Duration, OfferId, Reason, Remedy, Resources, Timestamp, code};

use crate::action::{Action, PolicySeat};
use crate::agenda::Deadline;
use crate::book::{Ending, NewOffer};
use crate::canary::Joint;
use crate::config::{Allocation, DEMAND_WAITS_GRAIN, backoff};
use crate::event::PolicyIdentity;
use crate::machine::Core;
use crate::reclaims::Reclaims;
use crate::swap::Swaps;
use crate::tenants::Tenants;

pub(crate) mod judge;
mod waits;

pub use waits::WaitView;
use waits::Waits;

/// Everything is fed to the native reference policy.
const FALLBACK_FEEDS: Feeds = Feeds {
    tasks: false,
    filters: true,
    demands: true,
};

/// Where allocation stands.
#[derive(Debug, Default)]
pub(crate) struct AllocationState {
    /// The policy that was loaded last.
    pub(crate) loaded: Option<Loaded>,
    /// What no cycle has looked at since it changed.
    pub(crate) wanted: Scope,
    in_flight: Option<InFlightCycle>,
    /// Filters whose time is up, but which the cycle of that instant still honours.
    filters_ending: Vec<u32>,
    /// Demands that are not all on offer any more, and when that is looked at, or last was.
    waits_again: BTreeSet<u32>,
    waits_at: Timestamp,
    /// Gangs granted so far: a gang's number in its offers.
    gangs: u32,
    number: u64,
    /// Policies loaded so far.
    loads: u64,
    /// Who was fed last: another one needs a snapshot.
    pub(crate) fed: Option<Fed>,
    pub(crate) swaps: Swaps,
    waits: Waits,
    pub(crate) tenants: Tenants,
    pub(crate) reclaims: Reclaims,
    pub(crate) tally: CycleTally,
}

codec_struct!(AllocationState {
    loaded,
    wanted,
    in_flight,
    filters_ending,
    waits_again,
    waits_at,
    gangs,
    number,
    loads,
    fed,
    swaps,
    waits,
    tenants,
    reclaims,
    tally
});

/// The loaded policy and how it fares.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) identity: Arc<PolicyIdentity>,
    pub(crate) feeds: Feeds,
    /// Consecutive failed cycles.
    pub(crate) failures: u32,
    pub(crate) retry_at: Option<Timestamp>,
    /// It failed too often: the fallback decides until another is loaded.
    pub(crate) left_out: Option<Reason>,
    pub(crate) last_fault: Option<Reason>,
    /// Grows with each load: another instance needs a snapshot.
    load: u64,
}

codec_struct!(Loaded {
    identity,
    feeds,
    failures,
    retry_at,
    left_out,
    last_fault,
    load
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    Fallback,
    Loaded(u64),
}

codec_enum!(Fed { Fallback, Loaded(a) });

/// Agents that a cycle is to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    #[default]
    Nothing,
    Agents(BTreeSet<AgentId>),
    Everything,
}

codec_enum!(Scope { Nothing, Agents(a), Everything });

#[derive(Debug)]
pub(crate) struct InFlightCycle {
    number: u64,
    seat: PolicySeat,
    scope: Scope,
    /// What the policy was fed.
    feeds: Feeds,
    filters_ending: Vec<u32>,
    /// A canary is asked too.
    joint: Option<Joint>,
}

codec_struct!(InFlightCycle {
    number,
    seat,
    scope,
    feeds,
    filters_ending,
    joint
});

/// Counts over all cycles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CycleTally {
    pub(crate) cycles: u64,
    pub(crate) fallback_cycles: u64,
    pub(crate) grants: u64,
    pub(crate) grants_stale: u64,
    pub(crate) grants_invalid: u64,
    pub(crate) reclaims_refused: u64,
    pub(crate) failures: u64,
}

codec_struct!(CycleTally {
    cycles,
    fallback_cycles,
    grants,
    grants_stale,
    grants_invalid,
    reclaims_refused,
    failures
});

impl Scope {
    fn add(&mut self, agent: AgentId) {
        match self {
            Self::Nothing => *self = Self::Agents(BTreeSet::from([agent])),
            Self::Agents(agents) => {
                agents.insert(agent);
            }
            Self::Everything => {}
        }
    }
}

impl Core {
    /// Something came free on an agent. In interval mode that waits for the next cycle.
    pub(crate) fn agent_has_more(&mut self, agent: AgentId) {
        if self.allocates_on_events() {
            self.allocation.wanted.add(agent);
        }
    }

    /// Whether it is of interest what was free at the last apply: somebody decides on it.
    pub(crate) fn free_is_noted(&self) -> bool {
        self.allocation.in_flight.is_some() || self.allocation.swaps.candidate.is_some()
    }

    /// An agent came.
    pub(crate) fn agent_came(&mut self, agent: AgentId) {
        self.allocation.wanted.add(agent);
    }

    /// Somebody may now want what is free anywhere: a framework came, or revived.
    pub(crate) fn everything_wanted(&mut self) {
        self.allocation.wanted = Scope::Everything;
    }

    /// Demand grew or weights changed. In interval mode that waits for the next cycle.
    pub(crate) fn everything_wanted_in_events(&mut self) {
        if self.allocates_on_events() {
            self.everything_wanted();
        }
    }

    pub(crate) fn allocates_on_events(&self) -> bool {
        matches!(self.config.allocation, Allocation::Events { .. })
    }

    /// Demand that was all on offer is not any more: other agents may do for it.
    pub(crate) fn demand_waits_again(&mut self, demand: u32) {
        if !self.allocates_on_events() {
            return;
        }
        if self.allocation.waits_again.is_empty() {
            let at = (self.allocation.waits_at + DEMAND_WAITS_GRAIN).max(self.now);
            self.agenda.add(at, Deadline::DemandWaits);
        }
        self.allocation.waits_again.insert(demand);
    }

    /// Restated or taken back in the meantime, as accepted demand is, it needs no cycle.
    pub(crate) fn demand_waits_no_longer(&mut self) {
        self.allocation.waits_at = self.now;
        let demands = std::mem::take(&mut self.allocation.waits_again);
        if demands
            .iter()
            .any(|demand| self.feed.wanting.contains(demand))
        {
            self.everything_wanted();
        }
    }

    pub(crate) fn filter_ends(&mut self, handle: u32) {
        if let Some(filter) = self.drop_filter(handle) {
            self.agent_has_more(filter.agent);
        }
    }

    pub(crate) fn filter_ends_after_cycle(&mut self, handle: u32) {
        if self.allocation.wanted == Scope::Nothing {
            self.filter_ends(handle);
        } else {
            self.allocation.filters_ending.push(handle);
        }
    }

    fn end_filters(&mut self, handles: Vec<u32>) {
        for handle in handles {
            self.filter_ends(handle);
        }
    }

    pub(crate) fn cycle_due(&mut self, at: Timestamp) {
        self.everything_wanted();
        let interval = match self.config.allocation {
            Allocation::Interval(interval) => interval,
            Allocation::Events { sweep, .. } => sweep,
        };
        // Missed instants are one cycle, not many.
        let next = (at + interval).max(self.now);
        self.agenda
            .add(next.max(at + Duration(1)), Deadline::CycleDue);
    }

    /// Starts a cycle if one is wanted and none runs.
    pub(crate) fn run_wanted_cycle(&mut self) {
        if self.allocation.in_flight.is_some() {
            return;
        }
        self.switch_policy();
        if self.feed.is_overfull() {
            self.feed_candidate_alone();
            self.feed.take_removed();
            self.allocation.fed = None;
        }
        if self.allocation.wanted == Scope::Nothing {
            self.feed_candidate_alone();
            let ending = std::mem::take(&mut self.allocation.filters_ending);
            return self.end_filters(ending);
        }
        if self.waits_for_agents() {
            return self.feed_candidate_alone();
        }
        let seat = self.who_decides();
        let feeds = match (seat, &self.allocation.loaded) {
            (PolicySeat::Loaded, Some(loaded)) => loaded.feeds,
            _ => FALLBACK_FEEDS,
        };
        if feeds.demands && self.feed.wanting.is_empty() {
            // Nobody wants anything: nobody is bothered. Demand that appears wants everything.
            self.allocation.wanted = Scope::Nothing;
            self.feed_candidate_alone();
            let ending = std::mem::take(&mut self.allocation.filters_ending);
            return self.end_filters(ending);
        }
        self.start_cycle(seat, feeds);
    }

    /// Who decides now.
    pub(crate) fn who_decides(&self) -> PolicySeat {
        match &self.allocation.loaded {
            Some(loaded)
                if loaded.left_out.is_none() && loaded.retry_at.is_none_or(|at| at <= self.now) =>
            {
                PolicySeat::Loaded
            }
            _ => PolicySeat::Fallback,
        }
    }

    fn start_cycle(&mut self, seat: PolicySeat, feeds: Feeds) {
        let fed = match (seat, &self.allocation.loaded) {
            (PolicySeat::Loaded, Some(loaded)) => Fed::Loaded(loaded.load),
            _ => Fed::Fallback,
        };
        let (changes, for_candidate) = self.take_changes(fed, feeds);
        let scope = std::mem::take(&mut self.allocation.wanted);
        self.allocation.number += 1;
        let number = self.allocation.number;
        let agents = match &scope {
            Scope::Agents(agents) => Some(agents.iter().map(|agent| agent.0).collect()),
            Scope::Everything | Scope::Nothing => None,
        };
        let cycle = Cycle {
            number,
            now: self.now,
            seed: mix(self.config.seed ^ number),
            agents,
            grants_max: self.config.grants_max,
        };
        self.allocation.in_flight = Some(InFlightCycle {
            number,
            seat,
            scope,
            feeds,
            filters_ending: std::mem::take(&mut self.allocation.filters_ending),
            joint: self.joint_with_canary(),
        });
        if let Some(changes) = for_candidate {
            self.feed_candidate(changes, Some(cycle.clone()));
        }
        self.emit(Action::RunPolicy {
            seat,
            changes,
            cycle,
        });
    }

    pub(crate) fn policy_loaded(&mut self, identity: Arc<PolicyIdentity>, feeds: Feeds) {
        self.seat(identity, feeds);
        self.policy_woke();
        let asked_before = self
            .allocation
            .in_flight
            .take_if(|in_flight| in_flight.seat == PolicySeat::Loaded);
        if let Some(in_flight) = asked_before {
            // Its predecessor's answer is nobody's now.
            self.allocation
                .filters_ending
                .extend(in_flight.filters_ending);
        }
        self.everything_wanted();
    }

    /// Puts a policy in the seat; answers the number of its load.
    pub(crate) fn seat(&mut self, identity: Arc<PolicyIdentity>, feeds: Feeds) -> u64 {
        self.allocation.loads += 1;
        let load = self.allocation.loads;
        self.allocation.loaded = Some(Loaded {
            identity,
            feeds,
            failures: 0,
            retry_at: None,
            left_out: None,
            last_fault: None,
            load,
        });
        load
    }

    /// The policy answered: each grant by itself is committed or rejected with a reason.
    pub(crate) fn policy_proposed(&mut self, cycle: u64, proposal: &Proposal) {
        if self.waits_for_canary(cycle, proposal) {
            return;
        }
        let Some(mut in_flight) = self.take_cycle(cycle) else {
            return;
        };
        let canary = in_flight.joint.take().and_then(|joint| joint.canary);
        self.conclude(in_flight, proposal, canary.as_ref());
    }

    /// All answers to a cycle are there.
    pub(crate) fn conclude(
        &mut self,
        in_flight: InFlightCycle,
        proposal: &Proposal,
        canary: Option<&Proposal>,
    ) {
        let cycle = in_flight.number;
        self.allocation.tally.cycles += 1;
        if in_flight.seat == PolicySeat::Fallback {
            self.allocation.tally.fallback_cycles += 1;
        }
        let scope = in_flight.scope.clone();
        self.note_reclaims(&scope, proposal);
        self.compare_own(cycle, proposal);
        let verdicts = match canary {
            None => self.judge(proposal, in_flight.feeds),
            Some(canary) => self.judge_both(cycle, in_flight.feeds, (proposal, canary)),
        };
        let verdicts = match verdicts {
            Ok(verdicts) => verdicts,
            Err(fault) => {
                self.seat_failed(in_flight, fault);
                // Its picture may be as wrong as its answer.
                self.allocation.fed = None;
                return;
            }
        };
        self.ask_back(&scope);
        let mut faults = 0;
        let mut first_fault = None;
        for (index, verdict) in verdicts {
            match verdict {
                judge::Verdict::Granted => self.allocation.tally.grants += 1,
                judge::Verdict::Stale(agent, why) => {
                    self.allocation.tally.grants_stale += 1;
                    if let Some(agent) = agent {
                        self.agent_has_more(agent);
                    }
                    self.feed.rejected.push(Rejected { index, why });
                }
                judge::Verdict::Fault(why) => {
                    self.allocation.tally.grants_invalid += 1;
                    faults += 1;
                    first_fault.get_or_insert_with(|| why.clone());
                    self.feed.rejected.push(Rejected { index, why });
                }
            }
        }
        match first_fault {
            // Nonsense is a failure of the policy, even if some of the proposal was sense.
            Some(why) => {
                let text = format!(
                    "{faults} invalid grants in cycle {cycle}, the first: {}",
                    why.text
                );
                self.seat_failed(in_flight, Reason { text, ..why });
            }
            None => {
                self.seat_did_well(in_flight.seat);
                self.end_filters(in_flight.filters_ending);
            }
        }
        self.look_at_waits();
    }

    pub(crate) fn policy_failed(&mut self, cycle: u64, fault: Reason) {
        let Some(in_flight) = self.take_cycle(cycle) else {
            return;
        };
        self.seat_failed(in_flight, fault);
        // Its instance is gone: whoever is asked next gets a snapshot.
        self.allocation.fed = None;
    }

    /// The answers to the cycle that is under way, if a canary is asked too.
    pub(crate) fn joint_of(&mut self, cycle: u64) -> Option<&mut Joint> {
        let in_flight = self.allocation.in_flight.as_mut();
        in_flight
            .filter(|in_flight| in_flight.number == cycle)?
            .joint
            .as_mut()
    }

    /// The candidate whose answer the cycle under way waits for.
    pub(crate) fn waits_for_candidate(&self) -> Option<u64> {
        let joint = self.allocation.in_flight.as_ref()?.joint.as_ref()?;
        joint.canary.is_none().then_some(joint.candidate)
    }

    /// A canary is not there any more: the cycle that waited for it alone, and what was answered.
    pub(crate) fn take_cycle_without_canary(&mut self) -> Option<(InFlightCycle, Proposal)> {
        let joint = self.allocation.in_flight.as_mut()?.joint.take()?;
        let own = joint.own?;
        Some((self.allocation.in_flight.take()?, own))
    }

    pub(crate) fn take_cycle(&mut self, cycle: u64) -> Option<InFlightCycle> {
        let current = self
            .allocation
            .in_flight
            .as_ref()
            .is_some_and(|in_flight| in_flight.number == cycle);
        if current {
            self.allocation.in_flight.take()
        } else {
            None
        }
    }

    /// The offer loop never stops: what was to be decided is decided by the fallback at once.
    fn seat_failed(&mut self, cycle: InFlightCycle, fault: Reason) {
        let InFlightCycle {
            seat,
            scope,
            filters_ending,
            ..
        } = cycle;
        self.allocation.tally.failures += 1;
        self.note(None, fault.clone());
        self.allocation.filters_ending.extend(filters_ending);
        match scope {
            // The fallback has no fallback: the next event or the sweep asks it again.
            _ if seat == PolicySeat::Fallback => {}
            Scope::Nothing => {}
            Scope::Everything => self.everything_wanted(),
            Scope::Agents(agents) => {
                for agent in agents {
                    self.allocation.wanted.add(agent);
                }
            }
        }
        let failures_max = self.config.policy_failures_max;
        let now = self.now;
        let Some(loaded) = self
            .allocation
            .loaded
            .as_mut()
            .filter(|_| seat == PolicySeat::Loaded)
        else {
            return;
        };
        loaded.failures += 1;
        loaded.last_fault = Some(fault.clone());
        let failures = loaded.failures;
        if self.take_policy_back(&fault, failures) {
            return;
        }
        let Some(loaded) = &mut self.allocation.loaded else {
            return;
        };
        if loaded.failures >= failures_max {
            loaded.left_out = Some(fault);
        } else {
            let retry_at = now + backoff(loaded.failures);
            loaded.retry_at = Some(retry_at);
            self.agenda.add(retry_at, Deadline::PolicyRetries);
        }
    }

    fn seat_did_well(&mut self, seat: PolicySeat) {
        if let Some(loaded) = self
            .allocation
            .loaded
            .as_mut()
            .filter(|_| seat == PolicySeat::Loaded)
        {
            loaded.failures = 0;
            loaded.retry_at = None;
            self.policy_does_well();
        }
    }

    pub(crate) fn policy_retries(&mut self) {
        self.everything_wanted();
    }

    /// Takes the last offers that were just made back, as if they had never been.
    fn unmake_offers(&mut self, made: Vec<NewOffer>, count: usize) {
        let last = made.len().saturating_sub(count);
        let unmade: Vec<OfferId> = made.iter().skip(last).map(|new| new.id).collect();
        self.hand_over(made);
        for id in unmade {
            let why = Reason::new(
                code::GROUP_FAILED,
                Remedy::ChooseAnew,
                "its gang could not be granted",
            );
            self.end_offer(id, &Ending::Rescinded(why));
        }
    }
}

/// Free resources as this proposal's judge sees them: as the policy last saw them, less what the
/// proposal itself has taken.
type SeenFree = BTreeMap<AgentId, Resources>;

/// SplitMix64: spreads a cycle's number over all bits.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
