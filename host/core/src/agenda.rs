//! What is due when. The core's only notion of waiting.

use std::collections::{BTreeMap, BTreeSet};

use proffer_codec::{codec_enum, codec_struct};
use proffer_model::{AgentId, FrameworkId, OfferId, RequestId, Timestamp};

use crate::offer_set::OfferSet;

/// Something that happens by itself when its time comes. At one instant they happen in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// An offer's lease ends.
    OfferExpires(OfferId),
    /// A decline filter ends.
    FilterEnds(u32),
    /// A periodic cycle.
    CycleDue,
    /// A filter ends, in interval mode: the cycle of that instant still honours it.
    FilterEndsAfterCycle(u32),
    /// Demand that was all on offer is not any more.
    DemandWaits,
    /// A framework's timer.
    TimerFires(FrameworkId, String),
    /// A demand's own end.
    DemandEnds(FrameworkId, String),
    /// A step may be tried again.
    StepRetries(FrameworkId),
    /// A failed policy may be tried again.
    PolicyRetries,
    /// An operator's request has waited long enough.
    RequestEnds(RequestId),
    /// An agent has been disconnected long enough.
    AgentUnreachable(AgentId),
    /// An agent has been unreachable long enough.
    AgentGone(AgentId),
    /// More agents may be given up.
    BrakeLoosens,
    /// Agents that are not back by now are not waited for.
    AgentsBack,
    /// Time to say and to expect heartbeats.
    HeartbeatRound,
    /// A candidate has been compared for long enough.
    TrialEnds(u64),
}

codec_enum!(Deadline {
    OfferExpires(a), FilterEnds(a), CycleDue, FilterEndsAfterCycle(a), DemandWaits,
    TimerFires(a, b), DemandEnds(a, b), StepRetries(a), PolicyRetries, RequestEnds(a),
    AgentUnreachable(a), AgentGone(a), BrakeLoosens, AgentsBack, HeartbeatRound, TrialEnds(a),
});

/// Deadlines by time.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    /// Leases, which end together for all offers of a cycle. No set is empty.
    leases: BTreeMap<Timestamp, OfferSet>,
    /// Everything else.
    due: BTreeSet<(Timestamp, Deadline)>,
}

codec_struct!(Agenda { leases, due });

impl Agenda {
    pub(crate) fn add(&mut self, at: Timestamp, deadline: Deadline) {
        match deadline {
            Deadline::OfferExpires(id) => self.leases.entry(at).or_default().insert(id),
            other => {
                self.due.insert((at, other));
            }
        }
    }

    pub(crate) fn remove(&mut self, at: Timestamp, deadline: Deadline) {
        let Deadline::OfferExpires(id) = deadline else {
            self.due.remove(&(at, deadline));
            return;
        };
        if let Some(leases) = self.leases.get_mut(&at) {
            leases.remove(id);
            if leases.is_empty() {
                self.leases.remove(&at);
            }
        }
    }

    /// The next deadline that is due, taken out.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, Deadline)> {
        let at = self.next().filter(|at| *at <= now)?;
        // At one instant leases end before anything else happens.
        if let Some(id) = self.leases.get(&at).and_then(|leases| leases.iter().next()) {
            self.remove(at, Deadline::OfferExpires(id));
            return Some((at, Deadline::OfferExpires(id)));
        }
        let (first, _) = self.due.first()?;
        if *first <= now {
            self.due.pop_first()
        } else {
            None
        }
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let lease = self.leases.first_key_value().map(|(at, _)| *at);
        let other = self.due.first().map(|(at, _)| *at);
        match (lease, other) {
            (Some(lease), Some(other)) => Some(lease.min(other)),
            (lease, other) => lease.or(other),
        }
    }
}
