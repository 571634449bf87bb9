//! Hosts policies, frameworks and Wasm tasks as WebAssembly components; the only crate that knows
//! wasmtime.
//!
//! - [`PluginHost`] loads plug-ins ([`LoadedPlugin`]) and runs them as actors: [`FrameworkHandle`],
//!   [`PolicyHandle`]. Their vocabulary is `proffer-model`'s; WIT stays in here.
//! - [`command`] runs tasks in an agent's runner.
//!
//! What it is not: it supervises nothing. A call that gives no usable answer is a [`PluginFault`],
//! which says whose fault it was; whether to try again, halve the batch, back off or put another
//! policy in place is the core's to decide.
//!
//! Invariants:
//! - A plug-in has nothing but what its contract gives it: no WASI is linked at all.
//! - Every call has a budget of processor time, a backstop of wall time, and bounds on memory and on
//!   what it hands over. After any fault the instance is dropped, never used again.
//! - A framework's step leaves a trace only if it succeeds.
//! - Plug-ins run on threads of their own, in time slices; a call that is long waits for those that
//!   are short, never the other way round.
//! - Whatever comes out of a guest is untrusted: converted, bounded, and where it is malformed told
//!   back, never dropped in silence.

mod bindings;
mod cache;
mod config;
mod executor;
mod fault;
mod framework;
mod guest;
mod host;
mod load;
mod log;
mod manifest;
mod memory;
mod meter;
mod policy;
mod precedence;
mod threads;
mod ticker;

pub mod command;
mod compiled;

pub use cache::OpenCacheError;
pub use config::InvalidConfig;
pub use fault::{Blame, Call, PluginFault, TimeBudget};
pub use framework::{CommittedStep, FrameworkHandle, FrameworkInit, FrameworkLimits, StepOutcome};
pub use guest::CallBudget;
pub use host::{
    MakePluginHostError, Metering, PLUGIN_MEMORY_BYTES_MAX, PluginHost, PluginHostConfig,
};
pub use load::{CONTRACT_VERSION, Kind, LoadPluginError, LoadedPlugin, PLUGIN_BYTES_MAX};
pub use log::{LogLevel, LogLine, LogTail, printable};
pub use manifest::{AskedLimits, Manifest};
pub use policy::{PolicyHandle, PolicyLimits, PolicyOutcome};
