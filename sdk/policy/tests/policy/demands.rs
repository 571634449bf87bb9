//! What is granted to those who say what they could use, and why not.

use proffer_model::policy::{Noun, TermsMarks, kind};
use proffer_model::{RevocableUse, Timestamp, code};

use crate::case::Case;

const AGENT: &str = "cpus:4;mem:4096";

#[test]
fn without_demand_nothing_is_granted() {
    let mut case = Case::new();
    let f1 = case.client("*", "f1");
    case.agent("a", AGENT);
    assert_eq!(case.step(), Vec::<String>::new());
    assert_eq!(case.explain(f1)[0].why.code, code::NO_DEMAND);
}

#[test]
fn units_are_granted_up_to_the_count() {
    let mut case = Case::new();
    let f1 = case.client("*", "f1");
    case.agent("a", AGENT);
    case.wants(f1, "d", "cpus:1;mem:100", 3);
    assert_eq!(case.step(), ["a f1 cpus:3;mem:300"]);
    assert_eq!(case.step(), Vec::<String>::new());
    assert_eq!(case.explain(f1)[0].why.code, code::DEMAND_MET);
}

#[test]
fn two_with_equal_demand_share_an_agent_equally() {
    let mut case = Case::new();
    for name in ["f1", "f2"] {
        let client = case.client("*", name);
        case.wants(client, name, "cpus:1;mem:100", 9);
    }
    case.agent("a", AGENT);
    assert_eq!(case.step(), ["a f1 cpus:2;mem:200", "a f2 cpus:2;mem:200"]);
}

#[test]
fn dominant_shares_are_equal_when_kinds_differ() {
    // The example of the DRF paper: 9 cpus and 18 GB; tasks of (1, 4) and of (3, 1).
    let mut case = Case::new();
    let a = case.client("*", "a");
    let b = case.client("*", "b");
    case.wants(a, "a", "cpus:1;mem:4096", 100);
    case.wants(b, "b", "cpus:3;mem:1024", 100);
    case.agent("m", "cpus:9;mem:18432");
    assert_eq!(case.step(), ["m a cpus:3;mem:12288", "m b cpus:6;mem:2048"]);
}

#[test]
fn a_shape_of_nothing_is_whole_agents() {
    let mut case = Case::new();
    let f1 = case.client("*", "f1");
    for name in ["a", "b", "c"] {
        case.agent(name, AGENT);
    }
    case.wants(f1, "d", "", 2);
    let words = case.step();
    assert_eq!(words.len(), 2);
    assert!(words.iter().all(|line| line.ends_with(" f1 *")));
    assert_eq!(case.step(), Vec::<String>::new());
}

#[test]
fn priorities_hold_within_a_client_only() {
    let mut case = Case::new();
    let f1 = case.client("*", "f1");
    case.demand_with(f1, "low", "cpus:1", 9, |demand| demand.priority = 1);
    case.demand_with(f1, "high", "mem:1024", 3, |demand| demand.priority = 2);
    case.agent("a", AGENT);
    assert_eq!(case.step(), ["a f1 cpus:4", "a f1 mem:3072"]);
    let f2 = case.client("*", "f2");
    case.demand_with(f2, "urgent", "cpus:1", 2, |demand| demand.priority = 99);
    case.release_all();
    assert_eq!(case.step(), ["a f1 cpus:2", "a f1 mem:3072", "a f2 cpus:2"]);
}

#[test]
fn the_bound_per_agent_counts_what_is_on_offer_there() {
    let mut case = Case::new();
    let f1 = case.client("*", "f1");
    case.demand_with(f1, "d", "cpus:1", 9, |demand| demand.per_agent = 2);
    case.agent("a", AGENT);
    case.agent("b", AGENT);
    assert_eq!(case.step(), ["a f1 cpus:2", "b f1 cpus:2"]);
    assert_eq!(case.step(), Vec::<String>::new());
    assert_eq!(case.explain(f1)[0].why.code, code::DEMAND_MET);
}

#[test]
fn a_gang_is_granted_whole_or_not_at_all() {
    let mut case = Case::new();
    let f1 = case.client("*", "f1");
    let f2 = case.client("*", "f2");
    case.demand_with(f1, "d", "cpus:3", 5, |demand| demand.gang = 2);
    case.agent("a", AGENT);
    assert_eq!(case.step(), Vec::<String>::new());
    let why = &case.explain(f1)[0].why;
    assert_eq!(
        (why.code.as_ref(), why.text.contains("gang")),
        (code::NO_FIT, true)
    );
    case.agent("b", AGENT);
    case.agent("c", AGENT);
    case.wants(f2, "e", "cpus:1", 1);
    let words = case.step();
    let gang: Vec<&String> = words
        .iter()
        .filter(|line| line.contains("gang 1"))
        .collect();
    assert_eq!(gang.len(), 2, "{words:?}");
    assert_eq!(words.len(), 3, "{words:?}");
}

#[test]
fn a_gang_of_whole_agents_takes_as_many() {
    let mut case = Case::new();
    let f1 = case.client("*", "f1");
    case.demand_with(f1, "d", "", 4, |demand| demand.gang = 3);
    case.agent("a", AGENT);
    case.agent("b", AGENT);
    assert_eq!(case.step(), Vec::<String>::new());
    case.agent("c", AGENT);
    case.agent("d", AGENT);
    let words = case.step();
    assert_eq!(words.len(), 3, "{words:?}");
    assert!(
        words.iter().all(|line| line.ends_with("* gang 1")),
        "{words:?}"
    );
}

#[test]
fn masks_keep_agents_from_clients_and_demands() {
    let mut case = Case::new();
    let f1 = case.client_with("*", "f1", |client| client.mask = 1);
    for name in ["a", "b", "c"] {
        case.agent(name, AGENT);
    }
    case.mask(1, &[0, 1]);
    case.mask(2, &[1, 2]);
    case.demand_with(f1, "d", "cpus:4", 9, |demand| demand.mask = 2);
    assert_eq!(case.step(), ["b f1 cpus:4"]);
    let codes: Vec<String> = case
        .explain(f1)
        .iter()
        .map(|f| f.why.code.to_string())
        .collect();
    assert_eq!(codes, [code::CONSTRAINT, code::NO_FIT, code::CONSTRAINT]);
}

#[test]
fn preferred_places_come_first_for_a_while() {
    let mut case = Case::new();
    let f1 = case.client("*", "f1");
    for name in ["a", "b"] {
        case.agent(name, AGENT);
    }
    case.demand_with(f1, "d", "cpus:1", 3, |demand| {
        demand.near = vec![(1, 2)];
        demand.near_until = Timestamp(5_000);
    });
    assert_eq!(case.step(), ["b f1 cpus:2"]);
    assert_eq!(case.explain(f1)[0].why.code, code::CONSTRAINT);
    case.now = 5_000;
    assert_eq!(case.step().len(), 1);
}

#[test]
fn a_filter_refuses_subsets_only() {
    let mut case = Case::new();
    let f1 = case.client("*", "f1");
    let a = case.agent("a", AGENT);
    case.wants(f1, "d", "cpus:1;mem:100", 2);
    let filter = case.refuse(f1, a, 0, "cpus:2;mem:200");
    assert_eq!(case.step(), Vec::<String>::new());
    assert_eq!(case.explain(f1)[0].why.code, code::FILTERED);
    case.wants(f1, "d", "cpus:1;mem:100", 3);
    assert_eq!(case.step(), ["a f1 cpus:3;mem:300"]);
    case.release_all();
    case.refuse(f1, a, 0, AGENT);
    assert_eq!(case.step(), Vec::<String>::new());
    case.remove(Noun::Filter, filter);
    assert_eq!(case.step(), Vec::<String>::new());
    case.remove(Noun::Filter, filter + 1);
    assert_eq!(case.step().len(), 1);
}

#[test]
fn counted_items_are_refused_only_if_all_that_are_free_were() {
    for inside in [0, 1] {
        let mut case = Case::new();
        let f1 = case.client("*", "f1");
        let a = case.agent("a", "cpus:4;mem:4096;ports:[1-10]");
        case.wants(f1, "d", "cpus:1;ports:[1-2]", 1);
        case.refuse(f1, a, 0, "cpus:4;mem:4096;ports:[1-10]");
        case.pending.filters.inside = vec![inside];
        assert_eq!(case.step().len(), usize::from(inside == 0));
    }
}

#[test]
fn reservations_are_for_their_role_and_below() {
    let mut case = Case::new();
    let eng = case.terms(&["eng"], TermsMarks::default());
    let refined = case.terms(&["eng", "eng/a"], TermsMarks::default());
    let a = case.agent("a", "cpus:1");
    case.more(a, eng, "cpus:2");
    case.more(a, refined, "cpus:4");
    let clients = [("ops", "ops"), ("eng", "eng"), ("eng/a", "sub")];
    for (role, name) in clients {
        let client = case.client(role, name);
        case.wants(client, name, "cpus:1", 99);
    }
    let words = case.step();
    // Not refined: nobody may have the 4; ops takes the plain one, or eng or sub needed none.
    assert_eq!(words.len(), 3, "{words:?}");
    assert!(words.contains(&"a ops cpus:1".to_owned()), "{words:?}");
    case.release_all();
    case.client_with("eng/a", "sub", |client| client.marks.refined = true);
    let words = case.step();
    let of_sub = words.iter().find(|line| line.contains("sub")).unwrap();
    assert!(of_sub.contains("cpus(2):4"), "{words:?}");
}

#[test]
fn revocable_is_for_those_who_take_it() {
    let mut case = Case::new();
    let marks = TermsMarks {
        revocable: true,
        ..TermsMarks::default()
    };
    let revocable = case.terms(&[], marks);
    let a = case.agent("a", "mem:100");
    case.more(a, revocable, "cpus:2");
    let f1 = case.client("*", "f1");
    case.demand_with(f1, "d", "cpus:1", 9, |demand| {
        demand.revocable = RevocableUse::Also;
    });
    assert_eq!(case.step(), Vec::<String>::new());
    assert_eq!(case.explain(f1)[0].short[0].kind, kind::CPUS);
    case.client_with("*", "f1", |client| client.marks.revocable = true);
    assert_eq!(case.step(), ["a f1 cpus(1):2"]);
    case.release_all();
    case.wants(f1, "d", "cpus:1", 9);
    assert_eq!(case.step(), Vec::<String>::new());
}

#[test]
fn revocable_resources_of_which_too_much_is_held_hide_nothing() {
    let mut case = Case::new();
    let marks = TermsMarks {
        revocable: true,
        ..TermsMarks::default()
    };
    let revocable = case.terms(&[], marks);
    let a = case.agent("a", "cpus:4");
    case.more(a, revocable, "cpus:2");
    let f1 = case.client("*", "f1");
    let f2 = case.client_with("*", "f2", |client| client.marks.revocable = true);
    // Eight of two: the estimate was higher when they were given.
    case.hold(a, f2, revocable, kind::CPUS, (0, 8_000, 0));
    case.wants(f1, "d", "cpus:1", 9);
    assert_eq!(case.step(), ["a f1 cpus:4"]);
}

#[test]
fn agents_with_gpus_are_for_those_who_ask() {
    let mut case = Case::new();
    let plain = case.client("*", "plain");
    case.wants(plain, "d", "cpus:1", 1);
    case.agent("g", "cpus:4;gpus:1");
    assert_eq!(case.step(), Vec::<String>::new());
    assert_eq!(case.explain(plain)[0].why.code, code::GPU_GUARD);
    case.client_with("*", "plain", |client| client.marks.gpus = true);
    assert_eq!(case.step(), ["g plain cpus:1"]);
}

#[test]
fn a_rest_below_the_minimum_is_no_offer_but_a_demanded_unit_is() {
    let mut case = Case::new();
    let f1 = case.client("*", "f1");
    case.agent("a", "cpus:0.005;mem:16");
    case.wants(f1, "d", "", 1);
    assert_eq!(case.step(), Vec::<String>::new());
    assert_eq!(case.explain(f1)[0].why.code, code::BELOW_MINIMUM);
    case.wants(f1, "e", "mem:8", 1);
    assert_eq!(case.step(), ["a f1 mem:8"]);
}

#[test]
fn what_does_not_fit_says_by_how_much() {
    let mut case = Case::new();
    let f1 = case.client("*", "f1");
    case.wants(f1, "d", "cpus:6;mem:5000", 1);
    case.agent("a", AGENT);
    case.agent_with("b", AGENT, |agent| agent.active = false);
    assert_eq!(case.step(), Vec::<String>::new());
    let found = case.explain(f1);
    let short: Vec<(u32, i64)> = found[0]
        .short
        .iter()
        .map(|piece| (piece.kind, piece.amount.milli()))
        .collect();
    assert_eq!(short, [(kind::CPUS, 2_000), (kind::MEM, 904_000)]);
    assert_eq!(found[1].why.code, code::AGENT_INACTIVE);
}

#[test]
fn turn_and_offerable_are_told_apart() {
    let mut case = Case::new();
    let (f1, f2) = (case.client("*", "f1"), case.client("*", "f2"));
    case.wants(f1, "d", "cpus:4", 1);
    case.wants(f2, "e", "cpus:4", 1);
    case.agent("a", AGENT);
    assert_eq!(case.explain(f1)[0].why.code, code::OFFERABLE);
    assert_eq!(case.explain(f2)[0].why.code, code::TURN);
    case.client_with("*", "f1", |client| client.marks.suppressed = true);
    assert_eq!(case.explain(f1)[0].why.code, code::SUPPRESSED);
    assert_eq!(case.step(), ["a f2 cpus:4"]);
}

#[test]
fn what_is_kept_is_for_its_client_only() {
    let mut case = Case::new();
    let (f1, f2) = (case.client("*", "f1"), case.client("*", "f2"));
    let a = case.agent("a", "cpus:4");
    case.hold(a, f2, 0, 0, (0, 0, 3_000));
    case.wants(f1, "d", "cpus:1", 9);
    case.wants(f2, "e", "cpus:1", 9);
    case.client_with("*", "f2", |client| client.marks.suppressed = true);
    assert_eq!(case.step(), ["a f1 cpus:1"]);
    case.client("*", "f2");
    assert_eq!(case.step(), ["a f2 cpus:3"]);
}
