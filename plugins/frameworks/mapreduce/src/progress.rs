//! What an update means for a job: done, once more, or given up.

use std::collections::BTreeSet;

use proffer_sdk::framework::{AgentId, Remedy, Step, TaskState, Timestamp, Update};

use crate::job::{Job, JobState, Lost};
use crate::task::{AttemptState, Kind, TaskName, parse_output};

/// The code of an update that says that an input is no more.
const INPUT_LOST: &str = "input-lost";

/// Outputs that one update may take away by name. Each is a record to write; more of them are found
/// missing by the next attempt.
const LOST_NAMES_MAX: usize = 1_000;

/// So often a reduce task may find inputs missing; then it counts as failed. More than agents are
/// lost during one task, and few enough for a job that can never succeed to end.
const LOSSES_MAX: u32 = 8;

/// Why an attempt ended that was not needed any more.
const FIRST: &str = "another attempt was first";

/// Takes one update of one of the job's attempts.
pub fn take_update(job: &mut Job, name: TaskName<'_>, update: &Update, step: &mut Step<'_>) {
    let now = job.time_of_end(step.now());
    let Some(task) = job.task_mut(name.kind, name.index) else {
        return;
    };
    let was_done = task.is_done();
    let Some(attempt) = task.attempt_mut(name.attempt) else {
        return;
    };
    if !attempt.state.is_active() {
        return;
    }
    match update.state {
        TaskState::Staging => {}
        TaskState::Starting => attempt.state = AttemptState::Starting,
        TaskState::Running | TaskState::Killing => {
            attempt.state = AttemptState::Running;
            attempt.running.get_or_insert(now);
        }
        TaskState::Unreachable => attempt.state = AttemptState::Unreachable,
        TaskState::Finished if was_done => {
            attempt.end(AttemptState::Gone, now, FIRST);
        }
        TaskState::Finished => {
            attempt.end(AttemptState::Finished, now, "");
            finish(job, name, step);
        }
        // Whatever its final state, and if it is the inputs that this job makes itself.
        _ if name.kind == Kind::Reduce && update.why.code == INPUT_LOST => {
            attempt.end(AttemptState::Gone, now, &update.why.text);
            lose_inputs(job, name, update, step);
        }
        TaskState::Failed | TaskState::Error => {
            attempt.end(AttemptState::Failed, now, &reason_of(update));
            fail(job, name, update, step);
        }
        // Not the task's fault: its agent went, it was killed, or its offer was gone.
        TaskState::Killed
        | TaskState::Dropped
        | TaskState::Gone
        | TaskState::GoneByOperator
        | TaskState::Unknown => {
            attempt.end(AttemptState::Gone, now, &reason_of(update));
        }
    }
}

/// The first attempt of a task to finish: the others end, and perhaps the phase or the job is done.
fn finish(job: &mut Job, name: TaskName<'_>, step: &mut Step<'_>) {
    let prefix = job.record.prefix();
    let mut backup_won = false;
    if let Some(task) = job.task_mut(name.kind, name.index) {
        backup_won = task.winner().is_some_and(|winner| winner.backup);
        for other in &mut task.attempts {
            if other.state.is_active() {
                let (letter, index) = (name.kind.letter(), name.index);
                let id = format!("{prefix}.{letter}{index}.a{}", other.number);
                step.kill(id, FIRST);
                other.end(AttemptState::Gone, step.now(), FIRST);
            }
        }
    }
    if backup_won {
        job.record.counters.backups_won += 1;
        job.changed.record = true;
    }
    if name.kind == Kind::Reduce && job.is_running() && job.reduces.iter().all(|t| t.is_done()) {
        proffer_sdk::info!("job {prefix} has succeeded");
        end(job, JobState::Succeeded, String::new(), step);
    }
}

/// An attempt that failed by itself: once more elsewhere, or the job is given up.
fn fail(job: &mut Job, name: TaskName<'_>, update: &Update, step: &mut Step<'_>) {
    job.record.counters.failed += 1;
    job.changed.record = true;
    let failures_max = job.record.failures_max;
    let Some(task) = job.task_mut(name.kind, name.index) else {
        return;
    };
    task.failures += 1;
    let failures = task.failures;
    // Another attempt may still succeed; if it does not, its failure is counted then.
    if task.is_done() || !job.is_running() {
        return;
    }
    let same_for_ever = matches!(update.why.remedy, Remedy::Mend | Remedy::Unsupported);
    let hopeless = update.state == TaskState::Error && same_for_ever;
    if failures >= failures_max || hopeless {
        let times = match failures {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        let reason = format!(
            "{} task {} failed {times}, the last time: {}",
            name.kind.phase(),
            name.index,
            reason_of(update)
        );
        proffer_sdk::warn!("job {} is given up: {reason}", job.record.prefix());
        end(job, JobState::Failed, reason, step);
    }
}

/// A reduce task found inputs missing: the maps that wrote them run again. Not the task's fault, but
/// one that never finds them (its component is what is missing, say) is stopped in the end.
fn lose_inputs(job: &mut Job, name: TaskName<'_>, update: &Update, step: &mut Step<'_>) {
    let now = job.time_of_loss(step.now());
    let losses = job.task_mut(name.kind, name.index).map_or(0, |task| {
        task.losses += 1;
        task.losses
    });
    if losses > LOSSES_MAX {
        fail(job, name, update, step);
        return;
    }
    let data = String::from_utf8_lossy(&update.data);
    let named = maps_named(job, data.split_whitespace());
    if !named.is_empty() {
        lose_maps(job, &named, now);
        return;
    }
    // A text for people names one of them at best; what else is on its agent will be missing too.
    let text = update.why.text.split([' ', '/', ',', ':', '\'', '"']);
    let agents: BTreeSet<AgentId> = maps_named(job, text)
        .into_iter()
        .filter_map(|index| job.maps.get(index)?.winner())
        .map(|attempt| attempt.agent)
        .collect();
    if agents.is_empty() {
        // Nobody says which: all of them, and that is one record.
        lose(
            job,
            Lost {
                agent: None,
                at: now,
            },
        );
    }
    for agent in agents {
        lose_agent(job, agent, now);
    }
}

/// The job's map tasks that are named, by output or by task.
fn maps_named<'a>(job: &Job, names: impl Iterator<Item = &'a str>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for text in names {
        let parsed = parse_output(text).or_else(|| {
            let task = TaskName::parse(text)?;
            Some((task.job, task.run, task.kind, task.index))
        });
        if let Some((name, run, Kind::Map, index)) = parsed
            && name == job.record.name
            && run == job.record.run
            && found.len() < LOST_NAMES_MAX
        {
            found.insert(index);
        }
    }
    found
}

fn lose_maps(job: &mut Job, indexes: &BTreeSet<usize>, now: Timestamp) {
    let gone = Lost {
        agent: None,
        at: now,
    };
    for index in indexes {
        let task = job.task_mut(Kind::Map, *index);
        if task.is_some_and(|task| task.lose_output(gone)) {
            job.record.counters.rerun += 1;
        }
    }
    job.changed.record = true;
}

/// An agent is lost, and what its tasks have written: it is made again.
pub fn lose_agent(job: &mut Job, agent: AgentId, now: Timestamp) {
    let lost = Lost {
        agent: Some(agent),
        at: job.time_of_loss(now),
    };
    lose(job, lost);
}

fn lose(job: &mut Job, lost: Lost) {
    let rerun = job.apply_lost(lost);
    if rerun > 0 {
        job.record.lose(lost);
        job.record.counters.rerun += rerun;
        job.changed.record = true;
    }
}

/// Ends a job: what still runs of it is killed.
fn end(job: &mut Job, state: JobState, reason: String, step: &mut Step<'_>) {
    job.record.state = state;
    job.record.reason = reason;
    job.record.ended = Some(step.now());
    job.changed.record = true;
    let label = match state {
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
    };
    step.host()
        .count("mapreduce_jobs_ended", &[("state", label)], 1);
    job.changed.kills = active_attempts(job);
}

/// The ids of all attempts that may still run.
#[must_use]
pub fn active_attempts(job: &Job) -> Vec<String> {
    let mut ids = Vec::new();
    for kind in [Kind::Map, Kind::Reduce] {
        for (index, task) in job.tasks(kind).iter().enumerate() {
            let output = job.record.output(kind, index);
            ids.extend(
                task.active()
                    .map(|attempt| format!("{output}.a{}", attempt.number)),
            );
        }
    }
    ids
}

fn reason_of(update: &Update) -> String {
    match (update.why.text.is_empty(), update.exit) {
        (false, _) => update.why.text.clone(),
        (true, Some(exit)) => format!("exit status {exit}"),
        (true, None) => "no reason was given".to_owned(),
    }
}
