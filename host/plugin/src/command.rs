//! Tasks: `wasi:cli/command` components, run to their end with nothing but what is given to them.
//!
//! A task has its arguments, its environment, the directories that are opened for it, two files to
//! write to, real clocks and real randomness. No sockets, no names, no standard input, none of the
//! host's own environment. Its memory is limited; it is ended by a [`KillSwitch`], wherever it is. What it
//! never touches of the file system is never opened.
//!
//! Each run has a thread to itself, so tasks share processors as the operating system shares them, and a task
//! that spins delays nobody's messages.

mod component;
mod files;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use wasmtime::component::{Component, HasData, Linker, Resource, ResourceTable};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, Trap,
    UpdateDeadline,
};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::{Command, CommandPre};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::cache::{self, OpenCacheError};
use crate::compiled::Compiled;
use crate::memory::{MemoryExceeded, MemoryLimiter, TABLE_ELEMENTS_MAX};
use crate::threads::Threads;
use crate::ticker::Ticker;

pub use component::ComponentFile;
pub use files::{DirectoryAccess, OpenedDirectory, TaskFiles};

use files::Opening;

/// How often a running task looks whether it is to be killed. A task may run for hours: it should
/// not look more often than anybody would notice.
const TICK: Duration = Duration::from_millis(5);

/// The most bytes that a task may hand to the host in one call: its largest write.
const HOSTCALL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Open files, streams and other handles of one task.
const HANDLES_MAX: usize = 4_096;

/// Tasks of one engine at once; more wait for one to end.
const TASKS_AT_ONCE_MAX: usize = 512;

/// Core instances of one component: a Python component has 38.
const CORE_INSTANCES_EACH: u32 = 64;

/// Tables of one component, on average: most have two.
const TABLES_EACH: u32 = 8;

/// What a 32-bit memory can be; the task's own limit is below.
const MEMORY_BYTES_MAX: usize = 4 << 30;

/// An instance's own tables and descriptors: more than any known program's.
const INSTANCE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Of a table so much is cleared by hand between two tasks, and stays with its slot of the pool.
const TABLE_KEEP_RESIDENT_BYTES: usize = 256 * 1024;

/// Compiles and runs tasks. Cheap to clone; clones share what is compiled.
#[derive(Clone)]
pub struct CommandRunner {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    linker: Linker<TaskState>,
    ticker: Ticker,
    threads: Threads,
    compiled: Compiled<CommandPre<TaskState>>,
}

/// One task to run.
#[derive(Debug)]
pub struct CommandConfig {
    /// The component.
    pub component: CommandComponent,
    /// Its arguments, the program's name first.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// What it can see of the file system.
    pub files: TaskFiles,
    /// All its linear memories together.
    pub memory_bytes_max: u64,
}

/// Where a task's component is.
#[derive(Clone, Debug)]
pub enum CommandComponent {
    /// In a file. Read again only when its identity, size or time of change differ.
    File(PathBuf),
    /// In a file that is open, shared by all its tasks.
    Opened(Arc<ComponentFile>),
    /// Here.
    Bytes(Arc<[u8]>),
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    /// By itself, with this status.
    Exited(i32),
    /// It wanted more memory than it may have.
    OutOfMemory {
        /// What it may have.
        bytes_max: u64,
    },
    /// It trapped: its own bug.
    Trapped {
        /// What and where, for people.
        message: String,
    },
    /// The switch was used.
    Killed,
}

/// Why a task could not be run. Nothing of it has run.
#[derive(Debug, thiserror::Error)]
pub enum RunCommandError {
    /// Its component cannot be read.
    #[error("cannot read the component {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its component is too large.
    #[error("the component has {bytes} bytes, more than {max}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// It is not a component that can be run.
    #[error("not a wasi:cli/command component: {problem}")]
    NotACommand {
        /// What is wrong with it.
        problem: String,
    },
    /// It could not be started, or something of ours failed under it.
    #[error("the task could not be run: {problem}")]
    Start {
        /// Why.
        problem: String,
    },
}

/// Why there is no runner.
#[derive(Debug, thiserror::Error)]
pub enum MakeRunnerError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] OpenCacheError),
    /// The ticker's thread, or the watcher's.
    #[error("cannot start the runner's own threads")]
    Thread(#[from] std::io::Error),
    /// wasmtime.
    #[error("cannot make the engine: {problem}")]
    Engine {
        /// Why.
        problem: String,
    },
}

/// Ends a task. Clones are of the same switch; using it twice, or before the start, is fine.
#[derive(Clone, Debug)]
pub struct KillSwitch {
    used: watch::Sender<bool>,
}

struct TaskState {
    wasi: WasiCtx,
    table: ResourceTable,
    memory: MemoryLimiter,
    files: Arc<Opening>,
    /// Its directories, once it has asked for them.
    directories: Option<WasiFilesystemCtx>,
}

/// The state as the interface of directories sees it.
struct LateDirectories;

impl HasData for LateDirectories {
    type Data<'a> = &'a mut TaskState;
}

impl preopens::Host for TaskState {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let directories = match &mut self.directories {
            Some(directories) => directories,
            none => none.insert(self.files.directories()?),
        };
        let mut view = WasiFilesystemCtxView {
            ctx: directories,
            table: &mut self.table,
        };
        preopens::Host::get_directories(&mut view)
    }
}

impl WasiView for TaskState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Default for KillSwitch {
    fn default() -> Self {
        Self::new()
    }
}

impl KillSwitch {
    /// A switch that has not been used.
    #[must_use]
    pub fn new() -> Self {
        Self {
            used: watch::Sender::new(false),
        }
    }

    /// Ends the task.
    pub fn kill(&self) {
        self.used.send_replace(true);
    }

    /// Whether it was used.
    #[must_use]
    pub fn is_used(&self) -> bool {
        *self.used.borrow()
    }

    async fn used(&self) {
        // Fails only when every sender is gone, and one is in `self`.
        if self.used.subscribe().wait_for(|used| *used).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl std::fmt::Debug for CommandRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandRunner").finish_non_exhaustive()
    }
}

impl CommandRunner {
    /// A runner that keeps compiled code in `cache` (which it makes), or only in memory.
    ///
    /// # Errors
    /// See [`MakeRunnerError`].
    pub fn new(cache: Option<PathBuf>) -> Result<Self, MakeRunnerError> {
        let failed = |error: wasmtime::Error| MakeRunnerError::Engine {
            problem: format!("{error:#}"),
        };
        let mut config = Config::new();
        config.epoch_interruption(true);
        // WASI 0.2 needs no asynchronous components; without them a call costs less.
        config.concurrency_support(false);
        if let Some(cache) = cache {
            config.cache(Some(cache::open(&cache)?));
        }
        let engine = engine(config).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        add_wasi(&mut linker).map_err(failed)?;
        let ticker = Ticker::start(&engine, TICK)?;
        Ok(Self {
            shared: Arc::new(Shared {
                engine,
                linker,
                ticker,
                threads: Threads::start(TASKS_AT_ONCE_MAX)?,
                compiled: Compiled::default(),
            }),
        })
    }

    /// Compiles a component, so that a later run of it starts at once.
    ///
    /// # Errors
    /// If it cannot be read or is no command.
    pub async fn prepare(&self, component: CommandComponent) -> Result<(), RunCommandError> {
        let shared = Arc::clone(&self.shared);
        let work = move || shared.command(&component).map(|_| ());
        on_a_thread(&self.shared.threads, work).await
    }

    /// Runs a task to its end. Must be called inside a tokio runtime.
    ///
    /// If the future is dropped the task is ended.
    ///
    /// # Errors
    /// If it could not be started; whatever it does itself is a [`CommandEnd`].
    pub async fn run(
        &self,
        config: CommandConfig,
        kill: KillSwitch,
    ) -> Result<CommandEnd, RunCommandError> {
        let shared = Arc::clone(&self.shared);
        let runtime = tokio::runtime::Handle::current();
        let mut abandoned = KillOnDrop(Some(kill.clone()));
        let work = move || {
            let command = shared.command(&config.component)?;
            let store = shared.store(config);
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = kill.used() => Ok(CommandEnd::Killed),
                    end = shared.call(&command, store) => end,
                }
            })
        };
        let end = on_a_thread(&self.shared.threads, work).await;
        abandoned.0 = None;
        end
    }
}

/// Uses the switch when the future that waits for the task is dropped.
struct KillOnDrop(Option<KillSwitch>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(kill) = &self.0 {
            kill.kill();
        }
    }
}

/// Runs blocking work of one task; a panic in it is that task's failure only.
async fn on_a_thread<T: Send + 'static>(
    threads: &Threads,
    work: impl FnOnce() -> Result<T, RunCommandError> + Send + 'static,
) -> Result<T, RunCommandError> {
    let (tell, told) = oneshot::channel();
    let job = move || {
        // An error means that nobody waits for it any more.
        let _told = tell.send(work()).is_ok();
    };
    let failed = |problem: String| RunCommandError::Start { problem };
    threads
        .run(job)
        .map_err(|error| failed(format!("no thread for it: {error}")))?;
    told.await
        .unwrap_or_else(|_| Err(failed("a bug in the host: its thread panicked".to_owned())))
}

impl Shared {
    fn command(
        &self,
        component: &CommandComponent,
    ) -> Result<CommandPre<TaskState>, RunCommandError> {
        let make = |bytes: &[u8]| {
            Component::new(&self.engine, bytes)
                .and_then(|component| self.linker.instantiate_pre(&component))
                .and_then(CommandPre::new)
                .map_err(|error| format!("{error:#}"))
        };
        match component {
            CommandComponent::File(path) => self.compiled.by_path(path, make),
            CommandComponent::Opened(file) => file.command(&self.compiled, make),
            CommandComponent::Bytes(bytes) => self.compiled.by_content(bytes, make),
        }
    }

    fn store(&self, config: CommandConfig) -> Store<TaskState> {
        let files = Opening::new(config.files);
        let mut builder = WasiCtxBuilder::new();
        builder
            .args(&config.args)
            .envs(&config.env)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            // It has the thread to itself.
            .allow_blocking_current_thread(true);
        if let Some(stdout) = files.stdout() {
            builder.stdout(stdout);
        }
        if let Some(stderr) = files.stderr() {
            builder.stderr(stderr);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let state = TaskState {
            wasi: builder.build(),
            table,
            memory: MemoryLimiter::new(config.memory_bytes_max),
            files,
            directories: None,
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        store.set_epoch_deadline(1);
        // Each tick gives the thread back for a moment, and so lets the kill switch be seen.
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        store
    }

    async fn call(
        &self,
        command: &CommandPre<TaskState>,
        mut store: Store<TaskState>,
    ) -> Result<CommandEnd, RunCommandError> {
        let _ticking = self.ticker.ticking();
        let command: Command = match command.instantiate_async(&mut store).await {
            Ok(command) => command,
            Err(error) => return end_of(&error).ok_or_else(|| start_failed(&error)),
        };
        match command.wasi_cli_run().call_run(&mut store).await {
            Ok(Ok(())) => Ok(CommandEnd::Exited(0)),
            Ok(Err(())) => Ok(CommandEnd::Exited(1)),
            Err(error) => Ok(end_of(&error).unwrap_or_else(|| CommandEnd::Trapped {
                message: format!("{error:#}"),
            })),
        }
    }
}

/// WASI, of which a task's directories are opened when it asks for them.
fn add_wasi(linker: &mut Linker<TaskState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    preopens::add_to_linker::<TaskState, LateDirectories>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// An engine whose instances come from a pool, if there is address space for one: what a small task
/// costs is mostly the memory maps of its instance.
fn engine(mut config: Config) -> wasmtime::Result<Engine> {
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    match Engine::new(&config) {
        Ok(engine) => return Ok(engine),
        Err(error) => tracing::warn!(
            error = format!("{error:#}"),
            "no pool for tasks' instances; each is made by itself, which is slower"
        ),
    }
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&config)
}

fn pool() -> PoolingAllocationConfig {
    let tasks = u32::try_from(TASKS_AT_ONCE_MAX).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(tasks)
        .total_core_instances(tasks.saturating_mul(CORE_INSTANCES_EACH))
        .total_memories(tasks.saturating_mul(2))
        .total_tables(tasks.saturating_mul(TABLES_EACH))
        .total_stacks(tasks)
        .max_core_instances_per_component(CORE_INSTANCES_EACH)
        .max_tables_per_component(CORE_INSTANCES_EACH)
        .max_memories_per_component(8)
        .max_memory_size(MEMORY_BYTES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        // A memory begins with the stack's far end, which is hardly ever reached: to clear that by hand
        // costs more than the kernel takes for all of it.
        .linear_memory_keep_resident(0)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES);
    pool
}

fn start_failed(error: &wasmtime::Error) -> RunCommandError {
    RunCommandError::Start {
        problem: format!("{error:#}"),
    }
}

/// What an error out of a guest means, if it is the guest's own doing.
fn end_of(error: &wasmtime::Error) -> Option<CommandEnd> {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return Some(CommandEnd::Exited(*status));
    }
    if let Some(MemoryExceeded { bytes_max }) = error.downcast_ref() {
        return Some(CommandEnd::OutOfMemory {
            bytes_max: *bytes_max,
        });
    }
    error
        .downcast_ref::<Trap>()
        .map(|trap| CommandEnd::Trapped {
            message: trap.to_string(),
        })
}
