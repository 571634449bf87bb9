//! What is where under the prefix, and how it is encoded.
//!
//! ```text
//! PREFIX format                     "proffer store 5": whose data this is
//! PREFIX token                      the cluster's token
//! PREFIX leader                     the leadership key; its value: where the leader is
//! PREFIX log/head                   what is committed: see Head
//! PREFIX log/journal/BATCH/PART     facts and state writes of one commit
//! PREFIX snapshot/ID/BLOCK/PART     all facts and all state, as of a batch
//! PREFIX component/DIGEST           how many bytes; then component/DIGEST/PART
//! ```
//!
//! A commit is one **batch**: its parts, each below etcd's limit of a request, and in the transaction
//! of the last part the head that counts it. What the head does not count is not there.

use std::sync::Arc;

use proffer_model::FrameworkId;
use proffer_model::fact::Fact;
use proffer_model::framework::StateWrite;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::wire;
use crate::{FrameworkStates, Recovered};

/// A part's bytes. etcd takes requests of 1.5 MiB; the rest is for keys and what is around them.
pub(super) const PART_BYTES_MAX: usize = 1024 * 1024;

/// A snapshot's block is begun anew at so many bytes: with what one record adds it is a part.
pub(super) const BLOCK_BYTES: usize = 768 * 1024;

/// Bytes of a digest before each block: damage is told, not decoded.
const DIGEST_BYTES: usize = 8;

/// The keys under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys(Arc<str>);

/// A key, or a range of keys: from, up to and without.
pub(super) type Range = (Vec<u8>, Vec<u8>);

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self(prefix.into())
    }

    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.0)
    }

    fn key(&self, key: &str) -> Vec<u8> {
        self.name(key).into_bytes()
    }

    fn below(&self, key: &str) -> Range {
        let from = self.key(key);
        let to = after_all(&from);
        (from, to)
    }

    pub(super) fn all(&self) -> Range {
        self.below("")
    }

    pub(super) fn format(&self) -> Vec<u8> {
        self.key("format")
    }

    pub(super) fn token(&self) -> Vec<u8> {
        self.key("token")
    }

    pub(super) fn leader(&self) -> Vec<u8> {
        self.key("leader")
    }

    pub(super) fn head(&self) -> Vec<u8> {
        self.key("log/head")
    }

    pub(super) fn part(&self, batch: u64, part: usize) -> Vec<u8> {
        self.key(&format!("log/journal/{batch:020}/{part:04}"))
    }

    /// Batches from one up to and without another; none: to the end.
    pub(super) fn batches(&self, from: u64, to: Option<u64>) -> Range {
        let begin = self.key(&format!("log/journal/{from:020}/"));
        let end = match to {
            Some(to) => self.key(&format!("log/journal/{to:020}/")),
            None => self.below("log/journal/").1,
        };
        (begin, end)
    }

    pub(super) fn block_part(&self, id: u64, block: u64, part: usize) -> Vec<u8> {
        self.key(&format!("snapshot/{id:020}/{block:08}/{part:04}"))
    }

    pub(super) fn snapshot(&self, id: u64) -> Range {
        self.below(&format!("snapshot/{id:020}/"))
    }

    /// Snapshots of all numbers below one, or above it.
    pub(super) fn snapshots_but(&self, id: u64) -> [Range; 2] {
        let (from, to) = self.below("snapshot/");
        let (begin, end) = self.snapshot(id);
        [(from, begin), (end, to)]
    }

    pub(super) fn components(&self) -> Range {
        self.below("component/")
    }

    pub(super) fn component(&self, hex: &str) -> Vec<u8> {
        self.key(&format!("component/{hex}"))
    }

    pub(super) fn component_part(&self, hex: &str, part: usize) -> Vec<u8> {
        self.key(&format!("component/{hex}/{part:04}"))
    }

    pub(super) fn component_parts(&self, hex: &str) -> Range {
        self.below(&format!("component/{hex}/"))
    }
}

/// The end of the range of all keys that begin so. A prefix never ends with the last byte value: it
/// is text.
fn after_all(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// What a part's key says: which batch or block, and which part of it.
pub(super) fn numbers_of(key: &[u8]) -> Option<(u64, usize)> {
    let text = std::str::from_utf8(key).ok()?;
    let mut words = text.rsplit('/');
    let part = words.next()?.parse().ok()?;
    Some((words.next()?.parse().ok()?, part))
}

/// What is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The last batch, counted from 1; 0: none.
    pub(super) batch: u64,
    /// The snapshot that stands for all batches up to and with `covered`; 0: none.
    pub(super) snapshot: u64,
    /// Its blocks.
    pub(super) blocks: u64,
    pub(super) covered: u64,
    /// Facts that a restart reads.
    pub(super) facts: u64,
}

impl Head {
    pub(super) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        postcard::from_bytes(bytes).map_err(|error| error.to_string())
    }
}

#[derive(Serialize, Deserialize)]
enum Record<'b> {
    Fact(&'b [u8], #[serde(borrow)] Vec<Write<'b>>),
    State(u32, &'b str, &'b [u8]),
}

#[derive(Serialize, Deserialize)]
enum Write<'b> {
    Set(&'b str, &'b [u8]),
    Delete(&'b str),
    DeleteRange(&'b str, &'b str),
}

/// Records on their way to etcd.
#[derive(Debug, Default)]
pub(super) struct Block(Vec<u8>);

impl Block {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push_fact(&mut self, fact: &Fact, with_writes: bool) -> Result<(), String> {
        let bytes = wire::encode(fact).map_err(|error| error.to_string())?;
        let writes: &[StateWrite] = match fact {
            Fact::StepCommitted(step) if with_writes => &step.writes,
            _ => &[],
        };
        let writes = writes.iter().map(|write| match write {
            StateWrite::Set(key, value) => Write::Set(key, value),
            StateWrite::Delete(key) => Write::Delete(key),
            StateWrite::DeleteRange(begin, end) => Write::DeleteRange(begin, end),
        });
        self.push(&Record::Fact(&bytes, writes.collect()))
    }

    pub(super) fn push_state(
        &mut self,
        framework: FrameworkId,
        key: &str,
        value: &[u8],
    ) -> Result<(), String> {
        self.push(&Record::State(framework.0, key, value))
    }

    fn push(&mut self, record: &Record<'_>) -> Result<(), String> {
        let bytes = std::mem::take(&mut self.0);
        self.0 = postcard::to_extend(record, bytes).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// The values of its parts, in order; at least one.
    pub(super) fn into_parts(self) -> Vec<Vec<u8>> {
        let digest = Sha256::digest(&self.0);
        let mut whole = digest[..DIGEST_BYTES].to_vec();
        whole.extend_from_slice(&self.0);
        if whole.len() <= PART_BYTES_MAX {
            return vec![whole];
        }
        whole.chunks(PART_BYTES_MAX).map(<[u8]>::to_vec).collect()
    }
}

/// Reads a block back, into what is recovered.
pub(super) fn read_block(whole: &[u8], recovered: &mut Recovered) -> Result<(), String> {
    let (digest, mut rest) = whole
        .split_at_checked(DIGEST_BYTES)
        .ok_or("it is too short")?;
    if *digest != Sha256::digest(rest)[..DIGEST_BYTES] {
        return Err("its bytes are not those that were written".to_owned());
    }
    while !rest.is_empty() {
        let (record, after) = postcard::take_from_bytes(rest)
            .map_err(|error| format!("cannot be decoded ({error})"))?;
        rest = after;
        match record {
            Record::Fact(bytes, writes) => {
                let mut fact = wire::decode(bytes).map_err(|error| error.to_string())?;
                if let Fact::StepCommitted(step) = &mut fact {
                    let writes: Vec<StateWrite> = writes.iter().map(model_write).collect();
                    apply_writes(&mut recovered.states, step.framework, &writes);
                } else if let Fact::FrameworkRemoved { framework } = &fact {
                    recovered.states.remove(framework);
                }
                recovered.facts.push(fact);
            }
            Record::State(framework, key, value) => {
                let state = recovered.states.entry(FrameworkId(framework)).or_default();
                state.insert(key.to_owned(), value.into());
            }
        }
    }
    Ok(())
}

fn model_write(write: &Write<'_>) -> StateWrite {
    match *write {
        Write::Set(key, value) => StateWrite::Set(key.to_owned(), value.into()),
        Write::Delete(key) => StateWrite::Delete(key.to_owned()),
        Write::DeleteRange(begin, end) => StateWrite::DeleteRange(begin.to_owned(), end.to_owned()),
    }
}

/// Applies state writes in order.
pub(crate) fn apply_writes(
    states: &mut FrameworkStates,
    framework: FrameworkId,
    writes: &[StateWrite],
) {
    let state = states.entry(framework).or_default();
    for write in writes {
        match write {
            StateWrite::Set(key, value) => {
                state.insert(key.clone(), Arc::clone(value));
            }
            StateWrite::Delete(key) => {
                state.remove(key);
            }
            StateWrite::DeleteRange(begin, end) => {
                state.retain(|key, _| key < begin || !(end.is_empty() || key < end));
            }
        }
    }
    if state.is_empty() {
        states.remove(&framework);
    }
}
