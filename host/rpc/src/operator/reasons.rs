//! Why something is as it is.

use proffer_model::{AgentId, Reason, Resources};

/// What to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A framework, by name.
    Framework(String),
    /// A task.
    Task(TaskName),
    /// An agent, by id or hostname.
    Agent(String),
    /// A role.
    Role(String),
}

/// A task by the names that an operator has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskName {
    /// Its framework's name.
    pub framework: String,
    /// Its id.
    pub task: String,
}

/// Why, in words and for programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Whole sentences, the most important first.
    pub sentences: Vec<String>,
    /// The same, counted.
    pub reasons: Vec<ReasonCount>,
}

/// One reason for so many agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonCount {
    /// A demand's key, or what else it is about.
    pub subject: String,
    /// Why.
    pub why: Reason,
    /// For how many agents.
    pub agents: u32,
    /// One of them.
    pub sample: Option<AgentId>,
    /// What is missing there.
    pub short: Resources,
    /// The policy that says so, by name and version; empty: the host.
    pub policy: String,
}
