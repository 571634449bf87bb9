//! A leader's store: every write a transaction under its fence.

use std::time::{Duration, Instant};

use proffer_model::fact::Fact;

use super::client::EtcdError;
use super::cluster::Cluster;
use super::election::Authority;
use super::follower::Follower;
use super::layout::{BLOCK_BYTES, Block, Head, apply_writes};
use super::ops::{delete, made_at, put, txn};
use super::proto::RequestOp;
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
    head: Head,
    /// For snapshots. The values are shared with whoever holds the same states.
    states: FrameworkStates,
    stopped: bool,
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
        let (cluster, head) = follower.into_parts();
        let store = Self {
            cluster,
            fence,
            authority,
            head,
            states,
            stopped: false,
        };
        let keys = &store.cluster.keys;
        let format = format!("{FORMAT_PREFIX}{FORMAT}\n").into_bytes();
        let mut ops = vec![
            delete(keys.batches(head.batch.saturating_add(1), None)),
            put(keys.format(), format),
        ];
        ops.extend(keys.snapshots_but(head.snapshot).map(delete));
        store.fenced(ops).await?;
        Ok(store)
    }

    /// One transaction that fails unless this host leads; the revision at which it was done. Tried
    /// again while no member answers and this host may believe that it leads: it does the same if it is
    /// done twice.
    async fn fenced(&self, ops: Vec<RequestOp>) -> Result<i64, WriteStoreError> {
        let begun = Instant::now();
        let request = txn(
            vec![made_at(self.cluster.keys.leader(), self.fence.0)],
            ops,
            Vec::new(),
        );
        loop {
            match self.cluster.client.txn(request.clone()).await {
                Ok(answer) if answer.succeeded => {
                    return Ok(answer.header.map_or(0, |header| header.revision));
                }
                Ok(_) => return Err(self.deposed()),
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

    fn deposed(&self) -> WriteStoreError {
        WriteStoreError::Deposed {
            store: self.cluster.name(),
        }
    }

    async fn write_batch(&self, facts: &[Fact]) -> Result<Head, WriteStoreError> {
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
            self.fenced(vec![put(keys.part(head.batch, part), value)])
                .await?;
        }
        self.fenced(vec![
            put(keys.part(head.batch, last_part), last),
            put(keys.head(), encode_head(&head)?),
        ])
        .await?;
        Ok(head)
    }

    async fn write_snapshot(&self, facts: &[Fact]) -> Result<Head, WriteStoreError> {
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
        let mut ops = vec![
            put(keys.head(), encode_head(&head)?),
            delete(keys.batches(0, Some(head.batch.saturating_add(1)))),
        ];
        ops.extend(keys.snapshots_but(head.snapshot).map(delete));
        let revision = self.fenced(ops).await?;
        // What was deleted still takes room until the history is compacted.
        if let Err(error) = self.cluster.client.compact(revision).await {
            tracing::warn!(%error, "etcd's history was not compacted");
        }
        Ok(head)
    }

    fn finish(&mut self, written: Result<Head, WriteStoreError>) -> Result<(), WriteStoreError> {
        match written {
            Ok(head) => {
                self.head = head;
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
            self.store.fenced(vec![put(key, value)]).await?;
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
        self.cluster.remove_component(digest)
    }
}

fn encode(why: String) -> WriteStoreError {
    WriteStoreError::Encode { why }
}

fn encode_head(head: &Head) -> Result<Vec<u8>, WriteStoreError> {
    head.encode().map_err(|error| encode(error.to_string()))
}
