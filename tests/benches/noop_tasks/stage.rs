//! The cluster that is measured: a host here, agents as processes, and a framework on request.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use proffer_agent::{Agent, AgentConfig};
use proffer_daemon::Host;
use proffer_daemon::config::{HOST_SETTINGS, HostConfig};
use proffer_rpc::operator::{
    AddFramework, FrameworkRequest, InspectComponent, OperatorClient, StatusQuery,
};
use proffer_rpc::{ListenAddress, PeerAddress, Tls, Token};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::machine::Processes;

/// First argument of this program as a runner.
pub(crate) const RUNNER: &str = "runner";
/// First argument of this program as an agent.
pub(crate) const AGENT: &str = "agent";

/// Longer than anything takes in a build without optimization.
const WITHIN: Duration = Duration::from_secs(600);
/// Between two looks at the counts: short beside what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Tasks that fit on one agent at once. Enough that nobody waits for anybody's disk.
const TASKS_PER_AGENT: u32 = 400;

/// What runs the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Wasm,
    Process,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Process => "process",
        }
    }
}

pub(crate) struct Stage {
    kind: Kind,
    framework: PathBuf,
    task: PathBuf,
    runtime: Runtime,
    /// None while it ends.
    host: Option<Host>,
    client: OperatorClient,
    agents: Vec<Child>,
    /// Dropped last.
    _dir: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn start(
        kind: Kind,
        framework: &Path,
        task: &Path,
        agents: usize,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let runtime = Runtime::new()?;
        let data = dir.path().join("host");
        std::fs::create_dir(&data)?;
        let host = runtime.block_on(start_host(data.clone()))?;
        let address = host.address().to_string();
        let token = Token::read(&data.join("token"))?;
        let peer: PeerAddress = address.parse()?;
        let client = runtime.block_on(OperatorClient::connect(&peer, &token, &Tls::Off))?;
        let mut children = Vec::new();
        for number in 0..agents {
            let child = Command::new(std::env::current_exe()?)
                .arg(AGENT)
                .arg(dir.path().join(format!("agent{number}")))
                .arg(&address)
                .arg(data.join("token"))
                .arg(task.parent().context("the component's directory")?)
                .stdin(Stdio::null())
                .spawn()?;
            children.push(child);
        }
        let stage = Self {
            kind,
            framework: framework.to_owned(),
            task: task.to_owned(),
            runtime,
            host: Some(host),
            client,
            agents: children,
            _dir: dir,
        };
        stage.wait_for("agents to register", || {
            let status = stage
                .runtime
                .block_on(stage.client.status(StatusQuery {}))?;
            Ok(status.agents_active as usize == agents)
        })?;
        Ok(stage)
    }

    pub(crate) fn processes(&self) -> Processes {
        Processes {
            agents: self.agents.iter().map(Child::id).collect(),
        }
    }

    /// Runs a framework of this name until so many of its tasks have finished.
    pub(crate) fn run(&self, name: &str, tasks: u64) -> anyhow::Result<()> {
        let (component, argv): (String, &[&str]) = match self.kind {
            Kind::Wasm => (format!("file:{}", self.task.display()), &["nothing"]),
            Kind::Process => (String::new(), &["/bin/true"]),
        };
        // A no-op in Rust has a little more than a mebibyte of memory.
        let shape = "cpus:0.01;mem:4";
        let config = json!({
            "tasks": tasks, "shape": shape, "component": component, "argv": argv,
        });
        self.runtime
            .block_on(self.add_framework(name, config.to_string()))?;
        self.wait_for("tasks to end", || {
            let Some(counts) = self.counts(name)? else {
                return Ok(false);
            };
            if counts["otherwise"] != 0 {
                bail!("tasks did not finish: {counts}");
            }
            Ok(counts["finished"].as_u64() >= Some(tasks))
        })
    }

    async fn add_framework(&self, name: &str, config: String) -> anyhow::Result<()> {
        let component: bytes::Bytes = std::fs::read(&self.framework)?.into();
        let inspect = InspectComponent {
            component: component.clone(),
        };
        let plugin = self.client.inspect(inspect).await?;
        self.client
            .add_framework(AddFramework {
                name: name.to_owned(),
                component,
                roles: Vec::new(),
                config,
                approved: plugin.imports,
            })
            .await?;
        Ok(())
    }

    /// The framework's own counts; none while it does not answer yet.
    fn counts(&self, name: &str) -> anyhow::Result<Option<Value>> {
        let request = FrameworkRequest {
            framework: name.to_owned(),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: bytes::Bytes::new(),
            principal: String::new(),
        };
        let response = self.runtime.block_on(self.client.request(request))?;
        match response.status {
            200 => Ok(Some(serde_json::from_slice(&response.body)?)),
            status => bail!(
                "the framework answers {status}: {}",
                String::from_utf8_lossy(&response.body)
            ),
        }
    }

    fn wait_for(
        &self,
        what: &str,
        mut condition: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !condition()? {
            if begun.elapsed() > WITHIN {
                bail!("waited in vain for {what}");
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            // It may have ended by itself; its runner ends when it has idled.
            let _gone = agent.kill().is_err();
            let _reaped = agent.wait().is_err();
        }
        if let Some(host) = self.host.take()
            && let Err(error) = self.runtime.block_on(host.shutdown())
        {
            eprintln!("the host did not end well: {error}");
        }
    }
}

async fn start_host(data: PathBuf) -> anyhow::Result<Host> {
    let text = |key: &'static str| {
        let setting = HOST_SETTINGS.iter().find(|setting| setting.key == key);
        setting.map_or(String::new(), |setting| setting.default.to_owned())
    };
    let config = HostConfig::check(data, text);
    let mut config = config.map_err(|wrong| anyhow::anyhow!("{wrong:?}"))?;
    config.listen = ListenAddress::loopback();
    config.http = None;
    Ok(Host::start(config).await?)
}

/// An agent: `DATA HOST:PORT TOKEN-FILE FILES-DIR`.
pub(crate) fn agent(words: Vec<String>) -> anyhow::Result<()> {
    let [data, host, token, files] = words.as_slice() else {
        bail!("usage: agent DATA HOST:PORT TOKEN-FILE FILES-DIR");
    };
    let token = Token::read(Path::new(token))?;
    let mut config = AgentConfig::new(PathBuf::from(data), host.parse()?, token)?;
    let (cpus, mem) = (f64::from(TASKS_PER_AGENT) / 100.0, TASKS_PER_AGENT * 4);
    config.resources = Some(format!("cpus:{cpus};mem:{mem}").parse()?);
    config.files = vec![PathBuf::from(files)];
    config.runner.args = vec![RUNNER.into()];
    config.runner_idle = Duration::from_secs(1);
    let runtime = Runtime::new()?;
    Ok(runtime.block_on(Agent::run(config, std::future::pending()))?)
}
