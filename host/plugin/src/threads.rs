//! Threads for work that may take long: each piece has one to itself, and none waits for another to end.
//!
//! Most pieces are short, and to wake a thread for each costs more than they do. So as many threads are woken
//! at once as there are processors, and each takes the next piece when it is done with one. What is not taken
//! because all of them are busy for longer gets a thread of its own: a watcher looks while anything waits.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Between two looks of the watcher. A piece waits for one look when all threads are held by long ones; of
/// hundreds that come at once, the last for ten. On a machine that is busy otherwise, short ones take as long.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A thread that found nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// The threads. They end by themselves after the last of this is dropped.
pub(crate) struct Threads {
    shared: Arc<Shared>,
}

struct Shared {
    /// So many are woken at once.
    at_once: usize,
    /// There are never more.
    max: usize,
    state: Mutex<State>,
    /// Somebody is to take a job, or to end.
    work: Condvar,
    /// Jobs wait, or it is over.
    watch: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// All that have not ended.
    threads: usize,
    /// Those that wait, and have not been woken.
    idle: usize,
    /// Those that have been woken, and do not know it yet.
    woken: usize,
    /// Jobs taken so far: while this moves nobody is stuck.
    taken: u64,
    /// The watcher looks at what waits.
    is_watched: bool,
    is_over: bool,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.work.notify_all();
        self.shared.watch.notify_all();
    }
}

impl Threads {
    /// Starts the watcher; there are never more than `max` others.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(max: usize) -> io::Result<Self> {
        let at_once = thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            at_once: at_once.min(max),
            max,
            state: Mutex::default(),
            work: Condvar::new(),
            watch: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        thread::Builder::new()
            .name("proffer-watcher".to_owned())
            .spawn(move || watched.watch())?;
        Ok(Self { shared })
    }

    /// Runs this on a thread, soon. It is dropped if there is no thread for it.
    ///
    /// # Errors
    /// If the system gives no thread, and there is none yet.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = self.shared.state();
        state.queue.push_back(Box::new(job));
        if state.threads - state.idle < self.shared.at_once {
            match self.shared.wake_one(&mut state) {
                Ok(()) => return Ok(()),
                Err(error) if state.threads == 0 => {
                    state.queue.pop_back();
                    return Err(error);
                }
                // Those that there are take it in the end.
                Err(error) => tracing::warn!(%error, "no thread for a task that waits"),
            }
        }
        if !std::mem::replace(&mut state.is_watched, true) {
            self.shared.watch.notify_one();
        }
        Ok(())
    }
}

impl Shared {
    /// A panic while it was held cannot have left it half changed: jobs run without it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_one(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        if state.idle > 0 {
            state.idle -= 1;
            state.woken += 1;
            self.work.notify_one();
        } else if state.threads < self.max {
            let shared = Arc::clone(self);
            thread::Builder::new()
                .name("proffer-task".to_owned())
                .spawn(move || shared.work())?;
            state.threads += 1;
        }
        Ok(())
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            while let Some(job) = state.queue.pop_front() {
                state.taken += 1;
                drop(state);
                // Whoever waits for it hears of it by what the job drops.
                let _panicked = catch_unwind(AssertUnwindSafe(job)).is_err();
                state = self.state();
            }
            state.idle += 1;
            let waited = self
                .work
                .wait_timeout_while(state, IDLE, |state| state.woken == 0 && !state.is_over);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.woken == 0 {
                // Nobody has woken it, so it is still among the idle.
                state.idle -= 1;
                state.threads -= 1;
                return;
            }
            state.woken -= 1;
        }
    }

    /// While jobs wait and no thread comes for another, all are held: one more is woken, and each time twice as
    /// many, until they come. A thread that is made for one short job costs more than the job.
    fn watch(self: &Arc<Self>) {
        let mut state = self.state();
        // Threads that were woken at the last look.
        let mut ours = 0;
        loop {
            let waited = self
                .watch
                .wait_while(state, |state| !state.is_watched && !state.is_over);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            let taken = state.taken;
            let waited = self
                .watch
                .wait_timeout_while(state, LOOK_EVERY, |state| !state.is_over);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.queue.is_empty() {
                if state.is_over {
                    return;
                }
                state.is_watched = false;
                ours = 0;
                continue;
            }
            // Each of ours takes one; more than that were taken by threads that are done with another.
            if state.taken - taken > ours && !state.is_over {
                ours = 0;
                continue;
            }
            ours = (ours * 2).max(1);
            let waiting = state.queue.len().saturating_sub(state.woken) as u64;
            for _ in 0..waiting.min(ours) {
                if let Err(error) = self.wake_one(&mut state) {
                    tracing::warn!(%error, "no thread for a task that waits");
                    break;
                }
            }
            if state.is_over {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn every_piece_runs_however_many_never_end() {
        let threads = Threads::start(64).unwrap();
        let all = Arc::new(Barrier::new(64));
        let (ended, ends) = channel();
        // None ends before all have begun.
        for _ in 0..64 {
            let (all, ended) = (Arc::clone(&all), ended.clone());
            let job = move || {
                all.wait();
                ended.send(()).unwrap();
            };
            threads.run(job).unwrap();
        }
        for _ in 0..64 {
            ends.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        for _ in 0..10_000 {
            let ended = ended.clone();
            threads.run(move || ended.send(()).unwrap()).unwrap();
        }
        for _ in 0..10_000 {
            ends.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        assert!(threads.shared.state().threads <= 64);
    }

    #[test]
    fn a_panic_is_its_own_pieces_end_only() {
        let threads = Threads::start(1).unwrap();
        let (ended, ends) = channel::<()>();
        let held = ended.clone();
        let panics = move || {
            let _held = held;
            panic!("as ordered");
        };
        threads.run(panics).unwrap();
        threads.run(move || ended.send(()).unwrap()).unwrap();
        ends.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(ends.recv_timeout(Duration::from_secs(60)).is_err());
    }
}
