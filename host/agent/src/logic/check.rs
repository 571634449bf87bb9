//! Whether this agent can run a launch as it is described. What it cannot do is refused by name,
//! never left out.

use std::collections::BTreeSet;

use proffer_model::agent::{Launch, Origin, ResolvedInput};
use proffer_model::{Amount, Bundle, Executor, Reason, Remedy, code};

/// Names in a sandbox that are not for inputs: the task's two logs and its result.
const RESERVED: [&str; 3] = ["stdout", "stderr", "result"];

/// Longest path of an input; file systems end at 4,096 with the sandbox's own before it.
const PATH_MAX: usize = 1_024;

/// Arguments and environment together; the system's own limit is 2 MiB with some for itself.
const ARGUMENTS_BYTES_MAX: usize = 1024 * 1024;

/// Inputs of one launch, files in directories counted.
const INPUTS_MAX: usize = 100_000;

/// Why a launch cannot be run here, if so.
pub(super) fn problem_of(launch: &Launch, total: &Bundle) -> Option<Reason> {
    unsupported(launch)
        .map(|text| Reason::new(code::UNSUPPORTED, Remedy::Unsupported, text))
        .or_else(|| {
            malformed(launch, total).map(|text| Reason::new(code::INVALID, Remedy::Mend, text))
        })
}

fn unsupported(launch: &Launch) -> Option<String> {
    let template = &launch.task.template;
    if let Executor::Container(_) = template.executor {
        return Some("agents do not run containers yet".to_owned());
    }
    if !template.checks.is_empty() {
        return Some("agents do not do health and readiness checks yet".to_owned());
    }
    if !launch.task.mounts.is_empty() {
        return Some("agents do not mount volumes yet".to_owned());
    }
    if let Some((name, _)) = template.options.first() {
        return Some(format!("the template's option '{name}' is not known"));
    }
    let extracted = launch.inputs.iter().find(|input| input.marks.extract);
    extracted.map(|input| format!("input '{}': agents do not extract yet", input.path))
}

fn malformed(launch: &Launch, total: &Bundle) -> Option<String> {
    let mut inputs = launch.inputs.as_slice();
    let template = &launch.task.template;
    match &template.executor {
        Executor::Process(argv) if argv.first().is_none_or(String::is_empty) => {
            return Some("its argument list names no program".to_owned());
        }
        Executor::Shell(line) if line.trim().is_empty() => {
            return Some("its shell line is empty".to_owned());
        }
        Executor::Wasm(component) => match inputs.split_first() {
            Some((first, rest)) if first.path == component.path => inputs = rest,
            _ => return Some("its component is not the first of its inputs".to_owned()),
        },
        _ => {}
    }
    let held = launch.task.resources.total();
    if held.mem <= Amount::ZERO && matches!(template.executor, Executor::Wasm(_)) {
        return Some("a Wasm task needs memory: its resources hold no mem".to_owned());
    }
    if !total.contains(&held) {
        return Some(format!("it holds {held}, and all of the agent is {total}"));
    }
    texts(launch).or_else(|| paths(inputs))
}

fn texts(launch: &Launch) -> Option<String> {
    let task = &launch.task;
    let own: &[String] = match &task.template.executor {
        Executor::Process(argv) => argv,
        Executor::Shell(line) => std::slice::from_ref(line),
        _ => &[],
    };
    let env = || task.template.env.iter().chain(&task.env);
    let words = own.iter().chain(&task.args);
    let all = || words.clone().chain(env().map(|(_, value)| value));
    if all().any(|text| text.contains('\0')) {
        return Some("an argument or variable contains a NUL byte".to_owned());
    }
    let bytes: usize = all().map(|text| text.len() + 1).sum();
    if bytes > ARGUMENTS_BYTES_MAX {
        return Some(format!(
            "its arguments and environment are {bytes} bytes, more than {ARGUMENTS_BYTES_MAX}"
        ));
    }
    let odd = |name: &str| name.is_empty() || name.contains(['=', '\0']);
    env()
        .find(|(name, _)| odd(name))
        .map(|(name, _)| format!("'{}' is not a variable's name", name.escape_debug()))
}

fn paths(inputs: &[ResolvedInput]) -> Option<String> {
    let mut files = 0_usize;
    let mut seen = BTreeSet::new();
    for input in inputs {
        let path = input.path.as_str();
        if !is_plain_path(path) {
            return Some(format!(
                "input path '{}' is not relative and free of '.' and '..'",
                path.escape_debug()
            ));
        }
        let top = path.split('/').next().unwrap_or(path);
        if RESERVED.contains(&top) {
            return Some(format!("input path '{path}': '{top}' is the task's own"));
        }
        if !seen.insert(path) {
            return Some(format!("two inputs have the path '{path}'"));
        }
        files += 1;
        if let Origin::Sandboxes(several) = &input.from {
            files += several.len();
            let named = several.iter().find(|(name, _)| !is_plain_name(name));
            if let Some((name, _)) = named {
                return Some(format!(
                    "input '{path}': '{}' is not a file name",
                    name.escape_debug()
                ));
            }
        }
    }
    if files > INPUTS_MAX {
        return Some(format!("it has {files} inputs, more than {INPUTS_MAX}"));
    }
    // A path below another input's would change that input.
    let mut above = seen.iter().flat_map(|path| {
        let slashes = path.match_indices('/').map(|(at, _)| &path[..at]);
        slashes.map(move |above| (above, *path))
    });
    above
        .find(|(above, _)| seen.contains(above))
        .map(|(above, path)| format!("input '{path}' would be inside of input '{above}'"))
}

/// Whether a path is relative, has no `.`, `..` or empty part, and is of a bearable length.
pub(crate) fn is_plain_path(path: &str) -> bool {
    path.len() <= PATH_MAX && path.split('/').all(is_plain_name)
}

fn is_plain_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains(['/', '\0'])
}
