//! The contract's types as the SDK generates them, under the paths by which the host's conversions
//! know them: so the very same conversions serve native plug-ins.

pub(crate) mod framework {
    pub(crate) use proffer_sdk::framework::bindings::proffer;
}
