//! A framework's actor: its committed state, and an instance that may go at any time.
//!
//! A step is a transaction. It runs on a plug-in thread against an overlay of the state; if it
//! succeeds, its writes enter the actor's map and come out with its answer, and if not, nothing of
//! it is left and the instance is thrown away. A new instance is made, and `start` is called in it,
//! when the next step needs one.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use proffer_model::framework::{Answer, Batch, Context, MetricWrite, StateWrite};
use proffer_model::state::{Access, Overlay, StateEntries, StateMap};
use proffer_model::{FrameworkId, StepNumber, StepRandom};
use tokio::sync::oneshot;
use wasmtime::Store;

use crate::bindings::framework::Framework;
use crate::executor::{Habit, Lane};
use crate::fault::{Call, PluginFault};
use crate::guest::{CallBudget, Common, StoreLimits, call, make_store, panic_text};
use crate::host::{HostShared, Metering, PLUGIN_MEMORY_BYTES_MAX, PluginHost};
use crate::load::{Code, Loaded, LoadedPlugin};
use crate::log::{LogTail, PluginLog};
use crate::manifest::Manifest;
use crate::memory::MemoryLimiter;
use crate::meter::Meter;

mod imports;
mod inward;
mod outward;

pub(crate) use imports::FrameworkGuest;
pub(crate) use outward::{reason, window};

use imports::StepScope;

/// What one call may hand over, either way: an answer of 1 MiB of commands and 8 MiB of bodies.
const HOSTCALL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Unless the manifest asks for another.
const MEMORY_BYTES: u64 = 128 * 1024 * 1024;
/// Unless the manifest asks for another. A step with 1,000 offers and as many launches takes 9 ms;
/// on a machine that is oversubscribed the same has been seen to take over 50.
const STEP_CPU: Duration = Duration::from_millis(100);
/// The most that a manifest may ask for.
const STEP_CPU_MAX: Duration = Duration::from_secs(1);
/// An instance is made seldom, and an interpreter takes a while to start.
const START_CPU: Duration = Duration::from_secs(1);
/// The backstop: only a machine that gives a plug-in next to no processor comes to it.
const WALL: Duration = Duration::from_secs(60);
/// Unless the manifest asks for another.
const STATE_BYTES: u64 = 64 * 1024 * 1024;
/// The most that a manifest may ask for.
const STATE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

const MIB: u64 = 1024 * 1024;

/// What a framework may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameworkLimits {
    /// Linear memory of its instance.
    pub memory_bytes: u64,
    /// For making an instance and its `start`.
    pub start: CallBudget,
    /// For a step.
    pub step: CallBudget,
    /// Keys and values of its state.
    pub state_bytes: u64,
}

impl Default for FrameworkLimits {
    fn default() -> Self {
        Self {
            memory_bytes: MEMORY_BYTES,
            start: CallBudget {
                cpu: START_CPU,
                wall: WALL,
            },
            step: CallBudget {
                cpu: STEP_CPU,
                wall: WALL,
            },
            state_bytes: STATE_BYTES,
        }
    }
}

impl FrameworkLimits {
    /// What a manifest asks for, within what can be given. An operator has approved it.
    #[must_use]
    pub fn asked_by(manifest: &Manifest) -> Self {
        let mut limits = Self::default();
        let asked = manifest.limits;
        if let Some(mib) = asked.memory_mib {
            limits.memory_bytes = (u64::from(mib) * MIB).min(PLUGIN_MEMORY_BYTES_MAX);
        }
        if let Some(ms) = asked.step_cpu_ms {
            limits.step.cpu = Duration::from_millis(ms.into()).min(STEP_CPU_MAX);
        }
        if let Some(mib) = asked.state_mib {
            limits.state_bytes = (u64::from(mib) * MIB).min(STATE_BYTES_MAX);
        }
        limits
    }
}

/// A framework to run.
#[derive(Debug)]
pub struct FrameworkInit {
    /// Its component.
    pub loaded: LoadedPlugin,
    /// What each new instance is told.
    pub context: Context,
    /// Which framework.
    pub framework: FrameworkId,
    /// Its state as the store has it.
    pub state: StateEntries,
    /// What it may use.
    pub limits: FrameworkLimits,
    /// The cluster's seed: the same on every host.
    pub seed: u64,
}

/// What came of a step.
#[derive(Debug)]
pub struct StepOutcome {
    /// What to make durable and do, or why there is nothing.
    pub result: Result<CommittedStep, PluginFault>,
    /// Processor time, of making an instance too.
    pub cpu: Duration,
    /// From call to answer.
    pub wall: Duration,
    /// Linear memory of its instance: memory never shrinks, so this is the most it has had.
    pub memory_bytes: u64,
    /// Whether an instance was made for it.
    pub new_instance: bool,
    /// Fuel burnt by `step`, where fuel is measured.
    pub fuel: Option<u64>,
}

/// A step that succeeded. Its writes are in the actor's state already.
#[derive(Debug)]
pub struct CommittedStep {
    /// Its commands.
    pub answer: Answer,
    /// Its state writes: to be made durable with the commands.
    pub writes: Vec<StateWrite>,
    /// Its metrics.
    pub metrics: Vec<MetricWrite>,
    /// Metric writes that were malformed or too many.
    pub metrics_dropped: u32,
}

/// A framework that runs. Cheap to clone; clones are of the same actor.
#[derive(Clone)]
pub struct FrameworkHandle {
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
    context: Context,
    framework: FrameworkId,
    limits: FrameworkLimits,
    seed: u64,
    /// None after a panic while writes were made part of it: nobody may go on with half of them.
    state: Option<Arc<StateMap>>,
    instance: Option<Instance>,
    /// Of the last instance.
    memory_bytes: u64,
}

struct Instance {
    store: Store<FrameworkGuest>,
    guest: Framework,
}

/// What an actor needs of its surroundings during a call.
struct Stage<'a> {
    host: &'a HostShared,
    log: &'a Arc<PluginLog>,
    meter: &'a Arc<Meter>,
}

impl std::fmt::Debug for FrameworkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameworkHandle").finish_non_exhaustive()
    }
}

impl PluginHost {
    /// Makes a framework's actor. No instance is made before its first step.
    ///
    /// # Errors
    /// If the plug-in is no framework, which is the caller's bug: what was given comes back.
    pub fn spawn_framework(
        &self,
        init: FrameworkInit,
    ) -> Result<FrameworkHandle, Box<FrameworkInit>> {
        if !matches!(init.loaded.shared.code, Code::Framework(_)) {
            return Err(Box::new(init));
        }
        let loaded = init.loaded.shared;
        let log = Arc::new(PluginLog::new(&init.context.name));
        let actor = Actor {
            loaded,
            context: init.context,
            framework: init.framework,
            limits: init.limits,
            seed: init.seed,
            state: Some(Arc::new(StateMap::new(init.state))),
            instance: None,
            memory_bytes: 0,
        };
        Ok(FrameworkHandle {
            host: Arc::clone(&self.shared),
            slot: Arc::new(Slot {
                actor: Mutex::new(Some(Box::new(actor))),
                log,
                meter: Arc::new(Meter::new()),
                habit: Arc::new(Habit::default()),
            }),
        })
    }
}

impl FrameworkHandle {
    /// Runs a step. One at a time. Ends within the limits' wall time; if the future is dropped, the
    /// step runs to its end and its answer is lost (its writes are in the actor's state).
    pub async fn step(&self, batch: Batch) -> StepOutcome {
        let began = Instant::now();
        let Some(mut actor) = self.slot.take() else {
            return StepOutcome::failed(PluginFault::Busy { call: Call::Step });
        };
        let (send, receive) = oneshot::channel();
        let (slot, host) = (Arc::clone(&self.slot), Arc::clone(&self.host));
        self.host.executor.spawn(
            Lane::Quick,
            Arc::clone(&self.slot.meter),
            Arc::clone(&self.slot.habit),
            async move {
                let stage = Stage {
                    host: &host,
                    log: &slot.log,
                    meter: &slot.meter,
                };
                let outcome = actor.step_or_bug(&stage, batch).await;
                // Whoever gets the outcome may call again at once.
                slot.put(actor);
                if send.send(outcome).is_err() {
                    tracing::debug!("a step's outcome was no longer wanted");
                }
            },
        );
        let mut outcome = receive.await.unwrap_or_else(|_| {
            StepOutcome::failed(PluginFault::HostBug {
                call: Call::Step,
                problem: "the step's job ended without an answer".to_owned(),
            })
        });
        outcome.wall = began.elapsed();
        outcome
    }

    /// Drops the instance; the next step makes a new one. False if a step is under way.
    #[must_use]
    pub fn drop_instance(&self) -> bool {
        self.slot.with(|actor| actor.instance = None).is_some()
    }

    /// Changes what instances are told from now on, and drops the present one. False if a step is
    /// under way.
    #[must_use]
    pub fn set_context(&self, context: Context) -> bool {
        self.slot
            .with(|actor| {
                actor.context = context;
                actor.instance = None;
            })
            .is_some()
    }

    /// Its committed state; none while a step is under way, or after a bug of ours that lost it.
    #[must_use]
    pub fn state(&self) -> Option<StateEntries> {
        let state = self.slot.with(|actor| actor.state.clone())??;
        Some(state.entries().clone())
    }

    /// Takes its state away, for a successor; none while a step is under way, or after a bug of ours
    /// that lost it. It takes no steps any more.
    #[must_use]
    pub fn take_state(&self) -> Option<StateEntries> {
        let state = self.slot.with(|actor| {
            actor.instance = None;
            actor.state.take()
        })??;
        Some(Arc::unwrap_or_clone(state).into_entries())
    }

    /// Keys, and bytes of keys and values, of its committed state; none as for [`Self::state`].
    #[must_use]
    pub fn state_size(&self) -> Option<(usize, u64)> {
        let state = self.slot.with(|actor| actor.state.clone())??;
        Some((state.entries().len(), state.bytes()))
    }

    /// What it wrote to its log lately.
    #[must_use]
    pub fn logs(&self) -> LogTail {
        self.slot.log.tail()
    }
}

impl StepOutcome {
    fn failed(fault: PluginFault) -> Self {
        Self {
            result: Err(fault),
            cpu: Duration::ZERO,
            wall: Duration::ZERO,
            memory_bytes: 0,
            new_instance: false,
            fuel: None,
        }
    }
}

impl Slot {
    fn take(&self) -> Option<Box<Actor>> {
        self.actor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn put(&self, actor: Box<Actor>) {
        *self.actor.lock().unwrap_or_else(PoisonError::into_inner) = Some(actor);
    }

    fn with<R>(&self, work: impl FnOnce(&mut Actor) -> R) -> Option<R> {
        let mut actor = self.actor.lock().unwrap_or_else(PoisonError::into_inner);
        actor.as_deref_mut().map(work)
    }
}

impl Actor {
    /// A panic that comes out of the actor itself is a bug of ours. It costs this step and the
    /// instance; the state is as it was, unless writes were just made part of it.
    async fn step_or_bug(&mut self, stage: &Stage<'_>, batch: Batch) -> StepOutcome {
        let stepped = AssertUnwindSafe(self.step(stage, batch)).catch_unwind();
        stepped.await.unwrap_or_else(|panic| {
            self.instance = None;
            StepOutcome::failed(PluginFault::HostBug {
                call: Call::Step,
                problem: panic_text(panic.as_ref()),
            })
        })
    }

    async fn step(&mut self, stage: &Stage<'_>, batch: Batch) -> StepOutcome {
        let before = stage.meter.spent();
        let _ticking = stage.host.ticker.as_ref().map(|ticker| ticker.ticking());
        let new_instance = self.instance.is_none();
        let mut fuel = None;
        let result = self.transact(stage, batch, &mut fuel).await;
        if let Some(instance) = &self.instance {
            self.memory_bytes = instance.store.data().common.memory.bytes();
        }
        if result.is_err() {
            self.instance = None;
        }
        StepOutcome {
            result,
            cpu: stage.meter.spent().saturating_sub(before),
            wall: Duration::ZERO,
            memory_bytes: self.memory_bytes,
            new_instance,
            fuel,
        }
    }

    async fn transact(
        &mut self,
        stage: &Stage<'_>,
        batch: Batch,
        fuel: &mut Option<u64>,
    ) -> Result<CommittedStep, PluginFault> {
        let step = batch.step;
        if self.instance.is_none() {
            let instance = self.make_instance(stage, step).await?;
            self.instance = Some(instance);
        }
        let scope = self.scope(Access::Write, step)?;
        let Some(Instance { store, guest }) = &mut self.instance else {
            return Err(PluginFault::NoInstance { call: Call::Step });
        };
        store.data_mut().step = Some(scope);
        let batch = outward::batch(batch);
        let budget = (Call::Step, self.limits.step);
        let stepped = call(store, stage.host, stage.meter, budget, |store| {
            guest.proffer_framework_guest().call_step(store, &batch)
        })
        .await;
        *fuel = burnt(store, stage.host, self.limits.step);
        let scope = store.data_mut().step.take();
        let answer = match stepped? {
            Ok(answer) => answer,
            Err(text) => return Err(PluginFault::refused(Call::Step, &text)),
        };
        let Some(scope) = scope else {
            return Err(PluginFault::HostBug {
                call: Call::Step,
                problem: "the step's scope is gone".to_owned(),
            });
        };
        self.commit(answer, scope)
    }

    fn commit(
        &mut self,
        answer: crate::bindings::framework::proffer::framework::model::Answer,
        scope: StepScope,
    ) -> Result<CommittedStep, PluginFault> {
        let answer = inward::answer(answer, scope.state.step_bytes()).map_err(|problem| {
            PluginFault::AnswerTooLarge {
                call: Call::Step,
                problem,
            }
        })?;
        let writes = scope.state.finish();
        if !writes.is_empty() {
            let mut state = self.state.take().ok_or_else(no_state)?;
            // The overlay was the other holder and is gone: nothing is copied.
            Arc::make_mut(&mut state).apply(&writes);
            self.state = Some(state);
        }
        Ok(CommittedStep {
            answer,
            writes,
            metrics: scope.metrics,
            metrics_dropped: scope.metrics_dropped,
        })
    }

    fn scope(&self, access: Access, step: StepNumber) -> Result<StepScope, PluginFault> {
        let state = self.state.clone().ok_or_else(no_state)?;
        Ok(StepScope::new(
            Overlay::new(state, access, self.limits.state_bytes),
            StepRandom::new(self.seed, self.framework, step),
        ))
    }

    async fn make_instance(
        &mut self,
        stage: &Stage<'_>,
        step: StepNumber,
    ) -> Result<Instance, PluginFault> {
        let Code::Framework(code) = &self.loaded.code else {
            return Err(PluginFault::NoInstance {
                call: Call::Instantiate,
            });
        };
        let data = FrameworkGuest {
            common: Common {
                memory: MemoryLimiter::new(self.limits.memory_bytes),
                log: Arc::clone(stage.log),
                meter: Arc::clone(stage.meter),
            },
            step: None,
        };
        let limits = StoreLimits {
            hostcall_bytes: HOSTCALL_BYTES_MAX,
        };
        let mut store = make_store(stage.host, stage.meter, limits, data);
        let budget = (Call::Instantiate, self.limits.start);
        let guest = call(&mut store, stage.host, stage.meter, budget, |store| {
            code.instantiate_async(store)
        })
        .await?;
        store.data_mut().step = Some(self.scope(Access::Read, step)?);
        let context = outward::context(&self.context);
        let budget = (Call::Start, self.limits.start);
        let started = call(&mut store, stage.host, stage.meter, budget, |store| {
            guest.proffer_framework_guest().call_start(store, &context)
        })
        .await;
        self.memory_bytes = store.data().common.memory.bytes();
        store.data_mut().step = None;
        match started? {
            Ok(()) => Ok(Instance { store, guest }),
            Err(text) => Err(PluginFault::refused(Call::Start, &text)),
        }
    }
}

fn no_state() -> PluginFault {
    PluginFault::HostBug {
        call: Call::Step,
        problem: "its state was taken away, or lost in a bug; a restart of the host has it"
            .to_owned(),
    }
}

/// Fuel that the last call burnt.
fn burnt(store: &Store<FrameworkGuest>, host: &HostShared, budget: CallBudget) -> Option<u64> {
    if host.metering != Metering::Fuel {
        return None;
    }
    let left = store.get_fuel().ok()?;
    Some(crate::guest::fuel_of(budget).saturating_sub(left))
}
