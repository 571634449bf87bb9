//! Who decides: the loaded policy, a component on a thread of its own, and the native fallback.

use std::sync::Arc;

use proffer_core::{Event, PolicyIdentity, PolicySeat};
use proffer_model::policy::{Changes, ChangesPart, Cycle, Feeds, Proposal};
use proffer_model::{Reason, Remedy};
use proffer_plugin::{LoadedPlugin, PluginFault, PluginHost, PolicyHandle, PolicyLimits};
use proffer_policy::{Drf, Policy};
use tokio::sync::mpsc;

use crate::handle::{Input, LoopHandle};

/// Cycles that may wait: the core has one under way at a time.
const CYCLES_WAITING_MAX: usize = 2;

/// One cycle to be decided.
#[derive(Debug)]
struct Ask {
    seat: PolicySeat,
    changes: Vec<Changes>,
    cycle: Cycle,
}

/// The loop's end of the policies' task.
#[derive(Debug)]
pub(crate) struct PolicySeats {
    asks: mpsc::Sender<Ask>,
}

/// A policy component and its configuration.
#[derive(Clone, Debug)]
pub(crate) struct LoadedPolicy {
    pub(crate) plugin: LoadedPlugin,
    pub(crate) config: String,
    pub(crate) identity: Arc<PolicyIdentity>,
}

struct Seats {
    host: PluginHost,
    loaded: Option<LoadedPolicy>,
    /// None after a fault: the next snapshot goes to a new instance.
    instance: Option<PolicyHandle>,
    fallback: Drf,
    handle: LoopHandle,
}

impl PolicySeats {
    /// Starts the policies' task. The loaded policy is configured by the first cycle that it is
    /// asked in; [`Event::PolicyLoaded`] has been sent by whoever checked its configuration.
    pub(crate) fn start(
        host: PluginHost,
        loaded: Option<LoadedPolicy>,
        handle: LoopHandle,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (asks, mut work) = mpsc::channel::<Ask>(CYCLES_WAITING_MAX);
        let mut seats = Seats {
            host,
            loaded,
            instance: None,
            fallback: Drf::default(),
            handle,
        };
        let task = tokio::spawn(async move {
            while let Some(ask) = work.recv().await {
                let cycle = ask.cycle.number;
                let event = match seats.decide(ask).await {
                    Ok(proposal) => Event::PolicyProposed {
                        cycle,
                        proposal: Box::new(proposal),
                    },
                    Err(fault) => Event::PolicyFailed { cycle, fault },
                };
                if seats.handle.send(Input::Event(event)).await.is_err() {
                    return;
                }
            }
        });
        (Self { asks }, task)
    }

    pub(crate) fn run(&self, seat: PolicySeat, changes: Vec<Changes>, cycle: Cycle) {
        let ask = Ask {
            seat,
            changes,
            cycle,
        };
        if self.asks.try_send(ask).is_err() {
            tracing::error!("a cycle was asked for while another was under way: a bug of the core");
        }
    }
}

impl Seats {
    async fn decide(&mut self, ask: Ask) -> Result<Proposal, Reason> {
        match ask.seat {
            PolicySeat::Fallback => self.decide_natively(ask).await,
            PolicySeat::Loaded => self.decide_in_component(ask).await,
        }
    }

    /// On a thread of its own: a decision takes milliseconds, which the loop's messages would wait.
    async fn decide_natively(&mut self, ask: Ask) -> Result<Proposal, Reason> {
        let begins = ask
            .changes
            .first()
            .is_some_and(|first| first.part != ChangesPart::Delta);
        let mut fallback = std::mem::take(&mut self.fallback);
        let decided = tokio::task::spawn_blocking(move || {
            if begins {
                fallback = Drf::default();
            }
            for changes in &ask.changes {
                fallback.apply(changes);
            }
            let proposal = fallback.decide(&ask.cycle);
            (fallback, proposal)
        });
        // What it knew is lost only with a bug of ours; the core then feeds a snapshot.
        let (fallback, proposal) = decided.await.map_err(|bug| fault(bug.to_string()))?;
        self.fallback = fallback;
        Ok(proposal)
    }

    async fn decide_in_component(&mut self, ask: Ask) -> Result<Proposal, Reason> {
        let begins = ask
            .changes
            .first()
            .is_some_and(|first| first.part != ChangesPart::Delta);
        if begins || self.instance.is_none() {
            self.instance = None;
            self.instance = Some(self.new_instance().await?);
        }
        let Some(instance) = &self.instance else {
            return Err(fault("there is no instance of the policy"));
        };
        let outcome = instance.cycle(ask.changes, ask.cycle).await;
        match outcome.result {
            Ok(proposal) => Ok(proposal),
            Err(problem) => {
                self.instance = None;
                Err(fault(problem.to_string()))
            }
        }
    }

    async fn new_instance(&self) -> Result<PolicyHandle, Reason> {
        let Some(loaded) = &self.loaded else {
            return Err(fault("no policy is loaded"));
        };
        let spawned = spawn(&self.host, loaded).await;
        spawned
            .map(|(instance, _)| instance)
            .map_err(|problem| fault(problem.to_string()))
    }
}

/// Makes and configures an instance.
pub(crate) async fn spawn(
    host: &PluginHost,
    loaded: &LoadedPolicy,
) -> Result<(PolicyHandle, Feeds), PluginFault> {
    let limits = PolicyLimits::asked_by(loaded.plugin.manifest());
    host.spawn_policy(loaded.plugin.clone(), limits, &loaded.config)
        .await
}

fn fault(text: impl Into<String>) -> Reason {
    Reason::new("plugin-fault", Remedy::Mend, text)
}
