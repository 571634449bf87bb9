//! Ending a build before it is done.

use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ends a build from another thread: what it has started is killed, what it has not is not begun. A component
/// is written whole or not at all. Clones end the same builds.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    is_stopped: bool,
    child: Option<Child>,
}

impl Stop {
    /// Ends the build, now and for good.
    pub fn stop(&self) {
        let mut state = self.state();
        state.is_stopped = true;
        if let Some(child) = &mut state.child {
            // Fails for a child that has ended, which is as well.
            child.kill().ok();
        }
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    /// Looks after a child while it runs: stopping kills it.
    pub(crate) fn guard(&self, mut child: Child) -> Guarded<'_> {
        let mut state = self.state();
        if state.is_stopped {
            child.kill().ok();
        }
        state.child = Some(child);
        Guarded { stop: self }
    }

    /// A panic while it was held cannot have left it half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child that does not outlive its parent's interest: killed when this is dropped early.
pub(crate) struct Guarded<'a> {
    stop: &'a Stop,
}

impl Guarded<'_> {
    /// The child; none once this was dropped.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Child) -> T) -> Option<T> {
        self.stop.state().child.as_mut().map(work)
    }
}

impl Drop for Guarded<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.stop.state().child.take() {
            // Fails for a child that has ended, which is the usual case.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    fn child_of_a_stopped_build(stop_first: bool) -> Option<i32> {
        let stop = Stop::default();
        if stop_first {
            stop.stop();
        }
        let child = stop.guard(Command::new("sleep").arg("1000").spawn().unwrap());
        stop.stop();
        let status = child.with(Child::wait).unwrap().unwrap();
        status.signal()
    }

    #[test]
    fn what_runs_is_killed_and_what_is_started_afterwards_too() {
        assert_eq!(child_of_a_stopped_build(false), Some(9));
        assert_eq!(child_of_a_stopped_build(true), Some(9));
    }
}
