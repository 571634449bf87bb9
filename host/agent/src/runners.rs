//! The agent's side of its runners: one actor per framework, which finds or starts the runner, passes
//! commands on and says what becomes of launches. When a runner is gone, its status files speak.

mod link;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proffer_model::agent::Launch;
use proffer_model::{FrameworkId, LaunchNumber};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::RunnerProgram;
use crate::fetch::Components;
use crate::logic::{End, Found, Outcome};
use crate::sandbox::Sandboxes;
use crate::users::TaskUsers;

/// Commands that wait for one runner. A burst of launches of one framework on one agent fits.
const COMMANDS_QUEUE: usize = 16_384;

/// What the agent wants of a runner.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start a launch that is prepared.
    Start(Arc<Launch>),
    /// End it.
    Stop(LaunchNumber, proffer_model::Duration),
    /// Say what became of launches of an earlier agent process; start no runner for that.
    Inquire(Vec<LaunchNumber>),
    /// How it ended is known for good.
    Forget(LaunchNumber),
    /// End the runner, if nothing runs in it.
    Dismiss,
}

/// What a runner, or what is left of it, says.
#[derive(Debug)]
pub(crate) struct RunnerNews {
    pub(crate) launch: LaunchNumber,
    pub(crate) found: Found,
}

/// How runners are started.
#[derive(Clone, Debug)]
pub(crate) struct RunnerSetup {
    pub(crate) program: RunnerProgram,
    pub(crate) users: TaskUsers,
    pub(crate) idle: Duration,
    pub(crate) sandboxes: Arc<Sandboxes>,
    pub(crate) components: Components,
}

/// All runners of an agent.
#[derive(Debug)]
pub(crate) struct Runners {
    setup: RunnerSetup,
    news: mpsc::Sender<RunnerNews>,
    links: BTreeMap<FrameworkId, mpsc::Sender<Command>>,
    actors: JoinSet<()>,
}

impl Runners {
    pub(crate) fn new(setup: RunnerSetup, news: mpsc::Sender<RunnerNews>) -> Self {
        Self {
            setup,
            news,
            links: BTreeMap::new(),
            actors: JoinSet::new(),
        }
    }

    /// Queues a command. If a launch cannot be started because too many wait, that is its end.
    pub(crate) fn command(
        &mut self,
        framework: FrameworkId,
        command: Command,
    ) -> Option<RunnerNews> {
        let Self {
            setup,
            news,
            links,
            actors,
        } = self;
        let link = links.entry(framework).or_insert_with(|| {
            let (link, commands) = mpsc::channel(COMMANDS_QUEUE);
            actors.spawn(link::run(setup.clone(), framework, commands, news.clone()));
            link
        });
        // The actor lives as long as its sender, so the queue is full.
        match link.try_send(command) {
            Ok(()) => None,
            Err(error) => match error.into_inner() {
                Command::Start(launch) => Some(RunnerNews {
                    launch: launch.number,
                    found: not_started(format!("{COMMANDS_QUEUE} commands wait for its runner")),
                }),
                command => {
                    tracing::error!(%framework, ?command, "too many commands wait for a runner");
                    None
                }
            },
        }
    }

    /// Nothing more will be wanted of a framework: its actor ends.
    pub(crate) fn forget(&mut self, framework: FrameworkId) {
        self.links.remove(&framework);
        // Those that have ended are collected, so that nothing piles up.
        while self.actors.try_join_next().is_some() {}
    }

    /// Ends the actors; runners stay with what they run, idle ones are told to end. Bounded by the
    /// caller.
    pub(crate) async fn shut_down(mut self) {
        for link in self.links.values() {
            // A full queue is dropped with the actor; its runner ends when it has idled.
            let _queued = link.try_send(Command::Dismiss).is_ok();
        }
        self.links.clear();
        while self.actors.join_next().await.is_some() {}
    }
}

fn not_started(text: String) -> Found {
    Found::Ended(End {
        outcome: Outcome::NotStarted(text),
        stopped: false,
        data: Vec::new(),
    })
}
