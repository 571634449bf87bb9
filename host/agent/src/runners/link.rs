//! The actor of one runner.

mod attach;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cap_std::fs::Dir;
use proffer_model::agent::Launch;
use proffer_model::{FrameworkId, LaunchNumber};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::mpsc;

use super::{Command, RunnerNews, RunnerSetup, not_started};
use crate::files::open_regular;
use crate::logic::{End, Found, Outcome};
use crate::program;
use crate::runner::STATUS_LOG;
use crate::runner::protocol::{Ending, FromRunner, How, ProcessMark, Status, ToRunner};
use crate::runner::status;
use crate::sandbox::RESULT;

use attach::{Attached, Known};

/// Attempts to start a runner. One that is being killed, or is ending by itself, has its directory until the
/// system has cleared it away; a second one may be killed like the first.
const START_ATTEMPTS: u32 = 5;

/// Where no runner can be started at all, the launches that wait are not to try as often one after the other.
const PATIENCE_AFTER: Duration = Duration::from_secs(10);

/// A task's own result, as the framework contract promises.
const DATA_MAX: u64 = 64 * 1024;

/// A status log is written anew past twice what is current; a hundred thousand launches are some
/// megabytes.
const STATUS_BYTES_MAX: u64 = 256 * 1024 * 1024;

struct Link {
    setup: RunnerSetup,
    framework: FrameworkId,
    news: mpsc::Sender<RunnerNews>,
    attached: Option<Attached>,
    /// Handed to the runner and not known to have ended.
    handed: BTreeSet<LaunchNumber>,
    /// Handed to this runner or one before, and it is not known for good how they ended.
    open: BTreeSet<LaunchNumber>,
    /// What earlier agent processes kept is gone.
    is_swept: bool,
    /// When no runner could be started.
    failed_at: Option<Instant>,
}

/// Runs until the commands end. Runners live on.
pub(super) async fn run(
    setup: RunnerSetup,
    framework: FrameworkId,
    mut commands: mpsc::Receiver<Command>,
    news: mpsc::Sender<RunnerNews>,
) {
    let mut link = Link {
        setup,
        framework,
        news,
        attached: None,
        handed: BTreeSet::new(),
        open: BTreeSet::new(),
        is_swept: false,
        failed_at: None,
    };
    loop {
        // Commands that come together go out together.
        if commands.is_empty() {
            link.flush().await;
        }
        let said = async {
            match &mut link.attached {
                Some(attached) => attached.receive().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = said => match message {
                Some(message) => link.on_message(message).await,
                None => link.on_lost().await,
            },
            command = commands.recv() => match command {
                Some(command) => link.perform(command).await,
                None => return,
            },
        }
    }
}

impl Link {
    async fn perform(&mut self, command: Command) {
        match command {
            Command::Start(launch) => self.start(launch).await,
            Command::Stop(launch, grace) => {
                let stop = ToRunner::Stop {
                    launch: launch.0,
                    grace_ms: grace.0,
                };
                self.send(stop).await;
            }
            Command::Inquire(launches) => {
                self.open.extend(&launches);
                self.handed.extend(launches);
                match Attached::to_running(&self.setup, self.framework, &self.open).await {
                    Some((attached, known)) => self.take(attached, known).await,
                    None => self.on_lost().await,
                }
            }
            Command::Forget(launch) => {
                self.open.remove(&launch);
                self.send(ToRunner::Forget { launch: launch.0 }).await;
            }
            Command::Dismiss => self.send(ToRunner::Exit).await,
        }
    }

    async fn start(&mut self, launch: Arc<Launch>) {
        let number = launch.number;
        if let Err(found) = self.try_start(launch).await {
            self.handed.remove(&number);
            self.tell(number, found).await;
        }
    }

    async fn try_start(&mut self, launch: Arc<Launch>) -> Result<(), Found> {
        let number = launch.number;
        let kept = self.setup.components.path_of(number);
        let task = program::start_task(&launch, kept).map_err(not_started)?;
        if self.attached.is_none() {
            let failed = self.failed_at.take().map(|at| at.elapsed());
            let attempts = match failed {
                Some(ago) if ago < PATIENCE_AFTER => 1,
                _ => START_ATTEMPTS,
            };
            let started = attach::start(&self.setup, self.framework, &self.open, attempts).await;
            let (attached, known) = started.map_err(|error| {
                self.failed_at = Some(Instant::now());
                Found::NoRunner(error.to_string())
            })?;
            self.take(attached, known).await;
        }
        self.handed.insert(number);
        self.open.insert(number);
        self.send(ToRunner::Start(Box::new(task))).await;
        Ok(())
    }

    async fn flush(&mut self) {
        if let Some(attached) = &mut self.attached
            && let Err(error) = attached.flush().await
        {
            tracing::warn!(framework = %self.framework, %error, "a runner does not listen");
            self.on_lost().await;
        }
    }

    /// A runner that is gone needs no commands: what became of its launches is found out.
    async fn send(&mut self, command: ToRunner) {
        if let Some(attached) = &mut self.attached
            && let Err(error) = attached.send(&command).await
        {
            tracing::warn!(framework = %self.framework, %error, "a runner does not listen");
            self.on_lost().await;
        }
    }

    /// A runner was attached to: what it knows counts, and of what it does not know its files speak.
    async fn take(&mut self, attached: Attached, known: Known) {
        self.attached = Some(attached);
        self.sweep().await;
        let mut asked = std::mem::take(&mut self.handed);
        for (launch, status) in known {
            let number = LaunchNumber(launch);
            if asked.remove(&number) {
                self.handed.insert(number);
                self.on_status(number, status).await;
            } else if matches!(status, Status::Ended(_)) {
                // Known for good since before the agent was started.
                self.send(ToRunner::Forget { launch }).await;
            }
        }
        self.find_out(asked).await;
    }

    /// Commands of earlier agent processes reach the runner no more: it needs nothing that they kept.
    async fn sweep(&mut self) {
        if std::mem::replace(&mut self.is_swept, true) {
            return;
        }
        let (sandboxes, framework) = (Arc::clone(&self.setup.sandboxes), self.framework);
        if let Err(error) = blocking(move || sandboxes.sweep_kept(framework)).await {
            tracing::warn!(%framework, %error, "kept inputs of an earlier agent stay");
        }
    }

    async fn on_message(&mut self, message: FromRunner) {
        match message {
            FromRunner::Status { launch, status } => {
                self.on_status(LaunchNumber(launch), status).await;
            }
            // Said once, when it was attached to.
            FromRunner::Hello { .. } => {}
        }
    }

    async fn on_status(&mut self, launch: LaunchNumber, status: Status) {
        let found = match status {
            Status::Starting => return,
            Status::Running(_) => Found::Running,
            Status::Ended(ending) => {
                self.handed.remove(&launch);
                Found::Ended(self.end_of(launch, ending).await)
            }
        };
        self.tell(launch, found).await;
    }

    async fn on_lost(&mut self) {
        self.attached = None;
        let handed = std::mem::take(&mut self.handed);
        self.find_out(handed).await;
    }

    /// What the status log of a dead runner says of launches.
    async fn find_out(&mut self, launches: BTreeSet<LaunchNumber>) {
        if launches.is_empty() {
            return;
        }
        let sandboxes = Arc::clone(&self.setup.sandboxes);
        let framework = self.framework;
        let read = blocking(move || read_log(&sandboxes.runner(framework)?)).await;
        let log = read.unwrap_or_else(|error| {
            tracing::error!(%framework, %error, "a runner's status log cannot be read");
            StatusRead {
                statuses: BTreeMap::new(),
                is_whole: false,
            }
        });
        for launch in launches {
            let found = match log.statuses.get(&launch.0) {
                None if log.is_whole => Found::NeverStarted,
                // What is cut short or unreadable may have been its beginning.
                None => Found::Lost,
                Some(status) => self.found_of(launch, status.clone()).await,
            };
            self.tell(launch, found).await;
        }
    }

    /// A process that still runs is ended: nobody could learn its exit status any more, and its
    /// resources are to be free.
    async fn found_of(&self, launch: LaunchNumber, status: Status) -> Found {
        match status {
            Status::Ended(ending) => Found::Ended(self.end_of(launch, ending).await),
            Status::Running(mark) => {
                if let Some(mark) = mark {
                    end_orphan(launch, mark);
                }
                Found::Lost
            }
            Status::Starting => Found::Lost,
        }
    }

    async fn end_of(&self, launch: LaunchNumber, ending: Ending) -> End {
        let Ending {
            how,
            stopped,
            has_result,
        } = ending;
        let data = match has_result {
            true => self.result_of(launch).await,
            false => Vec::new(),
        };
        let outcome = match how {
            How::Exited(status) => Outcome::Exited(status),
            How::Signalled(signal) => Outcome::Signalled(signal),
            How::OutOfMemory(text) => Outcome::OutOfMemory(text),
            How::Broke(text) => Outcome::Broke(text),
            How::NotStarted(text) => Outcome::NotStarted(text),
        };
        End {
            outcome,
            stopped,
            data,
        }
    }

    async fn result_of(&self, launch: LaunchNumber) -> Vec<u8> {
        let sandboxes = Arc::clone(&self.setup.sandboxes);
        let framework = self.framework;
        let data = blocking(move || {
            let work = sandboxes.work(framework, launch)?;
            read_result(&work)
        });
        data.await.unwrap_or_else(|error| {
            tracing::warn!(%launch, %error, "a task's result was left out");
            Vec::new()
        })
    }

    async fn tell(&self, launch: LaunchNumber, found: Found) {
        // An error means that the agent is ending; its successor will ask again.
        let _told = self.news.send(RunnerNews { launch, found }).await.is_ok();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}

/// The task's result, if it left one. More than the limit is left out as a whole: half a result is
/// worse than none.
fn read_result(work: &Dir) -> io::Result<Vec<u8>> {
    let file = match open_regular(work, RESULT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut data = Vec::new();
    file.take(DATA_MAX + 1).read_to_end(&mut data)?;
    if data.len() as u64 > DATA_MAX {
        return Err(io::Error::other(format!(
            "the file '{RESULT}' is longer than {DATA_MAX} bytes"
        )));
    }
    Ok(data)
}

/// What a runner's status log says.
struct StatusRead {
    statuses: BTreeMap<u64, Status>,
    /// Nothing of it is cut short or damaged.
    is_whole: bool,
}

fn read_log(runner: &Dir) -> io::Result<StatusRead> {
    let mut content = Vec::new();
    match open_regular(runner, STATUS_LOG) {
        // No runner was ever started.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        file => {
            file?.take(STATUS_BYTES_MAX).read_to_end(&mut content)?;
        }
    }
    Ok(StatusRead {
        statuses: status::parse(&content),
        is_whole: status::whole(&content) == content.len()
            && (content.len() as u64) < STATUS_BYTES_MAX,
    })
}

/// Ends the process group of a task whose runner is gone, if that is still the same process.
fn end_orphan(launch: LaunchNumber, mark: ProcessMark) {
    if status::mark_of(mark.pid) != Some(mark) {
        return;
    }
    let Some(group) = Pid::from_raw(mark.pid) else {
        return;
    };
    tracing::warn!(%launch, pid = mark.pid, "a process whose runner died is ended");
    if let Err(error) = kill_process_group(group, Signal::KILL) {
        tracing::warn!(%launch, %error, "it was not ended");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_has_a_tasks_old_pid_is_left_alone() {
        let mut child = Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mark = status::mark_of(pid).unwrap();
        let earlier = ProcessMark {
            started: mark.started - 1,
            ..mark
        };
        end_orphan(LaunchNumber(1), earlier);
        assert_eq!(status::mark_of(pid), Some(mark));
        end_orphan(LaunchNumber(1), mark);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
