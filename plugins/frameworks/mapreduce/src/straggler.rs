//! Which tasks run so much longer than the others of their phase that a backup is worth a try.

use proffer_sdk::framework::Timestamp;

use crate::job::Job;
use crate::task::{AttemptState, Kind, TaskRecord};

/// Backups start when so much of a phase is done: before, the median says little, and waiting tasks
/// need the room more. In percent.
const PHASE_DONE_PERCENT: usize = 75;

/// A task that should have a backup, or will from `due` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its index in the phase.
    pub index: usize,
    /// When it becomes a straggler if it still runs then.
    pub due: Timestamp,
}

/// The tasks of a phase that run alone, with the time at which they become stragglers. Empty while
/// tasks wait, too little is done, or the job wants no backups.
#[must_use]
pub fn candidates(job: &Job, kind: Kind) -> Vec<Candidate> {
    let Some(rule) = job.record.straggler else {
        return Vec::new();
    };
    let tasks = job.tasks(kind);
    let done = tasks.iter().filter(|task| task.is_done()).count();
    if done == tasks.len()
        || done * 100 < tasks.len() * PHASE_DONE_PERCENT
        || tasks.iter().any(TaskRecord::is_waiting)
    {
        return Vec::new();
    }
    let Some(median) = median_runtime(tasks) else {
        return Vec::new();
    };
    let patience = median
        .saturating_mul(u64::from(rule.factor))
        .max(rule.after_ms);
    let mut found = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let mut active = task.active();
        let (Some(attempt), None) = (active.next(), active.next()) else {
            continue;
        };
        if task.is_done() || attempt.state == AttemptState::Unreachable {
            continue;
        }
        let begin = attempt.running.unwrap_or(attempt.launched);
        found.push(Candidate {
            index,
            due: begin.saturating_add(patience),
        });
    }
    found
}

fn median_runtime(tasks: &[TaskRecord]) -> Option<u64> {
    let mut runtimes: Vec<u64> = tasks
        .iter()
        .filter_map(TaskRecord::winner)
        // Ended: the present does not matter.
        .map(|attempt| attempt.runtime(0))
        .collect();
    runtimes.sort_unstable();
    runtimes.get(runtimes.len() / 2).copied()
}
