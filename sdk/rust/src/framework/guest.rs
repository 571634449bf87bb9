//! What [`export_framework!`](crate::export_framework) expands to calls these; authors do not.

use crate::framework::host::Imports;
use crate::framework::{Answer, Backend, Batch, Context, Framework, Host, Step};

pub use crate::framework::bindings::exports::proffer::framework::guest::Guest as Exports;

/// What the macro expands to natively: the type is a framework.
pub fn check<F: Framework>() {}

/// Makes the instance, with the component's imports.
///
/// # Errors
/// The framework's.
pub fn start<F: Framework>(slot: &mut Option<F>, context: &Context) -> Result<(), String> {
    start_with(slot, context, &mut Imports)
}

/// One step of the instance, with the component's imports.
///
/// # Errors
/// The framework's; or there is no instance, which is the host's fault.
pub fn step<F: Framework>(slot: &mut Option<F>, batch: Batch) -> Result<Answer, String> {
    step_with(slot, batch, &mut Imports)
}

/// Makes the instance over any backend.
///
/// # Errors
/// The framework's.
pub fn start_with<F: Framework>(
    slot: &mut Option<F>,
    context: &Context,
    backend: &mut dyn Backend,
) -> Result<(), String> {
    *slot = Some(F::start(context, &mut Host::new(backend))?);
    Ok(())
}

/// One step over any backend.
///
/// # Errors
/// The framework's; or there is no instance.
pub fn step_with<F: Framework>(
    slot: &mut Option<F>,
    batch: Batch,
    backend: &mut dyn Backend,
) -> Result<Answer, String> {
    let Some(framework) = slot.as_mut() else {
        return Err("step was called before start".to_owned());
    };
    let Batch {
        step,
        now,
        agents,
        events,
    } = batch;
    let mut step = Step::new(step, now, agents, Host::new(backend));
    framework.step(&mut step, events)?;
    Ok(step.into_answer())
}
