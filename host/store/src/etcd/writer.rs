//! A leader's store: every write a transaction under its fence, and on the head that it wrote last.
//!
//! The fence keeps other leaders' writes out. The head keeps out this leader's own, when they come late: a
//! request that was not answered in time is sent again, to another member, and the first one may sit in a member
//! that stands still. Done after later commits it would set the head back, and they would be lost.

use std::time::{Duration, Instant};

use proffer_model::fact::Fact;

use super::client::EtcdError;
use super::cluster::{Cluster, nth_of};
use super::election::Authority;
use super::follower::Follower;
use super::layout::{BLOCK_BYTES, Block, Head, apply_writes};
use super::ops::{delete, get_op, made_at, put, put_at, txn};
use super::proto::{KeyValue, RequestOp, TxnRequest};
use crate::embedded::{FORMAT, FORMAT_PREFIX};
use crate::leadership::Fence;
use crate::{ComponentError, FrameworkStates, Store, WriteStoreError};

/// Between two tries while no member answers: an election among them takes about a second.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// A leader's lease is long over by then, however long it was set.
const RETRY_WITHIN: Duration = Duration::from_secs(60);

/// The etcd backend, of a host that leads.
#[derive(Debug)]
pub struct EtcdStore {
    cluster: Cluster,
    fence: Fence,
    authority: Authority,
    pub(super) head: Head,
    /// The revision at which that head was put.
    head_at: i64,
    /// For snapshots. The values are shared with whoever holds the same states.
    states: FrameworkStates,
    stopped: bool,
}

/// What a commit has put.
#[derive(Clone, Copy, Debug)]
struct Written {
    head: Head,
    head_at: i64,
}

/// What became of a transaction of a host that leads.
#[derive(Debug)]
enum Fenced {
    /// It was done at this revision.
    Done(i64),
    /// The head is another than the one that it was to follow.
    OtherHead(Option<KeyValue>),
}

impl EtcdStore {
    /// Takes over from what a follower has read to its end under this fence, with the states that it
    /// left. What a former leader wrote and did not commit is removed.
    ///
    /// # Errors
    /// If etcd does not answer, or somebody else leads by now.
    pub async fn lead(
        follower: Follower,
        states: FrameworkStates,
        fence: Fence,
        authority: Authority,
    ) -> Result<Self, WriteStoreError> {
        let (cluster, head, head_at) = follower.into_parts();
        let mut store = Self {
            cluster,
            fence,
            authority,
            head,
            head_at,
            states,
            stopped: false,
        };
        let ops = store.takeover_ops();
        // The same head, put anew: a late copy of this transaction finds another than it wants.
        store.head_at = store.fenced_head(&head, ops).await?;
        Ok(store)
    }

    /// What leaves nothing there that the head does not count.
    pub(super) fn takeover_ops(&self) -> Vec<RequestOp> {
        let keys = &self.cluster.keys;
        let format = format!("{FORMAT_PREFIX}{FORMAT}\n").into_bytes();
        let mut ops = vec![
            delete(keys.batches(self.head.batch.saturating_add(1), None)),
            put(keys.format(), format),
        ];
        ops.extend(keys.snapshots_but(self.head.snapshot).map(delete));
        ops
    }

    /// One transaction that puts a head; the revision at which it was put. Tried again as
    /// [`Self::fenced`]: what an earlier try has done counts.
    async fn fenced_head(
        &self,
        head: &Head,
        mut ops: Vec<RequestOp>,
    ) -> Result<i64, WriteStoreError> {
        let value = head.encode().map_err(|error| encode(error.to_string()))?;
        ops.push(put(self.cluster.keys.head(), value.clone()));
        match self.fenced(ops).await? {
            Fenced::Done(revision) => Ok(revision),
            Fenced::OtherHead(Some(found)) if found.value == value => Ok(found.mod_revision),
            Fenced::OtherHead(found) => Err(self.another_head(found)),
        }
    }

    /// One transaction of a part that no head counts yet.
    async fn fenced_part(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), WriteStoreError> {
        match self.fenced(vec![put(key, value)]).await? {
            Fenced::Done(_) => Ok(()),
            Fenced::OtherHead(found) => Err(self.another_head(found)),
        }
    }

    /// One transaction that fails unless this host leads and the head is the one that it knows. Tried
    /// again while no member answers and this host may believe that it leads.
    async fn fenced(&self, ops: Vec<RequestOp>) -> Result<Fenced, WriteStoreError> {
        let begun = Instant::now();
        let request = self.request(ops);
        loop {
            match self.cluster.client.txn(request.clone()).await {
                Ok(answer) if answer.succeeded => {
                    let revision = answer.header.map_or(0, |header| header.revision);
                    return Ok(Fenced::Done(revision));
                }
                Ok(answer) => {
                    let leads = nth_of(&answer, 0)
                        .is_some_and(|leader| leader.create_revision == self.fence.0);
                    if !leads {
                        return Err(self.deposed());
                    }
                    return Ok(Fenced::OtherHead(nth_of(&answer, 1).cloned()));
                }
                Err(error @ EtcdError::Unreachable { .. }) => {
                    if !self.authority.holds() {
                        return Err(self.deposed());
                    }
                    if begun.elapsed() > RETRY_WITHIN {
                        return Err(WriteStoreError::Etcd(error));
                    }
                    tracing::debug!(%error, "a write is tried again");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Err(error) => return Err(WriteStoreError::Etcd(error)),
            }
        }
    }

    /// What [`Self::fenced`] sends: refused, it answers with the leadership key and the head.
    pub(super) fn request(&self, ops: Vec<RequestOp>) -> TxnRequest {
        let keys = &self.cluster.keys;
        let (leader, head) = (keys.leader(), keys.head());
        txn(
            vec![
                made_at(leader.clone(), self.fence.0),
                put_at(head.clone(), self.head_at),
            ],
            ops,
            vec![get_op(leader), get_op(head)],
        )
    }

    fn another_head(&self, found: Option<KeyValue>) -> WriteStoreError {
        let found = found.map_or(0, |found| found.mod_revision);
        WriteStoreError::Damaged {
            path: self.cluster.name().into(),
            why: format!(
                "its head is of revision {found}, and this leader put it at {}: somebody else has written",
                self.head_at
            ),
        }
    }

    fn deposed(&self) -> WriteStoreError {
        WriteStoreError::Deposed {
            store: self.cluster.name(),
        }
    }

    async fn write_batch(&self, facts: &[Fact]) -> Result<Written, WriteStoreError> {
        let mut block = Block::default();
        for fact in facts {
            block.push_fact(fact, true).map_err(encode)?;
        }
        let head = Head {
            batch: self.head.batch + 1,
            facts: self.head.facts + facts.len() as u64,
            ..self.head
        };
        let keys = &self.cluster.keys;
        let mut parts = block.into_parts();
        // The last part and the head that counts the batch are one transaction.
        let last = parts.pop().unwrap_or_default();
        let last_part = parts.len();
        for (part, value) in parts.into_iter().enumerate() {
            self.fenced_part(keys.part(head.batch, part), value).await?;
        }
        let ops = vec![put(keys.part(head.batch, last_part), last)];
        let head_at = self.fenced_head(&head, ops).await?;
        Ok(Written { head, head_at })
    }

    async fn write_snapshot(&self, facts: &[Fact]) -> Result<Written, WriteStoreError> {
        let mut writing = Snapshot {
            store: self,
            id: self.head.snapshot + 1,
            block: Block::default(),
            blocks: 0,
        };
        for fact in facts {
            writing.block.push_fact(fact, false).map_err(encode)?;
            writing.cut(BLOCK_BYTES).await?;
        }
        for (framework, state) in &self.states {
            for (key, value) in state {
                let pushed = writing.block.push_state(*framework, key, value);
                pushed.map_err(encode)?;
                writing.cut(BLOCK_BYTES).await?;
            }
        }
        writing.cut(1).await?;
        let head = Head {
            snapshot: writing.id,
            blocks: writing.blocks,
            covered: self.head.batch,
            facts: facts.len() as u64,
            ..self.head
        };
        let keys = &self.cluster.keys;
        let mut ops = vec![delete(keys.batches(0, Some(head.batch.saturating_add(1))))];
        ops.extend(keys.snapshots_but(head.snapshot).map(delete));
        let head_at = self.fenced_head(&head, ops).await?;
        // What was deleted still takes room until the history is compacted.
        if let Err(error) = self.cluster.client.compact(head_at).await {
            tracing::warn!(%error, "etcd's history was not compacted");
        }
        Ok(Written { head, head_at })
    }

    fn finish(&mut self, written: Result<Written, WriteStoreError>) -> Result<(), WriteStoreError> {
        match written {
            Ok(Written { head, head_at }) => {
                (self.head, self.head_at) = (head, head_at);
                Ok(())
            }
            Err(error) => {
                self.stopped = true;
                Err(error)
            }
        }
    }

    fn check_open(&self) -> Result<(), WriteStoreError> {
        if self.stopped {
            let path = self.cluster.name().into();
            return Err(WriteStoreError::Stopped { path });
        }
        Ok(())
    }
}

/// A snapshot being written, block by block: no more than one is in memory.
struct Snapshot<'s> {
    store: &'s EtcdStore,
    id: u64,
    block: Block,
    blocks: u64,
}

impl Snapshot<'_> {
    /// Writes the block if it has at least so many bytes.
    async fn cut(&mut self, bytes: usize) -> Result<(), WriteStoreError> {
        if self.block.len() < bytes {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        for (part, value) in block.into_parts().into_iter().enumerate() {
            let key = self
                .store
                .cluster
                .keys
                .block_part(self.id, self.blocks, part);
            self.store.fenced_part(key, value).await?;
        }
        self.blocks += 1;
        Ok(())
    }
}

impl Store for EtcdStore {
    fn append(&mut self, facts: &[Fact]) -> Result<(), WriteStoreError> {
        self.check_open()?;
        if facts.is_empty() {
            return Ok(());
        }
        let runtime = self.cluster.client.runtime.clone();
        let written = runtime.block_on(self.write_batch(facts));
        self.finish(written)?;
        for fact in facts {
            match fact {
                Fact::StepCommitted(step) => {
                    apply_writes(&mut self.states, step.framework, &step.writes);
                }
                Fact::FrameworkRemoved { framework } => {
                    self.states.remove(framework);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, facts: &[Fact]) -> Result<(), WriteStoreError> {
        self.check_open()?;
        let runtime = self.cluster.client.runtime.clone();
        let written = runtime.block_on(self.write_snapshot(facts));
        self.finish(written)
    }

    fn journal_len(&self) -> u64 {
        self.head.facts
    }

    fn put_blob(&self, digest: &str, bytes: &[u8]) -> Result<(), ComponentError> {
        self.cluster.put_component(digest, bytes)
    }

    fn get_blob(&self, digest: &str) -> Result<Vec<u8>, ComponentError> {
        self.cluster.get_component(digest)
    }

    fn remove_blob(&self, digest: &str) -> Result<(), ComponentError> {
        let removed = self.cluster.remove_component(digest, self.fence, None)?;
        if !removed {
            tracing::debug!(digest, "a component stays: another host leads");
        }
        Ok(())
    }
}

fn encode(why: String) -> WriteStoreError {
    WriteStoreError::Encode { why }
}
