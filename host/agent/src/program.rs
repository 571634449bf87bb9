//! From a launch to what its runner is told.

use std::collections::BTreeSet;

use proffer_model::agent::{Launch, Origin};
use proffer_model::{Executor, ports_of};

use crate::fetch::COMPONENT;
use crate::runner::LAUNCH_VARIABLE;
use crate::runner::protocol::{Program, StartTask};
use crate::sandbox::{late_path_of, path_of};

/// What a program finds when nothing else is said; the agent's own environment is not passed on.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MIB: u64 = 1024 * 1024;

/// What to start: in its sandbox, or without one from a component that is kept.
///
/// # Errors
/// Why it cannot be started here.
pub(crate) fn start_task(launch: &Launch, kept: Option<String>) -> Result<StartTask, String> {
    let path = path_of(launch.number);
    Ok(StartTask {
        launch: launch.number.0,
        work: match kept {
            Some(_) => late_path_of(launch.number),
            None => format!("{path}/work"),
        },
        program: program(launch, &path, kept)?,
        env: env(launch),
    })
}

fn program(launch: &Launch, path: &str, kept: Option<String>) -> Result<Program, String> {
    let task = &launch.task;
    let argv = match &task.template.executor {
        Executor::Process(argv) => {
            let mut argv = argv.clone();
            if let Some(program) = argv.first_mut() {
                let is_input = launch.inputs.iter().any(|input| input.path == *program);
                if is_input && !program.contains('/') {
                    *program = format!("./{program}");
                }
            }
            argv
        }
        Executor::Shell(line) => {
            // The second word is the name that the shell knows itself by; arguments follow it.
            let words = ["/bin/sh", "-c", line, "sh"];
            words.iter().map(|word| (*word).to_owned()).collect()
        }
        Executor::Wasm(component) => {
            let mem = u64::try_from(task.resources.total().mem.milli()).unwrap_or_default();
            let mut args = vec![component.path.clone()];
            args.extend(task.args.iter().cloned());
            return Ok(Program::Wasm {
                is_late: kept.is_some(),
                component: kept.unwrap_or_else(|| format!("{path}/{COMPONENT}")),
                args,
                memory_bytes: mem.saturating_mul(MIB) / 1_000,
                inputs: directories(launch)
                    .map(|name| (format!("{path}/inputs/{name}"), name.to_owned()))
                    .collect(),
            });
        }
        // Refused when the launch came.
        Executor::Container(_) => return Err("agents do not run containers yet".to_owned()),
    };
    let argv = argv.into_iter().chain(task.args.iter().cloned()).collect();
    Ok(Program::Process { argv })
}

/// The directories at the top of a component's inputs, in order. The first input is the component.
fn directories(launch: &Launch) -> impl Iterator<Item = &str> {
    let tops = launch.inputs.iter().skip(1).filter_map(|input| {
        let is_directory = matches!(input.from, Origin::Sandboxes(_));
        match input.path.split_once('/') {
            Some((top, _)) => Some(top),
            None => is_directory.then_some(input.path.as_str()),
        }
    });
    tops.collect::<BTreeSet<_>>().into_iter()
}

/// The whole environment: ours first, so that template and task can say otherwise. Of one name the
/// last counts.
fn env(launch: &Launch) -> Vec<(String, String)> {
    let task = &launch.task;
    let held = task.resources.total();
    let ports: Vec<String> = ports_of(&task.resources)
        .iter()
        .map(u64::to_string)
        .collect();
    let mut env: Vec<(String, String)> = [
        ("PATH", PATH.to_owned()),
        ("HOME", ".".to_owned()),
        ("PROFFER_FRAMEWORK", launch.framework_name.to_string()),
        ("PROFFER_TASK", task.id.to_string()),
        (LAUNCH_VARIABLE, launch.number.0.to_string()),
        ("PROFFER_CPUS", held.cpus.to_string()),
        ("PROFFER_MEM", held.mem.to_string()),
        ("PROFFER_PORTS", ports.join(",")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (name, value) in task.template.env.iter().chain(&task.env) {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, own)) => own.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
    env
}
