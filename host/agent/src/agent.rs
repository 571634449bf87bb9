//! An agent in this process.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use proffer_model::{AgentId, AgentInfo, Bundle, Timestamp};
use proffer_rpc::data::DataClient;
use proffer_rpc::serve::Server;
use proffer_rpc::{BindError, Bound};
use rustix::fs::{FlockOperation, flock};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::AgentConfig;
use crate::detect;
use crate::fetch::{Components, Preparer, PreparerParts};
use crate::files::Files;
use crate::journal::{Journal, JournalError, SharedJournal};
use crate::logic::{Counters, Identity, Logic, Outbox, Recovered, Settings};
use crate::runners::{RunnerSetup, Runners};
use crate::sandbox::Sandboxes;
use crate::shell::{Shell, ShellParts};

/// Random bytes of an agent's key: nobody guesses it, no two are the same.
const KEY_BYTES: usize = 16;

/// News of runners that wait for the agent; they wait if it is full.
const NEWS_QUEUE: usize = 1_024;

/// An agent, ready to run: its directory is its own, its port is bound.
#[derive(Debug)]
pub struct Agent {
    shell: Shell,
    server: Server,
    bound: Bound,
    status: watch::Receiver<AgentStatus>,
}

/// How an agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentStatus {
    /// The id that its host gave it.
    pub agent: Option<AgentId>,
    /// Whether its host has it registered now.
    pub registered: bool,
    /// Launches that have not ended.
    pub active: usize,
    /// What happened so far.
    pub counters: Counters,
}

/// Why an agent could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its directory.
    #[error("agent directory {path}")]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another agent has its directory.
    #[error("another agent runs in {0}; stop it or choose another directory")]
    Taken(PathBuf),
    /// Its port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// What the machine has.
    #[error("cannot find out what this machine has; declare it with --resources")]
    Detect(#[source] io::Error),
    /// Its durable memory.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The host does not want it.
    #[error("the host refused this agent: {0}")]
    Refused(String),
    /// Its own port failed.
    #[error(transparent)]
    Serve(#[from] proffer_rpc::serve::ServeError),
    /// It has no thread of its own.
    #[error("the agent's own thread cannot be started")]
    Thread(#[source] io::Error),
    /// A bug.
    #[error("the agent's own thread ended without a word: a bug in the agent")]
    Panicked,
}

impl Agent {
    /// Takes the directory, reads what is known, binds the port.
    ///
    /// # Errors
    /// If any of that fails; nothing runs then.
    pub async fn open(config: AgentConfig) -> Result<Self, AgentError> {
        let at = config.data.clone();
        let failed = |source| AgentError::Directory {
            path: at.clone(),
            source,
        };
        let data = open_directory(&config.data).map_err(failed)?;
        let lock = lock(&data).map_err(failed)?;
        let Some(lock) = lock else {
            return Err(AgentError::Taken(at));
        };
        let bound = config.listen.bind().await?;
        let (journal, records) = Journal::open(data.try_clone().map_err(failed)?)?;
        let mut recovered = Recovered::default();
        for record in records {
            recovered.apply(record);
        }
        let identity = identity(&recovered).map_err(failed)?;
        let total = match &config.resources {
            Some(declared) => declared.clone(),
            None => detect::detect(&data).map_err(AgentError::Detect)?,
        };
        let settings = settings(&config, total, &bound).map_err(AgentError::Detect)?;
        let sandboxes = Sandboxes::open(&data, config.task_users).map_err(failed)?;
        let sandboxes = Arc::new(sandboxes);
        let files = Files::new(Arc::clone(&sandboxes));
        let components = Components::default();
        let preparer = Preparer::new(PreparerParts {
            sandboxes: Arc::clone(&sandboxes),
            files: files.clone(),
            data: DataClient::new(config.token.clone(), config.tls.clone()),
            own_address: settings.data_address.clone(),
            allowed: config.files.clone(),
            bytes_max: config.input_bytes_max,
        });
        let (news, from_runners) = mpsc::channel(NEWS_QUEUE);
        let runners = Runners::new(
            RunnerSetup {
                program: config.runner.clone(),
                users: config.task_users,
                idle: config.runner_idle,
                sandboxes: Arc::clone(&sandboxes),
                components: components.clone(),
            },
            news,
        );
        let mut outbox = Outbox::default();
        let logic = Logic::recover(now(), settings, identity, recovered, &mut outbox);
        let (status_sender, status) = watch::channel(AgentStatus::default());
        let server = Server::new(config.token.clone(), config.serve_tls.clone());
        let shell = Shell::new(
            ShellParts {
                config,
                logic,
                journal: SharedJournal::new(journal),
                files: files.clone(),
                sandboxes,
                components,
                preparer,
                runners,
                from_runners,
                runtime: Handle::current(),
                status: status_sender,
                _lock: lock,
            },
            outbox,
        );
        Ok(Self {
            shell,
            server: server.data(files),
            bound,
            status,
        })
    }

    /// Opens an agent and runs it until `shutdown`.
    ///
    /// # Errors
    /// If it cannot start, its disk fails, or the host refuses it.
    pub async fn run(
        config: AgentConfig,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), AgentError> {
        Self::open(config).await?.serve(shutdown).await
    }

    /// How it is, now and later.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.clone()
    }

    /// Runs until `shutdown`. Tasks go on without it: an agent that is opened on the same directory
    /// later takes them up again.
    ///
    /// # Errors
    /// If its disk or port fails, or the host refuses it.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let Self {
            shell,
            server,
            bound,
            ..
        } = self;
        let (stop, mut stopped) = watch::channel(false);
        let serving = server.serve(bound, async move {
            // An error means that the shell is gone, which is a stop too.
            let _stopped = stopped.wait_for(|stop| *stop).await.is_ok();
        });
        let (end, ending) = oneshot::channel();
        let running = on_own_thread(shell, ending);
        let told = async {
            shutdown.await;
            // An error means that it has ended by itself.
            let _told = end.send(()).is_ok();
            std::future::pending().await
        };
        tokio::pin!(serving);
        tokio::select! {
            ended = running => {
                stop.send_replace(true);
                let served = serving.await;
                ended?;
                Ok(served?)
            }
            // Without its port others could not read its tasks' outputs. Tasks go on.
            failed = &mut serving => Ok(failed?),
            never = told => never,
        }
    }
}

/// Runs the shell on a thread with a runtime of its own: what its parts tell each other would cost more than
/// they do if each time another thread were woken. Its end is told, or nobody waits for it any more.
async fn on_own_thread(shell: Shell, end: oneshot::Receiver<()>) -> Result<(), AgentError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AgentError::Thread)?;
    let (tell, told) = oneshot::channel();
    let run = move || {
        let ended = runtime.block_on(shell.run(async {
            let _told = end.await.is_ok();
        }));
        // What is left of it waits for disks, and for nobody.
        runtime.shutdown_background();
        // An error means that nobody waits for it any more.
        let _told = tell.send(ended).is_ok();
    };
    std::thread::Builder::new()
        .name("proffer-agent".to_owned())
        .spawn(run)
        .map_err(AgentError::Thread)?;
    told.await.unwrap_or(Err(AgentError::Panicked))
}

/// Milliseconds since 1970.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    Timestamp(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn open_directory(path: &std::path::Path) -> io::Result<Dir> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)?;
    Dir::open_ambient_dir(path, ambient_authority())
}

/// Whoever holds the file holds the directory; the system lets it go with the process.
fn lock(data: &Dir) -> io::Result<Option<std::fs::File>> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    let file = data.open_with("lock", &options)?.into_std();
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn identity(recovered: &Recovered) -> io::Result<Identity> {
    let boot = detect::boot_id()?;
    if let Some(known) = recovered.identity() {
        return Ok(Identity {
            boot,
            ..known.clone()
        });
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Identity {
        agent: None,
        key: hex::encode(key),
        boot,
    })
}

fn settings(config: &AgentConfig, total: Bundle, bound: &Bound) -> io::Result<Settings> {
    let hostname = match &config.hostname {
        Some(hostname) => hostname.clone(),
        None => detect::hostname()?,
    };
    let address = bound.address();
    let reached = match &config.advertise {
        Some(name) => format!("{name}:{}", address.port()),
        None => address.to_string(),
    };
    let scheme = match config.serve_tls {
        proffer_rpc::Tls::Server { .. } => "https",
        _ => "http",
    };
    Ok(Settings {
        info: Arc::new(AgentInfo {
            hostname: hostname.into(),
            region: config.region.as_str().into(),
            zone: config.zone.as_str().into(),
            attributes: config.attributes.clone(),
        }),
        total,
        data_address: format!("{scheme}://{reached}"),
        timings: config.timings,
        cleaning: config.cleaning,
    })
}
