//! Finding a runner, or starting one, and talking to it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::Duration;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use proffer_model::{FrameworkId, LaunchNumber};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::super::RunnerSetup;
use crate::runner::protocol::{FromRunner, Status, ToRunner, VERSION, read_frame, write_frame};
use crate::runner::{CONTROL, RunnerOptions};

/// A new runner is ready in milliseconds; a machine under load may take seconds.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// Before the second attempt; it doubles. Five take three seconds: a machine under load needs one.
const START_PAUSE: Duration = Duration::from_millis(200);

/// A runner that does not answer or read for so long has stalled.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Messages of the runner that wait for the agent. The reader waits if it is full.
const MESSAGES_QUEUE: usize = 256;

/// Bytes of commands and news that go over the socket at once: some dozens of each.
const SOCKET_BUFFER: usize = 64 * 1024;

/// The runner's log is begun anew past this when a runner is started.
const LOG_BYTES_MAX: u64 = 1024 * 1024;

/// What a runner knows of its launches when it is attached to.
pub(super) type Known = Vec<(u64, Status)>;

/// A runner that listens.
#[derive(Debug)]
pub(super) struct Attached {
    write: BufWriter<OwnedWriteHalf>,
    /// Something was written that has not gone out.
    is_pending: bool,
    messages: mpsc::Receiver<FromRunner>,
    reader: AbortHandle,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Attaches to the framework's runner, and starts one if there is none. What goes wrong here is no task's
/// fault.
pub(super) async fn start(
    setup: &RunnerSetup,
    framework: FrameworkId,
    open: &BTreeSet<LaunchNumber>,
    attempts: u32,
) -> io::Result<(Attached, Known)> {
    let mut pause = START_PAUSE;
    let mut attempt = 1;
    loop {
        match Attached::start(setup, framework, open).await {
            Err(error) if attempt < attempts => {
                tracing::warn!(%framework, %error, attempt, "a runner was not started");
                tokio::time::sleep(pause).await;
                attempt += 1;
                pause *= 2;
            }
            done => return done,
        }
    }
}

impl Attached {
    /// Attaches to a runner that runs already.
    pub(super) async fn to_running(
        setup: &RunnerSetup,
        framework: FrameworkId,
        open: &BTreeSet<LaunchNumber>,
    ) -> Option<(Self, Known)> {
        let dir = setup.sandboxes.runner(framework).ok()?;
        match connect(setup, framework, open, &dir).await {
            Ok(attached) => Some(attached),
            Err(error) => {
                tracing::debug!(%framework, %error, "no runner is there");
                None
            }
        }
    }

    async fn start(
        setup: &RunnerSetup,
        framework: FrameworkId,
        open: &BTreeSet<LaunchNumber>,
    ) -> io::Result<(Self, Known)> {
        if let Some(attached) = Self::to_running(setup, framework, open).await {
            return Ok(attached);
        }
        let dir = setup.sandboxes.runner(framework)?;
        let mut child = spawn(setup, framework, &dir)?;
        let ready = wait_until_ready(&mut child);
        let ready = tokio::time::timeout(READY_WITHIN, ready).await;
        if !matches!(ready, Ok(Ok(true))) {
            // It may have ended by itself; its log says why.
            let _killed = child.start_kill().is_ok();
            let text = "it did not become ready; see the file 'log' in its directory";
            return Err(io::Error::other(text));
        }
        // Takes its exit status when it ends, so that no zombie stays. The task ends with the runner,
        // or with the agent's runtime, which leaves the runner alone.
        tokio::spawn(async move { child.wait().await });
        connect(setup, framework, open, &dir).await
    }

    pub(super) async fn send(&mut self, command: &ToRunner) -> io::Result<()> {
        self.is_pending = true;
        let written = write_frame(&mut self.write, command);
        match tokio::time::timeout(ANSWER_WITHIN, written).await {
            Ok(written) => written,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// What was sent goes out.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_pending) {
            return Ok(());
        }
        match tokio::time::timeout(ANSWER_WITHIN, self.write.flush()).await {
            Ok(flushed) => flushed,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// The next message; none when the runner is gone. Cancel-safe.
    pub(super) async fn receive(&mut self) -> Option<FromRunner> {
        self.messages.recv().await
    }
}

/// A socket's path may be 108 bytes long and a data directory longer: so it is reached through the
/// open directory.
async fn connect(
    setup: &RunnerSetup,
    framework: FrameworkId,
    open: &BTreeSet<LaunchNumber>,
    dir: &Dir,
) -> io::Result<(Attached, Known)> {
    let path = format!("/proc/self/fd/{}/{CONTROL}", dir.as_raw_fd());
    let stream = tokio::time::timeout(ANSWER_WITHIN, UnixStream::connect(path)).await;
    let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let own = rustix::process::geteuid().as_raw();
    let user = setup.users.of(framework);
    let wanted = user.map_or(own, |user| user.uid);
    let peer = stream.peer_cred()?.uid();
    if peer != wanted {
        return Err(io::Error::other(format!(
            "the socket is user {peer}'s, not {wanted}'s"
        )));
    }
    let (mut read, mut write) = stream.into_split();
    let hello = ToRunner::Hello {
        version: VERSION,
        open: open.iter().map(|launch| launch.0).collect(),
    };
    write_frame(&mut write, &hello).await?;
    let hello = tokio::time::timeout(ANSWER_WITHIN, read_frame(&mut read)).await;
    let hello: Option<FromRunner> =
        hello.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let known = match hello {
        Some(FromRunner::Hello { version, launches }) if version == VERSION => launches,
        _ => return Err(io::Error::other("it is of another version")),
    };
    let (messages, received) = mpsc::channel(MESSAGES_QUEUE);
    let reader = tokio::spawn(async move {
        let mut read = BufReader::with_capacity(SOCKET_BUFFER, read);
        // An error is the runner's end as well.
        while let Ok(Some(message)) = read_frame(&mut read).await {
            if messages.send(message).await.is_err() {
                return;
            }
        }
    });
    let attached = Attached {
        write: BufWriter::with_capacity(SOCKET_BUFFER, write),
        is_pending: false,
        messages: received,
        reader: reader.abort_handle(),
    };
    Ok((attached, known))
}

fn spawn(setup: &RunnerSetup, framework: FrameworkId, dir: &Dir) -> io::Result<Child> {
    let options = RunnerOptions {
        user: setup.users.of(framework),
        idle: setup.idle,
    };
    Command::new(&setup.program.program)
        .args(&setup.program.args)
        .args(options.to_args())
        .env_clear()
        .stdin(Stdio::from(dir.try_clone()?.into_std_file()))
        .stdout(Stdio::piped())
        .stderr(log(dir)?)
        .kill_on_drop(false)
        .spawn()
}

fn log(dir: &Dir) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let log = dir.open_with("log", &options)?;
    if log.metadata()?.len() > LOG_BYTES_MAX {
        log.set_len(0)?;
    }
    Ok(log.into_std())
}

async fn wait_until_ready(child: &mut Child) -> io::Result<bool> {
    let Some(out) = child.stdout.take() else {
        return Ok(false);
    };
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).await?;
    Ok(line == "ready\n")
}
