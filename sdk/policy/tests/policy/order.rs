//! Who comes next.

use crate::case::Case;

const WHOLE: &str = r#"{"demand":"ignore"}"#;
const AGENT: &str = "cpus:4;mem:4096";

#[test]
fn whole_agents_go_round() {
    let mut case = Case::configured(WHOLE);
    for name in ["f1", "f2", "f3"] {
        case.client("*", name);
    }
    for index in 0..6 {
        case.agent(&format!("a{index}"), AGENT);
    }
    let words = case.step();
    assert_eq!(words.len(), 6);
    for name in ["f1", "f2", "f3"] {
        let own = words.iter().filter(|line| line.contains(name)).count();
        assert_eq!(own, 2, "{words:?}");
    }
    assert_eq!(case.step(), Vec::<String>::new());
}

#[test]
fn the_smallest_dominant_share_comes_first() {
    let mut case = Case::configured(WHOLE);
    let (f1, _f2) = (case.client("*", "f1"), case.client("*", "f2"));
    let a = case.agent("a", "cpus:10;mem:1000");
    case.hold(a, f1, 0, 0, (0, 1_000, 0));
    case.hold(a, f1, 0, 1, (0, 500_000, 0));
    case.agent("b", "cpus:1;mem:100");
    // f2 gets whichever comes first; after it the shares decide.
    let order: Vec<String> = {
        let words = case.step();
        words.iter().map(|line| line[..4].to_owned()).collect()
    };
    assert!(order.contains(&"a f2".to_owned()), "{order:?}");
}

#[test]
fn weights_and_sub_roles_share_as_a_tree() {
    let mut case = Case::configured(WHOLE);
    case.role("eng", 3);
    case.client("eng", "own");
    case.client("eng/a", "a");
    case.client("eng/b", "b");
    case.client("ops", "ops");
    for index in 0..12 {
        case.agent(&format!("h{index:02}"), AGENT);
    }
    let words = case.step();
    let count = |name: &str| {
        words
            .iter()
            .filter(|line| line.split(' ').nth(1) == Some(name))
            .count()
    };
    assert_eq!(
        [count("own"), count("a"), count("b"), count("ops")],
        [3, 3, 3, 3],
        "{words:?}"
    );
}

#[test]
fn ties_go_by_count_and_then_by_name() {
    let mut case = Case::configured(WHOLE);
    case.client("*", "f2");
    case.client("*", "f1");
    let a = case.agent("a", AGENT);
    assert_eq!(case.step(), ["a f1 *"]);
    case.release_all();
    assert_eq!(case.step(), ["a f2 *"]);
    case.release_all();
    // Equal again, in share and in count.
    assert_eq!(case.step(), ["a f1 *"]);
    assert_eq!(a, 0);
}

#[test]
fn what_inactive_frameworks_hold_counts_for_their_roles() {
    let mut case = Case::configured(WHOLE);
    let idle = case.client_with("r1", "idle", |client| client.marks.active = false);
    case.client("r1", "f1");
    case.client("r2", "f2");
    let a = case.agent("a", AGENT);
    case.agent("b", AGENT);
    for (kind, amount) in [(0, 4_000), (1, 4_096_000)] {
        case.hold(a, idle, 0, kind, (0, amount, 0));
    }
    assert_eq!(case.step(), ["b f2 *"]);
}

#[test]
fn an_agent_with_something_left_is_offered_again() {
    let mut case = Case::configured(WHOLE);
    let f1 = case.client("*", "f1");
    let a = case.agent("a", AGENT);
    case.hold(a, f1, 0, 0, (0, 1_000, 0));
    let proposal = case.decide();
    assert_eq!(case.words(&proposal), ["a f1 *"]);
    let amounts: Vec<i64> = case.amounts(&proposal)[0]
        .iter()
        .map(|cell| cell.1)
        .collect();
    assert_eq!(amounts, [3_000, 4_096_000]);
}

#[test]
fn the_grants_of_a_cycle_are_bounded() {
    let mut case = Case::configured(WHOLE);
    case.client("*", "f1");
    for index in 0..5 {
        case.agent(&format!("a{index}"), AGENT);
    }
    assert_eq!(case.decide_over(None, 3).grants.len(), 3);
    assert_eq!(case.decide_over(Some(vec![1, 4]), 9).grants.len(), 2);
    assert_eq!(case.decide_over(Some(vec![4, 4, 77]), 9).grants.len(), 1);
}

#[test]
fn places_are_the_order_of_service() {
    let mut case = Case::configured(WHOLE);
    case.client("eng", "x");
    case.client("eng/a", "y");
    case.client("ops", "z");
    case.agent("a", AGENT);
    case.step();
    case.release_all();
    let proposal = case.decide();
    assert_eq!(proposal.grants.len(), 1);
    let places: Vec<String> = {
        use proffer_policy::Policy;
        let places = case.policy.places();
        places
            .iter()
            .map(|place| match case.clients.get(place.client as usize) {
                Some(client) => format!("{client} {}", place.count),
                None => format!("role {} {}", place.role, place.count),
            })
            .collect()
    };
    // eng had an allocation, so ops comes before it.
    assert_eq!(
        places,
        ["role 2 0", "z 0", "role 0 1", "role 1 0", "y 0", "x 1"]
    );
}
