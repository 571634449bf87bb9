//! Who leads: the machine that wins the leadership key, renews its lease, and stops in time.
//!
//! Pure: `handle(now, Event) -> actions`. No clock, I/O or randomness; the daemon drives it with etcd
//! ([`crate::etcd`]), the simulator with a store of its own. Same events at the same times, same
//! actions.
//!
//! # Terms
//! - The **leadership key** is one key of the store, attached to a **lease**. Whoever made it leads
//!   until it is gone; the store removes it when the lease ends. Its value says where that host is.
//! - The **fence** is the store's revision at which the key was made. Every write of a leader is one
//!   transaction that fails unless the key still has that revision ([`Fence`]): whatever a former
//!   leader believes, it writes nothing. Fences grow from leader to leader.
//! - **Until** is when this host stops by itself, by its own clock: the moment at which it *sent* the
//!   request that was answered last, plus the lease, minus [`Timings::margin`]. The store counts from
//!   a later moment, so the host stops strictly before the store lets anybody else lead, however
//!   long the answer took. What the margin covers: clocks that run at different rates, and work
//!   under way when the time comes.
//!
//! # How to drive it
//! Make it with [`Leadership::new`], say [`Event::Ticked`], perform the actions, and say what came of
//! each request: exactly one of its answers or [`Event::Failed`], or nothing (it is given up after
//! [`Timings::answer_within`]; an answer that comes later is ignored). [`Action::Wake`] names when to
//! say [`Event::Ticked`] next, and replaces the one before. `now` is a monotonic clock that goes on
//! while the machine sleeps; a time before the last counts as that.
//!
//! Between events, [`Leadership::leads`] says whether effects may leave the host *now*: a host that
//! was stopped for a while must ask it before it does anything else, tick or no tick.
//!
//! Watching the key is not needed for safety, and for liveness only to be quick: say what is seen
//! with [`Event::LeaderSeen`] and [`Event::LeaderGone`]; without a watch a follower looks again once
//! per lease.
//!
//! # Invariants
//! - At any true time at most one machine [`leads`](Leadership::leads), as long as no host's clock
//!   runs slower than the store's by more than the margin allows.
//! - [`Action::Lead`] and [`Action::StepDown`] alternate, the first one first.
//! - A lease that is not needed any more is given back ([`Action::Revoke`]).

mod counts;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(test)]
mod tests;
mod timings;

use std::collections::BTreeMap;

use proffer_model::{Duration, Timestamp};

pub use counts::Counts;
pub use timings::Timings;

/// The store's revision at which the leadership key was made. Later leaders have higher ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub i64);

/// The store's name for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// Tells answers apart. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Whoever holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Since which revision.
    pub fence: Fence,
    /// The key's value: where the leader is, in the shell's own words.
    pub place: String,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time of [`Action::Wake`] has come, or any other moment.
    Ticked,
    /// The answer to [`Action::GrantLease`].
    LeaseGranted {
        /// Of which request.
        request: RequestId,
        /// The lease.
        lease: LeaseId,
        /// How long it lasts without keep-alives.
        ttl: Duration,
    },
    /// An answer to [`Action::Campaign`]: the key was made.
    Won {
        /// Of which request.
        request: RequestId,
        /// The revision at which it was made.
        fence: Fence,
    },
    /// An answer to [`Action::Campaign`]: somebody else has the key.
    Lost {
        /// Of which request.
        request: RequestId,
        /// Who.
        leader: Leader,
    },
    /// The answer to [`Action::KeepAlive`].
    KeptAlive {
        /// Of which request.
        request: RequestId,
        /// How long the lease lasts from there; zero: it is gone.
        ttl: Duration,
    },
    /// A request failed. Whether the store did it nevertheless is unknown.
    Failed {
        /// Which.
        request: RequestId,
        /// How, for people.
        why: String,
    },
    /// The key is there, held by this host or another.
    LeaderSeen(Leader),
    /// The key of that fence is gone.
    LeaderGone {
        /// Whose.
        fence: Fence,
    },
    /// A write of this host was refused because the key is not its own any more.
    FencedOff,
    /// The host ends: it gives the key back, so that another leads at once. Nothing comes after.
    Resigned,
}

/// What the shell is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for a lease; answer with [`Event::LeaseGranted`].
    GrantLease {
        /// Which request.
        request: RequestId,
        /// How long.
        ttl: Duration,
    },
    /// Make the key under this lease if there is none, in one transaction; answer with [`Event::Won`] or
    /// [`Event::Lost`].
    Campaign {
        /// Which request.
        request: RequestId,
        /// Under which lease.
        lease: LeaseId,
    },
    /// Extend the lease; answer with [`Event::KeptAlive`].
    KeepAlive {
        /// Which request.
        request: RequestId,
        /// Which lease.
        lease: LeaseId,
    },
    /// Give the lease back, and the key with it. Nobody waits for the answer.
    Revoke {
        /// Which lease.
        lease: LeaseId,
    },
    /// Somebody else leads, or nobody is known to: where to send whoever asks.
    Follow(Option<Leader>),
    /// Lead. Effects may be released while [`Leadership::leads`].
    Lead {
        /// What every write must carry.
        fence: Fence,
    },
    /// Release no effect from now on, and end what runs.
    StepDown {
        /// Why, for people.
        why: String,
    },
    /// Say [`Event::Ticked`] at this time; replaces the one before.
    Wake(Timestamp),
}

/// The machine. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Leadership {
    timings: Timings,
    state: State,
    now: Timestamp,
    next_request: u64,
    /// What was said last with [`Action::Follow`].
    followed: Option<Leader>,
    woken_at: Option<Timestamp>,
    counts: Counts,
}

#[derive(Clone, Debug)]
enum State {
    /// Somebody leads, or a try failed: the next comes then.
    Following { retry_at: Timestamp },
    /// A lease was asked for.
    Asking { request: RequestId, sent: Timestamp },
    /// The key was asked for.
    Campaigning {
        request: RequestId,
        sent: Timestamp,
        lease: LeaseId,
        /// When to stop if the key is won: counted from when the lease was asked for.
        until: Timestamp,
    },
    /// This host has the key.
    Leading {
        fence: Fence,
        lease: LeaseId,
        until: Timestamp,
        renew_at: Timestamp,
        /// Keep-alives without an answer, by when they were sent.
        unanswered: BTreeMap<RequestId, Timestamp>,
    },
    /// It resigned.
    Ended,
}

impl Leadership {
    /// A host that does not lead yet. `now` is the time of its first event, or earlier.
    #[must_use]
    pub fn new(timings: Timings, now: Timestamp) -> Self {
        Self {
            timings,
            state: State::Following { retry_at: now },
            now,
            next_request: 1,
            followed: None,
            woken_at: None,
            counts: Counts::default(),
        }
    }

    /// How it has gone so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The fence under which effects may leave the host at this moment; none: none may.
    #[must_use]
    pub fn leads(&self, now: Timestamp) -> Option<Fence> {
        match self.state {
            State::Leading { fence, until, .. } if now < until => Some(fence),
            _ => None,
        }
    }

    /// Until when this host may lead if no more keep-alives are answered; none: it does not lead.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self.state {
            State::Leading { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Handles one event; answers what is to be done, in order.
    #[must_use]
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut out = Vec::new();
        // Time first: an answer that comes after the end does not undo it.
        self.end_if_late(&mut out);
        self.dispatch(event, &mut out);
        self.act_if_due(&mut out);
        let wake = self.due();
        if wake != self.woken_at {
            self.woken_at = wake;
            out.extend(wake.map(Action::Wake));
        }
        out
    }

    fn dispatch(&mut self, event: Event, out: &mut Vec<Action>) {
        match event {
            // A shell that is a moment early is told the time again.
            Event::Ticked => self.woken_at = None,
            Event::LeaseGranted {
                request,
                lease,
                ttl,
            } => self.granted(request, lease, ttl, out),
            Event::Won { request, fence } => self.won(request, fence, out),
            Event::Lost { request, leader } => self.lost(request, leader, out),
            Event::KeptAlive { request, ttl } => self.kept_alive(request, ttl, out),
            Event::Failed { request, why } => self.failed(request, &why, out),
            Event::LeaderSeen(leader) => self.leader_seen(leader, out),
            Event::LeaderGone { fence } => self.leader_gone(fence, out),
            Event::FencedOff => {
                if matches!(self.state, State::Leading { .. }) {
                    let why = "the store refused a write: another host leads".to_owned();
                    self.step_down(why, out);
                }
            }
            Event::Resigned => self.resign(out),
        }
    }

    fn end_if_late(&mut self, out: &mut Vec<Action>) {
        if let State::Leading { until, .. } = self.state
            && until <= self.now
        {
            let why = "the lease could not be renewed in time".to_owned();
            self.step_down(why, out);
        }
    }

    fn granted(
        &mut self,
        request: RequestId,
        lease: LeaseId,
        ttl: Duration,
        out: &mut Vec<Action>,
    ) {
        let sent = match self.state {
            State::Asking {
                request: asked,
                sent,
            } if asked == request => sent,
            // An answer that was given up: nobody will need that lease.
            _ => return out.push(Action::Revoke { lease }),
        };
        let campaign = self.request();
        self.state = State::Campaigning {
            request: campaign,
            sent: self.now,
            lease,
            until: self.timings.stops_at(sent, ttl),
        };
        out.push(Action::Campaign {
            request: campaign,
            lease,
        });
    }

    fn won(&mut self, request: RequestId, fence: Fence, out: &mut Vec<Action>) {
        let State::Campaigning {
            request: asked,
            lease,
            until,
            ..
        } = self.state
        else {
            return;
        };
        if asked != request {
            return;
        }
        if until <= self.now {
            // It took so long that the lease may be over: as good as lost.
            out.push(Action::Revoke { lease });
            return self.try_later(out);
        }
        self.followed = None;
        self.state = State::Leading {
            fence,
            lease,
            until,
            renew_at: self.now,
            unanswered: BTreeMap::new(),
        };
        self.counts.terms += 1;
        out.push(Action::Lead { fence });
    }

    fn lost(&mut self, request: RequestId, leader: Leader, out: &mut Vec<Action>) {
        let State::Campaigning {
            request: asked,
            lease,
            ..
        } = self.state
        else {
            return;
        };
        if asked != request {
            return;
        }
        out.push(Action::Revoke { lease });
        self.follow(leader, out);
    }

    fn kept_alive(&mut self, answered: RequestId, ttl: Duration, out: &mut Vec<Action>) {
        let timings = self.timings;
        let State::Leading {
            until, unanswered, ..
        } = &mut self.state
        else {
            return;
        };
        let Some(sent) = unanswered.remove(&answered) else {
            return;
        };
        if ttl == Duration::ZERO {
            return self.step_down("the store has ended the lease".to_owned(), out);
        }
        *until = (*until).max(timings.stops_at(sent, ttl));
    }

    fn failed(&mut self, request: RequestId, why: &str, out: &mut Vec<Action>) {
        if let State::Leading {
            unanswered,
            renew_at,
            ..
        } = &mut self.state
            && unanswered.remove(&request).is_some()
        {
            tracing::debug!(why, "a keep-alive failed");
            self.counts.renewals_failed += 1;
            *renew_at = (*renew_at).min(self.now + self.timings.retry_after);
        }
        match self.state {
            State::Asking { request: asked, .. } if asked == request => self.try_later(out),
            State::Campaigning {
                request: asked,
                lease,
                ..
            } if asked == request => {
                // The key may have been made: with the lease it goes.
                out.push(Action::Revoke { lease });
                self.try_later(out);
            }
            _ => {}
        }
    }

    fn leader_seen(&mut self, leader: Leader, out: &mut Vec<Action>) {
        match self.state {
            State::Leading { fence, .. } if fence < leader.fence => {
                let why = format!("another host leads: {}", leader.place);
                self.step_down(why, out);
                self.follow(leader, out);
            }
            State::Following { .. } => self.follow(leader, out),
            // Its own key, or one that went before it was made; a campaign will tell.
            _ => {}
        }
    }

    fn leader_gone(&mut self, gone: Fence, out: &mut Vec<Action>) {
        match &mut self.state {
            State::Leading { fence, .. } if *fence == gone => {
                self.step_down("the leadership key is gone".to_owned(), out);
            }
            State::Following { retry_at } => {
                let known = self.followed.as_ref().map(|leader| leader.fence);
                if known.is_none_or(|known| known <= gone) {
                    *retry_at = self.now;
                    self.tell_leader(None, out);
                }
            }
            _ => {}
        }
    }

    fn resign(&mut self, out: &mut Vec<Action>) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Leading { lease, .. } => {
                out.push(Action::StepDown {
                    why: "the host is shutting down".to_owned(),
                });
                out.push(Action::Revoke { lease });
            }
            State::Campaigning { lease, .. } => out.push(Action::Revoke { lease }),
            State::Following { .. } | State::Asking { .. } | State::Ended => {}
        }
    }

    /// What the time asks for.
    fn act_if_due(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        let given_up = self.timings.answer_within;
        match &mut self.state {
            State::Following { retry_at } if *retry_at <= now => {
                let request = self.request();
                self.state = State::Asking { request, sent: now };
                out.push(Action::GrantLease {
                    request,
                    ttl: self.timings.lease,
                });
            }
            State::Asking { request, sent } | State::Campaigning { request, sent, .. }
                if *sent + given_up <= now =>
            {
                let request = *request;
                self.failed(request, "no answer in time", out);
            }
            State::Leading {
                lease,
                renew_at,
                unanswered,
                ..
            } if *renew_at <= now => {
                let lease = *lease;
                *renew_at = now + self.timings.renew_every;
                // An answer so late would not help; without this, they would pile up.
                let sent_before = unanswered.len();
                unanswered.retain(|_, sent| now.since(*sent) < self.timings.lease);
                self.counts.renewals_failed += (sent_before - unanswered.len()) as u64;
                self.counts.renewals += 1;
                let request = RequestId(self.next_request);
                self.next_request += 1;
                unanswered.insert(request, now);
                out.push(Action::KeepAlive { request, lease });
            }
            _ => {}
        }
    }

    fn due(&self) -> Option<Timestamp> {
        match &self.state {
            State::Following { retry_at } => Some(*retry_at),
            State::Asking { sent, .. } | State::Campaigning { sent, .. } => {
                Some(*sent + self.timings.answer_within)
            }
            State::Leading {
                until, renew_at, ..
            } => Some((*until).min(*renew_at)),
            State::Ended => None,
        }
    }

    fn step_down(&mut self, why: String, out: &mut Vec<Action>) {
        let State::Leading {
            lease,
            ref unanswered,
            ..
        } = self.state
        else {
            return;
        };
        self.counts.renewals_failed += unanswered.len() as u64;
        out.push(Action::StepDown { why });
        // If the store can be reached, the next leader need not wait for the lease's end.
        out.push(Action::Revoke { lease });
        self.try_later(out);
    }

    fn try_later(&mut self, out: &mut Vec<Action>) {
        self.state = State::Following {
            retry_at: self.now + self.timings.retry_after,
        };
        self.tell_leader(None, out);
    }

    fn follow(&mut self, leader: Leader, out: &mut Vec<Action>) {
        // A watch says when the key goes; this is for a watch that does not.
        self.state = State::Following {
            retry_at: self.now + self.timings.lease,
        };
        self.tell_leader(Some(leader), out);
    }

    fn tell_leader(&mut self, leader: Option<Leader>, out: &mut Vec<Action>) {
        if self.followed != leader {
            self.followed.clone_from(&leader);
            out.push(Action::Follow(leader));
        }
    }

    fn request(&mut self) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        request
    }
}
