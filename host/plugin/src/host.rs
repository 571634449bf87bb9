//! The plug-in host: an engine, the threads that plug-ins run on, and the way in.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::bindings;
use crate::cache::{self, OpenCacheError};
use crate::executor::{Executor, Threads, be_nice};
use crate::framework::FrameworkGuest;
use crate::load::{Code, Kind, LoadPluginError, Loaded, LoadedPlugin, describe};
use crate::memory::TABLE_ELEMENTS_MAX;
use crate::policy::PolicyGuest;
use crate::ticker::Ticker;

/// The most linear memory that a plug-in can be given: what a slot of the pool holds.
pub const PLUGIN_MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Epochs: the grain of time slices and budgets.
const TICK: Duration = Duration::from_millis(1);
/// Niceness of the thread that compiles: it may take 16 s for an interpreter.
const COMPILE_NICE: i32 = 10;
/// Stack of the compiling thread: Cranelift recurses.
const COMPILE_STACK_BYTES: usize = 16 * 1024 * 1024;
/// How long a load may take, in line and compiling: an interpreter takes 16 s on an idle machine.
const LOAD_DEADLINE: Duration = Duration::from_secs(300);
/// Frames of a trap's backtrace: where it was, not the whole recursion.
const BACKTRACE_FRAMES_MAX: usize = 12;
/// Core instances of one component: a Python component has 38.
const CORE_INSTANCES_EACH: u32 = 8;
/// The pool's bounds on one instance's own tables and descriptors, which a Python guest fits in.
const CORE_INSTANCE_BYTES_MAX: usize = 4 * 1024 * 1024;
const COMPONENT_INSTANCE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How a plug-in host is to be.
#[derive(Clone, Debug)]
pub struct PluginHostConfig {
    /// Where compiled code is kept; none: compiled anew each time.
    pub cache: Option<PathBuf>,
    /// What budgets are measured in.
    pub metering: Metering,
    /// Instances that may exist at once. Each reserves address space (4 GiB), not memory.
    pub instances_max: u32,
    /// Threads for short calls; 0: one per processor, at least two.
    pub quick_threads: usize,
    /// Threads for long calls; 0: one per processor.
    pub slow_threads: usize,
}

/// What budgets are measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metering {
    /// Processor time. For production.
    CpuTime,
    /// Fuel: the same run always takes the same. For simulation and conformance.
    Fuel,
}

/// Why there is no plug-in host.
#[derive(Debug, thiserror::Error)]
pub enum MakePluginHostError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] OpenCacheError),
    /// A thread.
    #[error("cannot start a plug-in thread")]
    Thread(#[from] std::io::Error),
    /// wasmtime.
    #[error("cannot make the engine: {problem}")]
    Engine {
        /// Why.
        problem: String,
    },
}

/// Loads plug-ins and runs them. Cheap to clone; its threads end with the last clone and the last
/// actor.
#[derive(Clone)]
pub struct PluginHost {
    pub(crate) shared: Arc<HostShared>,
}

pub(crate) struct HostShared {
    pub(crate) engine: Engine,
    pub(crate) metering: Metering,
    pub(crate) ticker: Option<Ticker>,
    pub(crate) executor: Executor,
    frameworks: Linker<FrameworkGuest>,
    policies: Linker<PolicyGuest>,
    /// Loads go one after the other: two compilers would only be in each other's way.
    loading: tokio::sync::Semaphore,
}

impl Default for PluginHostConfig {
    fn default() -> Self {
        Self {
            cache: None,
            metering: Metering::CpuTime,
            // The core's 200 frameworks, the policies, and their successors while they are swapped.
            instances_max: 256,
            quick_threads: 0,
            slow_threads: 0,
        }
    }
}

impl std::fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginHost")
            .field("metering", &self.shared.metering)
            .finish_non_exhaustive()
    }
}

impl PluginHost {
    /// Makes the engine and starts the threads.
    ///
    /// # Errors
    /// See [`MakePluginHostError`].
    pub fn new(config: PluginHostConfig) -> Result<Self, MakePluginHostError> {
        let failed = |error: wasmtime::Error| MakePluginHostError::Engine {
            problem: format!("{error:#}"),
        };
        let engine = make_engine(&config)?;
        let mut frameworks = Linker::new(&engine);
        bindings::framework::Framework::add_to_linker::<_, HasSelf<FrameworkGuest>>(
            &mut frameworks,
            |guest| guest,
        )
        .map_err(failed)?;
        let mut policies = Linker::new(&engine);
        bindings::policy::Policy::add_to_linker::<_, HasSelf<PolicyGuest>>(
            &mut policies,
            |guest| guest,
        )
        .map_err(failed)?;
        let ticker = match config.metering {
            Metering::CpuTime => Some(Ticker::start(&engine, TICK)?),
            Metering::Fuel => None,
        };
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let or = |given: usize, default: usize| if given == 0 { default } else { given };
        let threads = Threads {
            quick: or(config.quick_threads, processors.max(2)),
            slow: or(config.slow_threads, processors),
            // The incumbent and a shadow or a successor.
            policy: 2,
        };
        let executor = Executor::start(threads, engine.clone())?;
        Ok(Self {
            shared: Arc::new(HostShared {
                engine,
                metering: config.metering,
                ticker,
                executor,
                frameworks,
                policies,
                loading: tokio::sync::Semaphore::new(1),
            }),
        })
    }

    /// Checks and compiles a plug-in on a thread of low priority.
    ///
    /// # Errors
    /// What is wrong with it, and the mend.
    pub async fn load(
        &self,
        bytes: impl Into<Arc<[u8]>>,
        kind: Kind,
    ) -> Result<LoadedPlugin, LoadPluginError> {
        let bytes = bytes.into();
        let failed = |problem: &str| LoadPluginError::Host {
            problem: problem.to_owned(),
        };
        let load = async {
            let _turn = self
                .shared
                .loading
                .acquire()
                .await
                .map_err(|_| failed("the plug-in host is closing"))?;
            let host = self.clone();
            let (send, receive) = tokio::sync::oneshot::channel();
            std::thread::Builder::new()
                .name("proffer-compile".to_owned())
                .stack_size(COMPILE_STACK_BYTES)
                .spawn(move || {
                    be_nice(COMPILE_NICE);
                    if send.send(host.load_blocking(&bytes, kind)).is_err() {
                        tracing::debug!("a loaded plug-in was no longer wanted");
                    }
                })
                .map_err(|error| failed(&format!("no thread to compile on: {error}")))?;
            receive
                .await
                .map_err(|_| failed("the compiler panicked: a bug in the host"))?
        };
        match tokio::time::timeout(LOAD_DEADLINE, load).await {
            Ok(loaded) => loaded,
            // On a machine with time for it the same may load.
            Err(_) => Err(failed(&format!(
                "compiling it and those before it took longer than {LOAD_DEADLINE:?}"
            ))),
        }
    }

    /// Like [`Self::load`], on the calling thread.
    ///
    /// # Errors
    /// The same.
    pub fn load_blocking(&self, bytes: &[u8], kind: Kind) -> Result<LoadedPlugin, LoadPluginError> {
        let described = describe(bytes, kind)?;
        let component = Component::from_binary(&self.shared.engine, bytes).map_err(|error| {
            LoadPluginError::Compile {
                problem: format!("{error:#}"),
            }
        })?;
        let code = self.link(&component, kind)?;
        Ok(LoadedPlugin {
            shared: Arc::new(Loaded {
                described,
                kind,
                code,
            }),
        })
    }

    fn link(&self, component: &Component, kind: Kind) -> Result<Code, LoadPluginError> {
        let unfit = |error: wasmtime::Error| LoadPluginError::DoesNotFit {
            problem: format!("{error:#}"),
        };
        Ok(match kind {
            Kind::Framework => Code::Framework(
                self.shared
                    .frameworks
                    .instantiate_pre(component)
                    .and_then(bindings::framework::FrameworkPre::new)
                    .map_err(unfit)?,
            ),
            Kind::Policy => Code::Policy(
                self.shared
                    .policies
                    .instantiate_pre(component)
                    .and_then(bindings::policy::PolicyPre::new)
                    .map_err(unfit)?,
            ),
        })
    }
}

fn make_engine(config: &PluginHostConfig) -> Result<Engine, MakePluginHostError> {
    let mut settings = Config::new();
    settings
        // Plug-ins are plain functions; without asynchronous components a call costs a quarter.
        .concurrency_support(false)
        .wasm_relaxed_simd(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX));
    match config.metering {
        Metering::CpuTime => settings.epoch_interruption(true),
        Metering::Fuel => settings
            .consume_fuel(true)
            .cranelift_nan_canonicalization(true),
    };
    if let Some(cache) = &config.cache {
        settings.cache(Some(cache::open(cache)?));
    }
    settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
        config.instances_max,
    )));
    match Engine::new(&settings) {
        Ok(engine) => return Ok(engine),
        // Address space may be limited (ulimit -v, some kernels).
        Err(error) => tracing::warn!(
            error = format!("{error:#}"),
            "no pool for plug-in instances; each is made by itself, which is slower"
        ),
    }
    settings.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&settings).map_err(|error| MakePluginHostError::Engine {
        problem: format!("{error:#}"),
    })
}

fn pool(instances_max: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    let memory = usize::try_from(PLUGIN_MEMORY_BYTES_MAX).unwrap_or(usize::MAX);
    pool.total_component_instances(instances_max)
        .total_core_instances(instances_max.saturating_mul(CORE_INSTANCES_EACH))
        .total_memories(instances_max.saturating_mul(2))
        .total_tables(instances_max.saturating_mul(4))
        .total_stacks(instances_max)
        .max_memory_size(memory)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_core_instance_size(CORE_INSTANCE_BYTES_MAX)
        .max_component_instance_size(COMPONENT_INSTANCE_BYTES_MAX);
    pool
}
