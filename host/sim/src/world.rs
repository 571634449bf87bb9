//! One thread, one clock, one queue: everything that happens in a simulated cluster, in its order.

mod agent;
mod client;
mod election;
mod faults;
mod host;
mod log;
mod machine;
mod network;
mod operators;
mod plugins;
mod policies;
mod settle;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use proffer_agent::logic::{Found, Input};
use proffer_core::Event;
use proffer_model::{FrameworkId, LaunchNumber, Timestamp};
use proffer_store::leadership::Fence;

use crate::check::{Check, Checked, Tally, Violation};
use crate::dice::Dice;
use crate::etcd::{Asked, Etcd, Heard};
use crate::plugins::Plugins;
use crate::scenario::Scenario;

pub(crate) use plugins::FEEDS;

use agent::AgentNode;
use client::Client;
use faults::FaultKind;
use host::HostNode;
use log::{Log, Write};
use machine::Command;
use network::Link;

/// What clocks show when a simulation begins: any time well after 1970.
const EPOCH: u64 = 1_700_000_000_000;

/// Events that one seed may take: more is a loop without end.
const EVENTS_MAX: u64 = 300_000;

/// Between two recounts of all books.
const RECOUNT_EVERY: u64 = 24;

/// A simulated cluster.
pub(crate) struct World {
    /// Milliseconds since it began.
    pub(crate) now: u64,
    pub(crate) scenario: Scenario,
    pub(crate) check: Check,
    /// What runs in place of native plug-ins.
    pub(crate) plugins: Option<&'static dyn Plugins>,
    /// Events handled.
    pub(crate) events: u64,
    /// All that happened, in one number.
    pub(crate) hash: u64,
    trace: VecDeque<String>,
    /// Lines of the log that are kept; 0: none is made.
    trace_max: usize,
    queue: BinaryHeap<Reverse<Due>>,
    queued: u64,
    dice: Streams,
    hosts: Vec<HostNode>,
    /// Terms of hosts so far.
    pub(crate) terms: u64,
    log: Log,
    etcd: Etcd,
    agents: Vec<AgentNode>,
    links: BTreeMap<u64, Link>,
    links_made: u64,
    client: Client,
    /// No faults any more.
    calm: bool,
    /// What did not hold, where nobody could say so at once.
    broken: Option<Violation>,
}

/// Randomness by purpose.
struct Streams {
    order: Dice,
    network: Dice,
    etcd: Dice,
    disk: Dice,
    plugin: Dice,
    machine: Dice,
    fault: Dice,
    client: Dice,
    policies: Dice,
}

/// Something that will happen.
struct Due {
    at: u64,
    /// Among what happens in one instant.
    order: u64,
    number: u64,
    what: Occurrence,
}

/// What can happen. Lives tell a process from the one that took its place.
#[derive(Debug)]
enum Occurrence {
    HostStarts {
        host: usize,
    },
    HostWakes {
        life: u64,
        wake: u64,
    },
    DiskWritten {
        life: u64,
    },
    Stored {
        life: u64,
        after: u64,
    },
    ElectionWakes {
        host: usize,
        process: u64,
        wake: u64,
    },
    ElectionHears {
        host: usize,
        process: u64,
        heard: Heard,
    },
    EtcdAsked {
        host: usize,
        process: u64,
        asked: Asked,
    },
    LeaseEnds {
        lease: i64,
    },
    TakesOver {
        host: usize,
        process: u64,
        fence: Fence,
    },
    Reloads {
        host: usize,
        process: u64,
    },
    Follows {
        host: usize,
        process: u64,
    },
    EtcdWritten {
        host: usize,
        life: u64,
        write: Box<Write>,
    },
    WritesAgain {
        life: u64,
        after: u64,
    },
    Refused {
        host: usize,
        life: u64,
    },
    HostHears {
        life: u64,
        event: Box<Event>,
    },
    HostHearsEnd {
        link: u64,
    },
    Up {
        link: u64,
    },
    Down {
        link: u64,
    },
    AgentHearsEnd {
        link: u64,
    },
    Connects {
        agent: usize,
        life: u64,
        epoch: u64,
    },
    AgentStarts {
        agent: usize,
    },
    AgentHears {
        agent: usize,
        life: u64,
        input: Box<Input>,
    },
    AgentTicks {
        agent: usize,
        life: u64,
        tick: u64,
    },
    AgentSynced {
        agent: usize,
        life: u64,
    },
    AgentCleans {
        agent: usize,
        life: u64,
    },
    Runner {
        agent: usize,
        life: u64,
        framework: FrameworkId,
        command: Box<Command>,
    },
    TaskEnds {
        agent: usize,
        launch: LaunchNumber,
        stop: u64,
    },
    News {
        agent: usize,
        life: u64,
        launch: LaunchNumber,
        found: Box<Found>,
    },
    Strikes(FaultKind),
    ClientActs,
    CalmBegins,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order, self.number).cmp(&(other.at, other.order, other.number))
    }
}

impl World {
    pub(crate) fn new(seed: u64, scenario: Scenario, trace_max: usize) -> Self {
        let dice = Dice::new(seed);
        let mut world = Self {
            now: 0,
            check: Check::default(),
            plugins: None,
            events: 0,
            hash: seed,
            trace: VecDeque::new(),
            trace_max,
            queue: BinaryHeap::new(),
            queued: 0,
            dice: Streams {
                order: dice.stream("order"),
                network: dice.stream("network"),
                etcd: dice.stream("etcd"),
                disk: dice.stream("disk"),
                plugin: dice.stream("plugin"),
                machine: dice.stream("machine"),
                fault: dice.stream("fault"),
                client: dice.stream("client"),
                policies: dice.stream("policies of operators"),
            },
            hosts: Vec::new(),
            terms: 0,
            log: Log::default(),
            etcd: Etcd::default(),
            agents: Vec::new(),
            links: BTreeMap::new(),
            links_made: 0,
            client: Client::default(),
            calm: false,
            broken: None,
            scenario,
        };
        for host in 0..world.scenario.hosts {
            world.hosts.push(HostNode::default());
            world.at(0, Occurrence::HostStarts { host });
        }
        for (agent, total) in world.scenario.agents.clone().into_iter().enumerate() {
            world.agents.push(AgentNode::new(seed, agent, total));
            let begins = world.dice.machine.below(3_000);
            world.at(begins, Occurrence::AgentStarts { agent });
        }
        world.at(1, Occurrence::ClientActs);
        world.begin_faults();
        let stormy = world.scenario.stormy;
        world.at(stormy, Occurrence::CalmBegins);
        world
    }

    /// Runs to the end: storm, calm, and all that must be so then.
    pub(crate) fn run(&mut self) -> Checked {
        while let Some(Reverse(due)) = self.queue.pop() {
            self.now = self.now.max(due.at);
            self.events += 1;
            if self.events > EVENTS_MAX {
                return Err(settle::not_done(format!(
                    "{EVENTS_MAX} events were not enough"
                )));
            }
            self.note(|| format!("{:?}", due.what));
            self.mix(due.at ^ due.what.code());
            self.happen(due.what)?;
            if let Some(violation) = self.broken.take() {
                return Err(violation);
            }
            if self.is_settled()? {
                return self.check_end();
            }
        }
        Err(settle::not_done("nothing is left to happen".to_owned()))
    }

    /// The end of the log.
    pub(crate) fn last_events(&self) -> Vec<String> {
        self.trace.iter().cloned().collect()
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.check.tally
    }

    pub(crate) fn started(&self) -> usize {
        self.check.machines.count()
    }

    fn happen(&mut self, what: Occurrence) -> Checked {
        match what {
            Occurrence::HostStarts { host } => self.host_starts(host),
            Occurrence::HostWakes { life, wake } => self.host_wakes(life, wake),
            Occurrence::DiskWritten { life } => self.disk_written(life),
            Occurrence::Stored { life, after } => self.host_stored(life, after),
            Occurrence::HostHears { life, event } => self.host_hears(life, *event),
            Occurrence::HostHearsEnd { link } => self.host_hears_end(link),
            what @ (Occurrence::ElectionWakes { .. }
            | Occurrence::ElectionHears { .. }
            | Occurrence::EtcdAsked { .. }
            | Occurrence::LeaseEnds { .. }
            | Occurrence::TakesOver { .. }
            | Occurrence::Reloads { .. }
            | Occurrence::Follows { .. }
            | Occurrence::EtcdWritten { .. }
            | Occurrence::WritesAgain { .. }
            | Occurrence::Refused { .. }) => self.happen_to_leaders(what),
            Occurrence::Up { link } => self.deliver_up(link),
            Occurrence::Down { link } => {
                self.deliver_down(link);
                Ok(())
            }
            Occurrence::AgentHearsEnd { link } => {
                self.agent_hears_end(link);
                Ok(())
            }
            Occurrence::Connects { agent, life, epoch } => {
                self.connects(agent, life, epoch);
                Ok(())
            }
            Occurrence::AgentStarts { agent } => self.agent_starts(agent),
            Occurrence::AgentHears { agent, life, input } => {
                self.agent_input(agent, life, *input);
                Ok(())
            }
            Occurrence::AgentTicks { agent, life, tick } => {
                self.agent_ticks(agent, life, tick);
                Ok(())
            }
            Occurrence::AgentSynced { agent, life } => {
                self.agent_synced(agent, life);
                Ok(())
            }
            Occurrence::AgentCleans { agent, life } => {
                self.agent_cleans(agent, life);
                Ok(())
            }
            Occurrence::Runner {
                agent,
                life,
                framework,
                command,
            } => self.runner_told(agent, life, framework, *command),
            Occurrence::TaskEnds {
                agent,
                launch,
                stop,
            } => {
                self.task_ends(agent, launch, stop);
                Ok(())
            }
            Occurrence::News {
                agent,
                life,
                launch,
                found,
            } => {
                let input = Input::Runner {
                    launch,
                    found: *found,
                };
                self.agent_input(agent, life, input);
                Ok(())
            }
            Occurrence::Strikes(kind) => self.strikes(kind),
            Occurrence::ClientActs => self.client_acts(),
            Occurrence::CalmBegins => self.calm_begins(),
        }
    }

    fn at(&mut self, at: u64, what: Occurrence) {
        self.queued += 1;
        let due = Due {
            at: at.max(self.now),
            order: self.dice.order.throw(),
            number: self.queued,
            what,
        };
        self.queue.push(Reverse(due));
    }

    fn after(&mut self, delay: u64, what: Occurrence) {
        self.at(self.now + delay, what);
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace_max == 0 {
            return;
        }
        if self.trace.len() >= self.trace_max {
            self.trace.pop_front();
        }
        let now = self.now;
        self.trace.push_back(format!("{now:>8} {}", line()));
    }

    /// Everything that happens leaves its mark.
    fn mix(&mut self, number: u64) {
        self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Occurrence {
    /// Tells kinds apart in the log's hash.
    fn code(&self) -> u64 {
        match self {
            Self::HostStarts { host } => 1 << 40 | *host as u64,
            Self::HostWakes { .. } => 2 << 40,
            Self::DiskWritten { .. } | Self::Stored { .. } => 3 << 40,
            Self::HostHears { .. } => 4 << 40,
            Self::HostHearsEnd { link } => 5 << 40 | link,
            Self::Up { link } => 6 << 40 | link,
            Self::Down { link } => 7 << 40 | link,
            Self::AgentHearsEnd { link } => 8 << 40 | link,
            Self::Connects { agent, .. } => 9 << 40 | *agent as u64,
            Self::AgentStarts { agent } => 10 << 40 | *agent as u64,
            Self::AgentHears { agent, .. } => 11 << 40 | *agent as u64,
            Self::AgentTicks { agent, .. } => 12 << 40 | *agent as u64,
            Self::AgentSynced { agent, .. } => 13 << 40 | *agent as u64,
            Self::AgentCleans { agent, .. } => 14 << 40 | *agent as u64,
            Self::Runner { agent, .. } => 15 << 40 | *agent as u64,
            Self::TaskEnds { launch, .. } => 16 << 40 | launch.0,
            Self::News { launch, .. } => 17 << 40 | launch.0,
            Self::Strikes(kind) => 18 << 40 | *kind as u64,
            Self::ClientActs => 19 << 40,
            Self::CalmBegins => 20 << 40,
            Self::ElectionWakes { host, .. } => 21 << 40 | *host as u64,
            Self::ElectionHears { host, .. } => 22 << 40 | *host as u64,
            Self::EtcdAsked { host, .. } => 23 << 40 | *host as u64,
            Self::LeaseEnds { .. } => 24 << 40,
            Self::TakesOver { host, .. } => 25 << 40 | *host as u64,
            Self::Reloads { host, .. } => 26 << 40 | *host as u64,
            Self::Follows { host, .. } => 27 << 40 | *host as u64,
            Self::EtcdWritten { life, .. } => 28 << 40 | life,
            Self::WritesAgain { life, .. } => 29 << 40 | life,
            Self::Refused { host, .. } => 30 << 40 | *host as u64,
        }
    }
}

/// A process's clock: right but for an offset that is its own from start to end.
fn clock(now: u64, offset: i64) -> Timestamp {
    Timestamp((EPOCH + now).saturating_add_signed(offset))
}

/// When the simulation's clock shows what a process's clock shows at a time.
fn unclock(at: Timestamp, offset: i64) -> u64 {
    at.0.saturating_add_signed(-offset).saturating_sub(EPOCH)
}

/// How long something takes: mostly a small part of the most that it may take.
fn delay(dice: &mut Dice, most: u64) -> u64 {
    if dice.one_in(20) {
        dice.between(0, most)
    } else {
        dice.between(0, most.div_ceil(10))
    }
}

/// How far a clock is off when a process starts: mostly a little, now and then it has jumped.
fn jump(dice: &mut Dice) -> i64 {
    let span: i64 = match dice.below(10) {
        0 => 20_000,
        1..3 => 2_000,
        _ => 50,
    };
    i64::try_from(dice.below(2 * span.unsigned_abs() + 1)).unwrap_or(0) - span
}
