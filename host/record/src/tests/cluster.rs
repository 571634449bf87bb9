//! A core under a steady workload, recorded: a framework launches tasks on what it is offered, agents
//! finish them, the native reference policy decides.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration as Span, Instant};

use proffer_core::{Action, ConnectionId, Core, CoreConfig, Event, NewFramework, Outbox, Ticket};
use proffer_model::agent::{LaunchUpdate, Registration, ToAgent};
use proffer_model::framework::{
    Accept, Act, Answer, Batch, Command, Event as Told, Operation, Part, StateWrite,
};
use proffer_model::{
    AgentInfo, Demand, Duration, Executor, Reason, Remedy, Resources, RoleName, Shape, TaskId,
    TaskSpec, TaskState, TaskUpdate, Template, Timestamp, UpdateSource,
};
use proffer_policy::{Drf, Policy};

use crate::record::{Recorder, RecordingTally};

/// A writer that takes longer for a few blocks is stuck.
const WRITER_WITHIN: Span = Span::from_secs(60);
/// Far more events than any test needs.
const EVENTS_MAX: u64 = 10_000_000;

pub(crate) struct Cluster {
    core: Core,
    recorder: Recorder,
    policy: Drf,
    queue: VecDeque<Event>,
    running: VecDeque<(ConnectionId, LaunchUpdate)>,
    launched: u64,
    now: u64,
    pub(crate) events: u64,
    pub(crate) actions: u64,
}

/// A core that has not been told anything, for so many agents.
pub(crate) fn core_with(agents: u64) -> Core {
    let config = CoreConfig {
        seed: agents,
        ..CoreConfig::default()
    };
    Core::new(config, Timestamp(1))
}

impl Cluster {
    pub(crate) fn new(core: Core, recorder: Recorder) -> Self {
        let mut policy = Drf::default();
        policy.configure("").unwrap();
        let mut queue: VecDeque<Event> = (0..4).map(registration).collect();
        queue.push_back(Event::FrameworkAdded {
            ticket: Ticket(1),
            framework: Box::new(NewFramework {
                name: "f0".into(),
                version: "1".to_owned(),
                digest: String::new(),
                roles: vec![RoleName::star()],
                config: String::new(),
                gpus: false,
                options: proffer_model::fact::FrameworkOptions::default(),
            }),
        });
        Self {
            core,
            recorder,
            policy,
            queue,
            running: VecDeque::new(),
            launched: 0,
            now: 1,
            events: 0,
            actions: 0,
        }
    }

    /// Runs until so many more tasks were launched.
    pub(crate) fn run(&mut self, tasks: u64) {
        let wanted = self.launched + tasks;
        while self.launched < wanted {
            self.next();
        }
    }

    pub(crate) fn run_until(&mut self, done: impl Fn() -> bool) {
        while !done() {
            self.next();
            assert!(self.events < EVENTS_MAX, "it never happens");
        }
    }

    /// Ends the recording.
    pub(crate) fn stop(&mut self) {
        self.recorder = Recorder::off();
    }

    pub(crate) fn wait_for_writer(&mut self, tally: &RecordingTally) {
        let until = Instant::now() + WRITER_WITHIN;
        // A receiver with a deadline waits without a sleep of fixed length.
        let (_keep, never) = mpsc::channel::<()>();
        while tally.waiting.load(Ordering::Relaxed) > 0 {
            assert!(Instant::now() < until, "the writer is stuck");
            let waited = never.recv_timeout(Span::from_millis(1));
            waited.unwrap_err();
        }
    }

    fn next(&mut self) {
        let event = self.queue.pop_front().unwrap_or_else(|| {
            self.now += 1;
            match self.running.pop_front() {
                None => Event::Ticked,
                Some((connection, mut update)) => {
                    update.update.state = TaskState::Finished;
                    update.update.sequence = 2;
                    update.latest = TaskState::Finished;
                    Event::TaskUpdated {
                        connection,
                        update: Box::new(update),
                    }
                }
            }
        });
        let mut out = Outbox::new();
        self.recorder.event(Timestamp(self.now), &event);
        self.core.handle(Timestamp(self.now), event, &mut out);
        let actions: Vec<Action> = out.drain().collect();
        self.recorder.actions(&actions);
        self.events += 1;
        self.actions += actions.len() as u64;
        for action in actions {
            self.perform(action);
        }
        let tally = self.recorder.tally();
        if tally.waiting.load(Ordering::Relaxed) > 8 {
            self.wait_for_writer(&tally);
        }
        self.recorder.rest(&self.core);
    }

    fn perform(&mut self, action: Action) {
        let answer = match action {
            Action::Persist { seq, .. } => Event::Persisted(seq),
            Action::Send {
                connection,
                message,
            } => return self.agent_told(connection, *message),
            Action::RunStep {
                framework,
                attempt,
                batch,
            } => Event::StepCompleted {
                framework,
                step: batch.step,
                attempt,
                writes: vec![StateWrite::Set("step".to_owned(), vec![7; 40].into())],
                answer: Box::new(self.step(&batch)),
            },
            Action::RunPolicy { changes, cycle, .. } => {
                for part in &changes {
                    self.policy.apply(part);
                }
                let proposal = Box::new(self.policy.decide(&cycle));
                let cycle = cycle.number;
                Event::PolicyProposed { cycle, proposal }
            }
            _ => return,
        };
        self.queue.push_back(answer);
    }

    fn agent_told(&mut self, connection: ConnectionId, message: ToAgent) {
        let launches = match message {
            ToAgent::Launch(launches) => launches,
            ToAgent::Heartbeat => return self.queue.push_back(Event::AgentHeard { connection }),
            _ => return,
        };
        for launch in launches {
            let update = LaunchUpdate {
                framework: launch.framework,
                launch: launch.number,
                update: TaskUpdate {
                    task: launch.task.id.clone(),
                    agent: None,
                    state: TaskState::Running,
                    sequence: 1,
                    at: Timestamp(self.now),
                    source: UpdateSource::Executor,
                    why: Reason::new("", Remedy::Retry, ""),
                    exit: None,
                    healthy: None,
                    ready: None,
                    address: String::new(),
                    data: Vec::new(),
                },
                latest: TaskState::Running,
            };
            self.queue.push_back(Event::TaskUpdated {
                connection,
                update: Box::new(update.clone()),
            });
            self.running.push_back((connection, update));
        }
    }

    /// Fills every offer with tasks.
    fn step(&mut self, batch: &Batch) -> Answer {
        let mut commands = Vec::new();
        for event in &batch.events {
            match event {
                Told::Started(_) => commands.push(demand()),
                Told::Offers(offers) => {
                    for offer in offers {
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
                _ => {}
            }
        }
        Answer { commands }
    }

    fn task(&mut self) -> TaskSpec {
        self.launched += 1;
        TaskSpec {
            id: TaskId::new(format!("t{}", self.launched)).unwrap(),
            template: Template {
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
            },
            resources: unit(),
            args: Vec::new(),
            env: Vec::new(),
            inputs: Vec::new(),
            mounts: Vec::new(),
            output: String::new(),
            priority: 0,
        }
    }
}

fn unit() -> Resources {
    Resources::plain("cpus:1;mem:1024".parse().unwrap())
}

fn demand() -> Command {
    Command::SetDemand(Box::new(Demand {
        key: "tasks".to_owned(),
        role: RoleName::star(),
        shape: Shape {
            resources: unit(),
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

fn registration(number: u64) -> Event {
    Event::AgentRegistered {
        connection: ConnectionId(number),
        registration: Box::new(Registration {
            agent: None,
            key: format!("key {number}"),
            boot: "boot".to_owned(),
            info: Arc::new(AgentInfo {
                hostname: format!("host{number}").into(),
                region: "".into(),
                zone: "".into(),
                attributes: Vec::new(),
            }),
            total: "cpus:16;mem:65536;ports:[31000-32000]".parse().unwrap(),
            special: proffer_model::Resources::none(),
            data_address: String::new(),
            launches: Vec::new(),
        }),
    }
}
