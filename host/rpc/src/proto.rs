//! Generated wire types. Private: they end at this crate's conversions.

macro_rules! generated {
    ($package:literal) => {
        #[allow(
            missing_docs,
            unreachable_pub,
            clippy::all,
            clippy::allow_attributes_without_reason,
            rust_2018_idioms,
            reason = "generated; the .proto file documents it"
        )]
        pub(crate) mod v0 {
            tonic::include_proto!($package);
        }
    };
}

/// Values shared by the services.
pub(crate) mod values {
    generated!("proffer.values.v0");
}

/// Between agent and host.
pub(crate) mod agent {
    generated!("proffer.agent.v0");
}

/// The data plane.
pub(crate) mod data {
    generated!("proffer.data.v0");
}

/// Operators and their tools.
pub(crate) mod operator {
    generated!("proffer.operator.v0");
}
