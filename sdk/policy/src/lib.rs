//! What an allocation policy is made of: the trait, the cluster model kept from the changes, a
//! proposal in the making, and the policies that are built in.
//!
//! An author who wants to decide *who comes next* writes a [`Decision`] and gets the picture
//! ([`Cluster`]), the rules of the pool and the bookkeeping of a cycle ([`Draft`]); [`Modelled`]
//! makes a [`Policy`] of it. An author who wants everything else otherwise too implements
//! [`Policy`].
//!
//! Pure: no clock, no input or output, no randomness but the cycle's seed, nothing but the model
//! below it. The same source runs natively in the host (as the last fallback and as the tests'
//! oracle) and as a component, and both decide alike, to the last grant. Nothing here panics on
//! what a host might send by mistake.

mod cluster;
mod decision;
mod draft;
mod fair;
mod gauge;
mod json;
mod native;
mod policy;
mod random;
mod turns;

pub use cluster::{AgentRow, Cell, ClientRow, Cluster, Pile, Refusal, Task};
pub use decision::{Decision, Modelled, Setting, refuse_unknown};
pub use draft::{DemandUse, Draft, Fence, Rules, Served, Verdict};
pub use fair::{
    Anywhere, Binpack, Drf, EmptiestFirst, Fair, Fragmentation, FullestFirst, LeastFragmenting,
    Partitioned, Priority, Spread, Static, StrictPriority,
};
pub use native::{NativePolicy, native, native_names};
pub use policy::Policy;
pub use random::Random;
pub use turns::compare_fractions;

pub use proffer_model as model;
