//! From a framework's answer, which is untrusted, to the host's commands.
//!
//! What is malformed in one command makes that command (or operation) a `Malformed` one, with a
//! reason, so that the rest still happens and nothing is silent. Only an answer that is too large as
//! a whole is refused as a whole.

use proffer_model::framework::{self as model, Command, Rejection};
use proffer_model::state::STATE_STEP_BYTES_MAX;
use proffer_model::{
    AgentId, Duration, OfferId, Reason, Remedy, RequestId, RoleName, TaskId, Timestamp, code,
};

use crate::bindings::framework::proffer::framework::model as wit;
use crate::log::printable;

mod demand;
mod resources;
mod task;

/// Commands of one answer: the core does each by itself.
const COMMANDS_MAX: usize = 4_096;
/// Bodies of responses and publications of one answer; they go to no store.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Ids and names that authors choose: they become keys of the store.
const ID_BYTES_MAX: usize = 255;
/// A message to a task goes through the agent's connection.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Why one command cannot be read.
pub(crate) struct Malformed(pub(crate) String);

type Read<T> = Result<T, Malformed>;

/// The answer in the host's types. `state_bytes`: what the step wrote; both are one record.
///
/// The error says what is too large.
pub(crate) fn answer(answer: wit::Answer, state_bytes: usize) -> Result<model::Answer, String> {
    if answer.commands.len() > COMMANDS_MAX {
        return Err(format!(
            "{} commands, more than {COMMANDS_MAX}",
            answer.commands.len()
        ));
    }
    let mut size = Size::default();
    for template in &answer.templates {
        size.template(template);
    }
    for command in &answer.commands {
        size.command(command);
    }
    if size.bodies > BODY_BYTES_MAX {
        return Err(format!(
            "{} bytes of responses and publications, more than {BODY_BYTES_MAX}",
            size.bodies
        ));
    }
    let record = size.record.saturating_add(state_bytes);
    if record > STATE_STEP_BYTES_MAX {
        return Err(format!(
            "{} bytes of commands and {state_bytes} of state, together more than {STATE_STEP_BYTES_MAX}",
            size.record
        ));
    }
    let templates = task::templates(answer.templates);
    let mut launched = 0;
    let mut commands = Vec::with_capacity(answer.commands.len());
    for command in answer.commands {
        let asked = match &command {
            wit::Command::Respond(row) => Some(RequestId(row.request)),
            _ => None,
        };
        let command = read_command(command, &templates, &mut launched);
        if let (Some(request), Command::Malformed(rejection)) = (asked, &command) {
            commands.push(unfit_response(request, &rejection.why.text));
        }
        commands.push(command);
    }
    // Templates are copied into their tasks, so few bytes can become many.
    if launched > task::EXPANDED_BYTES_MAX {
        return Err(format!(
            "{launched} bytes of tasks with their templates, more than {}",
            task::EXPANDED_BYTES_MAX
        ));
    }
    Ok(model::Answer { commands })
}

/// A rough size in the store, with the weight of what is counted rather than spelled out.
#[derive(Default)]
struct Size {
    record: usize,
    bodies: usize,
}

fn read_command(
    command: wit::Command,
    templates: &task::Templates,
    launched: &mut usize,
) -> Command {
    let what = Told::of(&command);
    read(command, templates, launched).unwrap_or_else(|Malformed(problem)| {
        Command::Malformed(Rejection {
            token: what.token,
            command: what.name.to_owned(),
            subject: what.subject,
            why: invalid(problem),
        })
    })
}

pub(crate) fn invalid(problem: String) -> Reason {
    Reason::new(code::INVALID, Remedy::Mend, problem)
}

/// How a command is told back if it is malformed.
struct Told {
    name: &'static str,
    token: String,
    subject: String,
}

impl Told {
    fn of(command: &wit::Command) -> Self {
        use wit::Command as C;
        let (name, token, subject) = match command {
            C::Accept(_) => ("accept", "", String::new()),
            C::Decline(_) => ("decline", "", String::new()),
            C::Keep(_) => ("keep", "", String::new()),
            C::AnswerInverse(row) => ("answer-inverse", "", row.id.to_string()),
            C::Kill(row) => ("kill", "", row.task.clone()),
            C::Reconcile(row) => ("reconcile", row.token.as_str(), String::new()),
            C::Suppress(_) => ("suppress", "", String::new()),
            C::Revive(_) => ("revive", "", String::new()),
            C::SetDemand(row) => ("set-demand", "", row.key.clone()),
            C::ClearDemand(_) => ("clear-demand", "", String::new()),
            C::SetTimer(row) => ("set-timer", "", row.id.clone()),
            C::CancelTimer(id) => ("cancel-timer", "", id.clone()),
            C::SetAvailability(row) => ("set-availability", "", row.group.clone()),
            C::Respond(row) => ("respond", "", row.request.to_string()),
            C::Publish(_) => ("publish", "", String::new()),
            C::Message(row) => ("message", "", row.task.clone()),
            C::ListHoldings(token) => ("list-holdings", token.as_str(), String::new()),
            C::Explain(row) => ("explain", row.token.as_str(), String::new()),
            C::Finish(_) => ("finish", "", String::new()),
        };
        Self {
            name,
            token: printable(token, ID_BYTES_MAX),
            subject: printable(&subject, ID_BYTES_MAX),
        }
    }
}

fn read(command: wit::Command, templates: &task::Templates, launched: &mut usize) -> Read<Command> {
    use wit::Command as C;
    Ok(match command {
        C::Accept(row) => Command::Accept(accept(row, templates, launched)),
        C::Decline(row) => Command::Decline(model::Decline {
            offers: offers(row.offers),
            refuse: row.refuse.map(Duration),
            why: row.why,
        }),
        C::Keep(ids) => Command::Keep(offers(ids)),
        C::AnswerInverse(row) => Command::AnswerInverse(model::InverseAnswer {
            id: row.id,
            accept: row.accept,
            tasks: task_ids(row.tasks)?,
            at: row.at.map(Timestamp),
            refuse: Duration(row.refuse),
            why: row.why,
        }),
        C::Kill(row) => Command::Kill(model::Kill {
            task: row.task,
            grace: row.grace.map(Duration),
            why: row.why,
        }),
        C::Reconcile(row) => Command::Reconcile(model::Reconcile {
            token: id("token", row.token, Empty::Allowed)?,
            tasks: row.tasks,
        }),
        C::Suppress(names) => Command::Suppress(roles(names)?),
        C::Revive(names) => Command::Revive(roles(names)?),
        C::SetDemand(row) => Command::SetDemand(Box::new(demand::read(row)?)),
        C::ClearDemand(keys) => Command::ClearDemand(keys),
        C::SetTimer(row) => Command::SetTimer(model::Timer {
            id: id("timer id", row.id, Empty::Refused)?,
            due: match row.due {
                wit::Due::At(at) => model::Due::At(Timestamp(at)),
                wit::Due::After(span) => model::Due::After(Duration(span)),
            },
        }),
        C::CancelTimer(timer) => Command::CancelTimer(timer),
        C::SetAvailability(row) => Command::SetAvailability(model::Availability {
            group: id("group", row.group, Empty::Refused)?,
            down_max: row.down_max,
            down_for: Duration(row.down_for),
        }),
        C::Respond(row) => Command::Respond(response(row)?),
        C::Publish(row) => Command::Publish(model::Publication {
            topics: topics(row.topics)?,
            data: row.data,
            close: row.close,
        }),
        C::Message(row) => Command::Message(message(row)?),
        C::ListHoldings(token) => Command::ListHoldings(id("token", token, Empty::Allowed)?),
        C::Explain(row) => Command::Explain(model::ExplainDemands {
            token: id("token", row.token, Empty::Allowed)?,
            demands: row.demands,
        }),
        C::Finish(row) => Command::Finish(model::Finish {
            text: row.text,
            kill_tasks: row.kill_tasks,
            release: row.release,
        }),
    })
}

fn accept(row: wit::Accept, templates: &task::Templates, launched: &mut usize) -> model::Accept {
    let parts = row.parts.into_iter().map(|part| {
        let operations = part.operations.into_iter();
        model::Part {
            agent: part.agent.map(AgentId),
            offers: offers(part.offers),
            operations: operations
                .flat_map(|operation| task::operation(operation, templates, launched))
                .collect(),
        }
    });
    model::Accept {
        parts: parts.collect(),
        whole: row.whole,
        refuse: row.refuse.map(Duration),
    }
}

fn offers(ids: Vec<u64>) -> Vec<OfferId> {
    ids.into_iter().map(OfferId).collect()
}

fn task_ids(ids: Vec<String>) -> Read<Vec<TaskId>> {
    ids.into_iter()
        .map(|id| TaskId::new(id).map_err(|error| Malformed(error.to_string())))
        .collect()
}

fn roles(names: Vec<String>) -> Read<Vec<RoleName>> {
    names.into_iter().map(role).collect()
}

pub(crate) fn role(name: String) -> Read<RoleName> {
    RoleName::new(name).map_err(|error| Malformed(error.to_string()))
}

/// Whether an id may be empty.
#[derive(Clone, Copy)]
pub(crate) enum Empty {
    Allowed,
    Refused,
}

pub(crate) fn id(what: &str, text: String, empty: Empty) -> Read<String> {
    let problem = if text.len() > ID_BYTES_MAX {
        format!("is longer than {ID_BYTES_MAX} bytes")
    } else if text.chars().any(char::is_control) {
        "has control characters".to_owned()
    } else if text.is_empty() && matches!(empty, Empty::Refused) {
        "is empty".to_owned()
    } else {
        return Ok(text);
    };
    Err(Malformed(format!(
        "the {what} '{}' {problem}",
        printable(&text, 64)
    )))
}

/// A response that cannot be passed on. Whoever asked is told at once that the framework answered
/// nonsense; waiting for a better answer would end in the same.
fn unfit_response(request: RequestId, why: &str) -> Command {
    Command::Respond(model::Response {
        request,
        status: 500,
        headers: Vec::new(),
        body: format!("the framework answered with {why}\n").into_bytes(),
        topics: Vec::new(),
    })
}

fn response(row: wit::Response) -> Read<model::Response> {
    if !(200..600).contains(&row.status) {
        return Err(Malformed(format!(
            "{} is not a response's status: wanted 200 to 599",
            row.status
        )));
    }
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    for (name, value) in &row.headers {
        if name.is_empty() || !name.bytes().all(token) {
            return Err(Malformed(format!(
                "'{}' is not a header's name",
                printable(name, 64)
            )));
        }
        if value.chars().any(char::is_control) {
            return Err(Malformed(format!(
                "the header {name} has control characters in its value"
            )));
        }
    }
    Ok(model::Response {
        request: RequestId(row.request),
        status: row.status,
        headers: row.headers,
        body: row.body,
        topics: topics(row.topics)?,
    })
}

fn topics(topics: Vec<String>) -> Read<Vec<String>> {
    topics
        .into_iter()
        .map(|topic| id("topic", topic, Empty::Refused))
        .collect()
}

fn message(row: wit::Message) -> Read<model::Message> {
    if row.data.len() > MESSAGE_BYTES_MAX {
        return Err(Malformed(format!(
            "a message of {} bytes, more than {MESSAGE_BYTES_MAX}",
            row.data.len()
        )));
    }
    Ok(model::Message {
        task: TaskId::new(row.task).map_err(|error| Malformed(error.to_string()))?,
        data: row.data,
    })
}

mod size;

#[cfg(test)]
mod tests;
