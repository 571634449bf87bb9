//! The data under the prefix: checked to be ours before anything else is read or written.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::EtcdAddress;
use super::client::{Client, EtcdError};
use super::layout::{Keys, Range};
use super::ops::{get, get_op, made_at, put, txn};
use super::proto::response_op::Response;
use super::proto::{KeyValue, RangeRequest, TxnResponse};
use crate::embedded::{FORMAT, FORMAT_PREFIX};

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
        range: Range,
        revision: i64,
        take: impl FnMut(KeyValue) -> Result<(), OpenClusterError>,
    ) -> Result<(), OpenClusterError> {
        let page = RangeRequest {
            limit: PAGE_KEYS,
            revision,
            ..RangeRequest::default()
        };
        self.walk(range, page, take).await
    }

    /// All of a range in the order of keys, by pages like this one.
    pub(super) async fn walk<E: From<EtcdError>>(
        &self,
        (mut key, range_end): Range,
        page: RangeRequest,
        mut take: impl FnMut(KeyValue) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let asked = RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                ..page.clone()
            };
            let answer = self.client.range(asked).await?;
            if let Some(last) = answer.kvs.last() {
                key.clone_from(&last.key);
                // The first key after it.
                key.push(0);
            }
            for kv in answer.kvs {
                take(kv)?;
            }
            if !answer.more {
                return Ok(());
            }
        }
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
