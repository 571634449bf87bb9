//! A framework's state: a committed map, and what a step has written over it.
//!
//! A step reads its own writes. Nothing of it is in the map until [`Overlay::finish`]'s writes are
//! applied, and a failed step's overlay is dropped. Host and test kit run this same code.
//!
//! A guest chooses what is in here, so no single call costs more than what it names: ranges that
//! were deleted are kept apart and merged, and are jumped over, not walked.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;
use std::sync::Arc;

use crate::framework::StateWrite;

/// Longest key, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 512;
/// Largest value.
pub const STATE_VALUE_BYTES_MAX: usize = 256 * 1024;
/// Keys and values that one step may write: with its commands, one record of the store.
pub const STATE_STEP_BYTES_MAX: usize = 1024 * 1024;
/// Keys and values of one page of a range.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// What a deleted range costs besides its ends: its record, so that a step has 16,384 at most.
const RANGE_BYTES: usize = 64;
/// How many entries are counted between two looks at the budget: some tens of microseconds.
const PACE_ENTRIES: u32 = 512;

/// Keys and values of a framework.
pub type StateEntries = BTreeMap<String, Arc<[u8]>>;

/// The committed map and its size.
#[derive(Clone, Debug, Default)]
pub struct StateMap {
    entries: StateEntries,
    bytes: u64,
}

/// Why a write is refused. After it nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The key is empty or longer than [`STATE_KEY_BYTES_MAX`].
    KeyTooLong,
    /// The value is larger than [`STATE_VALUE_BYTES_MAX`].
    ValueTooLarge,
    /// The step has written more than [`STATE_STEP_BYTES_MAX`].
    StepTooLarge,
    /// The framework holds as much as it may.
    StoreFull,
    /// The call may only read.
    ReadOnly,
}

/// Whether a call may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `start`.
    Read,
    /// `step`.
    Write,
}

/// A part of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order that was asked for.
    pub entries: Vec<(String, Vec<u8>)>,
    /// Where to go on: the `begin` of the next call (backward: its `end`). None: that was all.
    pub next: Option<String>,
}

/// What one step sees and has written.
#[derive(Debug)]
pub struct Overlay {
    committed: Arc<StateMap>,
    access: Access,
    bytes_max: u64,
    /// Ranges deleted from the committed map, from begin to end (empty: no bound). No two touch.
    gone: BTreeMap<String, String>,
    /// Written after all of `gone`. None: a committed key that is deleted and in no range of `gone`.
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
    /// With these entries.
    #[must_use]
    pub fn new(entries: StateEntries) -> Self {
        let bytes = entries.iter().map(|(key, value)| size(key, value)).sum();
        Self { entries, bytes }
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Everything in it.
    #[must_use]
    pub fn entries(&self) -> &StateEntries {
        &self.entries
    }

    /// Everything in it.
    #[must_use]
    pub fn into_entries(self) -> StateEntries {
        self.entries
    }

    /// Makes a step's writes part of the map. Costs what is written and deleted, not what is kept.
    pub fn apply(&mut self, writes: &[StateWrite]) {
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
                StateWrite::DeleteRange(begin, end) => {
                    let removed = remove_range(&mut self.entries, begin, end);
                    let bytes: u64 = removed.map(|(key, value)| size(&key, &value)).sum();
                    self.bytes -= bytes;
                }
            }
        }
    }
}

/// The bounds of `begin <= key < end`, an empty `end` being none. `None`: nothing is between.
fn bounds<'a>(begin: &'a str, end: &'a str) -> Option<(Bound<&'a str>, Bound<&'a str>)> {
    if end.is_empty() {
        return Some((Bound::Included(begin), Bound::Unbounded));
    }
    (begin < end).then_some((Bound::Included(begin), Bound::Excluded(end)))
}

/// Takes a range's entries out as they are asked for.
fn remove_range<V>(
    map: &mut BTreeMap<String, V>,
    begin: &str,
    end: &str,
) -> impl Iterator<Item = (String, V)> {
    let nothing = (Bound::Included(begin), Bound::Excluded(begin));
    let (begin, end) = bounds(begin, end).unwrap_or(nothing);
    map.extract_if(
        (begin.map(str::to_owned), end.map(str::to_owned)),
        |_, _| true,
    )
}

impl Overlay {
    /// Over a committed map, for a framework that may hold this much.
    #[must_use]
    pub fn new(committed: Arc<StateMap>, access: Access, bytes_max: u64) -> Self {
        let bytes = committed.bytes;
        Self {
            committed,
            access,
            bytes_max,
            gone: BTreeMap::new(),
            points: BTreeMap::new(),
            step_bytes: 0,
            bytes,
        }
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<[u8]>> {
        match self.points.get(key) {
            Some(written) => written.as_ref(),
            None => self.committed_still(key),
        }
    }

    fn committed_still(&self, key: &str) -> Option<&Arc<[u8]>> {
        let value = self.committed.entries.get(key)?;
        self.gone_around(key).is_none().then_some(value)
    }

    /// The deleted range that a key is in.
    fn gone_around(&self, key: &str) -> Option<(&str, &str)> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let (begin, end) = self.gone.range::<str, _>(upto).next_back()?;
        (end.is_empty() || key < end.as_str()).then_some((begin, end))
    }

    /// Writes a value.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), StateError> {
        self.may_write(&[&key])?;
        if key.is_empty() {
            return Err(StateError::KeyTooLong);
        }
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

    /// Takes a key away; one that is not there is no error.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn delete(&mut self, key: String) -> Result<(), StateError> {
        self.may_write(&[&key])?;
        if key.is_empty() {
            return Err(StateError::KeyTooLong);
        }
        let Some(old) = self.get(&key).map(|old| size(&key, old)) else {
            return Ok(());
        };
        self.charge(key.len())?;
        self.bytes -= old;
        if self.committed_still(&key).is_some() {
            self.points.insert(key, None);
        } else {
            self.points.remove(&key);
        }
        Ok(())
    }

    /// Takes a range of keys away and says how many there were. A range may be as long as the whole
    /// state: `pace` is asked again and again whether to go on, and if not nothing has changed.
    ///
    /// # Errors
    /// What `pace` says; within, see [`StateError`].
    pub fn delete_range<E>(
        &mut self,
        begin: String,
        end: String,
        mut pace: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<u32, StateError>, E> {
        if let Err(refused) = self.may_write(&[&begin, &end]) {
            return Ok(Err(refused));
        }
        let mut count = 0_u32;
        let mut freed = 0_u64;
        for (key, value) in self.visible(&begin, &end, false) {
            count = count.saturating_add(1);
            freed += size(key, value);
            if count.is_multiple_of(PACE_ENTRIES) {
                pace()?;
            }
        }
        if count == 0 {
            return Ok(Ok(0));
        }
        if let Err(refused) = self.charge(RANGE_BYTES + begin.len() + end.len()) {
            return Ok(Err(refused));
        }
        self.bytes -= freed;
        remove_range(&mut self.points, &begin, &end).for_each(drop);
        self.add_gone(begin, end);
        Ok(Ok(count))
    }

    /// Adds a deleted range; those that it touches become one with it.
    fn add_gone(&mut self, mut begin: String, mut end: String) {
        let reaches = |until: &str, from: &str| until.is_empty() || until >= from;
        let upto = (Bound::Unbounded, Bound::Included(begin.as_str()));
        if let Some((before, until)) = self.gone.range::<str, _>(upto).next_back()
            && reaches(until, &begin)
        {
            begin = before.clone();
        }
        let touched: Vec<String> = self
            .gone
            .range::<str, _>((Bound::Included(begin.as_str()), Bound::Unbounded))
            .map(|(from, _)| from.clone())
            .take_while(|from| reaches(&end, from))
            .collect();
        for from in touched {
            if let Some(until) = self.gone.remove(&from)
                && !end.is_empty()
                && reaches(&until, &end)
            {
                end = until;
            }
        }
        self.gone.insert(begin, end);
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

    /// A page of `begin <= key < end`, from the beginning or from the end; a `limit` of 0 is none.
    #[must_use]
    pub fn range(&self, begin: &str, end: &str, limit: u32, backward: bool) -> Page {
        let limit = match limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let mut page = Page {
            entries: Vec::new(),
            next: None,
        };
        let mut bytes = 0;
        for (key, value) in self.visible(begin, end, backward) {
            bytes += key.len() + value.len();
            if let Some((last, _)) = page.entries.last()
                && (page.entries.len() >= limit || bytes > PAGE_BYTES_MAX)
            {
                // Forward, a page begins with what did not fit; backward, it ends before what did.
                let next = if backward { last } else { key };
                page.next = Some(next.to_owned());
                break;
            }
            page.entries.push((key.to_owned(), value.to_vec()));
        }
        page
    }

    fn visible<'a>(&'a self, begin: &'a str, end: &'a str, backward: bool) -> Visible<'a> {
        let bounds = bounds(begin, end);
        Visible {
            overlay: self,
            begin,
            end,
            backward,
            committed: bounds.map(|bounds| self.committed.entries.range::<str, _>(bounds)),
            points: bounds.map(|bounds| self.points.range::<str, _>(bounds)),
            ahead: (None, None),
        }
    }

    /// Bytes that this step has written so far.
    #[must_use]
    pub fn step_bytes(&self) -> usize {
        self.step_bytes
    }

    /// What to make durable: ranges first, then keys in order. The same end as the writes as they
    /// came, in fewer of them.
    #[must_use]
    pub fn finish(self) -> Vec<StateWrite> {
        let ranges = self.gone.into_iter();
        let ranges = ranges.map(|(begin, end)| StateWrite::DeleteRange(begin, end));
        let points = self.points.into_iter().map(|(key, value)| match value {
            Some(value) => StateWrite::Set(key, value),
            None => StateWrite::Delete(key),
        });
        ranges.chain(points).collect()
    }
}

type Entry<'a> = (&'a str, &'a Arc<[u8]>);

/// The committed map and what was written over it, merged.
struct Visible<'a> {
    overlay: &'a Overlay,
    begin: &'a str,
    end: &'a str,
    backward: bool,
    committed: Option<btree_map::Range<'a, String, Arc<[u8]>>>,
    points: Option<btree_map::Range<'a, String, Option<Arc<[u8]>>>>,
    /// Looked at and not yet given out: of the committed map, and written.
    ahead: (Option<Entry<'a>>, Option<Entry<'a>>),
}

impl<'a> Visible<'a> {
    fn next_committed(&mut self) -> Option<Entry<'a>> {
        let overlay = self.overlay;
        loop {
            let (key, value) = step(self.committed.as_mut()?, self.backward)?;
            let Some((from, until)) = overlay.gone_around(key) else {
                if overlay.points.contains_key(key) {
                    continue;
                }
                return Some((key, value));
            };
            // All that is gone is passed at once.
            let left = match self.backward {
                true if from.is_empty() => None,
                true => bounds(self.begin, from),
                false if until.is_empty() => None,
                false => bounds(until, self.end),
            };
            self.committed = left.map(|left| overlay.committed.entries.range::<str, _>(left));
        }
    }

    fn next_point(&mut self) -> Option<Entry<'a>> {
        loop {
            let (key, value) = step(self.points.as_mut()?, self.backward)?;
            if let Some(value) = value {
                return Some((key, value));
            }
        }
    }
}

fn step<'a, V>(
    range: &mut btree_map::Range<'a, String, V>,
    backward: bool,
) -> Option<(&'a String, &'a V)> {
    if backward {
        range.next_back()
    } else {
        range.next()
    }
}

impl<'a> Iterator for Visible<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if self.ahead.0.is_none() {
            self.ahead.0 = self.next_committed();
        }
        if self.ahead.1.is_none() {
            self.ahead.1 = self.next_point();
        }
        let point_first = match &self.ahead {
            (Some((key, _)), Some((point, _))) => (point < key) != self.backward,
            (_, point) => point.is_some(),
        };
        if point_first {
            self.ahead.1.take()
        } else {
            self.ahead.0.take()
        }
    }
}

#[cfg(test)]
mod tests;
