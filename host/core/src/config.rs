//! Everything about the core that an operator may choose.

use proffer_codec::{codec_enum, codec_struct};
use proffer_model::{Amount, Bundle, Duration};

/// The core's configuration; checked and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreConfig {
    /// The cluster's id, told to frameworks.
    pub cluster: String,
    /// The host's region, or empty.
    pub region: String,
    /// When allocation runs.
    pub allocation: Allocation,
    /// How long an offer stands before it returns by itself.
    pub lease: Duration,
    /// How often host and agents tell each other that they live.
    pub heartbeat: Duration,
    /// A disconnected agent is unreachable, and a silent one disconnected, after this long.
    pub agent_timeout: Duration,
    /// An unreachable agent is gone after this long; none: only when an operator says so.
    pub agent_gone_after: Option<Duration>,
    /// So many agents within so long are given up by time: a network that fails takes many agents
    /// away at once, and what is given up does not come back.
    pub agent_removals: (u32, Duration),
    /// How long an operator's request may wait for its framework.
    pub request_timeout: Duration,
    /// Requests that may wait for one framework; more are answered 429 with `retry-after`.
    pub requests_waiting_max: usize,
    /// Frameworks at once: each may have an instance, of which the plug-in host has a bounded number.
    pub frameworks_max: usize,
    /// Rows of one batch. A thousand offers are about a millisecond of a framework's time.
    pub batch_rows_max: usize,
    /// Ended tasks kept per framework for lists and references; the oldest go first.
    pub ended_tasks_max: usize,
    /// Names of published sandboxes kept per framework; the oldest go first.
    pub outputs_max: usize,
    /// Tasks that one framework may have at once.
    pub tasks_max: usize,
    /// Demands that one framework may have at once.
    pub demands_max: usize,
    /// Timers that one framework may have at once.
    pub timers_max: usize,
    /// Grants of one cycle.
    pub grants_max: u32,
    /// Consecutive failed tries of a framework's step, with a batch that cannot be halved, before
    /// it is quarantined.
    pub step_failures_max: u32,
    /// Consecutive failed cycles of a policy before it is left out until it is loaded again.
    pub policy_failures_max: u32,
    /// Alternatives of the smallest amounts worth an offer; none: anything is.
    pub min_offer: Vec<Bundle>,
    /// Agents with gpus are kept for frameworks that take gpus.
    pub gpu_guard: bool,
    /// Quota binds at every depth, and a parent's bounds its subtree. Otherwise, as in Mesos, at the
    /// top alone.
    pub nested_quota: bool,
    /// The host takes offers back by itself when weights, quotas, agents or roles change.
    pub rescinds: bool,
    /// All randomness comes from it.
    pub seed: u64,
}

codec_struct!(CoreConfig {
    cluster,
    region,
    allocation,
    lease,
    heartbeat,
    agent_timeout,
    agent_gone_after,
    agent_removals,
    request_timeout,
    requests_waiting_max,
    frameworks_max,
    batch_rows_max,
    ended_tasks_max,
    outputs_max,
    tasks_max,
    demands_max,
    timers_max,
    grants_max,
    step_failures_max,
    policy_failures_max,
    min_offer,
    gpu_guard,
    nested_quota,
    rescinds,
    seed
});

/// When allocation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// As soon as something has come free or is wanted, coalesced.
    Events {
        /// What a client gave back goes to itself no sooner than this, unless more has come free.
        reoffer: Duration,
        /// A cycle over everything so often, as a safety net.
        sweep: Duration,
    },
    /// Mesos's table of cycles: periodic, and at once when agents or frameworks come.
    Interval(Duration),
}

codec_enum!(Allocation { Events { reoffer, sweep }, Interval(a) });

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            cluster: "local".to_owned(),
            region: String::new(),
            allocation: Allocation::Events {
                reoffer: Duration(1_000),
                sweep: Duration::from_secs(10),
            },
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            agent_timeout: Duration::from_secs(30),
            // Mesos forgets unreachable agents after two weeks.
            agent_gone_after: Some(Duration(14 * Duration::DAY.0)),
            // A rack takes an hour or more: somebody can look first.
            agent_removals: (10, Duration::from_secs(900)),
            request_timeout: Duration::from_secs(30),
            requests_waiting_max: 128,
            frameworks_max: 200,
            batch_rows_max: 1_024,
            ended_tasks_max: 10_000,
            // Ten jobs of ten thousand parts each, in about 20 MiB.
            outputs_max: 100_000,
            tasks_max: 1_000_000,
            demands_max: 1_000,
            timers_max: 10_000,
            grants_max: 100_000,
            step_failures_max: 10,
            policy_failures_max: 5,
            min_offer: vec![
                Bundle {
                    cpus: Amount::from_milli(10),
                    ..Bundle::default()
                },
                Bundle {
                    mem: Amount::from_units(32),
                    ..Bundle::default()
                },
            ],
            gpu_guard: true,
            nested_quota: true,
            rescinds: true,
            seed: 0,
        }
    }
}

/// Decline without a time, and offers that a step leaves unsettled (Mesos's default).
pub(crate) const REFUSE_DEFAULT: Duration = Duration::from_secs(5);
/// Longest decline filter (Mesos's cap).
pub(crate) const REFUSE_MAX: Duration = Duration(365 * Duration::DAY.0);
/// Ids are reserved durably in blocks of this size: one fact per thousands of offers.
pub(crate) const ID_BLOCK: u64 = 65_536;
/// A host that goes on leaves so many ids out: a step may have been shown ids of a block whose fact
/// was not durable yet. The loop stops at 100,000 facts that wait for the store, long before it can
/// have handed out so many.
pub(crate) const ID_GAP: u64 = 1 << 24;
/// First wait after a failed step or cycle; doubles with each further failure.
pub(crate) const BACKOFF_FIRST: Duration = Duration(100);
/// Longest such wait.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// An event that fails alone this often meets its fate.
pub(crate) const ALONE_FAILURES_MAX: u32 = 3;
/// Filter ends are rounded up to this, so that many agents' filters end in one cycle.
pub(crate) const FILTER_GRAIN: Duration = Duration(100);
/// Demand that was all on offer and is not any more wants a cycle over everything, at most so
/// often: whoever declines for ever may not cost a whole cycle each time.
pub(crate) const DEMAND_WAITS_GRAIN: Duration = Duration(100);

/// How long to wait after so many consecutive failures.
pub(crate) fn backoff(failures: u32) -> Duration {
    let doubled = BACKOFF_FIRST
        .0
        .saturating_mul(1 << failures.saturating_sub(1).min(20));
    Duration(doubled.min(BACKOFF_MAX.0))
}
