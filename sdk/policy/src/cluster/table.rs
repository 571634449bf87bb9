//! Rows by handle. Handles are dense numbers of one instance's life, so the handle is the index.

/// A row may come so far ahead of the rows before it: a snapshot's parts come in any order within
/// this, and a malformed handle costs a few megabytes at most, not four thousand million rows.
const AHEAD_MAX: usize = 65_536;

/// Rows by handle.
#[derive(Clone, Debug)]
pub(crate) struct Table<T> {
    rows: Vec<Option<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { rows: Vec::new() }
    }
}

impl<T> Table<T> {
    /// The row of a handle.
    pub(crate) fn get(&self, handle: u32) -> Option<&T> {
        self.rows.get(handle as usize)?.as_ref()
    }

    /// The row of a handle, to change.
    pub(crate) fn get_mut(&mut self, handle: u32) -> Option<&mut T> {
        self.rows.get_mut(handle as usize)?.as_mut()
    }

    /// The place of a handle, made if need be; none if the handle is not dense.
    pub(crate) fn place(&mut self, handle: u32) -> Option<&mut Option<T>> {
        let index = handle as usize;
        if index >= self.rows.len() {
            if index >= self.rows.len().saturating_mul(2) + AHEAD_MAX {
                return None;
            }
            self.rows.resize_with(index + 1, || None);
        }
        self.rows.get_mut(index)
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, handle: u32) -> Option<T> {
        self.rows.get_mut(handle as usize)?.take()
    }

    /// One more than the highest handle ever seen.
    pub(crate) fn bound(&self) -> usize {
        self.rows.len()
    }

    /// All rows by handle.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0_u32..)
            .zip(&self.rows)
            .filter_map(|(handle, row)| Some((handle, row.as_ref()?)))
    }

    /// All rows by handle, to change.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        (0_u32..)
            .zip(&mut self.rows)
            .filter_map(|(handle, row)| Some((handle, row.as_mut()?)))
    }
}
