//! The runner's own state: its tasks, and what it does when it is told something.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proffer_plugin::command::{CommandComponent, CommandRunner, ComponentFile, KillSwitch};
use rustix::process::Pid;
use tokio::sync::mpsc;

use crate::sandbox::RESULT;

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

/// Components that stay open: a job has one or two kinds of task.
const COMPONENTS_MAX: usize = 32;

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
    /// Those of many tasks, by name.
    components: BTreeMap<String, Arc<ComponentFile>>,
    /// Launches whose end the agent does not know for good; none before it has said so.
    open: Option<BTreeSet<u64>>,
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

/// What came of commands.
#[derive(Default)]
pub(super) struct Done {
    /// Tell the agent about these launches.
    pub(super) tell: Vec<(u64, Status)>,
    /// The runner is to end.
    pub(super) is_over: bool,
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
            components: BTreeMap::new(),
            open: None,
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

    /// Performs commands that came together, in order.
    pub(super) fn perform(&mut self, commands: Vec<ToRunner>) -> Done {
        let mut done = Done::default();
        let noted = self.note_starts(&commands);
        for command in commands {
            match command {
                ToRunner::Hello { open, .. } => self.open = Some(open.into_iter().collect()),
                ToRunner::Start(task) => {
                    let is_noted = noted.contains(&task.launch);
                    done.tell.push(self.start(*task, is_noted));
                }
                ToRunner::Stop { launch, grace_ms } => {
                    self.stop(launch, Duration::from_millis(grace_ms));
                }
                ToRunner::Forget { launch } => self.forget(launch),
                ToRunner::Exit if self.any_runs() => {}
                ToRunner::Exit => {
                    done.is_over = true;
                    break;
                }
            }
        }
        done
    }

    /// Tasks ended: that is written down, then told.
    pub(super) fn on_ended(&mut self, ended: Vec<(u64, Ending)>) -> Vec<(u64, Status)> {
        let ended: Vec<_> = ended
            .into_iter()
            .map(|(launch, ending)| (launch, Status::Ended(ending)))
            .collect();
        self.note(&ended);
        for (launch, status) in &ended {
            if let Some(task) = self.tasks.get_mut(launch) {
                task.status = status.clone();
                task.stop = Stop::Ended;
            }
        }
        ended
    }

    fn note(&mut self, statuses: &[(u64, Status)]) {
        // A full disk must not end the other tasks; if this runner dies as well, the agent reports the
        // tasks as lost, which is then the truth.
        if let Err(error) = self.log.note(statuses) {
            let launches: Vec<_> = statuses.iter().map(|(launch, _)| launch).collect();
            tracing::error!(?launches, %error, "statuses were not written");
        }
        if self.log.wants_compacting() {
            self.compact();
        }
    }

    /// What is of no use any more leaves the log: launches whose end is known for good. Of a runner before
    /// this one the agent may not have read all.
    fn compact(&mut self) {
        let Self {
            tasks, log, open, ..
        } = self;
        let current = tasks
            .iter()
            .map(|(launch, task)| (*launch, task.status.clone()));
        let is_kept = |launch| open.as_ref().is_none_or(|open| open.contains(&launch));
        if let Err(error) = log.compact(current, is_kept) {
            tracing::warn!(%error, "the status log was not written anew");
        }
    }

    /// Writes down, together, that components are about to be started: they are in no time. A process takes
    /// a while, and one that was not reached when the runner dies is not to look as if it had run. The end
    /// of the runner may be among the commands: what follows it is not started.
    fn note_starts(&mut self, commands: &[ToRunner]) -> BTreeSet<u64> {
        let before_end = commands
            .iter()
            .take_while(|command| !matches!(command, ToRunner::Exit));
        let new = before_end.filter_map(|command| match command {
            ToRunner::Start(task)
                if matches!(task.program, Program::Wasm { .. })
                    && !self.tasks.contains_key(&task.launch) =>
            {
                Some((task.launch, first_status(&task.program)))
            }
            _ => None,
        });
        let new: Vec<_> = new.collect();
        if new.is_empty() || self.log.note(&new).is_err() {
            // Each by itself then, and each is told why it is not started.
            return BTreeSet::new();
        }
        new.into_iter().map(|(launch, _)| launch).collect()
    }

    fn start(&mut self, task: StartTask, is_noted: bool) -> (u64, Status) {
        let launch = task.launch;
        if let Some(known) = self.tasks.get(&launch) {
            return (launch, known.status.clone());
        }
        let first = first_status(&task.program);
        // Without this on disk the task could be started twice, so it is not started without it.
        let noted = if is_noted {
            Ok(())
        } else {
            self.log.note(&[(launch, first.clone())])
        };
        let (status, stop) = match noted {
            Ok(()) => self.start_program(task),
            Err(error) => not_started(format!("its status cannot be written: {error}")),
        };
        if status != first {
            self.note(&[(launch, status.clone())]);
        }
        let told = status.clone();
        self.tasks.insert(launch, Task { status, stop });
        (launch, told)
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
                is_late,
                args,
                memory_bytes,
                inputs,
            } => {
                let engine = match self.engine() {
                    Ok(engine) => engine,
                    Err(problem) => return not_started(problem),
                };
                let component = match self.component(component, is_late) {
                    Ok(component) => component,
                    Err(error) => return not_started(format!("its component: {error}")),
                };
                let kill = KillSwitch::new();
                let switch = kill.clone();
                let task = WasmTask {
                    component,
                    is_late,
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

    /// One that is shared is opened here and now: once the agent knows that a task runs, the file may go.
    fn component(&mut self, path: String, is_shared: bool) -> io::Result<CommandComponent> {
        if !is_shared {
            return Ok(CommandComponent::File(PathBuf::from(path)));
        }
        if let Some(open) = self.components.get(&path) {
            return Ok(CommandComponent::Opened(Arc::clone(open)));
        }
        let open = Arc::new(ComponentFile::open(Path::new(&path))?);
        if self.components.len() >= COMPONENTS_MAX {
            // Those in use stay with their tasks, the others are opened again.
            self.components.clear();
        }
        self.components.insert(path, Arc::clone(&open));
        Ok(CommandComponent::Opened(open))
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
        if let Some(open) = &mut self.open {
            open.remove(&launch);
        }
    }
}

/// What is written down before a task is started. A component runs in this process: there is no moment
/// between that could be of interest.
fn first_status(program: &Program) -> Status {
    match program {
        Program::Process { .. } => Status::Starting,
        Program::Wasm { .. } => Status::Running(None),
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
