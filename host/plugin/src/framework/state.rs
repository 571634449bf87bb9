//! A framework's state: a committed map, and what a step has written over it.
//!
//! A step reads its own writes. Nothing of it is in the map until [`Overlay::finish`]'s writes are
//! applied, and a failed step's overlay is dropped.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;
use std::sync::Arc;

use proffer_model::framework::StateWrite;

/// Longest key, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 512;
/// Largest value.
pub const STATE_VALUE_BYTES_MAX: usize = 256 * 1024;
/// Keys and values that one step may write: with its commands, one record of the store.
pub const STATE_STEP_BYTES_MAX: usize = 1024 * 1024;
/// Keys and values of one page of a range.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Keys and values of a framework.
pub type StateEntries = BTreeMap<String, Arc<[u8]>>;

/// The committed map and its size.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateMap {
    entries: StateEntries,
    bytes: u64,
}

/// Why a write is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateError {
    KeyTooLong,
    ValueTooLarge,
    StepTooLarge,
    StoreFull,
    ReadOnly,
}

/// Whether a call may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A part of a range.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<(String, Vec<u8>)>,
    pub(crate) next: Option<String>,
}

/// What one step sees and has written.
#[derive(Debug)]
pub(crate) struct Overlay {
    committed: Arc<StateMap>,
    access: Access,
    bytes_max: u64,
    /// Ranges deleted from the committed map.
    gone: Vec<(String, String)>,
    /// Written after all of `gone`; none: deleted.
    points: BTreeMap<String, Option<Arc<[u8]>>>,
    /// Keys and values written by this step.
    step_bytes: usize,
    /// Size of the whole state as this step sees it.
    bytes: u64,
}

fn size(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

impl StateMap {
    pub(crate) fn new(entries: StateEntries) -> Self {
        let bytes = entries.iter().map(|(key, value)| size(key, value)).sum();
        Self { entries, bytes }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn entries(&self) -> &StateEntries {
        &self.entries
    }

    pub(crate) fn into_entries(self) -> StateEntries {
        self.entries
    }

    /// Makes a step's writes part of the map.
    pub(crate) fn apply(&mut self, writes: &[StateWrite]) {
        for write in writes {
            match write {
                StateWrite::Set(key, value) => {
                    self.bytes += size(key, value);
                    if let Some(old) = self.entries.insert(key.clone(), Arc::clone(value)) {
                        self.bytes -= size(key, &old);
                    }
                }
                StateWrite::Delete(key) => {
                    if let Some(old) = self.entries.remove(key) {
                        self.bytes -= size(key, &old);
                    }
                }
                StateWrite::DeleteRange(begin, end) => self.remove_range(begin, end),
            }
        }
    }

    fn remove_range(&mut self, begin: &str, end: &str) {
        if !end.is_empty() && end <= begin {
            return;
        }
        let mut removed = self.entries.split_off(begin);
        if !end.is_empty() {
            let mut after = removed.split_off(end);
            self.entries.append(&mut after);
        }
        let bytes: u64 = removed.iter().map(|(key, value)| size(key, value)).sum();
        self.bytes -= bytes;
    }
}

/// The bounds of `begin <= key < end`, an empty `end` being none. `None`: nothing is between.
fn bounds<'a>(begin: &'a str, end: &'a str) -> Option<(Bound<&'a str>, Bound<&'a str>)> {
    if end.is_empty() {
        return Some((Bound::Included(begin), Bound::Unbounded));
    }
    (begin < end).then_some((Bound::Included(begin), Bound::Excluded(end)))
}

impl Overlay {
    pub(crate) fn new(committed: Arc<StateMap>, access: Access, bytes_max: u64) -> Self {
        let bytes = committed.bytes;
        Self {
            committed,
            access,
            bytes_max,
            gone: Vec::new(),
            points: BTreeMap::new(),
            step_bytes: 0,
            bytes,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Arc<[u8]>> {
        match self.points.get(key) {
            Some(written) => written.as_ref(),
            None if self.is_gone(key) => None,
            None => self.committed.entries.get(key),
        }
    }

    fn is_gone(&self, key: &str) -> bool {
        self.gone
            .iter()
            .any(|(begin, end)| key >= begin.as_str() && (end.is_empty() || key < end.as_str()))
    }

    pub(crate) fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), StateError> {
        self.may_write(&[&key])?;
        if value.len() > STATE_VALUE_BYTES_MAX {
            return Err(StateError::ValueTooLarge);
        }
        let old = self.get(&key).map_or(0, |old| size(&key, old));
        let bytes = self.bytes - old + size(&key, &value);
        if bytes > self.bytes_max && size(&key, &value) > old {
            return Err(StateError::StoreFull);
        }
        self.charge(key.len() + value.len())?;
        self.bytes = bytes;
        self.points.insert(key, Some(value.into()));
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: String) -> Result<(), StateError> {
        self.may_write(&[&key])?;
        let Some(old) = self.get(&key).map(|old| size(&key, old)) else {
            return Ok(());
        };
        self.charge(key.len())?;
        self.bytes -= old;
        self.points.insert(key, None);
        Ok(())
    }

    pub(crate) fn delete_range(&mut self, begin: String, end: String) -> Result<u32, StateError> {
        self.may_write(&[&begin, &end])?;
        if bounds(&begin, &end).is_none() {
            return Ok(0);
        }
        let mut count = 0_u32;
        let mut freed = 0_u64;
        for (key, value) in self.visible(&begin, &end) {
            count = count.saturating_add(1);
            freed += size(key, value);
        }
        self.charge(begin.len() + end.len())?;
        self.bytes -= freed;
        let covered = |key: &String| *key >= begin && (end.is_empty() || *key < end);
        self.points.retain(|key, _| !covered(key));
        self.gone.push((begin, end));
        Ok(count)
    }

    fn may_write(&self, keys: &[&str]) -> Result<(), StateError> {
        if self.access == Access::Read {
            return Err(StateError::ReadOnly);
        }
        if keys.iter().any(|key| key.len() > STATE_KEY_BYTES_MAX) {
            return Err(StateError::KeyTooLong);
        }
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), StateError> {
        let total = self.step_bytes.saturating_add(bytes);
        if total > STATE_STEP_BYTES_MAX {
            return Err(StateError::StepTooLarge);
        }
        self.step_bytes = total;
        Ok(())
    }

    /// A page of `begin <= key < end`, from the beginning or from the end.
    pub(crate) fn range(&self, begin: &str, end: &str, limit: u32, backward: bool) -> Page {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut page = Page {
            entries: Vec::new(),
            next: None,
        };
        let mut bytes = 0;
        let mut visible = self.visible(begin, end);
        while let Some((key, value)) = if backward {
            visible.next_back()
        } else {
            visible.next()
        } {
            bytes += key.len() + value.len();
            let full = page.entries.len() >= limit || bytes > PAGE_BYTES_MAX;
            if full && !(page.entries.is_empty() && limit > 0) {
                // Forward, a page begins with what did not fit; backward, it ends before what did.
                page.next = match page.entries.last() {
                    Some((last, _)) if backward => Some(last.clone()),
                    _ if backward => Some(end.to_owned()),
                    _ => Some(key.to_owned()),
                };
                break;
            }
            page.entries.push((key.to_owned(), value.to_vec()));
        }
        page
    }

    fn visible<'a>(&'a self, begin: &'a str, end: &'a str) -> Visible<'a> {
        let bounds = bounds(begin, end);
        Visible {
            overlay: self,
            committed: bounds.map(|bounds| self.committed.entries.range::<str, _>(bounds)),
            points: bounds.map(|bounds| self.points.range::<str, _>(bounds)),
            front: (None, None),
            back: (None, None),
        }
    }

    /// Bytes that this step has written so far.
    pub(crate) fn step_bytes(&self) -> usize {
        self.step_bytes
    }

    /// What to make durable: ranges first, then keys in order. The same end as the writes as they
    /// came, in fewer of them.
    pub(crate) fn finish(self) -> Vec<StateWrite> {
        let gone = &self.gone;
        let in_gone = |key: &str| {
            gone.iter()
                .any(|(begin, end)| key >= begin.as_str() && (end.is_empty() || key < end.as_str()))
        };
        let points = self
            .points
            .into_iter()
            .filter_map(|(key, value)| match value {
                Some(value) => Some(StateWrite::Set(key, value)),
                None if in_gone(&key) || !self.committed.entries.contains_key(&key) => None,
                None => Some(StateWrite::Delete(key)),
            });
        let points: Vec<StateWrite> = points.collect();
        let mut writes: Vec<StateWrite> = self
            .gone
            .into_iter()
            .map(|(begin, end)| StateWrite::DeleteRange(begin, end))
            .collect();
        writes.extend(points);
        writes
    }
}

type Entry<'a> = (&'a str, &'a Arc<[u8]>);
type Point<'a> = (&'a String, &'a Option<Arc<[u8]>>);

/// The committed map and what was written over it, merged, from both ends.
struct Visible<'a> {
    overlay: &'a Overlay,
    committed: Option<btree_map::Range<'a, String, Arc<[u8]>>>,
    points: Option<btree_map::Range<'a, String, Option<Arc<[u8]>>>>,
    /// Looked at and not yet given out.
    front: (Option<Entry<'a>>, Option<Point<'a>>),
    back: (Option<Entry<'a>>, Option<Point<'a>>),
}

impl<'a> Visible<'a> {
    fn fill(&mut self, backward: bool) {
        let slot = if backward {
            &mut self.back
        } else {
            &mut self.front
        };
        if slot.0.is_none()
            && let Some(committed) = &mut self.committed
        {
            let overlay = self.overlay;
            let shown = |(key, _): &(&'a String, &'a Arc<[u8]>)| {
                !overlay.is_gone(key) && !overlay.points.contains_key(key.as_str())
            };
            let found = if backward {
                committed.rfind(shown)
            } else {
                committed.find(shown)
            };
            slot.0 = found.map(|(key, value)| (key.as_str(), value));
        }
        if slot.1.is_none()
            && let Some(points) = &mut self.points
        {
            slot.1 = if backward {
                points.rfind(|(_, value)| value.is_some())
            } else {
                points.find(|(_, value)| value.is_some())
            };
        }
    }

    fn take(&mut self, backward: bool) -> Option<Entry<'a>> {
        self.fill(backward);
        let slot = if backward {
            &mut self.back
        } else {
            &mut self.front
        };
        let point_first = match (&slot.0, &slot.1) {
            (None, None) => return None,
            (Some((key, _)), Some((point, _))) => (point.as_str() < *key) != backward,
            (None, Some(_)) => true,
            (Some(_), None) => false,
        };
        if !point_first {
            return slot.0.take();
        }
        let (key, value) = slot.1.take()?;
        value.as_ref().map(|value| (key.as_str(), value))
    }

    fn next_back(&mut self) -> Option<Entry<'a>> {
        self.take(true)
    }
}

impl<'a> Iterator for Visible<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        self.take(false)
    }
}

#[cfg(test)]
mod tests;
