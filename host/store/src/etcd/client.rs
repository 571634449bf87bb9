//! Calls to etcd: any member that answers, within a deadline.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

use super::EtcdAddress;
use super::proto::kv_client::KvClient;
use super::proto::lease_client::LeaseClient;
use super::proto::watch_client::WatchClient;
use super::proto::{
    self, CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchRequest, WatchResponse,
};

/// A member that does not take a connection for so long is down or cut off.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// A member answers within milliseconds; one that elects a leader within its election time-out, of a
/// second by default.
const CALL_WITHIN: Duration = Duration::from_secs(5);

/// A connection without traffic is probed, so that a machine that vanished is noticed.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// Answers may be as large as a page of parts; see [`super::journal`].
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why etcd did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    /// No member answers.
    #[error("no etcd answers at {endpoints}: {why}; check --store, and that etcd runs there")]
    Unreachable {
        /// Which were tried.
        endpoints: String,
        /// What was seen.
        why: String,
    },
    /// Its database is at its quota.
    #[error(
        "etcd at {endpoints} has no space left (its quota is reached): compact and defragment it, or raise --quota-backend-bytes, then disarm its alarm"
    )]
    NoSpace {
        /// Whose.
        endpoints: String,
    },
    /// What was asked for is older than etcd's history.
    #[error("etcd has compacted what was asked for")]
    Compacted,
    /// There is no such lease any more.
    #[error("etcd has ended the lease")]
    LeaseGone,
    /// Anything else that it says.
    #[error("etcd refused {call}: {why}")]
    Refused {
        /// Which call.
        call: &'static str,
        /// In its words.
        why: String,
    },
}

/// A connection to each member. Cheap to clone; all clones prefer the member that answered last.
#[derive(Clone)]
pub(crate) struct Client {
    channels: Arc<[Channel]>,
    current: Arc<AtomicUsize>,
    endpoints: Arc<str>,
    pub(crate) runtime: Handle,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.endpoints)
    }
}

impl Client {
    /// Connects when the first call is made.
    pub(crate) fn new(address: &EtcdAddress, runtime: Handle) -> Self {
        // Channels start their tasks on the runtime that is entered.
        let entered = runtime.enter();
        let channel = |endpoint: &Endpoint| {
            endpoint
                .clone()
                .connect_timeout(CONNECT_WITHIN)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(PROBE_EVERY)
                .keep_alive_timeout(CONNECT_WITHIN)
                .connect_lazy()
        };
        let channels = address.endpoints().iter().map(channel).collect();
        drop(entered);
        Self {
            channels,
            current: Arc::default(),
            endpoints: address.members().into(),
            runtime,
        }
    }

    pub(crate) fn endpoints(&self) -> &str {
        &self.endpoints
    }

    pub(crate) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, EtcdError> {
        self.call("a read", |channel| {
            let request = request.clone();
            async move { kv(channel).range(request).await }
        })
        .await
    }

    /// May be done twice if the first answer is lost: every transaction made here can be.
    pub(crate) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, EtcdError> {
        self.call("a transaction", |channel| {
            let request = request.clone();
            async move { kv(channel).txn(request).await }
        })
        .await
    }

    pub(crate) async fn compact(&self, revision: i64) -> Result<(), EtcdError> {
        let compacted = self
            .call("a compaction", |channel| async move {
                kv(channel).compact(CompactionRequest { revision }).await
            })
            .await;
        match compacted {
            // Somebody else did, and further.
            Ok(_) | Err(EtcdError::Compacted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The lease and its time to live in seconds.
    pub(crate) async fn grant(&self, ttl: i64) -> Result<(i64, i64), EtcdError> {
        let granted = self
            .call("a lease", |channel| async move {
                let request = LeaseGrantRequest { ttl, id: 0 };
                LeaseClient::new(channel).lease_grant(request).await
            })
            .await?;
        if !granted.error.is_empty() {
            return Err(EtcdError::Refused {
                call: "a lease",
                why: granted.error,
            });
        }
        Ok((granted.id, granted.ttl))
    }

    /// The seconds that the lease has from here; 0: it is gone.
    pub(crate) async fn keep_alive(&self, lease: i64) -> Result<i64, EtcdError> {
        self.call("a keep-alive", |channel| async move {
            let request = tokio_stream::once(LeaseKeepAliveRequest { id: lease });
            // The request stream stays open until the answer is there.
            let request = request.chain(tokio_stream::pending());
            let mut answers = LeaseClient::new(channel)
                .lease_keep_alive(request)
                .await?
                .into_inner();
            let answer = answers.message().await?;
            let answer = answer.ok_or_else(|| Status::unavailable("no answer"))?;
            Ok(Response::new(answer.ttl))
        })
        .await
    }

    pub(crate) async fn revoke(&self, lease: i64) -> Result<(), EtcdError> {
        let revoked = self
            .call("giving a lease back", |channel| async move {
                let request = LeaseRevokeRequest { id: lease };
                LeaseClient::new(channel).lease_revoke(request).await
            })
            .await;
        match revoked {
            Ok(_) | Err(EtcdError::LeaseGone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What changes in a range from a revision on.
    pub(crate) async fn watch(
        &self,
        (key, range_end): (Vec<u8>, Vec<u8>),
        start_revision: i64,
    ) -> Result<Watching, EtcdError> {
        let create = proto::WatchCreateRequest {
            key,
            range_end,
            start_revision,
            fragment: true,
        };
        let request = WatchRequest {
            request_union: Some(proto::watch_request::RequestUnion::CreateRequest(create)),
        };
        let answers = self
            .call("a watch", |channel| {
                let requests = tokio_stream::once(request.clone()).chain(tokio_stream::pending());
                async move {
                    let mut client =
                        WatchClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
                    let answers = client.watch(requests).await?.into_inner();
                    Ok(Response::new(answers))
                }
            })
            .await?;
        Ok(Watching {
            answers,
            endpoints: Arc::clone(&self.endpoints),
        })
    }

    async fn call<T, F>(
        &self,
        call: &'static str,
        make: impl Fn(Channel) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let first = self.current.load(Ordering::Relaxed);
        let mut why = String::from("no member was named");
        for step in 0..self.channels.len() {
            let index = (first + step) % self.channels.len();
            let Some(channel) = self.channels.get(index) else {
                continue;
            };
            match tokio::time::timeout(CALL_WITHIN, make(channel.clone())).await {
                Ok(Ok(response)) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => match self.failure(call, &status) {
                    EtcdError::Unreachable { why: seen, .. } => why = seen,
                    other => return Err(other),
                },
                Err(_) => why = "no answer in time".to_owned(),
            }
        }
        Err(self.unreachable(why))
    }

    fn unreachable(&self, why: String) -> EtcdError {
        EtcdError::Unreachable {
            endpoints: self.endpoints.to_string(),
            why,
        }
    }

    /// What a status means. Another member may help only where none could be reached.
    fn failure(&self, call: &'static str, status: &Status) -> EtcdError {
        let text = status.message();
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                self.unreachable(chain(status))
            }
            Code::ResourceExhausted if text.contains("space exceeded") => EtcdError::NoSpace {
                endpoints: self.endpoints.to_string(),
            },
            Code::ResourceExhausted => self.unreachable(text.to_owned()),
            Code::OutOfRange if text.contains("compacted") => EtcdError::Compacted,
            Code::NotFound if text.contains("lease") => EtcdError::LeaseGone,
            // What tonic says of a connection that broke, or of a server that is no gRPC server.
            Code::Unknown | Code::Internal if std::error::Error::source(status).is_some() => {
                self.unreachable(chain(status))
            }
            Code::Unimplemented => self.unreachable(format!("that is no etcd ({text})")),
            _ => EtcdError::Refused {
                call,
                why: text.to_owned(),
            },
        }
    }
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_decoding_message_size(ANSWER_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX)
}

/// tonic's own texts say "transport error" and leave the reason to the sources.
fn chain(status: &Status) -> String {
    let text = status.message();
    match std::error::Error::source(status) {
        Some(cause) => format!("{text}: {}", proffer_model::with_causes(cause)),
        None => text.to_owned(),
    }
}

/// A watch.
#[derive(Debug)]
pub(crate) struct Watching {
    answers: Streaming<WatchResponse>,
    endpoints: Arc<str>,
}

impl Watching {
    /// The next changes. Cancel-safe: an answer is taken whole or not at all.
    pub(crate) async fn next(&mut self) -> Result<Vec<proto::Event>, EtcdError> {
        loop {
            let lost = |why: String| EtcdError::Unreachable {
                endpoints: self.endpoints.to_string(),
                why,
            };
            let answer = match self.answers.message().await {
                Ok(Some(answer)) => answer,
                Ok(None) => return Err(lost("the watch ended".to_owned())),
                Err(status) => return Err(lost(chain(&status))),
            };
            if answer.compact_revision > 0 {
                return Err(EtcdError::Compacted);
            }
            if answer.canceled {
                return Err(lost(answer.cancel_reason));
            }
            if !answer.events.is_empty() {
                return Ok(answer.events);
            }
        }
    }
}
