//! Fair sharing that places on the emptiest agents first, as a component.
//!
//! The source is [`proffer_policy::Spread`], the same that runs natively in the host.

proffer_sdk::export_policy!(proffer_policy::Spread);
