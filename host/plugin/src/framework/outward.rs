//! From the host's types to a framework's: context, batch and its events.

use proffer_model::framework as model;
use proffer_model::{
    AgentId, AgentInfo, AttributeValue, Bundle, Offer, Quantity, Ranges, Reason, Remedy, Resources,
    TaskState, TaskUpdate, UpdateSource, Window,
};

use crate::bindings::framework::proffer::framework::model as wit;
use crate::bindings::framework::proffer::types::values;

pub(crate) fn context(context: &model::Context) -> wit::Context {
    wit::Context {
        name: context.name.clone(),
        id: context.id.clone(),
        cluster: context.cluster.clone(),
        region: context.region.clone(),
        version: context.version.clone(),
        roles: context.roles.iter().map(ToString::to_string).collect(),
        config: context.config.clone(),
        limits: context.limits.clone(),
    }
}

pub(crate) fn batch(batch: model::Batch) -> wit::Batch {
    wit::Batch {
        step: batch.step.0,
        now: batch.now.0,
        agents: batch
            .agents
            .iter()
            .map(|(id, info)| agent(*id, info))
            .collect(),
        events: batch.events.into_iter().map(event).collect(),
    }
}

fn agent(id: AgentId, info: &AgentInfo) -> wit::Agent {
    wit::Agent {
        id: id.0,
        hostname: info.hostname.to_string(),
        region: info.region.to_string(),
        zone: info.zone.to_string(),
        attributes: info
            .attributes
            .iter()
            .map(|attribute| wit::Attribute {
                name: attribute.name.clone(),
                value: match &attribute.value {
                    AttributeValue::Text(text) => wit::AttributeValue::Text(text.clone()),
                    AttributeValue::Scalar(amount) => wit::AttributeValue::Scalar(amount.milli()),
                    AttributeValue::Ranges(set) => wit::AttributeValue::Ranges(ranges(set)),
                },
            })
            .collect(),
    }
}

fn event(event: model::Event) -> wit::Event {
    use model::Event as E;
    match event {
        E::Started(cause) => wit::Event::Started(match cause {
            model::Cause::First => wit::Cause::First,
            model::Cause::Resumed => wit::Cause::Resumed,
            model::Cause::Upgraded(from) => wit::Cause::Upgraded(from),
        }),
        E::ConfigChanged(before) => wit::Event::ConfigChanged(before),
        E::Offers(rows) => wit::Event::Offers(rows.into_iter().map(offer).collect()),
        E::Rescinded(rows) => wit::Event::Rescinded(rescinded(rows)),
        E::InverseOffers(rows) => {
            wit::Event::InverseOffers(rows.into_iter().map(inverse_offer).collect())
        }
        E::InverseRescinded(rows) => wit::Event::InverseRescinded(rescinded(rows)),
        E::Updates(rows) => wit::Event::Updates(rows.into_iter().map(update).collect()),
        E::OperationUpdates(rows) => {
            wit::Event::OperationUpdates(rows.into_iter().map(operation_update).collect())
        }
        E::AgentsChanged(rows) => {
            wit::Event::AgentsChanged(rows.into_iter().map(agent_change).collect())
        }
        E::Messages(rows) => wit::Event::Messages(
            rows.into_iter()
                .map(|row| wit::Message {
                    task: row.task.to_string(),
                    data: row.data,
                })
                .collect(),
        ),
        E::Timers(rows) => wit::Event::Timers(
            rows.into_iter()
                .map(|row| wit::Fired {
                    id: row.id,
                    due: row.due.0,
                })
                .collect(),
        ),
        E::Request(row) => wit::Event::Request(request(row)),
        E::RequestClosed(id) => wit::Event::RequestClosed(id.0),
        E::Rejected(rows) => wit::Event::Rejected(rows.into_iter().map(rejection).collect()),
        E::Reconciled(row) => wit::Event::Reconciled(wit::Reconciled {
            token: row.token,
            answered: row.answered,
            silent: row.silent.iter().map(ToString::to_string).collect(),
        }),
        E::Holdings(row) => wit::Event::Holdings(holdings(row)),
        E::Explained(row) => wit::Event::Explained(explained(row)),
    }
}

fn offer(offer: Offer) -> wit::Offer {
    wit::Offer {
        id: offer.id.0,
        agent: offer.agent.0,
        role: offer.role.to_string(),
        piles: piles(&offer.resources),
        expires: offer.expires.0,
        demand: offer.demand,
        gang: offer.gang,
        down: offer.down.map(window),
    }
}

fn inverse_offer(row: model::InverseOffer) -> wit::InverseOffer {
    wit::InverseOffer {
        id: row.id,
        agent: row.agent.0,
        piles: piles(&row.resources),
        tasks: row.tasks.iter().map(ToString::to_string).collect(),
        why: reason(row.why),
        priority: row.priority,
        by: row.by.0,
        then: match row.then {
            model::Consequence::Nothing => wit::Consequence::Nothing,
            model::Consequence::KillUntilCovered => wit::Consequence::KillUntilCovered,
            model::Consequence::KillAllOnAgent => wit::Consequence::KillAllOnAgent,
        },
        down: row.down.map(window),
    }
}

fn rescinded(rows: Vec<model::Rescinded>) -> Vec<wit::Rescinded> {
    rows.into_iter()
        .map(|row| wit::Rescinded {
            id: row.id,
            why: reason(row.why),
        })
        .collect()
}

fn update(row: TaskUpdate) -> wit::Update {
    wit::Update {
        task: row.task.to_string(),
        agent: row.agent.map(|agent| agent.0),
        state: task_state(row.state),
        sequence: row.sequence,
        at: row.at.0,
        source: match row.source {
            UpdateSource::Host => wit::Source::Host,
            UpdateSource::Agent => wit::Source::Agent,
            UpdateSource::Executor => wit::Source::Executor,
        },
        why: reason(row.why),
        exit: row.exit,
        healthy: row.healthy,
        ready: row.ready,
        address: row.address,
        data: row.data,
    }
}

fn task_state(state: TaskState) -> wit::TaskState {
    match state {
        TaskState::Staging => wit::TaskState::Staging,
        TaskState::Starting => wit::TaskState::Starting,
        TaskState::Running => wit::TaskState::Running,
        TaskState::Killing => wit::TaskState::Killing,
        TaskState::Finished => wit::TaskState::Finished,
        TaskState::Failed => wit::TaskState::Failed,
        TaskState::Killed => wit::TaskState::Killed,
        TaskState::Error => wit::TaskState::Error,
        TaskState::Dropped => wit::TaskState::Dropped,
        TaskState::Gone => wit::TaskState::Gone,
        TaskState::Unreachable => wit::TaskState::Unreachable,
        TaskState::GoneByOperator => wit::TaskState::GoneByOperator,
        TaskState::Unknown => wit::TaskState::Unknown,
    }
}

fn operation_update(row: model::OperationUpdate) -> wit::OperationUpdate {
    wit::OperationUpdate {
        token: row.token,
        agent: row.agent.0,
        state: match row.state {
            model::OperationState::Done => wit::OperationState::Done,
            model::OperationState::Failed => wit::OperationState::Failed,
            model::OperationState::Dropped => wit::OperationState::Dropped,
            model::OperationState::Unreachable => wit::OperationState::Unreachable,
            model::OperationState::Gone => wit::OperationState::Gone,
            model::OperationState::Unknown => wit::OperationState::Unknown,
        },
        why: reason(row.why),
        piles: piles(&row.resources),
    }
}

fn agent_change(row: model::AgentChange) -> wit::AgentChange {
    wit::AgentChange {
        agent: row.agent.0,
        standing: match row.standing {
            model::Standing::Disconnected => wit::Standing::Disconnected,
            model::Standing::Unreachable => wit::Standing::Unreachable,
            model::Standing::Gone => wit::Standing::Gone,
            model::Standing::Returned => wit::Standing::Returned,
        },
        since: row.since.0,
    }
}

fn request(row: model::Request) -> wit::Request {
    wit::Request {
        id: row.id.0,
        method: row.method,
        path: row.path,
        query: row.query,
        headers: row.headers,
        body: row.body,
        principal: row.principal,
        deadline: row.deadline.0,
    }
}

fn rejection(row: model::Rejection) -> wit::Rejection {
    wit::Rejection {
        token: row.token,
        command: row.command,
        subject: row.subject,
        why: reason(row.why),
    }
}

fn holdings(row: model::Holdings) -> wit::Holdings {
    wit::Holdings {
        token: row.token,
        rows: row
            .rows
            .into_iter()
            .map(|row| wit::Holding {
                agent: row.agent.0,
                role: row.role.to_string(),
                piles: piles(&row.resources),
                in_use: row.in_use,
            })
            .collect(),
        last: row.last,
    }
}

fn explained(row: model::Explained) -> wit::Explained {
    wit::Explained {
        token: row.token,
        rows: row
            .rows
            .into_iter()
            .map(|row| wit::Explanation {
                demand: row.demand,
                why: reason(row.why),
                agents: row.agents,
                sample: row.sample.map(|agent| agent.0),
                short: piles(&row.short),
            })
            .collect(),
        last: row.last,
    }
}

fn piles(resources: &Resources) -> Vec<wit::Pile> {
    resources
        .piles()
        .map(|(terms, bundle)| pile((!terms.is_plain()).then(|| wit_terms(terms)), bundle))
        .collect()
}

fn pile(terms: Option<wit::Terms>, bundle: &Bundle) -> wit::Pile {
    wit::Pile {
        terms,
        cpus: bundle.cpus.milli(),
        mem: bundle.mem.milli(),
        disk: bundle.disk.milli(),
        gpus: bundle.gpus.milli(),
        ports: ranges(&bundle.ports),
        other: bundle
            .other
            .iter()
            .map(|(kind, quantity)| wit::Other {
                kind: kind.to_string(),
                value: match quantity {
                    Quantity::Scalar(amount) => wit::Quantity::Scalar(amount.milli()),
                    Quantity::Ranges(set) => wit::Quantity::Ranges(ranges(set)),
                    Quantity::Items(items) => {
                        wit::Quantity::Items(items.iter().map(ToString::to_string).collect())
                    }
                },
            })
            .collect(),
    }
}

fn wit_terms(terms: &proffer_model::Terms) -> wit::Terms {
    let mut marks = wit::Marks::empty();
    for (given, mark) in [
        (terms.marks.dynamic, wit::Marks::DYNAMIC),
        (terms.marks.revocable, wit::Marks::REVOCABLE),
        (terms.marks.shared, wit::Marks::SHARED),
        (terms.marks.indivisible, wit::Marks::INDIVISIBLE),
    ] {
        if given {
            marks |= mark;
        }
    }
    wit::Terms {
        reserved: terms.reserved.iter().map(ToString::to_string).collect(),
        label: terms.label.clone(),
        volume: terms.volume.clone(),
        disk: terms.disk.clone(),
        marks,
    }
}

fn ranges(ranges: &Ranges) -> Vec<values::Range> {
    ranges
        .as_slice()
        .iter()
        .map(|range| values::Range {
            begin: range.begin(),
            end: range.end(),
        })
        .collect()
}

pub(crate) fn window(window: Window) -> values::Window {
    values::Window {
        start: window.start.0,
        length: window.length.map(|length| length.0),
    }
}

pub(crate) fn reason(reason: Reason) -> values::Reason {
    values::Reason {
        code: reason.code.into_owned(),
        text: reason.text,
        remedy: match reason.remedy {
            Remedy::Retry => values::Remedy::Retry,
            Remedy::ChooseAnew => values::Remedy::ChooseAnew,
            Remedy::Mend => values::Remedy::Mend,
            Remedy::Denied => values::Remedy::Denied,
            Remedy::Unsupported => values::Remedy::Unsupported,
        },
    }
}
