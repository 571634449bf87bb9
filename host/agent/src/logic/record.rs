//! What is durable, as one record per change. The journal keeps them in order.

use std::sync::Arc;

use proffer_model::agent::Launch;
use proffer_model::{LaunchNumber, TaskUpdate, Timestamp};

use super::Identity;

/// One durable change.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Who the agent is.
    Identity(Identity),
    /// Launches were taken, all together.
    Launched(Vec<Arc<Launch>>),
    /// A launch is about to be handed to its runner: from here on it may have run.
    Started(LaunchNumber),
    /// A launch is to end.
    Stopping {
        /// Which.
        launch: LaunchNumber,
        /// Why.
        cause: StopCause,
        /// When it is killed at the latest.
        by: Timestamp,
    },
    /// An update joined its launch's stream. A final one ends the launch.
    Updated {
        /// Which launch.
        launch: LaunchNumber,
        /// The update.
        update: Arc<TaskUpdate>,
    },
    /// The host has the update with this sequence.
    Acknowledged {
        /// Which launch.
        launch: LaunchNumber,
        /// Which update.
        sequence: u64,
    },
    /// The launch ended, all of it is acknowledged, its sandbox is gone.
    Forgotten(LaunchNumber),
    /// So is every other launch with a number up to this.
    ForgottenUpTo(LaunchNumber),
}

/// Why a launch is to end before it ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The host asked for it.
    Asked,
    /// It ran longer than it said.
    TooLong,
    /// Another of its group ended badly.
    Group,
    /// Its framework is gone.
    FrameworkRemoved,
}
