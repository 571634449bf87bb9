//! The runner's loop: one agent at a time on the socket, tasks that end, and its own end.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::RunnerError;
use super::act::{CACHE_DIR, CONTROL, LOCK, Tasks};
use super::descendants::Descendants;
use super::protocol::{FromRunner, Status, ToRunner, VERSION, read_frame, write_frame};
use super::status::StatusLog;
use crate::sandbox::LATE_DIR;

/// Ends of tasks that wait to be written down. The tasks' watchers wait if it is full.
const ENDED_QUEUE: usize = 256;

/// Commands of the agent that wait. It waits if it is full.
const COMMANDS_QUEUE: usize = 256;

/// What is taken at once of either, and shares a write of the log.
const BATCH_MAX: usize = 64;

/// Bytes of commands and news that go over the socket at once: some dozens of each.
const SOCKET_BUFFER: usize = 64 * 1024;

/// An agent that does not read for so long has stalled; it can attach again.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// The attached agent.
struct Attached {
    number: u64,
    to_agent: BufWriter<OwnedWriteHalf>,
    /// Something was written that has not gone out.
    is_pending: bool,
}

/// What the socket brings.
enum FromSocket {
    Command(u64, ToRunner),
    Gone(u64),
}

pub(super) async fn serve(idle: Duration) -> Result<(), RunnerError> {
    let started = |what| move |source: io::Error| RunnerError::Start { what, source };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    for dir in [CACHE_DIR, LATE_DIR] {
        builder.create(dir).map_err(started("its directories"))?;
    }
    let _lock = lock()
        .map_err(started("its lock"))?
        .ok_or(RunnerError::Taken)?;
    match fs::remove_file(CONTROL) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(started("the socket of the runner before")(error)),
    }
    let log = StatusLog::open().map_err(started("its status log"))?;
    let listener = UnixListener::bind(CONTROL).map_err(started("its socket"))?;
    say_ready().map_err(started("saying that it is ready"))?;
    let descendants = Descendants::default();
    let sweeping = tokio::spawn(descendants.clone().sweep_always());
    run(listener, log, idle, descendants.clone()).await;
    sweeping.abort();
    descendants.end_all().await;
    Ok(())
}

/// Held as long as the runner lives; the system lets it go with the process.
fn lock() -> io::Result<Option<fs::File>> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(LOCK)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The agent waits for this line before it connects. A few bytes into an empty pipe: nothing waits.
fn say_ready() -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(b"ready\n")?;
    out.flush()
}

async fn run(listener: UnixListener, log: StatusLog, idle: Duration, descendants: Descendants) {
    let (ended, mut endings) = mpsc::channel(ENDED_QUEUE);
    let (from_socket, mut commands) = mpsc::channel(COMMANDS_QUEUE);
    let mut tasks = Tasks::new(ended, log, descendants);
    let mut attached: Option<Attached> = None;
    let mut connections = 0;
    let (mut ended, mut heard) = (Vec::new(), Vec::new());
    loop {
        // What there is to say goes out in one piece as soon as nothing more comes.
        if endings.is_empty() && commands.is_empty() {
            flush(&mut attached).await;
        }
        let is_idle = attached.is_none() && !tasks.any_runs();
        // Every branch is cancel-safe: what is received is in its vector, or still in its queue.
        tokio::select! {
            1.. = endings.recv_many(&mut ended, BATCH_MAX) => {
                let news = tasks.on_ended(std::mem::take(&mut ended));
                tell(&mut attached, news).await;
            }
            1.. = commands.recv_many(&mut heard, BATCH_MAX) => {
                let done = tasks.perform(current(&mut heard, &mut attached));
                tell(&mut attached, done.tell).await;
                if done.is_over {
                    return;
                }
            }
            Ok((stream, _)) = listener.accept() => {
                if is_allowed(&stream) {
                    connections += 1;
                    let (read, to_agent) = stream.into_split();
                    tokio::spawn(listen(connections, read, from_socket.clone()));
                    attached = Some(Attached {
                        number: connections,
                        to_agent: BufWriter::with_capacity(SOCKET_BUFFER, to_agent),
                        is_pending: false,
                    });
                    let hello = FromRunner::Hello { version: VERSION, launches: tasks.list() };
                    say(&mut attached, &hello).await;
                }
            }
            // Begins anew with each event, which is what is meant: so long nothing happened.
            () = tokio::time::sleep(idle), if is_idle => return,
        }
    }
}

/// The commands of the agent that is attached. Those of a connection that was replaced are dropped; one that
/// is gone detaches its agent.
fn current(heard: &mut Vec<FromSocket>, attached: &mut Option<Attached>) -> Vec<ToRunner> {
    let mut commands = Vec::new();
    for event in heard.drain(..) {
        match event {
            FromSocket::Command(from, command) if is_from(attached, from) => commands.push(command),
            FromSocket::Gone(from) if is_from(attached, from) => *attached = None,
            FromSocket::Command(..) | FromSocket::Gone(_) => {}
        }
    }
    commands
}

fn is_from(attached: &Option<Attached>, number: u64) -> bool {
    attached
        .as_ref()
        .is_some_and(|agent| agent.number == number)
}

/// The agent is root or of the runner's own user.
fn is_allowed(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn tell(attached: &mut Option<Attached>, news: Vec<(u64, Status)>) {
    for (launch, status) in news {
        say(attached, &FromRunner::Status { launch, status }).await;
    }
}

async fn say(attached: &mut Option<Attached>, message: &FromRunner) {
    let Some(agent) = attached else { return };
    agent.is_pending = true;
    let written = tokio::time::timeout(WRITE_WITHIN, write_frame(&mut agent.to_agent, message));
    if !matches!(written.await, Ok(Ok(()))) {
        *attached = None;
    }
}

async fn flush(attached: &mut Option<Attached>) {
    let Some(agent) = attached else { return };
    if !std::mem::take(&mut agent.is_pending) {
        return;
    }
    let flushed = tokio::time::timeout(WRITE_WITHIN, agent.to_agent.flush());
    if !matches!(flushed.await, Ok(Ok(()))) {
        *attached = None;
    }
}

/// Passes commands on until the connection ends.
async fn listen(number: u64, read: OwnedReadHalf, to_runner: mpsc::Sender<FromSocket>) {
    let mut read = BufReader::with_capacity(SOCKET_BUFFER, read);
    while let Ok(Some(command)) = read_frame(&mut read).await {
        let event = FromSocket::Command(number, command);
        if to_runner.send(event).await.is_err() {
            return;
        }
    }
    // An error means that the runner is ending.
    let _told = to_runner.send(FromSocket::Gone(number)).await.is_ok();
}
