//! The policies that are built in, by name.

use crate::fair::{Binpack, Drf, Fragmentation, Priority, Spread, Static};
use crate::policy::Policy;

/// A policy on any thread.
pub type NativePolicy = Box<dyn Policy + Send>;

type Make = fn() -> NativePolicy;

/// Names, ascending, and how each is made.
const ALL: [(&str, Make); 6] = [
    ("binpack", || Box::new(Binpack::default())),
    ("drf", || Box::new(Drf::default())),
    ("fragmentation", || Box::new(Fragmentation::default())),
    ("priority", || Box::new(Priority::default())),
    ("spread", || Box::new(Spread::default())),
    ("static", || Box::new(Static::default())),
];

/// The built-in policies' names, ascending.
pub fn native_names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// A new instance of a built-in policy, not configured yet; none if there is no such policy.
#[must_use]
pub fn native(name: &str) -> Option<NativePolicy> {
    let (_, make) = ALL.iter().find(|(known, _)| *known == name)?;
    Some(make())
}
