//! Strict priority between roles, as a component.
//!
//! The source is [`proffer_policy::Priority`], the same that runs natively in the host.

proffer_sdk::export_policy!(proffer_policy::Priority);
