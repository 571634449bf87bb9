//! Jobs as JSON, for people and programs.

use proffer_sdk::framework::Timestamp;
use serde::Serialize;

use crate::job::{Counters, Job, JobRecord, JobState};
use crate::placing::PART;
use crate::task::{Attempt, Kind, TaskRecord};

/// A job in a list, and the beginning of a whole one.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    name: &'a str,
    run: u32,
    role: &'a str,
    state: JobState,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    submitted: Timestamp,
    first_launch: Option<Timestamp>,
    ended: Option<Timestamp>,
    maps: u32,
    reducers: u32,
}

/// A whole job.
#[derive(Debug, Serialize)]
pub struct Whole<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    /// `map`, `reduce`, or null when it has ended.
    phase: Option<&'static str>,
    split: Option<u64>,
    map: FunctionView<'a>,
    reduce: FunctionView<'a>,
    counters: CountersView,
    /// Where the parts of the result are; empty until the job has succeeded.
    result: Vec<Part<'a>>,
    tasks: Vec<TaskView<'a>>,
    /// The `offset` at which the list of tasks goes on.
    next: Option<usize>,
}

#[derive(Debug, Serialize)]
struct FunctionView<'a> {
    component: &'a str,
    resources: String,
    tasks: usize,
    waiting: usize,
    running: usize,
    done: usize,
}

#[derive(Debug, Serialize)]
struct CountersView {
    launched: u32,
    failed: u32,
    rerun: u32,
    backups: u32,
    backups_won: u32,
}

#[derive(Debug, Serialize)]
struct Part<'a> {
    partition: usize,
    /// As an input's source.
    source: String,
    /// The task that wrote it; null if it was lost since.
    task: Option<String>,
    agent: Option<&'a str>,
    path: &'static str,
}

#[derive(Debug, Serialize)]
struct TaskView<'a> {
    phase: &'static str,
    index: usize,
    state: &'static str,
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<SliceView<'a>>,
    attempts: Vec<AttemptView<'a>>,
}

#[derive(Debug, Serialize)]
struct SliceView<'a> {
    source: &'a str,
    offset: u64,
    length: u64,
}

#[derive(Debug, Serialize)]
struct AttemptView<'a> {
    task: String,
    agent: &'a str,
    agent_id: u32,
    state: &'static str,
    launched: Timestamp,
    runtime_ms: u64,
    backup: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'a str,
}

/// Which of a job's tasks to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first.
    pub offset: usize,
    /// At most so many.
    pub limit: usize,
}

/// A job's summary.
#[must_use]
pub fn summary(record: &JobRecord) -> Summary<'_> {
    Summary {
        name: &record.name,
        run: record.run,
        role: &record.role,
        state: record.state,
        reason: &record.reason,
        submitted: record.submitted,
        first_launch: record.first_launch,
        ended: record.ended,
        maps: record.maps,
        reducers: record.reducers,
    }
}

/// A whole job, with those of its tasks (maps, then reduces) that the window shows.
#[must_use]
pub fn whole(job: &Job, window: Window, now: Timestamp) -> Whole<'_> {
    let all = (job.maps.iter().enumerate().map(|(i, t)| (Kind::Map, i, t)))
        .chain((job.reduces.iter().enumerate()).map(|(i, t)| (Kind::Reduce, i, t)));
    let tasks: Vec<TaskView<'_>> = all
        .skip(window.offset)
        .take(window.limit)
        .map(|(kind, index, task)| task_view(job, kind, index, task, now))
        .collect();
    let reached = window.offset.saturating_add(tasks.len());
    let more = reached < job.maps.len() + job.reduces.len();
    let Counters {
        launched,
        failed,
        rerun,
        backups,
        backups_won,
    } = job.record.counters;
    Whole {
        summary: summary(&job.record),
        phase: job.open_phases().first().map(|kind| kind.phase()),
        split: job.record.split,
        map: function_view(job, Kind::Map),
        reduce: function_view(job, Kind::Reduce),
        counters: CountersView {
            launched,
            failed,
            rerun,
            backups,
            backups_won,
        },
        result: result(job),
        next: (more && !tasks.is_empty()).then_some(reached),
        tasks,
    }
}

fn function_view(job: &Job, kind: Kind) -> FunctionView<'_> {
    let function = job.record.function(kind);
    let tasks = job.tasks(kind);
    let count = |wanted: fn(&TaskRecord) -> bool| tasks.iter().filter(|task| wanted(task)).count();
    FunctionView {
        component: &function.component,
        resources: function.resources(),
        tasks: tasks.len(),
        waiting: count(TaskRecord::is_waiting),
        running: count(|task| !task.is_done() && !task.is_waiting()),
        done: count(TaskRecord::is_done),
    }
}

fn result(job: &Job) -> Vec<Part<'_>> {
    if job.record.state != JobState::Succeeded {
        return Vec::new();
    }
    let parts = job.reduces.iter().enumerate();
    parts
        .map(|(partition, task)| {
            let output = job.record.output(Kind::Reduce, partition);
            let winner = task.winner();
            Part {
                partition,
                task: winner.map(|attempt| format!("{output}.a{}", attempt.number)),
                agent: winner.map(|attempt| attempt.host.as_str()),
                source: format!("output:{output}/{PART}"),
                path: PART,
            }
        })
        .collect()
}

fn task_view<'a>(
    job: &'a Job,
    kind: Kind,
    index: usize,
    task: &'a TaskRecord,
    now: Timestamp,
) -> TaskView<'a> {
    let state = if task.is_done() {
        "done"
    } else if !job.is_running() {
        "ended"
    } else if !task.is_waiting() {
        "running"
    } else if task.attempts.iter().any(|a| a.state.is_active()) {
        "unreachable"
    } else {
        "waiting"
    };
    let input = match kind {
        Kind::Map => job.slice(index),
        Kind::Reduce => None,
    };
    let output = job.record.output(kind, index);
    let attempts = task.attempts.iter();
    TaskView {
        phase: kind.phase(),
        index,
        state,
        failures: task.failures,
        input: input.map(|slice| SliceView {
            source: &slice.file.source,
            offset: slice.offset,
            length: slice.length,
        }),
        attempts: attempts
            .map(|attempt| attempt_view(job, &output, attempt, now))
            .collect(),
    }
}

fn attempt_view<'a>(
    job: &Job,
    output: &str,
    attempt: &'a Attempt,
    now: Timestamp,
) -> AttemptView<'a> {
    // With its job every attempt ends, and the record of the job says so for all of them.
    let (state, until) = match job.record.ended {
        Some(ended) if attempt.state.is_active() => ("killed", ended),
        _ => (attempt.state.name(), now),
    };
    AttemptView {
        task: format!("{output}.a{}", attempt.number),
        agent: &attempt.host,
        agent_id: attempt.agent,
        state,
        launched: attempt.launched,
        runtime_ms: attempt.runtime(until),
        backup: attempt.backup,
        why: &attempt.why,
    }
}
