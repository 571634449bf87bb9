//! Short words for values: how tests make commands, and how they read what they were told.

use proffer_core::{ConnectionId, Event};
use proffer_model::agent::{LaunchUpdate, Origin, ToAgent};
use proffer_model::framework::{
    Accept, Act, Command, Decline, Due, Event as Told, Kill, Operation, Part, Reconcile, Response,
    Timer,
};
use proffer_model::{
    Demand, Duration, Executor, FrameworkId, Input, InputMarks, LaunchNumber, OfferId, Reason,
    Remedy, RequestId, Resources, RoleName, Shape, TaskId, TaskSpec, TaskState, TaskUpdate,
    Template, Timestamp, UpdateSource, code,
};

use super::cluster::Cluster;

pub(crate) fn task_id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

pub(crate) fn plain(text: &str) -> Resources {
    Resources::plain(text.parse().unwrap())
}

/// A shell task.
pub(crate) fn task(id: &str, resources: &str) -> TaskSpec {
    TaskSpec {
        id: task_id(id),
        template: Template {
            name: "test".to_owned(),
            executor: Executor::Shell("true".to_owned()),
            env: Vec::new(),
            inputs: Vec::new(),
            checks: Vec::new(),
            grace: Duration(3_000),
            longest: None,
            group: String::new(),
            labels: Vec::new(),
            options: Vec::new(),
        },
        resources: plain(resources),
        args: Vec::new(),
        env: Vec::new(),
        inputs: Vec::new(),
        mounts: Vec::new(),
        output: String::new(),
        priority: 0,
    }
}

pub(crate) fn input(source: &str) -> Input {
    Input {
        source: source.to_owned(),
        path: "in".to_owned(),
        digest: String::new(),
        marks: InputMarks::default(),
    }
}

/// Demand for `count` units of this shape, under the only role of tests that do not care.
pub(crate) fn want(resources: &str, count: u32) -> Command {
    want_as("d", "*", resources, count, |_| {})
}

/// Demand for anything, `count` whole agents at once.
pub(crate) fn want_anything(count: u32) -> Command {
    want_as("d", "*", "", count, |_| {})
}

pub(crate) fn want_as(
    key: &str,
    role: &str,
    resources: &str,
    count: u32,
    change: impl FnOnce(&mut Demand),
) -> Command {
    let mut demand = Demand {
        key: key.to_owned(),
        role: RoleName::new(role).unwrap(),
        shape: Shape {
            resources: plain(resources),
            ..Shape::default()
        },
        count,
        gang: 0,
        per_agent: 0,
        priority: 0,
        until: None,
        constraints: Vec::new(),
        near: Vec::new(),
        near_for: Duration::ZERO,
    };
    change(&mut demand);
    Command::SetDemand(Box::new(demand))
}

pub(crate) fn launch(tasks: Vec<TaskSpec>) -> Act {
    Act::Launch(tasks)
}

pub(crate) fn part(offers: &[u64], acts: Vec<Act>) -> Part {
    Part {
        agent: None,
        offers: offers.iter().map(|id| OfferId(*id)).collect(),
        operations: acts
            .into_iter()
            .map(|act| Operation {
                token: "token".to_owned(),
                act,
            })
            .collect(),
    }
}

/// Accepts these offers of one agent for these tasks; what is left is refused for `refuse` ms.
pub(crate) fn accept(offers: &[u64], tasks: Vec<TaskSpec>, refuse: u64) -> Command {
    accept_parts(vec![part(offers, vec![launch(tasks)])], false, refuse)
}

pub(crate) fn accept_parts(parts: Vec<Part>, whole: bool, refuse: u64) -> Command {
    Command::Accept(Accept {
        parts,
        whole,
        refuse: Some(Duration(refuse)),
    })
}

pub(crate) fn decline(offers: &[u64], refuse: u64) -> Command {
    Command::Decline(Decline {
        offers: offers.iter().map(|id| OfferId(*id)).collect(),
        refuse: Some(Duration(refuse)),
        why: String::new(),
    })
}

pub(crate) fn kill(task: &str) -> Command {
    Command::Kill(Kill {
        task: task.to_owned(),
        grace: None,
        why: String::new(),
    })
}

pub(crate) fn kill_within(task: &str, grace: u64) -> Command {
    Command::Kill(Kill {
        task: task.to_owned(),
        grace: Some(Duration(grace)),
        why: String::new(),
    })
}

pub(crate) fn reconcile(tasks: &[&str]) -> Command {
    Command::Reconcile(Reconcile {
        token: "r".to_owned(),
        tasks: tasks.iter().map(|task| (*task).to_owned()).collect(),
    })
}

pub(crate) fn timer(id: &str, after: u64) -> Command {
    Command::SetTimer(Timer {
        id: id.to_owned(),
        due: Due::After(Duration(after)),
    })
}

pub(crate) fn respond(request: u64, status: u16) -> Command {
    Command::Respond(Response {
        request: RequestId(request),
        status,
        headers: Vec::new(),
        body: Vec::new(),
        topics: Vec::new(),
    })
}

/// What an agent says of a launch.
pub(crate) fn agent_update(
    launch: u64,
    framework: FrameworkId,
    task: &str,
    (sequence, state): (u64, TaskState),
) -> LaunchUpdate {
    LaunchUpdate {
        framework,
        launch: LaunchNumber(launch),
        update: TaskUpdate {
            task: task_id(task),
            agent: None,
            state,
            sequence,
            at: Timestamp(sequence),
            source: UpdateSource::Executor,
            why: Reason::new("", Remedy::Retry, ""),
            exit: None,
            healthy: None,
            ready: None,
            address: String::new(),
            data: Vec::new(),
        },
        latest: state,
    }
}

impl Cluster {
    /// An agent tells what became of a task.
    pub(crate) fn update(&mut self, agent: &str, task: &str, sequence: u64, state: TaskState) {
        self.update_with(agent, task, sequence, state, |_| {});
    }

    pub(crate) fn update_with(
        &mut self,
        agent: &str,
        task: &str,
        sequence: u64,
        state: TaskState,
        change: impl FnOnce(&mut LaunchUpdate),
    ) {
        let view = self
            .core
            .tasks(None, None)
            .find(|view| view.id.as_str() == task)
            .expect("the task is known");
        let mut update = agent_update(view.launch.0, view.framework_id, task, (sequence, state));
        change(&mut update);
        let connection: ConnectionId = self.machines[agent].connection;
        self.event(Event::TaskUpdated {
            connection,
            update: Box::new(update),
        });
    }

    /// One agent `a1` of these resources and one framework `f` that runs these tasks there, all on
    /// the first offer; agents' and framework's messages about that are gone.
    pub(crate) fn running(resources: &str, tasks: Vec<TaskSpec>) -> Self {
        let mut cluster = Self::new();
        cluster.agent("a1", resources);
        cluster.framework("f", "*");
        cluster.command("f", vec![want_anything(1)]);
        let offers = cluster.offer_ids();
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id.clone()).collect();
        let clear = Command::ClearDemand(vec!["d".to_owned()]);
        cluster.answer("f", vec![accept(&offers, tasks, 0), clear]);
        for id in ids {
            cluster.update("a1", id.as_str(), 1, TaskState::Running);
            cluster.answer("f", vec![]);
        }
        cluster.inbox("a1");
        cluster
    }
}

/// Events in words.
pub(crate) fn events(events: &[Told]) -> Vec<String> {
    events.iter().flat_map(event).collect()
}

fn event(event: &Told) -> Vec<String> {
    match event {
        Told::Started(cause) => vec![format!("started {cause:?}")],
        Told::Offers(offers) => offers
            .iter()
            .map(|offer| {
                let gang = if offer.gang == 0 { "" } else { " gang" };
                format!(
                    "offer {}: {} of {}{gang}",
                    offer.id.0, offer.resources, offer.agent
                )
            })
            .collect(),
        Told::Rescinded(all) => all
            .iter()
            .map(|gone| format!("rescinded {}: {}", gone.id, gone.why.code))
            .collect(),
        Told::Updates(all) => all.iter().map(update_in_words).collect(),
        Told::AgentsChanged(all) => all
            .iter()
            .map(|change| format!("{} {:?}", change.agent, change.standing))
            .collect(),
        Told::Timers(all) => all
            .iter()
            .map(|fired| format!("timer {}", fired.id))
            .collect(),
        Told::Request(request) => vec![format!("request {} {}", request.id.0, request.path)],
        Told::Rejected(all) => all
            .iter()
            .map(|no| format!("rejected {} {}: {}", no.command, no.subject, no.why.code))
            .collect(),
        Told::Reconciled(end) => {
            let silent: Vec<&str> = end.silent.iter().map(TaskId::as_str).collect();
            vec![format!("reconciled {}, silent {silent:?}", end.answered)]
        }
        other => vec![format!("{other:?}")],
    }
}

fn update_in_words(update: &TaskUpdate) -> String {
    let why = if update.why.code.is_empty() {
        String::new()
    } else {
        format!(" ({})", update.why.code)
    };
    format!(
        "{} {} #{}{why}",
        update.task,
        update.state.name(),
        update.sequence
    )
}

/// A message to an agent in words.
pub(crate) fn message(message: &ToAgent) -> String {
    match message {
        ToAgent::Registered { agent, .. } => format!("registered as {agent}"),
        ToAgent::Launch(launches) => {
            let all: Vec<String> = launches
                .iter()
                .map(|launch| {
                    let inputs: Vec<String> = launch
                        .inputs
                        .iter()
                        .map(|input| origin(&input.from))
                        .collect();
                    let inputs = inputs.join(" ");
                    format!("{}@{}{inputs}", launch.task.id, launch.number.0)
                })
                .collect();
            format!("launch {}", all.join(" + "))
        }
        ToAgent::Kill { launch, grace, .. } => format!("kill {} within {grace}", launch.0),
        ToAgent::Acknowledge { launch, sequence } => format!("ack {} #{sequence}", launch.0),
        ToAgent::RemoveFramework { framework } => format!("remove {framework}"),
        ToAgent::Refused { why } => format!("refused: {why}"),
        ToAgent::Heartbeat => "heartbeat".to_owned(),
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Sandbox(file) => format!(" <{}@{}", file.path, file.launch.0),
        Origin::Sandboxes(files) => files
            .iter()
            .map(|(name, file)| format!(" <{name}:{}@{}", file.path, file.launch.0))
            .collect(),
        Origin::File(path) | Origin::Http(path) => format!(" <{path}"),
    }
}

/// The reason code of invalid offers, which many tests look for.
pub(crate) const INVALID_OFFERS: &str = code::INVALID_OFFERS;

/// Says something in every test run: what is printed with macros is kept back when a test passes.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
}
