//! Process tasks: a process group each, ended as a whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::protocol::{Ending, How};

/// Opens a log of a task's in its own directory. It is new: a task cannot have put anything there.
fn log(work: &str, name: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o644);
    options.open(Path::new(work).join(name))
}

/// Starts a process with a group of its own.
pub(super) fn spawn(argv: &[String], work: &str, env: &[(String, String)]) -> io::Result<Child> {
    let (program, args) = argv
        .split_first()
        .ok_or_else(|| io::Error::other("no program"))?;
    Command::new(program)
        .args(args)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .current_dir(work)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log(work, "stdout")?)
        .stderr(log(work, "stderr")?)
        .spawn()
        .map_err(|error| io::Error::other(format!("{program}: {error}")))
}

/// Waits for the end; each stop sends TERM once and moves KILL to an earlier time. Before a signal is sent
/// it is told: afterwards the process's children are nobody's.
pub(super) async fn watch(
    mut child: Child,
    pid: Option<Pid>,
    mut stops: mpsc::Receiver<Duration>,
    about_to_signal: impl Fn(),
) -> Ending {
    let mut kill_at: Option<Instant> = None;
    let status = loop {
        let killing = async {
            match kill_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = child.wait() => break status,
            Some(grace) = stops.recv() => {
                let at = Instant::now() + grace;
                if kill_at.is_none() {
                    about_to_signal();
                    signal(pid, Signal::TERM);
                }
                kill_at = Some(kill_at.map_or(at, |earlier| earlier.min(at)));
            }
            () = killing => {
                about_to_signal();
                signal(pid, Signal::KILL);
                // KILL cannot be refused; only the wait is left.
                break child.wait().await;
            }
        }
    };
    // What the task left behind in its group ends with it.
    signal(pid, Signal::KILL);
    let how = match status {
        Ok(status) => how_of(status),
        Err(error) => How::Broke(format!("waiting for it failed: {error}")),
    };
    Ending {
        how,
        stopped: kill_at.is_some(),
        has_result: false,
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    let Some(group) = group else { return };
    if let Err(error) = kill_process_group(group, signal)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(%error, "a process group was not signalled");
    }
}

fn how_of(status: ExitStatus) -> How {
    match (status.code(), status.signal()) {
        (Some(code), _) => How::Exited(code),
        (None, Some(signal)) => How::Signalled(signal),
        (None, None) => How::Broke("it ended without a status".to_owned()),
    }
}
