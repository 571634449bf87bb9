//! The vocabulary between host and frameworks.

use proffer_model::framework;

use crate::{codec_enum, codec_struct};

codec_struct!(framework::Batch {
    step,
    now,
    agents,
    events
});
codec_enum!(framework::Event {
    Started(a), ConfigChanged(a), Offers(a), Rescinded(a), InverseOffers(a), InverseRescinded(a),
    Updates(a), OperationUpdates(a), AgentsChanged(a), Messages(a), Timers(a), Request(a),
    RequestClosed(a), Rejected(a), Reconciled(a), Holdings(a), Explained(a),
});
codec_enum!(framework::Cause { First, Resumed, Upgraded(a) });
codec_struct!(framework::Rescinded { id, why });
codec_struct!(framework::InverseOffer {
    id,
    agent,
    resources,
    tasks,
    why,
    priority,
    by,
    then,
    down
});
codec_enum!(framework::Consequence {
    Nothing,
    KillUntilCovered,
    KillAllOnAgent
});
codec_struct!(framework::OperationUpdate {
    token,
    agent,
    state,
    why,
    resources
});
codec_enum!(framework::OperationState {
    Done,
    Failed,
    Dropped,
    Unreachable,
    Gone,
    Unknown
});
codec_struct!(framework::AgentChange {
    agent,
    standing,
    since
});
codec_enum!(framework::Standing {
    Disconnected,
    Unreachable,
    Gone,
    Returned
});
codec_struct!(framework::Message { task, data });
codec_struct!(framework::Fired { id, due });
codec_struct!(framework::Request {
    id,
    method,
    path,
    query,
    headers,
    body,
    principal,
    deadline
});
codec_struct!(framework::Rejection {
    token,
    command,
    subject,
    why
});
codec_struct!(framework::Reconciled {
    token,
    answered,
    silent
});
codec_struct!(framework::Holdings { token, rows, last });
codec_struct!(framework::Holding {
    agent,
    role,
    resources,
    in_use
});
codec_struct!(framework::Explained { token, rows, last });
codec_struct!(framework::Explanation {
    demand,
    why,
    agents,
    sample,
    short
});
codec_struct!(framework::Answer { commands });
codec_enum!(framework::Command {
    Accept(a), Decline(a), Keep(a), AnswerInverse(a), Kill(a), Reconcile(a), Suppress(a),
    Revive(a), SetDemand(a), ClearDemand(a), SetTimer(a), CancelTimer(a), SetAvailability(a),
    Respond(a), Publish(a), Message(a), ListHoldings(a), Explain(a), Finish(a), Malformed(a),
});
codec_struct!(framework::Accept {
    parts,
    whole,
    refuse
});
codec_struct!(framework::Part {
    agent,
    offers,
    operations
});
codec_struct!(framework::Operation { token, act });
codec_enum!(framework::Act {
    Launch(a), LaunchGroup(a), Reserve(a), Unreserve(a), CreateVolume(a), DestroyVolume(a),
    Malformed(a, b),
});
codec_struct!(framework::MalformedTask { id, why });
codec_struct!(framework::Reserve {
    resources,
    role,
    label
});
codec_struct!(framework::CreateVolume { id, take, shared });
codec_struct!(framework::Decline {
    offers,
    refuse,
    why
});
codec_struct!(framework::InverseAnswer {
    id,
    accept,
    tasks,
    at,
    refuse,
    why
});
codec_struct!(framework::Kill { task, grace, why });
codec_struct!(framework::Reconcile { token, tasks });
codec_struct!(framework::Timer { id, due });
codec_enum!(framework::Due { At(a), After(a) });
codec_struct!(framework::Availability {
    group,
    down_max,
    down_for
});
codec_struct!(framework::Response {
    request,
    status,
    headers,
    body,
    topics
});
codec_struct!(framework::Publication {
    topics,
    data,
    close
});
codec_struct!(framework::ExplainDemands { token, demands });
codec_struct!(framework::Finish {
    text,
    kill_tasks,
    release
});
codec_enum!(framework::StateWrite { Set(a, b), Delete(a), DeleteRange(a, b) });
