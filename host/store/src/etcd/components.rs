//! Components in etcd: kept by whichever host is given one, removed by the one that leads.
//!
//! A component is its parts, and a header that counts for all of them. Whoever keeps one that is there puts
//! its header again, so that a removal that was decided on before finds another than it looked at, and
//! leaves it: no lock is needed over hosts.

use std::collections::BTreeMap;

use super::client::EtcdError;
use super::cluster::{Cluster, OpenClusterError};
use super::layout::PART_BYTES_MAX;
use super::ops::{delete, made_at, put, put_at, txn};
use super::proto::{KeyValue, RangeRequest};
use crate::components::{check, check_digest, digest_of};
use crate::leadership::Fence;
use crate::{COMPONENT_BYTES_MAX, ComponentError};

/// Keys listed in one answer: of a hundred bytes each, without values.
const PAGE_KEYS: i64 = 1_000;

/// The blocking forms, for threads of their own.
impl Cluster {
    /// Keeps a component. Durable when it returns.
    pub(crate) fn put_component(&self, digest: &str, bytes: &[u8]) -> Result<(), ComponentError> {
        let hex = check_digest(digest)?;
        check(digest, bytes)?;
        let work = async {
            let key = self.keys.component(hex);
            let header = put(key.clone(), bytes.len().to_string().into_bytes());
            let touch = txn(vec![made_at(key, 0)], Vec::new(), vec![header.clone()]);
            if !self.client.txn(touch).await?.succeeded {
                return Ok(());
            }
            for (part, chunk) in bytes.chunks(PART_BYTES_MAX).enumerate() {
                let op = put(self.keys.component_part(hex, part), chunk.to_vec());
                self.client
                    .txn(txn(Vec::new(), vec![op], Vec::new()))
                    .await?;
            }
            // The header last: without it the parts count for nothing.
            self.client
                .txn(txn(Vec::new(), vec![header], Vec::new()))
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

    /// All that are kept, with the revision at which each was kept last.
    pub(crate) fn components(&self) -> Result<BTreeMap<String, i64>, ComponentError> {
        let listed = self.client.runtime.block_on(self.headers());
        listed.map_err(ComponentError::Etcd)
    }

    async fn headers(&self) -> Result<BTreeMap<String, i64>, EtcdError> {
        let mut found = BTreeMap::new();
        let range = self.keys.components();
        let prefix = range.0.len();
        let page = RangeRequest {
            limit: PAGE_KEYS,
            keys_only: true,
            ..RangeRequest::default()
        };
        let take = |kv: KeyValue| {
            let hex = kv.key.get(prefix..).map(String::from_utf8_lossy);
            let digest = hex.map(|hex| format!("sha256:{hex}"));
            // Parts have more behind it.
            if let Some(digest) = digest.filter(|digest| check_digest(digest).is_ok()) {
                found.insert(digest, kv.mod_revision);
            }
            Ok::<(), EtcdError>(())
        };
        self.walk(range, page, take).await?;
        Ok(found)
    }

    /// Drops a component, if the host that asks leads and nobody has kept it again after this revision (none:
    /// whenever); says whether it did.
    pub(crate) fn remove_component(
        &self,
        digest: &str,
        fence: Fence,
        revision: Option<i64>,
    ) -> Result<bool, ComponentError> {
        let hex = check_digest(digest)?;
        let header = self.keys.component(hex);
        let leads = made_at(self.keys.leader(), fence.0);
        let same = revision.map(|revision| put_at(header.clone(), revision));
        let ops = vec![
            delete((header, Vec::new())),
            delete(self.keys.component_parts(hex)),
        ];
        let when = std::iter::once(leads).chain(same).collect();
        let work = self.client.txn(txn(when, ops, Vec::new()));
        self.client
            .runtime
            .block_on(work)
            .map(|answer| answer.succeeded)
            .map_err(ComponentError::Etcd)
    }
}
