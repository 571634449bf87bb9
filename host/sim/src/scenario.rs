//! What a seed chooses before its run begins: how large the cluster is, what runs in it, how the host
//! is configured, and which faults come how often.

use proffer_agent::logic::{Cleaning, Timings};
use proffer_core::{Allocation, CoreConfig};
use proffer_model::Duration;

use crate::dice::Dice;

/// A second of simulated time.
pub(crate) const SECOND: u64 = 1_000;
/// A minute of simulated time.
pub(crate) const MINUTE: u64 = 60 * SECOND;

/// Machines that simulations draw their agents from.
const TOTALS: [&str; 4] = [
    "cpus:4;mem:4096;disk:1000;ports:[31000-31009]",
    "cpus:2;mem:2048;disk:500",
    "cpus:8;mem:8192;disk:2000;ports:[31000-31003]",
    "cpus:3.5;mem:3000;names:{a,b,c}",
];

/// One seed's choices.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// How many hosts: one on its own disk, or several on one etcd.
    pub(crate) hosts: usize,
    /// How long a leader leads without a word to etcd.
    pub(crate) leader_lease: Duration,
    /// What each agent has.
    pub(crate) agents: Vec<&'static str>,
    /// Jobs of the MapReduce framework.
    pub(crate) jobs: u64,
    /// Frameworks that do this and that.
    pub(crate) restless: u64,
    /// A policy component is loaded, and fails now and then.
    pub(crate) loaded_policy: bool,
    /// Operators upgrade, reserve and set quota.
    pub(crate) operators: bool,
    /// Operators put policies in, as canaries too, and give roles policies of their own.
    pub(crate) policies: bool,
    /// An agent is declared gone.
    pub(crate) gives_up: bool,
    /// One of the frameworks is removed.
    pub(crate) removal: bool,
    /// How long faults go on.
    pub(crate) stormy: u64,
    /// Facts in the journal before a snapshot replaces them.
    pub(crate) journal_max: u64,
    /// Bytes of an agent's journal before it is written anew.
    pub(crate) compact_at: usize,
    pub(crate) faults: Faults,
    pub(crate) delays: Delays,
    pub(crate) core: CoreConfig,
    pub(crate) timings: Timings,
    pub(crate) cleaning: Cleaning,
}

/// Mean time between faults of a kind, in milliseconds of the whole cluster; 0: never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// A host dies.
    pub(crate) host_dies: u64,
    /// A host stands still for a while.
    pub(crate) host_stalls: u64,
    /// A host does not reach etcd, or none does.
    pub(crate) etcd_cut: u64,
    /// An agent's process dies.
    pub(crate) agent_dies: u64,
    /// A whole machine dies.
    pub(crate) machine_dies: u64,
    /// A runner dies, with its tasks.
    pub(crate) runner_dies: u64,
    /// A connection breaks, and what was under way with it.
    pub(crate) link_breaks: u64,
    /// An agent is cut off, in one direction or both.
    pub(crate) cut: u64,
    /// Of a thousand steps, so many fail.
    pub(crate) steps_fail: u64,
    /// A framework fails all of its steps for a while.
    pub(crate) framework_ill: u64,
    /// Of a thousand cycles of the loaded policy, so many fail or propose nonsense.
    pub(crate) cycles_fail: u64,
    /// Of a thousand tasks, so many fail.
    pub(crate) tasks_fail: u64,
}

/// How long things take, in milliseconds at most; most take far less.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delays {
    pub(crate) network: u64,
    pub(crate) commit: u64,
    pub(crate) sync: u64,
    pub(crate) step: u64,
    pub(crate) cycle: u64,
}

impl Scenario {
    /// The choices of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed).stream("scenario");
        let agents: Vec<&str> = (0..dice.between(2, 5))
            .filter_map(|_| dice.pick(&TOTALS).copied())
            .collect();
        // What is left must hold all that is to be kept running, with room for what comes and goes.
        let may_give_up = agents.len() > 2;
        Self {
            hosts: pick(&mut dice, &[1, 1, 2, 3]),
            leader_lease: Duration(dice.between(1_000, 6_000)),
            agents,
            jobs: dice.below(3),
            restless: dice.between(1, 2),
            loaded_policy: dice.one_in(2),
            operators: dice.one_in(2),
            policies: Dice::new(seed).stream("policies").one_in(2),
            gives_up: may_give_up && dice.one_in(2),
            removal: dice.one_in(4),
            stormy: dice.between(1, 4) * MINUTE,
            journal_max: dice.between(20, 400),
            compact_at: pick(&mut dice, &[2_000, 20_000, 1_000_000]),
            faults: Faults::new(&mut dice),
            delays: Delays::new(&mut dice),
            core: config(&mut dice, seed),
            timings: Timings {
                resend_first: Duration(pick(&mut dice, &[1_000, 5_000, 10_000])),
                resend_max: Duration(pick(&mut dice, &[10_000, 60_000])),
                reconnect_first: Duration(pick(&mut dice, &[50, 250])),
                reconnect_max: Duration(pick(&mut dice, &[2_000, 10_000])),
                register_within: Duration(pick(&mut dice, &[3_000, 15_000])),
            },
            cleaning: Cleaning {
                keep_for: Duration(pick(&mut dice, &[3 * MINUTE, 24 * 60 * MINUTE])),
                keep_max: pick(&mut dice, &[40, 10_000]),
            },
        }
    }
}

impl Faults {
    fn new(dice: &mut Dice) -> Self {
        // Each kind is often in a run, seldom all of them: what one hides, another run shows.
        let mut every = |often: &[u64]| {
            if dice.one_in(3) { 0 } else { pick(dice, often) }
        };
        Self {
            host_dies: every(&[10 * SECOND, 30 * SECOND, MINUTE]),
            host_stalls: every(&[30 * SECOND, MINUTE]),
            etcd_cut: every(&[20 * SECOND, MINUTE]),
            agent_dies: every(&[5 * SECOND, 20 * SECOND, MINUTE]),
            machine_dies: every(&[MINUTE, 2 * MINUTE]),
            runner_dies: every(&[20 * SECOND, MINUTE]),
            link_breaks: every(&[3 * SECOND, 15 * SECOND, MINUTE]),
            cut: every(&[20 * SECOND, MINUTE]),
            steps_fail: every(&[10, 50, 200]),
            framework_ill: every(&[MINUTE, 2 * MINUTE]),
            cycles_fail: every(&[20, 100, 400]),
            tasks_fail: every(&[20, 100]),
        }
    }
}

impl Delays {
    fn new(dice: &mut Dice) -> Self {
        Self {
            network: pick(dice, &[2, 20, 500]),
            commit: pick(dice, &[1, 15, 300, 3_000]),
            sync: pick(dice, &[1, 10, 500]),
            step: pick(dice, &[1, 50, 2_000]),
            cycle: pick(dice, &[1, 20, 1_000]),
        }
    }
}

fn config(dice: &mut Dice, seed: u64) -> CoreConfig {
    let allocation = if dice.one_in(4) {
        Allocation::Interval(Duration(1_000))
    } else {
        CoreConfig::default().allocation
    };
    CoreConfig {
        allocation,
        lease: Duration(pick(dice, &[3_000, 10_000, 30_000])),
        heartbeat: Duration(pick(dice, &[3_000, 5_000])),
        agent_timeout: Duration(pick(dice, &[10_000, 30_000])),
        ended_tasks_max: pick(dice, &[3, 100, 10_000]),
        batch_rows_max: pick(dice, &[4, 64, 1_024]),
        seed,
        ..CoreConfig::default()
    }
}

fn pick<T: Copy + Default>(dice: &mut Dice, all: &[T]) -> T {
    dice.pick(all).copied().unwrap_or_default()
}
