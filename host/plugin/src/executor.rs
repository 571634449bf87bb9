//! The threads that plug-ins run on, time-sliced.
//!
//! A call begins in the **quick** lane. One that is still not done after a slice moves to the
//! **slow** lane, whose threads have a low priority, and one that has run for long to the **last**
//! lane, whose threads have the lowest. So short calls never stand in a line behind
//! long ones. Policies have two lanes of their own: one that decides for long, or takes in a whole
//! pool, goes on in the **late** lane.
//!
//! A plug-in that has lately used up a budget is watched: its calls begin in the lane that they would end
//! in. What a call cost does not tell against the next one otherwise: a good step that took a
//! little more than a slice would then be behind everybody who spins.
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

use crate::meter::Meter;

/// How long a framework's call is slow before its place is the last lane: ten times what a step
/// with a hundred offers takes.
const LONG_STEP: Duration = Duration::from_millis(10);

/// How long a policy's call runs before its place is the late lane: half of what a cycle may take.
const LONG_CYCLE: Duration = Duration::from_millis(50);

/// For how many calls a plug-in that used up a budget is watched: a policy is configured anew, fed
/// and asked between two decisions.
const WATCHED_CALLS: u32 = 4;

/// Niceness of the slow and the late threads: a tenth of what others get where there is too little.
const LATE_NICE: i32 = 10;

/// Niceness of the last threads: a seventieth. Nothing at all (the kernel's idle class) would let calls
/// starve on a machine that tasks fill for hours, until the wall clock ends them.
const LAST_NICE: i32 = 19;

/// Which threads a job runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Quick,
    Slow,
    Last,
    Policy,
    Late,
}

impl Lane {
    const ALL: [Self; 5] = [
        Self::Quick,
        Self::Slow,
        Self::Last,
        Self::Policy,
        Self::Late,
    ];

    /// Where a call goes on that has run so long, and is not done.
    fn after(self, ran: Duration) -> Self {
        match self {
            Self::Quick | Self::Slow if ran > LONG_STEP => Self::Last,
            Self::Quick => Self::Slow,
            Self::Policy if ran > LONG_CYCLE => Self::Late,
            lane => lane,
        }
    }

    /// Lowers the calling thread's priority to its lane's.
    fn settle(self) {
        match self {
            Self::Quick | Self::Policy => {}
            Self::Slow | Self::Late => be_nice(LATE_NICE),
            Self::Last => be_nice(LAST_NICE),
        }
    }
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
    /// As in [`Lane::ALL`].
    queues: [Queue; Lane::ALL.len()],
    closing: AtomicBool,
}

#[derive(Default)]
struct Queue {
    line: Mutex<VecDeque<Job>>,
    more: Condvar,
}

struct Job {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    meter: Arc<Meter>,
    habit: Arc<Habit>,
    lane: Lane,
    /// Processor time of its slices so far.
    ran: Duration,
}

/// How many threads each lane has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads {
    pub(crate) quick: usize,
    /// Of the slow lane, and of the last one.
    pub(crate) slow: usize,
    /// Of the policies' lane, and of the late one.
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
            queues: Default::default(),
            closing: AtomicBool::new(false),
        });
        let executor = Self {
            shared: Arc::clone(&shared),
        };
        for lane in Lane::ALL {
            let (name, count) = match lane {
                Lane::Quick => ("proffer-quick", threads.quick),
                Lane::Slow => ("proffer-slow", threads.slow),
                Lane::Last => ("proffer-last", threads.slow),
                Lane::Policy => ("proffer-policy", threads.policy),
                Lane::Late => ("proffer-late", threads.policy),
            };
            for _ in 0..count {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || {
                        lane.settle();
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
        let lane = match habit.is_watched() {
            true => lane.after(Duration::MAX),
            false => lane,
        };
        self.shared.push(Job {
            future: Box::pin(future),
            meter,
            habit,
            lane,
            ran: Duration::ZERO,
        });
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        for queue in &self.shared.queues {
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
        &self.queues[lane as usize]
    }

    fn push(&self, job: Job) {
        let queue = self.queue(job.lane);
        let mut line = queue.line.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        line.push_back(job);
        queue.more.notify_one();
    }

    /// The next call of a lane; none when the executor is closing.
    fn next(&self, queue: &Queue) -> Option<Job> {
        let mut line = queue.line.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.closing.load(Ordering::Acquire) {
                return None;
            }
            match line.pop_front() {
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
            if poll(&mut job) {
                continue;
            }
            job.lane = job.lane.after(job.ran);
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

    #[test]
    fn long_calls_go_on_where_they_are_in_nobodys_way() {
        let (slice, step) = (
            Duration::from_millis(2),
            LONG_STEP + Duration::from_millis(2),
        );
        assert_eq!(Lane::Quick.after(slice), Lane::Slow);
        assert_eq!(Lane::Slow.after(slice), Lane::Slow);
        assert_eq!(Lane::Slow.after(step), Lane::Last);
        assert_eq!(Lane::Last.after(slice), Lane::Last);
        assert_eq!(Lane::Policy.after(step), Lane::Policy);
        assert_eq!(Lane::Policy.after(LONG_CYCLE * 2), Lane::Late);
        assert_eq!(Lane::Late.after(slice), Lane::Late);
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
