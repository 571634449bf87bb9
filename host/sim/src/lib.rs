//! The deterministic simulator: the host's own state machines, with clock, network, disk and process
//! start simulated in one thread, all from one seed.
//!
//! What decides is the real code: the core, leadership, the agent's logic and journal, plug-ins. What is
//! simulated is only what they run on, and etcd. The same seed gives the same run, event by event.
//!
//! - [`Run`] is a seed: a storm of faults, then calm, in which everything must come to rest;
//! - [`sweep()`] runs many;
//! - [`Invariant`] is what is checked on the way, and [`Tally`] how often.

pub mod allocation;
mod bindings;
mod broken;
mod check;
mod components;
pub mod dice;
mod etcd;
pub mod framework;
mod leaders;
mod log;
#[cfg(feature = "planted")]
mod planted;
pub mod plugins;
pub mod restless;
mod run;
mod scenario;
mod sweep;
pub mod workload;
mod world;

pub use check::{Invariant, Tally, Violation};
pub use components::{Calls, Components, UseComponentError};
#[cfg(feature = "planted")]
pub use planted::Planted;
pub use run::{Outcome, Run};
pub use sweep::{Summary, sweep};
