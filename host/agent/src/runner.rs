//! The runner: a small process per framework and agent that starts tasks, hosts Wasm tasks, and
//! outlives the agent.
//!
//! # Who it is
//! The agent starts it with a directory as its standard input; there it lives, and every path below is
//! relative to it, so it needs no right to any directory above. Started by root, it first becomes the
//! task user. It has a session of its own: neither the agent's death nor a terminal's end reaches it.
//!
//! # Its directory
//! - `run/control`: a socket. `run` is its user's alone; both ends check whose process the other is.
//! - `run/status`: a log of what became of launches. Written before anything is said of one: if the
//!   runner dies, the agent reads it there. `Starting` as the last word means that the task may have run.
//! - `tasks/launch-N/`: `work` (the task's directory), `inputs`, `component.wasm`; made by the agent.
//! - `run/cache`: compiled components.
//!
//! All but `run` and `work` is the agent's own, so that a task cannot change its inputs.
//!
//! # What it enforces
//! No core dumps; no descriptors but a task's own three; no new privileges (`sudo` and the like do nothing in a task); a Wasm task's memory and directories; a process task's user, session and process
//! group, and that what a task starts ends with it, also what has a session of its own: the runner is the
//! reaper of its descendants, and ends those that a task leaves ([`descendants`]).
//!
//! **Not** enforced: memory, processors and disk of process tasks (that wants cgroups). A task that hides a
//! process (a session of its own *and* another environment, and it ends by itself) keeps it until no task
//! runs here any more that is as old. If the runner itself is killed, only the process groups of its tasks end.
//! Where tasks of all frameworks run as one user (the default), processes of two frameworks are kept apart
//! by their directories only.
//!
//! # When it ends
//! When it is told to, or when no agent is attached and no task runs for a while.

mod act;
mod descendants;
mod process;
pub(crate) mod protocol;
mod serve;
pub(crate) mod status;
mod wasm;

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use rustix::process::{Gid, Resource, Rlimit, Uid};

pub(crate) use act::{CONTROL, LOCK, STATUS_LOG};
pub(crate) use descendants::LAUNCH_VARIABLE;

/// Open files of a runner with its Wasm tasks, if the system allows as many: a thousand tasks with some
/// dozens each.
const FILES_MAX: u64 = 65_536;

/// The first descriptor after standard input, output and error.
const FIRST_INHERITED: i32 = 3;

/// What the agent passes to the runner, after the arguments that make a program a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunnerOptions {
    /// Whom it becomes; none: it stays who it is.
    pub user: Option<TaskUser>,
    /// How long it stays without an agent and without tasks.
    pub idle: Duration,
}

/// Whom tasks run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Why a runner could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// It was not started by an agent.
    #[error("runner arguments: {0}; a runner is started by an agent, not by hand")]
    Arguments(String),
    /// The system refused something at the start.
    #[error("runner: {what}")]
    Start {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another runner has this directory.
    #[error("another runner has this directory")]
    Taken,
}

impl RunnerOptions {
    /// As arguments.
    #[must_use]
    pub fn to_args(self) -> Vec<String> {
        let mut args = vec![format!("--idle-ms={}", self.idle.as_millis())];
        if let Some(TaskUser { uid, gid }) = self.user {
            args.push(format!("--uid={uid}"));
            args.push(format!("--gid={gid}"));
        }
        args
    }

    fn parse(args: impl Iterator<Item = OsString>) -> Result<Self, RunnerError> {
        let (mut idle, mut uid, mut gid) = (None, None, None);
        for arg in args {
            let text = arg.to_string_lossy();
            let number = |value: &str| {
                let parsed = value.parse::<u32>();
                parsed.map_err(|_| RunnerError::Arguments(format!("'{text}' has no number")))
            };
            match text.split_once('=') {
                Some(("--idle-ms", value)) => idle = Some(number(value)?),
                Some(("--uid", value)) => uid = Some(number(value)?),
                Some(("--gid", value)) => gid = Some(number(value)?),
                _ => return Err(RunnerError::Arguments(format!("'{text}' is not known"))),
            }
        }
        let idle = idle.ok_or_else(|| RunnerError::Arguments("--idle-ms is missing".to_owned()))?;
        let user = match (uid, gid) {
            (Some(uid), Some(gid)) => Some(TaskUser { uid, gid }),
            (None, None) => None,
            _ => {
                let text = "--uid and --gid come together";
                return Err(RunnerError::Arguments(text.to_owned()));
            }
        };
        Ok(Self {
            user,
            idle: Duration::from_millis(idle.into()),
        })
    }
}

/// Runs a runner to its end. Call it first in `main`, before any thread is started: changing the user
/// works on one thread.
///
/// # Errors
/// If it could not begin; tasks' failures are the agent's to hear.
pub fn main(args: impl Iterator<Item = OsString>) -> Result<(), RunnerError> {
    let options = RunnerOptions::parse(args)?;
    let started = |what| move |source: io::Error| RunnerError::Start { what, source };
    let failed = |what| {
        move |error: rustix::io::Errno| RunnerError::Start {
            what,
            source: error.into(),
        }
    };
    if threads().map_err(started("counting its threads"))? != 1 {
        let text = "the program started threads before it became a runner";
        return Err(RunnerError::Arguments(text.to_owned()));
    }
    // Whoever started the agent may have left it more than it opened itself, which closes by itself. Tasks
    // are to have their three.
    close_fds::set_fds_cloexec(FIRST_INHERITED, &[]);
    rustix::process::fchdir(io::stdin()).map_err(failed("entering its directory"))?;
    // Fails only for the leader of a process group, which has what is wanted unless it is in a
    // terminal's session; the agent never starts one so.
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "no session of its own");
    }
    limit_itself().map_err(failed("limiting itself"))?;
    // A program with the setuid bit would make a task somebody else.
    rustix::thread::set_no_new_privs(true).map_err(failed("giving up new privileges"))?;
    // What tasks leave behind becomes the runner's, not the system's. Any process's number says yes.
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).map_err(failed("keeping its descendants"))?;
    if let Some(user) = options.user {
        become_user(user).map_err(failed("becoming the task user"))?;
    }
    // It waits for children and passes messages, which between threads would cost more than it takes; Wasm
    // tasks have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(started("its runtime"))?;
    runtime.block_on(serve::serve(options.idle))
}

fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Tasks inherit these.
fn limit_itself() -> rustix::io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // A core dump would hold a task's secrets and fill the disk.
    rustix::process::setrlimit(Resource::Core, none)?;
    // Each Wasm task keeps its logs and directories open in this process.
    let files = rustix::process::getrlimit(Resource::Nofile);
    let most = files.maximum.unwrap_or(FILES_MAX).min(FILES_MAX);
    let raised = Rlimit {
        current: Some(most),
        maximum: files.maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, raised)
}

/// Groups first: afterwards there is no right to change them.
fn become_user(user: TaskUser) -> rustix::io::Result<()> {
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_groups(&[gid])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}
