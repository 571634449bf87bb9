//! The threads that plug-ins run on, time-sliced.
//!
//! A call begins in the **quick** lane. One that is still not done after a slice moves to the
//! **slow** lane, whose threads have a low priority and go round in turns; a plug-in whose last call
//! went there begins its next one there. So short calls never stand in a line behind long ones, and
//! whoever spins pays for it alone. Policies have a lane of their own.
//!
//! Jobs are futures that wait for nothing: they are pending only because their slice is over. So
//! they need no waker, and every queue is bounded by the number of plug-ins, each with one call.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::meter::Meter;

/// How long a call runs before others have their turn.
pub(crate) const SLICE: Duration = Duration::from_millis(1);

/// Niceness of slow threads: they have what nobody else wants.
const SLOW_NICE: i32 = 19;

/// Which threads a job runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Quick,
    Slow,
    Policy,
}

/// What a plug-in's last call was like.
#[derive(Debug, Default)]
pub(crate) struct Habit {
    slow: AtomicBool,
}

pub(crate) struct Executor {
    shared: Arc<Shared>,
}

struct Shared {
    quick: Queue,
    slow: Queue,
    policy: Queue,
    closing: AtomicBool,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    more: Condvar,
}

struct Job {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    meter: Arc<Meter>,
    habit: Arc<Habit>,
    lane: Lane,
    /// What the meter showed before the first poll.
    base: Option<Duration>,
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
    pub(crate) fn start(threads: Threads) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            quick: Queue::default(),
            slow: Queue::default(),
            policy: Queue::default(),
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
        let lane = match lane {
            Lane::Quick if habit.slow.load(Ordering::Relaxed) => Lane::Slow,
            lane => lane,
        };
        self.shared.push(Job {
            future: Box::pin(future),
            meter,
            habit,
            lane,
            base: None,
        });
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        for queue in [&self.shared.quick, &self.shared.slow, &self.shared.policy] {
            // Under the lock, so that no thread is between its look at `closing` and its wait.
            let mut jobs = queue.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let dropped = std::mem::take(&mut *jobs);
            queue.more.notify_all();
            drop(jobs);
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
        let mut jobs = queue.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        jobs.push_back(job);
        queue.more.notify_one();
    }

    fn work(&self, lane: Lane) {
        let queue = self.queue(lane);
        loop {
            let mut job = {
                let mut jobs = queue.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                loop {
                    if self.closing.load(Ordering::Acquire) {
                        return;
                    }
                    match jobs.pop_front() {
                        Some(job) => break job,
                        None => {
                            jobs = queue
                                .more
                                .wait(jobs)
                                .unwrap_or_else(PoisonError::into_inner);
                        }
                    }
                }
            };
            if poll(&mut job) {
                continue;
            }
            if job.lane == Lane::Quick {
                job.lane = Lane::Slow;
            }
            self.push(job);
        }
    }
}

/// Runs a job for a slice. Answers whether it is done.
fn poll(job: &mut Job) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    job.meter.begin();
    let base = *job.base.get_or_insert_with(|| job.meter.spent());
    // A panic that comes this far is a bug of ours in the actor itself. It ends that job (whoever
    // waits for it sees that its sender is gone), not the thread.
    let polled = catch_unwind(AssertUnwindSafe(|| job.future.as_mut().poll(&mut context)));
    if matches!(polled, Ok(Poll::Pending)) {
        job.meter.end();
        return false;
    }
    if job.lane != Lane::Policy {
        // One short call in the slow lane is the way back.
        let spent = job.meter.spent().saturating_sub(base);
        job.habit.slow.store(spent > SLICE, Ordering::Relaxed);
    }
    job.meter.end();
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
