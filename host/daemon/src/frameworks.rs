//! Frameworks' actors: a task each that loads the component, keeps its handle and runs its steps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proffer_core::{Blame, Event};
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
    states: BTreeMap<FrameworkId, oneshot::Receiver<Option<State>>>,
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
                // The one before ends when its step does. If it panicked, its state is gone with it.
                Some(before) => before.await.ok().flatten(),
                None => Some(recovered),
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
        self.parts.metrics.frameworks.forget_gone(&exists);
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

/// Why a step failed, and whose fault it is.
#[derive(Clone, Debug)]
struct Failure {
    blame: Blame,
    why: Reason,
}

/// Where an actor is.
enum Stage {
    /// Its component could not be loaded. The next step tries again.
    Waiting(State, Failure),
    Running(FrameworkHandle),
    /// A bug of the host has lost what the framework's state was; on an empty one it would undo all
    /// that is durable.
    Lost,
}

impl Actor {
    /// Runs steps until there will be no more; answers the state that they left.
    async fn run(self, state: Option<State>, mut work: mpsc::Receiver<Step>) -> Option<State> {
        let mut stage = match state {
            Some(state) => self.load_over(state).await,
            None => Stage::Lost,
        };
        let mut first = true;
        while let Some(step) = work.recv().await {
            if let Stage::Waiting(state, _) = &mut stage
                && !first
            {
                stage = self.load_over(std::mem::take(state)).await;
            }
            first = false;
            let event = match &stage {
                Stage::Running(handle) => self.step(handle, step).await,
                Stage::Waiting(_, failure) => self.failed(&step, failure.clone()),
                Stage::Lost => self.failed(&step, lost()),
            };
            if self.parts.handle.send(Input::Event(event)).await.is_err() {
                break;
            }
        }
        match stage {
            Stage::Running(handle) => handle.take_state(),
            Stage::Waiting(state, _) => Some(state),
            Stage::Lost => None,
        }
    }

    async fn load_over(&self, state: State) -> Stage {
        match self.load().await {
            Ok(loaded) => self.spawn(loaded, state),
            Err(failure) => Stage::Waiting(state, failure),
        }
    }

    async fn load(&self) -> Result<LoadedPlugin, Failure> {
        let digest = self.record.digest.clone();
        let components = self.parts.components.clone();
        let read = tokio::task::spawn_blocking(move || components.get(&digest)).await;
        let bytes = match read {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(Failure::new(Blame::Host, error.to_string())),
            Err(error) => return Err(Failure::new(Blame::Host, error.to_string())),
        };
        let loaded = self.parts.plugins.load(bytes, Kind::Framework).await;
        loaded.map_err(|error| Failure::new(blame(error.blame()), error.to_string()))
    }

    fn spawn(&self, loaded: LoadedPlugin, state: State) -> Stage {
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
            state,
            limits,
            seed: self.parts.seed,
        };
        match self.parts.plugins.spawn_framework(init) {
            Ok(handle) => Stage::Running(handle),
            Err(init) => {
                let text = "the component was loaded as a framework and is none: a bug of the host";
                Stage::Waiting(init.state, Failure::new(Blame::Host, text))
            }
        }
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
                self.parts.metrics.frameworks.committed(
                    (framework, &self.record.name),
                    &committed.metrics,
                    committed.metrics_dropped,
                );
                Event::StepCompleted {
                    framework,
                    step: number,
                    attempt,
                    writes: committed.writes,
                    answer: Box::new(committed.answer),
                }
            }
            Err(problem) => Event::StepFailed {
                blame: blame(problem.blame()),
                framework,
                step: number,
                attempt,
                fault: fault(problem.to_string()),
            },
        }
    }

    fn failed(&self, step: &Step, Failure { blame, why }: Failure) -> Event {
        Event::StepFailed {
            blame,
            framework: self.record.framework,
            step: step.batch.step,
            attempt: step.attempt,
            fault: why,
        }
    }
}

impl Failure {
    fn new(blame: Blame, text: impl Into<String>) -> Self {
        Self {
            blame,
            why: fault(text),
        }
    }
}

fn lost() -> Failure {
    let text = "its state was lost in this process by a bug of the host; restart the host, which has \
                it durably";
    Failure::new(Blame::Host, text)
}

/// A busy machine, a full pool and our own bugs do not count against a framework.
fn blame(blame: proffer_plugin::Blame) -> Blame {
    match blame {
        proffer_plugin::Blame::Plugin => Blame::Framework,
        proffer_plugin::Blame::Environment
        | proffer_plugin::Blame::Caller
        | proffer_plugin::Blame::Host => Blame::Host,
    }
}

fn fault(text: impl Into<String>) -> Reason {
    Reason::new("plugin-fault", Remedy::Mend, text)
}

#[cfg(test)]
mod tests {
    use proffer_model::fact::FrameworkStanding;
    use proffer_model::{RoleName, StepNumber, Timestamp};
    use proffer_plugin::PluginHostConfig;

    use super::*;

    const FRAMEWORK: FrameworkId = FrameworkId(1);

    fn frameworks(recovered: FrameworkStates) -> (Frameworks, mpsc::Receiver<Input>) {
        let (inputs, events) = mpsc::channel(4);
        let parts = ActorParts {
            plugins: PluginHost::new(PluginHostConfig::default()).unwrap(),
            components: Components::new("/nonexistent".into()),
            handle: LoopHandle::new(inputs),
            metrics: Arc::default(),
            limits: Arc::default(),
            cluster: String::new(),
            region: String::new(),
            seed: 0,
        };
        (Frameworks::new(parts, recovered), events)
    }

    /// Starts an actor and has it try a step; answers whose fault it is that it failed, and why.
    async fn failed_step(
        frameworks: &mut Frameworks,
        events: &mut mpsc::Receiver<Input>,
    ) -> (Blame, String) {
        frameworks.start(FrameworkRecord {
            framework: FRAMEWORK,
            name: "f".into(),
            version: String::new(),
            digest: "sha256:0".to_owned(),
            roles: vec![RoleName::star()],
            config: String::new(),
            gpus: false,
            standing: FrameworkStanding::Active,
            step: StepNumber(0),
        });
        let batch = Batch {
            step: StepNumber(1),
            now: Timestamp(0),
            agents: Vec::new(),
            events: Vec::new(),
        };
        frameworks.step(FRAMEWORK, 1, batch);
        match events.recv().await {
            Some(Input::Event(Event::StepFailed { blame, fault, .. })) => (blame, fault.text),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_framework_whose_component_cannot_be_read_keeps_its_state_and_is_not_to_blame() {
        let state: State = [("key".to_owned(), Arc::from(*b"value"))].into();
        let (mut frameworks, mut events) = frameworks([(FRAMEWORK, state.clone())].into());
        let (blame, text) = failed_step(&mut frameworks, &mut events).await;
        assert_eq!(blame, Blame::Host, "{text}");
        frameworks.stop(FRAMEWORK);
        let left = frameworks.states.remove(&FRAMEWORK).unwrap();
        assert_eq!(left.await, Ok(Some(state)));
    }

    #[tokio::test]
    async fn no_framework_goes_on_with_less_state_than_is_durable() {
        let (mut frameworks, mut events) = frameworks(FrameworkStates::default());
        // The actor before ended without leaving its state: it panicked.
        let (_, left) = oneshot::channel();
        frameworks.states.insert(FRAMEWORK, left);
        let (blame, text) = failed_step(&mut frameworks, &mut events).await;
        assert_eq!(blame, Blame::Host);
        assert!(text.starts_with("its state was lost"), "{text}");
        frameworks.stop(FRAMEWORK);
        let left = frameworks.states.remove(&FRAMEWORK).unwrap();
        assert_eq!(left.await, Ok(None));
    }
}
