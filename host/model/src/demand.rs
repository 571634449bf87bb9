//! What a framework says that it could use now.

use crate::{Amount, Duration, Ranges, Resources, RoleName, Timestamp};

/// A level, not an edge: stays until it is set again or cleared under its key, over restarts too.
/// The host never counts it down; it only keeps account of what is on offer for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The author's name for it, unique in the framework; 1–255 bytes.
    pub key: String,
    /// Under which of the framework's roles.
    pub role: RoleName,
    /// One unit of it. All zeros: anything, whole agents.
    pub shape: Shape,
    /// How many units.
    pub count: u32,
    /// Fewer than this at once are of no use; 0 and 1 mean any number.
    pub gang: u32,
    /// At most so many units on one agent; 0: no bound.
    pub per_agent: u32,
    /// Among this framework's demands: higher first.
    pub priority: i32,
    /// When it goes by itself.
    pub until: Option<Timestamp>,
    /// Groups are alternatives; in a group all must hold. Empty: every agent.
    pub constraints: Vec<Vec<Constraint>>,
    /// Where it would rather be; others are offered only after `near_for`.
    pub near: Vec<Near>,
    /// How long only `near` places are offered.
    pub near_for: Duration,
}

/// One unit of demand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Scalars by kind; `ports` of the bundle is not used (see the two fields below).
    pub resources: Resources,
    /// How many ports, whichever.
    pub ports: u32,
    /// Exactly these ports.
    pub fixed_ports: Ranges,
    /// Only what is reserved under this label; empty: any.
    pub label: String,
    /// Only this volume; empty: any.
    pub volume: String,
    /// Whether revocable resources will do.
    pub revocable: RevocableUse,
}

impl Shape {
    /// Whether it asks for anything, whole agents.
    #[must_use]
    pub fn is_anything(&self) -> bool {
        self.resources.is_empty() && self.ports == 0 && self.fixed_ports.is_empty()
    }

    /// Amounts per kind, ports counted, in the order of [`crate::Bundle::amounts`].
    #[must_use]
    pub fn amounts(&self) -> Vec<(String, Amount)> {
        let mut bundle = self.resources.total();
        bundle.ports = Ranges::default();
        let ports = Amount::from_units(i64::from(self.ports)).max(self.fixed_ports.amount());
        let mut amounts: Vec<(String, Amount)> = bundle
            .amounts()
            .map(|(kind, amount)| (kind.to_owned(), amount))
            .collect();
        if !ports.is_zero() {
            amounts.push(("ports".to_owned(), ports));
        }
        amounts
    }
}

/// Whether revocable resources will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevocableUse {
    /// Only what is not revocable.
    #[default]
    Never,
    /// Either.
    Also,
    /// Only revocable.
    Only,
}

/// A condition on an agent. `hostname`, `region` and `zone` are attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// The attribute's name.
    pub attribute: String,
    /// The test.
    pub test: ConstraintTest,
    /// Any of them (with the tests that begin with Not: none of them).
    pub values: Vec<String>,
}

/// How a [`Constraint`] looks at an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConstraintTest {
    /// The attribute is there.
    Exists,
    /// It is not there.
    NotExists,
    /// Its text is one of the values.
    Equals,
    /// Its text is none of the values.
    NotEquals,
    /// Its whole text matches one of the values as a regular expression.
    Matches,
    /// Its whole text matches none of them.
    NotMatches,
}

/// A place where some units would rather be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// An attribute's name.
    pub attribute: String,
    /// Its text.
    pub value: String,
    /// How many units.
    pub count: u32,
}
