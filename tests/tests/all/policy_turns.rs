//! Weighted round robin: nobody who wants what fits waits for ever, and weights are turns.

use proffer_weighted_round_robin::WeightedRoundRobin;

use crate::case::Case;
use crate::scene::Scene;
use crate::starvation::nobody_starves;

#[test]
fn weighted_round_robin_starves_nobody() {
    let mut served = 0;
    for seed in 0..300 {
        let case = Case::with(WeightedRoundRobin::default(), "");
        served += nobody_starves(case, seed, Scene::Plain)
            .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(served > 300, "only {served} were to be served");
}

#[test]
fn turns_are_as_many_as_weights_say() {
    let mut case = Case::with(WeightedRoundRobin::default(), r#"{"demand":"ignore"}"#);
    case.role("heavy", 3);
    for (role, name) in [("heavy", "h"), ("light", "l")] {
        case.client(role, name);
    }
    case.agent("a", "cpus:1;mem:64");
    let mut turns = [0, 0];
    for _ in 0..40 {
        let proposal = case.decide();
        turns[proposal.grants.client[0] as usize] += 1;
        case.commit(&proposal);
        case.release_all();
    }
    assert_eq!(turns, [30, 10]);
}

#[test]
fn a_newcomer_stands_beside_those_who_had_least() {
    let mut case = Case::with(WeightedRoundRobin::default(), r#"{"demand":"ignore"}"#);
    case.client("*", "old");
    case.agent("a", "cpus:1;mem:64");
    for _ in 0..10 {
        case.step();
        case.release_all();
    }
    case.client("*", "new");
    let mut words = Vec::new();
    for _ in 0..6 {
        words.extend(case.step());
        case.release_all();
    }
    let new = words.iter().filter(|line| line.contains("new")).count();
    assert_eq!(new, 3, "{words:?}");
}
