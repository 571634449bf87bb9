//! `demo`: a whole cluster in this process runs a word count on real files, and says what happened.
//!
//! Nothing is pretended: the host, three agents and the tasks' runners are the same code as in
//! production and talk over the same connections; the policy and the framework are components that
//! were built from their sources (or found built); the job goes through the framework's own request
//! interface, and the result is fetched through the host.
//!
//! The state of each run is new. What is kept in the data directory between runs is what makes the
//! second one start fast: the token, the compiled code, and the result.

mod chart;
mod guests;
mod inputs;
mod job;
mod report;
mod result;

pub(crate) use guests::project;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use proffer_daemon::{HostConfig, PolicyChoice};
use proffer_rpc::operator::{
    AddFramework, AgentQuery, AgentState, InspectComponent, OperatorClient,
};
use proffer_rpc::{ListenAddress, PeerAddress, Tls, Token};

use crate::args::Demo;
use crate::cluster::{RunningAgent, RunningHost, interrupted, private_dir};
use crate::commands::read_component;
use crate::connect::token_file;
use crate::failure::Failure;
use crate::log;
use crate::progress::Progress;
use crate::settings::{Settings, agent};

use self::guests::Guests;
use self::inputs::Inputs;
use self::job::{Job, Submission};

/// Agents on this machine register in a fraction of a second.
const AGENTS_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks at whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Nobody comes back to a demo's runners: they end soon after it.
const RUNNER_IDLE: Duration = Duration::from_secs(2);

/// The framework's name in the demo's cluster.
const FRAMEWORK: &str = "mapreduce";

/// What each agent says that it has: together more than a small machine's processors, so that a task
/// starts while another waits for its files, and enough memory for a reduce task beside maps.
const CPUS_PER_AGENT_MIN: usize = 2;
const MEM_PER_AGENT_MIB: u32 = 2_048;

/// Runs the demonstration.
pub(crate) async fn run(demo: &Demo, settings: &Settings) -> anyhow::Result<()> {
    let data = settings.data_dir()?.join("demo");
    // Everything that can be wrong with what was asked is found before anything is built or started.
    let inputs = match &demo.input {
        Some(dir) => Inputs::of_directory(dir)?,
        None => Inputs::of_project(&guests::project()?)?,
    };
    let out = demo.out.clone().unwrap_or_else(|| data.join("counts.tsv"));
    result::check_out(&out, demo.out.is_some())?;
    private_dir(&data)?;
    let _lock = lock(&data)?;
    log::start_quiet();
    let mut progress = Progress::new();
    progress.line(&inputs.describe());
    let (guests, mut progress) = guests::build(progress).await?;
    let work = async {
        forget_last_run(&data)?;
        let mut cluster = Cluster::start(demo, settings, &data, &guests, &inputs).await?;
        let ran = cluster
            .run_job(demo, &inputs, &guests, &out, &mut progress)
            .await;
        progress.done();
        let stopped = cluster.stop().await;
        ran.and_then(|report| stopped.map(|()| report))
    };
    let report = tokio::select! {
        done = work => done?,
        signal = interrupted() => {
            signal?;
            return Err(Failure::Interrupted.into());
        }
    };
    std::fs::write(data.join("report.txt"), &report.text).context("cannot write the report")?;
    out!("{}", report.shown);
    Ok(())
}

/// Two demos on one directory would take each other's state away.
fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Failure::Conflict(format!(
            "another demo runs in {}; wait for it, or give another --data directory",
            data.display()
        ))
        .into()),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Takes the state of the last run away; compiled code stays.
fn forget_last_run(data: &Path) -> anyhow::Result<()> {
    for name in ["store", "agents", "recording"] {
        let path = data.join(name);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// One host and its agents.
struct Cluster {
    host: RunningHost,
    agents: Vec<RunningAgent>,
    client: OperatorClient,
    started: Instant,
}

impl Cluster {
    async fn start(
        demo: &Demo,
        settings: &Settings,
        data: &Path,
        guests: &Guests,
        inputs: &Inputs,
    ) -> anyhow::Result<Self> {
        let started = Instant::now();
        let host = RunningHost::start(host_config(settings, data, guests)?).await?;
        let token = Token::read(&token_file(data))?;
        let address: PeerAddress = host.address().to_string().parse()?;
        let client = OperatorClient::connect(&address, &token, &Tls::Off).await?;
        let mut agents = Vec::new();
        for number in 1..=demo.agents {
            let name = format!("demo-{number}");
            let dir = data.join("agents").join(&name);
            private_dir(&dir)?;
            let mut config = agent::check(settings, dir, token.clone())?;
            config.host = address.clone();
            config.listen = ListenAddress::loopback();
            config.hostname = Some(name.clone());
            config.resources = Some(resources(demo.agents).parse()?);
            config.files = vec![inputs.root.clone(), guests.dir()?];
            config.runner_idle = RUNNER_IDLE;
            agents.push(RunningAgent::start(name, config));
        }
        let cluster = Self {
            host,
            agents,
            client,
            started,
        };
        cluster.wait_for_agents(demo.agents).await?;
        Ok(cluster)
    }

    async fn wait_for_agents(&self, wanted: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + AGENTS_WITHIN;
        loop {
            let agents = self.client.agents(AgentQuery::default()).await?;
            let active = agents
                .rows
                .iter()
                .filter(|agent| agent.state == AgentState::Active);
            let active = active.count();
            if active >= wanted as usize {
                return Ok(());
            }
            if Instant::now() > deadline {
                anyhow::bail!(
                    "only {active} of {wanted} agents have registered; see PROFFER_LOG=info"
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn run_job(
        &mut self,
        demo: &Demo,
        inputs: &Inputs,
        guests: &Guests,
        out: &Path,
        progress: &mut Progress,
    ) -> anyhow::Result<report::Report> {
        self.add_framework(guests).await?;
        let ready = self.started.elapsed();
        progress.line(&format!(
            "one host, {} agents, policy and framework loaded in {:.1} s",
            demo.agents,
            ready.as_secs_f64()
        ));
        let submission = Submission {
            name: "wordcount",
            inputs,
            split: demo.split,
            reducers: demo.reducers,
            component: &guests.wordcount,
        };
        let job = Job::submit(&self.client, FRAMEWORK, &submission).await?;
        let ended = tokio::select! {
            ended = job.follow(progress) => ended?,
            failed = self.host.ended() => {
                failed?;
                anyhow::bail!("the host ended before the job");
            }
        };
        let counts = result::fetch(&self.client, FRAMEWORK, &ended.parts).await?;
        counts.write(out)?;
        report::make(&self.client, FRAMEWORK, &ended, &counts, out).await
    }

    async fn add_framework(&self, guests: &Guests) -> anyhow::Result<()> {
        let component = read_component(&guests.mapreduce)?;
        let inspect = InspectComponent {
            component: component.clone(),
        };
        // Who runs the demo has the source: what the framework asks for is approved, and shown in
        // the report's place by `framework run` for any other.
        let plugin = self.client.inspect(inspect).await?;
        self.client
            .add_framework(AddFramework {
                name: FRAMEWORK.to_owned(),
                component,
                roles: Vec::new(),
                config: "{}".to_owned(),
                approved: plugin.imports,
            })
            .await
            .context("cannot add the framework")?;
        Ok(())
    }

    async fn stop(self) -> anyhow::Result<()> {
        for agent in self.agents {
            agent.stop().await?;
        }
        self.host.stop().await
    }
}

/// The settings' host, on loopback ports of its own and with the demo's policy.
fn host_config(settings: &Settings, data: &Path, guests: &Guests) -> anyhow::Result<HostConfig> {
    let mut config = settings.host(PathBuf::from(data))?;
    config.listen = ListenAddress::loopback();
    config.http = None;
    config.tls = None;
    config.policy = PolicyChoice::Component {
        file: guests.drf.clone(),
        config: settings.text("host.policy-config"),
    };
    Ok(config)
}

fn resources(agents: u32) -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let cpus = processors.div_ceil(agents as usize).max(CPUS_PER_AGENT_MIN);
    format!("cpus:{cpus};mem:{MEM_PER_AGENT_MIB};disk:10240")
}
