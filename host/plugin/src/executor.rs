//! The threads that plug-ins run on, time-sliced.
//!
//! A call begins in the **quick** lane. One that is still not done after a slice moves to the
//! **slow** lane, whose threads have a low priority. So short calls never stand in a line behind
//! long ones. Policies have a lane of their own.
//!
//! A call is **heavy** when it has run for long, or its plug-in has lately used up a budget (then it
//! begins in the slow lane). Heavy calls come after the others of their lane, in turns, and they give
//! way: whatever a slice of theirs had to wait for a processor, all heavy calls of the lane then rest
//! for a multiple of it. On a machine with processors to spare that is never. On a busy one it is what
//! a low priority cannot do: the system shares processors between groups of processes first, so
//! what spinning plug-ins use would be taken from the host's share, and its short calls would wait.
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
use std::time::{Duration, Instant};

use crate::meter::Meter;

/// How much of a call is light: ten times what a step with a hundred offers takes.
const LIGHT: Duration = Duration::from_millis(10);

/// For how many calls a plug-in that used up a budget is watched: a policy is configured anew, fed
/// and asked between two decisions.
const WATCHED_CALLS: u32 = 4;

/// Heavy calls rest so many times as long as they had to wait for a processor: at three programs to
/// a processor they leave nine tenths of what they could have.
const REST_FACTOR: u32 = 8;

/// Longest rest. A hundred milliseconds of sixteen spinning frameworks are over within half a minute
/// on the busiest machine, long before the backstop on the wall.
const REST_MAX: Duration = Duration::from_millis(10);

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
    /// No heavy call has a turn before this.
    rest_until: Option<Instant>,
}

/// What a thread of a lane can do now.
enum Turn {
    Run(Job),
    /// Only heavy calls wait, and they rest for so long.
    Rest(Duration),
    Nothing,
}

impl Line {
    fn push(&mut self, job: Job) {
        if job.heavy {
            self.heavy.push_back(job);
        } else {
            self.light.push_back(job);
        }
    }

    fn next(&mut self, now: impl FnOnce() -> Instant) -> Turn {
        if let Some(job) = self.light.pop_front() {
            return Turn::Run(job);
        }
        if self.heavy.is_empty() {
            return Turn::Nothing;
        }
        let rest = self.rest_until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(now())
        });
        match self.heavy.pop_front() {
            Some(job) if rest.is_zero() => Turn::Run(job),
            Some(job) => {
                self.heavy.push_front(job);
                Turn::Rest(rest)
            }
            None => Turn::Nothing,
        }
    }

    /// A slice of a heavy call had to wait so long for a processor.
    fn rest(&mut self, now: Instant, waited: Duration) {
        let until = now + waited.saturating_mul(REST_FACTOR).min(REST_MAX);
        self.rest_until = self.rest_until.max(Some(until));
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
        let heavy = habit.is_watched();
        let lane = match lane {
            Lane::Quick if heavy => Lane::Slow,
            lane => lane,
        };
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
            line = match line.next(Instant::now) {
                Turn::Run(job) => return Some(job),
                Turn::Rest(rest) => {
                    let waited = queue.more.wait_timeout(line, rest);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Turn::Nothing => queue
                    .more
                    .wait(line)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn work(&self, lane: Lane) {
        let queue = self.queue(lane);
        while let Some(mut job) = self.next(queue) {
            let began = Instant::now();
            let Slice::Over { cpu } = poll(&mut job) else {
                continue;
            };
            if job.heavy {
                let now = Instant::now();
                let waited = now.saturating_duration_since(began).saturating_sub(cpu);
                let mut line = queue.line.lock().unwrap_or_else(PoisonError::into_inner);
                line.rest(now, waited);
            }
            match job.lane {
                Lane::Quick => job.lane = Lane::Slow,
                Lane::Slow => job.heavy |= job.ran > LIGHT,
                // A good policy may take long: whoever overran is told by its habit.
                Lane::Policy => {}
            }
            self.push(job);
        }
    }
}

/// What came of a slice.
enum Slice {
    Done,
    /// The call goes on; the slice took so much processor time.
    Over {
        cpu: Duration,
    },
}

/// Runs a job for a slice.
fn poll(job: &mut Job) -> Slice {
    let mut context = Context::from_waker(Waker::noop());
    job.meter.begin();
    let before = job.meter.spent();
    // A panic that comes this far is a bug of ours in the actor itself. It ends that job (whoever
    // waits for it sees that its sender is gone), not the thread.
    let polled = catch_unwind(AssertUnwindSafe(|| job.future.as_mut().poll(&mut context)));
    let cpu = job.meter.spent().saturating_sub(before);
    job.meter.end();
    job.ran += cpu;
    if matches!(polled, Ok(Poll::Pending)) {
        return Slice::Over { cpu };
    }
    job.habit.learn(job.meter.overran());
    Slice::Done
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

    /// What a thread that looks at this time does.
    fn turn(line: &mut Line, now: Instant) -> &'static str {
        match line.next(|| now) {
            Turn::Run(job) if job.heavy => "heavy",
            Turn::Run(_) => "light",
            Turn::Rest(_) => "rest",
            Turn::Nothing => "nothing",
        }
    }

    #[test]
    fn light_calls_come_first_and_do_not_rest() {
        let now = Instant::now();
        let mut line = Line::default();
        line.rest(now, Duration::from_millis(1));
        for heavy in [true, true, false] {
            line.push(job(heavy));
        }
        let turns = [0, 0, 7, 8, 8].map(|ms| turn(&mut line, now + Duration::from_millis(ms)));
        assert_eq!(turns, ["light", "rest", "rest", "heavy", "heavy"]);
        assert_eq!(turn(&mut line, now), "nothing");
    }

    #[test]
    fn heavy_calls_rest_only_where_processors_are_short_and_never_long() {
        let now = Instant::now();
        for (waited_ms, turns) in [(0, ["heavy", "heavy"]), (1_000, ["rest", "heavy"])] {
            let mut line = Line::default();
            line.push(job(true));
            line.push(job(true));
            line.rest(now, Duration::from_millis(waited_ms));
            let later = [now, now + REST_MAX];
            assert_eq!(later.map(|at| turn(&mut line, at)), turns);
        }
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
