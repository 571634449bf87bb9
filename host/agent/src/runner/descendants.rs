//! Processes that tasks leave behind: found again, and ended with their task.
//!
//! The runner is the reaper of its descendants: a process whose parent has died becomes the runner's own
//! child, whatever session and group it has put itself into. So every process of a task that nobody else
//! looks after is, sooner or later, a child that the runner did not start: a *stray*. Whose it is:
//!
//! - its environment, as it was started with, names a launch that runs or has just ended: that one's;
//! - else, if its parent was known to be one's when that was ended, the same one's;
//! - else nobody can tell, and it is ended when no task runs any more that is older than it: then every
//!   task that can have started it has ended. A task that hides its processes keeps them so long, not longer.
//!
//! A sweep looks at the runner's children. One follows the end of each process task; those that come
//! together share it, because a sweep costs some dozens of microseconds, and a task's end does not wait for
//! it. While a task runs there is one now and then, for strays that have ended: nobody else takes their
//! exit status.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::sync::Notify;

use super::protocol::ProcessMark;
use super::status;

/// The variable by which a process is known to be a launch's.
pub(crate) const LAUNCH_VARIABLE: &str = "PROFFER_LAUNCH";

/// Between two sweeps: with tasks that end one after the other, less than a hundredth of a processor.
const SWEEP_GAP: Duration = Duration::from_millis(20);

/// The gap doubles up to this while something does not end: it waits for a disk, and cannot hear.
const SWEEP_GAP_MAX: Duration = Duration::from_secs(1);

/// While tasks run. A task that makes strays in a loop fills the table of processes in minutes, not seconds.
const REAP_EVERY: Duration = Duration::from_secs(5);

/// An environment is at most so long on common systems with the usual stack; the mark is looked for in so
/// much of it.
const ENVIRONMENT_MAX: u64 = 2 * 1024 * 1024;

/// More processes than a user may have; a listing that changes while it is read must come to an end.
const FAMILY_MAX: usize = 65_536;

/// At the runner's end, for what is left to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// The processes of a runner. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Descendants {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Held while a process is started: between its start and its entry it must not look like a stray.
    starting: RwLock<()>,
    known: Mutex<Known>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// The processes that the runner started and whose exit status it has not seen.
    started: BTreeMap<i32, Task>,
    /// Launches that have ended and of which something may be left.
    ended: BTreeSet<u64>,
    strays: BTreeMap<i32, Owner>,
    /// What was below a process when it was ended, and will be strays.
    heirs: BTreeMap<ProcessMarkKey, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Task {
    launch: u64,
    /// In ticks since boot; none if it had ended before anybody looked.
    started: Option<u64>,
}

/// Whose a stray is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Launch(u64),
    /// Of a task that was there at this time, in ticks since boot.
    SomebodyAt(u64),
}

/// A process and when it was started.
type ProcessMarkKey = (i32, u64);

impl Descendants {
    /// Starts a task's process through `start` and keeps it in mind.
    pub(super) fn start<T>(
        &self,
        launch: u64,
        start: impl FnOnce() -> io::Result<(T, Option<i32>)>,
    ) -> io::Result<(T, Option<ProcessMark>)> {
        let _starting = self
            .shared
            .starting
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let (child, pid) = start()?;
        let mark = pid.and_then(status::mark_of);
        if let Some(pid) = pid {
            let started = mark.map(|mark| mark.started);
            let task = Task { launch, started };
            self.known().started.insert(pid, task);
        }
        Ok((child, mark))
    }

    /// A task's process has ended and its exit status was taken: what it left ends soon.
    pub(super) fn end(&self, launch: u64, pid: Option<i32>) {
        let mut known = self.known();
        // The number may be another task's by now.
        if let Some(pid) = pid
            && known
                .started
                .get(&pid)
                .is_some_and(|task| task.launch == launch)
        {
            known.started.remove(&pid);
        }
        known.ended.insert(launch);
        drop(known);
        self.shared.ended.notify_one();
    }

    /// A task's process is about to be ended: all below it is the task's, in whatever session and with
    /// whatever environment.
    pub(super) fn note_family(&self, launch: u64, pid: Option<i32>) {
        if let Some(pid) = pid {
            self.known().note_family(launch, pid);
        }
    }

    /// Sweeps when there is reason to, for ever.
    pub(super) async fn sweep_always(self) {
        if !fs::exists("/proc/thread-self/children").is_ok_and(|exists| exists) {
            tracing::warn!(
                "this kernel does not list children (CONFIG_PROC_CHILDREN): processes that leave their \
                 task's group outlive it"
            );
            return;
        }
        let mut gap = SWEEP_GAP;
        loop {
            let woken = tokio::time::timeout(REAP_EVERY, self.shared.ended.notified()).await;
            if woken.is_err() && self.known().started.is_empty() {
                continue;
            }
            gap = match self.sweep_once() {
                true => SWEEP_GAP,
                false => {
                    self.shared.ended.notify_one();
                    (gap * 2).min(SWEEP_GAP_MAX)
                }
            };
            tokio::time::sleep(gap).await;
        }
    }

    /// No task runs any more: ends what is left, before the runner itself ends.
    pub(super) async fn end_all(&self) {
        let ended = async {
            while !self.sweep_once() {
                tokio::time::sleep(SWEEP_GAP).await;
            }
        };
        if tokio::time::timeout(END_WITHIN, ended).await.is_err() {
            tracing::warn!("processes that tasks left behind do not end");
        }
    }

    /// One look at all children; whether nothing is left that is to end.
    fn sweep_once(&self) -> bool {
        let (ended, strays) = {
            let _nothing_starts = self
                .shared
                .starting
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let known = self.known();
            let strays = children_of("self").map(|children| {
                let strays = children.into_iter();
                let strays = strays.filter(|pid| !known.started.contains_key(pid));
                strays.collect::<BTreeSet<i32>>()
            });
            (known.ended.clone(), strays)
        };
        match strays {
            Ok(strays) => self.known().sweep(&ended, &strays),
            Err(error) => {
                tracing::warn!(%error, "the runner's children cannot be listed");
                true
            }
        }
    }

    /// A panic while it was held cannot have left it in a state that does harm: at worst a stray lives on.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.shared
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// `ended`: the launches that had ended before the strays were listed.
    fn sweep(&mut self, ended: &BTreeSet<u64>, strays: &BTreeSet<i32>) -> bool {
        self.strays.retain(|pid, _| strays.contains(pid));
        let mut left: BTreeSet<u64> = BTreeSet::new();
        let mut all_ended = true;
        for &pid in strays {
            let Some(owner) = self.owner_of(pid) else {
                continue;
            };
            if let Owner::Launch(launch) = owner {
                left.insert(launch);
            }
            if self.is_to_end(owner) {
                all_ended = false;
                if let Owner::Launch(launch) = owner {
                    self.note_family(launch, pid);
                }
                end_child(pid);
            }
            if reap(pid) {
                self.strays.remove(&pid);
            }
        }
        // Whoever had a stray in this sweep may have left another in the meantime.
        self.ended
            .retain(|launch| left.contains(launch) || !ended.contains(launch));
        let Self {
            ended,
            started,
            heirs,
            ..
        } = self;
        heirs.retain(|_, launch| {
            ended.contains(launch) || started.values().any(|task| task.launch == *launch)
        });
        all_ended
    }

    /// None: it is gone.
    fn owner_of(&mut self, pid: i32) -> Option<Owner> {
        if let Some(&owner) = self.strays.get(&pid) {
            return Some(owner);
        }
        let mark = status::mark_of(pid)?;
        let heir = self.heirs.get(&(mark.pid, mark.started)).copied();
        let launch = heir.or_else(|| self.named_launch(mark));
        let owner = launch.map_or(Owner::SomebodyAt(mark.started), Owner::Launch);
        self.strays.insert(pid, owner);
        Some(owner)
    }

    /// The launch that its environment names, if that can be true.
    fn named_launch(&self, mark: ProcessMark) -> Option<u64> {
        let launch = launch_in_environment(mark.pid)?;
        let mut running = self.started.values();
        let is_running = running.any(|task| task.launch == launch && task.is_older(mark.started));
        (is_running || self.ended.contains(&launch)).then_some(launch)
    }

    fn is_to_end(&self, owner: Owner) -> bool {
        match owner {
            Owner::Launch(launch) => {
                let mut running = self.started.values();
                !running.any(|task| task.launch == launch)
            }
            Owner::SomebodyAt(at) => !self.started.values().any(|task| task.is_older(at)),
        }
    }

    fn note_family(&mut self, launch: u64, pid: i32) {
        let mut parents = vec![pid];
        while let Some(parent) = parents.pop() {
            // One that has just ended has left its children to somebody else.
            let Ok(children) = children_of(parent) else {
                continue;
            };
            for mark in children.into_iter().filter_map(status::mark_of) {
                let is_new = self
                    .heirs
                    .insert((mark.pid, mark.started), launch)
                    .is_none();
                if is_new && self.heirs.len() < FAMILY_MAX {
                    parents.push(mark.pid);
                }
            }
        }
    }
}

impl Task {
    /// Whether it was there at this time. Ticks are coarse, so the same one counts.
    fn is_older(&self, at: u64) -> bool {
        self.started.is_none_or(|started| started <= at)
    }
}

/// A child of this process cannot become another one before it was reaped, so its number is sure.
fn end_child(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else {
        return;
    };
    if let Err(error) = kill_process(pid, Signal::KILL)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(pid = pid.as_raw_nonzero(), %error, "a process that a task left was not ended");
    }
}

/// Takes a child's exit status, if it has ended.
fn reap(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else {
        return false;
    };
    matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_)))
}

/// All children of a process: each of its threads has its own.
fn children_of(process: impl std::fmt::Display) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = thread?.path().join("children");
        match fs::read_to_string(path) {
            Ok(text) => children.extend(numbers(&text)),
            // The thread has ended, and its children are another's: the next sweep sees them.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

fn numbers(text: &str) -> impl Iterator<Item = i32> + '_ {
    text.split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
}

/// None also if it does not let itself be looked at.
fn launch_in_environment(pid: i32) -> Option<u64> {
    let file = fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    let mut environment = Vec::new();
    file.take(ENVIRONMENT_MAX)
        .read_to_end(&mut environment)
        .ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let number = variables.find_map(|variable| {
        let rest = variable.strip_prefix(LAUNCH_VARIABLE.as_bytes())?;
        rest.strip_prefix(b"=")
    })?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: Task = Task {
        launch: 1,
        started: Some(100),
    };
    const YOUNGER: Task = Task {
        launch: 2,
        started: Some(200),
    };

    #[test]
    fn a_stray_that_nobody_can_tell_lives_as_long_as_a_task_that_can_have_started_it() {
        let mut known = Known {
            started: BTreeMap::from([(10, OLDER), (20, YOUNGER)]),
            ..Known::default()
        };
        let of_either = Owner::SomebodyAt(200);
        let of_the_older = Owner::SomebodyAt(199);
        assert!(!known.is_to_end(of_either) && !known.is_to_end(of_the_older));
        known.started.remove(&10);
        assert!(!known.is_to_end(of_either) && known.is_to_end(of_the_older));
        known.started.remove(&20);
        assert!(known.is_to_end(of_either));
    }

    #[test]
    fn a_task_whose_number_was_reused_is_still_known() {
        let processes = Descendants::default();
        processes.known().started.insert(10, YOUNGER);
        processes.end(OLDER.launch, Some(10));
        assert_eq!(processes.known().started[&10], YOUNGER);
        processes.end(YOUNGER.launch, Some(10));
        assert!(processes.known().started.is_empty());
    }
}
