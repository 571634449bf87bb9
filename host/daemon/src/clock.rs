//! The host's clock: wall time at the start, monotonic from there.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proffer_model::Timestamp;
use tokio::time::Instant as Deadline;

/// Never falls and never jumps, whatever is done to the machine's clock while the host runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        // A clock before 1970 is 1970: the core only needs times that do not fall.
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            wall: Timestamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
            started: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Timestamp {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.wall.0.saturating_add(elapsed))
    }

    /// When the runtime's clock will show a time of ours.
    pub(crate) fn deadline(self, at: Timestamp) -> Deadline {
        let after = at.0.saturating_sub(self.wall.0);
        // Rounded up: at its own time a deadline has come, never a moment before.
        Deadline::from_std(self.started + std::time::Duration::from_millis(after))
    }

    pub(crate) fn started(self) -> Timestamp {
        self.wall
    }
}
