//! Metrics of each framework: what the core counts of it, and what it reports itself.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proffer_core::{Core, Counters};
use proffer_model::FrameworkId;
use proffer_model::framework::{MetricValue, MetricWrite};

/// Series that one framework may write: its labels are its own, and unbounded otherwise.
const FRAMEWORK_SERIES_MAX: usize = 1_000;

/// A count of the core's: its family, what it is, and where it stands.
type Family = (&'static str, &'static str, fn(&Counters) -> u64);

const FAMILIES: [Family; 14] = [
    ("offers_made", "Offers made", |of| of.offers_made),
    ("offers_accepted", "Offers accepted", |of| {
        of.offers_accepted
    }),
    ("offers_declined", "Offers declined", |of| {
        of.offers_declined
    }),
    (
        "offers_expired",
        "Offers that returned at their lease's end",
        |of| of.offers_expired,
    ),
    ("offers_rescinded", "Offers taken back by the host", |of| {
        of.offers_rescinded
    }),
    ("tasks_launched", "Tasks launched", |of| of.tasks_launched),
    ("steps", "Steps committed", |of| of.steps),
    ("steps_failed", "Steps that failed", |of| of.steps_failed),
    ("answers_stale", "Answers that came too late", |of| {
        of.answers_stale
    }),
    ("commands_rejected", "Commands that were rejected", |of| {
        of.commands_rejected
    }),
    ("updates_repeated", "Updates that agents sent again", |of| {
        of.updates_repeated
    }),
    ("requests", "Requests passed on", |of| of.requests),
    (
        "requests_refused",
        "Requests refused because too many waited",
        |of| of.requests_refused,
    ),
    (
        "outputs_dropped",
        "Names of outputs dropped because there were too many",
        |of| of.outputs_dropped,
    ),
];

/// What a framework says of itself.
#[derive(Debug, Default)]
struct FrameworkSeries {
    name: String,
    /// Name and labels, as they are printed, to a value.
    values: BTreeMap<String, f64>,
    /// Writes that were malformed or too many.
    dropped: u64,
}

impl FrameworkSeries {
    fn write(&mut self, write: &MetricWrite) {
        match write.value {
            // Counters of this size are exact in a float.
            #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
            MetricValue::Count(by) => self.change(write, "_total", |value| value + by as f64),
            MetricValue::Gauge(to) => self.change(write, "", |_| to),
            MetricValue::Observe(seen) => {
                self.change(write, "_sum", |value| value + seen);
                self.change(write, "_count", |value| value + 1.0);
            }
        }
    }

    fn change(&mut self, write: &MetricWrite, suffix: &str, change: impl Fn(f64) -> f64) {
        let key = series(&self.name, &write.name, suffix, &write.labels);
        let room = self.values.len() < FRAMEWORK_SERIES_MAX;
        match self.values.entry(key) {
            Entry::Occupied(mut value) => *value.get_mut() = change(*value.get()),
            Entry::Vacant(place) if room => {
                place.insert(change(0.0));
            }
            Entry::Vacant(_) => self.dropped += 1,
        }
    }
}

/// All frameworks' metrics.
#[derive(Debug, Default)]
pub(crate) struct FrameworkMetrics {
    counters: Mutex<Vec<(Arc<str>, Counters)>>,
    reported: Mutex<BTreeMap<FrameworkId, FrameworkSeries>>,
}

impl FrameworkMetrics {
    /// Looks at the core.
    pub(crate) fn sample(&self, core: &Core) {
        *held(&self.counters) = core
            .framework_counters()
            .map(|(name, _, counters)| (Arc::clone(name), counters.clone()))
            .collect();
    }

    /// What a committed step wrote, and how much of it was dropped. Histograms are kept as sum and
    /// count.
    pub(crate) fn committed(
        &self,
        (id, name): (FrameworkId, &str),
        writes: &[MetricWrite],
        dropped: u32,
    ) {
        if writes.is_empty() && dropped == 0 {
            return;
        }
        let mut all = held(&self.reported);
        let own = all.entry(id).or_insert_with(|| FrameworkSeries {
            name: name.to_owned(),
            ..FrameworkSeries::default()
        });
        own.dropped += u64::from(dropped);
        for write in writes {
            own.write(write);
        }
    }

    /// Drops the series of frameworks that are gone.
    pub(crate) fn forget_gone(&self, exists: impl Fn(FrameworkId) -> bool) {
        held(&self.reported).retain(|framework, _| exists(*framework));
    }

    /// Their part of the page.
    pub(super) fn write_to(&self, text: &mut String) -> fmt::Result {
        let counters = held(&self.counters);
        for (family, help, value) in FAMILIES {
            writeln!(text, "# HELP proffer_framework_{family} {help}.")?;
            writeln!(text, "# TYPE proffer_framework_{family} counter")?;
            for (name, of) in counters.iter() {
                let value = value(of);
                writeln!(
                    text,
                    "proffer_framework_{family}_total{{framework=\"{name}\"}} {value}"
                )?;
            }
        }
        let reported = held(&self.reported);
        for own in reported.values() {
            for (series, value) in &own.values {
                writeln!(text, "{series} {value}")?;
            }
        }
        for FrameworkSeries { name, dropped, .. } in reported.values() {
            writeln!(
                text,
                "proffer_framework_writes_dropped{{framework=\"{name}\"}} {dropped}"
            )?;
        }
        Ok(())
    }
}

fn held<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `proffer_framework_reported{framework="f",metric="jobs_total",kind="map"}`: one family, so that no name
/// of a framework's can clash with another's or the host's.
fn series(framework: &str, name: &str, suffix: &str, labels: &[(String, String)]) -> String {
    let mut text =
        format!("proffer_framework_reported{{framework=\"{framework}\",metric=\"{name}{suffix}\"");
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

    fn text(metrics: &FrameworkMetrics) -> String {
        let mut text = String::new();
        metrics.write_to(&mut text).unwrap();
        text
    }

    #[test]
    fn what_frameworks_write_is_on_the_page_under_their_name() {
        let metrics = FrameworkMetrics::default();
        let write = |value| MetricWrite {
            name: "jobs".to_owned(),
            labels: vec![("kind".to_owned(), "a\"b".to_owned())],
            value,
        };
        let mr = (FrameworkId(1), "mr");
        metrics.committed(mr, &[write(MetricValue::Count(2))], 0);
        metrics.committed(mr, &[write(MetricValue::Count(3))], 2);
        let page = text(&metrics);
        assert!(
            page.contains(
                "proffer_framework_reported{framework=\"mr\",metric=\"jobs_total\",kind=\"ab\"} 5\n"
            ),
            "{page}"
        );
        assert!(page.contains("proffer_framework_writes_dropped{framework=\"mr\"} 2\n"));
        metrics.forget_gone(|_| false);
        assert!(!text(&metrics).contains("mr"));
    }

    #[test]
    fn a_frameworks_series_are_bounded_and_what_is_dropped_is_counted() {
        let metrics = FrameworkMetrics::default();
        let write = |n: usize| MetricWrite {
            name: format!("m{n}"),
            labels: Vec::new(),
            value: MetricValue::Gauge(1.0),
        };
        let writes: Vec<MetricWrite> = (0..FRAMEWORK_SERIES_MAX + 5).map(write).collect();
        metrics.committed((FrameworkId(1), "one"), &writes, 0);
        metrics.committed((FrameworkId(2), "two"), &writes[..1], 0);
        let page = text(&metrics);
        let of = |name: &str| page.matches(&format!("{{framework=\"{name}\",")).count();
        assert_eq!((of("one"), of("two")), (FRAMEWORK_SERIES_MAX, 1));
        assert!(page.contains("proffer_framework_writes_dropped{framework=\"one\"} 5\n"));
    }
}
