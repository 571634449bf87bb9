//! Tasks: their records, and what agents tell of them.

use std::sync::Arc;

use proffer_codec::codec_struct;
use proffer_model::agent::{LaunchUpdate, ToAgent};
use proffer_model::fact::{LaunchRecord, OutputRecord};
use proffer_model::{
    AgentId, Duration, FrameworkId, LaunchNumber, Reason, Remedy, TaskId, TaskSpec, TaskState,
    TaskUpdate, Timestamp, UpdateSource, code,
};

use crate::action::Action;
use crate::event::ConnectionId;
use crate::framework::Item;
use crate::handles::ClientId;
use crate::machine::Core;

/// A task as the core knows it.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) launch: LaunchNumber,
    pub(crate) group: LaunchNumber,
    pub(crate) agent: AgentId,
    pub(crate) client: ClientId,
    pub(crate) role: proffer_model::RoleName,
    /// What the framework was told, durably.
    pub(crate) state: TaskState,
    /// The newest word of agent or host.
    pub(crate) latest: TaskState,
    pub(crate) why: Reason,
    pub(crate) exit: Option<i32>,
    /// Its resources are in the ledger: until the newest word is final.
    pub(crate) holds: bool,
    /// The agent has spoken of it: it need not be sent again.
    pub(crate) seen: bool,
    /// Sequence up to which updates were taken by a committed step.
    pub(crate) acknowledged: u64,
    /// Sequence up to which updates are queued.
    pub(crate) queued: u64,
    /// The state that its framework will have been told when its queue is empty.
    pub(crate) queued_state: TaskState,
    /// A kill was asked for, with this grace.
    pub(crate) kill: Option<Duration>,
    pub(crate) launched_at: Timestamp,
    pub(crate) running_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
}

codec_struct!(Task {
    spec,
    launch,
    group,
    agent,
    client,
    role,
    state,
    latest,
    why,
    exit,
    holds,
    seen,
    acknowledged,
    queued,
    queued_state,
    kill,
    launched_at,
    running_at,
    ended_at
});

impl Task {
    pub(crate) fn new(record: &LaunchRecord, client: ClientId) -> Self {
        Self {
            spec: Arc::clone(&record.task),
            launch: record.launch,
            group: record.group,
            agent: record.agent,
            client,
            role: record.role.clone(),
            state: TaskState::Staging,
            latest: TaskState::Staging,
            why: Reason::new("launched", Remedy::Retry, "launched"),
            exit: None,
            holds: true,
            seen: false,
            acknowledged: 0,
            queued: 0,
            queued_state: TaskState::Staging,
            kill: None,
            launched_at: record.at,
            running_at: None,
            ended_at: None,
        }
    }

    /// Grace may only get shorter.
    pub(crate) fn ask_kill(&mut self, grace: Duration) {
        self.kill = Some(self.kill.map_or(grace, |before| before.min(grace)));
    }

    /// What the framework was told; final states stay, and then this answers false.
    pub(crate) fn told(
        &mut self,
        state: TaskState,
        why: &Reason,
        exit: Option<i32>,
        at: Timestamp,
    ) -> bool {
        if self.state.is_final() {
            return false;
        }
        self.state = state;
        self.why = why.clone();
        self.exit = exit;
        if state.is_final() {
            self.ended_at = Some(at);
        }
        true
    }

    /// The update that says where the task stands, in the host's own words.
    pub(crate) fn restated(&self, code: &'static str, text: &str, at: Timestamp) -> TaskUpdate {
        TaskUpdate {
            exit: self.exit,
            ..host_update(
                self.spec.id.clone(),
                Some(self.agent),
                self.queued_state,
                Reason::new(code, Remedy::Retry, text),
                at,
            )
        }
    }
}

/// An update that the host says by itself: nobody acknowledges it.
pub(crate) fn host_update(
    task: TaskId,
    agent: Option<AgentId>,
    state: TaskState,
    why: Reason,
    at: Timestamp,
) -> TaskUpdate {
    TaskUpdate {
        task,
        agent,
        state,
        sequence: 0,
        at,
        source: UpdateSource::Host,
        why,
        exit: None,
        healthy: None,
        ready: None,
        address: String::new(),
        data: Vec::new(),
    }
}

impl Core {
    /// An agent's word on a task.
    pub(crate) fn task_updated(&mut self, connection: ConnectionId, update: LaunchUpdate) {
        let Some(agent) = self.heard(connection) else {
            return;
        };
        let LaunchUpdate {
            framework,
            launch,
            update,
            latest,
        } = update;
        let known = self
            .launches
            .get(&launch)
            .filter(|(owner, _)| *owner == framework)
            .cloned();
        let Some((framework, id)) = known else {
            // Forgotten long ago, or of a framework that is gone: the agent may forget it too.
            self.acknowledge(connection, launch, update.sequence);
            return;
        };
        let Some(task) = self
            .frameworks
            .get_mut(&framework)
            .and_then(|f| f.tasks.get_mut(&id))
            .map(Arc::make_mut)
        else {
            return;
        };
        if task.agent != agent {
            return;
        }
        task.seen = true;
        if update.sequence <= task.acknowledged || task.state.is_final() {
            self.counters_mut(framework).updates_repeated += 1;
            self.acknowledge(connection, launch, update.sequence);
            return;
        }
        self.task_heard_latest(framework, &id, latest);
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let Some(task) = fw.tasks.get_mut(&id).map(Arc::make_mut) else {
            return;
        };
        // What comes after an end that waits for its framework is not acknowledged yet: with it the
        // agent would forget the end.
        if update.sequence <= task.queued || task.queued_state.is_final() {
            fw.counters.updates_repeated += 1;
            // Repeated, but the newest word with it may be the end that a removal waits for.
            self.finish_removals();
            return;
        }
        task.queued = update.sequence;
        task.queued_state = update.state;
        if update.state == TaskState::Running && task.running_at.is_none() {
            task.running_at = Some(update.at);
        }
        if update.why.code == code::INPUT_LOST {
            self.suspect_inputs(framework, &id, &update.data);
        }
        let update = Box::new(TaskUpdate {
            agent: Some(agent),
            ..update
        });
        #[cfg(feature = "planted")]
        if crate::planted::Planted::AckBeforeWrite.is_planted() {
            self.acknowledge(connection, launch, update.sequence);
        }
        self.enqueue(framework, Item::Update { launch, update });
        self.finish_removals();
    }

    /// The newest state that is known of a task: resources go back as soon as it is final.
    pub(crate) fn task_heard_latest(
        &mut self,
        framework: FrameworkId,
        id: &TaskId,
        latest: TaskState,
    ) {
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let Some(task) = fw.tasks.get_mut(id).map(Arc::make_mut) else {
            return;
        };
        if task.latest.is_final() {
            return;
        }
        task.latest = latest;
        if latest == TaskState::Finished && !task.spec.output.is_empty() {
            let output = OutputRecord {
                name: task.spec.output.clone(),
                task: id.clone(),
                launch: task.launch,
                agent: task.agent,
                suspect: false,
            };
            self.publish_output(framework, output);
        }
        if latest.is_final() {
            self.release_task(framework, id);
        }
    }

    /// Its resources come free, once.
    pub(crate) fn release_task(&mut self, framework: FrameworkId, id: &TaskId) {
        let Some(task) = self
            .frameworks
            .get_mut(&framework)
            .and_then(|f| f.tasks.get_mut(id))
            .map(Arc::make_mut)
        else {
            return;
        };
        if !std::mem::replace(&mut task.holds, false) {
            return;
        }
        let (agent, client, spec) = (task.agent, task.client, Arc::clone(&task.spec));
        self.feed.task_holds_no_more(task.launch);
        self.with_account(agent, client, |account| {
            account.release(client, &spec.resources)
        });
        #[cfg(feature = "planted")]
        if crate::planted::Planted::FreedTwice.is_planted() {
            self.with_account(agent, client, |account| account.free_again(&spec.resources));
        }
        self.agent_has_more(agent);
    }

    pub(crate) fn task(&self, framework: FrameworkId, id: &TaskId) -> Option<&Task> {
        let tasks = &self.frameworks.get(&framework)?.tasks;
        tasks.get(id).map(|task| &**task)
    }

    /// Tells the agent of a task that it is to end.
    pub(crate) fn send_kill(&mut self, framework: FrameworkId, id: &TaskId) {
        let Some(task) = self
            .frameworks
            .get(&framework)
            .and_then(|f| f.tasks.get(id))
        else {
            return;
        };
        let (Some(grace), false) = (task.kill, task.latest.is_final()) else {
            return;
        };
        let Some(connection) = self
            .agents
            .get(&task.agent)
            .and_then(|agent| agent.connection)
        else {
            return;
        };
        let message = Box::new(ToAgent::Kill {
            framework,
            launch: task.launch,
            grace,
        });
        self.emit_durable(Action::Send {
            connection,
            message,
        });
    }

    pub(crate) fn acknowledge(
        &mut self,
        connection: ConnectionId,
        launch: LaunchNumber,
        sequence: u64,
    ) {
        let message = Box::new(ToAgent::Acknowledge { launch, sequence });
        self.emit_durable(Action::Send {
            connection,
            message,
        });
    }
}
