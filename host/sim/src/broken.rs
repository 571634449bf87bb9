//! A framework whose component does not start.

use proffer_sdk::framework::{Context, Framework, Host};

/// Its digest, as far as the core is concerned.
pub(crate) const BROKEN: &str = "native:broken";

/// The framework.
#[derive(Debug)]
pub(crate) struct Broken;

impl Framework for Broken {
    fn start(_: &Context, _: &mut Host<'_>) -> Result<Self, String> {
        Err("it never starts".to_owned())
    }
}
