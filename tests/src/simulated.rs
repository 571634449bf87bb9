//! Agents that are not there: what one says when it registers, and when its tasks begin.

use std::sync::Arc;

use proffer_model::agent::{Launch, LaunchUpdate, Registration};
use proffer_model::{
    AgentInfo, ParseResourcesError, Reason, Remedy, Resources, TaskState, TaskUpdate, Timestamp,
    UpdateSource,
};

/// A new agent with these resources, as `cpus:4;mem:8192`.
///
/// # Errors
/// If the resources do not parse.
pub fn registration(number: u32, total: &str) -> Result<Registration, ParseResourcesError> {
    Ok(Registration {
        agent: None,
        key: format!("key {number}"),
        boot: "boot".to_owned(),
        info: Arc::new(AgentInfo {
            hostname: format!("host{number}").into(),
            region: "".into(),
            zone: "".into(),
            attributes: Vec::new(),
        }),
        total: total.parse()?,
        special: Resources::none(),
        data_address: String::new(),
        launches: Vec::new(),
    })
}

/// A launch's first update: its task runs.
#[must_use]
pub fn running(launch: &Launch, at: Timestamp) -> LaunchUpdate {
    LaunchUpdate {
        framework: launch.framework,
        launch: launch.number,
        update: TaskUpdate {
            task: launch.task.id.clone(),
            agent: None,
            state: TaskState::Running,
            sequence: 1,
            at,
            source: UpdateSource::Executor,
            why: Reason::new("", Remedy::Retry, ""),
            exit: None,
            healthy: None,
            ready: None,
            address: String::new(),
            data: Vec::new(),
        },
        latest: TaskState::Running,
    }
}
