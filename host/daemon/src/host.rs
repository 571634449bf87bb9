//! A host from its configuration: everything started in order, everything ended in order.
//!
//! What runs while a host leads is a [`Term`]. A host with a store of its own has one; one that shares
//! etcd with others has as many as it comes to lead (`hosts.rs`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proffer_core::{Core, RecoverError};
use proffer_model::with_causes;
use proffer_plugin::{
    LoadPluginError, MakePluginHostError, PluginFault, PluginHost, PluginHostConfig,
};
use proffer_record::Recorder;
use proffer_rpc::data::DataClient;
use proffer_rpc::serve::Server;
use proffer_rpc::{BindError, Bound, Tls, Token, TokenError};
use proffer_store::etcd::{Authority, OpenClusterError, UnusableEtcdTls};
use proffer_store::leadership::Fence;
use proffer_store::{
    Components, FrameworkStates, JournalLimit, OpenStoreError, Pin, Recovered, Store, open,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::HostConfig;
use crate::event_loop::{Ended, EventLoop, Waiting};
use crate::first_policy::{first_policy, load_policy};
use crate::frameworks::{ActorParts, Frameworks, LimitsInForce};
use crate::handle::{INPUTS_WAITING_MAX, Input, LoopHandle};
use crate::hosts;
use crate::http::{Pages, serve};
use crate::metrics::Metrics;
use crate::operator::{About, HostOperator};
use crate::persister::Persister;
use crate::policy_seat::{LoadedPolicy, Loader, PolicySeats};
use crate::unused_components::remove_when_told;
use crate::usage::UsageSeries;

/// Connection events that may wait for the loop's own queue.
const CONNECTION_EVENTS_MAX: usize = 1_024;

/// Open calls may take so long to end when a term does.
const CLOSE_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Why a host did not start. Nothing of it runs.
#[derive(Debug, thiserror::Error)]
pub enum StartHostError {
    /// Its port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its store.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// The store that it shares with others.
    #[error(transparent)]
    Shared(#[from] OpenClusterError),
    /// The token is not the one of the hosts that it shares a store with.
    #[error(
        "the token in {} is not the one that is in {store}: remove the file if this host is to join that cluster, or give another --store or --data",
        path.display()
    )]
    OtherToken {
        /// This host's file.
        path: PathBuf,
        /// Where the other is.
        store: String,
    },
    /// What is in its store.
    #[error(
        "the facts in the store do not fit together; start with an empty --data directory, or with the proffer that wrote them"
    )]
    Recover(#[from] RecoverError),
    /// Its token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its plug-in engine.
    #[error(transparent)]
    Plugins(#[from] MakePluginHostError),
    /// The certificate and its key do not do.
    #[error("TLS with {} and {}: {problem}", certificate.display(), key.display())]
    Tls {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The certificates with which it is to speak to etcd.
    #[error(transparent)]
    EtcdTls(#[from] UnusableEtcdTls),
    /// Its policy's file, or another that a setting names.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its policy.
    #[error("the policy {} cannot be loaded", path.display())]
    LoadPolicy {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: LoadPluginError,
    },
    /// Its policy's configuration.
    #[error("the policy {} does not start", path.display())]
    StartPolicy {
        /// Its file.
        path: PathBuf,
        /// Its words, or its fault.
        #[source]
        source: PluginFault,
    },
    /// A thread of its own.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// How a host ended.
#[derive(Debug, thiserror::Error)]
pub enum HostFailed {
    /// Its store takes no more writes: nothing may happen that is not durable.
    #[error("the host ended because its store failed")]
    Store(#[source] proffer_store::WriteStoreError),
    /// What another host wrote cannot be read.
    #[error("the host ended because it cannot follow the one that leads")]
    Follow(#[source] OpenClusterError),
    /// What another host wrote does not fit together.
    #[error("the host ended because the facts of the one that leads do not fit together")]
    Recover(#[source] RecoverError),
    /// It could not begin to lead.
    #[error("the host ended because it could not begin to lead")]
    Start(#[source] Box<StartHostError>),
    /// A bug.
    #[error("a task of the host panicked: a bug")]
    Panicked,
}

/// A host that runs.
#[derive(Debug)]
pub struct Host {
    address: SocketAddr,
    http_address: Option<SocketAddr>,
    token: Token,
    shutdown: watch::Sender<bool>,
    /// None once its end was seen.
    running: Option<JoinHandle<Result<(), HostFailed>>>,
}

/// What a host has whether it leads or not.
pub(crate) struct Parts {
    pub(crate) config: HostConfig,
    pub(crate) bound: Bound,
    pub(crate) http: Option<Bound>,
    pub(crate) token: Token,
    pub(crate) tls: Tls,
    pub(crate) plugins: PluginHost,
    pub(crate) policy: Option<(LoadedPolicy, proffer_model::policy::Feeds)>,
    pub(crate) components: Components,
    /// The settings' policy may decide again in any term.
    pub(crate) _settings_policy: Option<Pin>,
    pub(crate) clock: Clock,
}

/// What a host that leads begins with.
pub(crate) struct Beginning {
    pub(crate) core: Core,
    pub(crate) states: FrameworkStates,
    pub(crate) store: Box<dyn Store>,
    pub(crate) authority: Authority,
    /// Of a host of several.
    pub(crate) fence: Option<Fence>,
}

/// A host that leads.
pub(crate) struct Term {
    shutdown: watch::Sender<bool>,
    event_loop: JoinHandle<Ended>,
    others: Vec<JoinHandle<()>>,
}

impl Host {
    /// Starts everything; agents and operators can connect when this returns.
    ///
    /// # Errors
    /// What was in the way; nothing is left running.
    pub async fn start(config: HostConfig) -> Result<Self, StartHostError> {
        // Ports first: the cheapest thing that is often wrong.
        let bound = config.listen.bind().await?;
        let http = match config.http {
            Some(address) => Some(address.bind().await?),
            None => None,
        };
        let tls = read_tls(&config)?;
        let (token, cluster) = hosts::join(&config).await?;
        let plugins = PluginHost::new(PluginHostConfig {
            cache: Some(config.data.join("cache")),
            ..PluginHostConfig::default()
        })?;
        let (address, http_address) = (bound.address(), http.as_ref().map(Bound::address));
        let (shutdown, shutting_down) = watch::channel(false);
        let dir = config.data.join("store");
        let components = match &cluster {
            Some(cluster) => Components::shared(dir.join("components"), cluster.clone()),
            None => Components::new(dir.join("components")),
        };
        let policy = load_policy(&plugins, &components, &config.policy).await?;
        let digest = policy
            .as_ref()
            .map(|(policy, _)| policy.identity.digest.clone())
            .filter(|digest| !digest.is_empty());
        let parts = Parts {
            _settings_policy: digest.map(|digest| components.pin(&digest)),
            config,
            bound,
            http,
            token: token.clone(),
            tls,
            plugins,
            policy,
            components,
            clock: Clock::start(),
        };
        let running = match cluster {
            None => {
                let term = begin_alone(&parts, dir).await?;
                tokio::spawn(run_alone(term, shutting_down))
            }
            Some(cluster) => {
                let standby = hosts::Standby::load(&parts, cluster).await?;
                tokio::spawn(hosts::run(parts, standby, shutting_down))
            }
        };
        Ok(Self {
            address,
            http_address,
            token,
            shutdown,
            running: Some(running),
        })
    }

    /// Where agents and operators connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the pages are.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// What every call must carry.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Waits for the host's end, which comes by itself only if its store fails. Cancel-safe.
    ///
    /// # Errors
    /// How it ended.
    pub async fn ended(&mut self) -> Result<(), HostFailed> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let ended = running.await;
        self.running = None;
        ended.unwrap_or(Err(HostFailed::Panicked))
    }

    /// Ends the host: what is durable stays, tasks keep running.
    ///
    /// # Errors
    /// If it had ended otherwise before.
    pub async fn shutdown(mut self) -> Result<(), HostFailed> {
        self.shutdown.send_replace(true);
        self.ended().await
    }
}

impl Term {
    /// Starts everything that a host does while it leads.
    ///
    /// # Errors
    /// A thread or a socket that cannot be had.
    pub(crate) async fn start(parts: &Parts, begin: Beginning) -> Result<Self, StartHostError> {
        let Parts {
            config,
            token,
            tls,
            plugins,
            components,
            clock,
            ..
        } = parts;
        let (clock, tls) = (*clock, tls.clone());
        let Beginning {
            core,
            states,
            store,
            authority,
            fence,
        } = begin;
        let journal_len = store.journal_len();
        let journal_limit = JournalLimit::new(config.journal_max, core.snapshot_len() as u64);
        let leads = authority.clone();
        let share = |bound: &Bound| bound.share().map_err(StartHostError::Thread);
        let bound = share(&parts.bound)?;
        let http = parts.http.as_ref().map(share).transpose()?;
        let data_tls = client_tls(&tls, bound.address());

        let (inputs, queue) = mpsc::channel(INPUTS_WAITING_MAX);
        let handle = LoopHandle::new(inputs);
        let (shutdown, shutting_down) = watch::channel(false);
        let metrics = Arc::new(Metrics::default());
        let usage = UsageSeries::default();
        let limits = Arc::new(LimitsInForce::default());
        let persister = Persister::start(store).map_err(StartHostError::Thread)?;
        let actor_parts = ActorParts {
            plugins: plugins.clone(),
            components: components.clone(),
            handle: handle.clone(),
            metrics: Arc::clone(&metrics),
            limits: Arc::clone(&limits),
            cluster: config.core.cluster.clone(),
            region: config.core.region.clone(),
            seed: config.core.seed,
        };
        let loader = Loader {
            plugins: plugins.clone(),
            components: components.clone(),
        };
        let (policy, event) = first_policy(&loader, &core, parts.policy.as_ref()).await;
        let carried = core.policy_carried().to_vec();
        let (policies, policy_task) = PolicySeats::start(loader, policy, carried, handle.clone());
        let (candidates, asker) = (policies.candidates(), policies.asker());
        let tenants = policies.tenants();
        let set = core.tenants().map(|tenant| (tenant.role, tenant.record));
        tenants.load(set.collect());
        if let Some(event) = event {
            // The queue is empty and its reader is here: it has room.
            let _sent = handle.send(Input::Event(event)).await.is_ok();
        }
        let recorder = start_recorder(config, &core, clock);
        let framework_removed = Arc::new(Notify::new());
        let event_loop = EventLoop {
            core,
            clock,
            inputs: queue,
            persister,
            authority,
            journal_len,
            began: clock.now(),
            journal_limit,
            frameworks: Frameworks::new(actor_parts, states),
            policies,
            recorder,
            usage: usage.clone(),
            metrics: Arc::clone(&metrics),
            framework_removed: Arc::clone(&framework_removed),
            shutdown: shutting_down.clone(),
            waiting: Waiting::default(),
        };
        let operator = HostOperator {
            handle: handle.clone(),
            plugins: plugins.clone(),
            components: components.clone(),
            usage,
            limits,
            clock,
            candidates,
            tenants,
            asker,
            data: Arc::new(DataClient::new(token.clone(), data_tls)),
            about: Arc::new(About {
                cluster: config.core.cluster.clone(),
                http_address: http
                    .as_ref()
                    .map(|http| http.address().to_string())
                    .unwrap_or_default(),
                core: config.core.clone(),
            }),
        };
        let address = bound.address();
        let (connections, connection_events) = mpsc::channel(CONNECTION_EVENTS_MAX);
        let server = Server::new(token.clone(), tls)
            .agents(connections)
            .operators(operator);
        let mut others = vec![policy_task];
        others.push(tokio::spawn(forward(connection_events, handle.clone())));
        let led = fence.map_or_else(|| components.clone(), |fence| components.led(fence));
        let (stopping, removing) = (
            stopped(shutting_down.clone()),
            remove_when_told(handle.clone(), led, framework_removed),
        );
        others.push(tokio::spawn(async move {
            // Dropped between two looks, it has removed what it was about to, or has not begun.
            tokio::select! {
                () = removing => {}
                () = stopping => {}
            }
        }));
        let stopping = stopped(shutting_down.clone());
        others.push(tokio::spawn(async move {
            if let Err(error) = server.serve(bound, stopping).await {
                tracing::error!(error = %with_causes(&error), "the host's port failed");
            }
        }));
        if let Some(http) = http {
            let pages = Pages {
                handle,
                metrics,
                authority: leads,
                token: token.clone(),
            };
            let stopping = stopped(shutting_down);
            others.push(tokio::spawn(async move {
                if let Err(error) = serve(http.into_listener(), pages, stopping).await {
                    tracing::error!(%error, "the host's HTTP port failed");
                }
            }));
        }
        let event_loop = tokio::spawn(event_loop.run());
        tracing::info!(%address, cluster = config.core.cluster, "the host runs");
        Ok(Self {
            shutdown,
            event_loop,
            others,
        })
    }

    /// Waits until the loop ends. Cancel-safe; once.
    pub(crate) async fn ended(&mut self) -> Result<Ended, HostFailed> {
        (&mut self.event_loop)
            .await
            .map_err(|_| HostFailed::Panicked)
    }

    /// Ends the loop, if it has not ended, and closes what is open.
    pub(crate) async fn stop(mut self) {
        self.shutdown.send_replace(true);
        if !self.event_loop.is_finished() {
            // How it ended does not matter any more.
            let _ended = self.ended().await.is_err();
        }
        let mut others: Vec<_> = self.others.drain(..).collect();
        let closing = async {
            for other in &mut others {
                // A task of the term that panicked has said so.
                let _panicked = other.await.is_err();
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, closing).await.is_err() {
            tracing::debug!("what was still open at the end of a term was cut");
        }
        for other in others {
            other.abort();
        }
    }
}

/// Connection events, one by one, into the loop's queue; whoever waits is the connections.
async fn forward(
    mut events: mpsc::Receiver<proffer_rpc::agent::AgentConnectionEvent>,
    handle: LoopHandle,
) {
    while let Some(event) = events.recv().await {
        if handle.send(Input::Connection(event)).await.is_err() {
            return;
        }
    }
}

pub(crate) async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error means that the host is gone: a shutdown too.
    let _gone = shutdown.wait_for(|stop| *stop).await.is_err();
}

/// A host with a store of its own.
async fn begin_alone(parts: &Parts, dir: PathBuf) -> Result<Term, StartHostError> {
    let opened = tokio::task::spawn_blocking(move || open(&dir)).await;
    let (store, recovered) = match opened {
        Ok(opened) => opened?,
        Err(error) => return Err(StartHostError::Thread(std::io::Error::other(error))),
    };
    let Recovered { facts, states } = recovered;
    let core = Core::recover(parts.config.core.clone(), facts, parts.clock.now())?;
    let begin = Beginning {
        core,
        states,
        store: Box::new(store),
        authority: Authority::unshared(),
        fence: None,
    };
    Term::start(parts, begin).await
}

async fn run_alone(mut term: Term, mut shutdown: watch::Receiver<bool>) -> Result<(), HostFailed> {
    // An error means that the host's handle is gone: a shutdown too.
    let ended = tokio::select! {
        ended = term.ended() => Some(ended),
        _ = shutdown.wait_for(|stop| *stop) => None,
    };
    term.stop().await;
    match ended {
        None => Ok(()),
        Some(ended) => match ended? {
            Ended::Shutdown => Ok(()),
            Ended::Store(error) => Err(HostFailed::Store(error)),
            // It shares its store with nobody, so nobody deposes it.
            Ended::StoreGone | Ended::Deposed => Err(HostFailed::Panicked),
        },
    }
}

/// A host that cannot record runs all the same: it says so, here and in its metrics.
fn start_recorder(config: &HostConfig, core: &Core, clock: Clock) -> Recorder {
    let Some(limits) = config.recording.clone() else {
        return Recorder::off();
    };
    match Recorder::start(limits, core, clock.now()) {
        Ok(recorder) => recorder,
        Err(error) => {
            tracing::warn!(error = %with_causes(&error), "nothing is recorded");
            Recorder::off()
        }
    }
}

fn read_tls(config: &HostConfig) -> Result<Tls, StartHostError> {
    match &config.tls {
        None => Ok(Tls::Off),
        Some(files) => {
            let tls = Tls::Server {
                certificate: read(&files.certificate)?,
                key: read(&files.key)?,
            };
            tls.check_server().map_err(|problem| StartHostError::Tls {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
                problem,
            })?;
            Ok(tls)
        }
    }
}

/// For the host's own calls to agents: whoever signed the host signs agents. One that listens to
/// others without TLS was told that the network is trusted.
fn client_tls(tls: &Tls, address: SocketAddr) -> Tls {
    match tls {
        Tls::Server { certificate, .. } => Tls::Client {
            authority: certificate.clone(),
        },
        _ if address.ip().is_loopback() => Tls::Off,
        _ => Tls::Trusted,
    }
}

/// A file that a setting names.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, StartHostError> {
    std::fs::read(path).map_err(|source| StartHostError::Read {
        path: path.to_owned(),
        source,
    })
}
