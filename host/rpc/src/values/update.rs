//! What became of tasks, on the wire.

use proffer_model::{AgentId, TaskState, TaskUpdate, Timestamp, UpdateSource};

use super::{InvalidMessage, task_id};
use crate::proto::values::v0 as wire;

/// A task's own result, as the framework contract promises.
const DATA_MAX: usize = 64 * 1024;

pub(crate) fn state_to_wire(state: TaskState) -> wire::TaskState {
    match state {
        TaskState::Staging => wire::TaskState::Staging,
        TaskState::Starting => wire::TaskState::Starting,
        TaskState::Running => wire::TaskState::Running,
        TaskState::Killing => wire::TaskState::Killing,
        TaskState::Finished => wire::TaskState::Finished,
        TaskState::Failed => wire::TaskState::Failed,
        TaskState::Killed => wire::TaskState::Killed,
        TaskState::Error => wire::TaskState::Error,
        TaskState::Dropped => wire::TaskState::Dropped,
        TaskState::Gone => wire::TaskState::Gone,
        TaskState::Unreachable => wire::TaskState::Unreachable,
        TaskState::GoneByOperator => wire::TaskState::GoneByOperator,
        TaskState::Unknown => wire::TaskState::Unknown,
    }
}

pub(crate) fn state_from_wire(
    field: &'static str,
    state: wire::TaskState,
) -> Result<TaskState, InvalidMessage> {
    Ok(match state {
        wire::TaskState::Unspecified => return Err(InvalidMessage::missing(field)),
        wire::TaskState::Staging => TaskState::Staging,
        wire::TaskState::Starting => TaskState::Starting,
        wire::TaskState::Running => TaskState::Running,
        wire::TaskState::Killing => TaskState::Killing,
        wire::TaskState::Finished => TaskState::Finished,
        wire::TaskState::Failed => TaskState::Failed,
        wire::TaskState::Killed => TaskState::Killed,
        wire::TaskState::Error => TaskState::Error,
        wire::TaskState::Dropped => TaskState::Dropped,
        wire::TaskState::Gone => TaskState::Gone,
        wire::TaskState::Unreachable => TaskState::Unreachable,
        wire::TaskState::GoneByOperator => TaskState::GoneByOperator,
        wire::TaskState::Unknown => TaskState::Unknown,
    })
}

impl From<&TaskUpdate> for wire::TaskUpdate {
    fn from(update: &TaskUpdate) -> Self {
        let TaskUpdate {
            task,
            agent,
            state,
            sequence,
            at,
            source,
            why,
            exit,
            healthy,
            ready,
            address,
            data,
        } = update;
        let source = match source {
            UpdateSource::Host => wire::UpdateSource::Host,
            UpdateSource::Agent => wire::UpdateSource::Agent,
            UpdateSource::Executor => wire::UpdateSource::Executor,
        };
        Self {
            task: task.to_string(),
            agent: agent.map(|agent| agent.0),
            state: state_to_wire(*state).into(),
            sequence: *sequence,
            at: at.0,
            source: source.into(),
            why: Some(why.into()),
            exit: *exit,
            healthy: *healthy,
            ready: *ready,
            address: address.clone(),
            data: data.clone(),
        }
    }
}

impl TryFrom<wire::TaskUpdate> for TaskUpdate {
    type Error = InvalidMessage;

    fn try_from(update: wire::TaskUpdate) -> Result<Self, InvalidMessage> {
        let state = state_from_wire("update.state", update.state())?;
        let source = match update.source() {
            wire::UpdateSource::Unspecified => {
                return Err(InvalidMessage::missing("update.source"));
            }
            wire::UpdateSource::Host => UpdateSource::Host,
            wire::UpdateSource::Agent => UpdateSource::Agent,
            wire::UpdateSource::Executor => UpdateSource::Executor,
        };
        if update.data.len() > DATA_MAX {
            return Err(InvalidMessage::new(
                "update.data",
                format!("longer than {DATA_MAX} bytes"),
            ));
        }
        Ok(Self {
            task: task_id("update.task", update.task)?,
            agent: update.agent.map(AgentId),
            state,
            sequence: update.sequence,
            at: Timestamp(update.at),
            source,
            why: update
                .why
                .ok_or_else(|| InvalidMessage::missing("update.why"))?
                .try_into()?,
            exit: update.exit,
            healthy: update.healthy,
            ready: update.ready,
            address: update.address,
            data: update.data,
        })
    }
}
