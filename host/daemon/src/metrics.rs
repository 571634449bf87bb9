//! The host's metrics, in Prometheus's text format.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use proffer_core::Core;
use proffer_model::Amount;
use proffer_model::framework::{MetricValue, MetricWrite};
use proffer_record::RecordingTally;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Series that one framework may write: its labels are its own, and unbounded otherwise.
const FRAMEWORK_SERIES_MAX: usize = 1_000;

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
    effects_held: Gauge,
    recording: RecordingGauges,
    /// What frameworks say of themselves: name and labels, as they are printed, to a value.
    frameworks: Mutex<BTreeMap<String, f64>>,
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
            effects_held: gauge("effects_held", "Effects that wait for facts to be durable"),
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
            frameworks: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Looks at the core.
    pub(crate) fn sample(&self, core: &Core) {
        let pool = core.pool();
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
        self.effects_held.set(count(core.held_effects()));
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

    /// What a committed step wrote. Histograms are kept as sum and count.
    pub(crate) fn framework_metrics(&self, framework: &str, writes: &[MetricWrite]) {
        if writes.is_empty() {
            return;
        }
        let mut all = self
            .frameworks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("proffer_framework_{{framework=\"{framework}\",");
        for write in writes {
            let of_framework = all
                .range(prefix.clone()..)
                .take_while(|(k, _)| k.starts_with(&prefix))
                .count();
            let mut add = |suffix: &str, change: &dyn Fn(f64) -> f64| {
                let key = series(framework, &write.name, suffix, &write.labels);
                if all.contains_key(&key) || of_framework < FRAMEWORK_SERIES_MAX {
                    let value = all.entry(key).or_default();
                    *value = change(*value);
                }
            };
            match write.value {
                // Counters of this size are exact in a float.
                #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
                MetricValue::Count(by) => add("_total", &|value| value + by as f64),
                MetricValue::Gauge(to) => add("", &|_| to),
                MetricValue::Observe(seen) => {
                    add("_sum", &|value| value + seen);
                    add("_count", &|value| value + 1.0);
                }
            }
        }
    }

    /// The page.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("the metrics could not be written");
        }
        // Ours come before the end mark.
        let end = "# EOF\n";
        let mut text = text.strip_suffix(end).unwrap_or(&text).to_owned();
        let all = self
            .frameworks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (series, value) in all.iter() {
            text.push_str(&format!("{series} {value}\n"));
        }
        text.push_str(end);
        text
    }
}

/// `proffer_framework_{framework="f",metric="jobs_total",kind="map"}`: one family, so that no name
/// of a framework's can clash with another's or the host's.
fn series(framework: &str, name: &str, suffix: &str, labels: &[(String, String)]) -> String {
    let mut text =
        format!("proffer_framework_{{framework=\"{framework}\",metric=\"{name}{suffix}\"");
    for (label, value) in labels {
        let value: String = value
            .chars()
            .filter(|c| !matches!(c, '"' | '\\') && !c.is_control())
            .collect();
        text.push_str(&format!(",{label}=\"{value}\""));
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frameworks_write_is_on_the_page_under_their_name() {
        let metrics = Metrics::default();
        let write = |value| MetricWrite {
            name: "jobs".to_owned(),
            labels: vec![("kind".to_owned(), "a\"b".to_owned())],
            value,
        };
        metrics.framework_metrics(
            "mr",
            &[write(MetricValue::Count(2)), write(MetricValue::Count(3))],
        );
        let text = metrics.text();
        assert!(
            text.contains(
                "proffer_framework_{framework=\"mr\",metric=\"jobs_total\",kind=\"ab\"} 5\n"
            ),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
