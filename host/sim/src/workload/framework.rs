//! A framework that asks for its part of a workload, and takes what is offered for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proffer_model::framework::{
    Accept, Act, Batch, Command, Decline, Due, Event, Operation, Part, Timer,
};
use proffer_model::{
    Bundle, Constraint, Demand, Duration, Executor, Offer, Resources, RoleName, Shape, TaskId,
    TaskSpec, TaskState, TaskUpdate, Template, Timestamp,
};

use super::Task;

/// Tasks of several units that are asked for at once: each is a demand of its own, and later ones
/// can only use what these leave.
const GANGS_ASKED_MAX: usize = 64;

/// What is asked for under one key: tasks of one shape, or one task of several units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Shape(usize),
    Gang(usize),
}

/// A framework.
pub(super) struct Framework {
    role: RoleName,
    /// Its tasks that have not been asked for, by when they are.
    arrivals: VecDeque<usize>,
    /// Of one unit, by shape; the oldest first.
    waiting: BTreeMap<Key, VecDeque<usize>>,
    /// Of several units, those that are not asked for yet.
    later: VecDeque<usize>,
    /// Demands to be stated anew.
    changed: BTreeSet<Key>,
    /// How often a task was asked for again, because it was refused or dropped.
    again: BTreeMap<usize, u32>,
    template: Template,
    pub(super) refused: u64,
}

/// Shapes of a workload, numbered.
pub(super) struct Shapes {
    of_task: Vec<usize>,
    all: Vec<(Bundle, Vec<Vec<Constraint>>)>,
}

impl Shapes {
    pub(super) fn new(tasks: &[Task]) -> Self {
        let mut numbers = BTreeMap::new();
        let mut all = Vec::new();
        let of_task = tasks.iter().map(|task| {
            let key = format!("{:?} {:?}", task.shape, task.constraints);
            *numbers.entry(key).or_insert_with(|| {
                all.push((task.shape.clone(), task.constraints.clone()));
                all.len() - 1
            })
        });
        let of_task = of_task.collect();
        Self { of_task, all }
    }
}

/// What a framework knows of the workload.
pub(super) struct World<'w> {
    pub(super) tasks: &'w [Task],
    pub(super) shapes: &'w Shapes,
}

impl Framework {
    /// One with these tasks, in the order in which they are asked for.
    pub(super) fn new(role: RoleName, tasks: impl IntoIterator<Item = usize>) -> Self {
        Self {
            role,
            arrivals: tasks.into_iter().collect(),
            waiting: BTreeMap::new(),
            later: VecDeque::new(),
            changed: BTreeSet::new(),
            again: BTreeMap::new(),
            template: template(),
            refused: 0,
        }
    }

    /// Whether all its tasks have been asked for.
    pub(super) fn has_asked(&self) -> bool {
        self.arrivals.is_empty()
    }

    pub(super) fn step(&mut self, world: &World<'_>, batch: &Batch) -> Vec<Command> {
        let mut commands = Vec::new();
        let mut offers: BTreeMap<&str, Vec<&Offer>> = BTreeMap::new();
        for event in &batch.events {
            match event {
                Event::Started(_) | Event::Timers(_) => self.ask(world, batch.now, &mut commands),
                Event::Offers(rows) => {
                    for offer in rows {
                        offers.entry(&offer.demand).or_default().push(offer);
                    }
                }
                Event::Updates(rows) => {
                    for update in rows {
                        self.told(world, update);
                    }
                }
                Event::Rejected(rows) => self.refused += rows.len() as u64,
                _ => {}
            }
        }
        for (demand, offers) in offers {
            self.take(world, demand, &offers, batch, &mut commands);
        }
        self.ask_for_gangs();
        self.state_demand(world, &mut commands);
        commands
    }

    /// What is to be asked for by now is; a timer is set for the next.
    fn ask(&mut self, world: &World<'_>, now: Timestamp, commands: &mut Vec<Command>) {
        while let Some(next) = self.arrivals.front().copied() {
            let at = world.tasks[next].asked;
            if at > now {
                commands.push(Command::SetTimer(Timer {
                    id: "next".to_owned(),
                    due: Due::At(at),
                }));
                return;
            }
            self.arrivals.pop_front();
            self.wait_for(world, next);
        }
    }

    fn wait_for(&mut self, world: &World<'_>, task: usize) {
        if world.tasks[task].units > 1 {
            return self.later.push_back(task);
        }
        let key = Key::Shape(world.shapes.of_task[task]);
        self.waiting.entry(key).or_default().push_back(task);
        self.changed.insert(key);
    }

    fn ask_for_gangs(&mut self) {
        let gangs = |key: &&Key| matches!(key, Key::Gang(_));
        let mut asked = self.waiting.keys().filter(gangs).count();
        while asked < GANGS_ASKED_MAX
            && let Some(task) = self.later.pop_front()
        {
            self.waiting.insert(Key::Gang(task), VecDeque::from([task]));
            self.changed.insert(Key::Gang(task));
            asked += 1;
        }
    }

    /// A task that did not run is asked for again.
    fn told(&mut self, world: &World<'_>, update: &TaskUpdate) {
        if !update.state.is_final() || update.state == TaskState::Finished {
            return;
        }
        self.refused += 1;
        let Some((task, 0)) = task_of(update.task.as_str()) else {
            return;
        };
        *self.again.entry(task).or_default() += 1;
        self.wait_for(world, task);
    }

    fn take(
        &mut self,
        world: &World<'_>,
        demand: &str,
        offers: &[&Offer],
        batch: &Batch,
        commands: &mut Vec<Command>,
    ) {
        match key_of(demand) {
            Some(Key::Gang(task)) => self.take_gang(world, task, offers, commands),
            Some(key) => {
                for offer in offers {
                    self.fill(world, offer, &[key], commands);
                }
            }
            None => {
                // Whole agents, whatever was asked for.
                for offer in offers {
                    let keys = self.keys_for(world, offer, batch);
                    self.fill(world, offer, &keys, commands);
                }
            }
        }
    }

    /// Shapes that may go to an agent, those that wait longest first.
    fn keys_for(&self, world: &World<'_>, offer: &Offer, batch: &Batch) -> Vec<Key> {
        let info = batch.agents.iter().find(|(id, _)| *id == offer.agent);
        let admits = |key: &Key| match key {
            Key::Gang(_) => false,
            Key::Shape(shape) => info.is_some_and(|(_, info)| {
                let machine = super::agents::as_machine(info);
                super::measure::admits(&world.shapes.all[*shape].1, &machine)
            }),
        };
        let mut keys: Vec<(Timestamp, Key)> = self
            .waiting
            .iter()
            .filter(|(key, _)| admits(key))
            .filter_map(|(key, tasks)| Some((world.tasks[*tasks.front()?].asked, *key)))
            .collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// Launches as many as fit.
    fn fill(
        &mut self,
        world: &World<'_>,
        offer: &Offer,
        keys: &[Key],
        commands: &mut Vec<Command>,
    ) {
        let mut left = offer.resources.clone();
        let mut launches = Vec::new();
        for key in keys {
            let Some(waiting) = self.waiting.get_mut(key) else {
                continue;
            };
            while let Some(task) = waiting.front().copied() {
                let wanted = Resources::plain(world.tasks[task].shape.clone());
                if left.take(&wanted).is_err() {
                    break;
                }
                waiting.pop_front();
                self.changed.insert(*key);
                let again = self.again.get(&task).copied().unwrap_or(0);
                launches.push(spec(&self.template, task, 0, again, wanted));
            }
        }
        commands.push(match launches.is_empty() {
            true => decline(vec![offer.id]),
            false => accept(vec![part(offer, launches)]),
        });
    }

    /// All units of a task or none.
    fn take_gang(
        &mut self,
        world: &World<'_>,
        task: usize,
        offers: &[&Offer],
        commands: &mut Vec<Command>,
    ) {
        let wanted = Resources::plain(world.tasks[task].shape.clone());
        let units = world.tasks[task].units;
        let again = self.again.get(&task).copied().unwrap_or(0);
        let mut parts = Vec::new();
        let mut unit = 0;
        for offer in offers {
            let mut left = offer.resources.clone();
            let mut launches = Vec::new();
            while unit < units && left.take(&wanted).is_ok() {
                launches.push(spec(&self.template, task, unit, again, wanted.clone()));
                unit += 1;
            }
            if !launches.is_empty() {
                parts.push(part(offer, launches));
            }
        }
        let waits = self.waiting.contains_key(&Key::Gang(task));
        if unit < units || !waits {
            let ids = offers.iter().map(|offer| offer.id).collect();
            commands.push(decline(ids));
            return;
        }
        self.waiting.insert(Key::Gang(task), VecDeque::new());
        self.changed.insert(Key::Gang(task));
        commands.push(accept(parts));
    }

    fn state_demand(&mut self, world: &World<'_>, commands: &mut Vec<Command>) {
        for key in std::mem::take(&mut self.changed) {
            let waiting = self.waiting.get(&key).map_or(0, VecDeque::len);
            if waiting == 0 {
                self.waiting.remove(&key);
                commands.push(Command::ClearDemand(vec![name_of(key)]));
                continue;
            }
            let (shape, count, gang) = match key {
                Key::Shape(shape) => (shape, u32::try_from(waiting).unwrap_or(u32::MAX), 0),
                Key::Gang(task) => {
                    let units = world.tasks[task].units;
                    (world.shapes.of_task[task], units, units)
                }
            };
            let (bundle, constraints) = &world.shapes.all[shape];
            commands.push(Command::SetDemand(Box::new(Demand {
                key: name_of(key),
                role: self.role.clone(),
                shape: Shape {
                    resources: Resources::plain(bundle.clone()),
                    ..Shape::default()
                },
                count,
                gang,
                per_agent: 0,
                priority: 0,
                until: None,
                constraints: constraints.clone(),
                near: Vec::new(),
                near_for: Duration::ZERO,
            })));
        }
    }
}

fn name_of(key: Key) -> String {
    match key {
        Key::Shape(shape) => format!("shape-{shape}"),
        Key::Gang(task) => format!("gang-{task}"),
    }
}

fn key_of(name: &str) -> Option<Key> {
    let (kind, number) = name.split_once('-')?;
    let number = number.parse().ok()?;
    match kind {
        "shape" => Some(Key::Shape(number)),
        "gang" => Some(Key::Gang(number)),
        _ => None,
    }
}

/// The task and unit that an id is of.
pub(super) fn task_of(id: &str) -> Option<(usize, u32)> {
    let mut parts = id.strip_prefix('t')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn spec(template: &Template, task: usize, unit: u32, again: u32, resources: Resources) -> TaskSpec {
    let id: Arc<str> = format!("t{task}.{unit}.{again}").into();
    TaskSpec {
        id: TaskId::new(id).expect("letters, digits and dots"),
        template: template.clone(),
        resources,
        args: Vec::new(),
        env: Vec::new(),
        inputs: Vec::new(),
        mounts: Vec::new(),
        output: String::new(),
        priority: 0,
    }
}

fn template() -> Template {
    Template {
        name: "simulated".to_owned(),
        executor: Executor::Shell("true".to_owned()),
        env: Vec::new(),
        inputs: Vec::new(),
        checks: Vec::new(),
        grace: Duration::ZERO,
        longest: None,
        group: String::new(),
        labels: Vec::new(),
        options: Vec::new(),
    }
}

fn part(offer: &Offer, launches: Vec<TaskSpec>) -> Part {
    Part {
        agent: Some(offer.agent),
        offers: vec![offer.id],
        operations: vec![Operation {
            token: String::new(),
            act: Act::Launch(launches),
        }],
    }
}

/// What is left may come again at once: it is not refused, it is not needed now.
fn accept(parts: Vec<Part>) -> Command {
    Command::Accept(Accept {
        whole: parts.len() > 1,
        parts,
        refuse: Some(Duration::ZERO),
    })
}

fn decline(offers: Vec<proffer_model::OfferId>) -> Command {
    Command::Decline(Decline {
        offers,
        refuse: Some(Duration::ZERO),
        why: "nothing that waits fits".to_owned(),
    })
}
