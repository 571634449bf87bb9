//! A host without its doors: a real core, the policy and the frameworks as components, and every fact
//! on disk before its effect. Only agents are simulated: whatever they are told to launch runs.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration as Span, Instant};

use proffer_core::{
    Action, ConnectionId, Core, CoreConfig, Event, NewFramework, Outbox, Reply, Seq, Ticket,
};
use proffer_daemon::PolicyDesk;
use proffer_model::agent::ToAgent;
use proffer_model::fact::{Fact, FrameworkOptions, FrameworkRecord};
use proffer_model::framework::{Batch, Context};
use proffer_model::state::StateEntries;
use proffer_model::{Duration, FrameworkId, RoleName, Timestamp};
use proffer_plugin::{
    FrameworkHandle, FrameworkInit, FrameworkLimits, Kind, LoadedPlugin, PluginHost,
    PluginHostConfig,
};
use proffer_store::{Components, Store};
use proffer_tests::simulated;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// What an agent has: room for the tasks of a large machine.
const TOTAL: &str = "cpus:160;mem:655360";
/// What a task holds.
const SHAPE: &str = "cpus:1;mem:4096";
/// Nobody is away here, however slow the machine.
const NEVER: Duration = Duration(30 * Duration::DAY.0);
/// The next placement comes within this, on a busy machine too.
const WITHIN: Span = Span::from_secs(120);

/// What a component, or the disk, has done.
enum Done {
    Step(Event),
    Stored,
}

pub(crate) struct Stage {
    core: Core,
    desk: PolicyDesk,
    runtime: Runtime,
    plugins: PluginHost,
    component: LoadedPlugin,
    frameworks: BTreeMap<FrameworkId, FrameworkHandle>,
    began: Instant,
    queue: VecDeque<Event>,
    done: mpsc::UnboundedReceiver<Done>,
    report: mpsc::UnboundedSender<Done>,
    /// To the store's thread.
    disk: mpsc::UnboundedSender<Vec<Fact>>,
    facts: Vec<Fact>,
    facts_seq: Seq,
    writing: Option<Seq>,
    wake: Option<Timestamp>,
    policy_in: Option<Reply>,
    counts: Counts,
    /// With the store and the components.
    _dir: tempfile::TempDir,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Launches that agents were told.
    pub(crate) placed: u64,
    pub(crate) facts: u64,
    pub(crate) commits: u64,
    pub(crate) steps: u64,
}

const POLICY_TICKET: Ticket = Ticket(0);

impl Stage {
    /// A pool of so many agents, and a policy that has taken its seat.
    pub(crate) fn new(agents: u32, policy: &Path, framework: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let plugins = PluginHost::new(PluginHostConfig::default()).expect("a plug-in host");
        let load = |file: &Path, kind| {
            let bytes = std::fs::read(file).expect("a component that was just built");
            runtime
                .block_on(plugins.load(bytes, kind))
                .expect("a plug-in")
        };
        let (policy, component) = (load(policy, Kind::Policy), load(framework, Kind::Framework));
        let (store, _) = proffer_store::open(&dir.path().join("store")).expect("a store");
        let (report, done) = mpsc::unbounded_channel();
        let disk = start_disk(Box::new(store), report.clone());
        let desk = {
            let _inside = runtime.enter();
            let components = Components::new(dir.path().join("components"));
            PolicyDesk::start(plugins.clone(), components)
        };
        let config = CoreConfig {
            heartbeat: NEVER,
            agent_timeout: NEVER,
            ..CoreConfig::default()
        };
        let mut stage = Self {
            core: Core::new(config, Timestamp(1)),
            desk,
            runtime,
            plugins,
            component,
            frameworks: BTreeMap::new(),
            began: Instant::now(),
            queue: (0..agents).map(registered).collect(),
            done,
            report,
            disk,
            facts: Vec::new(),
            facts_seq: Seq::default(),
            writing: None,
            wake: None,
            policy_in: None,
            counts: Counts::default(),
            _dir: dir,
        };
        let swap = stage.runtime.block_on(stage.desk.prepare(policy, ""));
        stage.queue.push_back(Event::PolicySwapAsked {
            ticket: POLICY_TICKET,
            swap: Box::new(swap.expect("a policy")),
        });
        while stage.policy_in.is_none() {
            stage.turn();
        }
        assert_eq!(stage.policy_in, Some(Reply::Done), "the policy is in");
        stage
    }

    /// Adds frameworks, each of which wants so many tasks.
    pub(crate) fn add_frameworks(&mut self, frameworks: u32, tasks: u64) {
        for number in 1..=frameworks {
            let config = serde_json::json!({"tasks": tasks, "shape": SHAPE, "argv": ["true"]});
            self.queue.push_back(Event::FrameworkAdded {
                ticket: Ticket(u64::from(number)),
                framework: Box::new(NewFramework {
                    name: format!("f{number}").into(),
                    version: "1".to_owned(),
                    digest: String::new(),
                    roles: vec![RoleName::new(format!("r{number}")).expect("a role")],
                    config: config.to_string(),
                    gpus: false,
                    options: FrameworkOptions::default(),
                }),
            });
        }
    }

    /// Lets the cluster go on until so many tasks were placed; answers what has happened by then.
    pub(crate) fn place(&mut self, placed: u64) -> Counts {
        while self.counts.placed < placed {
            self.turn();
        }
        self.counts
    }

    /// That nothing has gone wrong meanwhile.
    pub(crate) fn check(&self) {
        self.core.check_invariants().expect("what must hold");
        let policy = self.core.policy();
        assert_eq!(policy.failed_cycles, 0, "the policy has failed");
        assert_eq!(policy.fallback_cycles, 0, "the native policy has decided");
    }

    /// Everything that waits; then, if nothing came of it, the next that a plug-in or the disk has done.
    fn turn(&mut self) {
        while let Some(event) = self.queue.pop_front() {
            self.handle(event);
        }
        if self.writing.is_none() && !self.facts.is_empty() {
            let facts = std::mem::take(&mut self.facts);
            self.counts.facts += facts.len() as u64;
            self.counts.commits += 1;
            self.writing = Some(self.facts_seq);
            self.disk.send(facts).expect("the store's thread lives");
        }
        let now = self.now();
        let rest = self
            .wake
            .map(|at| Span::from_millis(at.0.saturating_sub(now.0)));
        let next = self.runtime.block_on(async {
            tokio::select! {
                done = self.done.recv() => done,
                event = self.desk.event() => event.map(Done::Step),
                () = tokio::time::sleep(rest.unwrap_or(WITHIN)) => None,
            }
        });
        match next {
            Some(Done::Step(event)) => self.queue.push_back(event),
            Some(Done::Stored) => {
                let seq = self.writing.take().expect("it was writing");
                self.queue.push_back(Event::Persisted(seq));
            }
            None => {
                assert!(rest.is_some(), "nothing happens any more");
                self.wake = None;
                self.queue.push_back(Event::Ticked);
            }
        }
    }

    fn now(&self) -> Timestamp {
        let elapsed = self.began.elapsed().as_millis();
        Timestamp(1 + u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn handle(&mut self, event: Event) {
        let mut out = Outbox::new();
        let now = self.now();
        self.core.handle(now, event, &mut out);
        for action in out.drain() {
            self.perform(action, now);
        }
    }

    fn perform(&mut self, action: Action, now: Timestamp) {
        let others = {
            let _inside = self.runtime.enter();
            self.desk.perform(action)
        };
        match others {
            Some(Action::Persist { seq, facts }) => {
                self.facts.extend(facts);
                self.facts_seq = seq;
            }
            Some(Action::Send {
                connection,
                message,
            }) => self.agent_told(connection, *message, now),
            Some(Action::StartFramework(record)) => self.start(*record),
            Some(Action::RunStep {
                framework,
                attempt,
                batch,
            }) => self.step(framework, attempt, *batch),
            Some(Action::Reply {
                ticket: POLICY_TICKET,
                reply,
            }) => self.policy_in = Some(reply),
            Some(Action::Wake(at)) => self.wake = Some(at),
            Some(Action::Note { why, .. }) => panic!("{}: {}", why.code, why.text),
            _ => {}
        }
    }

    fn agent_told(&mut self, connection: ConnectionId, message: ToAgent, now: Timestamp) {
        let ToAgent::Launch(launches) = message else {
            return;
        };
        for launch in launches {
            self.counts.placed += 1;
            self.queue.push_back(Event::TaskUpdated {
                connection,
                update: Box::new(simulated::running(&launch, now)),
            });
        }
    }

    fn start(&mut self, record: FrameworkRecord) {
        let init = FrameworkInit {
            loaded: self.component.clone(),
            context: Context {
                name: record.name.to_string(),
                id: record.framework.to_string(),
                cluster: "bench".to_owned(),
                region: String::new(),
                version: "1".to_owned(),
                roles: record.roles,
                config: record.config,
                limits: Vec::new(),
            },
            framework: record.framework,
            state: StateEntries::new(),
            limits: FrameworkLimits::default(),
            seed: 1,
        };
        let handle = self.plugins.spawn_framework(init).expect("a framework");
        self.frameworks.insert(record.framework, handle);
    }

    fn step(&mut self, framework: FrameworkId, attempt: u32, batch: Batch) {
        self.counts.steps += 1;
        let handle = self.frameworks[&framework].clone();
        let report = self.report.clone();
        self.runtime.spawn(async move {
            let step = batch.step;
            let committed = handle.step(batch).await.result.expect("a good step");
            let event = Event::StepCompleted {
                framework,
                step,
                attempt,
                writes: committed.writes,
                answer: Box::new(committed.answer),
            };
            // Nobody listens when the benchmark has ended.
            let _ended = report.send(Done::Step(event)).is_err();
        });
    }
}

/// The store's thread: a transaction for all facts that have come meanwhile.
fn start_disk(
    mut store: Box<dyn Store>,
    report: mpsc::UnboundedSender<Done>,
) -> mpsc::UnboundedSender<Vec<Fact>> {
    let (disk, mut jobs) = mpsc::unbounded_channel::<Vec<Fact>>();
    std::thread::Builder::new()
        .name("proffer-store".to_owned())
        .spawn(move || {
            while let Some(facts) = jobs.blocking_recv() {
                store.append(&facts).expect("the disk takes it");
                if report.send(Done::Stored).is_err() {
                    return;
                }
            }
        })
        .expect("a thread");
    disk
}

fn registered(number: u32) -> Event {
    let registration = simulated::registration(number, TOTAL).expect("resources");
    Event::AgentRegistered {
        connection: ConnectionId(u64::from(number)),
        registration: Box::new(registration),
    }
}
