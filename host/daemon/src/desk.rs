//! The policies' side of a host by itself: what measures and tests drive with a core of their own.
//!
//! It is the same task and the same candidates that a host has; only the loop around them is the
//! caller's.

use proffer_core::{Action, Event, PolicySwap};
use proffer_model::Reason;
use proffer_model::policy::Feeds;
use proffer_plugin::{LoadedPlugin, PluginHost};
use proffer_store::Components;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::handle::{Input, LoopHandle};
use crate::instance::spawn;
use crate::policy_seat::{LoadedPolicy, Loader, PolicySeats, fault};

/// Events that may wait for whoever drives the desk.
const EVENTS_WAITING_MAX: usize = 1_024;

/// Who decides, without a host around it. Must be made and used within a tokio runtime.
#[derive(Debug)]
pub struct PolicyDesk {
    seats: PolicySeats,
    plugins: PluginHost,
    events: mpsc::Receiver<Input>,
    task: JoinHandle<()>,
}

impl PolicyDesk {
    /// A desk at which the native policy decides.
    #[must_use]
    pub fn start(plugins: PluginHost, components: Components) -> Self {
        let (inputs, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let loader = Loader {
            plugins: plugins.clone(),
            components,
        };
        let handle = LoopHandle::new(inputs);
        let (seats, task) = PolicySeats::start(loader, None, Vec::new(), handle);
        Self {
            seats,
            plugins,
            events,
            task,
        }
    }

    /// Does what a core asks of policies; gives back what is for others.
    #[must_use = "what is for others is to be done by the caller"]
    pub fn perform(&self, action: Action) -> Option<Action> {
        self.seats.perform(action)
    }

    /// Configures a policy and leaves it here: the swap that is to be asked of the core, by nobody in
    /// particular.
    ///
    /// # Errors
    /// What the policy says, or its fault.
    pub async fn prepare(&self, plugin: LoadedPlugin, config: &str) -> Result<PolicySwap, Reason> {
        let policy = LoadedPolicy::new(plugin, config);
        let identity = policy.identity.clone();
        let spawned = spawn(&self.plugins, &policy).await;
        let (instance, feeds): (_, Feeds) =
            spawned.map_err(|problem| fault(problem.to_string()))?;
        Ok(PolicySwap {
            candidate: self.seats.candidates().keep(policy, instance),
            identity,
            feeds,
            by: String::new(),
            why: String::new(),
            rollback_to: None,
            guards: Vec::new(),
            trial: None,
        })
    }

    /// What policies have answered; waits for it. None: nobody will answer any more.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            if let Input::Event(event) = self.events.recv().await? {
                return Some(event);
            }
        }
    }

    /// What policies have answered already.
    pub fn event_now(&mut self) -> Option<Event> {
        loop {
            if let Input::Event(event) = self.events.try_recv().ok()? {
                return Some(event);
            }
        }
    }
}

impl Drop for PolicyDesk {
    fn drop(&mut self) {
        self.task.abort();
    }
}
