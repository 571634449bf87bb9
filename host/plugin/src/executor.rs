//! The threads that plug-ins run on, time-sliced.
//!
//! A call begins in the **quick** lane. One that is still not done after a slice moves to the
//! **slow** lane, whose threads have a low priority. So short calls never stand in a line behind
//! long ones. Policies have a lane of their own.
//!
//! A call is **heavy** when it has run for long, or its plug-in has lately used up a budget (then it
//! begins in the slow lane). Heavy calls come after the others of their lane, in turns, and make way for quick ones. What a
//! call cost does not tell against the next one: a good step that took a little more than a slice
//! would then stand behind everybody who spins.
//!
//! Jobs are futures that wait for nothing: they are pending only because their slice is over. So
//! they need no waker, and every queue is bounded by the number of plug-ins, each with one call.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use wasmtime::Engine;

use crate::meter::Meter;
use crate::precedence::{MAKES_WAY, Precedence};

/// What a call may run in the quick lane: one that was stopped earlier has made way for others, and stays.
const SLICE: Duration = Duration::from_millis(1);

/// How much of a call is light: ten times what a step with a hundred offers takes.
const LIGHT: Duration = Duration::from_millis(10);

/// The same of a policy's: a cycle over ten thousand agents.
const LIGHT_POLICY: Duration = Duration::from_millis(20);

/// For how many calls a plug-in that used up a budget is watched: a policy is configured anew, fed
/// and asked between two decisions.
const WATCHED_CALLS: u32 = 4;

/// Niceness of slow threads: they have what nobody else wants.
const SLOW_NICE: i32 = 19;

/// Which threads a job runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Quick,
    Slow,
    Policy,
}

/// What a plug-in's last calls were like.
#[derive(Debug, Default)]
pub(crate) struct Habit {
    /// For how many calls more it is watched.
    watched: AtomicU32,
}

impl Habit {
    fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) > 0
    }

    /// A call has ended. A plug-in has one at a time, so nobody else writes.
    fn learn(&self, overran: bool) {
        let watched = match overran {
            true => WATCHED_CALLS,
            false => self.watched.load(Ordering::Relaxed).saturating_sub(1),
        };
        self.watched.store(watched, Ordering::Relaxed);
    }
}

pub(crate) struct Executor {
    shared: Arc<Shared>,
}

struct Shared {
    quick: Queue,
    slow: Queue,
    policy: Queue,
    precedence: Precedence,
    closing: AtomicBool,
}

#[derive(Default)]
struct Queue {
    line: Mutex<Line>,
    more: Condvar,
}

/// What waits in a lane.
#[derive(Default)]
struct Line {
    light: VecDeque<Job>,
    heavy: VecDeque<Job>,
}

impl Line {
    fn push(&mut self, job: Job) {
        if job.heavy {
            self.heavy.push_back(job);
        } else {
            self.light.push_back(job);
        }
    }

    fn next(&mut self) -> Option<Job> {
        self.light.pop_front().or_else(|| self.heavy.pop_front())
    }
}

struct Job {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    meter: Arc<Meter>,
    habit: Arc<Habit>,
    lane: Lane,
    heavy: bool,
    /// Processor time of its slices so far.
    ran: Duration,
}

/// How many threads each lane has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads {
    pub(crate) quick: usize,
    pub(crate) slow: usize,
    pub(crate) policy: usize,
}

impl Executor {
    /// Starts the threads. They end when this is dropped, at the end of their current slice; calls
    /// that are not done then are dropped.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(threads: Threads, engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            quick: Queue::default(),
            slow: Queue::default(),
            policy: Queue::default(),
            precedence: Precedence::new(engine),
            closing: AtomicBool::new(false),
        });
        let executor = Self {
            shared: Arc::clone(&shared),
        };
        for (lane, count, name) in [
            (Lane::Quick, threads.quick, "proffer-quick"),
            (Lane::Slow, threads.slow, "proffer-slow"),
            (Lane::Policy, threads.policy, "proffer-policy"),
        ] {
            for _ in 0..count {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || {
                        if lane == Lane::Slow {
                            be_nice(SLOW_NICE);
                        }
                        shared.work(lane);
                    })?;
            }
        }
        Ok(executor)
    }

    /// Runs a job to its end.
    pub(crate) fn spawn(
        &self,
        lane: Lane,
        meter: Arc<Meter>,
        habit: Arc<Habit>,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let heavy = habit.is_watched();
        let lane = match lane {
            Lane::Quick if heavy => Lane::Slow,
            lane => lane,
        };
        if lane == Lane::Quick {
            self.shared.precedence.short_comes();
        }
        self.shared.push(Job {
            future: Box::pin(future),
            meter,
            habit,
            lane,
            heavy,
            ran: Duration::ZERO,
        });
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        for queue in [&self.shared.quick, &self.shared.slow, &self.shared.policy] {
            // Under the lock, so that no thread is between its look at `closing` and its wait.
            let mut line = queue.line.lock().unwrap_or_else(PoisonError::into_inner);
            let dropped = std::mem::take(&mut *line);
            queue.more.notify_all();
            drop(line);
            drop(dropped);
        }
    }
}

impl Shared {
    fn queue(&self, lane: Lane) -> &Queue {
        match lane {
            Lane::Quick => &self.quick,
            Lane::Slow => &self.slow,
            Lane::Policy => &self.policy,
        }
    }

    fn push(&self, job: Job) {
        let queue = self.queue(job.lane);
        let mut line = queue.line.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        line.push(job);
        queue.more.notify_one();
    }

    /// The next call of a lane; none when the executor is closing.
    fn next(&self, queue: &Queue) -> Option<Job> {
        let mut line = queue.line.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.closing.load(Ordering::Acquire) {
                return None;
            }
            match line.next() {
                Some(job) => return Some(job),
                None => {
                    line = queue
                        .more
                        .wait(line)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn work(&self, lane: Lane) {
        let queue = self.queue(lane);
        while let Some(mut job) = self.next(queue) {
            let slice = job.heavy.then(|| self.precedence.heavy_begins(MAKES_WAY));
            let done = poll(&mut job);
            drop(slice);
            let over = done || job.ran >= SLICE;
            if lane == Lane::Quick && over {
                self.precedence.short_goes();
            }
            if done {
                continue;
            }
            match lane {
                Lane::Quick if over => job.lane = Lane::Slow,
                Lane::Slow => job.heavy |= job.ran > LIGHT,
                Lane::Policy => job.heavy |= job.ran > LIGHT_POLICY,
                // It was stopped for another that has come.
                Lane::Quick => {}
            }
            self.push(job);
        }
    }
}

/// Runs a job for a slice. Answers whether it is done.
fn poll(job: &mut Job) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    job.meter.begin();
    let before = job.meter.spent();
    // A panic that comes this far is a bug of ours in the actor itself. It ends that job (whoever
    // waits for it sees that its sender is gone), not the thread.
    let polled = catch_unwind(AssertUnwindSafe(|| job.future.as_mut().poll(&mut context)));
    job.ran += job.meter.spent().saturating_sub(before);
    job.meter.end();
    if matches!(polled, Ok(Poll::Pending)) {
        return false;
    }
    job.habit.learn(job.meter.overran());
    true
}

/// Lowers the priority of the calling thread. Best effort: fairness gets worse without it, not wrong.
pub(crate) fn be_nice(niceness: i32) {
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, niceness)
    {
        tracing::debug!(%error, "cannot lower the priority of a plug-in thread");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(heavy: bool) -> Job {
        Job {
            future: Box::pin(std::future::ready(())),
            meter: Arc::new(Meter::new()),
            habit: Arc::default(),
            lane: Lane::Slow,
            heavy,
            ran: Duration::ZERO,
        }
    }

    #[test]
    fn light_calls_come_first_and_each_kind_in_turns() {
        let mut line = Line::default();
        for (ran, heavy) in [(1, true), (2, false), (3, true), (4, false)] {
            let mut job = job(heavy);
            job.ran = Duration::from_secs(ran);
            line.push(job);
        }
        let served = std::iter::from_fn(|| line.next());
        let served: Vec<u64> = served.map(|job| job.ran.as_secs()).collect();
        assert_eq!(served, [2, 4, 1, 3]);
    }

    #[test]
    fn whoever_overran_is_watched_for_some_calls() {
        let habit = Habit::default();
        assert!(!habit.is_watched());
        habit.learn(true);
        for _ in 0..WATCHED_CALLS {
            assert!(habit.is_watched());
            habit.learn(false);
        }
        assert!(!habit.is_watched());
    }
}
