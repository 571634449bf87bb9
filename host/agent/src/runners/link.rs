//! The actor of one runner.

mod attach;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;

use cap_std::fs::Dir;
use proffer_model::agent::Launch;
use proffer_model::{FrameworkId, LaunchNumber};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::mpsc;

use super::{Command, RunnerNews, RunnerSetup, not_started};
use crate::files::open_regular;
use crate::logic::{End, Found, Outcome};
use crate::program;
use crate::runner::STATUS_DIR;
use crate::runner::protocol::{Ending, FromRunner, How, ProcessMark, Status, ToRunner};
use crate::runner::status;

use attach::{Attached, Known};

/// A task's own result, as the framework contract promises.
const DATA_MAX: u64 = 64 * 1024;

/// The file that holds it.
const RESULT: &str = "result";

/// A status file is a few dozen bytes and perhaps a message.
const STATUS_BYTES_MAX: u64 = 1024 * 1024;

struct Link {
    setup: RunnerSetup,
    framework: FrameworkId,
    news: mpsc::Sender<RunnerNews>,
    attached: Option<Attached>,
    /// Handed to the runner and not known to have ended.
    handed: BTreeSet<LaunchNumber>,
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
    };
    loop {
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
                self.handed.extend(launches);
                match Attached::to_running(&self.setup, self.framework).await {
                    Some((attached, known)) => self.take(attached, known).await,
                    None => self.on_lost().await,
                }
            }
            Command::Forget(launch) => self.send(ToRunner::Forget { launch: launch.0 }).await,
            Command::Dismiss => self.send(ToRunner::Exit).await,
        }
    }

    async fn start(&mut self, launch: Arc<Launch>) {
        let number = launch.number;
        if let Err(problem) = self.try_start(launch).await {
            self.handed.remove(&number);
            self.tell(number, not_started(problem)).await;
        }
    }

    async fn try_start(&mut self, launch: Arc<Launch>) -> Result<(), String> {
        let sandboxes = Arc::clone(&self.setup.sandboxes);
        let (framework, number) = (self.framework, launch.number);
        let task = blocking(move || {
            let sandbox = sandboxes.existing(framework, number)?;
            program::start_task(&launch, &sandbox)
        });
        let task = task.await.map_err(|error| error.to_string())?;
        if self.attached.is_none() {
            let started = Attached::start(&self.setup, framework).await;
            let (attached, known) = started.map_err(|error| format!("its runner: {error}"))?;
            self.take(attached, known).await;
        }
        self.handed.insert(number);
        self.send(ToRunner::Start(Box::new(task))).await;
        Ok(())
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
        for launch in asked {
            self.find_out(launch).await;
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
        for launch in std::mem::take(&mut self.handed) {
            self.find_out(launch).await;
        }
    }

    /// What the status file of a dead runner says. A process that still runs is ended: nobody could
    /// learn its exit status any more, and its resources are to be free.
    async fn find_out(&mut self, launch: LaunchNumber) {
        let sandboxes = Arc::clone(&self.setup.sandboxes);
        let framework = self.framework;
        let read = blocking(move || {
            let runner = sandboxes.runner(framework)?;
            read_status(&runner, launch)
        });
        let found = match read.await {
            Ok(None) => Found::NeverStarted,
            Ok(Some(Status::Ended(ending))) => Found::Ended(self.end_of(launch, ending).await),
            Ok(Some(Status::Running(mark))) => {
                if let Some(mark) = mark {
                    end_orphan(launch, mark);
                }
                Found::Lost
            }
            Ok(Some(Status::Starting)) => Found::Lost,
            Err(error) => {
                tracing::error!(%launch, %error, "a status file cannot be read");
                Found::Lost
            }
        };
        self.tell(launch, found).await;
    }

    async fn end_of(&self, launch: LaunchNumber, ending: Ending) -> End {
        let sandboxes = Arc::clone(&self.setup.sandboxes);
        let framework = self.framework;
        let data = blocking(move || {
            let sandbox = sandboxes.existing(framework, launch)?;
            read_result(&sandbox.work)
        });
        let data = data.await.unwrap_or_else(|error| {
            tracing::warn!(%launch, %error, "a task's result was left out");
            Vec::new()
        });
        let Ending { how, stopped } = ending;
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

fn read_status(runner: &Dir, launch: LaunchNumber) -> io::Result<Option<Status>> {
    let file = match open_regular(runner, &format!("{STATUS_DIR}/{}", launch.0)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut content = Vec::new();
    file.take(STATUS_BYTES_MAX).read_to_end(&mut content)?;
    match status::parse(&content) {
        Some(status) => Ok(Some(status)),
        None => Err(io::Error::other("it is damaged")),
    }
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
