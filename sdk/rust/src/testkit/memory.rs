//! State, metrics and randomness with the promises of a step.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use proffer_model::state::{self, Access, Overlay, StateEntries, StateMap};
use proffer_model::{FrameworkId, StepNumber, StepRandom};

use crate::framework::{Backend, Page, Pair, StateError};

/// What a framework may keep, as on a host that is set up by default.
const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Whose randomness a framework of the kit draws.
const FRAMEWORK: FrameworkId = FrameworkId(1);

/// What the kit says of a host's limits in the context; it enforces only those above.
pub(super) fn limits() -> Vec<(String, u64)> {
    vec![
        ("step-cpu-ms".to_owned(), 50),
        ("memory-bytes".to_owned(), 128 * 1024 * 1024),
        ("state-bytes".to_owned(), STATE_BYTES_MAX),
    ]
}

type Metrics = BTreeMap<(String, Vec<Pair>), f64>;

/// The host's side of a framework's imports: the state is the host's own code.
pub(super) struct Memory {
    committed: (Arc<StateMap>, Metrics),
    state: Overlay,
    metrics: Metrics,
    access: Access,
    random: StepRandom,
}

impl Default for Memory {
    fn default() -> Self {
        let committed = Arc::new(StateMap::default());
        Self {
            state: Overlay::new(Arc::clone(&committed), Access::Read, STATE_BYTES_MAX),
            committed: (committed, Metrics::new()),
            metrics: Metrics::new(),
            access: Access::Read,
            random: StepRandom::new(0, FRAMEWORK, StepNumber(0)),
        }
    }
}

impl Memory {
    /// A call begins that sees what is committed.
    pub(super) fn begin(&mut self, step: u64, access: Access) {
        let (committed, metrics) = &self.committed;
        self.state = Overlay::new(Arc::clone(committed), access, STATE_BYTES_MAX);
        self.metrics.clone_from(metrics);
        self.access = access;
        self.random = StepRandom::new(0, FRAMEWORK, StepNumber(step));
    }

    /// The call has succeeded: what it wrote stays.
    pub(super) fn commit(&mut self) {
        let (committed, metrics) = &mut self.committed;
        let none = Overlay::new(Arc::default(), Access::Read, STATE_BYTES_MAX);
        let writes = std::mem::replace(&mut self.state, none).finish();
        Arc::make_mut(committed).apply(&writes);
        metrics.clone_from(&self.metrics);
    }

    pub(super) fn state(&self) -> &StateEntries {
        self.committed.0.entries()
    }

    pub(super) fn metric(&self, name: &str) -> f64 {
        let (_, metrics) = &self.committed;
        let of_name = metrics.iter().filter(|((own, _), _)| own == name);
        of_name.map(|(_, value)| value).sum()
    }
}

fn refused(error: state::StateError) -> StateError {
    match error {
        state::StateError::KeyTooLong => StateError::KeyTooLong,
        state::StateError::ValueTooLarge => StateError::ValueTooLarge,
        state::StateError::StepTooLarge => StateError::StepTooLarge,
        state::StateError::StoreFull => StateError::StoreFull,
        state::StateError::ReadOnly => StateError::ReadOnly,
    }
}

fn page(page: state::Page) -> Page {
    Page {
        entries: page.entries,
        next: page.next,
    }
}

impl Backend for Memory {
    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.state.get(key).map(|value| value.to_vec())
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), StateError> {
        let set = self.state.set(key.to_owned(), value.to_vec());
        set.map_err(refused)
    }

    fn delete(&mut self, key: &str) -> Result<(), StateError> {
        self.state.delete(key.to_owned()).map_err(refused)
    }

    fn delete_range(&mut self, begin: &str, end: &str) -> Result<u32, StateError> {
        // The kit counts no time.
        let go_on = || Ok::<_, Infallible>(());
        let Ok(deleted) = self
            .state
            .delete_range(begin.to_owned(), end.to_owned(), go_on);
        deleted.map_err(refused)
    }

    fn range(&mut self, begin: &str, end: &str, limit: u32) -> Page {
        page(self.state.range(begin, end, limit, false))
    }

    fn range_backward(&mut self, begin: &str, end: &str, limit: u32) -> Page {
        page(self.state.range(begin, end, limit, true))
    }

    fn count(&mut self, name: &str, labels: &[Pair], by: u64) {
        self.observe(name, labels, by as f64);
    }

    fn gauge(&mut self, name: &str, labels: &[Pair], value: f64) {
        if self.access == Access::Write {
            let key = (name.to_owned(), labels.to_vec());
            self.metrics.insert(key, value);
        }
    }

    fn observe(&mut self, name: &str, labels: &[Pair], value: f64) {
        if self.access == Access::Write {
            let key = (name.to_owned(), labels.to_vec());
            *self.metrics.entry(key).or_default() += value;
        }
    }

    fn random(&mut self) -> u64 {
        self.random.draw()
    }

    fn random_bytes(&mut self, count: u32) -> Vec<u8> {
        self.random.bytes(count)
    }
}
