//! Tasks on the wire.

use proffer_model::{
    Check, Container, Duration, Executor, HttpProbe, Input, InputMarks, Mount, Probe, Purpose,
    TaskSpec, Template,
};

use super::{InvalidMessage, task_id};
use crate::proto::values::v0 as wire;

fn pairs(pairs: &[(String, String)]) -> Vec<wire::Pair> {
    let pairs = pairs.iter().map(|(name, value)| wire::Pair {
        name: name.clone(),
        value: value.clone(),
    });
    pairs.collect()
}

fn unpair(pairs: Vec<wire::Pair>) -> Vec<(String, String)> {
    pairs
        .into_iter()
        .map(|pair| (pair.name, pair.value))
        .collect()
}

impl From<InputMarks> for wire::InputMarks {
    fn from(marks: InputMarks) -> Self {
        let InputMarks {
            extract,
            executable,
            cache,
        } = marks;
        Self {
            extract,
            executable,
            cache,
        }
    }
}

impl From<wire::InputMarks> for InputMarks {
    fn from(marks: wire::InputMarks) -> Self {
        Self {
            extract: marks.extract,
            executable: marks.executable,
            cache: marks.cache,
        }
    }
}

impl From<&Input> for wire::Input {
    fn from(input: &Input) -> Self {
        Self {
            source: input.source.clone(),
            path: input.path.clone(),
            digest: input.digest.clone(),
            marks: Some(input.marks.into()),
        }
    }
}

impl From<wire::Input> for Input {
    fn from(input: wire::Input) -> Self {
        Self {
            source: input.source,
            path: input.path,
            digest: input.digest,
            marks: input.marks.unwrap_or_default().into(),
        }
    }
}

impl From<&Executor> for wire::Executor {
    fn from(executor: &Executor) -> Self {
        let how = match executor {
            Executor::Process(argv) => wire::executor::How::Process(wire::Words {
                words: argv.clone(),
            }),
            Executor::Shell(line) => wire::executor::How::Shell(line.clone()),
            Executor::Wasm(input) => wire::executor::How::Wasm(input.into()),
            Executor::Container(container) => wire::executor::How::Container(wire::Container {
                image: container.image.clone(),
                argv: container.argv.clone(),
            }),
        };
        Self { how: Some(how) }
    }
}

impl TryFrom<wire::Executor> for Executor {
    type Error = InvalidMessage;

    fn try_from(executor: wire::Executor) -> Result<Self, InvalidMessage> {
        Ok(match executor.how {
            Some(wire::executor::How::Process(argv)) => Self::Process(argv.words),
            Some(wire::executor::How::Shell(line)) => Self::Shell(line),
            Some(wire::executor::How::Wasm(input)) => Self::Wasm(input.into()),
            Some(wire::executor::How::Container(container)) => Self::Container(Container {
                image: container.image,
                argv: container.argv,
            }),
            None => return Err(InvalidMessage::missing("executor.how")),
        })
    }
}

impl From<&Check> for wire::Check {
    fn from(check: &Check) -> Self {
        let purpose = match check.purpose {
            Purpose::Health => wire::Purpose::Health,
            Purpose::Readiness => wire::Purpose::Readiness,
        };
        let probe = match &check.probe {
            Probe::Command(argv) => wire::check::Probe::Command(wire::Words {
                words: argv.clone(),
            }),
            Probe::Http(probe) => wire::check::Probe::Http(wire::HttpProbe {
                port: probe.port,
                path: probe.path.clone(),
                tls: probe.tls,
            }),
            Probe::Tcp(port) => wire::check::Probe::Tcp(*port),
        };
        Self {
            purpose: purpose.into(),
            probe: Some(probe),
            grace: check.grace.0,
            interval: check.interval.0,
            timeout: check.timeout.0,
            failures: check.failures,
        }
    }
}

impl TryFrom<wire::Check> for Check {
    type Error = InvalidMessage;

    fn try_from(check: wire::Check) -> Result<Self, InvalidMessage> {
        let purpose = match check.purpose() {
            wire::Purpose::Unspecified => return Err(InvalidMessage::missing("check.purpose")),
            wire::Purpose::Health => Purpose::Health,
            wire::Purpose::Readiness => Purpose::Readiness,
        };
        let probe = match check.probe {
            Some(wire::check::Probe::Command(argv)) => Probe::Command(argv.words),
            Some(wire::check::Probe::Http(probe)) => Probe::Http(HttpProbe {
                port: probe.port,
                path: probe.path,
                tls: probe.tls,
            }),
            Some(wire::check::Probe::Tcp(port)) => Probe::Tcp(port),
            None => return Err(InvalidMessage::missing("check.probe")),
        };
        Ok(Self {
            purpose,
            probe,
            grace: Duration(check.grace),
            interval: Duration(check.interval),
            timeout: Duration(check.timeout),
            failures: check.failures,
        })
    }
}

impl From<&Template> for wire::Template {
    fn from(template: &Template) -> Self {
        let Template {
            name,
            executor,
            env,
            inputs,
            checks,
            grace,
            longest,
            group,
            labels,
            options,
        } = template;
        Self {
            name: name.clone(),
            executor: Some(executor.into()),
            env: pairs(env),
            inputs: inputs.iter().map(Into::into).collect(),
            checks: checks.iter().map(Into::into).collect(),
            grace: grace.0,
            longest: longest.map(|longest| longest.0),
            group: group.clone(),
            labels: pairs(labels),
            options: pairs(options),
        }
    }
}

impl TryFrom<wire::Template> for Template {
    type Error = InvalidMessage;

    fn try_from(template: wire::Template) -> Result<Self, InvalidMessage> {
        Ok(Self {
            name: template.name,
            executor: template
                .executor
                .ok_or_else(|| InvalidMessage::missing("template.executor"))?
                .try_into()?,
            env: unpair(template.env),
            inputs: template.inputs.into_iter().map(Into::into).collect(),
            checks: template
                .checks
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            grace: Duration(template.grace),
            longest: template.longest.map(Duration),
            group: template.group,
            labels: unpair(template.labels),
            options: unpair(template.options),
        })
    }
}

impl From<&TaskSpec> for wire::TaskSpec {
    fn from(task: &TaskSpec) -> Self {
        let TaskSpec {
            id,
            template,
            resources,
            args,
            env,
            inputs,
            mounts,
            output,
            priority,
        } = task;
        let mounts = mounts.iter().map(|mount| wire::Mount {
            volume: mount.volume.clone(),
            path: mount.path.clone(),
            read_only: mount.read_only,
        });
        Self {
            id: id.to_string(),
            template: Some(template.into()),
            resources: Some(resources.into()),
            args: args.clone(),
            env: pairs(env),
            inputs: inputs.iter().map(Into::into).collect(),
            mounts: mounts.collect(),
            output: output.clone(),
            priority: *priority,
        }
    }
}

impl TryFrom<wire::TaskSpec> for TaskSpec {
    type Error = InvalidMessage;

    fn try_from(task: wire::TaskSpec) -> Result<Self, InvalidMessage> {
        let mounts = task.mounts.into_iter().map(|mount| Mount {
            volume: mount.volume,
            path: mount.path,
            read_only: mount.read_only,
        });
        Ok(Self {
            id: task_id("task.id", task.id)?,
            template: task
                .template
                .ok_or_else(|| InvalidMessage::missing("task.template"))?
                .try_into()?,
            resources: task.resources.unwrap_or_default().try_into()?,
            args: task.args,
            env: unpair(task.env),
            inputs: task.inputs.into_iter().map(Into::into).collect(),
            mounts: mounts.collect(),
            output: task.output,
            priority: task.priority,
        })
    }
}
