//! The machine by itself, and several of them against a store with a clock of its own.

use super::*;
use crate::wire::random::Random;

const LEASE: Duration = Duration(2_000);

fn machine() -> Leadership {
    Leadership::new(Timings::of_lease(LEASE), Timestamp(0))
}

fn at(ms: u64) -> Timestamp {
    Timestamp(ms)
}

fn r(number: u64) -> RequestId {
    RequestId(number)
}

/// Takes the key at time 0: lease asked for at 0, granted at 100, won at 200.
fn leading() -> Leadership {
    let mut machine = machine();
    let asked = machine.handle(at(0), Event::Ticked);
    let grant = Action::GrantLease {
        request: r(1),
        ttl: LEASE,
    };
    assert_eq!(asked, [grant, Action::Wake(at(1_000))]);
    let granted = Event::LeaseGranted {
        request: r(1),
        lease: LeaseId(7),
        ttl: LEASE,
    };
    let campaign = Action::Campaign {
        request: r(2),
        lease: LeaseId(7),
    };
    assert_eq!(
        machine.handle(at(100), granted),
        [campaign, Action::Wake(at(1_100))]
    );
    let won = machine.handle(
        at(200),
        Event::Won {
            request: r(2),
            fence: Fence(40),
        },
    );
    let expected = [
        Action::Lead { fence: Fence(40) },
        Action::KeepAlive {
            request: r(3),
            lease: LeaseId(7),
        },
        Action::Wake(at(600)),
    ];
    assert_eq!(won, expected);
    machine
}

fn down(why: &str) -> [Action; 2] {
    [
        Action::StepDown {
            why: why.to_owned(),
        },
        Action::Revoke { lease: LeaseId(7) },
    ]
}

#[test]
fn the_lease_counts_from_when_it_was_asked_for() {
    let machine = leading();
    assert_eq!(machine.until(), Some(at(1_500)));
    assert_eq!(machine.leads(at(1_499)), Some(Fence(40)));
    assert_eq!(machine.leads(at(1_500)), None);
}

#[test]
fn a_keep_alive_counts_from_when_it_was_sent_however_late_its_answer() {
    let mut machine = leading();
    let answer = Event::KeptAlive {
        request: r(3),
        ttl: LEASE,
    };
    // Sent at 200, answered at 1,400.
    let _renewals = machine.handle(at(1_400), answer);
    assert_eq!(machine.until(), Some(at(1_700)));
    // Nothing more is answered.
    let late = machine.handle(at(1_700), Event::Ticked);
    let [stepped, revoked] = down("the lease could not be renewed in time");
    assert_eq!(late, [stepped, revoked, Action::Wake(at(1_900))]);
    assert_eq!(machine.leads(at(1_700)), None);
}

#[test]
fn what_became_of_renewals_is_counted() {
    let mut machine = leading();
    let counts = |terms, renewals, renewals_failed| Counts {
        terms,
        renewals,
        renewals_failed,
    };
    assert_eq!(machine.counts(), counts(1, 1, 0));
    let why = "it does not answer".to_owned();
    let failed = Event::Failed { request: r(3), why };
    let _later = machine.handle(at(300), failed);
    assert_eq!(machine.counts(), counts(1, 1, 1));
    let _renewed = machine.handle(at(500), Event::Ticked);
    assert_eq!(machine.counts(), counts(1, 2, 1));
    // Its last one was not answered when the time was over.
    let _down = machine.handle(at(1_500), Event::Ticked);
    assert_eq!(machine.counts(), counts(1, 2, 2));
}

#[test]
fn an_answer_after_the_end_does_not_undo_it() {
    let mut machine = leading();
    let answer = Event::KeptAlive {
        request: r(3),
        ttl: LEASE,
    };
    let late = machine.handle(at(1_500), answer);
    assert_eq!(late[..2], down("the lease could not be renewed in time"));
    assert_eq!(machine.until(), None);
}

#[test]
fn what_ends_a_leadership_ends_it_at_once() {
    for (event, why) in [
        (
            Event::KeptAlive {
                request: r(3),
                ttl: Duration::ZERO,
            },
            "the store has ended the lease",
        ),
        (
            Event::FencedOff,
            "the store refused a write: another host leads",
        ),
        (
            Event::LeaderGone { fence: Fence(40) },
            "the leadership key is gone",
        ),
    ] {
        let mut machine = leading();
        assert_eq!(machine.handle(at(300), event)[..2], down(why));
        assert_eq!(machine.leads(at(300)), None);
    }
    let mut machine = leading();
    let other = Leader {
        fence: Fence(50),
        place: "b:1".to_owned(),
    };
    let seen = machine.handle(at(300), Event::LeaderSeen(other.clone()));
    assert_eq!(seen[..2], down("another host leads: b:1"));
    assert_eq!(seen[2], Action::Follow(Some(other)));
}

#[test]
fn words_about_others_change_nothing_for_a_leader() {
    for event in [
        Event::LeaderGone { fence: Fence(39) },
        Event::LeaderSeen(Leader {
            fence: Fence(40),
            place: "self".to_owned(),
        }),
        Event::Failed {
            request: r(9),
            why: String::new(),
        },
        Event::Won {
            request: r(2),
            fence: Fence(41),
        },
        Event::KeptAlive {
            request: r(9),
            ttl: LEASE,
        },
    ] {
        let mut machine = leading();
        assert_eq!(machine.handle(at(300), event.clone()), [], "{event:?}");
        assert_eq!(machine.until(), Some(at(1_500)));
    }
}

#[test]
fn a_follower_campaigns_when_the_key_goes_and_without_a_watch_once_per_lease() {
    let mut machine = machine();
    let _asked = machine.handle(at(0), Event::Ticked);
    let _campaign = machine.handle(
        at(10),
        Event::LeaseGranted {
            request: r(1),
            lease: LeaseId(7),
            ttl: LEASE,
        },
    );
    let leader = Leader {
        fence: Fence(5),
        place: "a:1".to_owned(),
    };
    let lost = machine.handle(
        at(20),
        Event::Lost {
            request: r(2),
            leader: leader.clone(),
        },
    );
    let expected = [
        Action::Revoke { lease: LeaseId(7) },
        Action::Follow(Some(leader)),
        Action::Wake(at(2_020)),
    ];
    assert_eq!(lost, expected);
    let mut unwatched = machine.clone();
    assert!(matches!(
        unwatched.handle(at(2_020), Event::Ticked)[..],
        [Action::GrantLease { .. }, Action::Wake(_)]
    ));
    // An older key's end is no news; that of the one that is followed is.
    assert_eq!(
        machine.handle(at(30), Event::LeaderGone { fence: Fence(4) }),
        []
    );
    let gone = machine.handle(at(40), Event::LeaderGone { fence: Fence(5) });
    assert!(matches!(
        gone[..],
        [
            Action::Follow(None),
            Action::GrantLease { .. },
            Action::Wake(_)
        ]
    ));
}

#[test]
fn a_campaign_without_an_answer_gives_its_lease_back() {
    let mut machine = machine();
    let _asked = machine.handle(at(0), Event::Ticked);
    let _campaign = machine.handle(
        at(10),
        Event::LeaseGranted {
            request: r(1),
            lease: LeaseId(7),
            ttl: LEASE,
        },
    );
    let given_up = machine.handle(at(1_010), Event::Ticked);
    assert_eq!(
        given_up,
        [
            Action::Revoke { lease: LeaseId(7) },
            Action::Wake(at(1_210))
        ]
    );
    // The answer was on its way: the lease is gone, so the key is.
    let won = Event::Won {
        request: r(2),
        fence: Fence(9),
    };
    assert_eq!(machine.handle(at(1_020), won), []);
    assert_eq!(machine.leads(at(1_020)), None);
}

#[test]
fn a_host_that_resigns_gives_the_key_back_and_never_comes_again() {
    let mut machine = leading();
    let resigned = machine.handle(at(300), Event::Resigned);
    assert_eq!(resigned, down("the host is shutting down"));
    assert_eq!(machine.handle(at(9_000), Event::Ticked), []);
}

/// A store in true time, between machines whose clocks differ in origin and rate, over a network
/// that delays and loses; machines that stop for a while.
#[test]
fn no_two_lead_at_once_whatever_is_lost_delayed_or_stopped() {
    let (mut led, mut changes) = (0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        world.run(60_000);
        led += world.led_ms;
        changes += world.fence;
        // When faults stop, somebody leads within two leases and a few retries.
        world.calm = true;
        let before = world.led_ms;
        world.run(8_000);
        assert!(world.led_ms > before, "seed {seed}: nobody leads");
    }
    assert!(
        led > 300 * 20_000,
        "somebody led for {led} ms: too little was tried"
    );
    assert!(changes > 300 * 3, "{changes} leaders: too little was tried");
}

struct World {
    random: Random,
    now: u64,
    machines: Vec<Host>,
    /// The key: fence, lease, whose.
    key: Option<(i64, i64, usize)>,
    /// Leases and when they end.
    leases: BTreeMap<i64, u64>,
    fence: i64,
    next_lease: i64,
    /// What is on its way to the store (by when it arrives), and to machines.
    to_store: Vec<(u64, usize, Action)>,
    to_machine: Vec<(u64, usize, Event)>,
    calm: bool,
    led_ms: u64,
}

struct Host {
    machine: Leadership,
    /// Its clock: origin, and thousandths of true time.
    origin: u64,
    rate: u64,
    wake: Option<Timestamp>,
    stopped_until: u64,
    leads: bool,
}

impl Host {
    fn clock(&self, now: u64) -> Timestamp {
        Timestamp(self.origin + now * self.rate / 1_000)
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let machines = (0..3)
            .map(|_| {
                let origin = random.below(1_000_000);
                // Five per cent: far worse than any clock, and within the margin of a quarter.
                let rate = 950 + random.below(101);
                Host {
                    machine: Leadership::new(Timings::of_lease(LEASE), Timestamp(origin)),
                    origin,
                    rate,
                    wake: Some(Timestamp(0)),
                    stopped_until: 0,
                    leads: false,
                }
            })
            .collect();
        Self {
            random,
            now: 0,
            machines,
            key: None,
            leases: BTreeMap::new(),
            fence: 0,
            next_lease: 1,
            to_store: Vec::new(),
            to_machine: Vec::new(),
            calm: false,
            led_ms: 0,
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now += 10;
            self.end_leases();
            self.arrive();
            for index in 0..self.machines.len() {
                self.wake(index);
            }
            let now = self.now;
            let leading = self
                .machines
                .iter()
                .filter(|host| host.machine.leads(host.clock(now)).is_some())
                .count();
            assert!(leading <= 1, "{leading} lead at {now}");
            self.led_ms += 10 * leading as u64;
        }
    }

    fn wake(&mut self, index: usize) {
        let now = self.now;
        if !self.calm && self.random.below(3_000) == 0 {
            self.machines[index].stopped_until = now + self.random.below(6_000);
        }
        let host = &mut self.machines[index];
        let due = host.wake.is_some_and(|at| at <= host.clock(now));
        if due && host.stopped_until <= now {
            host.wake = None;
            self.say(index, Event::Ticked);
        }
    }

    fn say(&mut self, index: usize, event: Event) {
        let now = self.now;
        let host = &mut self.machines[index];
        let actions = host.machine.handle(host.clock(now), event);
        for action in actions {
            match action {
                Action::Wake(at) => self.machines[index].wake = Some(at),
                Action::Lead { .. } => {
                    assert!(!std::mem::replace(&mut self.machines[index].leads, true));
                }
                Action::StepDown { .. } => {
                    assert!(std::mem::take(&mut self.machines[index].leads));
                }
                Action::Follow(_) => {}
                request => {
                    if let Some(delay) = self.travel() {
                        self.to_store.push((now + delay, index, request));
                    }
                }
            }
        }
    }

    fn travel(&mut self) -> Option<u64> {
        match self.random.below(20) {
            _ if self.calm => Some(10),
            0 => None,
            1 => Some(self.random.below(3_000)),
            _ => Some(10 + self.random.below(50)),
        }
    }

    fn end_leases(&mut self) {
        let now = self.now;
        self.leases.retain(|_, ends| *ends > now);
        self.drop_key();
    }

    fn drop_key(&mut self) {
        let gone = self
            .key
            .filter(|(_, lease, _)| !self.leases.contains_key(lease));
        if let Some((fence, ..)) = gone {
            self.key = None;
            for index in 0..self.machines.len() {
                self.answer(
                    index,
                    Event::LeaderGone {
                        fence: Fence(fence),
                    },
                );
            }
        }
    }

    fn answer(&mut self, index: usize, event: Event) {
        if let Some(delay) = self.travel() {
            self.to_machine.push((self.now + delay, index, event));
        }
    }

    fn arrive(&mut self) {
        let now = self.now;
        let due = self.to_store.extract_if(.., |(at, ..)| *at <= now);
        for (_, index, action) in due.collect::<Vec<_>>() {
            self.serve(index, action);
        }
        let machines = &self.machines;
        let due = self.to_machine.extract_if(.., |(at, index, _)| {
            *at <= now && machines[*index].stopped_until <= now
        });
        for (_, index, event) in due.collect::<Vec<_>>() {
            self.say(index, event);
        }
    }

    fn serve(&mut self, index: usize, action: Action) {
        let answer = match action {
            Action::GrantLease { request, ttl } => {
                let lease = self.next_lease;
                self.next_lease += 1;
                self.leases.insert(lease, self.now + ttl.0);
                Event::LeaseGranted {
                    request,
                    lease: LeaseId(lease),
                    ttl,
                }
            }
            Action::Campaign { request, lease } => match self.key {
                Some((fence, _, holder)) => Event::Lost {
                    request,
                    leader: Leader {
                        fence: Fence(fence),
                        place: holder.to_string(),
                    },
                },
                None if self.leases.contains_key(&lease.0) => {
                    self.fence += 1;
                    self.key = Some((self.fence, lease.0, index));
                    Event::Won {
                        request,
                        fence: Fence(self.fence),
                    }
                }
                None => Event::Failed {
                    request,
                    why: "no such lease".to_owned(),
                },
            },
            Action::KeepAlive { request, lease } => {
                let held = self.leases.get_mut(&lease.0);
                let ttl = held.map_or(Duration::ZERO, |ends| {
                    *ends = self.now + LEASE.0;
                    LEASE
                });
                Event::KeptAlive { request, ttl }
            }
            Action::Revoke { lease } => {
                self.leases.remove(&lease.0);
                return self.drop_key();
            }
            other => panic!("{other:?} is no request"),
        };
        self.answer(index, answer);
    }
}
