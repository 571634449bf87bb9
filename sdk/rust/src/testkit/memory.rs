//! State, metrics and randomness with the promises of a step.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::framework::{Backend, Page, Pair, StateError};

/// The contract's limits.
const KEY_BYTES_MAX: usize = 512;
const VALUE_BYTES_MAX: usize = 256 * 1024;
const STEP_BYTES_MAX: usize = 1024 * 1024;
const PAGE_BYTES_MAX: usize = 1024 * 1024;
const RANDOM_BYTES_MAX: u32 = 64 * 1024;

/// What the kit says of a host's limits in the context; it enforces only those above.
pub(super) fn limits() -> Vec<(String, u64)> {
    vec![
        ("step-cpu-ms".to_owned(), 50),
        ("memory-bytes".to_owned(), 128 * 1024 * 1024),
        ("state-bytes".to_owned(), 64 * 1024 * 1024),
    ]
}

type Map = BTreeMap<String, Vec<u8>>;

/// The host's side of a framework's imports. `committed` is what an undo goes back to.
#[derive(Default)]
pub(super) struct Memory {
    state: Map,
    metrics: BTreeMap<(String, Vec<Pair>), f64>,
    committed: (Map, BTreeMap<(String, Vec<Pair>), f64>),
    written: usize,
    read_only: bool,
    random: u64,
}

impl Memory {
    pub(super) fn begin(&mut self, step: u64) {
        self.written = 0;
        self.random = step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    pub(super) fn read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    pub(super) fn commit(&mut self) {
        self.committed = (self.state.clone(), self.metrics.clone());
    }

    pub(super) fn undo(&mut self) {
        (self.state, self.metrics) = self.committed.clone();
    }

    pub(super) fn state(&self) -> &Map {
        &self.state
    }

    pub(super) fn metric(&self, name: &str) -> f64 {
        let of_name = self.metrics.iter().filter(|((own, _), _)| own == name);
        of_name.map(|(_, value)| value).sum()
    }

    fn write(&mut self, key: &str, bytes: usize) -> Result<(), StateError> {
        if self.read_only {
            return Err(StateError::ReadOnly);
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(StateError::KeyTooLong);
        }
        if self.written + key.len() + bytes > STEP_BYTES_MAX {
            return Err(StateError::StepTooLarge);
        }
        self.written += key.len() + bytes;
        Ok(())
    }

    fn keys(&self, begin: &str, end: &str) -> impl DoubleEndedIterator<Item = (&String, &Vec<u8>)> {
        let upper = if end.is_empty() {
            Bound::Unbounded
        } else {
            // An end before the begin holds nothing; the map would panic.
            Bound::Excluded(end.max(begin))
        };
        self.state.range::<str, _>((Bound::Included(begin), upper))
    }
}

/// Fills a page. The second value is the first entry that found no room.
fn page<'a>(
    entries: impl Iterator<Item = (&'a String, &'a Vec<u8>)>,
    limit: u32,
) -> (Vec<(String, Vec<u8>)>, Option<String>) {
    let limit = if limit == 0 {
        usize::MAX
    } else {
        limit as usize
    };
    let (mut filled, mut bytes) = (Vec::new(), 0);
    for (key, value) in entries {
        bytes += key.len() + value.len();
        if filled.len() == limit || (bytes > PAGE_BYTES_MAX && !filled.is_empty()) {
            return (filled, Some(key.clone()));
        }
        filled.push((key.clone(), value.clone()));
    }
    (filled, None)
}

impl Backend for Memory {
    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.state.get(key).cloned()
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), StateError> {
        if key.is_empty() {
            return Err(StateError::KeyTooLong);
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(StateError::ValueTooLarge);
        }
        self.write(key, value.len())?;
        self.state.insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, key: &str) -> Result<(), StateError> {
        self.write(key, 0)?;
        self.state.remove(key);
        Ok(())
    }

    fn delete_range(&mut self, begin: &str, end: &str) -> Result<u32, StateError> {
        self.write(begin, end.len())?;
        let keys: Vec<String> = self.keys(begin, end).map(|(key, _)| key.clone()).collect();
        for key in &keys {
            self.state.remove(key);
        }
        Ok(u32::try_from(keys.len()).unwrap_or(u32::MAX))
    }

    fn range(&mut self, begin: &str, end: &str, limit: u32) -> Page {
        let (entries, next) = page(self.keys(begin, end), limit);
        Page { entries, next }
    }

    fn range_backward(&mut self, begin: &str, end: &str, limit: u32) -> Page {
        let (entries, next) = page(self.keys(begin, end).rev(), limit);
        // `end` is excluded, so going on means: from the last that was given.
        let next = next.and_then(|_| entries.last().map(|(key, _)| key.clone()));
        Page { entries, next }
    }

    fn count(&mut self, name: &str, labels: &[Pair], by: u64) {
        self.observe(name, labels, by as f64);
    }

    fn gauge(&mut self, name: &str, labels: &[Pair], value: f64) {
        if !self.read_only {
            let key = (name.to_owned(), labels.to_vec());
            self.metrics.insert(key, value);
        }
    }

    fn observe(&mut self, name: &str, labels: &[Pair], value: f64) {
        if !self.read_only {
            let key = (name.to_owned(), labels.to_vec());
            *self.metrics.entry(key).or_default() += value;
        }
    }

    fn random(&mut self) -> u64 {
        // SplitMix64: tiny, well mixed, the same on every machine.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn random_bytes(&mut self, count: u32) -> Vec<u8> {
        let count = count.min(RANDOM_BYTES_MAX) as usize;
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(self.random().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
