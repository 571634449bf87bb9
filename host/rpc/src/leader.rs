//! Finding the host that leads, of several that are named.
//!
//! A host that does not lead answers every call with `unavailable` and, in the metadata
//! [`LEADER_KEY`], where the leader is; empty if it knows of none. Whoever connects asks the hosts in
//! turn, goes where it is sent, and, as long as a host answers that nobody leads now, asks again.
//!
//! A leader that was killed leads for its followers until its lease ends, and all of its agents ask
//! for the next one meanwhile. So a call says in [`LOST_KEY`] which leader its caller cannot reach,
//! and whoever would send it there keeps it instead until leadership changes, for a while: agents
//! wait without asking again and again, and go on as soon as there is somebody.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use tokio::sync::watch;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::{Interceptor, Routes};
use tonic::transport::server::TcpIncoming;
use tonic::{Extensions, Status};

use crate::listen::Bound;
use crate::serve::ServeError;
use crate::token::{Token, TokenCheck};
use crate::transport::{Candidate, ConnectError, PeerAddress, Tls};

/// The metadata of a refusal that says where to go.
pub(crate) const LEADER_KEY: &str = "proffer-leader";

/// The metadata of a call whose caller was sent to a leader before and could not reach it: which.
pub(crate) const LOST_KEY: &str = "proffer-leader-lost";

/// How long a call is kept that can only be sent where its caller has been. Half of
/// [`ANSWER_WITHIN`], which begins before the connection is there, so that its caller hears something.
const KEPT_MAX: Duration = Duration::from_secs(1);

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
    attempt: impl Fn(Candidate) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    let mut lost = String::new();
    loop {
        let failed = match ask_all(hosts, &mut lost, &attempt).await {
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
/// `lost` is the leader that nobody could be reached at, of this round or the last; or empty.
async fn ask_all<T, F>(
    hosts: &[PeerAddress],
    lost: &mut String,
    attempt: &impl Fn(Candidate) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    let alone = hosts.len() == 1;
    let mut worst: Option<ConnectError> = None;
    for host in hosts {
        let mut address = host.clone();
        let mut sent_to = None;
        for _ in 0..=REDIRECTS_MAX {
            let candidate = Candidate {
                address: address.clone(),
                lost: lost.clone(),
            };
            let failed = match ask(candidate, alone, attempt).await {
                Ok(found) => return Ok(found),
                Err(failed) => failed,
            };
            match (&failed, sent_to.take()) {
                (ConnectError::Unreachable { .. }, Some(leader)) => *lost = leader,
                (_, Some(leader)) if *lost == leader => lost.clear(),
                _ => {}
            }
            let next = match &failed {
                ConnectError::NotLeader { leader, .. } => {
                    sent_to = Some(leader.clone());
                    let next = leader.parse::<PeerAddress>().ok();
                    // One that was lost and is named anyway has its turn in each round.
                    next.filter(|next| leader != lost || !hosts.contains(next))
                }
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
    candidate: Candidate,
    alone: bool,
    attempt: &impl Fn(Candidate) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    if alone {
        // The caller's own limit is the only one.
        return attempt(candidate).await;
    }
    let address = candidate.address.to_string();
    tokio::time::timeout(ANSWER_WITHIN, attempt(candidate))
        .await
        .unwrap_or_else(|_| {
            Err(ConnectError::Unreachable {
                address,
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
        keeps: KEPT_MAX,
    };
    let every_call = axum::Router::new().fallback(refuse).with_state(redirect);
    let incoming = TcpIncoming::from(bound.listener).with_nodelay(Some(true));
    server
        .add_routes(Routes::from(every_call))
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Redirect {
    check: TokenCheck,
    leader: watch::Receiver<String>,
    /// For how long a call.
    keeps: Duration,
}

async fn refuse(State(redirect): State<Redirect>, call: Request) -> Result<Infallible, Response> {
    let metadata = MetadataMap::from_headers(call.into_parts().0.headers);
    Err(redirect.refusal(metadata).await.into_http())
}

impl Redirect {
    async fn refusal(mut self, metadata: MetadataMap) -> Status {
        // Only to whoever belongs to the cluster.
        let call = tonic::Request::from_parts(metadata, Extensions::default(), ());
        let call = match self.check.call(call) {
            Ok(call) => call,
            Err(stranger) => return stranger,
        };
        let lost = call.metadata().get(LOST_KEY);
        let leader = self
            .leader_beside(lost.and_then(|lost| lost.to_str().ok()))
            .await;
        let mut status = if leader.is_empty() {
            Status::unavailable("this host does not lead, and knows of none that does now")
        } else {
            Status::unavailable(format!("this host does not lead: {leader} does"))
        };
        if let Ok(value) = MetadataValue::try_from(leader) {
            status.metadata_mut().insert(LEADER_KEY, value);
        }
        status
    }

    /// Who leads. If that is nobody, or who is lost to the caller, it is waited for the next one; also
    /// for one with the same name, which has come back. This host's own turn ends the wait, too.
    async fn leader_beside(&mut self, lost: Option<&str>) -> String {
        let leads = self.leader.borrow_and_update().clone();
        if !leads.is_empty() && Some(leads.as_str()) != lost {
            return leads;
        }
        let next = async {
            while self.leader.changed().await.is_ok() {
                let leads = self.leader.borrow_and_update().clone();
                if !leads.is_empty() {
                    return leads;
                }
            }
            String::new()
        };
        match tokio::time::timeout(self.keeps, next).await {
            Ok(next) => next,
            Err(_) => self.leader.borrow().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const A: &str = "127.0.0.1:1";
    const B: &str = "127.0.0.1:2";

    fn follower(leads: &str, keeps: Duration) -> (watch::Sender<String>, Redirect) {
        let (leader, seen) = watch::channel(leads.to_owned());
        let check = TokenCheck(Token::random().unwrap());
        let redirect = Redirect {
            check,
            leader: seen,
            keeps,
        };
        (leader, redirect)
    }

    /// What a call hears that came while `before` led, when `after` have led one after the other.
    async fn heard(before: &str, lost: &str, after: &[&str]) -> String {
        let (leader, mut follower) = follower(before, Duration::MAX);
        let call = follower.leader_beside(Some(lost));
        let changes = async {
            for next in after {
                tokio::task::yield_now().await;
                leader.send_replace((*next).to_owned());
            }
            // It lives on: the host does not become the leader itself.
            std::future::pending().await
        };
        tokio::select! {
            leads = call => leads,
            () = changes => unreachable!("it does not end"),
        }
    }

    #[tokio::test]
    async fn a_call_waits_while_it_could_only_be_sent_where_its_caller_has_been() {
        assert_eq!(heard(A, "", &[]).await, A);
        assert_eq!(heard(A, B, &[]).await, A);
        assert_eq!(heard(A, A, &["", B]).await, B);
        assert_eq!(heard("", B, &[A]).await, A);
        // It was deposed, and leads again.
        assert_eq!(heard(A, A, &["", A]).await, A);
    }

    #[tokio::test]
    async fn a_call_does_not_wait_for_ever() {
        let (leader, mut follower) = follower(A, Duration::from_millis(1));
        assert_eq!(follower.leader_beside(Some(A)).await, A);
        // Who led when it came may lead no longer.
        let call = follower.leader_beside(Some(A));
        let over = async {
            tokio::task::yield_now().await;
            leader.send_replace(String::new());
        };
        assert_eq!(tokio::join!(call, over).0, "");
    }

    #[tokio::test]
    async fn a_call_that_waits_hears_at_once_that_this_host_ends_following() {
        let (leader, mut follower) = follower(A, Duration::MAX);
        let call = follower.leader_beside(Some(A));
        let over = async move {
            tokio::task::yield_now().await;
            drop(leader);
        };
        let (leads, ()) = tokio::join!(call, over);
        assert_eq!(leads, "");
    }

    /// B is asked and sends everybody to A, which is dead. Then B leads.
    #[tokio::test]
    async fn a_leader_that_could_not_be_reached_is_named_to_whom_is_asked_next() {
        let asked = RefCell::new(Vec::new());
        let hosts = [A.parse().unwrap(), B.parse().unwrap()];
        let found = find(&hosts, |candidate| {
            let Candidate { address, lost } = candidate;
            let address = address.to_string();
            asked.borrow_mut().push((address.clone(), lost.clone()));
            let leads = asked.borrow().len() == 5;
            async move {
                match address.as_str() {
                    B if leads => Ok(()),
                    B => Err(ConnectError::NotLeader {
                        address,
                        leader: A.to_owned(),
                    }),
                    _ => Err(ConnectError::Unreachable {
                        address,
                        problem: "nobody listens".to_owned(),
                    }),
                }
            }
        });
        found.await.unwrap();
        let asked = asked.into_inner();
        let asked: Vec<(&str, &str)> = asked.iter().map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(asked, [(A, ""), (B, ""), (A, ""), (A, A), (B, A)]);
    }
}
