//! One allocation cycle, measured: the work of Mesos's own allocator benchmark through the real core
//! and a policy.
//!
//! Agents and frameworks are added, and whole agents go to frameworks in turns: every agent is on
//! offer after a cycle. A round gives all of them back, which is measured by itself, and then runs
//! one cycle. In the cycle are: what has changed, written for the policy; the policy's `apply` and
//! `decide`; every grant judged against the ledger; the offers made, and each framework's copy of
//! them in the batch of its next step. Not in it: the framework's step, and facts, for offers write
//! none.
//!
//! The core has no clock, and neither has this: whoever measures brings the CPU's.

mod bed;
mod traffic;

use std::time::Duration;

use crate::workload::Decide;
pub use bed::{Bed, BuildBedError, Round};

/// The CPU time that this process has used.
pub type CpuClock = fn() -> Duration;

/// How large, and how many roles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Agents of 24 processors, 4,096 MiB, as much disk and 1,001 ports.
    pub agents: u32,
    /// Frameworks.
    pub frameworks: u32,
    /// Each in a role of its own, or all in one.
    pub own_roles: bool,
    /// Mesos's least time for its offer loop at this size, if it was measured, in milliseconds.
    pub mesos_ms: Option<f64>,
}

const fn size(agents: u32, frameworks: u32, own_roles: bool, mesos_ms: f64) -> Size {
    Size {
        agents,
        frameworks,
        own_roles,
        mesos_ms: Some(mesos_ms),
    }
}

/// Sizes, with the *loop CPU, minimum* of Apache Mesos 1.12-dev on a machine of the same kind.
pub const SIZES: [Size; 16] = [
    size(100, 1, false, 0.94),
    size(1_000, 1, false, 11.0),
    size(1_000, 50, false, 12.0),
    size(1_000, 200, false, 19.0),
    size(2_000, 200, false, 37.0),
    size(5_000, 50, false, 87.0),
    size(5_000, 200, false, 107.0),
    size(10_000, 200, false, 225.0),
    size(10_000, 1_000, false, 347.0),
    size(1_000, 50, true, 14.0),
    size(1_000, 200, true, 28.0),
    size(5_000, 200, true, 162.0),
    size(10_000, 200, true, 326.0),
    size(10_000, 1_000, true, 832.0),
    Size {
        agents: 20_000,
        frameworks: 200,
        own_roles: false,
        mesos_ms: None,
    },
    Size {
        agents: 20_000,
        frameworks: 1_000,
        own_roles: false,
        mesos_ms: None,
    },
];

/// What demand is to the policies that are measured: whole agents, as in Mesos.
pub const CONFIG: &str = r#"{"demand":"ignore"}"#;

impl Size {
    /// `AGENTS x FRAMEWORKS`, and whether each has a role.
    #[must_use]
    pub fn name(&self) -> String {
        let roles = if self.own_roles { ", a role each" } else { "" };
        format!("{} x {}{roles}", self.agents, self.frameworks)
    }
}

/// Rounds of several policies, one after the other in each round, on beds of their own: whatever
/// disturbs the machine disturbs all of them.
///
/// # Errors
/// A bed could not be made, or a cycle gave out something else than all agents.
pub fn alternate(
    size: Size,
    deciders: &mut [&mut dyn Decide],
    rounds: usize,
    clock: CpuClock,
) -> Result<Vec<Vec<Round>>, BuildBedError> {
    let mut beds = Vec::new();
    for decider in deciders.iter_mut() {
        beds.push(Bed::new(size, &mut **decider, clock)?);
    }
    let mut all: Vec<Vec<Round>> = vec![Vec::new(); deciders.len()];
    // The first warms up.
    for number in 0..=rounds {
        for ((bed, decider), all) in beds.iter_mut().zip(deciders.iter_mut()).zip(&mut all) {
            let round = bed.round(&mut **decider)?;
            if number > 0 {
                all.push(round);
            }
        }
    }
    Ok(all)
}

/// What it costs when one agent comes free among those of a bed, and goes to somebody else.
///
/// # Errors
/// As [`alternate`].
pub fn incremental(
    size: Size,
    decider: &mut dyn Decide,
    rounds: usize,
    clock: CpuClock,
) -> Result<Vec<Duration>, BuildBedError> {
    let mut bed = Bed::on_events(size, decider, clock)?;
    let mut times = Vec::new();
    for number in 0..=rounds {
        let time = bed.one_comes_free(decider)?;
        if number > 0 {
            times.push(time);
        }
    }
    Ok(times)
}

/// The middle one.
#[must_use]
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
