//! Wasm tasks: components run in the runner itself, with their directories and nothing else.

use std::path::PathBuf;

use proffer_plugin::command::{
    CommandComponent, CommandConfig, CommandEnd, CommandRunner, DirectoryAccess, KillSwitch,
    OpenedDirectory,
};

use super::act::CACHE_DIR;
use super::process;
use super::protocol::{Ending, How};

/// A component, ready to run.
pub(super) struct WasmTask {
    pub(super) component: String,
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
    let how = match config_of(task) {
        Ok(config) => match engine.run(config, kill.clone()).await {
            Ok(end) => how_of(end),
            Err(error) => How::NotStarted(proffer_model::with_causes(&error)),
        },
        Err(error) => How::NotStarted(format!("its logs: {error}")),
    };
    Ending {
        how,
        stopped: kill.is_used(),
        has_result: false,
    }
}

fn config_of(task: WasmTask) -> std::io::Result<CommandConfig> {
    let work = OpenedDirectory {
        host: PathBuf::from(&task.work),
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
    Ok(CommandConfig {
        component: CommandComponent::File(PathBuf::from(task.component)),
        args: task.args,
        env: task.env,
        directories: std::iter::once(work).chain(inputs).collect(),
        memory_bytes_max: task.memory_bytes,
        stdout: Some(process::log(&task.work, "stdout")?),
        stderr: Some(process::log(&task.work, "stderr")?),
    })
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
