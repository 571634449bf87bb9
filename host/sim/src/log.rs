//! What the shared conversions need of the host's log.

pub(crate) use proffer_plugin::printable;
