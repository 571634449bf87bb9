//! Tasks and what they leave behind.

use proffer_model::{
    AgentId, Duration, LaunchNumber, Reason, Resources, RoleName, TaskId, TaskState, Timestamp,
};

use super::Page;

/// Asks for tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskQuery {
    /// Which part.
    pub page: Page,
    /// A framework's name; empty: all.
    pub framework: String,
    /// An agent's id or hostname; empty: all.
    pub agent: String,
    /// Only in these states; none: all.
    pub states: Vec<TaskState>,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its framework's name.
    pub framework: String,
    /// Its id.
    pub id: TaskId,
    /// Its template's name, `map` for instance.
    pub name: String,
    /// Where it stands.
    pub state: TaskState,
    /// Why.
    pub why: Option<Reason>,
    /// Exit status.
    pub exit: Option<i32>,
    /// Where.
    pub agent: AgentId,
    /// That machine's name.
    pub hostname: String,
    /// Under which role.
    pub role: RoleName,
    /// What it holds or held.
    pub resources: Resources,
    /// Which launch.
    pub launch: LaunchNumber,
    /// When its framework launched it.
    pub launched: Timestamp,
    /// When it was first known to run.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// Ends a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillTask {
    /// Its framework's name.
    pub framework: String,
    /// Its id.
    pub task: String,
    /// Between TERM and KILL; none: the task's own.
    pub grace: Option<Duration>,
}

/// Asks for what a task wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskLogs {
    /// Its framework's name.
    pub framework: String,
    /// Its id.
    pub task: String,
    /// Which of the two.
    pub stream: LogStream,
    /// And what it writes until it ends.
    pub follow: bool,
}

/// One of a task's two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Asks for a file of a task's sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOutput {
    /// Its framework's name.
    pub framework: String,
    /// Its id.
    pub task: String,
    /// Relative to the sandbox.
    pub path: String,
}
