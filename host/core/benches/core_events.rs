//! Events per second of the core on a steady workload: frameworks launch tasks on what they are
//! offered, agents finish them, the native reference policy decides. The shell does nothing else.
//!
//! `cargo bench -p proffer-core` prints one line per size: agents, frameworks, tasks run, events,
//! and how many of each per second of CPU time spent in the core and in the policy.

#![expect(
    clippy::disallowed_types,
    reason = "a benchmark measures; the core has no clock"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use proffer_core::{Action, ConnectionId, Core, CoreConfig, Event, NewFramework, Outbox, Ticket};
use proffer_model::agent::{LaunchUpdate, Registration, ToAgent};
use proffer_model::framework::{
    Accept, Act, Answer, Batch, Command, Event as Told, Operation, Part,
};
use proffer_model::{
    AgentInfo, Demand, Duration, Executor, FrameworkId, Reason, Remedy, Resources, RoleName, Shape,
    TaskId, TaskSpec, TaskState, TaskUpdate, Template, Timestamp, UpdateSource,
};
use proffer_policy::{Drf, Policy};

/// What one task holds.
const UNIT: &str = "cpus:1;mem:1024";
/// What one agent has: 16 such tasks.
const TOTAL: &str = "cpus:16;mem:65536;ports:[31000-32000]";

struct Bench {
    core: Core,
    policy: Drf,
    queue: VecDeque<Event>,
    /// Tasks that run, oldest first.
    running: VecDeque<(ConnectionId, LaunchUpdate)>,
    template: Template,
    unit: Resources,
    launched: u64,
    events: u64,
    cycles: u64,
    in_core: std::time::Duration,
    in_policy: std::time::Duration,
    now: u64,
}

impl Bench {
    fn new(agents: u32, frameworks: u32) -> Self {
        let mut policy = Drf::default();
        policy.configure("").expect("the default configuration");
        let config = CoreConfig::default();
        let mut bench = Self {
            core: Core::new(config, Timestamp(1)),
            policy,
            queue: VecDeque::new(),
            running: VecDeque::new(),
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
            unit: Resources::plain(UNIT.parse().expect("resources")),
            launched: 0,
            events: 0,
            cycles: 0,
            in_core: std::time::Duration::ZERO,
            in_policy: std::time::Duration::ZERO,
            now: 1,
        };
        for number in 0..agents {
            bench.queue.push_back(registration(number));
        }
        for number in 0..frameworks {
            bench.queue.push_back(Event::FrameworkAdded {
                ticket: Ticket(u64::from(number)),
                framework: Box::new(NewFramework {
                    name: format!("f{number}").into(),
                    version: "1".to_owned(),
                    digest: String::new(),
                    roles: vec![RoleName::new(format!("r{number}")).expect("a role")],
                    config: String::new(),
                    gpus: false,
                    options: proffer_model::fact::FrameworkOptions::default(),
                }),
            });
        }
        bench
    }

    /// Runs until so many tasks were launched.
    fn run(&mut self, tasks: u64) {
        while self.launched < tasks {
            if let Some(event) = self.queue.pop_front() {
                self.handle(event);
            } else if let Some((connection, mut update)) = self.running.pop_front() {
                update.update.state = TaskState::Finished;
                update.update.sequence = 2;
                update.latest = TaskState::Finished;
                self.now += 1;
                self.queue.push_back(Event::TaskUpdated {
                    connection,
                    update: Box::new(update),
                });
            } else {
                self.now += 100;
                self.queue.push_back(Event::Ticked);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let mut out = Outbox::new();
        let begin = Instant::now();
        self.core.handle(Timestamp(self.now), event, &mut out);
        self.in_core += begin.elapsed();
        self.events += 1;
        for action in out.drain().collect::<Vec<_>>() {
            match action {
                Action::Persist { seq, .. } => self.queue.push_back(Event::Persisted(seq)),
                Action::Send {
                    connection,
                    message,
                } => self.agent_told(connection, *message),
                Action::RunStep {
                    framework,
                    attempt,
                    batch,
                } => {
                    let answer = Box::new(self.step(framework, &batch));
                    self.queue.push_back(Event::StepCompleted {
                        framework,
                        step: batch.step,
                        attempt,
                        writes: Vec::new(),
                        answer,
                    });
                }
                Action::RunPolicy { changes, cycle, .. } => {
                    let begin = Instant::now();
                    for part in &changes {
                        self.policy.apply(part);
                    }
                    let proposal = Box::new(self.policy.decide(&cycle));
                    self.in_policy += begin.elapsed();
                    self.cycles += 1;
                    let cycle = cycle.number;
                    self.queue
                        .push_back(Event::PolicyProposed { cycle, proposal });
                }
                _ => {}
            }
        }
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

    /// A framework that always wants more fills every offer with tasks.
    fn step(&mut self, framework: FrameworkId, batch: &Batch) -> Answer {
        let mut commands = Vec::new();
        for event in &batch.events {
            match event {
                Told::Started(_) => commands.push(self.demand(framework)),
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
            role: RoleName::new(format!("r{}", framework.0 - 1)).expect("a role"),
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

fn registration(number: u32) -> Event {
    Event::AgentRegistered {
        connection: ConnectionId(u64::from(number)),
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
            total: TOTAL.parse().expect("resources"),
            special: proffer_model::Resources::none(),
            data_address: String::new(),
            launches: Vec::new(),
        }),
    }
}

fn main() {
    for (agents, frameworks) in [(100, 10), (1_000, 10), (1_000, 100), (5_000, 10)] {
        let mut bench = Bench::new(agents, frameworks);
        let full = u64::from(agents) * 16;
        bench.run(full);
        let warm = (bench.events, bench.launched, bench.cycles);
        (bench.in_core, bench.in_policy) = Default::default();
        bench.run(full + 40_000);
        let tasks = bench.launched - warm.1;
        let (core, policy) = (bench.in_core.as_secs_f64(), bench.in_policy.as_secs_f64());
        println!(
            "{agents} agents, {frameworks} frameworks: {tasks} tasks, {} events, {} cycles; {:.0} events/s and {:.0} tasks/s of core, {:.0} tasks/s with the policy ({core:.2} s + {policy:.2} s)",
            bench.events - warm.0,
            bench.cycles - warm.2,
            (bench.events - warm.0) as f64 / core,
            tasks as f64 / core,
            tasks as f64 / (core + policy),
        );
    }
}
