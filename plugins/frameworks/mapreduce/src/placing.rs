//! Tasks onto offers, and what of them to demand.

use std::collections::VecDeque;

use proffer_sdk::framework::{
    Accept, AgentId, Demand, Offer, Room, Step, Task, Template, Timestamp,
};

use crate::job::Job;
use crate::straggler;
use crate::task::Kind;

/// Launches of one step. Each is a record and a task in the answer, together up to about 1 KiB, and
/// all of that must stay below the contract's 1 MiB.
const LAUNCHES_MAX: usize = 500;

/// For so long a task is not tried again where it failed; then anywhere is better than nowhere.
const AVOID_MS: u64 = 10_000;

/// How long not to be offered an agent that only avoided tasks could use.
const AVOIDED_REFUSE_MS: u64 = 1_000;

/// Where a map task finds its input, and writes its partitions; where a reduce task finds the
/// partitions, and writes its part of the result. All in the sandbox.
const INPUT: &str = "in";
const MAP_OUT: &str = "out";
/// The file of a reduce task's sandbox that is its part of the result.
pub const PART: &str = "part";

/// A task to be launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit {
    kind: Kind,
    index: usize,
    backup: bool,
}

/// An offer while it is used.
struct Place {
    offer: Offer,
    room: Room,
    host: String,
    tasks: Vec<Task>,
}

/// Fits waiting tasks and due backups of all jobs, oldest job first, into the offers; each offer is
/// accepted or declined. Tasks are dealt to the offers in turn, so that a phase is spread.
pub fn place<'a>(jobs: impl Iterator<Item = &'a mut Job>, offers: Vec<Offer>, step: &mut Step<'_>) {
    let mut places: Vec<Place> = offers
        .into_iter()
        .map(|offer| Place {
            room: offer.room(),
            host: step
                .agent(offer.agent)
                .map(|agent| agent.hostname.clone())
                .unwrap_or_default(),
            tasks: Vec::new(),
            offer,
        })
        .collect();
    let mut left = LAUNCHES_MAX;
    let mut avoided = false;
    for job in jobs {
        for kind in job.open_phases() {
            let outcome = place_phase(job, *kind, &mut places, &mut left, step);
            avoided |= outcome.avoided;
        }
    }
    settle(places, left == 0, avoided, step);
}

/// What became of a phase's waiting tasks.
#[derive(Default)]
struct PhaseOutcome {
    /// A task would have fitted where it has just failed.
    avoided: bool,
}

fn place_phase(
    job: &mut Job,
    kind: Kind,
    places: &mut [Place],
    left: &mut usize,
    step: &mut Step<'_>,
) -> PhaseOutcome {
    let mut outcome = PhaseOutcome::default();
    let units = waiting(job, kind, step.now());
    if units.is_empty() {
        return outcome;
    }
    let shape = job.record.function(kind).shape();
    let mut open: VecDeque<usize> = (0..places.len())
        .filter(|index| {
            places
                .get(*index)
                .is_some_and(|place| place.offer.role == job.record.role)
        })
        .collect();
    for unit in units {
        if *left == 0 {
            break;
        }
        // Each offer that still has room is looked at once per task.
        for _ in 0..open.len() {
            let Some(index) = open.pop_front() else { break };
            let Some(place) = places.get_mut(index) else {
                continue;
            };
            if is_avoided(job, unit, place.offer.agent, step.now()) {
                outcome.avoided = true;
                open.push_back(index);
                continue;
            }
            let Some(piles) = place.room.take(&shape) else {
                continue;
            };
            open.push_back(index);
            *left -= 1;
            let template = step.template(template(job, kind));
            let task = launch(job, unit, place, step.now());
            place.tasks.push(task(template.task(String::new(), piles)));
            break;
        }
    }
    outcome
}

/// Waiting tasks in their order, then due backups.
fn waiting(job: &Job, kind: Kind, now: Timestamp) -> Vec<Unit> {
    let tasks = job.tasks(kind).iter().enumerate();
    let mut units: Vec<Unit> = tasks
        .filter(|(_, task)| task.is_waiting())
        .map(|(index, _)| Unit {
            kind,
            index,
            backup: false,
        })
        .collect();
    let due = straggler::candidates(job, kind);
    units.extend(
        due.iter()
            .filter(|candidate| candidate.due <= now)
            .map(|candidate| Unit {
                kind,
                index: candidate.index,
                backup: true,
            }),
    );
    units
}

/// Whether the task should not run there: it has just failed there, or runs there already.
fn is_avoided(job: &Job, unit: Unit, agent: AgentId, now: Timestamp) -> bool {
    let Some(task) = job.tasks(unit.kind).get(unit.index) else {
        return true;
    };
    let failed = task
        .failed_on(agent)
        .is_some_and(|at| now < at.saturating_add(AVOID_MS));
    failed || task.active().any(|attempt| attempt.agent == agent)
}

fn template(job: &Job, kind: Kind) -> Template {
    let record = &job.record;
    Template::wasm(kind.phase(), &record.function(kind).component)
        .label("job", &record.name)
        .label("phase", kind.phase())
}

/// Notes the attempt, and returns what makes a task of it.
fn launch(
    job: &mut Job,
    unit: Unit,
    place: &Place,
    now: Timestamp,
) -> impl FnOnce(Task) -> Task + use<> {
    let Unit {
        kind,
        index,
        backup,
    } = unit;
    let number = job
        .task_mut(kind, index)
        .map(|task| task.launch(place.offer.agent, &place.host, now, backup))
        .unwrap_or_default();
    job.record.first_launch.get_or_insert(now);
    job.record.counters.launched += 1;
    job.record.counters.backups += u32::from(backup);
    job.changed.record = true;
    let output = job.record.output(kind, index);
    let id = format!("{output}.a{number}");
    let (source, args) = match kind {
        Kind::Map => map_task(job, index),
        Kind::Reduce => (
            format!("output:{}.m*/{MAP_OUT}/{index}", job.record.prefix()),
            ["reduce", PART, INPUT].map(str::to_owned).to_vec(),
        ),
    };
    move |mut task: Task| {
        task.id = id;
        task.output = output;
        task.input(source, INPUT).args(args)
    }
}

fn map_task(job: &Job, index: usize) -> (String, Vec<String>) {
    let mut args = vec![
        "map".to_owned(),
        "--partitions".to_owned(),
        job.record.reducers.to_string(),
    ];
    // A task's index is below the number of slices; an empty source would fail as a task.
    let source = match job.slice(index) {
        None => String::new(),
        Some(slice) => {
            if job.record.split.is_some() {
                args.extend([
                    "--offset".to_owned(),
                    slice.offset.to_string(),
                    "--length".to_owned(),
                    slice.length.to_string(),
                ]);
            }
            slice.file.source.clone()
        }
    };
    args.extend([INPUT.to_owned(), MAP_OUT.to_owned()]);
    (source, args)
}

/// Accepts what is used and declines the rest, with the filter that fits the reason.
fn settle(places: Vec<Place>, full: bool, avoided: bool, step: &mut Step<'_>) {
    let mut unused = Vec::new();
    for place in places {
        if place.tasks.is_empty() {
            unused.push(place.offer.id);
            continue;
        }
        let accept = Accept::launch([place.offer.id], place.tasks);
        // After a full step the rest of the offer is wanted at once.
        step.accept(if full { accept.refuse(0) } else { accept });
    }
    if unused.is_empty() {
        return;
    }
    let (refuse, why) = if full {
        (Some(0), "one step launches no more; offer it again")
    } else if avoided {
        (
            Some(AVOIDED_REFUSE_MS),
            "the tasks that wait have failed there",
        )
    } else {
        (None, "no task that waits fits")
    };
    step.decline(unused, refuse, why);
}

/// How many tasks of a phase could be launched now, backups included.
#[must_use]
pub fn demanded(job: &Job, kind: Kind, now: Timestamp) -> u32 {
    if !job.open_phases().contains(&kind) {
        return 0;
    }
    u32::try_from(waiting(job, kind, now).len()).unwrap_or(u32::MAX)
}

/// Restates the demand of a job's phases where it has changed.
pub fn restate_demand(job: &mut Job, step: &mut Step<'_>) {
    for (slot, kind) in [Kind::Map, Kind::Reduce].into_iter().enumerate() {
        let count = demanded(job, kind, step.now());
        let Some(stated) = job.record.demand.get_mut(slot) else {
            continue;
        };
        if *stated == count {
            continue;
        }
        *stated = count;
        job.changed.record = true;
        let key = job.record.demand_key(kind);
        if count == 0 {
            step.clear_demand(key);
        } else {
            let shape = job.record.function(kind).shape();
            step.set_demand(Demand::new(key, &job.record.role, shape, count));
        }
    }
}
