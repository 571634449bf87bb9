//! Hosts that compete for the leadership of one store: the leadership machine, with its store, network
//! and clocks simulated. Answers are late or lost, what is watched is seen twice, hosts stand still and die, clocks are off
//! and run fast or slow, leases end.
//!
//! What it is not: these hosts run no core. A cluster of several hosts under load is `tests/`'.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use proffer_model::{Duration, Timestamp};
use proffer_store::leadership::{
    Action, Event, Fence, Leader, Leadership, LeaseId, RequestId, Timings,
};

use crate::check::{Checked, Invariant, Tally, Violation};
use crate::dice::Dice;

/// How long hosts compete, and how long after the last fault one of them leads.
const STORMY: u64 = 60_000;
const CALM: u64 = 30_000;
/// A host tries to write so often while it leads.
const WRITE_EVERY: u64 = 150;
/// Clocks differ by a hundredth at most: far less than the margin covers.
const RATE_PER_MILLE: u64 = 10;

/// The competition.
struct Race {
    now: u64,
    dice: Dice,
    queue: BinaryHeap<Reverse<(u64, u64, u64, What)>>,
    queued: u64,
    timings: Timings,
    hosts: Vec<Host>,
    store: Store,
}

struct Host {
    life: u64,
    machine: Leadership,
    offset: u64,
    per_mille: u64,
    /// It handles nothing before that.
    stalled_until: u64,
    wakes: u64,
}

/// The store: one key, leases, and the fence of the last write that it took.
#[derive(Default)]
struct Store {
    revision: i64,
    leases: BTreeMap<i64, u64>,
    key: Option<(LeaseId, Leader)>,
    written: Option<Fence>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Wakes {
        host: usize,
        life: u64,
        wake: u64,
    },
    Hears {
        host: usize,
        life: u64,
        heard: Heard,
    },
    Asked {
        host: usize,
        life: u64,
        asked: Asked,
    },
    Writes {
        host: usize,
    },
    LeaseEnds {
        lease: i64,
    },
    Strikes,
}

/// What comes from the store, in values that have an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Granted(u64, i64, u64),
    Won(u64, i64),
    Lost(u64, i64, String),
    KeptAlive(u64, u64),
    Failed(u64),
    Seen(i64, String),
    Gone(i64),
    Fenced,
}

/// What goes to the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Grant(u64, u64),
    Campaign(u64, i64),
    KeepAlive(u64, i64),
    Revoke(i64),
    Write(i64),
}

/// Runs one race; answers all that happened, in one number.
pub(crate) fn race(seed: u64, tally: &mut Tally) -> Result<u64, Violation> {
    let mut dice = Dice::new(seed).stream("leaders");
    let lease = Duration(dice.between(1_000, 6_000));
    let mut race = Race {
        now: 0,
        queue: BinaryHeap::new(),
        queued: 0,
        timings: Timings::of_lease(lease),
        hosts: Vec::new(),
        store: Store::default(),
        dice,
    };
    for _ in 0..race.dice.between(2, 3) {
        let host = race.new_host(0);
        race.hosts.push(host);
    }
    for host in 0..race.hosts.len() {
        race.wake(host, 0);
        race.after(WRITE_EVERY, What::Writes { host });
    }
    race.after(1_000, What::Strikes);
    let mut hash = seed;
    while let Some(Reverse((at, _, number, what))) = race.queue.pop() {
        if at > STORMY + CALM {
            break;
        }
        race.now = at;
        hash = (hash.rotate_left(5) ^ at ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
        race.happen(what, tally)?;
        race.check(tally)?;
    }
    let leads = race.leaders();
    tally.holds(Invariant::Liveness, leads.len() == 1, || {
        format!("{} hosts lead long after the last fault", leads.len())
    })?;
    Ok(hash)
}

impl Race {
    fn new_host(&mut self, life: u64) -> Host {
        Host {
            life,
            offset: self.dice.below(1_000_000),
            per_mille: 1_000 + self.dice.below(2 * RATE_PER_MILLE + 1) - RATE_PER_MILLE,
            machine: Leadership::new(self.timings, Timestamp(0)),
            stalled_until: 0,
            wakes: 0,
        }
    }

    fn after(&mut self, delay: u64, what: What) {
        self.queued += 1;
        let order = self.dice.throw();
        let due = (self.now + delay, order, self.queued, what);
        self.queue.push(Reverse(due));
    }

    /// How long a message takes; none: it is lost.
    fn way(&mut self) -> Option<u64> {
        let storm = self.now < STORMY;
        match self.dice.below(30) {
            0 if storm => None,
            1..3 if storm => Some(self.dice.below(4_000)),
            _ => Some(self.dice.below(30)),
        }
    }

    fn happen(&mut self, what: What, tally: &mut Tally) -> Checked {
        match what {
            What::Wakes { host, life, wake } => {
                let own = &self.hosts[host];
                if own.life == life && own.wakes == wake {
                    self.handle(host, life, Event::Ticked);
                }
            }
            What::Hears { host, life, heard } => {
                if self.hosts[host].stalled_until > self.now {
                    let wait = self.hosts[host].stalled_until - self.now;
                    self.after(wait, What::Hears { host, life, heard });
                } else {
                    self.handle(host, life, heard.into_event());
                }
            }
            What::Asked { host, life, asked } => return self.asked(host, life, asked, tally),
            What::Writes { host } => self.writes(host),
            What::LeaseEnds { lease } => {
                if self
                    .store
                    .leases
                    .get(&lease)
                    .is_some_and(|end| *end <= self.now)
                {
                    self.end_lease(lease);
                }
            }
            What::Strikes if self.now < STORMY => {
                self.strike();
                let wait = self.dice.between(500, 8_000);
                self.after(wait, What::Strikes);
            }
            What::Strikes => {}
        }
        Ok(())
    }

    fn strike(&mut self) {
        let host = self.dice.index(self.hosts.len());
        if self.dice.one_in(2) {
            self.hosts[host].stalled_until = self.now + self.dice.between(100, 12_000);
            return;
        }
        let life = self.hosts[host].life + 1;
        self.hosts[host] = self.new_host(life);
        self.wake(host, self.now);
    }

    fn wake(&mut self, host: usize, at: u64) {
        let own = &mut self.hosts[host];
        own.wakes += 1;
        let what = What::Wakes {
            host,
            life: own.life,
            wake: own.wakes,
        };
        self.after(at.saturating_sub(self.now), what);
    }

    fn handle(&mut self, host: usize, life: u64, event: Event) {
        if self.hosts[host].life != life {
            return;
        }
        let now = self.hosts[host].clock(self.now);
        for action in self.hosts[host].machine.handle(now, event) {
            let asked = match action {
                Action::GrantLease { request, ttl } => Asked::Grant(request.0, ttl.0),
                Action::Campaign { request, lease } => Asked::Campaign(request.0, lease.0),
                Action::KeepAlive { request, lease } => Asked::KeepAlive(request.0, lease.0),
                Action::Revoke { lease } => Asked::Revoke(lease.0),
                Action::Wake(at) => {
                    let at = self.hosts[host].unclock(at);
                    let at = at.max(self.hosts[host].stalled_until);
                    self.wake(host, at);
                    continue;
                }
                Action::Follow(_) | Action::Lead { .. } | Action::StepDown { .. } => continue,
            };
            self.ask(host, asked);
        }
    }

    fn ask(&mut self, host: usize, asked: Asked) {
        let life = self.hosts[host].life;
        if let Some(delay) = self.way() {
            self.after(delay, What::Asked { host, life, asked });
        }
    }

    /// What a watch sees may be seen twice; a request is answered once or not at all.
    fn tell(&mut self, host: usize, life: u64, heard: Heard) {
        let seen = matches!(heard, Heard::Seen(..) | Heard::Gone(_) | Heard::Fenced);
        let twice = seen && self.now < STORMY && self.dice.one_in(10);
        for _ in 0..=u64::from(twice) {
            if let Some(delay) = self.way() {
                let heard = heard.clone();
                self.after(delay, What::Hears { host, life, heard });
            }
        }
    }

    /// Whoever leads writes; the store takes it or not.
    fn writes(&mut self, host: usize) {
        self.after(WRITE_EVERY, What::Writes { host });
        if self.hosts[host].stalled_until > self.now {
            return;
        }
        let now = self.hosts[host].clock(self.now);
        if let Some(fence) = self.hosts[host].machine.leads(now) {
            self.ask(host, Asked::Write(fence.0));
        }
    }

    fn asked(&mut self, host: usize, life: u64, asked: Asked, tally: &mut Tally) -> Checked {
        let heard = match asked {
            Asked::Grant(request, ttl) => {
                self.store.revision += 1;
                let lease = self.store.revision;
                self.store.leases.insert(lease, self.now + ttl);
                self.after(ttl, What::LeaseEnds { lease });
                Heard::Granted(request, lease, ttl)
            }
            Asked::Campaign(request, lease) => self.campaign(host, request, lease),
            Asked::KeepAlive(request, lease) => {
                let ttl = self.timings.lease.0;
                let kept = match self.store.leases.get_mut(&lease) {
                    Some(end) => {
                        *end = self.now + ttl;
                        self.after(ttl, What::LeaseEnds { lease });
                        ttl
                    }
                    None => 0,
                };
                Heard::KeptAlive(request, kept)
            }
            Asked::Revoke(lease) => {
                self.end_lease(lease);
                return Ok(());
            }
            Asked::Write(fence) => {
                let own = self.store.key.as_ref().map(|(_, leader)| leader.fence);
                if own != Some(Fence(fence)) {
                    self.tell(host, life, Heard::Fenced);
                    return Ok(());
                }
                let before = self.store.written.replace(Fence(fence));
                return tally.holds(Invariant::OneLeader, before <= own, || {
                    format!("the store took a write of {fence} after one of {before:?}")
                });
            }
        };
        self.tell(host, life, heard);
        Ok(())
    }

    fn campaign(&mut self, host: usize, request: u64, lease: i64) -> Heard {
        if !self.store.leases.contains_key(&lease) {
            return Heard::Failed(request);
        }
        if let Some((_, leader)) = &self.store.key {
            return Heard::Lost(request, leader.fence.0, leader.place.clone());
        }
        self.store.revision += 1;
        let fence = self.store.revision;
        let place = format!("host-{host}");
        let leader = Leader {
            fence: Fence(fence),
            place: place.clone(),
        };
        self.store.key = Some((LeaseId(lease), leader));
        self.tell_all(&Heard::Seen(fence, place));
        Heard::Won(request, fence)
    }

    fn end_lease(&mut self, lease: i64) {
        self.store.leases.remove(&lease);
        if let Some((own, leader)) = &self.store.key
            && own.0 == lease
        {
            let gone = Heard::Gone(leader.fence.0);
            self.store.key = None;
            self.tell_all(&gone);
        }
    }

    fn tell_all(&mut self, heard: &Heard) {
        for host in 0..self.hosts.len() {
            let life = self.hosts[host].life;
            self.tell(host, life, heard.clone());
        }
    }

    fn leaders(&self) -> Vec<Fence> {
        let leads = |host: &Host| host.machine.leads(host.clock(self.now));
        self.hosts.iter().filter_map(leads).collect()
    }

    /// At any time at most one leads, and it holds the key.
    fn check(&self, tally: &mut Tally) -> Checked {
        let leaders = self.leaders();
        tally.holds(Invariant::OneLeader, leaders.len() <= 1, || {
            format!(
                "{} hosts lead at {} ms: {leaders:?}",
                leaders.len(),
                self.now
            )
        })
    }
}

impl Host {
    fn clock(&self, now: u64) -> Timestamp {
        Timestamp(self.offset + now * self.per_mille / 1_000)
    }

    /// Never early: rounded up.
    fn unclock(&self, at: Timestamp) -> u64 {
        let passed = at.0.saturating_sub(self.offset);
        (passed * 1_000).div_ceil(self.per_mille)
    }
}

impl Heard {
    fn into_event(self) -> Event {
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
