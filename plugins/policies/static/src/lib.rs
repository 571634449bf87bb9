//! Fixed partitions, as a component.
//!
//! The source is [`proffer_policy::Static`], the same that runs natively in the host.

proffer_sdk::export_policy!(proffer_policy::Static);
