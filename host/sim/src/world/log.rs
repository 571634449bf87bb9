//! What is committed: a host's own disk, or etcd under the prefix of the cluster.

use std::sync::Arc;

use proffer_core::Seq;
use proffer_model::fact::Fact;
use proffer_store::leadership::Fence;
use proffer_store::{FrameworkStates, Memory, Store};

/// A write of a leader.
#[derive(Clone, Debug)]
pub(super) struct Write {
    /// Whose, if there are several hosts.
    pub(super) fence: Option<Fence>,
    /// The head that it follows: the store takes it after no other.
    pub(super) after: u64,
    pub(super) job: Arc<Job>,
}

#[derive(Debug)]
pub(super) enum Job {
    Append(Vec<Fact>, Seq),
    Snapshot(Vec<Fact>),
}

/// Facts and states, and a count of the writes.
#[derive(Default)]
pub(super) struct Log {
    memory: Memory,
    /// Facts since the last snapshot; with all before them they are so many.
    appended: Vec<Fact>,
    covered: u64,
    head: u64,
}

impl Log {
    /// How many writes it has taken.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Facts ever committed.
    pub(super) fn committed(&self) -> u64 {
        self.covered + self.appended.len() as u64
    }

    /// Facts that a restart reads.
    pub(super) fn len(&self) -> u64 {
        self.memory.journal_len()
    }

    pub(super) fn commit(&mut self, write: &Write) {
        let taken = match &*write.job {
            Job::Append(facts, _) => {
                self.appended.extend_from_slice(facts);
                self.memory.append(facts)
            }
            Job::Snapshot(facts) => {
                self.covered = self.committed();
                self.appended.clear();
                self.memory.snapshot(facts)
            }
        };
        debug_assert!(taken.is_ok(), "memory does not fail");
        self.head = write.after + 1;
    }

    /// A new leader has put the head anew.
    pub(super) fn taken_over(&mut self) {
        self.head += 1;
    }

    /// The facts that whoever has read so many has not read; none: a snapshot replaced them.
    pub(super) fn after(&self, read: u64) -> Option<&[Fact]> {
        let from = usize::try_from(read.checked_sub(self.covered)?).ok()?;
        self.appended.get(from..)
    }

    /// All facts that a restart reads.
    pub(super) fn facts(&self) -> Vec<Fact> {
        self.memory.recovered().facts
    }

    pub(super) fn states(&self) -> FrameworkStates {
        self.memory.recovered().states
    }
}
