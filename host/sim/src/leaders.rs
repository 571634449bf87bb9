//! Hosts that compete for the leadership of one store: the leadership machine, with its store, network
//! and clocks simulated. Answers are late or lost, what is watched is seen twice, hosts stand still and die, clocks are off
//! and run fast or slow, leases end.
//!
//! What it is not: these hosts run no core. Those of [`crate::world`] do, with fewer faults in more time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proffer_model::{Duration, Timestamp};
use proffer_store::leadership::{Action, Event, Fence, Leadership, Timings};

use crate::check::{Checked, Invariant, Tally, Violation};
use crate::dice::Dice;
use crate::etcd::{Asked, Etcd, Heard, SteadyClock};

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
    etcd: Etcd,
    /// The fence of the last write that it took.
    written: Option<Fence>,
}

struct Host {
    life: u64,
    machine: Leadership,
    clock: SteadyClock,
    /// It handles nothing before that.
    stalled_until: u64,
    wakes: u64,
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
    /// A write arrives.
    Written {
        host: usize,
        life: u64,
        fence: i64,
    },
    LeaseEnds {
        lease: i64,
    },
    Strikes,
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
        etcd: Etcd::default(),
        written: None,
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
            clock: SteadyClock {
                offset: self.dice.below(1_000_000),
                per_mille: 1_000 + self.dice.below(2 * RATE_PER_MILLE + 1) - RATE_PER_MILLE,
            },
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
            What::Asked { host, life, asked } => self.asked(host, life, &asked),
            What::Writes { host } => self.writes(host),
            What::Written { host, life, fence } => return self.written(host, life, fence, tally),
            What::LeaseEnds { lease } => {
                if let Some(heard) = self.etcd.lease_due(self.now, lease) {
                    self.tell_all(&heard);
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
        let now = self.hosts[host].clock.at(self.now);
        for action in self.hosts[host].machine.handle(now, event) {
            if let Action::Wake(at) = action {
                let at = self.hosts[host].clock.when(at);
                let at = at.max(self.hosts[host].stalled_until);
                self.wake(host, at);
            } else if let Some(asked) = Asked::of(&action)
                && let Some(delay) = self.way()
            {
                self.after(delay, What::Asked { host, life, asked });
            }
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
        let now = self.hosts[host].clock.at(self.now);
        let life = self.hosts[host].life;
        if let Some(fence) = self.hosts[host].machine.leads(now)
            && let Some(delay) = self.way()
        {
            let fence = fence.0;
            self.after(delay, What::Written { host, life, fence });
        }
    }

    fn written(&mut self, host: usize, life: u64, fence: i64, tally: &mut Tally) -> Checked {
        if self.etcd.leads() != Some(Fence(fence)) {
            self.tell(host, life, Heard::Fenced);
            return Ok(());
        }
        let before = self.written.replace(Fence(fence));
        tally.holds(Invariant::OneLeader, before <= self.written, || {
            format!("the store took a write of {fence} after one of {before:?}")
        })
    }

    fn asked(&mut self, host: usize, life: u64, asked: &Asked) {
        let (place, ttl) = (format!("host-{host}"), self.timings.lease.0);
        let answered = self.etcd.answer(self.now, &place, ttl, asked);
        if let Some((lease, end)) = answered.lease {
            self.after(end - self.now, What::LeaseEnds { lease });
        }
        if let Some(heard) = answered.all {
            self.tell_all(&heard);
        }
        if let Some(heard) = answered.one {
            self.tell(host, life, heard);
        }
    }

    fn tell_all(&mut self, heard: &Heard) {
        for host in 0..self.hosts.len() {
            let life = self.hosts[host].life;
            self.tell(host, life, heard.clone());
        }
    }

    fn leaders(&self) -> Vec<Fence> {
        let leads = |host: &Host| host.machine.leads(host.clock.at(self.now));
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
