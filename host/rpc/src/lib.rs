//! The gRPC protocols of agents and operators; the only crate that knows tonic and prost.
