//! Roles' own policies: components that share within a subtree what it was granted.
//!
//! Each turn is a task of its own with an instance of its own, so that no tenant waits for another, and
//! none that spins or traps costs more than its turn. What an instance carries goes to the next; it is
//! kept until then, to be asked why it left what it was given.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proffer_core::Event;
use proffer_model::Reason;
use proffer_model::RoleName;
use proffer_model::fact::PolicyRecord;
use proffer_model::policy::{Changes, Cycle, Filters, Proposal, Question, Section};
use proffer_plugin::PluginHost;

use crate::handle::{Input, LoopHandle};
use crate::instance::{Instance, NativeInstance, spawn};
use crate::policy_seat::{Answer, LoadedPolicy, Loader, fault};

/// Policies of roles by the number that the core knows them by. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tenants {
    numbers: Arc<AtomicU64>,
    all: Arc<Mutex<HashMap<u64, Arc<Tenant>>>>,
    loader: Loader,
    handle: LoopHandle,
}

#[derive(Debug)]
struct Tenant {
    policy: LoadedPolicy,
    /// What its last instance said that the next should know.
    carried: Mutex<Vec<Section>>,
    /// The one that had the last turn.
    last: tokio::sync::Mutex<Option<Instance>>,
}

impl Tenants {
    pub(crate) fn new(loader: Loader, handle: LoopHandle) -> Self {
        Self {
            numbers: Arc::new(AtomicU64::new(1)),
            all: Arc::default(),
            loader,
            handle,
        }
    }

    /// Keeps a policy that was configured once to see that it can be; answers its number.
    pub(crate) fn keep(&self, policy: LoadedPolicy) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let tenant = Arc::new(Tenant {
            policy,
            carried: Mutex::default(),
            last: tokio::sync::Mutex::default(),
        });
        self.lock().insert(number, tenant);
        number
    }

    pub(crate) fn forget(&self, number: u64) {
        self.lock().remove(&number);
    }

    /// Those that were set before this host went on, beside whatever else it does.
    pub(crate) fn load(&self, records: Vec<(RoleName, PolicyRecord)>) {
        let tenants = self.clone();
        // Ends with the last of them; if the host ends first, nobody misses it.
        tokio::spawn(async move {
            for (role, record) in records {
                let event = match tenants.loader.load(&record).await {
                    Ok((policy, _)) => {
                        let tenant = tenants.keep(policy);
                        Event::TenantLoaded { role, tenant }
                    }
                    Err(fault) => Event::TenantUnavailable { role, fault },
                };
                if tenants.handle.send(Input::Event(event)).await.is_err() {
                    return;
                }
            }
        });
    }

    /// One turn, in a task that ends with it.
    pub(crate) fn run(&self, tenant: Option<u64>, turn: u64, changes: Vec<Changes>, cycle: Cycle) {
        let found = tenant.map(|number| self.lock().get(&number).cloned());
        let (plugins, handle) = (self.loader.plugins.clone(), self.handle.clone());
        tokio::spawn(async move {
            let decided = match found {
                None => natively(changes, cycle).await,
                Some(None) => Err(fault("the policy is not there any more")),
                Some(Some(tenant)) => tenant.decide(&plugins, changes, cycle).await,
            };
            let event = match decided {
                Ok(proposal) => Event::TenantProposed {
                    turn,
                    proposal: Box::new(proposal),
                },
                Err(fault) => Event::TenantFailed { turn, fault },
            };
            let _gone = handle.send(Input::Event(event)).await.is_err();
        });
    }

    /// Asks why it left something in its last turn, in a task that ends with it. One that is gone is not
    /// asked, which whoever waits sees.
    pub(crate) fn explain(&self, number: u64, question: Question, answer: Answer) {
        let Some(tenant) = self.lock().get(&number).cloned() else {
            return;
        };
        tokio::spawn(async move {
            let mut last = tenant.last.lock().await;
            let found = match last.as_ref() {
                Some(instance) => instance.explain(question).await,
                None => Ok(Vec::new()),
            };
            if found.is_err() {
                // Its next turn has another.
                *last = None;
            }
            // Whoever asked does not wait any more.
            let _gone = answer.send(found).is_err();
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Tenant>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenant {
    async fn decide(
        &self,
        plugins: &PluginHost,
        mut changes: Vec<Changes>,
        cycle: Cycle,
    ) -> Result<Proposal, Reason> {
        drop(self.last.lock().await.take());
        let spawned = spawn(plugins, &self.policy).await;
        let (instance, feeds) = spawned.map_err(|problem| fault(problem.to_string()))?;
        for part in &mut changes {
            if !feeds.demands {
                part.demands = Vec::new();
            }
            if !feeds.filters {
                part.filters = Filters::default();
            }
        }
        instance.apply(changes).await?;
        let carried = self.carried().clone();
        instance.adopt(&carried).await?;
        let proposal = instance.cycle(Vec::new(), cycle).await?;
        match instance.carry().await {
            Ok(sections) => *self.carried() = sections,
            // It has decided: what it should have said is the next one's loss.
            Err(why) => {
                tracing::warn!(
                    why = why.text,
                    "a role's policy does not say what the next should know"
                );
            }
        }
        *self.last.lock().await = Some(instance);
        Ok(proposal)
    }

    fn carried(&self) -> std::sync::MutexGuard<'_, Vec<Section>> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The native policy, in place of one that failed or is not there yet.
async fn natively(changes: Vec<Changes>, cycle: Cycle) -> Result<Proposal, Reason> {
    let native = NativeInstance::default();
    native.cycle(changes, cycle).await
}
