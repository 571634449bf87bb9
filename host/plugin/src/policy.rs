//! A policy's actor: an instance that keeps its picture of the cluster from call to call.
//!
//! After any fault the instance is gone, and with it the picture. `configure` makes a new one, which
//! must then be fed a snapshot; every other call without an instance is a fault of its caller.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proffer_model::policy::{
    Changes, ChangesPart, Cycle, Feeds, Finding, Place, Proposal, Question, Section,
};
use tokio::sync::oneshot;
use wasmtime::Store;

use crate::bindings::framework::proffer::types::{log, values};
use crate::bindings::policy::Policy;
use crate::bindings::policy::proffer::policy::model as wit;
use crate::executor::{Habit, Lane};
use crate::fault::{Call, PluginFault};
use crate::guest::{CallBudget, Common, GuestData, StoreLimits, call, make_store};
use crate::host::{HostShared, PLUGIN_MEMORY_BYTES_MAX, PluginHost};
use crate::load::{Code, Loaded, LoadedPlugin};
use crate::log::{LogTail, PluginLog};
use crate::manifest::Manifest;
use crate::memory::MemoryLimiter;
use crate::meter::Meter;

mod inward;
mod outward;

/// What one call may hand over: a proposal of a million rows of nine columns.
const HOSTCALL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Unless the manifest asks for another; 10,000 agents and 1,000 clients take a tenth of it.
const MEMORY_BYTES: u64 = 128 * 1024 * 1024;
/// For `apply` and `decide` each. A false alarm costs the policy its place, so there is room for an
/// oversubscribed machine, whose stolen time counts as ours.
const CYCLE_CPU: Duration = Duration::from_millis(100);
/// The most that a manifest may ask for.
const CYCLE_CPU_MAX: Duration = Duration::from_secs(1);
/// For an instance, `configure`, `explain` and the like, which are seldom.
const OTHER_CPU: Duration = Duration::from_secs(1);
/// For a snapshot's `apply`: seldom, and large.
const SNAPSHOT_CPU: Duration = Duration::from_secs(5);
/// The backstop: only a machine that gives a plug-in next to no processor comes to it.
const WALL: Duration = Duration::from_secs(60);

const MIB: u64 = 1024 * 1024;

/// What a policy may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyLimits {
    /// Linear memory of its instance.
    pub memory_bytes: u64,
    /// For applying what has changed, and for deciding, each.
    pub cycle: CallBudget,
    /// For applying each part of a snapshot.
    pub snapshot: CallBudget,
    /// For each other call.
    pub other: CallBudget,
}

impl Default for PolicyLimits {
    fn default() -> Self {
        let budget = |cpu| CallBudget { cpu, wall: WALL };
        Self {
            memory_bytes: MEMORY_BYTES,
            cycle: budget(CYCLE_CPU),
            snapshot: budget(SNAPSHOT_CPU),
            other: budget(OTHER_CPU),
        }
    }
}

impl PolicyLimits {
    /// What a manifest asks for, within what can be given. An operator has approved it.
    #[must_use]
    pub fn asked_by(manifest: &Manifest) -> Self {
        let mut limits = Self::default();
        if let Some(mib) = manifest.limits.memory_mib {
            limits.memory_bytes = (u64::from(mib) * MIB).min(PLUGIN_MEMORY_BYTES_MAX);
        }
        if let Some(ms) = manifest.limits.step_cpu_ms {
            limits.cycle.cpu = Duration::from_millis(ms.into()).min(CYCLE_CPU_MAX);
        }
        limits
    }
}

/// What came of a cycle.
#[derive(Debug)]
pub struct PolicyOutcome {
    /// The proposal, or why there is none.
    pub result: Result<Proposal, PluginFault>,
    /// Processor time of all `apply` calls, conversions included.
    pub apply_cpu: Duration,
    /// Processor time of `decide`, conversions included.
    pub decide_cpu: Duration,
    /// Linear memory of its instance.
    pub memory_bytes: u64,
}

/// A policy that runs. Cheap to clone; clones are of the same actor.
#[derive(Clone)]
pub struct PolicyHandle {
    host: Arc<HostShared>,
    slot: Arc<Slot>,
}

struct Slot {
    /// None while a call is under way.
    actor: Mutex<Option<Box<Actor>>>,
    log: Arc<PluginLog>,
    meter: Arc<Meter>,
    habit: Arc<Habit>,
}

struct Actor {
    loaded: Arc<Loaded>,
    limits: PolicyLimits,
    instance: Option<Instance>,
}

struct Instance {
    store: Store<PolicyGuest>,
    guest: Policy,
}

/// Store data of a policy's instance.
pub(crate) struct PolicyGuest {
    common: Common,
}

impl GuestData for PolicyGuest {
    fn common(&mut self) -> &mut Common {
        &mut self.common
    }
}

impl values::Host for PolicyGuest {}
impl wit::Host for PolicyGuest {}

impl log::Host for PolicyGuest {
    fn write(&mut self, level: log::Level, text: String) -> wasmtime::Result<()> {
        self.common.write_log(level, &text);
        Ok(())
    }
}

/// What an actor needs of its surroundings during a call.
struct Stage {
    host: Arc<HostShared>,
    slot: Arc<Slot>,
}

impl std::fmt::Debug for PolicyHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyHandle").finish_non_exhaustive()
    }
}

impl PluginHost {
    /// Makes a policy's actor and configures it.
    ///
    /// # Errors
    /// If the plug-in is no policy, cannot be started, or refuses the configuration.
    pub async fn spawn_policy(
        &self,
        loaded: LoadedPlugin,
        limits: PolicyLimits,
        config: &str,
    ) -> Result<(PolicyHandle, Feeds), PluginFault> {
        let loaded = loaded.shared;
        let name = &loaded.described.manifest.name;
        if !matches!(loaded.code, Code::Policy(_)) {
            return Err(PluginFault::Protocol {
                call: Call::Instantiate,
                problem: format!("{name} is a framework"),
            });
        }
        let log = Arc::new(PluginLog::new(name));
        let handle = PolicyHandle {
            host: Arc::clone(&self.shared),
            slot: Arc::new(Slot {
                actor: Mutex::new(Some(Box::new(Actor {
                    loaded,
                    limits,
                    instance: None,
                }))),
                log,
                meter: Arc::new(Meter::new()),
                habit: Arc::new(Habit::default()),
            }),
        };
        let feeds = handle.configure(config).await?;
        Ok((handle, feeds))
    }
}

type Work<'a, R> = Pin<Box<dyn Future<Output = Result<R, PluginFault>> + Send + 'a>>;

impl PolicyHandle {
    /// Configures it, in a new instance if there is none. A configuration that is refused leaves a
    /// working instance as it was.
    ///
    /// # Errors
    /// Its words, or a fault.
    pub async fn configure(&self, config: &str) -> Result<Feeds, PluginFault> {
        let config = config.to_owned();
        self.run(Call::Configure, move |actor, stage| {
            Box::pin(async move { actor.configure(stage, &config).await })
        })
        .await
    }

    /// Feeds changes, in order, and asks for a decision.
    pub async fn cycle(&self, changes: Vec<Changes>, cycle: Cycle) -> PolicyOutcome {
        let outcome = self
            .run(Call::Decide, move |actor, stage| {
                Box::pin(async move { Ok(actor.cycle(stage, changes, cycle).await) })
            })
            .await;
        outcome.unwrap_or_else(|fault| PolicyOutcome {
            result: Err(fault),
            apply_cpu: Duration::ZERO,
            decide_cpu: Duration::ZERO,
            memory_bytes: 0,
        })
    }

    /// Feeds changes, in order, and asks for nothing: a snapshot's parts, for instance.
    ///
    /// # Errors
    /// A fault.
    pub async fn apply(&self, changes: Vec<Changes>) -> Result<(), PluginFault> {
        self.run(Call::Apply, move |actor, stage| {
            Box::pin(async move { actor.apply(stage, changes).await })
        })
        .await
    }

    /// Why these agents are not granted to this client now.
    ///
    /// # Errors
    /// A fault.
    pub async fn explain(&self, question: Question) -> Result<Vec<Finding>, PluginFault> {
        let asked = question.agents.len();
        let question = outward::question(question);
        self.run(Call::Explain, move |actor, stage| {
            Box::pin(async move {
                let budget = (Call::Explain, actor.limits.other);
                let rows = actor
                    .instance(Call::Explain)?
                    .call(stage, budget, |guest, store| {
                        Box::pin(guest.proffer_policy_guest().call_explain(store, &question))
                    })
                    .await?;
                inward::findings(rows, asked).map_err(|problem| protocol(Call::Explain, problem))
            })
        })
        .await
    }

    /// Roles and clients in the order in which they would be served.
    ///
    /// # Errors
    /// A fault.
    pub async fn places(&self) -> Result<Vec<Place>, PluginFault> {
        self.run(Call::Places, move |actor, stage| {
            Box::pin(async move {
                let budget = (Call::Places, actor.limits.other);
                let rows = actor
                    .instance(Call::Places)?
                    .call(stage, budget, |guest, store| {
                        Box::pin(guest.proffer_policy_guest().call_places(store))
                    })
                    .await?;
                Ok(inward::places(rows))
            })
        })
        .await
    }

    /// What its successor might use.
    ///
    /// # Errors
    /// A fault.
    pub async fn carry(&self) -> Result<Vec<Section>, PluginFault> {
        self.run(Call::Carry, move |actor, stage| {
            Box::pin(async move {
                let budget = (Call::Carry, actor.limits.other);
                let rows = actor
                    .instance(Call::Carry)?
                    .call(stage, budget, |guest, store| {
                        Box::pin(guest.proffer_policy_guest().call_carry(store))
                    })
                    .await?;
                inward::sections(rows).map_err(|problem| PluginFault::AnswerTooLarge {
                    call: Call::Carry,
                    problem,
                })
            })
        })
        .await
    }

    /// Offers it a predecessor's sections, after the snapshot and before the first decision. Answers
    /// which it used. An error that it returns itself is a cold start: the instance stays.
    ///
    /// # Errors
    /// Its words, or a fault.
    pub async fn adopt(&self, sections: Vec<Section>) -> Result<Vec<String>, PluginFault> {
        let given = sections.len();
        let sections = outward::sections(sections);
        self.run(Call::Adopt, move |actor, stage| {
            Box::pin(async move {
                let budget = (Call::Adopt, actor.limits.other);
                let used = actor
                    .instance(Call::Adopt)?
                    .call(stage, budget, |guest, store| {
                        Box::pin(guest.proffer_policy_guest().call_adopt(store, &sections))
                    })
                    .await?;
                used.map(|names| inward::used(names, given))
                    .map_err(|text| PluginFault::refused(Call::Adopt, &text))
            })
        })
        .await
    }

    /// What it wrote to its log lately.
    #[must_use]
    pub fn logs(&self) -> LogTail {
        self.slot.log.tail()
    }

    /// Runs work on a policy thread. After a fault that is not a mere refusal the instance goes.
    async fn run<R: Send + 'static>(
        &self,
        call: Call,
        work: impl for<'a> FnOnce(&'a mut Actor, &'a Stage) -> Work<'a, R> + Send + 'static,
    ) -> Result<R, PluginFault> {
        let actor = {
            let mut actor = self
                .slot
                .actor
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            actor.take()
        };
        let Some(mut actor) = actor else {
            return Err(PluginFault::Busy { call });
        };
        let (send, receive) = oneshot::channel();
        let stage = Stage {
            host: Arc::clone(&self.host),
            slot: Arc::clone(&self.slot),
        };
        self.host.executor.spawn(
            Lane::Policy,
            Arc::clone(&self.slot.meter),
            Arc::clone(&self.slot.habit),
            async move {
                let _ticking = stage.host.ticker.as_ref().map(|ticker| ticker.ticking());
                let result = work(&mut actor, &stage).await;
                if result.as_ref().is_err_and(ends_the_instance) {
                    actor.instance = None;
                }
                let slot = &stage.slot;
                *slot.actor.lock().unwrap_or_else(PoisonError::into_inner) = Some(actor);
                if send.send(result).is_err() {
                    tracing::debug!("a policy's answer was no longer wanted");
                }
            },
        );
        receive.await.unwrap_or_else(|_| {
            Err(PluginFault::HostBug {
                call,
                problem: "the policy's job ended without an answer".to_owned(),
            })
        })
    }
}

fn protocol(call: Call, problem: String) -> PluginFault {
    PluginFault::Protocol { call, problem }
}

/// A guest that says no in words is as it was before.
fn ends_the_instance(fault: &PluginFault) -> bool {
    !matches!(fault, PluginFault::Refused { .. })
}

impl Actor {
    fn instance(&mut self, call: Call) -> Result<&mut Instance, PluginFault> {
        self.instance
            .as_mut()
            .ok_or(PluginFault::NoInstance { call })
    }

    async fn configure(&mut self, stage: &Stage, config: &str) -> Result<Feeds, PluginFault> {
        let fresh = self.instance.is_none();
        if fresh {
            self.instance = Some(self.make_instance(stage).await?);
        }
        let budget = (Call::Configure, self.limits.other);
        let configured = self
            .instance(Call::Configure)?
            .call(stage, budget, |guest, store| {
                Box::pin(guest.proffer_policy_guest().call_configure(store, config))
            })
            .await?;
        configured.map(inward::feeds).map_err(|text| {
            if fresh {
                // It has never had a configuration: there is nothing to go on with.
                self.instance = None;
            }
            PluginFault::refused(Call::Configure, &text)
        })
    }

    async fn make_instance(&self, stage: &Stage) -> Result<Instance, PluginFault> {
        let Code::Policy(code) = &self.loaded.code else {
            return Err(PluginFault::NoInstance {
                call: Call::Instantiate,
            });
        };
        let data = PolicyGuest {
            common: Common {
                memory: MemoryLimiter::new(self.limits.memory_bytes),
                log: Arc::clone(&stage.slot.log),
                meter: Arc::clone(&stage.slot.meter),
            },
        };
        let limits = StoreLimits {
            hostcall_bytes: HOSTCALL_BYTES_MAX,
        };
        let mut store = make_store(&stage.host, &stage.slot.meter, limits, data);
        let budget = (Call::Instantiate, self.limits.other);
        let guest = call(
            &mut store,
            &stage.host,
            &stage.slot.meter,
            budget,
            |store| code.instantiate_async(store),
        )
        .await?;
        Ok(Instance { store, guest })
    }

    async fn apply(&mut self, stage: &Stage, changes: Vec<Changes>) -> Result<(), PluginFault> {
        let limits = self.limits;
        let instance = self.instance(Call::Apply)?;
        for part in changes {
            let budget = match part.part {
                ChangesPart::Snapshot | ChangesPart::SnapshotLast => limits.snapshot,
                ChangesPart::Delta => limits.cycle,
            };
            let part = outward::changes(part);
            instance
                .call(stage, (Call::Apply, budget), |guest, store| {
                    Box::pin(guest.proffer_policy_guest().call_apply(store, &part))
                })
                .await?;
        }
        Ok(())
    }

    async fn cycle(&mut self, stage: &Stage, changes: Vec<Changes>, cycle: Cycle) -> PolicyOutcome {
        let meter = &stage.slot.meter;
        let began = meter.spent();
        let applied = self.apply(stage, changes).await;
        let between = meter.spent();
        let result = match applied {
            Ok(()) => self.decide(stage, cycle).await,
            Err(fault) => Err(fault),
        };
        let memory_bytes = self
            .instance
            .as_ref()
            .map_or(0, |instance| instance.store.data().common.memory.bytes());
        if result.as_ref().is_err_and(ends_the_instance) {
            self.instance = None;
        }
        PolicyOutcome {
            result,
            apply_cpu: between.saturating_sub(began),
            decide_cpu: meter.spent().saturating_sub(between),
            memory_bytes,
        }
    }

    async fn decide(&mut self, stage: &Stage, cycle: Cycle) -> Result<Proposal, PluginFault> {
        let budget = (Call::Decide, self.limits.cycle);
        let cycle = outward::cycle(cycle);
        let proposal = self
            .instance(Call::Decide)?
            .call(stage, budget, |guest, store| {
                Box::pin(guest.proffer_policy_guest().call_decide(store, &cycle))
            })
            .await?;
        inward::proposal(proposal).map_err(|problem| protocol(Call::Decide, problem))
    }
}

type GuestCall<'a, R> = Pin<Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>>;

impl Instance {
    async fn call<'a, R>(
        &'a mut self,
        stage: &Stage,
        budget: (Call, CallBudget),
        function: impl FnOnce(&'a Policy, &'a mut Store<PolicyGuest>) -> GuestCall<'a, R>,
    ) -> Result<R, PluginFault> {
        let Self { store, guest } = self;
        call(store, &stage.host, &stage.slot.meter, budget, |store| {
            function(guest, store)
        })
        .await
    }
}
