//! A policy that is configured and keeps a picture of the cluster: a component's instance on a thread of
//! its own, or the native policy.

use std::sync::{Arc, Mutex};

use proffer_model::Reason;
use proffer_model::policy::{Changes, Cycle, Feeds, Finding, Proposal, Question, Section};
use proffer_plugin::{Call, PluginFault, PluginHost, PolicyHandle, PolicyLimits};
use proffer_policy::{Drf, Policy};

use crate::policy_seat::{Code, LoadedPolicy, fault};

/// Whoever can be asked.
#[derive(Debug)]
pub(crate) enum Instance {
    Component(PolicyHandle),
    Native(NativeInstance),
}

/// The native policy. What it decides takes milliseconds, so each call is on a thread for such.
#[derive(Clone, Debug, Default)]
pub(crate) struct NativeInstance {
    policy: Arc<Mutex<Drf>>,
}

/// Makes and configures an instance.
pub(crate) async fn spawn(
    host: &PluginHost,
    loaded: &LoadedPolicy,
) -> Result<(Instance, Feeds), PluginFault> {
    let config = &loaded.identity.config;
    match &loaded.code {
        Code::Component(plugin) => {
            let limits = PolicyLimits::asked_by(plugin.manifest());
            let spawned = host.spawn_policy(plugin.clone(), limits, config).await;
            spawned.map(|(instance, feeds)| (Instance::Component(instance), feeds))
        }
        Code::Native => {
            let mut policy = Drf::default();
            let configured = policy.configure(config);
            let feeds = configured.map_err(|text| PluginFault::Refused {
                call: Call::Configure,
                text,
            })?;
            let policy = Arc::new(Mutex::new(policy));
            Ok((Instance::Native(NativeInstance { policy }), feeds))
        }
    }
}

impl Instance {
    pub(crate) async fn apply(&self, changes: Vec<Changes>) -> Result<(), Reason> {
        match self {
            Self::Component(handle) => handle.apply(changes).await.map_err(fault_of),
            Self::Native(native) => native.apply(changes).await,
        }
    }

    /// Feeds changes, in order, and asks for a decision.
    pub(crate) async fn cycle(
        &self,
        changes: Vec<Changes>,
        cycle: Cycle,
    ) -> Result<Proposal, Reason> {
        match self {
            Self::Component(handle) => {
                let outcome = handle.cycle(changes, cycle).await;
                outcome.result.map_err(fault_of)
            }
            Self::Native(native) => native.cycle(changes, cycle).await,
        }
    }

    pub(crate) async fn explain(&self, question: Question) -> Result<Vec<Finding>, Reason> {
        match self {
            Self::Component(handle) => handle.explain(question).await.map_err(fault_of),
            Self::Native(native) => native.explain(question).await,
        }
    }

    pub(crate) async fn carry(&self) -> Result<Vec<Section>, Reason> {
        match self {
            Self::Component(handle) => handle.carry().await.map_err(fault_of),
            Self::Native(native) => native.carry().await,
        }
    }

    /// A policy that does not want what is carried starts cold; one that traps on it has failed.
    pub(crate) async fn adopt(&self, carried: &[Section]) -> Result<(), Reason> {
        if carried.is_empty() {
            return Ok(());
        }
        let handle = match self {
            Self::Component(handle) => handle,
            Self::Native(native) => return native.adopt(carried.to_vec()).await,
        };
        match handle.adopt(carried.to_vec()).await {
            Ok(used) => {
                tracing::debug!(
                    used = used.join(","),
                    "a policy went on with what was carried"
                );
                Ok(())
            }
            Err(PluginFault::Refused { .. }) => Ok(()),
            Err(problem) => Err(fault_of(problem)),
        }
    }
}

impl NativeInstance {
    pub(crate) async fn apply(&self, changes: Vec<Changes>) -> Result<(), Reason> {
        self.run(move |policy| {
            for part in &changes {
                policy.apply(part);
            }
        })
        .await
    }

    pub(crate) async fn cycle(
        &self,
        changes: Vec<Changes>,
        cycle: Cycle,
    ) -> Result<Proposal, Reason> {
        self.run(move |policy| {
            for part in &changes {
                policy.apply(part);
            }
            policy.decide(&cycle)
        })
        .await
    }

    pub(crate) async fn explain(&self, question: Question) -> Result<Vec<Finding>, Reason> {
        self.run(move |policy| policy.explain(&question)).await
    }

    pub(crate) async fn carry(&self) -> Result<Vec<Section>, Reason> {
        self.run(|policy| policy.carry()).await
    }

    /// What it cannot read is a cold start.
    pub(crate) async fn adopt(&self, carried: Vec<Section>) -> Result<(), Reason> {
        self.run(move |policy| {
            let _cold = policy.adopt(&carried).is_err();
        })
        .await
    }

    /// What it knew is lost only with a bug of ours; whoever asked then feeds a snapshot to another.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Drf) -> T + Send + 'static,
    ) -> Result<T, Reason> {
        let policy = Arc::clone(&self.policy);
        let done = tokio::task::spawn_blocking(move || {
            let mut policy = policy.lock().map_err(|_| fault("it panicked before"))?;
            Ok(work(&mut policy))
        });
        done.await.map_err(|bug| fault(bug.to_string()))?
    }
}

fn fault_of(problem: PluginFault) -> Reason {
    fault(problem.to_string())
}
