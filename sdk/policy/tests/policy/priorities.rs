//! Strict priority, and what it would take back.

use proffer_model::RevocableUse;
use proffer_model::policy::{Noun, Proposal, Reclaim, TERMS_PLAIN, TermsMarks, kind};
use proffer_policy::NativePolicy;

use crate::case::Case;

fn case() -> Case<NativePolicy> {
    Case::named("priority", r#"{"priorities":["prod:10","batch:-1"]}"#)
}

/// `CLIENT AGENT TERMS KIND AMOUNT for CLIENT`, row by row.
fn reclaims(case: &Case<NativePolicy>, proposal: &Proposal) -> Vec<String> {
    let line = |reclaim: &Reclaim| {
        let pieces = reclaim.pieces.iter();
        let pieces: Vec<String> = pieces
            .map(|piece| format!("{} {} {}", piece.terms, piece.kind, piece.amount))
            .collect();
        format!(
            "{} {} {} for {}",
            case.clients[reclaim.client as usize],
            case.agents[reclaim.agent as usize],
            pieces.join(" "),
            case.clients[reclaim.beneficiary as usize]
        )
    };
    proposal.reclaims.iter().map(line).collect()
}

#[test]
fn the_higher_role_has_all_that_it_can_use() {
    let mut case = case();
    let (low, high, mid) = (
        case.client("batch", "low"),
        case.client("prod/web", "high"),
        case.client("other", "mid"),
    );
    for name in ["a", "b"] {
        case.agent(name, "cpus:4;mem:400");
    }
    for client in [low, high, mid] {
        let key = client.to_string();
        case.wants(client, &key, "cpus:1;mem:10", 3);
    }
    // Eight units: three and three, and two are left for the lowest, which holds nothing.
    let proposal = case.decide();
    let of = |name: &str| -> u32 {
        let rows = 0..proposal.grants.len();
        let own = rows.filter(|&row| case.clients[proposal.grants.client[row] as usize] == name);
        own.map(|row| case.units_of(&proposal, row)).sum()
    };
    assert_eq!((of("high"), of("mid"), of("low")), (3, 3, 2));
    case.commit(&proposal);
    case.decide();
    let order: Vec<u32> = proffer_policy::Policy::places(&case.policy)
        .into_iter()
        .filter(|place| place.client != proffer_model::policy::NONE)
        .map(|place| place.client)
        .collect();
    assert_eq!(order, [high, mid, low]);
}

#[test]
fn what_is_lacking_would_be_taken_back_from_lower_roles() {
    let mut case = case();
    let (low, high, peer) = (
        case.client("batch", "low"),
        case.client("prod", "high"),
        case.client("prod", "peer"),
    );
    let a = case.agent("a", "cpus:4;mem:400");
    let b = case.agent("b", "cpus:4;mem:400");
    case.hold(a, peer, TERMS_PLAIN, kind::CPUS, (0, 4_000, 0));
    case.hold(b, low, TERMS_PLAIN, kind::CPUS, (0, 3_000, 0));
    case.wants(high, "high", "cpus:2;mem:10", 3);
    let proposal = case.decide();
    // One is free on b already; a unit per agent and cycle; nothing of the peer's.
    assert_eq!(reclaims(&case, &proposal), ["low b 0 0 1 for high"]);
    let reclaim = &proposal.reclaims[0];
    assert_eq!(reclaim.why, "prod has priority over batch");
    // It is on its way: two more may be asked for, and then no more until the notice is over.
    let asked: Vec<usize> = (0..3).map(|_| case.decide().reclaims.len()).collect();
    assert_eq!(asked, [1, 1, 0]);
    case.now += 30_000;
    assert_eq!(case.decide().reclaims.len(), 1);
}

#[test]
fn revocable_resources_would_go_first_and_guarantees_stand() {
    let mut case = case();
    let revocable = case.terms(
        &[],
        TermsMarks {
            revocable: true,
            ..TermsMarks::default()
        },
    );
    let low = case.client("batch", "low");
    let high = case.client_with("prod", "high", |client| client.marks.revocable = true);
    let a = case.agent("a", "cpus:2;mem:400");
    let b = case.agent("b", "mem:400");
    case.more(b, revocable, "cpus:2");
    case.hold(a, low, TERMS_PLAIN, kind::CPUS, (0, 2_000, 0));
    case.hold(b, low, revocable, kind::CPUS, (0, 2_000, 0));
    case.demand_with(high, "high", "cpus:1;mem:10", 2, |demand| {
        demand.revocable = RevocableUse::Also;
    });
    case.quota("batch", "cpus:2", None);
    let proposal = case.decide();
    assert_eq!(reclaims(&case, &proposal), ["low b 1 0 1 for high"]);
    case.now += 60_000;
    case.quota("batch", "cpus:1", None);
    let proposal = case.decide();
    assert_eq!(
        reclaims(&case, &proposal),
        ["low b 1 0 1 for high", "low a 0 0 1 for high"]
    );
}

/// The lowest priority first, of equals the newest; who ends frees all that it holds.
#[test]
fn the_tasks_that_would_end_are_those_with_the_least_to_lose() {
    let mut case = case();
    let (low, other, high) = (
        case.client("batch", "low"),
        case.client("batch", "other"),
        case.client("prod", "high"),
    );
    let agent = case.agent("a", "cpus:8;mem:400");
    case.hold(agent, low, TERMS_PLAIN, kind::CPUS, (0, 7_000, 0));
    case.hold(agent, other, TERMS_PLAIN, kind::CPUS, (0, 1_000, 0));
    let mut task = |client, cpus: &str, rank| case.task((agent, client), (TERMS_PLAIN, cpus), rank);
    let dear = task(low, "cpus:1", (9, 300));
    let old = task(low, "cpus:2", (0, 100));
    task(low, "mem:1", (-1, 300));
    let new = task(low, "cpus:2", (0, 200));
    let cheap = task(low, "cpus:1", (-1, 50));
    task(other, "cpus:1", (-9, 400));
    case.wants(high, "high", "cpus:2;mem:10", 1);
    let ended = |case: &mut Case<NativePolicy>| {
        let reclaims = case.decide().reclaims;
        let ended = reclaims.into_iter().map(|one| (one.client, one.tasks));
        ended.collect::<Vec<_>>()
    };
    assert_eq!(ended(&mut case), [(low, vec![cheap, new])]);
    // It ended by itself.
    case.remove(Noun::Task, cheap);
    case.now += 60_000;
    assert_eq!(ended(&mut case), [(low, vec![new])]);
    case.remove(Noun::Task, new);
    case.hold(agent, low, TERMS_PLAIN, kind::CPUS, (0, 6_000, 0));
    case.wants(high, "high", "cpus:6;mem:10", 1);
    case.now += 60_000;
    assert_eq!(ended(&mut case), [(low, vec![old, dear])]);
}

#[test]
fn without_priorities_nothing_is_taken_back() {
    let mut case = Case::named("priority", "");
    let (low, high) = (case.client("batch", "low"), case.client("prod", "high"));
    let a = case.agent("a", "cpus:4;mem:400");
    case.hold(a, low, TERMS_PLAIN, kind::CPUS, (0, 4_000, 0));
    case.wants(high, "high", "cpus:2;mem:10", 3);
    assert_eq!(case.decide().reclaims, []);
}

#[test]
fn all_that_is_taken_back_is_within_guarantees_and_limits_together() {
    for (guarantee, limit, expected) in [
        ("cpus:0", "cpus:9", 2),
        // Two of four are batch's own.
        ("cpus:2", "cpus:9", 1),
        ("cpus:3", "cpus:9", 0),
        // More than this prod may not have.
        ("cpus:0", "cpus:3", 1),
    ] {
        let mut case = case();
        let high = case.client("prod", "high");
        for (agent, client) in [("a", "one"), ("b", "other")] {
            let agent = case.agent(agent, "cpus:2;mem:400");
            let client = case.client("batch", client);
            case.hold(agent, client, TERMS_PLAIN, kind::CPUS, (0, 2_000, 0));
        }
        case.quota("batch", guarantee, None);
        case.quota("prod", "", Some(limit));
        case.wants(high, "high", "cpus:2;mem:10", 2);
        let proposal = case.decide();
        let lines = reclaims(&case, &proposal);
        assert_eq!(lines.len(), expected, "{guarantee} {limit}: {lines:?}");
    }
}

#[test]
fn two_of_one_role_lose_no_more_than_is_above_its_guarantee() {
    let mut case = case();
    let high = case.client("prod", "high");
    let agent = case.agent("a", "cpus:4;mem:400");
    for client in ["one", "other"] {
        let client = case.client("batch", client);
        case.hold(agent, client, TERMS_PLAIN, kind::CPUS, (0, 2_000, 0));
    }
    case.quota("batch", "cpus:2", None);
    case.wants(high, "high", "cpus:3;mem:10", 1);
    assert_eq!(case.decide().reclaims, []);
    case.wants(high, "high", "cpus:2;mem:10", 1);
    assert_eq!(case.decide().reclaims.len(), 1);
}
