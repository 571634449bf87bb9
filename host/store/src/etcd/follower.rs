//! Reading what is committed, and following it: what keeps a standby warm.

use proffer_model::fact::Fact;

use super::client::{EtcdError, Watching};
use super::cluster::{Cluster, OpenClusterError};
use super::layout::{Head, Range, numbers_of, read_block};
use super::ops::get;
use super::proto::KeyValue;
use crate::Recovered;

/// Reads a cluster's facts, in order, from the beginning or from where it is.
#[derive(Debug)]
pub struct Follower {
    cluster: Cluster,
    /// All up to here has been read.
    head: Head,
    /// The revision at which that head was put; 0: there is none yet.
    head_at: i64,
    /// The store's revision at which that was so.
    revision: i64,
    watching: Option<Watching>,
}

/// The head, as it was read.
#[derive(Clone, Copy, Debug)]
struct ReadHead {
    head: Head,
    head_at: i64,
    /// The revision of the answer.
    revision: i64,
}

/// What [`Follower::next`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Facts were added to those that were there, states were brought up to date.
    More,
    /// It fell behind a snapshot: facts and states were replaced by all that there is.
    Anew,
}

impl Follower {
    /// Reads all that is committed.
    ///
    /// # Errors
    /// If etcd does not answer, or what is there cannot be read back.
    pub async fn load(cluster: Cluster) -> Result<(Self, Recovered), OpenClusterError> {
        let mut follower = Self {
            cluster,
            head: Head::default(),
            head_at: 0,
            revision: 0,
            watching: None,
        };
        let mut recovered = Recovered::default();
        let read = follower.read_head().await?;
        follower.reload(read, &mut recovered).await?;
        Ok((follower, recovered))
    }

    /// Waits until more is committed, and reads it. Cancel-safe: what was not read is read next time.
    ///
    /// # Errors
    /// As [`Follower::load`]; it may be called again.
    pub async fn next(&mut self, into: &mut Recovered) -> Result<Followed, OpenClusterError> {
        loop {
            let key = self.cluster.keys.head();
            let watching = match &mut self.watching {
                Some(watching) => watching,
                None => {
                    let watching = self
                        .cluster
                        .client
                        .watch((key, Vec::new()), self.revision.saturating_add(1))
                        .await?;
                    self.watching.insert(watching)
                }
            };
            match watching.next().await {
                Ok(_changes) => {}
                // What was missed is read below, and then the watch begins anew from there.
                Err(error) => {
                    self.watching = None;
                    if error != EtcdError::Compacted {
                        return Err(error.into());
                    }
                }
            }
            if let Some(followed) = self.catch_up(into).await? {
                return Ok(followed);
            }
        }
    }

    /// Reads what is committed now and was not read yet; none: nothing. After it has won the key, a
    /// leader knows with this all that any leader before it has committed.
    ///
    /// # Errors
    /// As [`Follower::load`].
    pub async fn catch_up(
        &mut self,
        into: &mut Recovered,
    ) -> Result<Option<Followed>, OpenClusterError> {
        let read = self.read_head().await?;
        let head = read.head;
        if head.batch == self.head.batch {
            // A snapshot says nothing new.
            self.has_read(read);
            return Ok(None);
        }
        if head.covered > self.head.batch || head.batch < self.head.batch {
            let mut anew = Recovered::default();
            self.reload(read, &mut anew).await?;
            *into = anew;
            return Ok(Some(Followed::Anew));
        }
        let blocks = self
            .read_batches(self.head.batch, &head, read.revision)
            .await?;
        self.apply(blocks, into)?;
        self.has_read(read);
        Ok(Some(Followed::More))
    }

    /// The cluster, what was read of it, and the revision at which that head was put.
    pub(super) fn into_parts(self) -> (Cluster, Head, i64) {
        (self.cluster, self.head, self.head_at)
    }

    fn has_read(&mut self, read: ReadHead) {
        self.head = read.head;
        self.head_at = read.head_at;
        self.revision = self.revision.max(read.revision);
    }

    async fn read_head(&self) -> Result<ReadHead, OpenClusterError> {
        let answer = self
            .cluster
            .client
            .range(get(self.cluster.keys.head()))
            .await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        let Some(kv) = answer.kvs.first() else {
            return Ok(ReadHead {
                head: Head::default(),
                head_at: 0,
                revision,
            });
        };
        let head = Head::decode(&kv.value).map_err(|why| {
            self.cluster
                .damaged(&self.cluster.keys.name("log/head"), why)
        })?;
        Ok(ReadHead {
            head,
            head_at: kv.mod_revision,
            revision,
        })
    }

    async fn reload(
        &mut self,
        read: ReadHead,
        recovered: &mut Recovered,
    ) -> Result<(), OpenClusterError> {
        let ReadHead { head, revision, .. } = read;
        if head.snapshot > 0 {
            let range = self.cluster.keys.snapshot(head.snapshot);
            let blocks = self.read_blocks(range, 0, head.blocks, revision).await?;
            self.apply(blocks, recovered)?;
        }
        let blocks = self.read_batches(head.covered, &head, revision).await?;
        self.apply(blocks, recovered)?;
        self.has_read(read);
        tracing::info!(
            facts = recovered.facts.len(),
            batch = head.batch,
            "facts read from etcd"
        );
        Ok(())
    }

    /// The batches after one, up to the head.
    async fn read_batches(
        &self,
        after: u64,
        head: &Head,
        revision: i64,
    ) -> Result<Vec<Block>, OpenClusterError> {
        let first = after.saturating_add(1);
        let end = head.batch.saturating_add(1);
        let range = self.cluster.keys.batches(first, Some(end));
        self.read_blocks(range, first, end, revision).await
    }

    /// Blocks with the numbers from `first` up to and without `end`: each must be there.
    async fn read_blocks(
        &self,
        range: Range,
        first: u64,
        end: u64,
        revision: i64,
    ) -> Result<Vec<Block>, OpenClusterError> {
        let mut blocks: Vec<Block> = Vec::new();
        let cluster = &self.cluster;
        let add = |kv: KeyValue| {
            let key = String::from_utf8_lossy(&kv.key).into_owned();
            let Some((number, part)) = numbers_of(&kv.key) else {
                return Err(cluster.damaged(&key, "its name is none of ours"));
            };
            match blocks.last_mut() {
                Some(last) if last.number == number && last.parts == part => {
                    last.bytes.extend_from_slice(&kv.value);
                    last.parts += 1;
                }
                last => {
                    let expected = last.map_or(first, |last| last.number + 1);
                    if (number, part) != (expected, 0) {
                        return Err(cluster.damaged(&key, "what belongs before it is missing"));
                    }
                    blocks.push(Block {
                        key,
                        number,
                        parts: 1,
                        bytes: kv.value,
                    });
                }
            }
            Ok(())
        };
        cluster.pages(range, revision, add).await?;
        let read = blocks.last().map_or(first, |last| last.number + 1);
        if read != end {
            let key = String::from_utf8_lossy(&cluster.keys.head()).into_owned();
            let why = format!("it counts up to {end}, and only those up to {read} are there");
            return Err(cluster.damaged(&key, why));
        }
        Ok(blocks)
    }

    fn apply(&self, blocks: Vec<Block>, into: &mut Recovered) -> Result<(), OpenClusterError> {
        for block in blocks {
            read_block(&block.bytes, into).map_err(|why| self.cluster.damaged(&block.key, why))?;
        }
        Ok(())
    }
}

/// A block put together again.
struct Block {
    key: String,
    number: u64,
    parts: usize,
    bytes: Vec<u8>,
}

/// Components that a fact names, so that a standby can have them ready.
#[must_use]
pub fn component_of(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::FrameworkSet(record) => Some(&record.digest),
        Fact::PolicySet(record) if !record.digest.is_empty() => Some(&record.digest),
        Fact::RolePolicySet {
            policy: Some(record),
            ..
        } => Some(&record.digest),
        _ => None,
    }
}
