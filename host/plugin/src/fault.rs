//! What can go wrong in a call of a plug-in, and whose fault it is.

use std::fmt;
use std::time::Duration;

use wasmtime::Trap;

use crate::log::printable;
use crate::memory::MemoryExceeded;

/// The most characters of a plug-in's own words that a fault carries.
const TEXT_CHARACTERS_MAX: usize = 2_000;

/// A call that gave no usable answer. Whatever it was, the instance is gone and nothing of the call
/// has had an effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginFault {
    /// It trapped.
    #[error("{call} trapped: {message}")]
    Trapped {
        /// In which call.
        call: Call,
        /// The trap, and where.
        message: String,
    },
    /// Its stack ran over.
    #[error("{call} used up its stack: unbounded recursion, most likely")]
    StackOverflow {
        /// In which call.
        call: Call,
    },
    /// It took too long.
    #[error("{call} took more than its {budget}")]
    OutOfTime {
        /// In which call.
        call: Call,
        /// Which budget.
        budget: TimeBudget,
    },
    /// It wanted too much memory.
    #[error("{call} wanted more than its {} MiB of memory", bytes_max / (1024 * 1024))]
    OutOfMemory {
        /// In which call.
        call: Call,
        /// What it may have.
        bytes_max: u64,
    },
    /// Its answer, or what it handed to a function of ours, is larger than allowed.
    #[error("{call} answered too much: {problem}")]
    AnswerTooLarge {
        /// In which call.
        call: Call,
        /// What was too large, and the limit.
        problem: String,
    },
    /// It returned an error, in its own words.
    #[error("{call} returned an error: {text}")]
    Refused {
        /// In which call.
        call: Call,
        /// Its words.
        text: String,
    },
    /// Its answer breaks the contract as a whole.
    #[error("{call} broke the contract: {problem}")]
    Protocol {
        /// In which call.
        call: Call,
        /// How.
        problem: String,
    },
    /// A policy that has not been configured since its last fault was called.
    #[error("{call} was called with no instance: configure the policy first")]
    NoInstance {
        /// Which call.
        call: Call,
    },
    /// It was called while another call of it was under way.
    #[error("{call} was called while another call was under way")]
    Busy {
        /// Which call.
        call: Call,
    },
    /// There was no room for an instance of it.
    #[error("no room for an instance: {problem}")]
    NoRoom {
        /// Why.
        problem: String,
    },
    /// Our own bug.
    #[error("a bug in the host, in {call}: {problem}")]
    HostBug {
        /// In which call.
        call: Call,
        /// What happened.
        problem: String,
    },
}

/// A call into a plug-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Making an instance.
    Instantiate,
    /// A framework's `start`.
    Start,
    /// A framework's `step`.
    Step,
    /// A policy's `configure`.
    Configure,
    /// A policy's `apply`.
    Apply,
    /// A policy's `decide`.
    Decide,
    /// A policy's `explain`.
    Explain,
    /// A policy's `places`.
    Places,
    /// A policy's `carry`.
    Carry,
    /// A policy's `adopt`.
    Adopt,
}

/// A limit on a call's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBudget {
    /// Of processor time.
    Cpu(Duration),
    /// Of time on the wall: the backstop, for a machine that gives it no processor.
    Wall(Duration),
    /// Of fuel, where runs are to be repeatable.
    Fuel(u64),
}

/// Whose fault a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blame {
    /// The plug-in's: it counts against it.
    Plugin,
    /// The environment's: the same may work later.
    Environment,
    /// Whoever called: a bug above this crate.
    Caller,
    /// A bug in this crate.
    Host,
}

impl PluginFault {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Trapped { .. }
            | Self::StackOverflow { .. }
            | Self::OutOfMemory { .. }
            | Self::AnswerTooLarge { .. }
            | Self::Refused { .. }
            | Self::Protocol { .. } => Blame::Plugin,
            Self::OutOfTime { budget, .. } => match budget {
                TimeBudget::Cpu(_) | TimeBudget::Fuel(_) => Blame::Plugin,
                TimeBudget::Wall(_) => Blame::Environment,
            },
            Self::NoRoom { .. } => Blame::Environment,
            Self::NoInstance { .. } | Self::Busy { .. } => Blame::Caller,
            Self::HostBug { .. } => Blame::Host,
        }
    }

    /// Whether it counts against the plug-in.
    #[must_use]
    pub fn is_the_plugins(&self) -> bool {
        self.blame() == Blame::Plugin
    }

    /// A short name for programs and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Trapped { .. } => "trapped",
            Self::StackOverflow { .. } => "stack-overflow",
            Self::OutOfTime { .. } => "out-of-time",
            Self::OutOfMemory { .. } => "out-of-memory",
            Self::AnswerTooLarge { .. } => "answer-too-large",
            Self::Refused { .. } => "refused",
            Self::Protocol { .. } => "protocol",
            Self::NoInstance { .. } => "no-instance",
            Self::Busy { .. } => "busy",
            Self::NoRoom { .. } => "no-room",
            Self::HostBug { .. } => "host-bug",
        }
    }

    pub(crate) fn refused(call: Call, text: &str) -> Self {
        Self::Refused {
            call,
            text: printable(text, TEXT_CHARACTERS_MAX),
        }
    }

    /// What an error that came out of wasmtime means.
    pub(crate) fn from_wasmtime(call: Call, fuel: Option<u64>, error: &wasmtime::Error) -> Self {
        if let Some(stopped) = error.downcast_ref::<Overran>() {
            return Self::OutOfTime {
                call,
                budget: stopped.0,
            };
        }
        if let Some(MemoryExceeded { bytes_max }) = error.downcast_ref() {
            return Self::OutOfMemory {
                call,
                bytes_max: *bytes_max,
            };
        }
        let message = || printable(&format!("{error:?}"), TEXT_CHARACTERS_MAX);
        match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => Self::StackOverflow { call },
            Some(Trap::OutOfFuel) => Self::OutOfTime {
                call,
                budget: TimeBudget::Fuel(fuel.unwrap_or(0)),
            },
            // What it was first, then where: the innermost frames.
            Some(trap) => Self::Trapped {
                call,
                message: printable(&format!("{trap}\n{error}"), TEXT_CHARACTERS_MAX),
            },
            // wasmtime keeps this error's type to itself, but not its words.
            None if format!("{error:#}").contains("too much data is being copied") => {
                Self::AnswerTooLarge {
                    call,
                    problem: "it hands over more data than a call may".to_owned(),
                }
            }
            None if call == Call::Instantiate => Self::NoRoom { problem: message() },
            None => Self::Trapped {
                call,
                message: message(),
            },
        }
    }
}

/// Raised in a guest that has used up a budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overran(pub(crate) TimeBudget);

impl fmt::Display for Overran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {}", self.0)
    }
}

impl std::error::Error for Overran {}

impl fmt::Display for TimeBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(limit) => write!(f, "{limit:?} of processor time"),
            Self::Wall(limit) => write!(f, "{limit:?} of time"),
            Self::Fuel(limit) => write!(f, "{limit} units of fuel"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instantiate => "its initialization",
            Self::Start => "start",
            Self::Step => "step",
            Self::Configure => "configure",
            Self::Apply => "apply",
            Self::Decide => "decide",
            Self::Explain => "explain",
            Self::Places => "places",
            Self::Carry => "carry",
            Self::Adopt => "adopt",
        })
    }
}
