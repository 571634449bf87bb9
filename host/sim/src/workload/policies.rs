//! Who decides in a simulation: a native policy by name, or whatever else can answer a cycle.

use proffer_model::policy::{Changes, ChangesPart, Cycle, Feeds, Proposal};
use proffer_policy::{NativePolicy, native, native_names};

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

/// There is no such policy, or it refuses its configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitPolicy {
    /// As it was named, and what there is.
    #[error("there is no native policy '{name}' (there are {known}), and no such file")]
    Unknown {
        /// As it was named.
        name: String,
        /// What there is.
        known: String,
    },
    /// In its own words.
    #[error("the policy {name} refuses its configuration: {why}")]
    Refuses {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
}

/// A policy that is compiled in.
pub struct Native {
    name: String,
    config: String,
    feeds: Feeds,
    policy: NativePolicy,
}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native").field("name", &self.name).finish()
    }
}

impl Native {
    /// The names of the native policies.
    pub fn names() -> impl Iterator<Item = &'static str> {
        native_names()
    }

    /// The policy of this name, with this configuration.
    ///
    /// # Errors
    /// There is none, or it refuses the configuration.
    pub fn named(name: &str, config: &str) -> Result<Self, UnfitPolicy> {
        let unknown = || UnfitPolicy::Unknown {
            name: name.escape_debug().to_string(),
            known: native_names().collect::<Vec<_>>().join(", "),
        };
        let mut policy = native(name).ok_or_else(unknown)?;
        let feeds = policy
            .configure(config)
            .map_err(|why| UnfitPolicy::Refuses {
                name: name.to_owned(),
                why,
            })?;
        Ok(Self {
            name: name.to_owned(),
            config: config.to_owned(),
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
        if begins && let Some(mut fresh) = native(&self.name) {
            fresh.configure(&self.config)?;
            self.policy = fresh;
        }
        for changes in changes {
            self.policy.apply(changes);
        }
        Ok(self.policy.decide(cycle))
    }
}
