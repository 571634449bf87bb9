//! Starting parts of a cluster in this process: thin, so that host and agent say all that matters.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use proffer_agent::{Agent, AgentConfig};
use proffer_daemon::Host;
use proffer_daemon::config::HostConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::connect::address_file;
use crate::failure::Failure;

/// How long a part may take to end after it was told to.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A host in this process.
pub(crate) struct RunningHost {
    host: Host,
    address_file: std::path::PathBuf,
}

/// An agent in this process.
pub(crate) struct RunningAgent {
    name: String,
    stop: watch::Sender<bool>,
    /// None once its end was seen.
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

impl RunningHost {
    /// Starts a host and writes down where it listens.
    pub(crate) async fn start(config: HostConfig) -> anyhow::Result<Self> {
        let data = config.data.clone();
        private_dir(&data)?;
        let host = Host::start(config).await.context("cannot start the host")?;
        let address_file = address_file(&data);
        let text = format!("{}\n", host.address());
        std::fs::write(&address_file, text)
            .with_context(|| format!("cannot write {}", address_file.display()))?;
        Ok(Self { host, address_file })
    }

    /// Where agents and operators connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.host.address()
    }

    /// Where metrics and pages are.
    pub(crate) fn http_address(&self) -> Option<SocketAddr> {
        self.host.http_address()
    }

    /// Waits until the host ends by itself, which it only does if it has to.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        self.host.ended().await.context("the host has failed")
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        // Commands shall not look for a host that is gone; if the file cannot go, they will be told.
        let _best_effort = std::fs::remove_file(&self.address_file).is_err();
        tokio::time::timeout(STOP_WITHIN, self.host.shutdown())
            .await
            .context("the host did not end in time")?
            .context("the host did not end well")
    }
}

impl RunningAgent {
    /// Starts an agent; it registers by itself.
    pub(crate) fn start(name: String, config: AgentConfig) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut stopped = stopped;
            let shutdown = async move {
                // An error means that the sender is gone, which is a shutdown too.
                let _gone = stopped.wait_for(|stop| *stop).await.is_err();
            };
            Ok(Agent::run(config, shutdown).await?)
        });
        Self {
            name,
            stop,
            task: Some(task),
        }
    }

    /// Waits until it ends by itself, which it only does if it has to. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        let Some(task) = &mut self.task else {
            return Ok(());
        };
        let ended = task.await;
        self.task = None;
        ended
            .context("an agent panicked")?
            .with_context(|| format!("{} has failed", self.name))
    }

    /// Ends it in order; its tasks go on without it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        match tokio::time::timeout(STOP_WITHIN, self.ended()).await {
            Ok(ended) => ended,
            Err(_) => anyhow::bail!("{} did not end in time", self.name),
        }
    }
}

/// Waits for Ctrl-C, TERM, or the terminal's end.
pub(crate) async fn interrupted() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let what = "cannot wait for signals";
    let mut term = signal(SignalKind::terminate()).context(what)?;
    let hang_up = async {
        // Whoever started it with `nohup` wants it to outlive the terminal.
        if is_ignored(HANG_UP) {
            return std::future::pending().await;
        }
        signal(SignalKind::hangup()).context(what)?.recv().await;
        anyhow::Ok(())
    };
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context(what),
        _ = term.recv() => Ok(()),
        hung_up = hang_up => hung_up,
    }
}

/// The number of SIGHUP.
const HANG_UP: u32 = 1;

/// Whether this process was started with a signal ignored.
fn is_ignored(signal: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A directory that belongs to its owner alone, made if need be.
pub(crate) fn private_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| unusable("make", dir))?;
    // Somebody else's, for instance: said here, because whatever is opened in it first would say it worse.
    std::fs::read_dir(dir)
        .map(drop)
        .with_context(|| unusable("read", dir))
}

fn unusable(what: &str, dir: &Path) -> Failure {
    Failure::Usage(format!(
        "cannot {what} the data directory {}; give another with --data DIR",
        dir.display()
    ))
}

/// Becomes a runner.
pub(crate) fn run_runner(args: Vec<OsString>) -> ExitCode {
    match proffer_agent::runner::main(args.into_iter()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("error: {:#}", anyhow::Error::from(error));
            ExitCode::from(crate::failure::FAILED)
        }
    }
}
