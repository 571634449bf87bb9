//! Processor time of processes, as `/proc` counts it.

use std::ops::{Add, Sub};

/// Ticks of processor time; the system's unit, a hundredth of a second here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cpu(u64);

/// Ticks per second. The kernel tells them so to every program, whatever its own clock is.
const TICKS: f64 = 100.0;

/// Which processes are what.
pub(crate) struct Processes {
    pub(crate) agents: Vec<u32>,
}

/// Time used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) host: Cpu,
    pub(crate) agents: Cpu,
    pub(crate) runners: Cpu,
    /// Processes that runners have started and that have ended.
    pub(crate) tasks: Cpu,
}

impl Cpu {
    pub(crate) fn seconds(self) -> f64 {
        self.0 as f64 / TICKS
    }
}

impl Add for Cpu {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Cpu {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Usage {
    /// Of this process and those.
    pub(crate) fn of(processes: &Processes) -> Self {
        let mut usage = Self {
            host: own_time(std::process::id()).0,
            ..Self::default()
        };
        for agent in &processes.agents {
            usage.agents = usage.agents + own_time(*agent).0;
            for runner in children(*agent) {
                let (own, ended) = own_time(runner);
                usage.runners = usage.runners + own;
                usage.tasks = usage.tasks + ended;
            }
        }
        usage
    }

    pub(crate) fn since(self, before: &Self) -> Self {
        Self {
            host: self.host - before.host,
            agents: self.agents - before.agents,
            runners: self.runners - before.runners,
            tasks: self.tasks - before.tasks,
        }
    }

    pub(crate) fn total(self) -> Cpu {
        self.host + self.agents + self.runners + self.tasks
    }
}

/// A process's own time, and that of its children that have ended. Zero if it is gone.
fn own_time(pid: u32) -> (Cpu, Cpu) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold anything; fields 14 to 17 of the file are the 12th to 15th after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut ticks = fields.split_ascii_whitespace().skip(11);
    let mut next = || ticks.next().and_then(|tick| tick.parse().ok()).unwrap_or(0);
    let own = Cpu(next() + next());
    (own, Cpu(next() + next()))
}

fn children(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return children;
    };
    for thread in threads.flatten() {
        let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(list.split_ascii_whitespace().flat_map(str::parse::<u32>));
    }
    children
}
