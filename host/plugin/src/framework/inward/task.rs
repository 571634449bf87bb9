//! Operations, tasks and their templates out of an answer.

use proffer_model::framework::{Act, CreateVolume, MalformedTask, Operation, Reserve};
use proffer_model::{
    Check, Container, Duration, Executor, HttpProbe, Input, InputMarks, Mount, Probe, Purpose,
    Reason, Remedy, TaskId, TaskSpec, Template, code,
};

use super::resources::resources;
use super::{Empty, Malformed, Read, id, invalid, role};
use crate::bindings::framework::proffer::framework::model as wit;
use crate::log::printable;

/// Bytes of all tasks with their templates put in: eight thousand tasks of a kilobyte.
pub(crate) const EXPANDED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The answer's templates, with their sizes.
pub(crate) struct Templates(Vec<(Template, usize)>);

pub(crate) fn templates(templates: Vec<wit::Template>) -> Templates {
    Templates(
        templates
            .into_iter()
            .map(|template| {
                let mut size = super::Size::default();
                size.template(&template);
                (read_template(template), size.record)
            })
            .collect(),
    )
}

/// One operation of the contract; two of ours where only some tasks of a launch can be read.
pub(crate) fn operation(
    operation: wit::Operation,
    templates: &Templates,
    expanded: &mut usize,
) -> Vec<Operation> {
    let (token, why) = match id("operation's token", operation.token, Empty::Allowed) {
        Ok(token) => (token, None),
        Err(Malformed(problem)) => (String::new(), Some(invalid(problem))),
    };
    let acts = match (operation.act, why) {
        (act, Some(why)) => vec![Act::Malformed(named(&act, &why), why)],
        (wit::Act::Launch(tasks), None) => launch(tasks, templates, expanded),
        (wit::Act::LaunchGroup(tasks), None) => vec![group(tasks, templates, expanded)],
        (act, None) => {
            vec![other(act).unwrap_or_else(|Malformed(p)| Act::Malformed(Vec::new(), invalid(p)))]
        }
    };
    acts.into_iter()
        .map(|act| Operation {
            token: token.clone(),
            act,
        })
        .collect()
}

fn launch(tasks: Vec<wit::Task>, templates: &Templates, expanded: &mut usize) -> Vec<Act> {
    let mut good = Vec::with_capacity(tasks.len());
    let mut bad = Vec::new();
    for task in tasks {
        let told = told(&task.id);
        match read_task(task, templates, expanded) {
            Ok(task) => good.push(task),
            Err(Malformed(problem)) => bad.push(MalformedTask {
                id: told,
                why: invalid(problem),
            }),
        }
    }
    let Some(first) = bad.first() else {
        return vec![Act::Launch(good)];
    };
    let malformed = {
        let why = first.why.clone();
        Act::Malformed(bad, why)
    };
    if good.is_empty() {
        vec![malformed]
    } else {
        vec![Act::Launch(good), malformed]
    }
}

fn group(tasks: Vec<wit::Task>, templates: &Templates, expanded: &mut usize) -> Act {
    let mut good = Vec::with_capacity(tasks.len());
    let mut told_of = Vec::with_capacity(tasks.len());
    let mut problem = None;
    for task in tasks {
        let id = told(&task.id);
        match read_task(task, templates, expanded) {
            Ok(task) => {
                good.push(task);
                told_of.push((id, None));
            }
            Err(Malformed(why)) => {
                problem.get_or_insert_with(|| why.clone());
                told_of.push((id, Some(why)));
            }
        }
    }
    let Some(problem) = problem else {
        return Act::LaunchGroup(good);
    };
    let others = || {
        Reason::new(
            code::GROUP_FAILED,
            Remedy::Mend,
            format!("another task of its group is malformed: {problem}"),
        )
    };
    let tasks = told_of.into_iter().map(|(id, why)| MalformedTask {
        id,
        why: why.map_or_else(others, invalid),
    });
    Act::Malformed(tasks.collect(), invalid(problem.clone()))
}

fn other(act: wit::Act) -> Read<Act> {
    Ok(match act {
        // Read by whoever calls this.
        wit::Act::Launch(_) | wit::Act::LaunchGroup(_) => Act::Launch(Vec::new()),
        wit::Act::Reserve(row) => Act::Reserve(Reserve {
            resources: resources(row.piles)?,
            role: role(row.role)?,
            label: id("label", row.label, Empty::Allowed)?,
        }),
        wit::Act::Unreserve(piles) => Act::Unreserve(resources(piles)?),
        wit::Act::CreateVolume(row) => Act::CreateVolume(CreateVolume {
            id: id("volume's id", row.id, Empty::Refused)?,
            take: resources(vec![row.take])?,
            shared: row.shared,
        }),
        wit::Act::DestroyVolume(volume) => {
            Act::DestroyVolume(id("volume's id", volume, Empty::Refused)?)
        }
    })
}

/// The tasks of an operation that cannot be read as a whole.
fn named(act: &wit::Act, why: &Reason) -> Vec<MalformedTask> {
    match act {
        wit::Act::Launch(tasks) | wit::Act::LaunchGroup(tasks) => tasks
            .iter()
            .map(|task| MalformedTask {
                id: told(&task.id),
                why: why.clone(),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// An id as far as it can be told back.
fn told(id: &str) -> String {
    printable(id, TaskId::LEN_MAX)
}

fn read_task(task: wit::Task, templates: &Templates, expanded: &mut usize) -> Read<TaskSpec> {
    let index = task.template as usize;
    let Some((template, bytes)) = templates.0.get(index) else {
        return Err(Malformed(format!(
            "template {index} of {} (they count from 0)",
            templates.0.len()
        )));
    };
    *expanded = expanded.saturating_add(*bytes);
    if *expanded > EXPANDED_BYTES_MAX {
        // The whole answer is refused for it; do not copy any more.
        return Err(Malformed("too many bytes of templates".to_owned()));
    }
    if task.output.contains('/') {
        return Err(Malformed(format!(
            "the output '{}' contains a slash",
            printable(&task.output, 64)
        )));
    }
    let mounts = task.mounts.into_iter().map(|mount| Mount {
        volume: mount.volume,
        path: mount.path,
        read_only: mount.read_only,
    });
    Ok(TaskSpec {
        id: TaskId::new(task.id).map_err(|error| Malformed(error.to_string()))?,
        template: template.clone(),
        resources: resources(task.piles)?,
        args: task.args,
        env: task.env,
        inputs: task.inputs.into_iter().map(input).collect(),
        mounts: mounts.collect(),
        output: id("output", task.output, Empty::Allowed)?,
        priority: task.priority,
    })
}

fn read_template(row: wit::Template) -> Template {
    Template {
        name: row.name,
        executor: match row.executor {
            wit::Executor::Process(argv) => Executor::Process(argv),
            wit::Executor::Shell(line) => Executor::Shell(line),
            wit::Executor::Wasm(component) => Executor::Wasm(input(component)),
            wit::Executor::Container(container) => Executor::Container(Container {
                image: container.image,
                argv: container.argv,
            }),
        },
        env: row.env,
        inputs: row.inputs.into_iter().map(input).collect(),
        checks: row.checks.into_iter().map(check).collect(),
        grace: Duration(row.grace),
        longest: row.longest.map(Duration),
        group: row.group,
        labels: row.labels,
        options: row.options,
    }
}

fn input(row: wit::Input) -> Input {
    Input {
        source: row.source,
        path: row.path,
        digest: row.digest,
        marks: InputMarks {
            extract: row.marks.contains(wit::InputMarks::EXTRACT),
            executable: row.marks.contains(wit::InputMarks::EXECUTABLE),
            cache: row.marks.contains(wit::InputMarks::CACHE),
        },
    }
}

fn check(row: wit::Check) -> Check {
    Check {
        purpose: match row.purpose {
            wit::Purpose::Health => Purpose::Health,
            wit::Purpose::Readiness => Purpose::Readiness,
        },
        probe: match row.probe {
            wit::Probe::Command(argv) => Probe::Command(argv),
            wit::Probe::Http(probe) => Probe::Http(HttpProbe {
                port: probe.port,
                path: probe.path,
                tls: probe.tls,
            }),
            wit::Probe::Tcp(port) => Probe::Tcp(port),
        },
        grace: Duration(row.grace),
        interval: Duration(row.interval),
        timeout: Duration(row.timeout),
        failures: row.failures,
    }
}
