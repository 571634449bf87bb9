//! Where each policy places: the smallest pools in which they differ.

use proffer_model::code;
use proffer_model::policy::{NONE, Question};
use proffer_policy::{Policy, native, native_names};

use crate::case::Case;

/// Two agents of eight processors; of `a` five are used, of `b` one.
fn half_used(name: &str) -> Case<proffer_policy::NativePolicy> {
    let mut case = Case::named(name, "");
    let other = case.client("*", "other");
    let a = case.agent("a", "cpus:8;mem:800");
    let b = case.agent("b", "cpus:8;mem:800");
    case.hold(a, other, 0, 0, (0, 5_000, 0));
    case.hold(b, other, 0, 0, (0, 1_000, 0));
    case.client("*", "f");
    case
}

#[test]
fn binpack_fills_the_fullest_agent_that_a_demand_fits_on() {
    for seed in 0..16 {
        let mut case = half_used("binpack");
        case.seed = seed;
        case.wants(1, "f", "cpus:2;mem:10", 1);
        assert_eq!(case.step(), ["a f cpus:2;mem:10"], "seed {seed}");
        // Of a one is left.
        case.wants(1, "g", "cpus:2;mem:10", 1);
        assert_eq!(case.step(), ["b f cpus:2;mem:10"], "seed {seed}");
    }
}

#[test]
fn spread_levels_agents_unit_by_unit() {
    for seed in 0..16 {
        let mut case = half_used("spread");
        case.seed = seed;
        case.wants(1, "f", "cpus:1;mem:10", 6);
        // Seven are free on b, three on a: five more make them nearly level, then they take turns.
        assert_eq!(
            case.step(),
            ["a f cpus:1;mem:10", "b f cpus:5;mem:50"],
            "seed {seed}"
        );
    }
}

#[test]
fn whole_agents_go_in_the_order_of_the_placement() {
    for (name, first) in [("binpack", "a f *"), ("spread", "b f *")] {
        let mut case = half_used(name);
        case.policy.configure(r#"{"demand":"ignore"}"#).unwrap();
        case.client_with("*", "other", |client| client.marks.suppressed = true);
        case.seed = 3;
        let proposal = case.decide_over(None, 1);
        assert_eq!(case.words(&proposal), [first], "{name}");
    }
}

#[test]
fn fragmentation_keeps_whole_what_whole_is_asked_for() {
    let place = |name: &str, kind: &str| {
        let config = match name {
            "fragmentation" => r#"{"kind":"gpu"}"#,
            _ => "",
        };
        let mut case = Case::named(name, config);
        let f = case.client("*", "f");
        // Best fit takes the agent with less memory free; a whole gpu is only there.
        case.agent("whole", "cpus:8;mem:100;gpu:1");
        let part = case.agent("part", "cpus:8;mem:900;gpu:1");
        case.hold(part, f, 0, case_kind(kind), (0, 600, 0));
        // What this pool is asked for: mostly whole gpus.
        case.wants(f, "whole", "cpus:1;gpu:1", 9);
        case.client_with("*", "f", |client| client.marks.suppressed = true);
        assert_eq!(case.step(), [""; 0]);
        case.wants(f, "whole", "cpus:1;gpu:1", 0);
        case.wants(f, "part", "cpus:1;gpu:0.3", 1);
        case.client("*", "f");
        case.step()
    };
    let case_words = |agent: &str| vec![format!("{agent} f cpus:1;gpu:0.3")];
    for name in ["fragmentation", "binpack"] {
        let expected = if name == "fragmentation" {
            "part"
        } else {
            "whole"
        };
        assert_eq!(place(name, "gpu"), case_words(expected), "{name}");
    }
}

/// Kinds beyond the five that every pool has, in the order in which a case meets them.
fn case_kind(name: &str) -> u32 {
    match name {
        "gpu" => 5,
        _ => NONE,
    }
}

#[test]
fn partitions_are_used_by_their_roles_alone() {
    let mut case = Case::named("static", r#"{"partitions":["prod:2","batch:1","gpu=g"]}"#);
    for name in ["n1", "n2", "n3", "n4", "n5", "n6", "g1"] {
        case.agent(name, "cpus:1;mem:100");
    }
    for (role, name) in [
        ("prod", "p"),
        ("batch/night", "b"),
        ("gpu", "g"),
        ("other", "o"),
    ] {
        let client = case.client(role, name);
        case.wants(client, name, "cpus:1;mem:10", 9);
    }
    assert_eq!(
        case.step(),
        [
            "g1 g cpus:1;mem:10",
            "n1 p cpus:1;mem:10",
            "n2 b cpus:1;mem:10",
            "n3 p cpus:1;mem:10",
            "n4 p cpus:1;mem:10",
            "n5 b cpus:1;mem:10",
            "n6 p cpus:1;mem:10",
        ]
    );
    // A machine behind the others moves none of them.
    case.release_all();
    case.agent("n7", "cpus:1;mem:100");
    let again = case.step();
    assert_eq!(again.len(), 8);
    assert!(
        again.contains(&"n2 b cpus:1;mem:10".to_owned()),
        "{again:?}"
    );
    case.release_all();
    let why = case.explain(1);
    assert_eq!(why[0].why.text, "the agent is in another role's partition");
    assert_eq!(why[1].why.code, code::OFFERABLE, "{:?}", why[1]);
    let why = case.explain(3);
    assert!(why.iter().all(|found| found.why.code == code::CONSTRAINT));
}

#[test]
fn without_a_setting_partitions_follow_weights() {
    let mut case = Case::named("static", "");
    case.role("prod", 3);
    for name in ["n1", "n2", "n3", "n4"] {
        case.agent(name, "cpus:1;mem:100");
    }
    for (role, name) in [("prod/web", "p"), ("batch", "b")] {
        let client = case.client(role, name);
        case.wants(client, name, "cpus:1;mem:10", 9);
    }
    let words = case.step();
    let of = |name: &str| words.iter().filter(|line| line.contains(name)).count();
    assert_eq!((of(" p "), of(" b ")), (3, 1), "{words:?}");
}

#[test]
fn the_registry_makes_what_it_names_and_nothing_else() {
    let names: Vec<&str> = native_names().collect();
    assert_eq!(
        names,
        [
            "binpack",
            "drf",
            "fragmentation",
            "priority",
            "spread",
            "static"
        ]
    );
    for name in names {
        let mut policy = native(name).unwrap();
        policy.configure("").unwrap();
        let empty = policy.explain(&Question {
            client: 0,
            demand: NONE,
            agents: Vec::new(),
        });
        assert_eq!(empty, []);
        let error = policy.configure(r#"{"weight":[]}"#).unwrap_err();
        assert!(error.starts_with("there is no setting 'weight'"), "{error}");
    }
    assert!(native("DRF").is_none());
}

#[test]
fn what_a_configuration_says_wrong_is_said_in_words() {
    for (name, config, part) in [
        (
            "static",
            r#"{"partitions":"prod"}"#,
            "is a list, as in [\"prod:3\"",
        ),
        (
            "static",
            r#"{"partitions":["prod"]}"#,
            "'prod': wanted ROLE:PARTS",
        ),
        (
            "static",
            r#"{"partitions":["prod:0"]}"#,
            "wanted 1 to 1000000 parts",
        ),
        (
            "static",
            r#"{"partitions":["=n"]}"#,
            "wanted a role, and agents",
        ),
        (
            "priority",
            r#"{"priorities":true}"#,
            "is a list, as in [\"prod:100\"",
        ),
        (
            "priority",
            r#"{"priorities":["prod:high"]}"#,
            "'prod:high': wanted ROLE:NUMBER",
        ),
        (
            "priority",
            r#"{"priorities":["a:1","a:2"]}"#,
            "names 'a' twice",
        ),
        (
            "fragmentation",
            r#"{"kind":["gpu"]}"#,
            "is the name of a kind",
        ),
        ("binpack", r#"{"kind":"gpu"}"#, "there is no setting 'kind'"),
        ("spread", r#"{"fair-exclude":true}"#, "is a list of kinds"),
    ] {
        let mut policy = native(name).unwrap();
        let error = policy.configure(config).unwrap_err();
        assert!(error.contains(part), "{name} {config}: {error}");
    }
}
