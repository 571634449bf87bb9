//! Generated from `proto/etcd.proto`: the part of etcd's API that is used here.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    rust_2018_idioms,
    reason = "generated; the .proto file documents it"
)]

tonic::include_proto!("etcdserverpb");
