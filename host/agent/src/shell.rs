//! The agent's loop: feeds the logic, makes its records durable, performs its actions.
//!
//! Inputs that are there at once are handled together and share one sync of the journal.

mod perform;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proffer_model::agent::Launch;
use proffer_model::{FrameworkId, LaunchNumber, Reason, Remedy, Timestamp, code};
use proffer_rpc::agent::HostSender;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::agent::{AgentError, AgentStatus, now};
use crate::config::AgentConfig;
use crate::fetch::{Components, Looked, Preparer};
use crate::files::Files;
use crate::journal::{JournalError, SharedJournal};
use crate::logic::{Action, Input, Logic, Outbox};
use crate::runners::{RunnerNews, Runners};
use crate::sandbox::Sandboxes;

/// Inputs that share one sync of the journal; more would make the first of them wait for the last.
const BATCH_MAX: usize = 512;

/// What tasks of the shell have to say to its loop.
const EVENTS_QUEUE: usize = 1_024;

/// Old sandboxes are looked for so often; disks do not fill faster than that by accident.
const CLEAN_EVERY: Duration = Duration::from_secs(30);

/// Longest sleep: a due time further away is looked at again.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// A runner that was told to end has ended in milliseconds: its directory is tried so often, this quickly,
/// and afterwards when sandboxes are looked at.
const TAKE_AWAY_TRIES: u32 = 20;
const TAKE_AWAY_EVERY: Duration = Duration::from_millis(100);

/// Runners' actors and removals may take so long at the end.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(5);

/// The loop and all that it owns.
#[derive(Debug)]
pub(crate) struct Shell {
    parts: ShellParts,
    events: mpsc::Sender<Event>,
    from_tasks: mpsc::Receiver<Event>,
    connection: Option<Connection>,
    /// Counts connections, so that late words of an old one are told apart.
    epoch: u64,
    preparing: BTreeMap<LaunchNumber, AbortHandle>,
    /// Frameworks that are gone and whose runner's directory is still there, and how often it was tried
    /// to take it away.
    leaving: BTreeMap<FrameworkId, u32>,
    work: JoinSet<()>,
    /// What is gathered while actions are performed, to be done together.
    gathered: Gathered,
    /// Inputs that came up while actions were performed.
    again: VecDeque<Input>,
    outbox: Outbox,
    /// When the loop began, by both clocks: time passed to the logic never jumps with the wall clock.
    began: (Instant, Timestamp),
}

/// What a shell is made of.
#[derive(Debug)]
pub(crate) struct ShellParts {
    pub(crate) config: AgentConfig,
    pub(crate) logic: Logic,
    pub(crate) journal: SharedJournal,
    pub(crate) files: Files,
    pub(crate) sandboxes: Arc<Sandboxes>,
    pub(crate) components: Components,
    pub(crate) preparer: Preparer,
    pub(crate) runners: Runners,
    pub(crate) from_runners: mpsc::Receiver<RunnerNews>,
    /// Where inputs are fetched: the loop's own runtime has one thread, which is not to wait for data.
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) status: watch::Sender<AgentStatus>,
    /// Keeps other agents out of the directory.
    pub(crate) _lock: std::fs::File,
}

/// Work that costs less together.
#[derive(Debug, Default)]
struct Gathered {
    /// Bare launches, whose components are looked for.
    bare: Vec<Arc<Launch>>,
    /// Those whose components were not found.
    fetch: Vec<Arc<Launch>>,
    /// Sandboxes to remove.
    remove: Vec<(FrameworkId, LaunchNumber)>,
}

/// The connection, being made or there.
#[derive(Debug)]
struct Connection {
    reader: AbortHandle,
    to_host: Option<HostSender>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// What the shell's own tasks say.
#[derive(Debug)]
enum Event {
    /// The connection of this epoch is there.
    Connected(u64, HostSender),
    /// Something of the connection of this epoch.
    Link(u64, Input),
    /// What was found for bare launches.
    Looked(Looked),
    /// The directory of a framework that is gone could not be removed in full.
    DirectoryStays(FrameworkId),
    /// Anything else.
    Input(Input),
}

/// Why the loop goes on.
enum Woken {
    Event(Event),
    News(RunnerNews),
    Due,
    Clean,
    /// Some work was collected, so that nothing piles up; the id if it was aborted or panicked.
    WorkDone(Option<tokio::task::Id>),
}

impl Shell {
    pub(crate) fn new(parts: ShellParts, outbox: Outbox) -> Self {
        let (events, from_tasks) = mpsc::channel(EVENTS_QUEUE);
        for (launch, framework, finished) in parts.logic.sandboxes() {
            parts.files.set(launch, framework, finished);
        }
        Self {
            parts,
            events,
            from_tasks,
            connection: None,
            epoch: 0,
            preparing: BTreeMap::new(),
            leaving: BTreeMap::new(),
            work: JoinSet::new(),
            gathered: Gathered::default(),
            again: VecDeque::new(),
            outbox,
            began: (Instant::now(), now()),
        }
    }

    /// Runs until `shutdown`, the host's refusal, or a failure of the disk.
    pub(crate) async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), AgentError> {
        tokio::pin!(shutdown);
        let mut cleaning = tokio::time::interval(CLEAN_EVERY);
        cleaning.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = loop {
            if let Err(error) = self.perform_all().await {
                break Err(error);
            }
            let wake_at = self.wake_at();
            // Every branch is cancel-safe: channels, timers, and a set that keeps what is done.
            let woken = tokio::select! {
                () = &mut shutdown => break Ok(()),
                Some(event) = self.from_tasks.recv() => Woken::Event(event),
                Some(news) = self.parts.from_runners.recv() => Woken::News(news),
                () = tokio::time::sleep_until(wake_at) => Woken::Due,
                _ = cleaning.tick() => Woken::Clean,
                Some(done) = self.work.join_next_with_id() => {
                    Woken::WorkDone(done.err().map(|error| error.id()))
                }
            };
            let input = match woken {
                Woken::Event(event) => self.input_of(event),
                Woken::News(news) => Some(input_of_news(news)),
                Woken::Due => {
                    self.take_away(TAKE_AWAY_TRIES);
                    Some(Input::Tick)
                }
                Woken::Clean => {
                    self.take_away(u32::MAX);
                    Some(self.look_at_disk())
                }
                Woken::WorkDone(failed) => failed.and_then(|id| self.on_work_failed(id)),
            };
            self.handle_batch(input);
        };
        self.shut_down().await;
        ended
    }

    /// Handles one input and all that is there already, up to a limit.
    fn handle_batch(&mut self, first: Option<Input>) {
        let now = self.now();
        let mut next = first;
        for _ in 0..BATCH_MAX {
            if let Some(input) = next.take() {
                self.parts.logic.handle(now, input, &mut self.outbox);
            }
            if let Ok(event) = self.from_tasks.try_recv() {
                next = self.input_of(event);
            } else if let Ok(news) = self.parts.from_runners.try_recv() {
                next = Some(input_of_news(news));
            } else {
                break;
            }
        }
        if let Some(input) = next {
            self.parts.logic.handle(now, input, &mut self.outbox);
        }
    }

    /// Performs what is in the outbox, and what comes of that.
    async fn perform_all(&mut self) -> Result<(), AgentError> {
        loop {
            let actions = self.outbox.take();
            let is_idle = self.again.is_empty() && self.gathered.fetch.is_empty();
            if actions.is_empty() && is_idle {
                break;
            }
            self.persist(&actions).await?;
            for action in actions {
                self.perform(action)?;
            }
            self.perform_gathered();
            let now = self.now();
            while let Some(input) = self.again.pop_front() {
                self.parts.logic.handle(now, input, &mut self.outbox);
            }
        }
        self.parts.status.send_if_modified(|status| {
            let logic = &self.parts.logic;
            let new = AgentStatus {
                agent: logic.agent(),
                registered: logic.is_registered(),
                active: logic.active(),
                counters: logic.counters(),
            };
            let changed = *status != new;
            *status = new;
            changed
        });
        Ok(())
    }

    /// All records first, with one sync if any action needs one: then every action may be performed. The
    /// agent itself waits, its runtime's threads do not.
    async fn persist(&mut self, actions: &[Action]) -> Result<(), AgentError> {
        let records = actions.iter().filter_map(|action| match action {
            Action::Persist(record) => Some(record.clone()),
            _ => None,
        });
        let records: Vec<_> = records.collect();
        let needs_durable =
            !self.gathered.fetch.is_empty() || actions.iter().any(Action::needs_durable);
        let journal = self.parts.journal.clone();
        let (is_synced, wants_compacting) = {
            let journal = journal.lock();
            (journal.is_synced(), journal.wants_compacting())
        };
        if records.is_empty() && (is_synced || !needs_durable) {
            return Ok(());
        }
        if wants_compacting {
            // What the logic knows includes these records.
            let all = self.parts.logic.compacted();
            return on_disk(move || journal.lock().replace(&all)).await;
        }
        on_disk(move || {
            let mut journal = journal.lock();
            journal.append(&records)?;
            if needs_durable {
                journal.sync()
            } else {
                Ok(())
            }
        })
        .await
    }

    fn input_of(&mut self, event: Event) -> Option<Input> {
        match event {
            Event::Connected(epoch, to_host) if epoch == self.epoch => {
                let connection = self.connection.as_mut()?;
                connection.to_host = Some(to_host);
                Some(Input::Connected)
            }
            Event::Link(epoch, input) if epoch == self.epoch => {
                if matches!(input, Input::Disconnected { .. } | Input::Denied { .. }) {
                    self.connection = None;
                }
                Some(input)
            }
            Event::Connected(..) | Event::Link(..) => None,
            Event::Looked(looked) => {
                self.on_looked(looked);
                None
            }
            Event::DirectoryStays(framework) => {
                // With the next look at sandboxes: another removal in it was perhaps under way.
                self.leaving.insert(framework, TAKE_AWAY_TRIES);
                None
            }
            Event::Input(input) => {
                if let Input::Prepared { launch, .. } = &input {
                    self.preparing.remove(launch);
                }
                Some(input)
            }
        }
    }

    /// Work that ended without a word: a bug of ours, which must not leave a launch or the connection
    /// waiting for ever. What was aborted on purpose is in neither place any more.
    fn on_work_failed(&mut self, id: tokio::task::Id) -> Option<Input> {
        let connection = self.connection.as_ref();
        if connection.is_some_and(|connection| connection.reader.id() == id) {
            self.connection = None;
            return Some(Input::Disconnected {
                why: "its reader failed: a bug".to_owned(),
            });
        }
        let mut preparing = self.preparing.iter();
        let (launch, _) = preparing.find(|(_, handle)| handle.id() == id)?;
        let launch = *launch;
        self.preparing.remove(&launch);
        let text = "making its sandbox failed: a bug in the agent";
        Some(Input::Prepared {
            launch,
            outcome: Err(Reason::new(code::LAUNCH_FAILED, Remedy::Retry, text).into()),
        })
    }

    fn look_at_disk(&self) -> Input {
        let disk_is_low = match self.parts.sandboxes.disk() {
            Ok(room) => room.is_low(self.parts.config.disk_free_min_bytes),
            Err(error) => {
                tracing::warn!(%error, "free disk cannot be told");
                false
            }
        };
        Input::Clean { disk_is_low }
    }

    fn now(&self) -> Timestamp {
        let (instant, timestamp) = self.began;
        let passed = u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX);
        timestamp + proffer_model::Duration(passed)
    }

    fn wake_at(&self) -> Instant {
        let hurry = self.leaving.values().any(|tries| *tries < TAKE_AWAY_TRIES);
        let longest = if hurry { TAKE_AWAY_EVERY } else { SLEEP_MAX };
        let sleep = self.parts.logic.next_due().map_or(longest, |due| {
            Duration::from_millis(due.since(self.now()).0).min(longest)
        });
        Instant::now() + sleep
    }

    async fn shut_down(self) {
        let Self {
            parts,
            mut work,
            connection,
            ..
        } = self;
        drop(connection);
        work.abort_all();
        let ending = async {
            // News may still come; nobody waits for it, the next agent asks again.
            drop(parts.from_runners);
            parts.runners.shut_down().await;
            while work.join_next().await.is_some() {}
        };
        if tokio::time::timeout(SHUTDOWN_WITHIN, ending).await.is_err() {
            tracing::warn!("the agent ended before all of its work did");
        }
    }
}

async fn on_disk(
    write: impl FnOnce() -> Result<(), JournalError> + Send + 'static,
) -> Result<(), AgentError> {
    match tokio::task::spawn_blocking(write).await {
        Ok(written) => Ok(written?),
        Err(error) => Err(JournalError::Disk(std::io::Error::other(error)).into()),
    }
}

fn input_of_news(news: RunnerNews) -> Input {
    Input::Runner {
        launch: news.launch,
        found: news.found,
    }
}
