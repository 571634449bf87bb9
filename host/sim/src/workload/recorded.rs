//! A recording as a workload: each task that was launched, as framework, shape, first asked, run
//! time; and what the recorded cluster made of it, to be compared with.
//!
//! When a task was first asked for is read from demand: a unit more of a shape is asked for when it
//! is stated, and is the one that waits longest when a task of that shape is launched. A task that
//! nobody had stated demand for was asked for when it was launched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proffer_core::{Action, Event};
use proffer_model::fact::{Effect, Fact};
use proffer_model::{
    AgentId, AttributeValue, Bundle, Constraint, Demand, FrameworkId, LaunchNumber, Quantity,
    Ranges, TaskId, Timestamp,
};
use proffer_record::{Input, Item, ReadRecordingError, Recording, Segment};

use super::outcome::{Waits, part};
use super::{Machine, Owner, Task, Workload};

/// A recording's demand, and what became of it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What was asked for.
    pub workload: Workload,
    /// The core's configuration.
    pub config: proffer_core::CoreConfig,
    /// Who decided: the policy that was loaded last, or the native one.
    pub policy: String,
    /// Of each kind, the part of the pool that tasks held, in millionths.
    pub utilisation: Vec<(String, u64)>,
    /// From first asked to launched.
    pub waits: Waits,
}

/// Why a recording is no workload.
#[derive(Debug, thiserror::Error)]
pub enum ReadDemandError {
    /// It cannot be read.
    #[error(transparent)]
    Recording(#[from] ReadRecordingError),
    /// An input's actions.
    #[error("the actions of an event at {at} cannot be read: {problem}")]
    Actions {
        /// When.
        at: Timestamp,
        /// What is wrong.
        problem: String,
    },
    /// Nothing ran.
    #[error("no task was launched while this was recorded: there is no demand to replay")]
    NoTasks,
}

#[derive(Default)]
struct Reader {
    begin: Option<Timestamp>,
    end: Timestamp,
    run: Option<(u64, u64)>,
    machines: BTreeMap<AgentId, Machine>,
    owners: BTreeMap<FrameworkId, usize>,
    named: Vec<Owner>,
    /// Units of a shape that wait, by when they were asked for.
    asked: BTreeMap<Asked, VecDeque<Timestamp>>,
    demands: BTreeMap<(FrameworkId, String), Demand>,
    tasks: Vec<(Task, Timestamp)>,
    launches: BTreeMap<LaunchNumber, usize>,
    newest: BTreeMap<(FrameworkId, TaskId), LaunchNumber>,
    policy: String,
    config: proffer_core::CoreConfig,
}

/// A framework and a shape, as it is written.
type Asked = (FrameworkId, String);

/// Reads a whole recording.
///
/// # Errors
/// It is damaged, or holds no demand.
pub fn read_recorded(recording: &mut Recording) -> Result<Recorded, ReadDemandError> {
    let mut reader = Reader {
        policy: "native drf".to_owned(),
        ..Reader::default()
    };
    while let Some(item) = recording.next_item()? {
        match item {
            Item::Segment(segment) => reader.segment(&segment),
            Item::Input(input) => reader.input(&input)?,
            Item::Ended(_) => {}
        }
    }
    reader.finish()
}

impl Reader {
    fn segment(&mut self, segment: &Segment) {
        self.begin.get_or_insert(segment.at);
        self.end = self.end.max(segment.at);
        let follows = self.run == Some((segment.run, segment.index));
        self.run = Some((segment.run, segment.index));
        self.config = segment.core.config().clone();
        if let Some(loaded) = segment.core.policy().loaded {
            self.policy = loaded.name.clone();
        }
        if follows {
            return;
        }
        // What is durable of what went before: a task that is known goes on, one that had ended is
        // not of this recording.
        let facts = segment.core.snapshot().into_facts();
        let ended: BTreeSet<_> = facts.iter().filter_map(ended_in).collect();
        for fact in &facts {
            let over = launched_in(fact).is_some_and(|task| ended.contains(&task));
            if !over {
                self.fact(fact, segment.at);
            }
        }
    }

    fn input(&mut self, input: &Input) -> Result<(), ReadDemandError> {
        self.end = self.end.max(input.at);
        if let Some((_, index)) = &mut self.run {
            *index += 1;
        }
        match &input.event {
            Event::TaskUpdated { update, .. } if update.latest.is_final() => {
                self.ended(update.launch, input.at);
            }
            Event::PolicyLoaded { identity, .. } => self.policy.clone_from(&identity.name),
            _ => {}
        }
        let actions: Vec<Action> =
            proffer_codec::read(&input.actions).map_err(|error| ReadDemandError::Actions {
                at: input.at,
                problem: error.to_string(),
            })?;
        for action in &actions {
            if let Action::Persist { facts, .. } = action {
                for fact in facts {
                    self.fact(fact, input.at);
                }
            }
        }
        Ok(())
    }

    fn fact(&mut self, fact: &Fact, at: Timestamp) {
        match fact {
            Fact::AgentSet(record) => {
                let texts = record.info.attributes.iter().filter_map(|attribute| {
                    let AttributeValue::Text(text) = &attribute.value else {
                        return None;
                    };
                    Some((attribute.name.clone(), text.clone()))
                });
                let machine = Machine {
                    name: record.info.hostname.to_string(),
                    total: amounts(&record.total),
                    attributes: texts.collect(),
                    from: at,
                };
                self.machines.entry(record.agent).or_insert(machine);
            }
            Fact::FrameworkSet(record) => {
                let named = &mut self.named;
                let place = *self.owners.entry(record.framework).or_insert_with(|| {
                    named.push(Owner {
                        name: record.name.to_string(),
                        role: String::new(),
                        gpus: record.gpus,
                    });
                    named.len() - 1
                });
                let role = record.roles.first();
                self.named[place].role = role.map_or_else(String::new, ToString::to_string);
            }
            Fact::StepCommitted(step) => {
                // A step that launches and restates what it still wants says one thing.
                for effect in &step.effects {
                    self.launched(step.framework, effect, at);
                }
                for effect in &step.effects {
                    self.effect(step.framework, effect, at);
                }
                self.count_demand(step.framework, at);
            }
            Fact::Changed { framework, effect } => {
                self.launched(*framework, effect, at);
                self.effect(*framework, effect, at);
                self.count_demand(*framework, at);
            }
            _ => {}
        }
    }

    fn launched(&mut self, framework: FrameworkId, effect: &Effect, at: Timestamp) {
        let Effect::TaskLaunched(launch) = effect else {
            return;
        };
        let Some(owner) = self.owners.get(&framework).copied() else {
            return;
        };
        if self.launches.contains_key(&launch.launch) {
            return;
        }
        let shape = amounts(&launch.task.resources.total());
        let key = (framework, shape_key(&shape));
        let asked = self.asked.get_mut(&key).and_then(VecDeque::pop_front);
        let constraints = self.constraints_of(&key);
        // Those that ran before the recording are taken as asked for at its beginning.
        let since = asked.unwrap_or(at).min(at);
        self.launches.insert(launch.launch, self.tasks.len());
        let name = (framework, launch.task.id.clone());
        self.newest.insert(name, launch.launch);
        self.tasks.push((
            Task {
                owner,
                shape,
                units: 1,
                constraints,
                asked: since,
                runs: None,
            },
            at,
        ));
    }

    fn constraints_of(&self, (framework, shape): &Asked) -> Vec<Vec<Constraint>> {
        let mut own = self.demands.iter().filter(|((of, _), _)| of == framework);
        let found = own.find(|(_, demand)| demand_key(demand) == *shape);
        found.map_or_else(Vec::new, |(_, demand)| demand.constraints.clone())
    }

    fn effect(&mut self, framework: FrameworkId, effect: &Effect, at: Timestamp) {
        match effect {
            Effect::DemandSet { demand, .. } => {
                let key = (framework, demand.key.clone());
                self.demands.insert(key, (**demand).clone());
            }
            Effect::DemandCleared { key } => {
                self.demands.remove(&(framework, key.clone()));
            }
            Effect::TaskAcknowledged { task, state, .. }
            | Effect::TaskDecided { task, state, .. }
                if state.is_final() =>
            {
                if let Some(launch) = self.newest.get(&(framework, task.clone())).copied() {
                    self.ended(launch, at);
                }
            }
            _ => {}
        }
    }

    /// Units that are wanted more were asked for now; those wanted less are the newest.
    fn count_demand(&mut self, framework: FrameworkId, at: Timestamp) {
        let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
        for ((of, _), demand) in &self.demands {
            if *of == framework && !demand.shape.is_anything() {
                *wanted.entry(demand_key(demand)).or_default() += demand.count as usize;
            }
        }
        self.asked
            .retain(|(of, shape), _| *of != framework || wanted.contains_key(shape));
        for (shape, count) in wanted {
            let waiting = self.asked.entry((framework, shape)).or_default();
            waiting.resize(count, at);
        }
    }

    fn ended(&mut self, launch: LaunchNumber, at: Timestamp) {
        if let Some(place) = self.launches.get(&launch) {
            let (task, from) = &mut self.tasks[*place];
            task.runs.get_or_insert(at.since(*from));
        }
    }

    fn finish(self) -> Result<Recorded, ReadDemandError> {
        let begin = self.begin.unwrap_or_default();
        if self.tasks.is_empty() {
            return Err(ReadDemandError::NoTasks);
        }
        let waits = self.tasks.iter().map(|(task, at)| at.since(task.asked).0);
        let waits = Waits::of(waits.collect());
        let utilisation = self.utilisation();
        let mut tasks: Vec<Task> = self.tasks.into_iter().map(|(task, _)| task).collect();
        tasks.sort_by_key(|task| task.asked);
        Ok(Recorded {
            workload: Workload {
                machines: self.machines.into_values().collect(),
                owners: self.named,
                tasks,
                begin,
                end: self.end,
            },
            config: self.config,
            policy: self.policy,
            utilisation,
            waits,
        })
    }

    /// Of each kind, what tasks held against what there was, over all the time.
    fn utilisation(&self) -> Vec<(String, u64)> {
        let mut areas: BTreeMap<String, (i128, i128)> = BTreeMap::new();
        for machine in self.machines.values() {
            let span = i128::from(self.end.since(machine.from).0);
            for (kind, amount) in machine.total.amounts() {
                areas.entry(kind.to_owned()).or_default().0 += i128::from(amount.milli()) * span;
            }
        }
        for (task, at) in &self.tasks {
            let until = task.runs.map_or(self.end, |runs| *at + runs).min(self.end);
            let span = i128::from(until.since(*at).0);
            for (kind, amount) in task.shape.amounts() {
                areas.entry(kind.to_owned()).or_default().1 += i128::from(amount.milli()) * span;
            }
        }
        let parts = areas.into_iter().filter(|(_, (total, _))| *total > 0);
        parts
            .map(|(kind, (total, used))| (kind, part(used, total)))
            .collect()
    }
}

fn ended_in(fact: &Fact) -> Option<(FrameworkId, TaskId)> {
    match fact {
        Fact::Changed {
            framework,
            effect:
                Effect::TaskAcknowledged { task, state, .. } | Effect::TaskDecided { task, state, .. },
        } if state.is_final() => Some((*framework, task.clone())),
        _ => None,
    }
}

fn launched_in(fact: &Fact) -> Option<(FrameworkId, TaskId)> {
    match fact {
        Fact::Changed {
            framework,
            effect: Effect::TaskLaunched(launch),
        } => Some((*framework, launch.task.id.clone())),
        _ => None,
    }
}

/// Amounts alone: which ports and names a task holds is its own affair.
fn amounts(bundle: &Bundle) -> Bundle {
    let mut amounts = bundle.clone();
    amounts.ports = Ranges::default();
    amounts
        .other
        .retain(|_, quantity| matches!(quantity, Quantity::Scalar(_)));
    amounts
}

fn shape_key(bundle: &Bundle) -> String {
    bundle.to_string()
}

fn demand_key(demand: &Demand) -> String {
    shape_key(&amounts(&demand.shape.resources.total()))
}
