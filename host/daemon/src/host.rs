//! A host from its configuration: everything started in order, everything ended in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proffer_core::{Core, Event, PolicyIdentity, RecoverError};
use proffer_plugin::{
    Kind, LoadPluginError, MakePluginHostError, PluginFault, PluginHost, PluginHostConfig,
};
use proffer_rpc::data::DataClient;
use proffer_rpc::serve::Server;
use proffer_rpc::{BindError, Tls, Token, TokenError};
use proffer_store::{OpenStoreError, Recovered, Store, open};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::{HostConfig, PolicyChoice};
use crate::event_loop::{Ended, EventLoop, Waiting};
use crate::frameworks::{ActorParts, Frameworks};
use crate::handle::{INPUTS_WAITING_MAX, Input, LoopHandle};
use crate::http::{Pages, serve};
use crate::metrics::Metrics;
use crate::operator::{About, HostOperator};
use crate::persister::Persister;
use crate::policy_seat::{LoadedPolicy, PolicySeats, spawn};
use crate::usage::UsageSeries;

/// Connection events that may wait for the loop's own queue.
const CONNECTION_EVENTS_MAX: usize = 1_024;

/// Why a host did not start. Nothing of it runs.
#[derive(Debug, thiserror::Error)]
pub enum StartHostError {
    /// Its port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its store.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
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
    /// Its policy's file.
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
        let token = Token::read_or_create(&config.data.join("token"))?;
        let tls = read_tls(&config)?;
        let plugins = PluginHost::new(PluginHostConfig {
            cache: Some(config.data.join("cache")),
            ..PluginHostConfig::default()
        })?;
        let policy = load_policy(&plugins, &config.policy).await?;
        let (store, recovered) = open_store(config.data.join("store")).await?;
        let components = store.components().clone();
        let journal_len = store.journal_len();
        let clock = Clock::start();
        let Recovered { facts, states } = recovered;
        let core = Core::recover(config.core.clone(), facts, clock.now())?;

        let (inputs, queue) = mpsc::channel(INPUTS_WAITING_MAX);
        let handle = LoopHandle::new(inputs);
        let (shutdown, shutting_down) = watch::channel(false);
        let metrics = Arc::new(Metrics::default());
        let usage = UsageSeries::default();
        let persister = Persister::start(Box::new(store)).map_err(StartHostError::Thread)?;
        let parts = ActorParts {
            plugins: plugins.clone(),
            components: components.clone(),
            handle: handle.clone(),
            metrics: Arc::clone(&metrics),
            cluster: config.core.cluster.clone(),
            region: config.core.region.clone(),
            seed: config.core.seed,
        };
        let loaded_event = policy.as_ref().map(|(policy, feeds)| Event::PolicyLoaded {
            identity: Arc::clone(&policy.identity),
            feeds: *feeds,
        });
        let policy_config = policy
            .as_ref()
            .map(|(policy, _)| policy.config.clone())
            .unwrap_or_default();
        let (policies, policy_task) = PolicySeats::start(
            plugins.clone(),
            policy.map(|(policy, _)| policy),
            handle.clone(),
        );
        if let Some(event) = loaded_event {
            // The queue is empty and its reader is here: it has room.
            let _sent = handle.send(Input::Event(event)).await.is_ok();
        }
        let event_loop = EventLoop {
            core,
            clock,
            inputs: queue,
            persister,
            journal_len,
            journal_max: config.journal_max,
            frameworks: Frameworks::new(parts, states),
            policies,
            usage: usage.clone(),
            metrics: Arc::clone(&metrics),
            shutdown: shutting_down.clone(),
            waiting: Waiting::default(),
        };
        let operator = HostOperator {
            handle: handle.clone(),
            plugins,
            components,
            usage,
            clock,
            data: Arc::new(DataClient::new(token.clone(), client_tls(&tls))),
            about: Arc::new(About {
                cluster: config.core.cluster.clone(),
                http_address: http
                    .as_ref()
                    .map(|http| http.address().to_string())
                    .unwrap_or_default(),
                policy_config,
            }),
        };
        let address = bound.address();
        let http_address = http.as_ref().map(proffer_rpc::Bound::address);
        let (connections, connection_events) = mpsc::channel(CONNECTION_EVENTS_MAX);
        let server = Server::new(token.clone(), tls)
            .agents(connections)
            .operators(operator);
        let mut others = vec![policy_task];
        others.push(tokio::spawn(forward(connection_events, handle.clone())));
        let stopping = stopped(shutting_down.clone());
        others.push(tokio::spawn(async move {
            if let Err(error) = server.serve(bound, stopping).await {
                tracing::error!(error = %chain(&error), "the host's port failed");
            }
        }));
        if let Some(http) = http {
            let pages = Pages {
                handle,
                metrics,
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
            address,
            http_address,
            token,
            shutdown,
            event_loop,
            others,
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

    /// Waits for the host's end, which comes by itself only if its store fails.
    ///
    /// # Errors
    /// How it ended.
    pub async fn ended(&mut self) -> Result<(), HostFailed> {
        match (&mut self.event_loop).await {
            Ok(Ended::Shutdown) => Ok(()),
            Ok(Ended::Store(error)) => Err(HostFailed::Store(error)),
            Ok(Ended::StoreGone) | Err(_) => Err(HostFailed::Panicked),
        }
    }

    /// Ends the host: what is durable stays, tasks keep running.
    ///
    /// # Errors
    /// If it had ended otherwise before.
    pub async fn shutdown(mut self) -> Result<(), HostFailed> {
        self.shutdown.send_replace(true);
        let ended = if self.event_loop.is_finished() {
            Ok(())
        } else {
            self.ended().await
        };
        for other in self.others.drain(..) {
            other.abort();
        }
        ended
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

async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error means that the host is gone: a shutdown too.
    let _gone = shutdown.wait_for(|stop| *stop).await.is_err();
}

async fn open_store(dir: PathBuf) -> Result<(proffer_store::Embedded, Recovered), StartHostError> {
    let opened = tokio::task::spawn_blocking(move || open(&dir)).await;
    match opened {
        Ok(opened) => Ok(opened?),
        Err(error) => Err(StartHostError::Thread(std::io::Error::other(error))),
    }
}

fn read_tls(config: &HostConfig) -> Result<Tls, StartHostError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| StartHostError::Read {
            path: path.to_owned(),
            source,
        })
    };
    match &config.tls {
        None => Ok(Tls::Off),
        Some(files) => Ok(Tls::Server {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
        }),
    }
}

/// For the host's own calls to agents: whoever signed the host signs agents.
fn client_tls(tls: &Tls) -> Tls {
    match tls {
        Tls::Server { certificate, .. } => Tls::Client {
            authority: certificate.clone(),
        },
        Tls::Off | Tls::Client { .. } => Tls::Off,
    }
}

async fn load_policy(
    plugins: &PluginHost,
    choice: &PolicyChoice,
) -> Result<Option<(LoadedPolicy, proffer_model::policy::Feeds)>, StartHostError> {
    let PolicyChoice::Component { file, config } = choice else {
        return Ok(None);
    };
    let path = file.clone();
    let bytes = tokio::fs::read(file)
        .await
        .map_err(|source| StartHostError::Read {
            path: path.clone(),
            source,
        })?;
    let plugin =
        plugins
            .load(bytes, Kind::Policy)
            .await
            .map_err(|source| StartHostError::LoadPolicy {
                path: path.clone(),
                source,
            })?;
    let identity = Arc::new(PolicyIdentity {
        name: plugin.name().to_owned(),
        version: plugin.version().to_owned(),
        digest: plugin.digest().to_owned(),
    });
    let policy = LoadedPolicy {
        plugin,
        config: config.clone(),
        identity,
    };
    let (_, feeds) = spawn(plugins, &policy)
        .await
        .map_err(|source| StartHostError::StartPolicy { path, source })?;
    Ok(Some((policy, feeds)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
