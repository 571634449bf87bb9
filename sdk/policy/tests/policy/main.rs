//! The policy layer from outside: what is granted, and why not.

mod case;
mod demands;
mod fair_sharing;
mod oracle;
mod order;
mod placements;
mod priorities;
mod properties;
mod quotas;
mod scene;
mod starvation;
