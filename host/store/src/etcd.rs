//! Facts in etcd, for more than one host.
//!
//! - [`EtcdAddress`]: what `--store etcd://…` says;
//! - [`Cluster`]: the data under the prefix, checked to be ours; components, the token;
//! - [`Election`]: drives [`crate::leadership`] with etcd's leases, watches the key, and says whether
//!   effects may leave this host ([`Authority`]);
//! - [`Follower`]: reads all that is committed, then follows it: what keeps a standby warm;
//! - [`EtcdStore`]: a leader's [`crate::Store`]. Every write is a transaction that fails unless the
//!   leadership key is still the one that this leader made.
//!
//! The part of etcd's API that is used is declared in `proto/etcd.proto` and compiled here. The crate
//! `etcd-client` was turned down: it needs `protoc` on every machine that builds this one, and its
//! calls do not say when a keep-alive was sent.
//!
//! # What it asks of etcd
//! Version 3.4 or later, over TLS if [`EtcdTls`] is given (with a certificate of this host if etcd wants
//! one), otherwise over plain HTTP/2: then put it on a trusted network, or on the hosts themselves. etcd's
//! users and passwords are not spoken. A snapshot compacts etcd's history, which is the whole cluster's: give
//! Proffer an etcd of its own, or one whose other users do not read old revisions. Whoever can read
//! the prefix can read the token and every framework's configuration.

mod address;
mod client;
mod cluster;
mod components;
mod election;
mod follower;
mod layout;
mod ops;
mod proto;
mod writer;

pub use address::{EtcdAddress, EtcdTls, InvalidEtcdAddress, UnusableEtcdTls};
pub use client::EtcdError;
pub use cluster::{Cluster, OpenClusterError};
pub use election::{Authority, Election, Role};
pub use follower::{Followed, Follower, component_of};
pub use writer::EtcdStore;

pub(crate) use layout::apply_writes;

#[cfg(test)]
pub(crate) mod tests;
