//! The gRPC protocols of agents and operators; the only crate that knows tonic and prost.
//!
//! Everybody else sees values of `proffer-model` and the handles here. What comes in from a wire is
//! converted and checked at this edge ([`InvalidMessage`]); nothing past it looks at a wire type.
//! Both sides of a connection carry a [`Token`], and a server listens only where [`ListenAddress`]
//! allows it.
//!
//! - [`agent`]: host and agents, one stream per agent;
//! - [`data`]: files of sandboxes, between agents;
//! - [`operator`]: what operators and their tools ask of a host;
//! - [`serve`]: a listening port with the services on it;
//! - [`leader`]: of several hosts, finding the one that leads.

pub mod agent;
pub mod data;
pub mod leader;
mod listen;
pub mod operator;
mod proto;
pub mod serve;
mod token;
mod transport;
mod values;

pub use listen::{BindError, Bound, ListenAddress, Protection, RefusedAddress};
pub use token::{Token, TokenError};
pub use transport::{ConnectError, PeerAddress, Tls};
pub use values::InvalidMessage;
