//! Components in a simulation: the very files that a host runs, on the engine that measures fuel.
//!
//! The same call burns the same fuel and gives the same answer, whatever the machine has to do; the thread
//! of a seed waits for it. What a component may use is what a host gives it, counted in fuel.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use proffer_model::framework::Batch;
use proffer_model::policy::{Changes, ChangesPart, Cycle, Feeds, Proposal};
use proffer_model::state::StateMap;
use proffer_plugin::{
    CallBudget, FrameworkHandle, FrameworkInit, FrameworkLimits, Kind, LoadPluginError,
    LoadedPlugin, MakePluginHostError, Metering, PluginHost, PluginHostConfig, PolicyHandle,
    PolicyLimits,
};

use crate::framework::{Committed, StateEntries};
use crate::plugins::{Life, Plugins, Steps};
use crate::workload::Decide;
use crate::world::FEEDS;

/// For a step, and for applying and deciding: as much as a host gives without being asked, a million
/// units of fuel to the millisecond. What overruns here would overrun there.
const CALL_CPU: Duration = Duration::from_millis(100);
/// For making an instance and its `start` or `configure`, and for each part of a snapshot: an interpreter
/// takes a while to start. As much as a host gives.
const SELDOM_CPU: Duration = Duration::from_secs(1);
/// Fuel ends a call; this only keeps a run from standing still for ever if it did not.
const WALL: Duration = Duration::from_secs(600);
/// Instances at once: so many seeds run side by side, each with a few hosts in turns, and each host
/// with a framework or two and a policy.
const INSTANCES_MAX: u32 = 256;

/// The name of the framework that takes the native one's place.
const MAPREDUCE: &str = "mapreduce";

/// Components to be simulated.
pub struct Components {
    // Dropped in this order: what was loaded ends before what runs it.
    mapreduce: Option<LoadedPlugin>,
    stranger: Option<LoadedPlugin>,
    policy: Option<LoadedPlugin>,
    stranger_config: String,
    policy_config: String,
    calls: Arc<Calls>,
    host: PluginHost,
}

/// What components were asked, and what came of it.
#[derive(Debug, Default)]
pub struct Calls {
    steps: AtomicU64,
    steps_failed: AtomicU64,
    cycles: AtomicU64,
    cycles_failed: AtomicU64,
}

/// Why components cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum UseComponentError {
    /// There is no engine.
    #[error(transparent)]
    Engine(#[from] MakePluginHostError),
    /// One of them is no plug-in.
    #[error(transparent)]
    Load(#[from] LoadPluginError),
    /// Two for one place.
    #[error("{0} and {1} are for the same place: one framework of another name, one policy")]
    Twice(String, String),
}

impl std::fmt::Debug for Components {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |plugin: &Option<LoadedPlugin>| plugin.as_ref().map(|p| p.name().to_owned());
        f.debug_struct("Components")
            .field("mapreduce", &name(&self.mapreduce))
            .field("stranger", &name(&self.stranger))
            .field("policy", &name(&self.policy))
            .finish_non_exhaustive()
    }
}

impl Components {
    /// Makes the engine. Nothing is in anybody's place yet.
    ///
    /// # Errors
    /// There is no engine.
    pub fn new() -> Result<Self, UseComponentError> {
        let host = PluginHost::new(PluginHostConfig {
            metering: Metering::Fuel,
            instances_max: INSTANCES_MAX,
            ..PluginHostConfig::default()
        })?;
        Ok(Self {
            mapreduce: None,
            stranger: None,
            policy: None,
            stranger_config: String::new(),
            policy_config: String::new(),
            calls: Arc::default(),
            host,
        })
    }

    /// Takes a component in: `mapreduce` in the native one's place (which configures it), a policy in the
    /// loaded policy's, any other framework beside those that the simulator has, with this configuration.
    ///
    /// # Errors
    /// It is no plug-in, or its place is taken.
    pub fn add(&mut self, bytes: &[u8], config: &str) -> Result<(), UseComponentError> {
        let loaded = match self.host.load_blocking(bytes, Kind::Framework) {
            Ok(loaded) => loaded,
            // What is wrong with it as a framework is not said of a policy.
            Err(_) => self.host.load_blocking(bytes, Kind::Policy)?,
        };
        let place = match (loaded.kind(), loaded.name()) {
            (Kind::Policy, _) => {
                self.policy_config = config.to_owned();
                &mut self.policy
            }
            (Kind::Framework, MAPREDUCE) => &mut self.mapreduce,
            (Kind::Framework, _) => {
                self.stranger_config = config.to_owned();
                &mut self.stranger
            }
        };
        if let Some(before) = place {
            let (one, two) = (before.name().to_owned(), loaded.name().to_owned());
            return Err(UseComponentError::Twice(one, two));
        }
        *place = Some(loaded);
        Ok(())
    }

    /// What was asked of them so far.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    fn start(
        &self,
        loaded: Option<&LoadedPlugin>,
        life: Box<Life>,
    ) -> Result<Box<dyn Steps>, Box<Life>> {
        let Some(loaded) = loaded else {
            return Err(life);
        };
        let Life {
            context,
            framework,
            seed,
            state,
        } = *life;
        let own = StateMap::new(state.clone());
        let init = FrameworkInit {
            loaded: loaded.clone(),
            context,
            framework,
            state,
            limits: FrameworkLimits {
                start: budget(SELDOM_CPU),
                step: budget(CALL_CPU),
                ..FrameworkLimits::default()
            },
            seed,
        };
        match self.host.spawn_framework(init) {
            Ok(handle) => Ok(Box::new(Framework {
                handle,
                state: own,
                calls: Arc::clone(&self.calls),
            })),
            // It was loaded as a framework: this does not happen, and the native one would run.
            Err(init) => Err(Box::new(Life {
                context: init.context,
                framework: init.framework,
                seed: init.seed,
                state: init.state,
            })),
        }
    }
}

impl Calls {
    /// Steps, and those of them that failed.
    #[must_use]
    pub fn steps(&self) -> (u64, u64) {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (count(&self.steps), count(&self.steps_failed))
    }

    /// Cycles, and those of them that failed.
    #[must_use]
    pub fn cycles(&self) -> (u64, u64) {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (count(&self.cycles), count(&self.cycles_failed))
    }
}

impl Plugins for Components {
    fn mapreduce(&self, life: Box<Life>) -> Result<Box<dyn Steps>, Box<Life>> {
        self.start(self.mapreduce.as_ref(), life)
    }

    fn stranger(&self) -> Option<String> {
        self.stranger.as_ref().map(|_| self.stranger_config.clone())
    }

    fn start_stranger(&self, life: Box<Life>) -> Result<Box<dyn Steps>, Box<Life>> {
        self.start(self.stranger.as_ref(), life)
    }

    fn policy(&self) -> Option<Box<dyn Decide>> {
        let loaded = self.policy.clone()?;
        Some(Box::new(Policy {
            host: self.host.clone(),
            loaded,
            config: self.policy_config.clone(),
            instance: None,
            calls: Arc::clone(&self.calls),
        }))
    }
}

/// A framework's component.
struct Framework {
    handle: FrameworkHandle,
    /// The actor's own is in the engine's hands: this one is made of what comes out, as the store's is.
    state: StateMap,
    calls: Arc<Calls>,
}

impl Steps for Framework {
    fn state(&self) -> &StateEntries {
        self.state.entries()
    }

    fn drop_instance(&mut self) {
        // None is under way: each is waited for.
        let dropped = self.handle.drop_instance();
        debug_assert!(dropped, "a step is under way");
    }

    fn step(&mut self, batch: Batch) -> Result<Committed, String> {
        self.calls.steps.fetch_add(1, Ordering::Relaxed);
        match wait_for(self.handle.step(batch)).result {
            Ok(step) => {
                self.state.apply(&step.writes);
                Ok(Committed {
                    answer: step.answer,
                    writes: step.writes,
                })
            }
            Err(fault) => {
                self.calls.steps_failed.fetch_add(1, Ordering::Relaxed);
                Err(fault.to_string())
            }
        }
    }
}

/// A policy's component.
struct Policy {
    // Dropped in this order.
    instance: Option<PolicyHandle>,
    loaded: LoadedPlugin,
    config: String,
    host: PluginHost,
    calls: Arc<Calls>,
}

impl Policy {
    fn cycle(&mut self, changes: &[Changes], cycle: &Cycle) -> Result<Proposal, String> {
        let begins = |first: &Changes| first.part != ChangesPart::Delta;
        if changes.first().is_some_and(begins) {
            self.instance = None;
            let limits = PolicyLimits {
                cycle: budget(CALL_CPU),
                snapshot: budget(SELDOM_CPU),
                other: budget(SELDOM_CPU),
                ..PolicyLimits::default()
            };
            let spawned = self
                .host
                .spawn_policy(self.loaded.clone(), limits, &self.config);
            let (instance, _) = wait_for(spawned).map_err(|fault| fault.to_string())?;
            self.instance = Some(instance);
        }
        let instance = self.instance.as_ref().ok_or("it has no instance")?;
        let outcome = wait_for(instance.cycle(changes.to_vec(), cycle.clone()));
        outcome.result.map_err(|fault| {
            self.instance = None;
            fault.to_string()
        })
    }
}

impl Decide for Policy {
    fn name(&self) -> String {
        format!("{} {}", self.loaded.name(), self.loaded.version())
    }

    fn feeds(&self) -> Feeds {
        FEEDS
    }

    fn decide(&mut self, changes: &[Changes], cycle: &Cycle) -> Result<Proposal, String> {
        self.calls.cycles.fetch_add(1, Ordering::Relaxed);
        let decided = self.cycle(changes, cycle);
        if decided.is_err() {
            self.calls.cycles_failed.fetch_add(1, Ordering::Relaxed);
        }
        decided
    }
}

fn budget(cpu: Duration) -> CallBudget {
    CallBudget { cpu, wall: WALL }
}

/// Stands still until it is done: what it waits for runs on the engine's threads.
fn wait_for<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
