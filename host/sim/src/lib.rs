//! The deterministic simulator: the host's own state machines, with clock, network, disk and process
//! start simulated in one thread, all from one seed.
//!
//! What decides is the real code: the core, the agent's logic, plug-ins. What is simulated is only
//! what they run on. The same seed gives the same run, event by event.

pub mod dice;
pub mod workload;
