//! Plug-ins that a run may have in place of the native ones: components, for instance.
//!
//! A simulation calls a plug-in and has its answer at once, in its one thread; whoever runs it must give the
//! same answers to the same calls.

use std::fmt;

use proffer_model::FrameworkId;
use proffer_model::framework::{Batch, Context};

use crate::framework::{Committed, StateEntries};
use crate::workload::Decide;

/// A framework that steps, with its committed state.
pub trait Steps {
    /// Its committed state.
    fn state(&self) -> &StateEntries;

    /// The next step makes a new instance.
    fn drop_instance(&mut self);

    /// Runs a step. One that fails leaves no trace, and its instance goes.
    ///
    /// # Errors
    /// How it failed.
    fn step(&mut self, batch: Batch) -> Result<Committed, String>;
}

/// What a framework begins with.
#[derive(Debug)]
pub struct Life {
    /// What its instances are told.
    pub context: Context,
    /// Which.
    pub framework: FrameworkId,
    /// The cluster's seed.
    pub seed: u64,
    /// Its state as the store has it.
    pub state: StateEntries,
}

/// Plug-ins in place of native ones.
pub trait Plugins: fmt::Debug + Sync {
    /// The MapReduce framework; or the life back: the native one runs.
    ///
    /// # Errors
    /// There is none.
    fn mapreduce(&self, life: Box<Life>) -> Result<Box<dyn Steps>, Box<Life>>;

    /// A framework that the simulator does not know, and with which configuration it is added.
    fn stranger(&self) -> Option<String>;

    /// Begins a life of that.
    ///
    /// # Errors
    /// There is none.
    fn start_stranger(&self, life: Box<Life>) -> Result<Box<dyn Steps>, Box<Life>>;

    /// The policy that is loaded; none: the native one.
    fn policy(&self) -> Option<Box<dyn Decide>>;
}
