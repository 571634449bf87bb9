//! Dominant resource fairness over roles and frameworks, as a component.
//!
//! The source is [`proffer_policy::Drf`], the same that the host falls back on natively.

proffer_sdk::export_policy!(proffer_policy::Drf);
