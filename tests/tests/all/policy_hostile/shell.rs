//! A core, its fallback, and a component in the policy's seat, in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proffer_core::{
    Action, ConnectionId, Core, CoreConfig, Event, NewFramework, Outbox, PolicyIdentity,
    PolicySeat, Ticket,
};
use proffer_model::agent::ToAgent;
use proffer_model::framework::{Answer, Batch, Command, Decline, Event as Told};
use proffer_model::policy::{Changes, ChangesPart, Cycle, Feeds, Proposal};
use proffer_model::{
    Demand, Duration, FrameworkId, Reason, Remedy, Resources, RoleName, Shape, Timestamp,
};
use proffer_plugin::{
    Kind, LoadedPlugin, PluginHost, PluginHostConfig, PolicyHandle, PolicyLimits,
};
use proffer_policy::{Drf, Policy};
use proffer_tests::{guests, simulated};
use tokio::runtime::Runtime;

const AGENTS: u32 = 3;
const TOTAL: &str = "cpus:4;mem:4096";
const UNIT: &str = "cpus:1;mem:64";
/// What was given back is not offered to the same framework for so long.
const REFUSED: Duration = Duration::from_secs(3);
/// Whoever spins spins for ever; on a virtual machine a thread's processor time may jump by 60 ms.
const CPU: std::time::Duration = std::time::Duration::from_millis(250);

/// Where components run.
pub(super) struct Wasm {
    // Dropped in this order.
    host: PluginHost,
    loaded: LoadedPlugin,
    runtime: Runtime,
}

impl Wasm {
    /// The hostile component; none where nothing can be built.
    pub(super) fn load() -> Option<Self> {
        let component = guests::component("tests/guests/policy")?;
        let bytes = std::fs::read(component).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let host = PluginHost::new(PluginHostConfig::default()).unwrap();
        let loaded = runtime.block_on(host.load(bytes, Kind::Policy)).unwrap();
        Some(Self {
            host,
            loaded,
            runtime,
        })
    }

    fn spawn(&self, word: &str) -> Result<(PolicyHandle, Feeds), String> {
        let mut limits = PolicyLimits::default();
        limits.cycle.cpu = CPU;
        limits.snapshot.cpu = CPU;
        let spawned = self.host.spawn_policy(self.loaded.clone(), limits, word);
        self.runtime
            .block_on(spawned)
            .map_err(|fault| fault.to_string())
    }
}

/// An offer that was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Made {
    pub(super) at: u64,
    pub(super) framework: FrameworkId,
    pub(super) agent: u32,
    pub(super) cpus: i64,
}

/// What there is to say of a life.
pub(super) struct Life {
    /// By time, framework and agent.
    pub(super) made: Vec<Made>,
    /// The most of one agent that was out at once, in thousandths of a cpu.
    pub(super) most_held: i64,
    pub(super) cycles: u64,
    pub(super) failed: u64,
    pub(super) left_out: bool,
    /// The last.
    pub(super) fault: String,
}

/// One pool.
pub(super) struct Shell<'a> {
    core: Core,
    now: u64,
    wake: Option<Timestamp>,
    queue: VecDeque<Event>,
    fallback: Drf,
    loaded: Option<(&'a Wasm, &'static str)>,
    instance: Option<PolicyHandle>,
    made: Vec<Made>,
    /// The offers that each framework has and has not answered.
    held: BTreeMap<FrameworkId, Vec<(u32, i64)>>,
    most_held: i64,
}

impl<'a> Shell<'a> {
    /// Three agents; the first framework wants all, the second nothing, the third suppressed its role.
    pub(super) fn new(loaded: Option<(&'a Wasm, &'static str)>) -> Self {
        let mut shell = Self {
            core: Core::new(CoreConfig::default(), Timestamp(1)),
            now: 1,
            wake: None,
            queue: VecDeque::new(),
            fallback: Drf::default(),
            loaded,
            instance: None,
            made: Vec::new(),
            held: BTreeMap::new(),
            most_held: 0,
        };
        if let Some((wasm, word)) = loaded {
            let (_, feeds) = wasm.spawn(word).unwrap();
            let identity = PolicyIdentity {
                name: "hostile".to_owned(),
                version: "1".to_owned(),
                digest: String::new(),
                config: String::new(),
            };
            shell.queue.push_back(Event::PolicyLoaded {
                identity: Arc::new(identity),
                feeds,
            });
        }
        for number in 0..3 {
            shell.queue.push_back(framework(number));
        }
        for number in 0..AGENTS {
            shell.queue.push_back(registration(number));
        }
        shell
    }

    /// Lets so many seconds pass.
    pub(super) fn live(mut self, seconds: u64) -> Life {
        let end = 1 + seconds * 1_000;
        loop {
            while let Some(event) = self.queue.pop_front() {
                self.handle(event);
            }
            let next = self.wake.take().map_or(u64::MAX, |at| at.0.max(self.now));
            if next > end {
                break;
            }
            self.now = next;
            for number in 0..AGENTS {
                let connection = ConnectionId(number.into());
                self.queue.push_back(Event::AgentHeard { connection });
            }
            self.queue.push_back(Event::Ticked);
        }
        let view = self.core.policy();
        self.made.sort();
        Life {
            made: self.made,
            most_held: self.most_held,
            cycles: view.cycles,
            failed: view.failed_cycles,
            left_out: view.left_out.is_some(),
            fault: view
                .last_fault
                .as_ref()
                .map(|fault| fault.to_string())
                .unwrap_or_default(),
        }
    }

    fn handle(&mut self, event: Event) {
        let mut out = Outbox::new();
        if let Event::StepCompleted { framework, .. } = &event {
            self.held.remove(framework);
        }
        self.core.handle(Timestamp(self.now), event, &mut out);
        self.core.check_invariants().unwrap();
        for action in out.drain().collect::<Vec<_>>() {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Persist { seq, .. } => self.queue.push_back(Event::Persisted(seq)),
            Action::Wake(at) => self.wake = Some(at),
            Action::Send {
                connection,
                message,
            } if *message == ToAgent::Heartbeat => {
                self.queue.push_back(Event::AgentHeard { connection });
            }
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
            Action::RunPolicy {
                seat,
                changes,
                cycle,
            } => {
                let number = cycle.number;
                let answer = match seat {
                    PolicySeat::Loaded => self.ask_component(changes, cycle),
                    PolicySeat::Fallback => Ok(self.ask_fallback(&changes, &cycle)),
                };
                self.queue.push_back(match answer {
                    Ok(proposal) => Event::PolicyProposed {
                        cycle: number,
                        proposal: Box::new(proposal),
                    },
                    Err(fault) => Event::PolicyFailed {
                        cycle: number,
                        fault: Reason::new("plugin-fault", Remedy::Mend, fault),
                    },
                });
            }
            _ => {}
        }
    }

    fn ask_fallback(&mut self, changes: &[Changes], cycle: &Cycle) -> Proposal {
        if begins(changes) {
            self.fallback = Drf::default();
        }
        for changes in changes {
            self.fallback.apply(changes);
        }
        self.fallback.decide(cycle)
    }

    fn ask_component(&mut self, changes: Vec<Changes>, cycle: Cycle) -> Result<Proposal, String> {
        let (wasm, word) = self.loaded.ok_or("no policy is loaded")?;
        if begins(&changes) || self.instance.is_none() {
            self.instance = Some(wasm.spawn(word)?.0);
        }
        let instance = self.instance.as_ref().ok_or("no instance")?;
        let asked = instance.cycle(changes, cycle);
        let outcome = wasm.runtime.block_on(asked);
        outcome.result.map_err(|fault| {
            self.instance = None;
            fault.to_string()
        })
    }

    /// What is wanted is said once, and every offer given back.
    fn step(&mut self, framework: FrameworkId, batch: &Batch) -> Answer {
        let mut commands = Vec::new();
        for event in &batch.events {
            match event {
                Told::Started(_) if framework.0 == 1 => commands.push(demand(framework)),
                Told::Started(_) if framework.0 == 3 => {
                    commands.push(Command::Suppress(Vec::new()))
                }
                Told::Offers(offers) => {
                    let held = offers
                        .iter()
                        .map(|offer| (offer.agent.0, offer.resources.total().cpus.milli()));
                    self.held.entry(framework).or_default().extend(held);
                    let mut of_each: BTreeMap<u32, i64> = BTreeMap::new();
                    for (agent, cpus) in self.held.values().flatten() {
                        *of_each.entry(*agent).or_default() += cpus;
                    }
                    let most = of_each.into_values().max().unwrap_or(0);
                    self.most_held = self.most_held.max(most);
                    for offer in offers {
                        self.made.push(Made {
                            at: self.now,
                            framework,
                            agent: offer.agent.0,
                            cpus: offer.resources.total().cpus.milli(),
                        });
                    }
                    commands.push(Command::Decline(Decline {
                        offers: offers.iter().map(|offer| offer.id).collect(),
                        refuse: Some(REFUSED),
                        why: "no use".to_owned(),
                    }));
                }
                _ => {}
            }
        }
        Answer { commands }
    }
}

fn begins(changes: &[Changes]) -> bool {
    let first = changes.first();
    first.is_some_and(|first| first.part != ChangesPart::Delta)
}

fn demand(framework: FrameworkId) -> Command {
    Command::SetDemand(Box::new(Demand {
        key: "units".to_owned(),
        role: role(framework.0),
        shape: Shape {
            resources: Resources::plain(UNIT.parse().unwrap()),
            ..Shape::default()
        },
        // More than there is: in whatever order agents come, all of each is offered.
        count: 1_000,
        gang: 0,
        per_agent: 0,
        priority: 0,
        until: None,
        constraints: Vec::new(),
        near: Vec::new(),
        near_for: Duration::ZERO,
    }))
}

fn role(framework: u32) -> RoleName {
    RoleName::new(format!("role{framework}")).unwrap()
}

fn framework(number: u32) -> Event {
    Event::FrameworkAdded {
        ticket: Ticket(number.into()),
        framework: Box::new(NewFramework {
            name: format!("framework{number}").into(),
            version: "1".to_owned(),
            digest: String::new(),
            roles: vec![role(number + 1)],
            config: String::new(),
            gpus: false,
            options: proffer_model::fact::FrameworkOptions::default(),
        }),
    }
}

fn registration(number: u32) -> Event {
    Event::AgentRegistered {
        connection: ConnectionId(u64::from(number)),
        registration: Box::new(simulated::registration(number, TOTAL).unwrap()),
    }
}
