//! The seam between the host and whatever keeps its facts.

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_model::FrameworkId;
use proffer_model::fact::Fact;

use crate::{ComponentError, WriteStoreError};

/// Every framework's state: key to value, in the order of the keys' bytes.
pub type FrameworkStates = BTreeMap<FrameworkId, BTreeMap<String, Arc<[u8]>>>;

/// What was durable when a store was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The journal, in order. Steps come without their state writes: see `states`.
    pub facts: Vec<Fact>,
    /// Every framework's state after the last of those facts.
    pub states: FrameworkStates,
}

/// A store that is open. Calls block until the work is durable: give it a thread of its own.
pub trait Store: Send {
    /// Makes these facts durable, together or not at all, and applies their state writes in the same
    /// transaction. No facts, no transaction.
    ///
    /// # Errors
    /// None of the facts is durable, and every later write fails too ([`WriteStoreError::Stopped`]):
    /// the host ends and starts again from what is durable.
    fn append(&mut self, facts: &[Fact]) -> Result<(), WriteStoreError>;

    /// Replaces the whole journal by these facts, in one transaction. State tables stay as they are;
    /// state writes in `facts` are not applied again.
    ///
    /// # Errors
    /// As [`Store::append`]; the journal is as it was.
    fn snapshot(&mut self, facts: &[Fact]) -> Result<(), WriteStoreError>;

    /// How many facts the journal holds: what a caller decides by whether to make a snapshot.
    fn journal_len(&self) -> u64;

    /// Keeps a component's bytes under their digest (`sha256:…`). Repeats are harmless.
    ///
    /// # Errors
    /// If the bytes do not have that digest, are too many, or cannot be written.
    fn put_blob(&self, digest: &str, bytes: &[u8]) -> Result<(), ComponentError>;

    /// The bytes kept under a digest, checked against it.
    ///
    /// # Errors
    /// If there are none, or they have changed on disk.
    fn get_blob(&self, digest: &str) -> Result<Vec<u8>, ComponentError>;

    /// Drops the bytes kept under a digest, if there are any.
    ///
    /// # Errors
    /// If they cannot be removed.
    fn remove_blob(&self, digest: &str) -> Result<(), ComponentError>;
}
