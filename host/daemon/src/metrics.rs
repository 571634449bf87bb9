//! The host's metrics, in Prometheus's text format.

mod frameworks;
mod leadership;

use std::sync::atomic::{AtomicU64, Ordering};

use proffer_core::{Core, Pool};
use proffer_model::{Amount, Timestamp};
use proffer_record::RecordingTally;
use proffer_store::etcd::Authority;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::leadership::standby_text;

use self::frameworks::FrameworkMetrics;

/// How the recording does.
#[derive(Debug)]
struct RecordingGauges {
    running: Gauge,
    events: Gauge,
    bytes: Gauge,
    stored: Gauge,
    segments: Gauge,
    checkpoints_skipped: Gauge,
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) events: Counter,
    pub(crate) commits: Counter,
    pub(crate) facts: Counter,
    pub(crate) messages_unsent: Counter,
    pub(crate) step_seconds: Histogram,
    agents: Gauge,
    agents_active: Gauge,
    agents_gone: Gauge,
    agents_braked: Gauge,
    tasks: Gauge,
    offers: Gauge,
    filters: Gauge,
    cpus_total_milli: Gauge,
    cpus_used_milli: Gauge,
    mem_total_mib: Gauge,
    mem_used_mib: Gauge,
    cycles: Gauge,
    grants: Gauge,
    grants_stale: Gauge,
    grants_invalid: Gauge,
    policy_failures: Gauge,
    demands_waiting: Gauge,
    wait_longest_ms: Gauge,
    wait_p99_ms: Gauge,
    policies_swapped: Gauge,
    policies_taken_back: Gauge,
    policy_carried_bytes: Gauge,
    canary_grants: Gauge,
    canaries: Gauge,
    role_policies: Gauge,
    role_policy_turns: Gauge,
    role_policy_failures: Gauge,
    effects_held: Gauge,
    clock_ahead_ms: Gauge,
    recording: RecordingGauges,
    pub(crate) frameworks: FrameworkMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("proffer");
        let step_seconds = Histogram::new(exponential_buckets(0.000_02, 4.0, 10));
        registry.register_with_unit(
            "framework_step_cpu",
            "Processor time of frameworks' steps",
            Unit::Seconds,
            step_seconds.clone(),
        );
        let mut counter = |name: &str, help: &str| {
            let metric = Counter::default();
            registry.register(name, help, metric.clone());
            metric
        };
        let events = counter("events", "Events that the core has handled");
        let commits = counter("store_commits", "Durable transactions");
        let facts = counter("store_facts", "Facts made durable");
        let messages_unsent = counter(
            "agent_messages_unsent",
            "Messages to agents that were not sent",
        );
        let mut gauge = |name: &str, help: &str| {
            let metric = Gauge::default();
            registry.register(name, help, metric.clone());
            metric
        };
        Self {
            events,
            commits,
            facts,
            messages_unsent,
            step_seconds,
            agents: gauge("agents", "Agents known"),
            agents_active: gauge("agents_active", "Agents that are offered"),
            agents_gone: gauge("agents_gone", "Agents that are remembered as gone"),
            agents_braked: gauge(
                "agents_braked",
                "Unreachable agents whose time is up, and which the brake keeps",
            ),
            tasks: gauge("tasks_active", "Tasks that have not ended"),
            offers: gauge("offers_outstanding", "Offers that are out"),
            filters: gauge("filters", "Decline filters in force"),
            cpus_total_milli: gauge("pool_cpus_milli", "Thousandths of a cpu in the pool"),
            cpus_used_milli: gauge(
                "pool_cpus_used_milli",
                "Thousandths of a cpu that tasks hold",
            ),
            mem_total_mib: gauge("pool_mem_mebibytes", "Memory in the pool"),
            mem_used_mib: gauge("pool_mem_used_mebibytes", "Memory that tasks hold"),
            cycles: gauge("allocation_cycles", "Allocation cycles since the start"),
            grants: gauge("allocation_grants", "Grants committed since the start"),
            grants_stale: gauge("allocation_grants_stale", "Grants overtaken by events"),
            grants_invalid: gauge(
                "allocation_grants_invalid",
                "Grants wrong by what the policy knew",
            ),
            policy_failures: gauge("policy_failures", "Cycles in which the policy failed"),
            demands_waiting: gauge(
                "demands_waiting",
                "Demands that fit somewhere and have no offer",
            ),
            wait_longest_ms: gauge(
                "demand_wait_longest_milliseconds",
                "Longest wait now of demand that fits somewhere",
            ),
            wait_p99_ms: gauge(
                "demand_wait_p99_milliseconds",
                "All but one in a hundred of such waits, the last thousand included",
            ),
            policies_swapped: gauge("policies_swapped", "Policies that operators put in"),
            policies_taken_back: gauge(
                "policies_taken_back",
                "Policies that failed, and for which the one before was put in again",
            ),
            policy_carried_bytes: gauge(
                "policy_carried_bytes",
                "What the policy said that a successor should know",
            ),
            canaries: gauge("policy_canaries", "1 while a canary decides for some roles"),
            canary_grants: gauge("policy_canary_grants", "Its grants that became offers"),
            role_policies: gauge("role_policies", "Roles with a policy of their own"),
            role_policy_turns: gauge(
                "role_policy_turns",
                "Turns of roles' own policies, since each was set",
            ),
            role_policy_failures: gauge(
                "role_policy_failures",
                "Of those, turns in which such a policy failed",
            ),
            effects_held: gauge("effects_held", "Effects that wait for facts to be durable"),
            clock_ahead_ms: gauge(
                "clock_ahead_milliseconds",
                "By how much the time that plug-ins are told is ahead of this host's clock",
            ),
            recording: RecordingGauges {
                running: gauge("recording_running", "1 while events are recorded"),
                events: gauge("recording_events", "Events recorded since the start"),
                bytes: gauge(
                    "recording_bytes",
                    "Bytes recorded since the start, before compression",
                ),
                stored: gauge("recording_stored_bytes", "Bytes of the recording's files"),
                segments: gauge("recording_segments", "Segments begun since the start"),
                checkpoints_skipped: gauge(
                    "recording_checkpoints_skipped",
                    "Segments not begun because the cluster was too large for a checkpoint",
                ),
            },
            registry,
            frameworks: FrameworkMetrics::default(),
        }
    }
}

impl Metrics {
    /// Looks at the core and its pool, when the host's clock shows this.
    pub(crate) fn sample(&self, core: &Core, pool: &Pool, clock: Timestamp) {
        let policy = core.policy();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let total = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let units = |amount: Amount| amount.milli() / 1_000;
        self.agents.set(count(pool.agents));
        self.agents_active.set(count(pool.agents_active));
        self.agents_gone.set(count(core.agents_gone()));
        self.agents_braked.set(count(core.agents_braked()));
        self.tasks.set(count(pool.tasks));
        self.offers.set(count(pool.offers));
        self.filters.set(count(pool.filters));
        self.cpus_total_milli.set(pool.total.cpus.milli());
        self.cpus_used_milli.set(pool.used.cpus.milli());
        self.mem_total_mib.set(units(pool.total.mem));
        self.mem_used_mib.set(units(pool.used.mem));
        self.cycles.set(total(policy.cycles));
        self.grants.set(total(policy.grants));
        self.grants_stale.set(total(policy.grants_stale));
        self.grants_invalid.set(total(policy.grants_invalid));
        self.policy_failures.set(total(policy.failed_cycles));
        let waits = core.waits();
        self.demands_waiting.set(count(waits.waiting));
        self.wait_longest_ms.set(total(waits.longest.0));
        self.wait_p99_ms.set(total(waits.p99.0));
        let swaps = core.policy_swaps();
        self.policies_swapped.set(total(swaps.swapped));
        self.policies_taken_back.set(total(swaps.taken_back));
        self.policy_carried_bytes.set(count(swaps.carried_bytes));
        let canary = core.policy_canary();
        self.canaries.set(i64::from(canary.is_some()));
        let granted = canary.map_or(0, |canary| canary.tally.grants);
        self.canary_grants.set(total(granted));
        let tallies = || core.tenants().map(|tenant| tenant.tally);
        self.role_policies.set(count(tallies().count()));
        let turns = tallies().map(|tally| tally.turns).sum();
        self.role_policy_turns.set(total(turns));
        let failures = tallies().map(|tally| tally.failures).sum();
        self.role_policy_failures.set(total(failures));
        self.effects_held.set(count(core.held_effects()));
        self.clock_ahead_ms.set(total(core.ahead_of(clock).0));
        self.frameworks.sample(core);
    }

    /// Looks at the recording.
    pub(crate) fn sample_recording(&self, tally: &RecordingTally) {
        let count = |n: &AtomicU64| i64::try_from(n.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        let gauges = &self.recording;
        let running = tally.running.load(Ordering::Relaxed);
        gauges.running.set(i64::from(running));
        gauges.events.set(count(&tally.events));
        gauges.bytes.set(count(&tally.bytes));
        gauges.stored.set(count(&tally.stored));
        gauges.segments.set(count(&tally.segments));
        let skipped = count(&tally.checkpoints_skipped);
        gauges.checkpoints_skipped.set(skipped);
    }

    /// The page, with how leading goes on a host of several.
    pub(crate) fn text(&self, authority: &Authority) -> String {
        let mut text = String::new();
        let mut written = encode(&mut text, &self.registry).is_ok();
        // The frameworks' come before the end mark.
        let end = "# EOF\n";
        let mut text = text.strip_suffix(end).unwrap_or(&text).to_owned();
        written &= self.frameworks.write_to(&mut text).is_ok();
        written &= leadership::write_to(&mut text, authority).is_ok();
        if !written {
            tracing::error!("the metrics could not be written");
        }
        text.push_str(end);
        text
    }
}
