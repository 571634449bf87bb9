//! The core decides, the shell acts.
//!
//! One deterministic state machine owns agents, offers, frameworks and tasks:
//! [`Core::handle`]`(now, event, outbox)`. It has no clock, randomness, thread, `async` or I/O;
//! calling a plug-in is an [`Action`], its answer an [`Event`]. The same events at the same times
//! give the same actions, byte for byte.
//!
//! What must survive a crash leaves as [`Fact`](proffer_model::fact::Fact)s in
//! [`Action::Persist`]; effects that depend on facts are held back here until
//! [`Event::Persisted`] says that those are durable.
//!
//! # Invariants
//! Checked by [`Core::check_invariants`] after every event in tests:
//! - for every agent and terms, exactly: total + deficit = free + offered + used;
//! - what is offered is the sum of outstanding offers, what is used the sum of tasks that have not
//!   ended by the agent's latest word;
//! - a final task state never changes, and no update of a task is queued twice;
//! - an offer belongs to a framework that may use its role, and is queued, delivered or kept.

mod accept;
mod account;
mod action;
mod agenda;
mod agents;
mod allocation;
mod batches;
mod book;
mod canary;
mod checkpoint;
mod commands;
mod components;
mod config;
mod constraint;
mod demands;
mod domain;
mod downtime;
mod event;
mod explain;
mod feed;
mod filters;
mod framework;
mod handles;
mod holdings;
mod invariants;
mod inverse;
mod launches;
mod machine;
mod numbered;
mod offer_set;
mod operators;
mod options;
mod outputs;
mod pace;
#[cfg(feature = "planted")]
mod planted;
mod play;
mod policy_records;
mod presence;
mod quarantine;
mod questions;
mod quota;
mod reclaims;
mod recovery;
mod release;
mod reservations;
mod snapshot;
mod steps;
mod sums;
mod supervision;
mod swap;
mod task_effects;
mod tasks;
mod tenants;
mod trial;
mod upgrades;
mod view;

pub use action::{Action, Outbox, PolicySeat, Reply, Seq};
pub use allocation::WaitView;
pub use canary::{CANARY_LENGTH, CanaryTally, CanaryView};
pub use config::{Allocation, CoreConfig};
pub use constraint::constraints_admit;
pub use downtime::AgentsAwaited;
pub use event::{
    AgentChange, Blame, CanaryEnd, CanaryOutcome, ConnectionId, Event, FrameworkChange,
    FrameworkUpgrade, HoldingChange, NewFramework, Play, PolicyIdentity, PolicySwap,
    ReservationChange, RolePolicy, SwapTrial, Ticket,
};
pub use explain::{AgentReason, DemandReport, FrameworkReport, TaskReport};
pub use holdings::{RoleSums, RoleView};
pub use invariants::InvariantBroken;
pub use inverse::InverseView;
pub use machine::Core;
pub use operators::weight_is_valid;
#[cfg(feature = "planted")]
pub use planted::Planted;
pub use presence::GoneView;
pub use questions::{Asked, DemandFindings, DemandQuestion};
pub use reclaims::{ReclaimSum, ReclaimSums, WouldTake, reclaims_in_words};
pub use recovery::{RecoverError, Replica};
pub use release::{Left, LeftBehind};
pub use snapshot::Snapshot;
pub use sums::Sums;
pub use swap::SwapView;
pub use tenants::{TenantTally, TenantView};
pub use trial::{Compared, RoleCompared, Trial};
pub use view::{AgentView, Counters, FrameworkView, OfferView, PolicyView, Pool, TaskView};
