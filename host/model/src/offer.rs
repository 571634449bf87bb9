//! Agents as everybody sees them, and offers.

use std::sync::Arc;

use crate::{AgentId, Amount, Duration, OfferId, Ranges, Resources, RoleName, Timestamp};

/// What an agent says of itself, apart from its resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentInfo {
    /// Its machine's name.
    pub hostname: Arc<str>,
    /// Its region, or empty.
    pub region: Arc<str>,
    /// Its zone, or empty.
    pub zone: Arc<str>,
    /// In the order given; the first of a name counts.
    pub attributes: Vec<Attribute>,
}

/// A named property of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// 1–255 bytes.
    pub name: String,
    /// Its value.
    pub value: AttributeValue,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// Any text.
    Text(String),
    /// A number.
    Scalar(Amount),
    /// A set of numbers.
    Ranges(Ranges),
}

/// When an agent will be down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From when.
    pub start: Timestamp,
    /// For how long; none: until told otherwise.
    pub length: Option<Duration>,
}

/// Resources of one agent, held out to one framework under one role until `expires`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The host's, never reused.
    pub id: OfferId,
    /// Whose resources.
    pub agent: AgentId,
    /// Under which role.
    pub role: RoleName,
    /// What.
    pub resources: Resources,
    /// When the host takes it back by itself.
    pub expires: Timestamp,
    /// Key of the demand that it answers, or empty.
    pub demand: String,
    /// Offers of one gang (not 0) come in one batch.
    pub gang: u32,
    /// When the agent is planned to be down.
    pub down: Option<Window>,
}
