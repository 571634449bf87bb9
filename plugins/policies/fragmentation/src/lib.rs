//! Fair sharing that keeps what is free of use to the pool's demands, as a component.
//!
//! The source is [`proffer_policy::Fragmentation`], the same that runs natively in the host.

proffer_sdk::export_policy!(proffer_policy::Fragmentation);
