//! Several hosts on one etcd: each follows until it leads, and follows again when it leads no more.
//!
//! A standby reads what the leader commits, as it commits it, into a core in the making ([`Replica`]),
//! has the components of frameworks compiled, and sends whoever calls to the leader. To take over it
//! reads what is left, and goes on. While it leads, everything runs that runs in a host alone; the
//! loop lets no effect out once the lease may be over ([`Authority`](proffer_store::etcd::Authority)),
//! and etcd takes no write of a leader that was followed by another.

use std::time::Duration;

use proffer_core::Replica;
use proffer_model::fact::Fact;
use proffer_model::with_causes;
use proffer_plugin::Kind;
use proffer_rpc::{Token, leader};
use proffer_store::etcd::{
    Cluster, Election, EtcdStore, EtcdTls, Followed, Follower, OpenClusterError, Role, component_of,
};
use proffer_store::leadership::{Fence, Leader};
use proffer_store::{Recovered, WriteStoreError};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{EtcdTlsFiles, HostConfig, StoreChoice, TlsFiles};
use crate::event_loop::Ended;
use crate::host::{Beginning, HostFailed, Parts, StartHostError, Term, read, stopped};
use crate::http::{StandbyPages, serve_standby};

/// Between two tries of a standby while no etcd answers.
const FOLLOW_AGAIN: Duration = Duration::from_millis(500);

/// The standby's servers may take so long to end; calls to them are answered at once.
const REDIRECT_ENDS_WITHIN: Duration = Duration::from_secs(1);

/// The token, and the etcd that is shared if one is.
pub(crate) async fn join(config: &HostConfig) -> Result<(Token, Option<Cluster>), StartHostError> {
    let path = config.data.join("token");
    let StoreChoice::Shared { etcd, tls, .. } = &config.store else {
        return Ok((Token::read_or_create(&path)?, None));
    };
    let etcd = match tls {
        Some(files) => etcd.over_tls(&read_etcd_tls(files)?)?,
        None => etcd.clone(),
    };
    let cluster = Cluster::open(etcd, Handle::current()).await?;
    // The first host's token is everybody's. A host that has none takes it from etcd.
    let own = match path.exists() {
        true => Some(Token::read(&path)?),
        false => None,
    };
    let offered = match &own {
        Some(own) => own.clone(),
        None => Token::random()?,
    };
    let shared = Token::parse(&cluster.share_token(offered.expose()).await?)?;
    match own {
        Some(own) if own.matches(shared.expose()) => {}
        Some(_) => {
            return Err(StartHostError::OtherToken {
                path,
                store: cluster.name(),
            });
        }
        None => shared.write(&path)?,
    }
    Ok((shared, Some(cluster)))
}

fn read_etcd_tls(files: &EtcdTlsFiles) -> Result<EtcdTls, StartHostError> {
    let identity = match &files.identity {
        Some(TlsFiles { certificate, key }) => Some((read(certificate)?, read(key)?)),
        None => None,
    };
    Ok(EtcdTls {
        authority: read(&files.authority)?,
        identity,
    })
}

/// A host that follows.
pub(crate) struct Standby {
    cluster: Cluster,
    follower: Follower,
    replica: Replica,
    /// Facts that are not in the replica yet; every framework's state.
    recovered: Recovered,
}

impl Standby {
    /// Reads all that is committed.
    pub(crate) async fn load(parts: &Parts, cluster: Cluster) -> Result<Self, StartHostError> {
        let (follower, recovered) = Follower::load(cluster.clone()).await?;
        let mut standby = Self {
            cluster,
            follower,
            replica: Replica::new(parts.config.core.clone(), parts.clock.now()),
            recovered,
        };
        standby.apply(parts)?;
        Ok(standby)
    }

    /// Puts what was read into the core in the making.
    fn apply(&mut self, parts: &Parts) -> Result<(), proffer_core::RecoverError> {
        for fact in self.recovered.facts.drain(..) {
            prefetch(parts, &fact);
            self.replica.apply(fact)?;
        }
        Ok(())
    }

    fn took(&mut self, parts: &Parts, followed: Followed) -> Result<(), HostFailed> {
        if followed == Followed::Anew {
            self.replica = Replica::new(parts.config.core.clone(), parts.clock.now());
        }
        self.apply(parts).map_err(HostFailed::Recover)
    }

    /// Follows until this host leads; the fence. None: a shutdown.
    async fn follow(
        &mut self,
        parts: &Parts,
        election: &Election,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<Option<Fence>, HostFailed> {
        let mut role = election.role();
        loop {
            // Every branch is cancel-safe.
            let followed = tokio::select! {
                won = role.wait_for(|role| matches!(role, Role::Leading(_))) => {
                    return match won.map(|role| role.clone()) {
                        Ok(Role::Leading(fence)) => Ok(Some(fence)),
                        // The election's thread is gone: a bug.
                        _ => Err(HostFailed::Panicked),
                    };
                }
                // An error means that the host's handle is gone: a shutdown too.
                _ = shutdown.wait_for(|stop| *stop) => return Ok(None),
                followed = self.follower.next(&mut self.recovered) => followed,
            };
            match followed {
                Ok(followed) => self.took(parts, followed)?,
                Err(OpenClusterError::Etcd(error)) => {
                    tracing::debug!(%error, "the leader's facts are not followed now");
                    tokio::time::sleep(FOLLOW_AGAIN).await;
                }
                Err(error) => return Err(HostFailed::Follow(error)),
            }
        }
    }

    /// Reads what is left and begins to lead. None: somebody else leads by now.
    async fn lead(
        mut self,
        parts: &Parts,
        election: &Election,
        fence: Fence,
    ) -> Result<Option<Term>, HostFailed> {
        let authority = election.authority();
        loop {
            match self.follower.catch_up(&mut self.recovered).await {
                Ok(followed) => {
                    if let Some(followed) = followed {
                        self.took(parts, followed)?;
                    }
                    break;
                }
                Err(OpenClusterError::Etcd(error)) => {
                    if !authority.holds() {
                        return Ok(None);
                    }
                    tracing::debug!(%error, "what is left is read again");
                    tokio::time::sleep(FOLLOW_AGAIN).await;
                }
                Err(error) => return Err(HostFailed::Follow(error)),
            }
        }
        let states = std::mem::take(&mut self.recovered.states);
        let store = EtcdStore::lead(self.follower, states.clone(), fence, authority.clone()).await;
        let store = match store {
            Ok(store) => store,
            Err(WriteStoreError::Deposed { .. }) => return Ok(None),
            Err(error) => return Err(HostFailed::Store(error)),
        };
        let begin = Beginning {
            core: self.replica.lead(parts.clock.now()),
            states,
            store: Box::new(store),
            authority,
            fence: Some(fence),
        };
        let term = Term::start(parts, begin).await;
        term.map(Some)
            .map_err(|error| HostFailed::Start(Box::new(error)))
    }
}

/// A framework's component is fetched and compiled before it is needed. Best effort: its actor does
/// the same, and says what is wrong.
fn prefetch(parts: &Parts, fact: &Fact) {
    let Some(digest) = component_of(fact) else {
        return;
    };
    let (components, plugins) = (parts.components.clone(), parts.plugins.clone());
    let digest = digest.to_owned();
    tokio::spawn(async move {
        let read = tokio::task::spawn_blocking(move || components.get(&digest)).await;
        if let Ok(Ok(bytes)) = read
            && let Err(error) = plugins.load(bytes, Kind::Framework).await
        {
            tracing::debug!(%error, "a component was not made ready");
        }
    });
}

/// Follows, leads and follows again, until the shutdown or a failure.
pub(crate) async fn run(
    parts: Parts,
    first: Standby,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), HostFailed> {
    let StoreChoice::Shared {
        lease, advertise, ..
    } = &parts.config.store
    else {
        return Ok(());
    };
    let cluster = first.cluster.clone();
    let place = Place::of(&parts, advertise.as_deref()).encode();
    let election = Election::start(&cluster, *lease, place)
        .map_err(|error| HostFailed::Start(Box::new(StartHostError::Thread(error))))?;
    let mut next = Some(first);
    let ended = loop {
        let standby = match next.take() {
            Some(standby) => standby,
            None => match reload(&parts, &cluster, &mut shutdown).await {
                Ok(Some(standby)) => standby,
                Ok(None) => break Ok(()),
                Err(failed) => break Err(failed),
            },
        };
        match one_turn(&parts, standby, &election, &mut shutdown).await {
            Ok(Turn::Again) => {}
            Ok(Turn::Shutdown) => break Ok(()),
            Err(failed) => break Err(failed),
        }
    };
    election.resign().await;
    ended
}

enum Turn {
    Again,
    Shutdown,
}

/// Why a time of leading is over.
enum Over {
    Ended(Result<Ended, HostFailed>),
    Deposed,
    Shutdown,
}

/// From standby to leader, to the end of that.
async fn one_turn(
    parts: &Parts,
    mut standby: Standby,
    election: &Election,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<Turn, HostFailed> {
    let redirecting = Redirecting::start(parts, election)?;
    let followed = standby.follow(parts, election, shutdown).await;
    let led = match followed {
        Ok(Some(fence)) => standby.lead(parts, election, fence).await,
        Ok(None) => Ok(None),
        Err(failed) => Err(failed),
    };
    // The leader's servers take over the same sockets.
    redirecting.stop().await;
    let Some(mut term) = led? else {
        let stopping = *shutdown.borrow();
        return Ok(if stopping {
            Turn::Shutdown
        } else {
            Turn::Again
        });
    };
    let mut role = election.role();
    let over = tokio::select! {
        ended = term.ended() => Over::Ended(ended),
        _ = role.wait_for(|role| !matches!(role, Role::Leading(_))) => Over::Deposed,
        _ = shutdown.wait_for(|stop| *stop) => Over::Shutdown,
    };
    term.stop().await;
    match over {
        Over::Deposed => Ok(Turn::Again),
        Over::Shutdown => Ok(Turn::Shutdown),
        Over::Ended(ended) => match ended? {
            Ended::Shutdown => Ok(Turn::Shutdown),
            Ended::Deposed => Ok(Turn::Again),
            Ended::Store(WriteStoreError::Deposed { .. }) => {
                election.fenced_off().await;
                Ok(Turn::Again)
            }
            Ended::Store(error) => Err(HostFailed::Store(error)),
            Ended::StoreGone => Err(HostFailed::Panicked),
        },
    }
}

/// Reads everything anew after a time of leading. None: a shutdown.
async fn reload(
    parts: &Parts,
    cluster: &Cluster,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<Option<Standby>, HostFailed> {
    loop {
        let loaded = tokio::select! {
            loaded = Standby::load(parts, cluster.clone()) => loaded,
            _ = shutdown.wait_for(|stop| *stop) => return Ok(None),
        };
        match loaded {
            Ok(standby) => return Ok(Some(standby)),
            Err(StartHostError::Shared(OpenClusterError::Etcd(error))) => {
                tracing::debug!(%error, "the facts are not read yet");
                tokio::time::sleep(FOLLOW_AGAIN).await;
            }
            Err(StartHostError::Shared(error)) => return Err(HostFailed::Follow(error)),
            Err(StartHostError::Recover(error)) => return Err(HostFailed::Recover(error)),
            Err(error) => return Err(HostFailed::Start(Box::new(error))),
        }
    }
}

/// Where a host is, as others see it: the leadership key's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// For agents and operators.
    pub(crate) grpc: String,
    /// For pages; empty: it has none.
    pub(crate) http: String,
}

impl Place {
    fn of(parts: &Parts, advertise: Option<&str>) -> Self {
        let reached = |bound: &proffer_rpc::Bound| match advertise {
            Some(name) => format!("{name}:{}", bound.address().port()),
            None => bound.address().to_string(),
        };
        Self {
            grpc: reached(&parts.bound),
            http: parts.http.as_ref().map(reached).unwrap_or_default(),
        }
    }

    /// Two lines, so that people can read them with etcd's own tools.
    fn encode(&self) -> String {
        format!("{}\n{}\n", self.grpc, self.http)
    }

    fn decode(text: &str) -> Self {
        let mut lines = text.lines().map(str::to_owned);
        Self {
            grpc: lines.next().unwrap_or_default(),
            http: lines.next().unwrap_or_default(),
        }
    }

    fn of_leader(leader: Option<&Leader>) -> Self {
        leader.map_or_else(Self::default, |leader| Self::decode(&leader.place))
    }
}

/// The standby's servers: they say where the leader is.
struct Redirecting {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Redirecting {
    fn start(parts: &Parts, election: &Election) -> Result<Self, HostFailed> {
        let mut role = election.role();
        let share = |bound: &proffer_rpc::Bound| {
            let shared = bound.share().map_err(StartHostError::Thread);
            shared.map_err(|error| HostFailed::Start(Box::new(error)))
        };
        let (stop, stopping) = watch::channel(false);
        let (grpc, grpc_seen) = watch::channel(String::new());
        let (http, http_seen) = watch::channel(String::new());
        let redirect = leader::redirect(
            share(&parts.bound)?,
            parts.token.clone(),
            parts.tls.clone(),
            grpc_seen,
            stopped(stopping.clone()),
        );
        let mut tasks = vec![tokio::spawn(async move {
            if let Err(error) = redirect.await {
                tracing::error!(error = %with_causes(&error), "the standby's port failed");
            }
        })];
        if let Some(bound) = &parts.http {
            let pages = StandbyPages {
                token: parts.token.clone(),
                leader: http_seen,
                authority: election.authority(),
            };
            let listener = share(bound)?.into_listener();
            let stopping = stopped(stopping.clone());
            tasks.push(tokio::spawn(async move {
                if let Err(error) = serve_standby(listener, pages, stopping).await {
                    tracing::error!(%error, "the standby's HTTP port failed");
                }
            }));
        }
        let mut stopping = stopping;
        tasks.push(tokio::spawn(async move {
            loop {
                let place = match &*role.borrow_and_update() {
                    Role::Following(leader) => Place::of_leader(leader.as_ref()),
                    Role::Leading(_) => Place::default(),
                };
                grpc.send_replace(place.grpc);
                http.send_replace(place.http);
                tokio::select! {
                    changed = role.changed() => if changed.is_err() { return },
                    _ = stopping.wait_for(|stop| *stop) => return,
                }
            }
        }));
        Ok(Self { stop, tasks })
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        let ending = async {
            for task in &mut self.tasks {
                // One that panicked has said so.
                let _panicked = task.await.is_err();
            }
        };
        if tokio::time::timeout(REDIRECT_ENDS_WITHIN, ending)
            .await
            .is_err()
        {
            tracing::debug!("connections to the standby were cut");
        }
        for task in self.tasks {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_two_lines() {
        for (grpc, http) in [("a:1", "a:2"), ("[::1]:5", "")] {
            let place = Place {
                grpc: grpc.to_owned(),
                http: http.to_owned(),
            };
            assert_eq!(Place::decode(&place.encode()), place);
        }
        assert_eq!(Place::decode(""), Place::default());
    }
}
