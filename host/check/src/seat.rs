//! Whom the core asks: a policy natively, or a component.

use std::path::Path;

use proffer_model::policy::{Changes, Cycle, Feeds, Place, Proposal};
use proffer_model::with_causes;
use proffer_plugin::{
    Kind, LoadedPlugin, PluginHost, PluginHostConfig, PolicyHandle, PolicyLimits,
};
use proffer_policy::NativePolicy;
use tokio::runtime::Runtime;

/// A policy that is asked; one for each scenario.
pub trait Seat {
    /// What has changed, without a question.
    ///
    /// # Errors
    /// What the policy did wrong, in words.
    fn apply(&mut self, changes: Vec<Changes>) -> Result<(), String>;

    /// One cycle.
    ///
    /// # Errors
    /// What the policy did wrong, in words.
    fn cycle(&mut self, changes: Vec<Changes>, cycle: Cycle) -> Result<Proposal, String>;

    /// The order of service.
    ///
    /// # Errors
    /// What the policy did wrong, in words.
    fn places(&mut self) -> Result<Vec<Place>, String>;
}

/// Where policies come from.
pub trait Seats {
    /// A new one, configured.
    ///
    /// # Errors
    /// Why there is none: its own words, if it refuses the configuration.
    fn make(&mut self, config: &str) -> Result<(Box<dyn Seat + '_>, Feeds), String>;
}

/// Policies that run natively.
pub struct Native {
    make: Box<dyn Fn() -> NativePolicy>,
}

impl Native {
    /// A built-in policy; none if there is no such, see [`proffer_policy::native_names`].
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        proffer_policy::native(name)?;
        let name = name.to_owned();
        Some(Self::new(move || {
            proffer_policy::native(&name).expect("the names of built-in policies do not change")
        }))
    }

    /// Made by this function.
    #[must_use]
    pub fn new(make: impl Fn() -> NativePolicy + 'static) -> Self {
        Self {
            make: Box::new(make),
        }
    }

    /// The names of the built-in policies.
    pub fn names() -> impl Iterator<Item = &'static str> {
        proffer_policy::native_names()
    }
}

struct NativeSeat(NativePolicy);

impl Seats for Native {
    fn make(&mut self, config: &str) -> Result<(Box<dyn Seat + '_>, Feeds), String> {
        let mut policy = (self.make)();
        let feeds = policy.configure(config)?;
        Ok((Box::new(NativeSeat(policy)), feeds))
    }
}

impl Seat for NativeSeat {
    fn apply(&mut self, changes: Vec<Changes>) -> Result<(), String> {
        for changes in &changes {
            self.0.apply(changes);
        }
        Ok(())
    }

    fn cycle(&mut self, changes: Vec<Changes>, cycle: Cycle) -> Result<Proposal, String> {
        self.apply(changes)?;
        Ok(self.0.decide(&cycle))
    }

    fn places(&mut self) -> Result<Vec<Place>, String> {
        Ok(self.0.places())
    }
}

/// Policies made of a component.
pub struct Component {
    runtime: Runtime,
    host: PluginHost,
    loaded: LoadedPlugin,
}

impl Component {
    /// Compiles a component's file.
    ///
    /// # Errors
    /// In words: it cannot be read, or is no policy.
    pub fn load(file: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        let host =
            PluginHost::new(PluginHostConfig::default()).map_err(|error| with_causes(&error))?;
        let loaded = runtime
            .block_on(host.load(bytes, Kind::Policy))
            .map_err(|error| format!("{}: {}", file.display(), with_causes(&error)))?;
        Ok(Self {
            runtime,
            host,
            loaded,
        })
    }

    /// The component's name and version.
    #[must_use]
    pub fn identity(&self) -> (&str, &str) {
        (self.loaded.name(), self.loaded.version())
    }
}

struct ComponentSeat<'a> {
    runtime: &'a Runtime,
    handle: PolicyHandle,
}

impl Seats for Component {
    fn make(&mut self, config: &str) -> Result<(Box<dyn Seat + '_>, Feeds), String> {
        let limits = PolicyLimits::asked_by(self.loaded.manifest());
        let spawned = self.host.spawn_policy(self.loaded.clone(), limits, config);
        let (handle, feeds) = self
            .runtime
            .block_on(spawned)
            .map_err(|error| with_causes(&error))?;
        let seat = ComponentSeat {
            runtime: &self.runtime,
            handle,
        };
        Ok((Box::new(seat), feeds))
    }
}

impl Seat for ComponentSeat<'_> {
    fn apply(&mut self, changes: Vec<Changes>) -> Result<(), String> {
        self.runtime
            .block_on(self.handle.apply(changes))
            .map_err(|error| with_causes(&error))
    }

    fn cycle(&mut self, changes: Vec<Changes>, cycle: Cycle) -> Result<Proposal, String> {
        let outcome = self.runtime.block_on(self.handle.cycle(changes, cycle));
        outcome.result.map_err(|error| with_causes(&error))
    }

    fn places(&mut self) -> Result<Vec<Place>, String> {
        self.runtime
            .block_on(self.handle.places())
            .map_err(|error| with_causes(&error))
    }
}
