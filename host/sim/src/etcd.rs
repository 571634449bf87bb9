//! A simulated etcd, as far as leadership needs one: one key, leases and revisions. Requests and answers
//! take their time elsewhere; here each is done at once.

use std::collections::BTreeMap;

use proffer_model::{Duration, Timestamp};
use proffer_store::leadership::{Action, Event, Fence, Leader, LeaseId, RequestId};

/// The store of leaders.
#[derive(Debug, Default)]
pub(crate) struct Etcd {
    revision: i64,
    /// When each ends.
    leases: BTreeMap<i64, u64>,
    key: Option<(LeaseId, Leader)>,
}

/// What a host asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    Grant(u64, u64),
    Campaign(u64, i64),
    KeepAlive(u64, i64),
    Revoke(i64),
}

/// What a host hears, in values that have an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Heard {
    Granted(u64, i64, u64),
    Won(u64, i64),
    Lost(u64, i64, String),
    KeptAlive(u64, u64),
    Failed(u64),
    Seen(i64, String),
    Gone(i64),
    Fenced,
}

/// What comes of a request.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// To whoever asked.
    pub(crate) one: Option<Heard>,
    /// To all who watch the key.
    pub(crate) all: Option<Heard>,
    /// This lease is to be looked at then.
    pub(crate) lease: Option<(i64, u64)>,
}

impl Etcd {
    /// Whose the key is.
    pub(crate) fn leads(&self) -> Option<Fence> {
        self.key.as_ref().map(|(_, leader)| leader.fence)
    }

    /// Does what the host at this place asks, for leases of so many milliseconds.
    pub(crate) fn answer(&mut self, now: u64, place: &str, ttl: u64, asked: &Asked) -> Answered {
        let mut answered = Answered::default();
        match *asked {
            Asked::Grant(request, ttl) => {
                self.revision += 1;
                let lease = self.revision;
                self.leases.insert(lease, now + ttl);
                answered.one = Some(Heard::Granted(request, lease, ttl));
                answered.lease = Some((lease, now + ttl));
            }
            Asked::Campaign(request, lease) => self.campaign(request, lease, place, &mut answered),
            Asked::KeepAlive(request, lease) => {
                let kept = self.leases.get_mut(&lease).map(|end| *end = now + ttl);
                answered.lease = kept.map(|()| (lease, now + ttl));
                let rest = kept.map_or(0, |()| ttl);
                answered.one = Some(Heard::KeptAlive(request, rest));
            }
            Asked::Revoke(lease) => answered.all = self.end_lease(lease),
        }
        answered
    }

    fn campaign(&mut self, request: u64, lease: i64, place: &str, answered: &mut Answered) {
        let heard = if !self.leases.contains_key(&lease) {
            Heard::Failed(request)
        } else if let Some((own, leader)) = &self.key {
            let fence = leader.fence.0;
            match own.0 == lease {
                true => Heard::Won(request, fence),
                false => Heard::Lost(request, fence, leader.place.clone()),
            }
        } else {
            self.revision += 1;
            let fence = self.revision;
            let place = place.to_owned();
            answered.all = Some(Heard::Seen(fence, place.clone()));
            let fence = Fence(fence);
            self.key = Some((LeaseId(lease), Leader { fence, place }));
            Heard::Won(request, fence.0)
        };
        answered.one = Some(heard);
    }

    /// Ends a lease whose time has come; what all who watch the key hear of it.
    pub(crate) fn lease_due(&mut self, now: u64, lease: i64) -> Option<Heard> {
        let due = self.leases.get(&lease).is_some_and(|end| *end <= now);
        if due { self.end_lease(lease) } else { None }
    }

    fn end_lease(&mut self, lease: i64) -> Option<Heard> {
        self.leases.remove(&lease);
        let (_, leader) = self.key.take_if(|(own, _)| own.0 == lease)?;
        Some(Heard::Gone(leader.fence.0))
    }
}

impl Asked {
    /// What an action asks of the store, if it does.
    pub(crate) fn of(action: &Action) -> Option<Self> {
        Some(match action {
            Action::GrantLease { request, ttl } => Self::Grant(request.0, ttl.0),
            Action::Campaign { request, lease } => Self::Campaign(request.0, lease.0),
            Action::KeepAlive { request, lease } => Self::KeepAlive(request.0, lease.0),
            Action::Revoke { lease } => Self::Revoke(lease.0),
            Action::Wake(_) | Action::Follow(_) | Action::Lead { .. } | Action::StepDown { .. } => {
                return None;
            }
        })
    }
}

impl Heard {
    pub(crate) fn into_event(self) -> Event {
        let leader = |fence, place| Leader {
            fence: Fence(fence),
            place,
        };
        match self {
            Self::Granted(request, lease, ttl) => Event::LeaseGranted {
                request: RequestId(request),
                lease: LeaseId(lease),
                ttl: Duration(ttl),
            },
            Self::Won(request, fence) => Event::Won {
                request: RequestId(request),
                fence: Fence(fence),
            },
            Self::Lost(request, fence, place) => Event::Lost {
                request: RequestId(request),
                leader: leader(fence, place),
            },
            Self::KeptAlive(request, ttl) => Event::KeptAlive {
                request: RequestId(request),
                ttl: Duration(ttl),
            },
            Self::Failed(request) => Event::Failed {
                request: RequestId(request),
                why: "the lease is gone".to_owned(),
            },
            Self::Seen(fence, place) => Event::LeaderSeen(leader(fence, place)),
            Self::Gone(fence) => Event::LeaderGone {
                fence: Fence(fence),
            },
            Self::Fenced => Event::FencedOff,
        }
    }
}

/// A clock that goes on while its machine sleeps and never jumps, but runs a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SteadyClock {
    pub(crate) offset: u64,
    pub(crate) per_mille: u64,
}

impl SteadyClock {
    pub(crate) fn at(self, now: u64) -> Timestamp {
        Timestamp(self.offset + now * self.per_mille / 1_000)
    }

    /// When it shows that. Never early: rounded up.
    pub(crate) fn when(self, at: Timestamp) -> u64 {
        let passed = at.0.saturating_sub(self.offset);
        (passed * 1_000).div_ceil(self.per_mille)
    }
}
