//! Who decides in a simulation: a native policy by name, or whatever else can answer a cycle.

use proffer_model::policy::{Changes, ChangesPart, Cycle, Feeds, Proposal};
use proffer_policy::{Drf, Policy};

/// Answers cycles.
pub trait Decide {
    /// Its name and version, for people.
    fn name(&self) -> String;

    /// What it wants to be fed.
    fn feeds(&self) -> Feeds;

    /// Takes the changes and decides. A snapshot goes to a new instance.
    ///
    /// # Errors
    /// How it failed.
    fn decide(&mut self, changes: &[Changes], cycle: &Cycle) -> Result<Proposal, String>;
}

/// There is no such policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy {
    /// As it was named.
    pub name: String,
}

impl std::fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = NATIVE.join(", ");
        write!(
            f,
            "there is no native policy '{}' (there is: {names}), and no such file",
            self.name
        )
    }
}

impl std::error::Error for UnknownPolicy {}

/// Names of native policies.
pub const NATIVE: [&str; 1] = ["drf"];

/// A policy that is compiled in.
pub struct Native {
    name: String,
    config: String,
    feeds: Feeds,
    policy: Box<dyn Policy>,
}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native").field("name", &self.name).finish()
    }
}

fn made(name: &str) -> Option<Box<dyn Policy>> {
    match name {
        "drf" => Some(Box::new(Drf::default())),
        _ => None,
    }
}

impl Native {
    /// The policy of this name, configured.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self, UnknownPolicy> {
        let unknown = || UnknownPolicy {
            name: name.to_owned(),
        };
        let mut policy = made(name).ok_or_else(unknown)?;
        let config = String::new();
        let feeds = policy.configure(&config).map_err(|_| unknown())?;
        Ok(Self {
            name: name.to_owned(),
            config,
            feeds,
            policy,
        })
    }
}

impl Decide for Native {
    fn name(&self) -> String {
        format!("native {}", self.name)
    }

    fn feeds(&self) -> Feeds {
        self.feeds
    }

    fn decide(&mut self, changes: &[Changes], cycle: &Cycle) -> Result<Proposal, String> {
        let begins = changes
            .first()
            .is_some_and(|first| first.part != ChangesPart::Delta);
        if begins && let Some(mut fresh) = made(&self.name) {
            fresh.configure(&self.config)?;
            self.policy = fresh;
        }
        for changes in changes {
            self.policy.apply(changes);
        }
        Ok(self.policy.decide(cycle))
    }
}
