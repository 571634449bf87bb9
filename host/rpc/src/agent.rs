//! The protocol between agents and host: one stream per agent, model values at both ends.
//!
//! The host's side ([`crate::serve::Server::agents`]) turns connections into one bounded channel of
//! [`AgentConnectionEvent`] and gives each connection a [`ToAgentSender`] that never blocks. The
//! agent's side is [`connect`]. Who is slow loses its connection, with a reason: nothing queues
//! without bound, and an agent that comes back says again all that matters.

mod client;
mod messages;
mod record;
mod server;
#[cfg(test)]
mod tests;

use std::fmt;

use proffer_model::agent::FromAgent;

pub use client::{
    HostChannel, HostConnectionLost, HostReceiver, HostSender, connect, connect_to_leader,
};
pub use record::{
    RecordError, launch_from_record, launch_to_record, update_from_record, update_to_record,
};
pub use server::{NotSent, ToAgentSender};

pub(crate) use server::agent_service;

/// One connection of an agent. Never reused while the host runs; higher is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection-{}", self.0)
    }
}

/// What happens on agents' connections. For each: opened, messages, closed, in this order; `Closed`
/// comes exactly once for each `Opened`.
#[derive(Debug)]
pub enum AgentConnectionEvent {
    /// An agent has connected; its registration follows at once.
    Opened {
        /// Which connection.
        connection: ConnectionId,
        /// From where, for people.
        peer: String,
        /// The way to the agent. When the last clone is dropped, the connection ends.
        to_agent: ToAgentSender,
    },
    /// The first is always a registration.
    Message {
        /// On which connection.
        connection: ConnectionId,
        /// What the agent says.
        message: FromAgent,
    },
    /// The connection is over; what was not sent is lost.
    Closed {
        /// Which connection.
        connection: ConnectionId,
        /// Why, for people.
        why: String,
    },
}
