//! Tasks: what a framework asks an agent to run, and what becomes of it.

use crate::{AgentId, Duration, Range, Reason, Resources, TaskId, Timestamp};

/// One task. What tasks of one answer share is in a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSpec {
    /// The author's choice.
    pub id: TaskId,
    /// What it shares with others.
    pub template: Template,
    /// What it will hold.
    pub resources: Resources,
    /// Appended to the executor's own arguments.
    pub args: Vec<String>,
    /// Added to the template's; the later of a name wins.
    pub env: Vec<(String, String)>,
    /// Added to the template's.
    pub inputs: Vec<Input>,
    /// Volumes, by id.
    pub mounts: Vec<Mount>,
    /// The first task to finish under this name makes its sandbox known by it; empty: none. No slash.
    pub output: String,
    /// Among this framework's tasks, for the choice of whom to end: lower goes first.
    pub priority: i32,
}

/// What several tasks share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// For people, `map` for instance.
    pub name: String,
    /// How it runs.
    pub executor: Executor,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Inputs.
    pub inputs: Vec<Input>,
    /// Health and readiness.
    pub checks: Vec<Check>,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// Killed after this long.
    pub longest: Option<Duration>,
    /// For availability.
    pub group: String,
    /// For people and lists.
    pub labels: Vec<(String, String)>,
    /// Documented names, an open set; an unknown one rejects the task.
    pub options: Vec<(String, String)>,
}

/// How a task runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Executor {
    /// A program and its arguments; no shell. The program may be an input's path.
    Process(Vec<String>),
    /// A line for `/bin/sh -c`.
    Shell(String),
    /// A `wasi:cli/command` component, run in the runner.
    Wasm(Input),
    /// A container image.
    Container(Container),
}

/// A container to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its image.
    pub image: String,
    /// What to run in it.
    pub argv: Vec<String>,
}

/// A file or directory that the agent fetches before the task starts; read-only in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Where it comes from, as written; see [`Source::parse`].
    pub source: String,
    /// Where it is in the sandbox: relative, without `..`.
    pub path: String,
    /// `sha256:` and 64 hex digits, or empty.
    pub digest: String,
    /// See [`InputMarks`].
    pub marks: InputMarks,
}

/// Yes-or-no properties of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputMarks {
    /// Unpack it.
    pub extract: bool,
    /// Make it executable.
    pub executable: bool,
    /// Keep it on the agent for later tasks.
    pub cache: bool,
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// `asset:NAME`: a file of the framework's package.
    Asset(&'a str),
    /// `file:PATH`: absolute, on the agent's machine.
    File(&'a str),
    /// `http://…` or `https://…`.
    Http(&'a str),
    /// `task:ID/PATH`: a file in the sandbox of a task of the same framework that has ended.
    Task(&'a str, &'a str),
    /// `output:GLOB/PATH`: that file of every output whose name the glob matches, as a directory of
    /// `NAME` files; one name without `*`, `?` or `[` gives a file. Output names hold no slash, so
    /// the first slash ends the glob.
    Output(&'a str, &'a str),
}

impl<'a> Source<'a> {
    /// Reads the text form.
    ///
    /// # Errors
    /// What is wrong, as a sentence without the text.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Http(text));
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(
                "an input's source begins with asset:, file:, http:, https:, task: or output:",
            );
        };
        let split = || {
            rest.split_once('/')
                .filter(|(name, path)| !name.is_empty() && !path.is_empty())
        };
        match scheme {
            "asset" if !rest.is_empty() => Ok(Self::Asset(rest)),
            "file" if rest.starts_with('/') => Ok(Self::File(rest)),
            "file" => Err("file: wants an absolute path"),
            "task" => split()
                .map(|(id, path)| Self::Task(id, path))
                .ok_or("task: wants ID/PATH"),
            "output" => split()
                .map(|(glob, path)| Self::Output(glob, path))
                .ok_or("output: wants GLOB/PATH"),
            _ => {
                Err("an input's source begins with asset:, file:, http:, https:, task: or output:")
            }
        }
    }
}

/// A volume in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its id.
    pub volume: String,
    /// Where.
    pub path: String,
    /// Whether the task may write to it.
    pub read_only: bool,
}

/// A health or readiness check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it decides.
    pub purpose: Purpose,
    /// How it looks.
    pub probe: Probe,
    /// Failures before this time, and before the first success, do not count.
    pub grace: Duration,
    /// Between two.
    pub interval: Duration,
    /// For each.
    pub timeout: Duration,
    /// So many in a row, and the task is not healthy.
    pub failures: u32,
}

/// What a check decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Whether the task lives.
    Health,
    /// Whether it can serve.
    Readiness,
}

/// How a check looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A command that exits 0.
    Command(Vec<String>),
    /// A page that answers 200–399.
    Http(HttpProbe),
    /// A port that accepts; an index into the task's ports.
    Tcp(u32),
}

/// A page to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// Index into the task's ports.
    pub port: u32,
    /// Its path.
    pub path: String,
    /// Over TLS.
    pub tls: bool,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Launched by the framework, not yet known to run.
    Staging,
    /// The agent fetches inputs and makes its sandbox.
    Starting,
    /// It runs.
    Running,
    /// It was told to end.
    Killing,
    /// It ended by itself with status 0.
    Finished,
    /// It ended otherwise.
    Failed,
    /// It was killed, as asked.
    Killed,
    /// Its description was wrong; it never ran.
    Error,
    /// It never ran, for no fault of its own.
    Dropped,
    /// It is known not to run any more.
    Gone,
    /// Its agent cannot be reached; it may run.
    Unreachable,
    /// An operator declared its agent gone.
    GoneByOperator,
    /// The host knows nothing of it.
    Unknown,
}

impl TaskState {
    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Staging
            | Self::Starting
            | Self::Running
            | Self::Killing
            | Self::Unreachable
            | Self::Unknown => false,
            Self::Finished
            | Self::Failed
            | Self::Killed
            | Self::Error
            | Self::Dropped
            | Self::Gone
            | Self::GoneByOperator => true,
        }
    }

    /// The word for it, as in the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Killing => "killing",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::Error => "error",
            Self::Dropped => "dropped",
            Self::Gone => "gone",
            Self::Unreachable => "unreachable",
            Self::GoneByOperator => "gone-by-operator",
            Self::Unknown => "unknown",
        }
    }
}

/// What became of a task. In order per task: `sequence` grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskUpdate {
    /// Which task.
    pub task: TaskId,
    /// Where; none if it never had a place.
    pub agent: Option<AgentId>,
    /// The new state.
    pub state: TaskState,
    /// The agent's count for this task, from 1; 0 for what the host says by itself, which nobody acknowledges.
    pub sequence: u64,
    /// When, by the clock of whoever says it.
    pub at: Timestamp,
    /// Who says it.
    pub source: UpdateSource,
    /// Why.
    pub why: Reason,
    /// Exit status, when it ended by itself.
    pub exit: Option<i32>,
    /// The last health check's result.
    pub healthy: Option<bool>,
    /// The last readiness check's result.
    pub ready: Option<bool>,
    /// Where it can be reached, or empty.
    pub address: String,
    /// The task's own result, at most 64 KiB.
    pub data: Vec<u8>,
}

/// Who says what became of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpdateSource {
    /// The host.
    Host,
    /// The agent.
    Agent,
    /// The runner.
    Executor,
}

/// The ports that a task holds, lowest first: what a check's index points into.
#[must_use]
pub fn ports_of(resources: &Resources) -> Vec<u64> {
    let ports = resources.total().ports;
    ports
        .as_slice()
        .iter()
        .flat_map(|range: &Range| range.begin()..=range.end())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_name_their_scheme_and_parts() {
        assert_eq!(
            Source::parse("output:job.m*/3"),
            Ok(Source::Output("job.m*", "3"))
        );
        assert_eq!(Source::parse("task:a/x/y"), Ok(Source::Task("a", "x/y")));
        assert_eq!(Source::parse("file:/a b"), Ok(Source::File("/a b")));
        assert_eq!(Source::parse("http://h/p"), Ok(Source::Http("http://h/p")));
        for bad in ["", "x", "file:a", "task:a", "output:/x", "ftp:x", "asset:"] {
            Source::parse(bad).unwrap_err();
        }
    }
}
