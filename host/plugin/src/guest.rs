//! A store with a guest in it, its limits, and calls with budgets: what both kinds have in common.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use wasmtime::{Store, UpdateDeadline};

use crate::bindings::framework::proffer::types::log;
use crate::fault::{Call, PluginFault};
use crate::host::{HostShared, Metering};
use crate::log::{LogLevel, PluginLog};
use crate::memory::MemoryLimiter;
use crate::meter::Meter;

/// Fuel per millisecond of budget, where fuel is what is measured: roughly what a guest burns.
const FUEL_PER_MS: u64 = 1_000_000;

/// What a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallBudget {
    /// Processor time.
    pub cpu: Duration,
    /// Time on the wall: a backstop that must be generous, because a busy machine is not the
    /// plug-in's fault.
    pub wall: Duration,
}

/// Bounds of a guest's store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreLimits {
    /// What one call may hand over, either way.
    pub(crate) hostcall_bytes: usize,
}

/// Handles of component resources; the contract has none.
const HANDLES_MAX: usize = 1_000;

/// What every guest's store holds.
pub(crate) struct Common {
    pub(crate) memory: MemoryLimiter,
    pub(crate) log: Arc<PluginLog>,
    /// For calls of ours that a guest can make long.
    pub(crate) meter: Arc<Meter>,
}

impl Common {
    pub(crate) fn write_log(&self, level: log::Level, text: &str) {
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.log.write(level, text);
    }
}

/// Store data that has the common part.
pub(crate) trait GuestData: Send + 'static {
    fn common(&mut self) -> &mut Common;
}

/// A store whose limits are set.
pub(crate) fn make_store<T: GuestData>(
    host: &HostShared,
    meter: &Arc<Meter>,
    limits: StoreLimits,
    data: T,
) -> Store<T> {
    let mut store = Store::new(&host.engine, data);
    store.limiter(|data| &mut data.common().memory);
    store.set_hostcall_fuel(limits.hostcall_bytes);
    store.set_max_component_handles(HANDLES_MAX);
    if host.metering == Metering::CpuTime {
        let meter = Arc::clone(meter);
        store.epoch_deadline_callback(move |_| {
            meter.check()?;
            Ok(UpdateDeadline::Yield(1))
        });
    }
    store
}

/// Makes one call, within its budget. Must run on a plug-in thread.
pub(crate) async fn call<'a, T: GuestData, R, F>(
    store: &'a mut Store<T>,
    host: &HostShared,
    meter: &Meter,
    (call, budget): (Call, CallBudget),
    function: impl FnOnce(&'a mut Store<T>) -> F,
) -> Result<R, PluginFault>
where
    F: Future<Output = wasmtime::Result<R>>,
{
    let fuel = match host.metering {
        Metering::CpuTime => {
            meter.allow(budget.cpu, budget.wall);
            // The next tick may come at once; the one after it is a slice away.
            store.set_epoch_deadline(2);
            None
        }
        Metering::Fuel => {
            let fuel = fuel_of(budget);
            store
                .set_fuel(fuel)
                .map_err(|error| PluginFault::from_wasmtime(call, None, &error))?;
            Some(fuel)
        }
    };
    // A panic in a function of ours unwinds through the guest to here.
    match AssertUnwindSafe(async { function(store).await })
        .catch_unwind()
        .await
    {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(PluginFault::from_wasmtime(call, fuel, &error)),
        Err(panic) => Err(PluginFault::HostBug {
            call,
            problem: panic_text(panic.as_ref()),
        }),
    }
}

/// A budget in fuel.
pub(crate) fn fuel_of(budget: CallBudget) -> u64 {
    u64::try_from(budget.cpu.as_millis())
        .unwrap_or(u64::MAX)
        .saturating_mul(FUEL_PER_MS)
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
