//! The policy layer from outside: what is granted, and why not.

mod case;
mod demands;
mod fair_sharing;
mod oracle;
mod order;
mod properties;
mod scene;
