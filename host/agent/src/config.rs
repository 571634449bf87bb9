//! What an agent is told when it is started.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use proffer_model::{Attribute, Bundle};
use proffer_rpc::{ListenAddress, PeerAddress, Tls, Token};

use crate::logic::{Cleaning, Timings};
use crate::users::TaskUsers;

/// An agent's configuration, checked by its types.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Its own directory: its identity, its journal, its tasks' sandboxes.
    pub data: PathBuf,
    /// Its host, or the first of several that may lead.
    pub host: PeerAddress,
    /// The others.
    pub other_hosts: Vec<PeerAddress>,
    /// The cluster's token.
    pub token: Token,
    /// For connections that it makes: [`Tls::Off`] or [`Tls::Client`].
    pub tls: Tls,
    /// For its own port: [`Tls::Off`] or [`Tls::Server`].
    pub serve_tls: Tls,
    /// Where it serves sandboxes.
    pub listen: ListenAddress,
    /// Under which name or address others reach that port; none: the address that it listens on.
    pub advertise: Option<String>,
    /// Its machine's name; none: what the system says.
    pub hostname: Option<String>,
    /// Its region, or empty.
    pub region: String,
    /// Its zone, or empty.
    pub zone: String,
    /// Properties for constraints.
    pub attributes: Vec<Attribute>,
    /// What it has; none: what is found on the machine, less a reserve.
    pub resources: Option<Bundle>,
    /// Directories whose files tasks may have as inputs. None by default.
    pub files: Vec<PathBuf>,
    /// Whom tasks run as.
    pub task_users: TaskUsers,
    /// How a runner is started.
    pub runner: RunnerProgram,
    /// How long a runner stays without an agent and without tasks.
    pub runner_idle: Duration,
    /// Largest input.
    pub input_bytes_max: u64,
    /// Old sandboxes are removed when less than this is free; none: than a gibibyte, or a tenth of a
    /// smaller disk.
    pub disk_free_min_bytes: Option<u64>,
    /// How long it waits for what.
    pub timings: Timings,
    /// What it keeps of ended launches.
    pub cleaning: Cleaning,
}

/// A program that becomes a runner: it must pass what follows `args` to [`crate::runner::main`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerProgram {
    /// The program.
    pub program: PathBuf,
    /// Arguments that make it a runner, `runner` for instance.
    pub args: Vec<OsString>,
}

/// A gibibyte is more than a sensible input; past this a URL that never ends fills the disk.
const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// Long enough for an agent's restart or upgrade, after which the same runners go on.
const RUNNER_IDLE: Duration = Duration::from_secs(60);

impl AgentConfig {
    /// An agent on this machine, on a loopback port, with everything as found or by default.
    ///
    /// # Errors
    /// If the program's own path or the task user `nobody` cannot be found.
    pub fn new(data: PathBuf, host: PeerAddress, token: Token) -> io::Result<Self> {
        Ok(Self {
            data,
            host,
            other_hosts: Vec::new(),
            token,
            tls: Tls::Off,
            serve_tls: Tls::Off,
            listen: ListenAddress::loopback(),
            advertise: None,
            hostname: None,
            region: String::new(),
            zone: String::new(),
            attributes: Vec::new(),
            resources: None,
            files: Vec::new(),
            task_users: TaskUsers::default_here()?,
            runner: RunnerProgram {
                program: std::env::current_exe()?,
                args: vec!["runner".into()],
            },
            runner_idle: RUNNER_IDLE,
            input_bytes_max: INPUT_BYTES_MAX,
            disk_free_min_bytes: None,
            timings: Timings::default(),
            cleaning: Cleaning::default(),
        })
    }
}
