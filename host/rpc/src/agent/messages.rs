//! The messages of the agent protocol on the wire.

use std::sync::Arc;

use proffer_model::agent::{
    FromAgent, KnownLaunch, Launch, LaunchUpdate, Origin, Registration, ResolvedInput, SandboxFile,
    ToAgent,
};
use proffer_model::{AgentId, Duration, FrameworkId, LaunchNumber};

use crate::proto::agent::v0 as wire;
use crate::values::{InvalidMessage, name, role, state_from_wire, state_to_wire, task_id};

/// Keys and boot ids: random texts of a few dozen bytes.
const KEY_MAX: usize = 128;

/// A shorter key could be guessed or collide.
const KEY_MIN: usize = 8;

fn key(field: &'static str, text: String) -> Result<String, InvalidMessage> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic());
    if !(KEY_MIN..=KEY_MAX).contains(&text.len()) || !plain {
        return Err(InvalidMessage::new(
            field,
            format!("wanted {KEY_MIN} to {KEY_MAX} printable characters"),
        ));
    }
    Ok(text)
}

impl From<&FromAgent> for wire::FromAgent {
    fn from(message: &FromAgent) -> Self {
        use wire::from_agent::Message;
        let message = match message {
            FromAgent::Register(registration) => Message::Register((&**registration).into()),
            FromAgent::Update(update) => Message::Update((&**update).into()),
            FromAgent::Heartbeat => Message::Heartbeat(wire::Heartbeat {}),
        };
        Self {
            message: Some(message),
        }
    }
}

impl TryFrom<wire::FromAgent> for FromAgent {
    type Error = InvalidMessage;

    fn try_from(message: wire::FromAgent) -> Result<Self, InvalidMessage> {
        use wire::from_agent::Message;
        Ok(match message.message {
            Some(Message::Register(registration)) => {
                Self::Register(Box::new(registration.try_into()?))
            }
            Some(Message::Update(update)) => Self::Update(Box::new(update.try_into()?)),
            Some(Message::Heartbeat(_)) => Self::Heartbeat,
            None => return Err(InvalidMessage::missing("message")),
        })
    }
}

impl From<&Registration> for wire::Registration {
    fn from(registration: &Registration) -> Self {
        let Registration {
            agent,
            key,
            boot,
            info,
            total,
            special,
            data_address,
            launches,
        } = registration;
        let launches = launches.iter().map(|known| wire::KnownLaunch {
            launch: known.launch.0,
            framework: known.framework.0,
            task: known.task.to_string(),
            role: known.role.to_string(),
            latest: state_to_wire(known.latest).into(),
        });
        Self {
            agent: agent.map(|agent| agent.0),
            key: key.clone(),
            boot: boot.clone(),
            info: Some((&**info).into()),
            total: Some(total.into()),
            data_address: data_address.clone(),
            launches: launches.collect(),
            special: (!special.is_empty()).then(|| special.into()),
        }
    }
}

impl TryFrom<wire::Registration> for Registration {
    type Error = InvalidMessage;

    fn try_from(registration: wire::Registration) -> Result<Self, InvalidMessage> {
        let launches = registration.launches.into_iter().map(|known| {
            Ok(KnownLaunch {
                latest: state_from_wire("launches.latest", known.latest())?,
                launch: LaunchNumber(known.launch),
                framework: FrameworkId(known.framework),
                task: task_id("launches.task", known.task)?,
                role: role("launches.role", known.role)?,
            })
        });
        let info = registration
            .info
            .ok_or_else(|| InvalidMessage::missing("info"))?;
        Ok(Self {
            launches: launches.collect::<Result<_, _>>()?,
            agent: registration.agent.map(AgentId),
            key: key("key", registration.key)?,
            boot: key("boot", registration.boot)?,
            info: Arc::new(info.try_into()?),
            total: registration
                .total
                .ok_or_else(|| InvalidMessage::missing("total"))?
                .try_into()?,
            special: registration.special.unwrap_or_default().try_into()?,
            data_address: name("data_address", registration.data_address)?,
        })
    }
}

impl From<&LaunchUpdate> for wire::LaunchUpdate {
    fn from(update: &LaunchUpdate) -> Self {
        Self {
            framework: update.framework.0,
            launch: update.launch.0,
            update: Some((&update.update).into()),
            latest: state_to_wire(update.latest).into(),
        }
    }
}

impl TryFrom<wire::LaunchUpdate> for LaunchUpdate {
    type Error = InvalidMessage;

    fn try_from(update: wire::LaunchUpdate) -> Result<Self, InvalidMessage> {
        Ok(Self {
            latest: state_from_wire("latest", update.latest())?,
            framework: FrameworkId(update.framework),
            launch: LaunchNumber(update.launch),
            update: update
                .update
                .ok_or_else(|| InvalidMessage::missing("update"))?
                .try_into()?,
        })
    }
}

impl From<&ToAgent> for wire::ToAgent {
    fn from(message: &ToAgent) -> Self {
        use wire::to_agent::Message;
        let message = match message {
            ToAgent::Registered {
                agent,
                heartbeat,
                timeout,
            } => Message::Registered(wire::Registered {
                agent: agent.0,
                heartbeat: heartbeat.0,
                timeout: timeout.0,
            }),
            ToAgent::Refused { why } => Message::Refused(wire::Refused { why: why.clone() }),
            ToAgent::Launch(launches) => Message::Launch(wire::Launches {
                launches: launches.iter().map(Into::into).collect(),
            }),
            ToAgent::Kill {
                framework,
                launch,
                grace,
            } => Message::Kill(wire::Kill {
                framework: framework.0,
                launch: launch.0,
                grace: grace.0,
            }),
            ToAgent::Acknowledge { launch, sequence } => Message::Acknowledge(wire::Acknowledge {
                launch: launch.0,
                sequence: *sequence,
            }),
            ToAgent::RemoveFramework { framework } => {
                Message::RemoveFramework(wire::RemoveFramework {
                    framework: framework.0,
                })
            }
            ToAgent::Heartbeat => Message::Heartbeat(wire::Heartbeat {}),
        };
        Self {
            message: Some(message),
        }
    }
}

impl TryFrom<wire::ToAgent> for ToAgent {
    type Error = InvalidMessage;

    fn try_from(message: wire::ToAgent) -> Result<Self, InvalidMessage> {
        use wire::to_agent::Message;
        Ok(match message.message {
            Some(Message::Registered(registered)) => Self::Registered {
                agent: AgentId(registered.agent),
                heartbeat: positive("heartbeat", registered.heartbeat)?,
                timeout: positive("timeout", registered.timeout)?,
            },
            Some(Message::Refused(refused)) => Self::Refused { why: refused.why },
            Some(Message::Launch(launches)) => {
                if launches.launches.is_empty() {
                    return Err(InvalidMessage::new("launches", "there is none"));
                }
                let launches = launches.launches.into_iter().map(TryInto::try_into);
                Self::Launch(launches.collect::<Result<_, _>>()?)
            }
            Some(Message::Kill(kill)) => Self::Kill {
                framework: FrameworkId(kill.framework),
                launch: LaunchNumber(kill.launch),
                grace: Duration(kill.grace),
            },
            Some(Message::Acknowledge(acknowledge)) => Self::Acknowledge {
                launch: LaunchNumber(acknowledge.launch),
                sequence: acknowledge.sequence,
            },
            Some(Message::RemoveFramework(remove)) => Self::RemoveFramework {
                framework: FrameworkId(remove.framework),
            },
            Some(Message::Heartbeat(_)) => Self::Heartbeat,
            None => return Err(InvalidMessage::missing("message")),
        })
    }
}

fn positive(field: &'static str, millis: u64) -> Result<Duration, InvalidMessage> {
    if millis == 0 {
        return Err(InvalidMessage::new(field, "it is 0"));
    }
    Ok(Duration(millis))
}

impl From<&Launch> for wire::Launch {
    fn from(launch: &Launch) -> Self {
        let Launch {
            number,
            framework,
            framework_name,
            role,
            task,
            inputs,
        } = launch;
        Self {
            number: number.0,
            framework: framework.0,
            framework_name: framework_name.to_string(),
            role: role.to_string(),
            task: Some((&**task).into()),
            inputs: inputs.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Launch> for Launch {
    type Error = InvalidMessage;

    fn try_from(launch: wire::Launch) -> Result<Self, InvalidMessage> {
        let task = launch
            .task
            .ok_or_else(|| InvalidMessage::missing("task"))?
            .try_into()?;
        Ok(Self {
            number: LaunchNumber(launch.number),
            framework: FrameworkId(launch.framework),
            framework_name: name("framework_name", launch.framework_name)?.into(),
            role: role("role", launch.role)?,
            task: Arc::new(task),
            inputs: launch
                .inputs
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<&ResolvedInput> for wire::ResolvedInput {
    fn from(input: &ResolvedInput) -> Self {
        use wire::resolved_input::From;
        let from = match &input.from {
            Origin::File(path) => From::File(path.clone()),
            Origin::Http(url) => From::Http(url.clone()),
            Origin::Sandbox(file) => From::Sandbox(file.into()),
            Origin::Sandboxes(files) => {
                let files = files.iter().map(|(name, file)| wire::NamedSandboxFile {
                    name: name.clone(),
                    file: Some(file.into()),
                });
                From::Sandboxes(wire::SandboxFiles {
                    files: files.collect(),
                })
            }
        };
        Self {
            path: input.path.clone(),
            digest: input.digest.clone(),
            marks: Some(input.marks.into()),
            from: Some(from),
        }
    }
}

impl TryFrom<wire::ResolvedInput> for ResolvedInput {
    type Error = InvalidMessage;

    fn try_from(input: wire::ResolvedInput) -> Result<Self, InvalidMessage> {
        use wire::resolved_input::From;
        let from = match input.from {
            Some(From::File(path)) => Origin::File(path),
            Some(From::Http(url)) => Origin::Http(url),
            Some(From::Sandbox(file)) => Origin::Sandbox(file.into()),
            Some(From::Sandboxes(files)) => {
                let files = files.files.into_iter().map(|named| {
                    let file = named
                        .file
                        .ok_or_else(|| InvalidMessage::missing("sandboxes.file"))?;
                    Ok((name("sandboxes.name", named.name)?, file.into()))
                });
                Origin::Sandboxes(files.collect::<Result<_, InvalidMessage>>()?)
            }
            None => return Err(InvalidMessage::missing("inputs.from")),
        };
        Ok(Self {
            path: input.path,
            digest: input.digest,
            marks: input.marks.unwrap_or_default().into(),
            from,
        })
    }
}

impl From<&SandboxFile> for wire::SandboxFile {
    fn from(file: &SandboxFile) -> Self {
        Self {
            agent: file.agent.0,
            address: file.address.clone(),
            launch: file.launch.0,
            path: file.path.clone(),
        }
    }
}

impl From<wire::SandboxFile> for SandboxFile {
    fn from(file: wire::SandboxFile) -> Self {
        Self {
            agent: AgentId(file.agent),
            address: file.address,
            launch: LaunchNumber(file.launch),
            path: file.path,
        }
    }
}
