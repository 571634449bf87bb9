//! The data under the prefix: checked to be ours before anything else is read or written.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::EtcdAddress;
use super::client::{Client, EtcdError};
use super::layout::{Keys, PART_BYTES_MAX, Range};
use super::ops::{delete, get, get_op, made_at, put, txn};
use super::proto::response_op::Response;
use super::proto::{KeyValue, RangeRequest, TxnResponse};
use crate::components::{check, check_digest, digest_of};
use crate::embedded::{FORMAT, FORMAT_PREFIX};
use crate::{COMPONENT_BYTES_MAX, ComponentError};

/// Parts read in one answer: a few megabytes, so that no answer keeps etcd busy for long.
const PAGE_KEYS: i64 = 16;

/// Why a prefix cannot be used. Nothing under it was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenClusterError {
    /// etcd itself.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// It was written by a newer host.
    #[error(
        "the store in etcd at {endpoints} under {prefix} has format {found}, and this proffer knows formats up to {known}: use the newer proffer that wrote it, or another prefix"
    )]
    NewerFormat {
        /// Which etcd.
        endpoints: String,
        /// Which prefix.
        prefix: String,
        /// Its format.
        found: u32,
        /// The newest that this build reads.
        known: u32,
    },
    /// Somebody else's.
    #[error(
        "etcd at {endpoints} has data under {prefix} that is not proffer's: {why}; give another prefix, as in --store etcd://{endpoints}/other"
    )]
    NotOurs {
        /// Which etcd.
        endpoints: String,
        /// Which prefix.
        prefix: String,
        /// What is there.
        why: String,
    },
    /// What is there cannot be read back.
    #[error(
        "the store in etcd at {endpoints} is damaged: {key}: {why}; nothing was changed: restore etcd from a backup, or begin anew under another prefix"
    )]
    Damaged {
        /// Which etcd.
        endpoints: String,
        /// Which key, or the first of a group.
        key: String,
        /// What is wrong there.
        why: String,
    },
}

/// A prefix in etcd that holds a cluster of ours. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) client: Client,
    pub(super) keys: Keys,
    address: Arc<EtcdAddress>,
}

impl Cluster {
    /// Connects and checks what is under the prefix; an empty one becomes ours. Calls that block use
    /// this runtime.
    ///
    /// # Errors
    /// If no member answers, or the prefix holds a newer store or something else.
    pub async fn open(address: EtcdAddress, runtime: Handle) -> Result<Self, OpenClusterError> {
        let cluster = Self {
            client: Client::new(&address, runtime),
            keys: Keys::new(address.prefix()),
            address: Arc::new(address),
        };
        if let Some(format) = cluster.value(cluster.keys.format()).await? {
            cluster.check_format(&format.value)?;
            return Ok(cluster);
        }
        let (key, range_end) = cluster.keys.all();
        let found = cluster
            .client
            .range(RangeRequest {
                key,
                range_end,
                limit: 1,
                keys_only: true,
                ..RangeRequest::default()
            })
            .await?;
        if let Some(first) = found.kvs.first() {
            let key = String::from_utf8_lossy(&first.key).into_owned();
            return Err(cluster.not_ours(format!("it has the key '{key}' and no format")));
        }
        let text = format!("{FORMAT_PREFIX}{FORMAT}\n").into_bytes();
        let ours = cluster.put_if_absent(cluster.keys.format(), text).await?;
        cluster.check_format(&ours)?;
        Ok(cluster)
    }

    /// The same over connections of its own, which this runtime looks after.
    pub(super) fn connected_anew(&self, runtime: Handle) -> Self {
        Self {
            client: Client::new(&self.address, runtime),
            keys: self.keys.clone(),
            address: Arc::clone(&self.address),
        }
    }

    /// Which etcd, and where in it, for people.
    #[must_use]
    pub fn name(&self) -> String {
        format!(
            "etcd://{}/{}",
            self.address.members(),
            self.address.prefix().trim_end_matches('/')
        )
    }

    /// The cluster's token: the one that is there, or this one, which is there from now on.
    ///
    /// # Errors
    /// If etcd does not answer, or what is there is no text.
    pub async fn share_token(&self, mine: &str) -> Result<String, OpenClusterError> {
        let kept = self
            .put_if_absent(self.keys.token(), mine.as_bytes().to_vec())
            .await?;
        String::from_utf8(kept).map_err(|_| self.damaged(&self.keys.name("token"), "it is no text"))
    }

    /// One put of a key below `bench/`, without a fence: what benchmarks compare commits with.
    ///
    /// # Errors
    /// If etcd does not take it.
    pub async fn put_unfenced(&self, key: &str, value: Vec<u8>) -> Result<(), EtcdError> {
        let op = put(self.keys.name(&format!("bench/{key}")).into_bytes(), value);
        let request = txn(Vec::new(), vec![op], Vec::new());
        self.client.txn(request).await.map(drop)
    }

    pub(super) fn damaged(&self, key: &str, why: impl Into<String>) -> OpenClusterError {
        OpenClusterError::Damaged {
            endpoints: self.client.endpoints().to_owned(),
            key: key.to_owned(),
            why: why.into(),
        }
    }

    fn not_ours(&self, why: String) -> OpenClusterError {
        OpenClusterError::NotOurs {
            endpoints: self.client.endpoints().to_owned(),
            prefix: self.address.prefix().to_owned(),
            why,
        }
    }

    fn check_format(&self, value: &[u8]) -> Result<(), OpenClusterError> {
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.trim_end().strip_prefix(FORMAT_PREFIX))
            .and_then(|number| number.parse::<u32>().ok());
        match number {
            Some(found) if found > FORMAT => Err(OpenClusterError::NewerFormat {
                endpoints: self.client.endpoints().to_owned(),
                prefix: self.address.prefix().to_owned(),
                found,
                known: FORMAT,
            }),
            Some(_) => Ok(()),
            None => Err(self.not_ours(format!(
                "its format does not say '{FORMAT_PREFIX}' and a number"
            ))),
        }
    }

    pub(super) async fn value(&self, key: Vec<u8>) -> Result<Option<KeyValue>, EtcdError> {
        Ok(self.client.range(get(key)).await?.kvs.into_iter().next())
    }

    /// What is there afterwards.
    async fn put_if_absent(&self, key: Vec<u8>, value: Vec<u8>) -> Result<Vec<u8>, EtcdError> {
        let request = txn(
            vec![made_at(key.clone(), 0)],
            vec![put(key.clone(), value.clone())],
            vec![get_op(key)],
        );
        let answer = self.client.txn(request).await?;
        if answer.succeeded {
            return Ok(value);
        }
        Ok(first_of(&answer)
            .map(|kv| kv.value.clone())
            .unwrap_or_default())
    }

    /// All of a range, as of a revision (0: now), page by page, in the order of keys.
    pub(super) async fn pages(
        &self,
        (mut key, range_end): Range,
        revision: i64,
        mut take: impl FnMut(KeyValue) -> Result<(), OpenClusterError>,
    ) -> Result<(), OpenClusterError> {
        loop {
            let page = self
                .client
                .range(RangeRequest {
                    key: key.clone(),
                    range_end: range_end.clone(),
                    limit: PAGE_KEYS,
                    revision,
                    keys_only: false,
                })
                .await?;
            if let Some(last) = page.kvs.last() {
                key.clone_from(&last.key);
                // The first key after it.
                key.push(0);
            }
            for kv in page.kvs {
                take(kv)?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Keeps a component. Durable when it returns; the blocking form, for threads of their own.
    pub(crate) fn put_component(&self, digest: &str, bytes: &[u8]) -> Result<(), ComponentError> {
        let hex = check_digest(digest)?;
        check(digest, bytes)?;
        let work = async {
            let key = self.keys.component(hex);
            if self.value(key.clone()).await?.is_some() {
                return Ok(());
            }
            for (part, chunk) in bytes.chunks(PART_BYTES_MAX).enumerate() {
                let op = put(self.keys.component_part(hex, part), chunk.to_vec());
                self.client
                    .txn(txn(Vec::new(), vec![op], Vec::new()))
                    .await?;
            }
            // The header last: without it the parts count for nothing.
            let op = put(key, bytes.len().to_string().into_bytes());
            self.client
                .txn(txn(Vec::new(), vec![op], Vec::new()))
                .await?;
            Ok(())
        };
        self.client
            .runtime
            .block_on(work)
            .map_err(ComponentError::Etcd)
    }

    /// A component's bytes, checked.
    pub(crate) fn get_component(&self, digest: &str) -> Result<Vec<u8>, ComponentError> {
        let hex = check_digest(digest)?;
        let work = async {
            let mut bytes = Vec::new();
            let header = self.value(self.keys.component(hex)).await?;
            if header.is_some() {
                self.pages(self.keys.component_parts(hex), 0, |kv| {
                    // More than was ever written is damage: the digest will tell.
                    if bytes.len() <= COMPONENT_BYTES_MAX {
                        bytes.extend_from_slice(&kv.value);
                    }
                    Ok(())
                })
                .await?;
            }
            Ok((header.is_some(), bytes))
        };
        let (there, bytes) = match self.client.runtime.block_on(work) {
            Ok(read) => read,
            Err(OpenClusterError::Etcd(error)) => return Err(ComponentError::Etcd(error)),
            // Only etcd itself fails here.
            Err(_) => (false, Vec::new()),
        };
        let digest = digest.to_owned();
        if !there {
            return Err(ComponentError::Unknown { digest });
        }
        let found = digest_of(&bytes);
        if found == digest {
            return Ok(bytes);
        }
        Err(ComponentError::Damaged {
            path: self.keys.name(&format!("component/{hex}")).into(),
            found,
        })
    }

    /// Drops a component.
    pub(crate) fn remove_component(&self, digest: &str) -> Result<(), ComponentError> {
        let hex = check_digest(digest)?;
        let ops = vec![
            delete((self.keys.component(hex), Vec::new())),
            delete(self.keys.component_parts(hex)),
        ];
        let work = self.client.txn(txn(Vec::new(), ops, Vec::new()));
        self.client
            .runtime
            .block_on(work)
            .map(drop)
            .map_err(ComponentError::Etcd)
    }
}

/// The first key of a transaction's only read.
pub(super) fn first_of(answer: &TxnResponse) -> Option<&KeyValue> {
    nth_of(answer, 0)
}

/// The first key of a transaction's read in that place.
pub(super) fn nth_of(answer: &TxnResponse, place: usize) -> Option<&KeyValue> {
    let response = answer.responses.get(place)?.response.as_ref()?;
    match response {
        Response::ResponseRange(range) => range.kvs.first(),
        Response::ResponsePut(_) | Response::ResponseDeleteRange(_) => None,
    }
}
