//! The framework's durable memory, with text and JSON on top of bytes.

use crate::framework::{Backend, Page, StateError};

/// An ordered map from text to bytes: part of the step, durable with it. Keys sort by their bytes.
pub struct State<'a> {
    backend: &'a mut dyn Backend,
}

/// So many entries are fetched at a time when a prefix is read: a page costs one call, and a few
/// hundred small values stay far below the page's 1 MiB.
const PAGE_ENTRIES: u32 = 512;

impl<'a> State<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend) -> Self {
        Self { backend }
    }

    /// The value under a key.
    pub fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.backend.get(key)
    }

    /// Writes a value: at most 256 KiB under a key of 1 to 512 bytes, 1 MiB in one step.
    ///
    /// # Errors
    /// Which limit; nothing has changed then.
    pub fn set(&mut self, key: &str, value: &[u8]) -> Result<(), StateError> {
        self.backend.set(key, value)
    }

    /// Takes a key away; one that is not there is no error.
    ///
    /// # Errors
    /// The step has written too much, or this is `start`.
    pub fn delete(&mut self, key: &str) -> Result<(), StateError> {
        self.backend.delete(key)
    }

    /// Takes all keys that begin with `prefix` away, and says how many there were.
    ///
    /// # Errors
    /// The step has written too much, or this is `start`.
    pub fn delete_prefix(&mut self, prefix: &str) -> Result<u32, StateError> {
        self.backend.delete_range(prefix, &prefix_end(prefix))
    }

    /// Takes all keys with `begin <= key < end` away (empty `end`: no bound).
    ///
    /// # Errors
    /// The step has written too much, or this is `start`.
    pub fn delete_range(&mut self, begin: &str, end: &str) -> Result<u32, StateError> {
        self.backend.delete_range(begin, end)
    }

    /// One page of the entries with `begin <= key < end`, at most `limit` of them.
    pub fn range(&mut self, begin: &str, end: &str, limit: u32) -> Page {
        self.backend.range(begin, end, limit)
    }

    /// The same from the end; go on with the page's `next` as `end`.
    pub fn range_backward(&mut self, begin: &str, end: &str, limit: u32) -> Page {
        self.backend.range_backward(begin, end, limit)
    }

    /// All entries whose keys begin with `prefix`, in order, fetched page by page.
    pub fn scan(&mut self, prefix: &str) -> Entries<'_> {
        Entries {
            backend: self.backend,
            page: Vec::new().into_iter(),
            next: Some(prefix.to_owned()),
            end: prefix_end(prefix),
        }
    }

    /// A value that was written as JSON.
    ///
    /// # Errors
    /// The value is not JSON of that type; names the key.
    #[cfg(feature = "json")]
    pub fn get_json<T: serde::de::DeserializeOwned>(
        &mut self,
        key: &str,
    ) -> Result<Option<T>, String> {
        let Some(bytes) = self.backend.get(key) else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| format!("state under '{key}' cannot be read: {error}"))
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// A limit, or a value that JSON cannot say (a map whose keys are not texts); names the key.
    #[cfg(feature = "json")]
    pub fn set_json<T: serde::Serialize + ?Sized>(
        &mut self,
        key: &str,
        value: &T,
    ) -> Result<(), String> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| format!("value for state key '{key}': {error}"))?;
        self.backend
            .set(key, &bytes)
            .map_err(|error| format!("state key '{key}': {}", describe(error)))
    }
}

/// The entries of a prefix; see [`State::scan`].
pub struct Entries<'a> {
    backend: &'a mut dyn Backend,
    page: std::vec::IntoIter<(String, Vec<u8>)>,
    next: Option<String>,
    end: String,
}

impl Iterator for Entries<'_> {
    type Item = (String, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(entry);
            }
            let begin = self.next.take()?;
            let page = self.backend.range(&begin, &self.end, PAGE_ENTRIES);
            self.page = page.entries.into_iter();
            self.next = page.next;
        }
    }
}

/// The first key after all that begin with `prefix`; empty (no bound) if there is none.
fn prefix_end(prefix: &str) -> String {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        // UTF-8 sorts as code points do; the gap of surrogates has no characters in it.
        let following = (u32::from(last) + 1..=0x10_FFFF).find_map(char::from_u32);
        if let Some(following) = following {
            characters.push(following);
            return characters.into_iter().collect();
        }
    }
    String::new()
}

fn describe(error: StateError) -> &'static str {
    match error {
        StateError::KeyTooLong => "the key is empty or longer than 512 bytes",
        StateError::ValueTooLarge => "the value is larger than 256 KiB",
        StateError::StepTooLarge => "the step writes more than 1 MiB; spread the work over steps",
        StateError::StoreFull => "the framework's state is as large as it may be",
        StateError::ReadOnly => "start cannot write; write in a step",
    }
}

/// So that `?` works in the methods of a framework.
impl From<StateError> for String {
    fn from(error: StateError) -> Self {
        format!("state: {}", describe(error))
    }
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn the_end_of_a_prefix_comes_after_all_its_keys_and_before_the_next_prefix() {
        for (prefix, end) in [
            ("job/", "job0"),
            ("a\u{10FFFF}", "b"),
            ("\u{D7FF}", "\u{E000}"),
            ("", ""),
            ("\u{10FFFF}", ""),
        ] {
            assert_eq!(prefix_end(prefix), end, "{prefix:?}");
        }
    }
}
