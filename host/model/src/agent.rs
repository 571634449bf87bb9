//! What host and agents tell each other.

use std::sync::Arc;

use crate::{
    AgentId, AgentInfo, Bundle, Duration, Executor, FrameworkId, InputMarks, LaunchNumber,
    Resources, RoleName, TaskId, TaskSpec, TaskState, TaskUpdate,
};

/// From an agent to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromAgent {
    /// First on every connection.
    Register(Box<Registration>),
    /// A task's update: the front of its stream, sent again until acknowledged.
    Update(Box<LaunchUpdate>),
    /// It is alive.
    Heartbeat,
}

/// An update and the launch that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchUpdate {
    /// Whose task.
    pub framework: FrameworkId,
    /// Which launch.
    pub launch: LaunchNumber,
    /// What became of it.
    pub update: TaskUpdate,
    /// The newest state that the agent knows, later perhaps than this update's.
    pub latest: TaskState,
}

/// What an agent says when it connects: all that it is and all that it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The id that it was given before.
    pub agent: Option<AgentId>,
    /// Random, made with its data directory: an agent that comes without an id but with a known key
    /// is the same agent (its first answer was lost).
    pub key: String,
    /// The machine's boot: another one means that nothing runs any more.
    pub boot: String,
    /// What it is.
    pub info: Arc<AgentInfo>,
    /// What it has, plain and unreserved.
    pub total: Bundle,
    /// What it has besides: reserved by its set-up, revocable, or indivisible.
    pub special: Resources,
    /// Where others fetch the outputs of its tasks: `http://HOST:PORT`.
    pub data_address: String,
    /// Every launch that it remembers: running, or ended and not fully acknowledged.
    pub launches: Vec<KnownLaunch>,
}

/// A launch that an agent remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLaunch {
    /// Its number.
    pub launch: LaunchNumber,
    /// Whose.
    pub framework: FrameworkId,
    /// Which task.
    pub task: TaskId,
    /// Under which role.
    pub role: RoleName,
    /// The newest state.
    pub latest: TaskState,
}

/// From the host to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToAgent {
    /// Answer to a registration.
    Registered {
        /// Its id from now on.
        agent: AgentId,
        /// How often to send a heartbeat.
        heartbeat: Duration,
        /// Not heard of for so long, either side takes the connection for dead.
        timeout: Duration,
    },
    /// It may not register; it ends.
    Refused {
        /// Why, for people.
        why: String,
    },
    /// Run these. More than one: a group, all or none.
    Launch(Vec<Launch>),
    /// End a task. Repeats are harmless; grace may only get shorter.
    Kill {
        /// Whose.
        framework: FrameworkId,
        /// Which launch.
        launch: LaunchNumber,
        /// Between TERM and KILL.
        grace: Duration,
    },
    /// The update up to this sequence was delivered: forget it, send the next.
    Acknowledge {
        /// Which launch.
        launch: LaunchNumber,
        /// Up to which.
        sequence: u64,
    },
    /// The framework is gone: end its tasks, its sandboxes may go.
    RemoveFramework {
        /// Which.
        framework: FrameworkId,
    },
    /// It is alive.
    Heartbeat,
}

/// One task to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// An agent runs a number at most once.
    pub number: LaunchNumber,
    /// Whose.
    pub framework: FrameworkId,
    /// Its name, for directories and people.
    pub framework_name: Arc<str>,
    /// Under which role.
    pub role: RoleName,
    /// What.
    pub task: Arc<TaskSpec>,
    /// The inputs of template and task, in that order, with places instead of names. For a Wasm
    /// task the component itself comes first.
    pub inputs: Vec<ResolvedInput>,
}

impl Launch {
    /// Whether nothing has to be made for it before it starts: it is a component, which agents keep for later
    /// tasks, and names no inputs.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        matches!(self.task.template.executor, Executor::Wasm(_))
            && matches!(self.inputs.as_slice(), [component] if component.marks.cache)
    }
}

/// An input whose source has been looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedInput {
    /// Where it is in the sandbox.
    pub path: String,
    /// `sha256:…` or empty.
    pub digest: String,
    /// See [`InputMarks`].
    pub marks: InputMarks,
    /// From where.
    pub from: Origin,
}

/// From where an input comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file of the agent's machine.
    File(String),
    /// A URL.
    Http(String),
    /// One file of a task's sandbox.
    Sandbox(SandboxFile),
    /// Several, as a directory: name in it, and file.
    Sandboxes(Vec<(String, SandboxFile)>),
}

/// A file in the sandbox of a task that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxFile {
    /// Which agent ran it.
    pub agent: AgentId,
    /// Where that agent serves outputs.
    pub address: String,
    /// Which launch.
    pub launch: LaunchNumber,
    /// Relative to the sandbox.
    pub path: String,
}
