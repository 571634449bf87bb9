//! Native frameworks as the host runs components: a step is a transaction over an overlay of the
//! state, an instance may go at any time, and what comes out is read as a stranger's.
//!
//! State, randomness and both conversions are the host's own files; only the call itself is native.

use std::sync::Arc;

use proffer_model::framework::{Answer, Batch, Context, StateWrite};
use proffer_model::state::{self, Access, Overlay, StateMap};
use proffer_model::{FrameworkId, StepNumber, StepRandom};
use proffer_sdk::framework::guest::{start_with, step_with};
use proffer_sdk::framework::{self as sdk, Backend, Framework, Pair, StateError};

/// The host's own files.
#[path = "../../plugin/src/framework"]
mod shared {
    pub(super) mod inward;
    pub(super) mod outward;
}

use crate::plugins::{Life, Steps};

use shared::{inward, outward};

pub use proffer_model::state::StateEntries;

/// Bytes of state that a simulated framework may have: far more than any needs.
const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A framework's code: an instance that can be dropped, and made again.
trait Code {
    fn drop_instance(&mut self);
    fn step(
        &mut self,
        context: &sdk::Context,
        batch: sdk::Batch,
        scopes: &mut Scopes,
    ) -> Result<sdk::Answer, String>;
}

/// The instance of one framework type.
struct Of<F>(Option<F>);

/// What a call may reach: `start` only reads.
struct Scopes {
    start: Scope,
    step: Scope,
}

struct Scope {
    state: Overlay,
    random: StepRandom,
}

/// A native framework with its committed state.
pub struct Actor {
    code: Box<dyn Code>,
    context: Context,
    framework: FrameworkId,
    seed: u64,
    state: Arc<StateMap>,
}

/// A step that succeeded.
#[derive(Debug)]
pub struct Committed {
    /// Its commands.
    pub answer: Answer,
    /// Its writes; they are in the actor's state already.
    pub writes: Vec<StateWrite>,
}

impl Actor {
    /// An actor of this framework type. No instance is made before its first step.
    pub fn new<F: Framework + 'static>(life: Life) -> Self {
        let Life {
            context,
            framework,
            seed,
            state,
        } = life;
        Self {
            code: Box::new(Of::<F>(None)),
            context,
            framework,
            seed,
            state: Arc::new(StateMap::new(state)),
        }
    }

    fn transact(&mut self, batch: Batch) -> Result<Committed, String> {
        let mut scopes = Scopes {
            start: self.scope(Access::Read, batch.step),
            step: self.scope(Access::Write, batch.step),
        };
        let context = outward::context(&self.context);
        let answer = self
            .code
            .step(&context, outward::batch(batch), &mut scopes)?;
        let answer = inward::answer(answer, scopes.step.state.step_bytes())?;
        let writes = scopes.step.state.finish();
        drop(scopes.start);
        Arc::make_mut(&mut self.state).apply(&writes);
        Ok(Committed { answer, writes })
    }

    fn scope(&self, access: Access, step: StepNumber) -> Scope {
        Scope {
            state: Overlay::new(Arc::clone(&self.state), access, STATE_BYTES_MAX),
            random: StepRandom::new(self.seed, self.framework, step),
        }
    }
}

impl Steps for Actor {
    fn state(&self) -> &StateEntries {
        self.state.entries()
    }

    fn drop_instance(&mut self) {
        self.code.drop_instance();
    }

    fn step(&mut self, batch: Batch) -> Result<Committed, String> {
        let stepped = self.transact(batch);
        if stepped.is_err() {
            self.code.drop_instance();
        }
        stepped
    }
}

impl<F: Framework> Code for Of<F> {
    fn drop_instance(&mut self) {
        self.0 = None;
    }

    fn step(
        &mut self,
        context: &sdk::Context,
        batch: sdk::Batch,
        scopes: &mut Scopes,
    ) -> Result<sdk::Answer, String> {
        if self.0.is_none() {
            start_with(&mut self.0, context, &mut scopes.start)?;
        }
        step_with(&mut self.0, batch, &mut scopes.step)
    }
}

fn told(error: state::StateError) -> StateError {
    match error {
        state::StateError::KeyTooLong => StateError::KeyTooLong,
        state::StateError::ValueTooLarge => StateError::ValueTooLarge,
        state::StateError::StepTooLarge => StateError::StepTooLarge,
        state::StateError::StoreFull => StateError::StoreFull,
        state::StateError::ReadOnly => StateError::ReadOnly,
    }
}

impl Backend for Scope {
    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.state.get(key).map(|value| value.to_vec())
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), StateError> {
        self.state.set(key.to_owned(), value.to_vec()).map_err(told)
    }

    fn delete(&mut self, key: &str) -> Result<(), StateError> {
        self.state.delete(key.to_owned()).map_err(told)
    }

    fn delete_range(&mut self, begin: &str, end: &str) -> Result<u32, StateError> {
        let own_pace = || Ok::<(), std::convert::Infallible>(());
        let deleted = self
            .state
            .delete_range(begin.to_owned(), end.to_owned(), own_pace);
        match deleted {
            Ok(deleted) => deleted.map_err(told),
        }
    }

    fn range(&mut self, begin: &str, end: &str, limit: u32) -> sdk::Page {
        page(self.state.range(begin, end, limit, false))
    }

    fn range_backward(&mut self, begin: &str, end: &str, limit: u32) -> sdk::Page {
        page(self.state.range(begin, end, limit, true))
    }

    // Metrics decide nothing: a simulation keeps none.
    fn count(&mut self, _: &str, _: &[Pair], _: u64) {}

    fn gauge(&mut self, _: &str, _: &[Pair], _: f64) {}

    fn observe(&mut self, _: &str, _: &[Pair], _: f64) {}

    fn random(&mut self) -> u64 {
        self.random.draw()
    }

    fn random_bytes(&mut self, count: u32) -> Vec<u8> {
        self.random.bytes(count)
    }
}

fn page(page: state::Page) -> sdk::Page {
    sdk::Page {
        entries: page.entries,
        next: page.next,
    }
}
