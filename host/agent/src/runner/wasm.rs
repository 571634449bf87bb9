//! Wasm tasks: components run in the runner itself, with their directories and nothing else.

use std::path::PathBuf;

use proffer_plugin::command::{
    CommandComponent, CommandConfig, CommandEnd, CommandRunner, DirectoryAccess, KillSwitch,
    OpenedDirectory, TaskFiles,
};

use super::act::CACHE_DIR;
use super::protocol::{Ending, How};

/// A component, ready to run.
pub(super) struct WasmTask {
    pub(super) component: CommandComponent,
    /// Its directory is made when it first wants one.
    pub(super) is_late: bool,
    pub(super) args: Vec<String>,
    pub(super) memory_bytes: u64,
    pub(super) inputs: Vec<(String, String)>,
    pub(super) env: Vec<(String, String)>,
    pub(super) work: String,
}

/// The engine; compiled code is kept on disk if its directory can be reached by its full name, which a
/// runner below a private directory of root's cannot.
pub(super) fn engine() -> Result<CommandRunner, String> {
    let cache = std::fs::canonicalize(CACHE_DIR).ok();
    CommandRunner::new(cache).map_err(|error| error.to_string())
}

/// Runs a task to its end.
pub(super) async fn run(engine: CommandRunner, task: WasmTask, kill: KillSwitch) -> Ending {
    let how = match engine.run(config_of(task), kill.clone()).await {
        Ok(end) => how_of(end),
        Err(error) => How::NotStarted(proffer_model::with_causes(&error)),
    };
    Ending {
        how,
        stopped: kill.is_used(),
        has_result: false,
    }
}

fn config_of(task: WasmTask) -> CommandConfig {
    let path = PathBuf::from(task.work);
    let work = OpenedDirectory {
        host: path.clone(),
        guest: ".".to_owned(),
        access: DirectoryAccess::ReadWrite,
    };
    let inputs = task
        .inputs
        .into_iter()
        .map(|(host, guest)| OpenedDirectory {
            host: PathBuf::from(host),
            guest,
            access: DirectoryAccess::ReadOnly,
        });
    CommandConfig {
        component: task.component,
        args: task.args,
        env: task.env,
        files: TaskFiles {
            directories: std::iter::once(work).chain(inputs).collect(),
            stdout: Some(path.join("stdout")),
            stderr: Some(path.join("stderr")),
            made_first: task.is_late.then_some(path),
        },
        memory_bytes_max: task.memory_bytes,
    }
}

fn how_of(end: CommandEnd) -> How {
    match end {
        CommandEnd::Exited(status) => How::Exited(status),
        CommandEnd::OutOfMemory { bytes_max } => How::OutOfMemory(format!(
            "it wanted more than the {} MiB of memory that it holds",
            bytes_max / (1024 * 1024)
        )),
        CommandEnd::Trapped { message } => How::Broke(format!("it trapped: {message}")),
        CommandEnd::Killed => How::Broke("it was interrupted".to_owned()),
    }
}
