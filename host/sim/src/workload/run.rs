//! The run: the real core, told what a shell would tell it, at the workload's times.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proffer_core::{
    Action, ConnectionId, Core, CoreConfig, Event, NewFramework, Outbox, PolicyIdentity,
    PolicySeat, Ticket,
};
use proffer_model::agent::{Launch, ToAgent};
use proffer_model::framework::{Answer, Batch};
use proffer_model::policy::{Changes, Cycle};
use proffer_model::{Duration, FrameworkId, Reason, Remedy, RoleName, Timestamp};

use super::framework::{Framework, Shapes, World, task_of};
use super::measure::Measure;
use super::outcome::{Outcome, Waits};
use super::policies::{Decide, Native, UnfitPolicy};
use super::{Workload, agents};

/// Agents never fail here: nobody has to ask whether they live.
const NEVER: Duration = Duration(100 * 365 * Duration::DAY.0);
/// Between two cycles over everything: a safety net, which months of nothing shall not pay for.
const SWEEP: Duration = Duration::from_secs(600);
/// When nothing has happened for so long, what still waits waits for ever.
const QUIET: Duration = Duration(2 * SWEEP.0);
/// Events at one instant: more is a policy and frameworks that go round in circles.
const EVENTS_AT_ONCE_MAX: u64 = 50_000_000;
/// Between two words on the progress.
const PROGRESS_EVERY: u64 = 8_192;

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A role's or framework's name.
    #[error("the owner '{0}' cannot be a framework's name and role")]
    Owner(String),
    /// The core refused a framework.
    #[error("the owner '{0}' was refused: {1}")]
    Refused(String, String),
    /// Something never ends.
    #[error(
        "more than {EVENTS_AT_ONCE_MAX} events at {0}: offers are made and declined without end"
    )]
    Circles(Timestamp),
    /// The fallback.
    #[error(transparent)]
    Policy(#[from] UnfitPolicy),
}

/// How to simulate.
#[derive(Clone, Debug, Default)]
pub struct Simulation {
    /// The core's configuration; what keeps track of agents' lives does not count.
    pub config: CoreConfig,
}

/// Something that will happen.
enum Happening {
    MachineComes(usize),
    TaskEnds(usize, Box<Launch>),
}

struct Run<'w, 'p> {
    workload: &'w Workload,
    shapes: Shapes,
    core: Core,
    policy: &'p mut dyn Decide,
    fallback: Native,
    queue: VecDeque<Event>,
    /// By time, and by the order in which they were found out.
    happenings: BTreeMap<(Timestamp, u64), Happening>,
    happenings_seen: u64,
    wake: Option<Timestamp>,
    now: Timestamp,
    frameworks: BTreeMap<FrameworkId, Framework>,
    measure: Measure<'w>,
    /// When each task was placed.
    placed: Vec<Option<Timestamp>>,
    finished: usize,
    ended: Timestamp,
    refused: Option<SimulateError>,
    events: u64,
}

/// Runs a workload. `progress` is told, now and then, how many tasks have been placed.
///
/// # Errors
/// The workload makes no cluster, or something goes round in circles.
pub fn simulate(
    workload: &Workload,
    policy: &mut dyn Decide,
    simulation: &Simulation,
    progress: &mut dyn FnMut(usize),
) -> Result<Outcome, SimulateError> {
    let mut run = Run::new(workload, policy, simulation)?;
    run.add_frameworks()?;
    run.go_on(progress)?;
    Ok(run.outcome())
}

impl<'w, 'p> Run<'w, 'p> {
    fn new(
        workload: &'w Workload,
        policy: &'p mut dyn Decide,
        simulation: &Simulation,
    ) -> Result<Self, SimulateError> {
        let mut config = CoreConfig {
            heartbeat: NEVER,
            agent_timeout: NEVER,
            // An ended task is looked at by nobody.
            ended_tasks_max: 0,
            outputs_max: 0,
            ..simulation.config.clone()
        };
        if let proffer_core::Allocation::Events { sweep, .. } = &mut config.allocation {
            *sweep = SWEEP;
        }
        let begin = workload.begin;
        let mut run = Self {
            workload,
            shapes: Shapes::new(&workload.tasks),
            core: Core::new(config, begin),
            fallback: Native::named("drf", "")?,
            queue: VecDeque::new(),
            happenings: BTreeMap::new(),
            happenings_seen: 0,
            wake: None,
            now: begin,
            frameworks: BTreeMap::new(),
            measure: Measure::new(workload),
            placed: vec![None; workload.tasks.len()],
            finished: 0,
            ended: begin,
            refused: None,
            events: 0,
            policy,
        };
        for (number, machine) in workload.machines.iter().enumerate() {
            run.happens(machine.from.max(begin), Happening::MachineComes(number));
        }
        Ok(run)
    }

    /// Machines that are there from the beginning come before anybody asks.
    fn add_frameworks(&mut self) -> Result<(), SimulateError> {
        self.queue.push_back(Event::PolicyLoaded {
            identity: Arc::new(PolicyIdentity {
                name: self.policy.name(),
                version: String::new(),
                digest: String::new(),
                config: String::new(),
            }),
            feeds: self.policy.feeds(),
        });
        while self.happens_now() {}
        self.settle()?;
        for (owner, about) in self.workload.owners.iter().enumerate() {
            let role = RoleName::new(about.role.clone())
                .map_err(|_| SimulateError::Owner(about.role.clone()))?;
            let tasks = self.workload.tasks.iter().enumerate();
            let own = tasks.filter(|(_, task)| task.owner == owner);
            let own: Vec<usize> = own.map(|(place, _)| place).collect();
            // The core numbers frameworks from 1, in the order in which they come.
            let id = FrameworkId(u32::try_from(owner + 1).unwrap_or(u32::MAX));
            self.frameworks
                .insert(id, Framework::new(role.clone(), own));
            self.queue.push_back(Event::FrameworkAdded {
                ticket: Ticket(owner as u64),
                framework: Box::new(NewFramework {
                    name: about.name.as_str().into(),
                    version: String::new(),
                    digest: String::new(),
                    roles: vec![role],
                    config: String::new(),
                    gpus: about.gpus,
                    options: proffer_model::fact::FrameworkOptions::default(),
                }),
            });
        }
        Ok(())
    }

    fn go_on(&mut self, progress: &mut dyn FnMut(usize)) -> Result<(), SimulateError> {
        let mut told = 0;
        let mut busy = self.now;
        loop {
            self.settle()?;
            if self.events / PROGRESS_EVERY != told {
                told = self.events / PROGRESS_EVERY;
                progress(self.placed.iter().flatten().count());
            }
            let happens = self.happenings.first_key_value().map(|((at, _), _)| *at);
            let asked = self.frameworks.values().all(Framework::has_asked);
            if happens.is_some() || !asked {
                busy = self.now;
            }
            let next = match (happens, self.wake) {
                (Some(happens), Some(wake)) => happens.min(wake),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return Ok(()),
            };
            if next > busy + QUIET && happens.is_none() && asked {
                return Ok(());
            }
            let next = next.max(self.now);
            self.measure.advance(next);
            self.now = next;
            if self.wake.is_some_and(|wake| wake <= next) {
                self.wake = None;
                self.queue.push_back(Event::Ticked);
            }
            while self.happens_now() {}
        }
    }

    /// What is due now happens; false if nothing is.
    fn happens_now(&mut self) -> bool {
        let due = self
            .happenings
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now);
        let Some(due) = due else {
            return false;
        };
        match due.remove() {
            Happening::MachineComes(number) => {
                self.measure.machine_comes(number);
                let machine = &self.workload.machines[number];
                self.queue.push_back(agents::registration(number, machine));
            }
            Happening::TaskEnds(machine, launch) => self.task_ends(machine, &launch),
        }
        true
    }

    fn happens(&mut self, at: Timestamp, what: Happening) {
        self.happenings_seen += 1;
        self.happenings.insert((at, self.happenings_seen), what);
    }

    /// Everything that follows at this instant.
    fn settle(&mut self) -> Result<(), SimulateError> {
        let before = self.events;
        while let Some(event) = self.queue.pop_front() {
            let mut out = Outbox::new();
            self.core.handle(self.now, event, &mut out);
            self.events += 1;
            for action in out.drain().collect::<Vec<_>>() {
                self.perform(action);
            }
            if self.events - before > EVENTS_AT_ONCE_MAX {
                return Err(SimulateError::Circles(self.now));
            }
        }
        match self.refused.take() {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    fn perform(&mut self, action: Action) {
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
            } => self.step(framework, attempt, &batch),
            Action::RunPolicy {
                seat,
                changes,
                cycle,
            } => self.decide(seat, &changes, &cycle),
            Action::Reply {
                ticket,
                reply: proffer_core::Reply::Refused(why),
            } => {
                let owners = &self.workload.owners;
                let place = usize::try_from(ticket.0).unwrap_or(usize::MAX);
                let name = owners.get(place).map(|owner| owner.name.clone());
                let refused = SimulateError::Refused(name.unwrap_or_default(), why.to_string());
                self.refused = Some(refused);
            }
            Action::Wake(at) => self.wake = Some(at),
            Action::Reply { .. }
            | Action::Close { .. }
            | Action::StartFramework(_)
            | Action::StopFramework { .. }
            // Nobody swaps policies here.
            | Action::FeedCandidate { .. }
            | Action::SwitchPolicy { .. }
            | Action::DropCandidate { .. }
            | Action::LoadPolicy(_)
            | Action::RunTenant { .. }
            | Action::DropTenant { .. }
            | Action::CarryPolicy
            | Action::Note { .. } => {}
        }
    }

    fn step(&mut self, framework: FrameworkId, attempt: u32, batch: &Batch) {
        let world = World {
            tasks: &self.workload.tasks,
            shapes: &self.shapes,
        };
        let own = self.frameworks.get_mut(&framework);
        let commands = own.map_or_else(Vec::new, |own| own.step(&world, batch));
        self.queue.push_back(Event::StepCompleted {
            framework,
            step: batch.step,
            attempt,
            writes: Vec::new(),
            answer: Box::new(Answer { commands }),
        });
    }

    fn decide(&mut self, seat: PolicySeat, changes: &[Changes], cycle: &Cycle) {
        let proposal = match seat {
            PolicySeat::Loaded => self.policy.decide(changes, cycle),
            PolicySeat::Fallback => self.fallback.decide(changes, cycle),
        };
        let cycle = cycle.number;
        self.queue.push_back(match proposal {
            Ok(proposal) => Event::PolicyProposed {
                cycle,
                proposal: Box::new(proposal),
            },
            Err(fault) => Event::PolicyFailed {
                cycle,
                fault: Reason::new("plugin-fault", Remedy::Mend, fault),
            },
        });
    }

    fn agent_told(&mut self, connection: ConnectionId, message: ToAgent) {
        match message {
            ToAgent::Launch(launches) => {
                let machine = usize::try_from(connection.0).unwrap_or(usize::MAX);
                for launch in launches {
                    self.task_starts(machine, launch);
                }
            }
            ToAgent::Heartbeat => self.queue.push_back(Event::AgentHeard { connection }),
            ToAgent::Registered { .. }
            | ToAgent::Refused { .. }
            | ToAgent::Kill { .. }
            | ToAgent::Acknowledge { .. }
            | ToAgent::RemoveFramework { .. } => {}
        }
    }

    fn task_starts(&mut self, machine: usize, launch: Launch) {
        let Some((task, unit)) = task_of(launch.task.id.as_str()) else {
            return;
        };
        if unit == 0 {
            self.placed[task].get_or_insert(self.now);
        }
        let about = &self.workload.tasks[task];
        self.measure.starts(machine, &about.shape);
        self.measure.running += 1;
        if let Some(runs) = about.runs {
            let at = self.now + runs;
            self.happens(at, Happening::TaskEnds(machine, Box::new(launch)));
        }
    }

    fn task_ends(&mut self, machine: usize, launch: &Launch) {
        let Some((task, unit)) = task_of(launch.task.id.as_str()) else {
            return;
        };
        self.measure.ends(machine, &self.workload.tasks[task].shape);
        self.measure.running -= 1;
        self.finished += usize::from(unit == 0);
        self.ended = self.now;
        self.queue.push_back(Event::TaskUpdated {
            connection: ConnectionId(machine as u64),
            update: agents::ended(launch, self.now),
        });
    }

    fn outcome(self) -> Outcome {
        let waits = self.workload.tasks.iter().zip(&self.placed);
        let waits = waits.filter_map(|(task, placed)| Some(placed.as_ref()?.since(task.asked).0));
        let waits: Vec<u64> = waits.collect();
        let view = self.core.policy();
        let refused = self.frameworks.values().map(|own| own.refused).sum();
        let (utilisation, mut rows, fragmented) = self.measure.finish();
        for row in &mut rows {
            let tasks = self.workload.tasks.iter().zip(&self.placed);
            let waiting = tasks.filter(|(task, placed)| {
                task.asked <= row.at && placed.is_none_or(|placed| placed > row.at)
            });
            row.waiting = waiting.count();
        }
        Outcome {
            policy: self.policy.name(),
            tasks: self.workload.tasks.len(),
            placed: waits.len(),
            finished: self.finished,
            utilisation,
            rows,
            waits: Waits::of(waits),
            fragmented,
            ended: self.ended,
            cycles: view.cycles,
            grants: view.grants,
            failures: view.failed_cycles,
            refused,
            events: self.events,
        }
    }
}
