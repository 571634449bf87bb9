//! Inert values shared by every crate: what things are, never what happens to them.
//!
//! Nothing here acts, reads a clock or knows a wire format. Values that must hold an invariant
//! ([`Ranges`], [`Resources`], [`RoleName`], [`TaskId`]) keep it in their constructors; everything
//! else is plain data with public fields.
//!
//! Two vocabularies of the plug-in contract live here in the host's own types, so that only
//! `proffer-plugin` knows WIT: [`framework`] (events in, commands out) and [`policy`] (changes in,
//! proposals out). What a step can see and change besides, its framework's [`state`] and its
//! [`StepRandom`], is here too: host and test kit give the same. The facts that the store keeps are in [`fact`], what host and agents tell each
//! other in [`agent`].

pub mod agent;
mod amount;
mod demand;
pub mod fact;
pub mod framework;
mod ids;
mod offer;
pub mod policy;
mod quota;
mod random;
mod ranges;
mod reason;
mod resources;
mod role;
pub mod state;
mod task;
mod time;

pub use amount::{Amount, ParseAmountError};
pub use demand::{Constraint, ConstraintTest, Demand, Near, RevocableUse, Shape};
pub use ids::{
    AgentId, FrameworkId, InvalidTaskId, LaunchNumber, OfferId, RequestId, StepNumber, TaskId,
};
pub use offer::{AgentInfo, Attribute, AttributeValue, Offer, Window};
pub use quota::{
    Admission, Amounts, KindQuota, QuotaRefused, admit, contains, difference, shrink, sum,
};
pub use random::StepRandom;
pub use ranges::{InvalidRange, Range, Ranges};
pub use reason::{Reason, Remedy, code, with_causes};
pub use resources::{
    Bundle, Marks, ParseResourcesError, Quantity, Resources, ResourcesShortfall, Terms,
};
pub use role::{InvalidRoleName, RoleName};
pub use task::{
    Check, Container, Executor, HttpProbe, Input, InputMarks, Mount, Probe, Purpose, Source,
    TaskSpec, TaskState, TaskUpdate, Template, UpdateSource, ports_of,
};
pub use time::{Duration, Timestamp};
