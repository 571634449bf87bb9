//! Why a client is not granted something: the decision's own predicates, asked again.

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_model::policy::{Cycle, Finding, NONE, Piece, Place, Question};
use proffer_model::{Amount, Reason, Remedy, Timestamp, code};

use crate::cluster::Cluster;
use crate::draft::{Draft, Fence, Rules, Verdict};

/// Roles that something is held ready for are named up to so many: the answer is for people.
const HELD_FOR_MAX: usize = 4;

/// Said of gangs.
const GANG_SHORT: &str = "the whole gang does not fit into the pool at once";

/// At most so many clients are asked whether they come first: the answer is for people, and a pool
/// may have thousands.
const BEFORE_MAX: usize = 64;

/// Answers for each agent of the question, at the time of the last cycle.
pub(super) fn explain(
    cluster: &Cluster,
    rules: &Rules,
    now: Timestamp,
    (question, fence): (&Question, Option<&Arc<Fence>>),
    places: impl FnOnce() -> Vec<Place>,
) -> Vec<Finding> {
    let before = clients_before(question.client, &places());
    let cycle = |agents| Cycle {
        number: 0,
        now,
        seed: 0,
        agents,
        grants_max: u32::MAX,
    };
    let mut draft =
        Draft::new(cluster, rules, &cycle(Some(question.agents.clone()))).fenced(fence.cloned());
    let mut found = BTreeMap::new();
    while let Some(agent) = draft.next_agent() {
        let finding = match draft.probe(question.client, question.demand) {
            Ok(()) => {
                let first = before
                    .iter()
                    .filter(|&&other| draft.probe(other, NONE).is_ok());
                (offerable(first.count()), Vec::new())
            }
            Err(Verdict::NoFit) => (reason(Verdict::NoFit), short(&draft, question, agent)),
            Err(Verdict::HeldBack) => (held_back(&draft), Vec::new()),
            Err(verdict) => (reason(verdict), Vec::new()),
        };
        found.insert(agent, finding);
    }
    // One agent, or a few, is not where a gang need fit.
    let mut pool = Draft::new(cluster, rules, &cycle(None)).fenced(fence.cloned());
    pool.next_agent();
    let gang_fits = pool.probe(question.client, question.demand).is_ok();
    let finding = |&agent: &u32| {
        let (why, short) = match found.get(&agent) {
            Some((why, _)) if why.text == GANG_SHORT && gang_fits => (offerable(0), Vec::new()),
            Some((why, short)) => (why.clone(), short.clone()),
            None => (reason(absent(cluster, agent)), Vec::new()),
        };
        Finding { agent, why, short }
    };
    question.agents.iter().map(finding).collect()
}

/// Why an agent takes no part.
fn absent(cluster: &Cluster, agent: u32) -> Verdict {
    match cluster.agent(agent) {
        Some(_) => Verdict::AgentInactive,
        None => Verdict::Unknown,
    }
}

/// Who would be served before this client.
fn clients_before(client: u32, places: &[Place]) -> Vec<u32> {
    let order = places.iter().filter(|place| place.client != NONE);
    order
        .map(|place| place.client)
        .take_while(|&other| other != client)
        .take(BEFORE_MAX)
        .collect()
}

/// By how much a unit of the demand in question, or of the first, does not fit.
fn short(draft: &Draft<'_>, question: &Question, agent: u32) -> Vec<Piece> {
    let cluster = draft.cluster();
    let demand = match question.demand {
        NONE => cluster
            .client(question.client)
            .and_then(|row| row.demands().first().copied()),
        demand => Some(demand),
    };
    demand.map_or(Vec::new(), |demand| {
        draft.shortfall(question.client, demand, agent)
    })
}

fn offerable(before: usize) -> Reason {
    match before {
        0 => Reason::new(
            code::OFFERABLE,
            Remedy::Retry,
            "an offer for it would be made now",
        ),
        1 => Reason::new(
            code::TURN,
            Remedy::Retry,
            "one other client can use this agent and comes first",
        ),
        before => Reason::new(
            code::TURN,
            Remedy::Retry,
            format!("{before} other clients can use this agent and come first"),
        ),
    }
}

/// What it is held ready for, and what changes that.
fn held_back(draft: &Draft<'_>) -> Reason {
    let unmet = draft.unmet_guarantees();
    let cluster = draft.cluster();
    let name = |role: u32| cluster.role(role).map_or("", |role| role.name.as_str());
    let rows = unmet
        .iter()
        .take(HELD_FOR_MAX)
        .map(|&(role, kind, amount)| {
            let kind = cluster.kind(kind).map_or("", |kind| kind.name.as_str());
            format!("{} {kind} for {}", Amount::from_milli(amount), name(role))
        });
    let mut rows: Vec<String> = rows.collect();
    if unmet.len() > HELD_FOR_MAX {
        rows.push(format!("{} more", unmet.len() - HELD_FOR_MAX));
    }
    let Some(&(first, ..)) = unmet.first() else {
        return reason(Verdict::HeldBack);
    };
    let text = format!(
        "what is free is held ready for guarantees that are not met: {}; it is offered once those roles \
         hold theirs, when more comes free, or when less is guaranteed (`role set {} --guarantee …`)",
        rows.join(", "),
        name(first)
    );
    Reason::new(code::HELD_BACK, Remedy::Retry, text)
}

fn reason(verdict: Verdict) -> Reason {
    let (code, remedy) = match verdict {
        Verdict::Unknown => (code::UNKNOWN, Remedy::ChooseAnew),
        Verdict::ClientInactive => (code::FRAMEWORK_INACTIVE, Remedy::Retry),
        Verdict::Suppressed => (code::SUPPRESSED, Remedy::Mend),
        Verdict::NoDemand => (code::NO_DEMAND, Remedy::Mend),
        Verdict::DemandMet | Verdict::AgentBound => (code::DEMAND_MET, Remedy::Retry),
        Verdict::AgentInactive => (code::AGENT_INACTIVE, Remedy::Retry),
        Verdict::Constraint | Verdict::Region => (code::CONSTRAINT, Remedy::Denied),
        Verdict::Elsewhere => (code::CONSTRAINT, Remedy::Retry),
        Verdict::GpuGuard => (code::GPU_GUARD, Remedy::Denied),
        Verdict::Filtered => (code::FILTERED, Remedy::Retry),
        Verdict::BelowMinimum => (code::BELOW_MINIMUM, Remedy::Retry),
        Verdict::NoFit | Verdict::GangShort => (code::NO_FIT, Remedy::Retry),
        Verdict::CycleFull => (code::TURN, Remedy::Retry),
        Verdict::OverLimit => (code::OVER_LIMIT, Remedy::Denied),
        Verdict::HeldBack => (code::HELD_BACK, Remedy::Retry),
        Verdict::FencedOff => (code::CONSTRAINT, Remedy::Denied),
    };
    Reason::new(code, remedy, text(verdict))
}

/// The sentence for people.
fn text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "the policy does not know it",
        Verdict::ClientInactive => "the framework does not take part now",
        Verdict::Suppressed => "the framework suppressed the role; it gets offers after a revive",
        Verdict::NoDemand => "the framework demands nothing",
        Verdict::DemandMet => "all that it demands is on offer already",
        Verdict::AgentBound => "all that it demands for one agent is on offer here already",
        Verdict::AgentInactive => {
            "the agent is not offered now: inactive, or not on the list of allowed agents"
        }
        Verdict::Constraint => "the agent fails the constraints or lacks the fixed ports",
        Verdict::Elsewhere => "the demand waits for its preferred places first",
        Verdict::GpuGuard => "the agent has gpus and is kept for frameworks that ask for gpus",
        Verdict::Region => {
            "the agent is of another region and the framework does not know of regions"
        }
        Verdict::Filtered => {
            "the framework declined as much on this agent, and its filter still holds"
        }
        Verdict::BelowMinimum => "what is free is less than is worth an offer",
        Verdict::NoFit => "too little is free here that it may have",
        Verdict::GangShort => GANG_SHORT,
        Verdict::CycleFull => "the cycle has as many grants as it may have",
        Verdict::OverLimit => {
            "the role, or one around it, holds as much as its limit allows; `role show` tells both, and \
             `role set … --limit` raises it"
        }
        Verdict::FencedOff => "the agent is in another role's partition",
        Verdict::HeldBack => {
            "what is free is held ready for what roles are guaranteed; `role list` shows their guarantees"
        }
    }
}
