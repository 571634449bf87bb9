//! What a framework can call: state, metrics, random, log. All within the step's transaction but
//! the log.

use std::sync::Arc;

use proffer_model::StepRandom;
use proffer_model::framework::{MetricValue, MetricWrite};
use proffer_model::state::{Overlay, StateError};

use crate::bindings::framework::proffer::framework::{metrics, model, random, state};
use crate::bindings::framework::proffer::types::{log, values};
use crate::guest::{Common, GuestData};

/// Metric writes of one step: past it they are dropped and counted.
const METRICS_MAX: usize = 1_000;
/// Longest name or label of a metric.
const METRIC_TEXT_BYTES_MAX: usize = 128;
/// Labels of one metric write.
const METRIC_LABELS_MAX: usize = 8;

/// Store data of a framework's instance.
pub(crate) struct FrameworkGuest {
    pub(crate) common: Common,
    /// Only while a call is under way.
    pub(crate) step: Option<StepScope>,
}

/// What belongs to one call.
pub(crate) struct StepScope {
    pub(crate) state: Overlay,
    pub(crate) metrics: Vec<MetricWrite>,
    pub(crate) metrics_dropped: u32,
    pub(crate) random: StepRandom,
}

impl StepScope {
    pub(crate) fn new(state: Overlay, random: StepRandom) -> Self {
        Self {
            state,
            metrics: Vec::new(),
            metrics_dropped: 0,
            random,
        }
    }

    fn metric(&mut self, name: String, labels: Vec<(String, String)>, value: MetricValue) {
        let finite = match value {
            MetricValue::Count(_) => true,
            MetricValue::Gauge(value) | MetricValue::Observe(value) => value.is_finite(),
        };
        let good = finite
            && self.metrics.len() < METRICS_MAX
            && labels.len() <= METRIC_LABELS_MAX
            && is_metric_name(&name)
            && are_labels(&labels);
        if good {
            self.metrics.push(MetricWrite {
                name,
                labels,
                value,
            });
        } else {
            self.metrics_dropped = self.metrics_dropped.saturating_add(1);
        }
    }
}

/// Labels that the host sets itself.
const METRIC_LABELS_RESERVED: [&str; 2] = ["framework", "metric"];

/// What Prometheus takes as labels of one series: a page with others is refused as a whole.
fn are_labels(labels: &[(String, String)]) -> bool {
    labels.iter().enumerate().all(|(index, (label, value))| {
        is_metric_name(label)
            && !label.starts_with("__")
            && !METRIC_LABELS_RESERVED.contains(&label.as_str())
            && !labels[..index].iter().any(|(before, _)| before == label)
            && value.len() <= METRIC_TEXT_BYTES_MAX
    })
}

fn is_metric_name(name: &str) -> bool {
    name.len() <= METRIC_TEXT_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl GuestData for FrameworkGuest {
    fn common(&mut self) -> &mut Common {
        &mut self.common
    }
}

impl FrameworkGuest {
    /// The call's scope. A guest's initialization (its `start` section) has none.
    fn scope(&mut self) -> wasmtime::Result<&mut StepScope> {
        self.step.as_mut().ok_or_else(|| {
            wasmtime::format_err!("state, metrics and random are there only in start and step")
        })
    }
}

impl values::Host for FrameworkGuest {}
impl model::Host for FrameworkGuest {}

impl log::Host for FrameworkGuest {
    fn write(&mut self, level: log::Level, text: String) -> wasmtime::Result<()> {
        self.common.write_log(level, &text);
        Ok(())
    }
}

impl From<StateError> for state::StateError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::KeyTooLong => Self::KeyTooLong,
            StateError::ValueTooLarge => Self::ValueTooLarge,
            StateError::StepTooLarge => Self::StepTooLarge,
            StateError::StoreFull => Self::StoreFull,
            StateError::ReadOnly => Self::ReadOnly,
        }
    }
}

impl state::Host for FrameworkGuest {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.scope()?.state.get(&key).map(|value| value.to_vec()))
    }

    fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), state::StateError>> {
        Ok(self.scope()?.state.set(key, value).map_err(Into::into))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), state::StateError>> {
        Ok(self.scope()?.state.delete(key).map_err(Into::into))
    }

    fn delete_range(
        &mut self,
        begin: String,
        end: String,
    ) -> wasmtime::Result<Result<u32, state::StateError>> {
        let meter = Arc::clone(&self.common.meter);
        let deleted = self
            .scope()?
            .state
            .delete_range(begin, end, || meter.check_within())?;
        Ok(deleted.map_err(Into::into))
    }

    fn range(
        &mut self,
        begin: String,
        end: String,
        limit: u32,
        backward: bool,
    ) -> wasmtime::Result<state::Page> {
        let page = self.scope()?.state.range(&begin, &end, limit, backward);
        Ok(state::Page {
            entries: page.entries,
            next: page.next,
        })
    }
}

impl metrics::Host for FrameworkGuest {
    fn count(
        &mut self,
        name: String,
        labels: Vec<(String, String)>,
        by: u64,
    ) -> wasmtime::Result<()> {
        self.scope()?.metric(name, labels, MetricValue::Count(by));
        Ok(())
    }

    fn gauge(
        &mut self,
        name: String,
        labels: Vec<(String, String)>,
        value: f64,
    ) -> wasmtime::Result<()> {
        self.scope()?
            .metric(name, labels, MetricValue::Gauge(value));
        Ok(())
    }

    fn observe(
        &mut self,
        name: String,
        labels: Vec<(String, String)>,
        value: f64,
    ) -> wasmtime::Result<()> {
        self.scope()?
            .metric(name, labels, MetricValue::Observe(value));
        Ok(())
    }
}

impl random::Host for FrameworkGuest {
    fn next(&mut self) -> wasmtime::Result<u64> {
        Ok(self.scope()?.random.draw())
    }

    fn bytes(&mut self, count: u32) -> wasmtime::Result<Vec<u8>> {
        Ok(self.scope()?.random.bytes(count))
    }
}
