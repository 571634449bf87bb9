//! Finding the host that leads, of several that are named.
//!
//! A host that does not lead answers every call with `unavailable` and, in the metadata
//! [`LEADER_KEY`], where the leader is; empty if it knows of none. Whoever connects asks the hosts in
//! turn, goes where it is sent, and, as long as a host answers that nobody leads now, asks again.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tonic::metadata::MetadataValue;
use tonic::service::{Interceptor, InterceptorLayer, Routes};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};

use crate::listen::Bound;
use crate::serve::ServeError;
use crate::token::{Token, TokenCheck};
use crate::transport::{ConnectError, PeerAddress, Tls};

/// The metadata of a refusal that says where to go.
pub(crate) const LEADER_KEY: &str = "proffer-leader";

/// One of several hosts that does not answer for so long is passed over: stopped, or cut off.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Between two rounds; a random part of it keeps thousands of agents apart.
const ROUND_MIN: Duration = Duration::from_millis(50);
const ROUND_SPREAD_MS: u64 = 200;

/// Redirects followed in one round: a leader may change under way, but not for ever.
const REDIRECTS_MAX: usize = 3;

/// Asks the hosts in turn until one takes the call. Asks again while some host answers that nobody
/// leads; the caller sets the end.
pub(crate) async fn find<T, F>(
    hosts: &[PeerAddress],
    attempt: impl Fn(PeerAddress) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    loop {
        let failed = match ask_all(hosts, &attempt).await {
            Ok(found) => return Ok(found),
            Err(failed) => failed,
        };
        if !matches!(failed, ConnectError::NotLeader { .. }) {
            return Err(failed);
        }
        tokio::time::sleep(ROUND_MIN + Duration::from_millis(spread())).await;
    }
}

/// One round. The error that says most: a token that is wrong, then a host that waits for a leader.
async fn ask_all<T, F>(
    hosts: &[PeerAddress],
    attempt: &impl Fn(PeerAddress) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    let alone = hosts.len() == 1;
    let mut worst: Option<ConnectError> = None;
    for host in hosts {
        let mut address = host.clone();
        for _ in 0..=REDIRECTS_MAX {
            let failed = match ask(&address, alone, attempt).await {
                Ok(found) => return Ok(found),
                Err(failed) => failed,
            };
            let next = match &failed {
                ConnectError::NotLeader { leader, .. } => leader.parse::<PeerAddress>().ok(),
                _ => None,
            };
            if worst
                .as_ref()
                .is_none_or(|worst| rank(worst) < rank(&failed))
            {
                worst = Some(failed);
            }
            match next {
                Some(leader) => address = leader,
                None => break,
            }
        }
    }
    Err(worst.unwrap_or_else(|| ConnectError::Address(String::new())))
}

async fn ask<T, F>(
    address: &PeerAddress,
    alone: bool,
    attempt: &impl Fn(PeerAddress) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    if alone {
        // The caller's own limit is the only one.
        return attempt(address.clone()).await;
    }
    tokio::time::timeout(ANSWER_WITHIN, attempt(address.clone()))
        .await
        .unwrap_or_else(|_| {
            Err(ConnectError::Unreachable {
                address: address.to_string(),
                problem: "it did not answer in time".to_owned(),
            })
        })
}

fn rank(error: &ConnectError) -> u8 {
    match error {
        ConnectError::Unreachable { .. } => 0,
        ConnectError::NotLeader { .. } => 1,
        ConnectError::Address(_) | ConnectError::Tls { .. } | ConnectError::Exposed { .. } => 2,
        ConnectError::Unauthenticated { .. } => 3,
    }
}

fn spread() -> u64 {
    let mut byte = [0];
    // Without randomness all come at once, which is slower and not wrong.
    let _uniform = getrandom::fill(&mut byte).is_err();
    u64::from(byte[0]) * ROUND_SPREAD_MS / 256
}

/// Answers every call on a port with where the leader is, until `shutdown`.
///
/// # Errors
/// If the certificates are unusable or the port fails.
pub async fn redirect(
    bound: Bound,
    token: Token,
    tls: Tls,
    leader: watch::Receiver<String>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let mut server = tonic::transport::Server::builder();
    if let Some(config) = tls.server_config() {
        server = server.tls_config(config)?;
    }
    let redirect = Redirect {
        check: TokenCheck(token),
        leader,
    };
    let incoming = TcpIncoming::from(bound.listener).with_nodelay(Some(true));
    server
        .layer(InterceptorLayer::new(redirect))
        .add_routes(Routes::default())
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Redirect {
    check: TokenCheck,
    leader: watch::Receiver<String>,
}

impl Interceptor for Redirect {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        // Only to whoever belongs to the cluster.
        let _ours = self.check.call(request)?;
        let leader = self.leader.borrow().clone();
        let mut status = if leader.is_empty() {
            Status::unavailable("this host does not lead, and knows of none that does now")
        } else {
            Status::unavailable(format!("this host does not lead: {leader} does"))
        };
        if let Ok(value) = MetadataValue::try_from(leader) {
            status.metadata_mut().insert(LEADER_KEY, value);
        }
        Err(status)
    }
}
