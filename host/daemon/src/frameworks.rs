//! Frameworks' actors: a task each that loads the component, keeps its handle and runs its steps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proffer_core::Event;
use proffer_model::fact::FrameworkRecord;
use proffer_model::framework::{Batch, Context};
use proffer_model::{FrameworkId, Reason, Remedy};
use proffer_plugin::{
    FrameworkHandle, FrameworkInit, FrameworkLimits, Kind, LoadedPlugin, PluginHost,
};
use proffer_store::{Components, FrameworkStates};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::handle::{Input, LoopHandle};
use crate::metrics::Metrics;

/// Steps that may wait: the core has one under way at a time; one more may be on its way while the
/// answer of a fenced one comes.
const STEPS_WAITING_MAX: usize = 4;

/// A framework's state between two of its actors.
type State = BTreeMap<String, Arc<[u8]>>;

/// What actors need from the host.
#[derive(Clone, Debug)]
pub(crate) struct ActorParts {
    pub(crate) plugins: PluginHost,
    pub(crate) components: Components,
    pub(crate) handle: LoopHandle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Arc<LimitsInForce>,
    pub(crate) cluster: String,
    pub(crate) region: String,
    pub(crate) seed: u64,
}

/// The limits of the components that run, for operators to look at.
#[derive(Debug, Default)]
pub(crate) struct LimitsInForce(Mutex<BTreeMap<FrameworkId, FrameworkLimits>>);

impl LimitsInForce {
    pub(crate) fn of(&self, framework: FrameworkId) -> Option<FrameworkLimits> {
        self.table().get(&framework).copied()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<FrameworkId, FrameworkLimits>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All actors.
#[derive(Debug)]
pub(crate) struct Frameworks {
    parts: ActorParts,
    steps: BTreeMap<FrameworkId, mpsc::Sender<Step>>,
    /// State that waits for its framework's first actor.
    recovered: FrameworkStates,
    /// An actor that ends gives its state to the next.
    states: BTreeMap<FrameworkId, oneshot::Receiver<State>>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Step {
    attempt: u32,
    batch: Batch,
}

impl Frameworks {
    pub(crate) fn new(parts: ActorParts, recovered: FrameworkStates) -> Self {
        Self {
            parts,
            steps: BTreeMap::new(),
            recovered,
            states: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Makes an actor; its steps wait until the component is loaded. One that runs under the same id
    /// ends after its call, and leaves the framework's state to this one.
    pub(crate) fn start(&mut self, record: FrameworkRecord) {
        while self.tasks.try_join_next().is_some() {}
        let framework = record.framework;
        let (steps, work) = mpsc::channel(STEPS_WAITING_MAX);
        self.steps.insert(framework, steps);
        let recovered = self.recovered.remove(&framework).unwrap_or_default();
        let (leave, left) = oneshot::channel();
        let before = self.states.insert(framework, left);
        let actor = Actor {
            parts: self.parts.clone(),
            record,
        };
        self.tasks.spawn(async move {
            let state = match before {
                // The one before ends when its step does.
                Some(before) => before.await.unwrap_or_default(),
                None => recovered,
            };
            let state = actor.run(state, work).await;
            // Nobody waits for it if the framework or the host is gone.
            let _unwanted = leave.send(state).is_err();
        });
    }

    /// Drops what is kept of frameworks that are gone.
    pub(crate) fn forget_gone(&mut self, exists: impl Fn(FrameworkId) -> bool) {
        self.states.retain(|framework, _| exists(*framework));
        self.recovered.retain(|framework, _| exists(*framework));
        let mut limits = self.parts.limits.table();
        limits.retain(|framework, _| exists(*framework));
    }

    /// Ends an actor after the step that it is in.
    pub(crate) fn stop(&mut self, framework: FrameworkId) {
        self.steps.remove(&framework);
    }

    pub(crate) fn step(&mut self, framework: FrameworkId, attempt: u32, batch: Batch) {
        let Some(steps) = self.steps.get(&framework) else {
            return;
        };
        if steps.try_send(Step { attempt, batch }).is_err() {
            tracing::error!(%framework, "a step was asked for while others were under way");
        }
    }
}

struct Actor {
    parts: ActorParts,
    record: FrameworkRecord,
}

impl Actor {
    /// Runs steps until there will be no more; answers the state that they left.
    async fn run(self, state: State, mut work: mpsc::Receiver<Step>) -> State {
        let loaded = match self.load().await {
            Ok(loaded) => self.spawn(loaded, state),
            Err(why) => Err((why, state)),
        };
        while let Some(step) = work.recv().await {
            let event = match &loaded {
                Ok(handle) => self.step(handle, step).await,
                Err((why, _)) => self.failed(&step, why.clone()),
            };
            if self.parts.handle.send(Input::Event(event)).await.is_err() {
                break;
            }
        }
        match loaded {
            Ok(handle) => handle.take_state().unwrap_or_default(),
            Err((_, state)) => state,
        }
    }

    async fn load(&self) -> Result<LoadedPlugin, Reason> {
        let digest = self.record.digest.clone();
        let components = self.parts.components.clone();
        let read = tokio::task::spawn_blocking(move || components.get(&digest)).await;
        let bytes = match read {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(fault(error.to_string())),
            Err(error) => return Err(fault(error.to_string())),
        };
        let loaded = self.parts.plugins.load(bytes, Kind::Framework).await;
        loaded.map_err(|error| fault(error.to_string()))
    }

    fn spawn(
        &self,
        loaded: LoadedPlugin,
        state: State,
    ) -> Result<FrameworkHandle, (Reason, State)> {
        let limits = FrameworkLimits::asked_by(loaded.manifest());
        self.parts
            .limits
            .table()
            .insert(self.record.framework, limits);
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let context = Context {
            name: self.record.name.to_string(),
            id: self.record.framework.to_string(),
            cluster: self.parts.cluster.clone(),
            region: self.parts.region.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: self.record.roles.clone(),
            config: self.record.config.clone(),
            limits: vec![
                ("memory-bytes".to_owned(), limits.memory_bytes),
                ("state-bytes".to_owned(), limits.state_bytes),
                ("step-cpu-ms".to_owned(), ms(limits.step.cpu)),
            ],
        };
        let init = FrameworkInit {
            loaded,
            context,
            framework: self.record.framework,
            state: state.clone(),
            limits,
            seed: self.parts.seed,
        };
        let spawned = self.parts.plugins.spawn_framework(init);
        spawned.map_err(|error| (fault(error.to_string()), state))
    }

    async fn step(&self, handle: &FrameworkHandle, step: Step) -> Event {
        let (framework, number, attempt) = (self.record.framework, step.batch.step, step.attempt);
        let outcome = handle.step(step.batch).await;
        self.parts
            .metrics
            .step_seconds
            .observe(outcome.cpu.as_secs_f64());
        match outcome.result {
            Ok(committed) => {
                self.parts
                    .metrics
                    .framework_metrics(&self.record.name, &committed.metrics);
                Event::StepCompleted {
                    framework,
                    step: number,
                    attempt,
                    writes: committed.writes,
                    answer: Box::new(committed.answer),
                }
            }
            Err(problem) => Event::StepFailed {
                framework,
                step: number,
                attempt,
                fault: fault(problem.to_string()),
            },
        }
    }

    fn failed(&self, step: &Step, why: Reason) -> Event {
        Event::StepFailed {
            framework: self.record.framework,
            step: step.batch.step,
            attempt: step.attempt,
            fault: why,
        }
    }
}

fn fault(text: impl Into<String>) -> Reason {
    Reason::new("plugin-fault", Remedy::Mend, text)
}
