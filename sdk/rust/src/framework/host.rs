//! What a framework may ask of its host during a call.

use crate::framework::bindings::proffer::framework::{metrics, random, state};
use crate::framework::{Page, Pair, State, StateError};

/// The imported functions behind [`Host`]: the real ones in a component, the test kit's natively.
pub trait Backend {
    /// `state.get`.
    fn get(&mut self, key: &str) -> Option<Vec<u8>>;
    /// `state.set`.
    ///
    /// # Errors
    /// Over a limit, or in `start`.
    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), StateError>;
    /// `state.delete`.
    ///
    /// # Errors
    /// Over a limit, or in `start`.
    fn delete(&mut self, key: &str) -> Result<(), StateError>;
    /// `state.delete-range`.
    ///
    /// # Errors
    /// Over a limit, or in `start`.
    fn delete_range(&mut self, begin: &str, end: &str) -> Result<u32, StateError>;
    /// `state.range`, forward.
    fn range(&mut self, begin: &str, end: &str, limit: u32) -> Page;
    /// `state.range`, backward.
    fn range_backward(&mut self, begin: &str, end: &str, limit: u32) -> Page;
    /// `metrics.count`.
    fn count(&mut self, name: &str, labels: &[Pair], by: u64);
    /// `metrics.gauge`.
    fn gauge(&mut self, name: &str, labels: &[Pair], value: f64);
    /// `metrics.observe`.
    fn observe(&mut self, name: &str, labels: &[Pair], value: f64);
    /// `random.next`.
    fn random(&mut self) -> u64;
    /// `random.bytes`.
    fn random_bytes(&mut self, count: u32) -> Vec<u8>;
}

/// State, metrics and randomness of one call.
pub struct Host<'a> {
    backend: &'a mut dyn Backend,
}

impl<'a> Host<'a> {
    /// Over these functions.
    pub fn new(backend: &'a mut dyn Backend) -> Self {
        Self { backend }
    }

    /// The framework's durable memory.
    pub fn state(&mut self) -> State<'_> {
        State::new(self.backend)
    }

    /// Adds to a counter.
    pub fn count(&mut self, name: &str, labels: &[(&str, &str)], by: u64) {
        self.backend.count(name, &owned(labels), by);
    }

    /// Sets a gauge.
    pub fn gauge(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.backend.gauge(name, &owned(labels), value);
    }

    /// Puts a value into a histogram.
    pub fn observe(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.backend.observe(name, &owned(labels), value);
    }

    /// 64 random bits; a step that is tried again draws the same.
    pub fn random(&mut self) -> u64 {
        self.backend.random()
    }

    /// A random number below `bound`, or 0 if that is 0.
    pub fn random_below(&mut self, bound: u64) -> u64 {
        // The bias of a remainder is below bound / 2^64: nothing that scheduling could notice.
        self.random().checked_rem(bound).unwrap_or(0)
    }

    /// Random bytes, at most 64 KiB.
    pub fn random_bytes(&mut self, count: u32) -> Vec<u8> {
        self.backend.random_bytes(count)
    }
}

fn owned(labels: &[(&str, &str)]) -> Vec<Pair> {
    labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The component's real imports.
pub(crate) struct Imports;

impl Backend for Imports {
    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        state::get(key)
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), StateError> {
        state::set(key, value)
    }

    fn delete(&mut self, key: &str) -> Result<(), StateError> {
        state::delete(key)
    }

    fn delete_range(&mut self, begin: &str, end: &str) -> Result<u32, StateError> {
        state::delete_range(begin, end)
    }

    fn range(&mut self, begin: &str, end: &str, limit: u32) -> Page {
        state::range(begin, end, limit, false)
    }

    fn range_backward(&mut self, begin: &str, end: &str, limit: u32) -> Page {
        state::range(begin, end, limit, true)
    }

    fn count(&mut self, name: &str, labels: &[Pair], by: u64) {
        metrics::count(name, labels, by);
    }

    fn gauge(&mut self, name: &str, labels: &[Pair], value: f64) {
        metrics::gauge(name, labels, value);
    }

    fn observe(&mut self, name: &str, labels: &[Pair], value: f64) {
        metrics::observe(name, labels, value);
    }

    fn random(&mut self) -> u64 {
        random::next()
    }

    fn random_bytes(&mut self, count: u32) -> Vec<u8> {
        random::bytes(count)
    }
}
