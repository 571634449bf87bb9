//! Newtypes for everything that has a name or a number.

use std::fmt;
use std::sync::Arc;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $repr:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number_id!(
    /// An agent. Given by the host at first registration, durable, never reused.
    AgentId,
    u32,
    "agent-"
);
number_id!(
    /// A framework. Given by the host when it is added, durable, never reused.
    FrameworkId,
    u32,
    "framework-"
);
number_id!(
    /// An offer. Never reused, also not after a restart of the host.
    OfferId,
    u64,
    "offer-"
);
number_id!(
    /// One launch of one task. An agent runs a number at most once, however often it is sent.
    LaunchNumber,
    u64,
    "launch-"
);
number_id!(
    /// A framework's step: counts committed steps of that framework from 1.
    StepNumber,
    u64,
    "step-"
);
number_id!(
    /// An operator request that waits for a framework's response.
    RequestId,
    u64,
    "request-"
);

/// A task's id: its framework's choice, unique in the framework while the host remembers the task.
///
/// 1 to 255 bytes, no control characters, no slash, not `.` or `..` (it names a directory).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Arc<str>);

/// Why a text is not a task id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTaskId {
    /// The text as given, cut to 64 characters.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl fmt::Display for InvalidTaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not a task id: {}", self.text, self.problem)
    }
}

impl std::error::Error for InvalidTaskId {}

impl TaskId {
    /// Longest id, in bytes.
    pub const LEN_MAX: usize = 255;

    /// Checks the rules above.
    ///
    /// # Errors
    /// Names the first rule that is broken.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, InvalidTaskId> {
        let text = text.into();
        let problem = if text.is_empty() {
            Some("it is empty")
        } else if text.len() > Self::LEN_MAX {
            Some("it is longer than 255 bytes")
        } else if text.chars().any(char::is_control) {
            Some("it contains a control character")
        } else if text.contains('/') {
            Some("it contains a slash")
        } else if &*text == "." || &*text == ".." {
            Some("it is a directory's own name")
        } else {
            None
        };
        match problem {
            None => Ok(Self(text)),
            Some(problem) => Err(InvalidTaskId {
                text: text.chars().filter(|c| !c.is_control()).take(64).collect(),
                problem,
            }),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_ids_are_safe_as_directory_names() {
        for good in ["a", "map-1", "日本", "a.b", "..."] {
            assert_eq!(TaskId::new(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(256);
        for bad in ["", ".", "..", "a/b", "a\nb", "a\0", long.as_str()] {
            TaskId::new(bad).unwrap_err();
        }
    }
}
