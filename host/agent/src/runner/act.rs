//! The runner's own state: its tasks, and what it does when it is told something.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proffer_plugin::command::{CommandRunner, KillSwitch};
use rustix::process::Pid;
use tokio::sync::mpsc;

use crate::sandbox::{RESULT, sandbox_of};

use super::descendants::Descendants;
use super::protocol::{Ending, How, Program, StartTask, Status, ToRunner};
use super::status::StatusLog;
use super::wasm::WasmTask;
use super::{process, wasm};

/// The socket's name in the runner's directory.
pub(crate) const CONTROL: &str = "run/control";

/// Whoever holds it has the directory.
pub(crate) const LOCK: &str = "run/lock";

/// The status log.
pub(crate) const STATUS_LOG: &str = "run/status";

/// Where compiled components are.
pub(super) const CACHE_DIR: &str = "run/cache";

/// Stops of one task that wait to be seen; more than a few are repeats.
const STOPS_QUEUE: usize = 8;

/// All tasks that are not forgotten.
pub(super) struct Tasks {
    tasks: BTreeMap<u64, Task>,
    ended: mpsc::Sender<(u64, Ending)>,
    log: StatusLog,
    descendants: Descendants,
    /// Made for the first Wasm task: a runner of processes needs no compiler.
    engine: Option<CommandRunner>,
}

struct Task {
    status: Status,
    stop: Stop,
}

enum Stop {
    Process(mpsc::Sender<Duration>),
    Wasm(KillSwitch),
    Ended,
}

/// What came of a command.
pub(super) enum Done {
    /// Tell the agent about this launch.
    Tell(u64, Status),
    /// Nothing to tell.
    Nothing,
    /// The runner is to end.
    Exit,
}

impl Tasks {
    pub(super) fn new(
        ended: mpsc::Sender<(u64, Ending)>,
        log: StatusLog,
        descendants: Descendants,
    ) -> Self {
        Self {
            tasks: BTreeMap::new(),
            ended,
            log,
            descendants,
            engine: None,
        }
    }

    pub(super) fn any_runs(&self) -> bool {
        let mut tasks = self.tasks.values();
        tasks.any(|task| !matches!(task.status, Status::Ended(_)))
    }

    pub(super) fn list(&self) -> Vec<(u64, Status)> {
        let tasks = self.tasks.iter();
        tasks
            .map(|(launch, task)| (*launch, task.status.clone()))
            .collect()
    }

    pub(super) fn perform(&mut self, command: ToRunner) -> Done {
        match command {
            ToRunner::Hello { .. } => Done::Nothing,
            ToRunner::Start(task) => self.start(*task),
            ToRunner::Stop { launch, grace_ms } => {
                self.stop(launch, Duration::from_millis(grace_ms));
                Done::Nothing
            }
            ToRunner::Forget { launch } => {
                self.forget(launch);
                Done::Nothing
            }
            ToRunner::Exit if self.any_runs() => Done::Nothing,
            ToRunner::Exit => Done::Exit,
        }
    }

    /// A task ended: it is written down, then told.
    pub(super) fn on_ended(&mut self, launch: u64, ending: Ending) -> Status {
        let status = Status::Ended(ending);
        self.note(launch, &status);
        if let Some(task) = self.tasks.get_mut(&launch) {
            task.status = status.clone();
            task.stop = Stop::Ended;
        }
        status
    }

    fn note(&mut self, launch: u64, status: &Status) {
        // A full disk must not end the other tasks; if this runner dies as well, the agent reports the
        // task as lost, which is then the truth.
        if let Err(error) = self.log.note(launch, status) {
            tracing::error!(launch, %error, "a status was not written");
        }
        if self.log.wants_compacting() {
            self.compact();
        }
    }

    /// What is of no use any more leaves the log: launches that were forgotten, or whose sandboxes are
    /// gone.
    fn compact(&mut self) {
        let Self { tasks, log, .. } = self;
        let current = tasks
            .iter()
            .map(|(launch, task)| (*launch, task.status.clone()));
        let is_kept = |launch| Path::new(&sandbox_of(launch)).exists();
        if let Err(error) = log.compact(current, is_kept) {
            tracing::warn!(%error, "the status log was not written anew");
        }
    }

    fn start(&mut self, task: StartTask) -> Done {
        let launch = task.launch;
        if let Some(known) = self.tasks.get(&launch) {
            return Done::Tell(launch, known.status.clone());
        }
        // A component runs in this process: there is no moment between that could be of interest.
        let first = match task.program {
            Program::Process { .. } => Status::Starting,
            Program::Wasm { .. } => Status::Running(None),
        };
        // Without this on disk the task could be started twice, so it is not started without it.
        let (status, stop) = match self.log.note(launch, &first) {
            Ok(()) => self.start_program(task),
            Err(error) => not_started(format!("its status cannot be written: {error}")),
        };
        if status != first {
            self.note(launch, &status);
        }
        let told = status.clone();
        self.tasks.insert(launch, Task { status, stop });
        Done::Tell(launch, told)
    }

    fn start_program(&mut self, task: StartTask) -> (Status, Stop) {
        let StartTask {
            launch,
            work,
            program,
            env,
        } = task;
        match program {
            Program::Process { argv } => {
                let descendants = self.descendants.clone();
                let started = descendants.start(launch, || {
                    let child = process::spawn(&argv, &work, &env)?;
                    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
                    Ok(((child, pid), pid))
                });
                let ((child, pid), mark) = match started {
                    Ok(started) => started,
                    Err(error) => return not_started(error.to_string()),
                };
                let (stop, stops) = mpsc::channel(STOPS_QUEUE);
                let ended = self.ended.clone();
                tokio::spawn(async move {
                    let note_family = || descendants.note_family(launch, pid);
                    let group = pid.and_then(Pid::from_raw);
                    let mut ending = process::watch(child, group, stops, note_family).await;
                    descendants.end(launch, pid);
                    ending.has_result = has_result(&work);
                    // An error means that the runner is ending.
                    let _told = ended.send((launch, ending)).await.is_ok();
                });
                (Status::Running(mark), Stop::Process(stop))
            }
            Program::Wasm {
                component,
                args,
                memory_bytes,
                inputs,
            } => {
                let engine = match self.engine() {
                    Ok(engine) => engine,
                    Err(problem) => return not_started(problem),
                };
                let kill = KillSwitch::new();
                let switch = kill.clone();
                let task = WasmTask {
                    component,
                    args,
                    memory_bytes,
                    inputs,
                    env,
                    work: work.clone(),
                };
                let ended = self.ended.clone();
                tokio::spawn(async move {
                    let mut ending = wasm::run(engine, task, switch).await;
                    ending.has_result = has_result(&work);
                    // An error means that the runner is ending.
                    let _told = ended.send((launch, ending)).await.is_ok();
                });
                (Status::Running(None), Stop::Wasm(kill))
            }
        }
    }

    fn engine(&mut self) -> Result<CommandRunner, String> {
        if let Some(engine) = &self.engine {
            return Ok(engine.clone());
        }
        let engine = wasm::engine()?;
        self.engine = Some(engine.clone());
        Ok(engine)
    }

    fn stop(&mut self, launch: u64, grace: Duration) {
        let Some(task) = self.tasks.get(&launch) else {
            return;
        };
        match &task.stop {
            // Full of stops: the task is being ended as fast as it can be.
            Stop::Process(stop) => {
                let _queued = stop.try_send(grace).is_ok();
            }
            // A component has no signal to hear, so there is nothing to wait for.
            Stop::Wasm(kill) => kill.kill(),
            Stop::Ended => {}
        }
    }

    fn forget(&mut self, launch: u64) {
        let has_ended = self
            .tasks
            .get(&launch)
            .is_some_and(|task| matches!(task.status, Status::Ended(_)));
        if has_ended {
            self.tasks.remove(&launch);
        }
    }
}

/// Whether the task left a result of its own: the agent then reads it.
fn has_result(work: &str) -> bool {
    Path::new(work).join(RESULT).symlink_metadata().is_ok()
}

fn not_started(problem: String) -> (Status, Stop) {
    let ending = Ending {
        how: How::NotStarted(problem),
        stopped: false,
        has_result: false,
    };
    (Status::Ended(ending), Stop::Ended)
}
