//! The shell around the core: one event loop that feeds it and does what it asks, and everything
//! that the loop needs: the store's thread, plug-ins' actors, agents' connections, operators' calls,
//! pages.
//!
//! Decisions are the core's; this crate makes none. Nothing blocks the loop: whoever takes time
//! answers with an input of its own. While too many facts wait for the store, the loop takes no new
//! inputs, and whoever sends them waits.

mod candidate;
mod clock;
pub mod config;
mod desk;
mod event_loop;
mod first_policy;
mod frameworks;
mod handle;
mod host;
mod hosts;
mod http;
mod instance;
mod metrics;
mod operator;
mod persister;
mod policy_seat;
mod tenants;
mod unused_components;
mod usage;

pub use config::{
    EtcdTlsFiles, HOST_SETTINGS, HostConfig, InvalidSetting, NATIVE_POLICY, PolicyChoice, Setting,
    StoreChoice, TlsFiles,
};
pub use desk::PolicyDesk;
pub use handle::HostGone;
pub use host::{Host, HostFailed, StartHostError};
pub use operator::explain;
