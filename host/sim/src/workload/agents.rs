//! Agents that run what they are told for as long as the workload says.

use std::sync::Arc;

use proffer_core::{ConnectionId, Event};
use proffer_model::agent::{Launch, LaunchUpdate, Registration};
use proffer_model::{
    AgentInfo, Attribute, AttributeValue, Reason, Remedy, TaskState, TaskUpdate, Timestamp,
    UpdateSource,
};

use super::Machine;

/// A machine's registration.
pub(super) fn registration(number: usize, machine: &Machine) -> Event {
    let attributes = machine.attributes.iter().map(|(name, text)| Attribute {
        name: name.clone(),
        value: AttributeValue::Text(text.clone()),
    });
    Event::AgentRegistered {
        connection: ConnectionId(number as u64),
        registration: Box::new(Registration {
            agent: None,
            key: format!("machine {number}"),
            boot: String::new(),
            info: Arc::new(AgentInfo {
                hostname: machine.name.as_str().into(),
                region: "".into(),
                zone: "".into(),
                attributes: attributes.collect(),
            }),
            total: machine.total.clone(),
            special: proffer_model::Resources::none(),
            data_address: String::new(),
            launches: Vec::new(),
        }),
    }
}

/// The machine that an agent's description is of, as far as constraints go.
pub(super) fn as_machine(info: &AgentInfo) -> Machine {
    let texts = info.attributes.iter().filter_map(|attribute| {
        let AttributeValue::Text(text) = &attribute.value else {
            return None;
        };
        Some((attribute.name.clone(), text.clone()))
    });
    Machine {
        name: info.hostname.to_string(),
        total: proffer_model::Bundle::default(),
        attributes: texts.collect(),
        from: Timestamp(0),
    }
}

/// A task's end.
pub(super) fn ended(launch: &Launch, at: Timestamp) -> Box<LaunchUpdate> {
    Box::new(LaunchUpdate {
        framework: launch.framework,
        launch: launch.number,
        update: TaskUpdate {
            task: launch.task.id.clone(),
            agent: None,
            state: TaskState::Finished,
            sequence: 1,
            at,
            source: UpdateSource::Executor,
            why: Reason::new("exited", Remedy::Retry, "its time was over"),
            exit: Some(0),
            healthy: None,
            ready: None,
            address: String::new(),
            data: Vec::new(),
        },
        latest: TaskState::Finished,
    })
}
