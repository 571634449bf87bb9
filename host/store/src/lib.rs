//! Facts and framework state, made durable.
//!
//! A store keeps three things: the **journal** (the facts since the last snapshot, in order), every
//! framework's **state table** (what it wrote through the `state` interface), and the **component
//! files** that frameworks and policies were loaded from, by digest.
//!
//! [`Store::append`] is one durable transaction: after it has returned, all of its facts and their
//! state writes survive the death of the process and of the machine; before that, none of them is
//! visible to a later [`open`]. There is nothing in between. The caller groups: whatever queued up
//! while one transaction was being written is the next one.
//!
//! # Why redb
//! The embedded backend is [redb]: a maintained, pure-Rust, single-file B-tree with copy-on-write
//! commits, so that a torn write is never seen and no log has to be replayed by us; one writer,
//! which is what a host is; a checksum on every page, verified when the store is opened; its own
//! file lock; no C toolchain and no background threads. An LSM tree (fjall, RocksDB) would write
//! faster in bulk, which a journal that commits a few dozen kilobytes at a time does not need, and
//! sled has not been maintained for years. A journal of our own would commit with fewer bytes (the
//! bench `commit` says how many), at the price of writing recovery, state tables and compaction
//! ourselves.
//!
//! # Invariants
//! - Facts are recovered in the order in which they were appended.
//! - State is kept once: [`StepRecord::writes`](proffer_model::fact::StepRecord) is applied to the
//!   state table in the fact's own transaction and is empty in a recovered fact.
//! - After an error from [`Store::append`] or [`Store::snapshot`] the store takes no more writes; what
//!   is on disk is the last transaction that returned.
//! - A store of a newer format, or one that is damaged, is left as it is.
//!
//! What it is not: it does not know what facts mean, except that a step writes state and that a
//! removed framework's state goes.

mod components;
#[cfg(test)]
mod contract_tests;
mod embedded;
mod error;
pub mod etcd;
pub mod leadership;
mod limit;
mod memory;
mod store;
mod wire;

pub use components::{COMPONENT_BYTES_MAX, Components, Pin, Removal};
pub use embedded::{Embedded, open};
pub use error::{ComponentError, OpenStoreError, WriteStoreError};
pub use limit::JournalLimit;
pub use memory::Memory;
pub use store::{FrameworkStates, Recovered, Store};

/// How many bytes a fact takes in the journal, its state writes not counted: what a caller sizes
/// transactions by. None if it cannot be encoded.
#[must_use]
pub fn journal_bytes(fact: &proffer_model::fact::Fact) -> Option<usize> {
    wire::encode(fact).ok().map(|bytes| bytes.len())
}
