//! A real cluster on this machine: one host and agents as processes of the built command, a MapReduce
//! job on real files, and the ways to pull its plugs.

mod evidence;
mod job;
mod process;
mod proxy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proffer_rpc::operator::{Agent, AgentQuery, AgentState, OperatorClient, StatusQuery};
use proffer_rpc::{PeerAddress, Tls, Token};
use tokio::runtime::Runtime;

pub use evidence::Evidence;
pub use job::{JobSize, as_tsv, write_inputs};
pub use process::Process;
pub use proxy::Proxy;

use crate::guests;

/// Whatever is waited for comes within this, on a busy machine too.
const WITHIN: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The guests that a cluster runs.
#[derive(Clone, Debug)]
pub struct Guests {
    /// The policy.
    pub drf: PathBuf,
    /// The framework.
    pub mapreduce: PathBuf,
    /// Its map and reduce function.
    pub wordcount: PathBuf,
}

impl Guests {
    /// All of them; none where nothing compiles to WebAssembly, which is said.
    pub fn build() -> Option<Self> {
        Some(Self {
            drf: guests::component("plugins/policies/drf")?,
            mapreduce: guests::component("plugins/frameworks/mapreduce")?,
            wordcount: guests::component("plugins/tasks/wordcount")?,
        })
    }
}

/// How a cluster is to be.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The built command.
    pub program: PathBuf,
    /// What it runs.
    pub guests: Guests,
    /// How many agents.
    pub agents: usize,
    /// Whether agents reach their host through a [`Proxy`] each.
    pub proxies: bool,
    /// What each agent has.
    pub resources: String,
    /// Environment of the host and the agents.
    pub env: Vec<(String, String)>,
}

impl Setup {
    /// Three agents with two processors each.
    pub fn new(program: &str, guests: Guests) -> Self {
        Self {
            program: PathBuf::from(program),
            guests,
            agents: 3,
            proxies: false,
            resources: "cpus:2;mem:2048;disk:4096".to_owned(),
            env: Vec::new(),
        }
    }
}

/// The cluster. Its processes die with it.
pub struct Cluster {
    setup: Setup,
    runtime: Runtime,
    host: Process,
    agents: Vec<Process>,
    proxies: Vec<Proxy>,
    address: String,
    /// What the job must find.
    expected: Vec<u8>,
    /// Dropped last.
    dir: tempfile::TempDir,
}

impl Cluster {
    /// A cluster whose agents have all registered, with inputs for a job.
    ///
    /// # Panics
    /// If it does not come about.
    pub fn start(setup: Setup) -> Self {
        Self::start_in(setup, tempfile::tempdir().expect("a directory"), |_| {})
    }

    /// The same in a directory; `prepare` is given it before anything is there.
    ///
    /// # Panics
    /// If it does not come about.
    pub fn start_in(setup: Setup, dir: tempfile::TempDir, prepare: impl FnOnce(&Path)) -> Self {
        prepare(dir.path());
        let expected = as_tsv(&write_inputs(&dir.path().join("input")));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let mut cluster = Self {
            runtime,
            host: Process::none("host"),
            agents: Vec::new(),
            proxies: Vec::new(),
            address: "127.0.0.1:0".to_owned(),
            expected,
            dir,
            setup,
        };
        cluster.start_host();
        for number in 0..cluster.setup.agents {
            if cluster.setup.proxies {
                cluster.proxies.push(Proxy::start(&cluster.address));
            }
            cluster
                .agents
                .push(Process::none(&format!("agent{number}")));
            cluster.start_agent(number);
        }
        cluster.wait_for("all agents are active", |cluster| {
            cluster.active_agents() == cluster.setup.agents
        });
        cluster
    }

    /// The built command on a data directory, with an environment of its own.
    fn command(&self, data: &Path) -> Command {
        let mut command = Command::new(&self.setup.program);
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PROFFER_LOG", "info")
            .arg("--data")
            .arg(data)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Where everything is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The host's data directory.
    pub fn host_data(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    /// What an agent is given as its `--data`.
    pub fn agent_data(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("agent{number}"))
    }

    /// Where an agent's runners live, each in a directory of its own.
    fn runners(&self, number: usize) -> PathBuf {
        self.agent_data(number).join("agent/runners")
    }

    /// Starts the host: the first time on any free port, then on the same.
    pub fn start_host(&mut self) {
        let recorded = self.host_data().join("address");
        if recorded.exists() {
            std::fs::remove_file(&recorded).expect("the file goes");
        }
        let mut command = self.command(&self.host_data());
        command
            .args(["host", "--http", "off", "--listen", &self.address])
            .args(["--set", "host.agent-timeout=2s", "--policy"])
            .arg(&self.setup.guests.drf);
        command.envs(self.setup.env.iter().cloned());
        self.host = Process::start(command, "host", self.dir.path());
        self.wait_for("the host says where it listens", |_| {
            std::fs::read_to_string(&recorded).is_ok_and(|text| text.ends_with('\n'))
        });
        let address = std::fs::read_to_string(&recorded).expect("it was just read");
        self.address = address.trim().to_owned();
    }

    /// Starts an agent on its directory.
    pub fn start_agent(&mut self, number: usize) {
        let components = self.setup.guests.wordcount.parent().expect("a directory");
        let proxy = self.proxies.get(number);
        let join = proxy.map_or_else(|| self.address.clone(), |proxy| proxy.address().to_owned());
        let mut command = self.command(&self.agent_data(number));
        command
            .args(["agent", "--join", &join])
            .args(["--resources", &self.setup.resources])
            .arg("--token-file")
            .arg(self.host_data().join("token"))
            .arg("--files")
            .arg(self.dir.path().join("input"))
            .arg("--files")
            .arg(components)
            .envs(self.setup.env.iter().cloned());
        self.agents[number] = Process::start(command, &format!("agent{number}"), self.dir.path());
    }

    /// The host's process.
    pub fn host(&mut self) -> &mut Process {
        &mut self.host
    }

    /// An agent's process.
    pub fn agent(&mut self, number: usize) -> &mut Process {
        &mut self.agents[number]
    }

    /// An agent's way to the host, if it has one of its own.
    pub fn proxy(&self, number: usize) -> &Proxy {
        &self.proxies[number]
    }

    /// `kill -9` of a runner of this agent; false if none runs now.
    pub fn kill_runner(&self, number: usize) -> bool {
        process::kill_runner_in(&self.runners(number))
    }

    fn client(&self) -> Option<OperatorClient> {
        let token = Token::read(&self.host_data().join("token")).ok()?;
        let address: PeerAddress = self.address.parse().ok()?;
        self.runtime
            .block_on(OperatorClient::connect(&address, &token, &Tls::Off))
            .ok()
    }

    /// How many agents the host counts on; none while it does not answer.
    pub fn active_agents(&self) -> usize {
        let Some(client) = self.client() else {
            return 0;
        };
        let status = self.runtime.block_on(client.status(StatusQuery {}));
        status.map_or(0, |status| status.agents_active as usize)
    }

    /// How the host sees each agent, by the order of its id; empty while it does not answer.
    pub fn agents(&self) -> Vec<Agent> {
        let Some(client) = self.client() else {
            return Vec::new();
        };
        let agents = self.runtime.block_on(client.agents(AgentQuery::default()));
        agents.map_or(Vec::new(), |page| page.rows)
    }

    /// How many agents are in a state.
    pub fn agents_in(&self, state: AgentState) -> usize {
        let agents = self.agents();
        agents.iter().filter(|agent| agent.state == state).count()
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// If it does not in time: with what the processes have logged.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(
                begun.elapsed() < WITHIN,
                "waited in vain until {what}\n{}",
                self.logs()
            );
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// The last lines that each process has logged, for a test that fails.
    pub fn logs(&self) -> String {
        let all = std::iter::once(&self.host).chain(&self.agents);
        let tails: BTreeMap<_, _> = all
            .map(|p| (p.name(), p.log_tail(self.dir.path())))
            .collect();
        let tail = |(name, tail): (&str, String)| format!("--- {name}\n{tail}");
        tails.into_iter().map(tail).collect()
    }
}
