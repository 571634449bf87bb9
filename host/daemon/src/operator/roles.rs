//! Why a role gets what it gets.

use proffer_core::{RoleView, WouldTake};
use proffer_model::{Amount, KindQuota, Reason, Remedy, Resources, code};
use proffer_rpc::operator as rpc;

/// What would be taken back is said of so many: a screenful.
const RECLAIMS_SHOWN: usize = 8;

/// In words, and a reason for each limit that is reached and each guarantee that is not met.
pub(super) fn explain(view: &RoleView, policy: &str, reclaims: &[&WouldTake]) -> rpc::Explanation {
    let name = &view.name;
    let mut sentences = vec![format!(
        "{name} weighs {} against its siblings; it uses {}; on offer to it: {}; sub-roles included",
        view.weight,
        in_words(&view.sums.in_use),
        in_words(&view.sums.offered),
    )];
    let mut reasons = Vec::new();
    for quota in &view.quotas {
        let consumed = view.sums.consumed.get(&quota.kind).copied();
        for why in of_quota(name.as_str(), quota, consumed.unwrap_or_default()) {
            sentences.push(why.text.clone());
            reasons.push(rpc::ReasonCount {
                subject: quota.kind.clone(),
                why,
                agents: 0,
                sample: None,
                short: Resources::none(),
                policy: String::new(),
            });
        }
    }
    if reasons.is_empty() {
        sentences.push(format!("no quota keeps anything from {name}"));
    }
    for take in reclaims.iter().take(RECLAIMS_SHOWN) {
        let text = format!("the policy would take back {take}");
        sentences.push(text.clone());
        reasons.push(rpc::ReasonCount {
            subject: name.to_string(),
            why: Reason::new(code::RECLAIM, Remedy::Unsupported, text),
            agents: 1,
            sample: Some(take.agent),
            short: Resources::none(),
            policy: String::new(),
        });
    }
    sentences.push(format!("decided by: {policy}"));
    rpc::Explanation { sentences, reasons }
}

fn of_quota(role: &str, quota: &KindQuota, consumed: Amount) -> Vec<Reason> {
    let kind = &quota.kind;
    let mut reasons = Vec::new();
    if let Some(limit) = quota.limit.filter(|limit| consumed >= *limit) {
        let text = format!(
            "{role} consumes {consumed} {kind} of at most {limit}: no more is offered; \
             `role set {role} --limit` raises it"
        );
        reasons.push(Reason::new(code::OVER_LIMIT, Remedy::Denied, text));
    }
    if consumed < quota.guarantee {
        let text = format!(
            "{role} consumes {consumed} {kind} of the {} that it is guaranteed: what it lacks is held ready \
             for it as it comes free, and is offered to nobody else; `role set {role} --guarantee` changes that",
            quota.guarantee
        );
        reasons.push(Reason::new(code::HELD_BACK, Remedy::Retry, text));
    }
    reasons
}

fn in_words(amounts: &proffer_model::Amounts) -> String {
    let rows = amounts.iter().filter(|(_, amount)| !amount.is_zero());
    let texts: Vec<String> = rows
        .map(|(kind, amount)| format!("{kind}:{amount}"))
        .collect();
    if texts.is_empty() {
        "nothing".to_owned()
    } else {
        texts.join(";")
    }
}
