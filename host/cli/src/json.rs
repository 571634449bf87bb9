//! Values as JSON, for scripts. Field names are the protocol's; amounts are numbers of units, times
//! milliseconds since 1970.

use proffer_model::{Amount, AttributeValue, Bundle, Reason, Resources};
use proffer_rpc::operator::{
    Agent, Explanation, Framework, FrameworkDetail, Offer, OfferCounts, Paged, Policy,
    PolicyCanary, PolicyRecord, PolicyTrial, Role, Status, Task,
};
use serde_json::{Map, Value, json};

/// Prints a value, indented for people who look.
pub(crate) fn print(value: &Value) {
    outln!("{value:#}");
}

/// A command that only does something says what it did, if a script asked; a person sees the status.
pub(crate) fn done(as_json: bool, what: impl FnOnce() -> Value) {
    if as_json {
        print(&what());
    }
}

/// A list that was collected from its pages.
pub(crate) fn list<T>(rows: &[T], row: impl Fn(&T) -> Value) -> Value {
    Value::Array(rows.iter().map(row).collect())
}

fn number(amount: Amount) -> Value {
    // Exact for whole units; else the decimal text, read as a number.
    if amount.is_whole() {
        json!(amount.milli() / 1_000)
    } else {
        serde_json::from_str(&amount.to_string()).unwrap_or(Value::Null)
    }
}

fn bundle(bundle: &Bundle) -> Value {
    let mut kinds: Map<String, Value> = bundle
        .amounts()
        .map(|(kind, amount)| (kind.to_owned(), number(amount)))
        .collect();
    if !bundle.ports.is_empty() {
        kinds.insert("ports".to_owned(), json!(bundle.ports.to_string()));
    }
    Value::Object(kinds)
}

pub(crate) fn resources(resources: &Resources) -> Value {
    let piles = resources.piles().map(|(terms, amounts)| {
        let mut pile = bundle(amounts);
        if let (Value::Object(pile), Some(role)) = (&mut pile, terms.reserved.last()) {
            pile.insert("reserved_to".to_owned(), json!(role.as_str()));
        }
        pile
    });
    let mut piles: Vec<Value> = piles.collect();
    match piles.len() {
        0 => json!({}),
        1 => piles.remove(0),
        _ => Value::Array(piles),
    }
}

fn reason(reason: &Reason) -> Value {
    json!({ "code": reason.code, "text": reason.text })
}

fn offer_counts(counts: &OfferCounts) -> Value {
    let OfferCounts {
        made,
        accepted,
        declined,
        expired,
        rescinded,
    } = counts;
    json!({
        "made": made, "accepted": accepted, "declined": declined, "expired": expired,
        "rescinded": rescinded,
    })
}

pub(crate) fn status(status: &Status) -> Value {
    json!({
        "version": status.version, "contract": status.contract, "cluster": status.cluster,
        "started": status.started.0, "now": status.now.0, "http_address": status.http_address,
        "agents": status.agents, "agents_active": status.agents_active,
        "frameworks": status.frameworks, "tasks_active": status.tasks_active,
        "tasks_ended": status.tasks_ended, "pool": bundle(&status.pool),
        "used": bundle(&status.used), "offered": bundle(&status.offered),
        "cycles": status.cycles, "offers": offer_counts(&status.offers),
    })
}

pub(crate) fn agent(agent: &Agent) -> Value {
    let attributes = agent.info.attributes.iter().map(|attribute| {
        let value = match &attribute.value {
            AttributeValue::Text(text) => json!(text),
            AttributeValue::Scalar(amount) => number(*amount),
            AttributeValue::Ranges(ranges) => json!(ranges.to_string()),
        };
        (attribute.name.clone(), value)
    });
    json!({
        "id": agent.id.to_string(), "state": agent.state.name(),
        "since": agent.since.map(|since| since.0), "hostname": &*agent.info.hostname,
        "region": &*agent.info.region, "zone": &*agent.info.zone,
        "attributes": attributes.collect::<Map<String, Value>>(),
        "total": bundle(&agent.total), "used": bundle(&agent.used),
        "offered": bundle(&agent.offered), "tasks": agent.tasks,
        "data_address": agent.data_address, "gone_at": agent.gone_at.map(|at| at.0),
    })
}

pub(crate) fn framework(framework: &Framework) -> Value {
    let roles: Vec<&str> = framework.roles.iter().map(|role| role.as_str()).collect();
    json!({
        "id": framework.id.to_string(), "name": framework.name, "version": framework.version,
        "digest": framework.digest, "roles": roles, "state": framework.state.name(),
        "why": framework.why.as_ref().map(reason), "tasks_active": framework.tasks_active,
        "tasks_ended": framework.tasks_ended, "used": bundle(&framework.used),
        "share_milli": framework.share_milli, "offers": offer_counts(&framework.offers),
    })
}

pub(crate) fn framework_detail(detail: &FrameworkDetail) -> Value {
    let demands = list(&detail.demands, |demand| {
        json!({
            "key": demand.key, "role": demand.role.as_str(), "shape": resources(&demand.shape),
            "count": demand.count, "since": demand.since.0,
        })
    });
    json!({
        "framework": framework(&detail.framework), "config": detail.config, "steps": detail.steps,
        "steps_failed": detail.steps_failed, "last_fault": detail.last_fault.as_ref().map(reason),
        "demands": demands, "suppressed": detail.suppressed, "limits": detail.limits,
        "failing": detail.failing.as_ref().map(|event| json!({ "id": event.id, "what": event.what })),
        "upgrading": detail.upgrading,
        "last_upgrade": detail.last_upgrade.as_ref().map(|upgrade| json!({
            "from": upgrade.from, "version": upgrade.version, "digest": upgrade.digest,
            "at": upgrade.at.0, "refused": upgrade.refused.as_ref().map(reason),
        })),
        "skipped": list(&detail.skipped, |event| {
            json!({ "id": event.id, "what": event.what, "at": event.at.0 })
        }),
    })
}

pub(crate) fn task(task: &Task) -> Value {
    json!({
        "framework": task.framework, "id": task.id.as_str(), "name": task.name,
        "state": task.state.name(), "why": task.why.as_ref().map(reason), "exit": task.exit,
        "agent": task.agent.to_string(), "hostname": task.hostname, "role": task.role.as_str(),
        "resources": resources(&task.resources), "launched": task.launched.0,
        "started": task.started.map(|at| at.0), "ended": task.ended.map(|at| at.0),
    })
}

pub(crate) fn offer(offer: &Offer) -> Value {
    json!({
        "id": offer.id.to_string(), "framework": offer.framework, "role": offer.role.as_str(),
        "agent": offer.agent.to_string(), "hostname": offer.hostname,
        "resources": resources(&offer.resources), "expires": offer.expires.0,
        "demand": offer.demand,
    })
}

pub(crate) fn role(role: &Role) -> Value {
    json!({
        "name": role.name.as_str(), "weight": number(role.weight), "frameworks": role.frameworks,
        "used": bundle(&role.used), "share_milli": role.share_milli,
        "reserved": bundle(&role.reserved),
        "quotas": role.quotas.iter().map(|quota| json!({
            "kind": quota.kind, "guarantee": number(quota.guarantee), "limit": quota.limit.map(number),
        })).collect::<Vec<_>>(),
        "policy": role.policy.as_ref().map(|policy| json!({
            "name": policy.name, "version": policy.version, "digest": policy.digest,
            "config": policy.config, "by": policy.by, "at": policy.at.0, "why": policy.why,
            "fallback": policy.fallback, "last_fault": policy.last_fault.as_ref().map(reason),
            "turns": policy.turns, "native_turns": policy.native_turns, "granted": policy.granted,
            "offers": policy.offers, "stale": policy.stale, "failures": policy.failures,
            "guards": policy.guards, "waiting": policy.waiting,
            "longest_wait_ms": policy.longest_wait.0, "p99_wait_ms": policy.p99_wait.0,
        })),
    })
}

pub(crate) fn policy(policy: &Policy) -> Value {
    json!({
        "name": policy.name, "version": policy.version, "digest": policy.digest,
        "fallback": policy.fallback, "config": policy.config, "cycles": policy.cycles,
        "grants": policy.grants, "rejected": policy.rejected, "stale": policy.stale,
        "failures": policy.failures, "last_fault": policy.last_fault.as_ref().map(reason),
        "number": policy.number, "before": policy.before, "probation": policy.probation,
        "swapping": policy.swapping, "swapped": policy.swapped, "taken_back": policy.taken_back,
        "guards": policy.guards, "waiting": policy.waiting,
        "longest_wait_ms": policy.longest_wait.0, "p99_wait_ms": policy.p99_wait.0,
        "trial": policy.trial.as_ref().map(policy_trial),
        "canary": policy.canary.as_ref().map(policy_canary),
        "would_take_back": policy.would_take_back,
    })
}

fn policy_canary(canary: &PolicyCanary) -> Value {
    json!({
        "name": canary.name, "version": canary.version, "digest": canary.digest,
        "roles": canary.roles, "since": canary.since.0, "until": canary.until.map(|until| until.0),
        "promotes": canary.promotes, "cycles": canary.cycles, "grants": canary.grants,
        "stale": canary.stale, "outside": canary.outside, "left_to_it": canary.left_to_it,
        "waiting": canary.waiting, "longest_wait_ms": canary.longest_wait.0,
        "p99_wait_ms": canary.p99_wait.0, "guards": canary.guards,
    })
}

fn policy_trial(trial: &PolicyTrial) -> Value {
    json!({
        "candidate": trial.candidate, "until": trial.until.0, "ended": trial.ended,
        "fault": trial.fault.as_ref().map(reason), "cycles": trial.cycles, "alike": trial.alike,
        "wanting": trial.wanting, "served": trial.served, "would_serve": trial.would_serve,
        "reclaims": trial.reclaims, "would_reclaim": trial.would_reclaim,
        "invalid": trial.invalid, "would_be_invalid": trial.would_be_invalid,
        "longest_wait_ms": trial.longest_wait.0, "would_wait_ms": trial.would_wait.0,
        "take_back": trial.take_back, "would_take_back": trial.would_take_back,
        "roles": list(&trial.roles, |row| json!({
            "role": row.role, "grants": row.grants, "would_grant": row.would_grant,
            "amounts": bundle(&row.amounts), "would_amounts": bundle(&row.would_amounts),
            "share_milli": row.share_milli, "would_share_milli": row.would_share_milli,
        })),
    })
}

pub(crate) fn policy_record(record: &PolicyRecord) -> Value {
    json!({
        "number": record.number, "name": record.name, "version": record.version,
        "digest": record.digest, "config": record.config, "by": record.by, "at": record.at.0,
        "cause": record.cause.name(), "why": record.why,
        "fault": record.fault.as_ref().map(reason), "before": record.before,
        "guards": record.guards, "roles": record.roles,
        "would_take_back": record.would_take_back,
    })
}

pub(crate) fn explanation(explanation: &Explanation) -> Value {
    let reasons = list(&explanation.reasons, |row| {
        json!({
            "subject": row.subject, "why": reason(&row.why), "agents": row.agents,
            "sample": row.sample.map(|agent| agent.to_string()), "short": resources(&row.short),
            "policy": row.policy,
        })
    });
    json!({ "sentences": explanation.sentences, "reasons": reasons })
}

/// Fetches page after page, up to so many rows.
pub(crate) async fn collect<T, F>(
    limit: usize,
    mut fetch: impl FnMut(proffer_rpc::operator::Page) -> F,
) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = Result<Paged<T>, proffer_rpc::operator::OperatorError>>,
{
    let mut rows = Vec::new();
    let mut page = proffer_rpc::operator::Page {
        size: proffer_rpc::operator::PAGE_SIZE_MAX,
        token: String::new(),
    };
    loop {
        let paged = fetch(page.clone()).await?;
        rows.extend(paged.rows);
        if rows.len() >= limit || paged.next.is_empty() {
            rows.truncate(limit);
            return Ok(rows);
        }
        page.token = paged.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_numbers_and_ports_are_text() {
        let text = "cpus:0.5;mem:128;ports:[1-3];licenses:{a,b}";
        let shown = bundle(&text.parse().unwrap());
        assert_eq!(
            shown.to_string(),
            r#"{"cpus":0.5,"licenses":2,"mem":128,"ports":"[1-3]"}"#
        );
    }
}
