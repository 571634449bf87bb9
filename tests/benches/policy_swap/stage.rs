//! A busy cluster around a real core and the host's own policies' task: agents run what they are told,
//! frameworks fill every offer with tasks, tasks end, and policies are swapped meanwhile.
//!
//! Everything that may not happen to offers and tasks is checked as it would happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration as Span, Instant};

use proffer_core::{
    Action, ConnectionId, Core, CoreConfig, Event, NewFramework, Outbox, PolicySwap, Reply, Ticket,
};
use proffer_daemon::PolicyDesk;
use proffer_model::agent::{LaunchUpdate, ToAgent};
use proffer_model::framework::{
    Accept, Act, Answer, Batch, Command, Event as Told, Operation, Part,
};
use proffer_model::policy::Section;
use proffer_model::{
    Demand, Duration, Executor, FrameworkId, LaunchNumber, OfferId, Resources, RoleName, Shape,
    TaskId, TaskSpec, TaskState, Template, Timestamp,
};
use proffer_plugin::{Kind, LoadedPlugin, PluginHost, PluginHostConfig};
use proffer_store::Components;
use proffer_tests::simulated;
use tokio::runtime::Runtime;

/// What one task holds, and one agent has: four such.
const UNIT: &str = "cpus:1;mem:1024";
const TOTAL: &str = "cpus:4;mem:8192";
/// Nobody is away here, however slow the machine.
const NEVER: Duration = Duration(30 * Duration::DAY.0);
/// What is waited for comes within this, on a busy machine too.
const WITHIN: Span = Span::from_secs(120);
/// Tasks that end between two looks at what policies have answered.
const ENDED_AT_ONCE: usize = 20;

pub(crate) struct Stage {
    pub(crate) core: Core,
    desk: PolicyDesk,
    runtime: Runtime,
    plugins: PluginHost,
    /// Of the components that are loaded.
    _dir: tempfile::TempDir,
    began: Instant,
    queue: VecDeque<Event>,
    /// Tasks that run, oldest first.
    running: VecDeque<(ConnectionId, LaunchUpdate)>,
    launches: BTreeSet<LaunchNumber>,
    told: BTreeSet<OfferId>,
    launched: u64,
    tickets: u64,
    replies: BTreeMap<Ticket, Reply>,
    /// Cycles asked for and not answered.
    cycles_open: u64,
    /// A policy took the seat then, and has not answered its first cycle.
    switched: Option<(Instant, Span)>,
    pauses: Vec<Pause>,
    cycles: Vec<Span>,
    cycle_began: Instant,
    carried: BTreeMap<String, u64>,
    template: Template,
    unit: Resources,
}

/// From a switch to the first answer of the new policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    pub(crate) lasted: Span,
    /// The loop's thread could have run and did not.
    pub(crate) queued: Span,
}

impl Stage {
    pub(crate) fn new(agents: u32, frameworks: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let plugins = PluginHost::new(PluginHostConfig::default()).expect("a plug-in host");
        let components = Components::new(dir.path().join("components"));
        let desk = {
            let _inside = runtime.enter();
            PolicyDesk::start(plugins.clone(), components)
        };
        let config = CoreConfig {
            heartbeat: NEVER,
            agent_timeout: NEVER,
            lease: NEVER,
            ended_tasks_max: 0,
            ..CoreConfig::default()
        };
        let mut stage = Self {
            core: Core::new(config, Timestamp(1)),
            desk,
            runtime,
            plugins,
            _dir: dir,
            began: Instant::now(),
            queue: (0..agents).map(registration).collect(),
            running: VecDeque::new(),
            launches: BTreeSet::new(),
            told: BTreeSet::new(),
            launched: 0,
            tickets: u64::from(frameworks),
            replies: BTreeMap::new(),
            cycles_open: 0,
            switched: None,
            pauses: Vec::new(),
            cycles: Vec::new(),
            cycle_began: Instant::now(),
            carried: BTreeMap::new(),
            template: template(),
            unit: Resources::plain(UNIT.parse().expect("resources")),
        };
        stage.queue.extend((0..frameworks).map(framework));
        while stage.running.len() < agents as usize * 4 {
            stage.turn(0);
        }
        stage
    }

    /// A component, compiled.
    pub(crate) fn load(&self, component: &std::path::Path) -> LoadedPlugin {
        let bytes = std::fs::read(component).expect("a component that was just built");
        let loaded = self.plugins.load(bytes, Kind::Policy);
        self.runtime.block_on(loaded).expect("a policy")
    }

    /// Puts a policy in while a cycle is under way; answers when its first cycle was answered.
    pub(crate) fn swap(&mut self, plugin: &LoadedPlugin, config: &str) -> Pause {
        let prepared = self.desk.prepare(plugin.clone(), config);
        let swap = self.runtime.block_on(prepared).expect("a policy");
        let begun = Instant::now();
        while self.cycles_open == 0 {
            self.turn(ENDED_AT_ONCE);
            assert!(begun.elapsed() < WITHIN, "no cycle begins");
        }
        let ticket = self.ask(swap);
        let pauses = self.pauses.len();
        while self.pauses.len() == pauses {
            self.turn(ENDED_AT_ONCE);
            assert!(begun.elapsed() < WITHIN, "the swap does not end");
        }
        assert_eq!(self.replies.remove(&ticket), Some(Reply::Done));
        self.core.check_invariants().expect("what must hold");
        self.pauses[pauses]
    }

    /// Lets the cluster go on until something is so.
    pub(crate) fn until(&mut self, mut so: impl FnMut(&Core) -> bool) {
        let begun = Instant::now();
        while !so(&self.core) {
            // One by one, so that there is something to decide for long.
            let ends = self.cycles_open == 0 && !self.running.is_empty();
            self.turn(usize::from(ends));
            assert!(begun.elapsed() < WITHIN, "it does not come about");
        }
    }

    fn ask(&mut self, swap: PolicySwap) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let swap = Box::new(swap);
        self.handle(Event::PolicySwapAsked { ticket, swap });
        ticket
    }

    /// How long cycles took from question to answer.
    pub(crate) fn cycles(&self) -> &[Span] {
        &self.cycles
    }

    /// Tasks launched, and tasks that run.
    pub(crate) fn tasks(&self) -> (u64, usize) {
        (self.launched, self.running.len())
    }

    /// Everything that waits, some tasks' ends, and what policies have answered.
    fn turn(&mut self, ends: usize) {
        while let Some(event) = self.queue.pop_front() {
            self.handle(event);
        }
        for _ in 0..ends.min(self.running.len()) {
            self.end_task();
        }
        let answered = if self.queue.is_empty() && ends == 0 && self.cycles_open > 0 {
            let desk = &mut self.desk;
            self.runtime.block_on(desk.event())
        } else {
            self.desk.event_now()
        };
        if let Some(event) = answered {
            self.handle(event);
        } else if self.queue.is_empty() && ends == 0 {
            self.handle(Event::Ticked);
        }
    }

    fn end_task(&mut self) {
        if let Some((connection, mut update)) = self.running.pop_front() {
            self.launches.remove(&update.launch);
            update.update.state = TaskState::Finished;
            update.update.sequence = 2;
            update.latest = TaskState::Finished;
            let update = Box::new(update);
            self.queue
                .push_back(Event::TaskUpdated { connection, update });
        }
    }

    fn handle(&mut self, event: Event) {
        self.see(&event);
        let before: Vec<OfferId> = self.core.offers(None).map(|offer| offer.id).collect();
        let mut out = Outbox::new();
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.core.handle(Timestamp(1 + elapsed), event, &mut out);
        for action in out.drain().collect::<Vec<_>>() {
            if matches!(action, Action::SwitchPolicy { .. }) {
                let after: BTreeSet<OfferId> = self.core.offers(None).map(|o| o.id).collect();
                let kept = before.iter().all(|offer| after.contains(offer));
                assert!(kept, "an offer was lost with the switch");
                self.switched = Some((Instant::now(), run_queue_delay()));
            }
            self.perform(action);
        }
    }

    /// What policies say, before the core hears it.
    fn see(&mut self, event: &Event) {
        match event {
            Event::PolicyProposed { .. } | Event::PolicyFailed { .. } => {
                self.cycles_open -= 1;
                match self.switched.take() {
                    Some((began, queued)) => self.pauses.push(Pause {
                        lasted: began.elapsed(),
                        queued: run_queue_delay().saturating_sub(queued),
                    }),
                    None => self.cycles.push(self.cycle_began.elapsed()),
                }
            }
            Event::PolicyCarried { sections } => self.check_carried(sections),
            Event::CandidateFailed { fault, .. } => panic!("a candidate failed: {fault}"),
            _ => {}
        }
    }

    /// How often each was served is not forgotten from one policy to the next.
    fn check_carried(&mut self, sections: &[Section]) {
        let Some(usage) = sections.iter().find(|section| section.name == "usage") else {
            panic!("nothing is carried");
        };
        let text = std::str::from_utf8(&usage.data).expect("a text");
        for line in text.lines().filter(|line| line.starts_with("client\t")) {
            let (who, count) = line.rsplit_once('\t').expect("a count");
            let count: u64 = count.parse().expect("a number");
            let before = self.carried.insert(who.to_owned(), count).unwrap_or(0);
            assert!(before <= count, "{who} had {before} and has {count}");
        }
    }

    fn perform(&mut self, action: Action) {
        if matches!(action, Action::RunPolicy { .. }) {
            self.cycles_open += 1;
            self.cycle_began = Instant::now();
        }
        let inside = self.runtime.enter();
        let others = self.desk.perform(action);
        drop(inside);
        match others {
            Some(Action::Persist { seq, .. }) => self.queue.push_back(Event::Persisted(seq)),
            Some(Action::Send {
                connection,
                message,
            }) => self.agent_told(connection, *message),
            Some(Action::RunStep {
                framework,
                attempt,
                batch,
            }) => {
                let answer = Box::new(self.step(framework, &batch));
                self.queue.push_back(Event::StepCompleted {
                    framework,
                    step: batch.step,
                    attempt,
                    writes: Vec::new(),
                    answer,
                });
            }
            Some(Action::Reply { ticket, reply }) => {
                self.replies.insert(ticket, reply);
            }
            _ => {}
        }
    }

    fn agent_told(&mut self, connection: ConnectionId, message: ToAgent) {
        let launches = match message {
            ToAgent::Launch(launches) => launches,
            ToAgent::Kill { launch, .. } => panic!("{launch} is killed"),
            _ => return,
        };
        for launch in launches {
            assert!(
                self.launches.insert(launch.number),
                "{} is launched twice",
                launch.number
            );
            let update = simulated::running(&launch, Timestamp(1));
            self.queue.push_back(Event::TaskUpdated {
                connection,
                update: Box::new(update.clone()),
            });
            self.running.push_back((connection, update));
        }
    }

    /// A framework that always wants more fills every offer with tasks.
    fn step(&mut self, framework: FrameworkId, batch: &Batch) -> Answer {
        let mut commands = Vec::new();
        for event in &batch.events {
            match event {
                Told::Started(_) => commands.push(self.demand(framework)),
                Told::Offers(offers) => {
                    for offer in offers {
                        assert!(self.told.insert(offer.id), "{} is told twice", offer.id);
                        let units = offer.resources.total().cpus.milli() / 1_000;
                        let tasks = (0..units).map(|_| self.task()).collect();
                        commands.push(Command::Accept(Accept {
                            parts: vec![Part {
                                agent: None,
                                offers: vec![offer.id],
                                operations: vec![Operation {
                                    token: String::new(),
                                    act: Act::Launch(tasks),
                                }],
                            }],
                            whole: false,
                            refuse: Some(Duration::ZERO),
                        }));
                    }
                }
                Told::Rescinded(_) => panic!("an offer is taken back"),
                Told::Rejected(rejected) => panic!("a command is rejected: {rejected:?}"),
                _ => {}
            }
        }
        Answer { commands }
    }

    fn task(&mut self) -> TaskSpec {
        self.launched += 1;
        TaskSpec {
            id: TaskId::new(format!("t{}", self.launched)).expect("an id"),
            template: self.template.clone(),
            resources: self.unit.clone(),
            args: Vec::new(),
            env: Vec::new(),
            inputs: Vec::new(),
            mounts: Vec::new(),
            output: String::new(),
            priority: 0,
        }
    }

    fn demand(&self, framework: FrameworkId) -> Command {
        Command::SetDemand(Box::new(Demand {
            key: "tasks".to_owned(),
            role: role(framework.0 - 1),
            shape: Shape {
                resources: self.unit.clone(),
                ..Shape::default()
            },
            count: 1_000_000,
            gang: 0,
            per_agent: 0,
            priority: 0,
            until: None,
            constraints: Vec::new(),
            near: Vec::new(),
            near_for: Duration::ZERO,
        }))
    }
}

/// How long this thread has waited for a processor so far.
fn run_queue_delay() -> Span {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    Span::from_nanos(nanos.unwrap_or(0))
}

fn role(number: u32) -> RoleName {
    RoleName::new(format!("r{number}")).expect("a role")
}

fn framework(number: u32) -> Event {
    Event::FrameworkAdded {
        ticket: Ticket(u64::from(number)),
        framework: Box::new(NewFramework {
            name: format!("f{number}").into(),
            version: "1".to_owned(),
            digest: String::new(),
            roles: vec![role(number)],
            config: String::new(),
            gpus: false,
            options: proffer_model::fact::FrameworkOptions::default(),
        }),
    }
}

fn registration(number: u32) -> Event {
    let registration = simulated::registration(number, TOTAL).expect("resources");
    Event::AgentRegistered {
        connection: ConnectionId(u64::from(number)),
        registration: Box::new(registration),
    }
}

fn template() -> Template {
    Template {
        name: "noop".to_owned(),
        executor: Executor::Shell("true".to_owned()),
        env: Vec::new(),
        inputs: Vec::new(),
        checks: Vec::new(),
        grace: Duration(1_000),
        longest: None,
        group: String::new(),
        labels: Vec::new(),
        options: Vec::new(),
    }
}
