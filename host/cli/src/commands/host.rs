//! `host` and `up`: a host in this process, with agents or without, until it is told to end.

use std::fs::File;

use futures_util::future::select_all;
use proffer_agent::detect;
use proffer_rpc::{PeerAddress, Token};

use super::shipped;
use crate::cluster::{RunningAgent, RunningHost, interrupted, private_dir};
use crate::connect::token_file;
use crate::log;
use crate::settings::{Settings, agent};

/// Runs a host until Ctrl-C.
pub(crate) async fn host(settings: &Settings) -> anyhow::Result<()> {
    run(settings, 0).await
}

/// Runs a host and agents until Ctrl-C.
pub(crate) async fn up(settings: &Settings, agents: u32) -> anyhow::Result<()> {
    run(settings, agents).await
}

async fn run(settings: &Settings, agents: u32) -> anyhow::Result<()> {
    let data = settings.data_dir()?;
    let config = shipped::with_component(settings, settings.host(data.clone())?)?;
    log::start();
    raise_open_files();
    let mut host = RunningHost::start(config).await?;
    outln!("host       {}", host.address());
    if let Some(address) = host.http_address() {
        outln!("http       http://{address}/  (/metrics, /healthz)");
    }
    outln!("token      {}", token_file(&data).display());
    let mut running = Vec::new();
    let started = start_agents(settings, &host, agents, &mut running).await;
    if started.is_ok() {
        outln!("agents     {agents}");
        outln!(
            "\nCtrl-C ends it; tasks go on. `proffer status --data {}`",
            data.display()
        );
    }
    let ended = match started {
        Ok(()) => wait(&mut host, &mut running).await,
        Err(error) => Err(error),
    };
    // The first failure is the one to tell; the others are its consequences.
    let mut first = ended;
    for agent in running {
        let stopped = agent.stop().await;
        if first.is_ok() {
            first = stopped;
        }
    }
    let stopped = host.stop().await;
    first.and(stopped)
}

/// Each agent is a connection, and each connection an open file: the soft limit that a shell gives is for
/// programs that open a few.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        let error = error.to_string();
        tracing::warn!(error, current, "the limit of open files stays as it was");
    }
}

async fn start_agents(
    settings: &Settings,
    host: &RunningHost,
    agents: u32,
    running: &mut Vec<RunningAgent>,
) -> anyhow::Result<()> {
    let data = settings.data_dir()?;
    for number in 1..=agents {
        let dir = data.join("agents").join(number.to_string());
        private_dir(&dir)?;
        let token = Token::read(&token_file(&data))?;
        let mut config = agent::check(settings, dir, token)?;
        if config.resources.is_none() {
            // They are one machine: each has its part, unless it was said what each has.
            let machine = File::open(&data).and_then(detect::detect)?;
            config.resources = Some(detect::share(&machine, number - 1, agents));
        }
        config.host = host.address().to_string().parse::<PeerAddress>()?;
        running.push(RunningAgent::start(format!("agent {number}"), config));
    }
    Ok(())
}

/// Until a signal, or until a part ends by itself.
async fn wait(host: &mut RunningHost, agents: &mut [RunningAgent]) -> anyhow::Result<()> {
    let no_agents = agents.is_empty();
    let agents = async {
        if no_agents {
            return std::future::pending().await;
        }
        let (ended, _, _) = select_all(agents.iter_mut().map(|a| Box::pin(a.ended()))).await;
        ended
    };
    tokio::select! {
        signal = interrupted() => signal,
        ended = host.ended() => ended,
        ended = agents => ended,
    }
}
