//! The agent: registration, checkpoints, runners, sandboxes and the data plane.
//!
//! An agent owns the truth about its tasks. It takes launches from its host, makes their sandboxes,
//! hands them to runners, and tells what became of them until the host has acknowledged it; it
//! survives its own death and its host's. [`logic`] decides, everything else does as it is told.
//!
//! - [`Agent`]: an agent in this process, for `proffer up`, `proffer demo` and `proffer agent`;
//! - [`runner`]: the process that tasks run in, for the hidden subcommand `proffer runner`;
//! - [`detect`]: what the machine has.

mod agent;
mod config;
pub mod detect;
mod fetch;
mod files;
pub mod journal;
pub mod logic;
mod program;
pub mod runner;
mod runners;
mod sandbox;
mod shell;
mod users;

pub use agent::{Agent, AgentError, AgentStatus};
pub use config::{AgentConfig, RunnerProgram};
pub use users::TaskUsers;
