//! Fair sharing that fills the fullest agents first, as a component.
//!
//! The source is [`proffer_policy::Binpack`], the same that runs natively in the host.

proffer_sdk::export_policy!(proffer_policy::Binpack);
