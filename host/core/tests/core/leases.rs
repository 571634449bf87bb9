//! Offers that end, and the arithmetic under them: behaviours 9 to 13.

use proffer_core::{CoreConfig, Event};
use proffer_model::framework::Command;
use proffer_model::{Amount, RoleName, TaskState};

use super::cluster::Cluster;
use super::words::{INVALID_OFFERS, accept, task, want, want_anything};

#[test]
fn b09_suppress_rescinds_nothing_and_revive_repeats_nothing() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(2)]);
    let ids = cluster.offer_ids();
    let keep = || Command::Keep(ids.iter().map(|id| proffer_model::OfferId(*id)).collect());
    cluster.answer("f", vec![keep(), Command::Suppress(vec![])]);
    assert_eq!(cluster.offer_ids(), ids);
    cluster.agent("a2", "cpus:4;mem:100");
    assert_eq!(
        cluster.offer_ids(),
        ids,
        "suppressed: the new agent is not offered"
    );
    cluster.command("f", vec![keep(), Command::Revive(vec![])]);
    let after = cluster.offers();
    assert_eq!(after, ["f a1 cpus:4;mem:100", "f a2 cpus:4;mem:100"]);
    assert_eq!(cluster.offer_ids()[0], ids[0]);
    // A role that it does not have is refused.
    let strange = RoleName::new("other").unwrap();
    cluster.answer("f", vec![keep(), Command::Suppress(vec![strange])]);
    assert!(
        cluster
            .told("f")
            .contains(&"rejected suppress other: role-denied".to_owned())
    );
}

#[test]
fn b10_rescinds_are_told_and_accept_after_one_fails_cleanly() {
    type Cause = fn(&mut Cluster);
    let causes: [(&str, Cause); 3] = [
        ("agent-disconnected", |cluster| cluster.disconnect("a1")),
        ("agent-lost", |cluster| {
            let machine = &cluster.machines["a1"];
            let (connection, mut registration) = (machine.connection, machine.registration.clone());
            registration.total = "cpus:2;mem:100".parse().unwrap();
            cluster.event(Event::AgentRegistered {
                connection,
                registration: Box::new(registration),
            });
        }),
        ("operator", |cluster| {
            let ticket = cluster.ticket();
            let weight = Amount::from_units(3);
            cluster.event(Event::RoleSet {
                ticket,
                role: RoleName::star(),
                weight,
            });
        }),
    ];
    for (code, cause) in causes {
        let mut cluster = Cluster::new();
        cluster.agent("a1", "cpus:4;mem:100");
        cluster.framework("f", "*");
        cluster.command("f", vec![want_anything(1)]);
        let id = cluster.offer_ids()[0];
        cause(&mut cluster);
        cluster.answer("f", vec![accept(&[id], vec![task("t", "cpus:1;mem:1")], 0)]);
        let told = cluster.told("f");
        assert_eq!(told[0], format!("rescinded {id}: {code}"));
        assert!(
            told.contains(&format!("t dropped #0 ({INVALID_OFFERS})")),
            "{told:?}"
        );
        assert!(!cluster.offer_ids().contains(&id));
    }
}

#[test]
fn b11_an_expired_lease_returns_the_resources_and_counts() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.framework("g", "*");
    cluster.command("f", vec![want_anything(1)]);
    let id = cluster.offer_ids()[0];
    cluster.answer("f", vec![Command::Keep(vec![proffer_model::OfferId(id)])]);
    cluster.command("g", vec![want_anything(1)]);
    cluster.advance(29_999);
    assert_eq!(cluster.offers(), ["f a1 cpus:4;mem:100"]);
    cluster.advance(1);
    assert_eq!(cluster.offers(), ["g a1 cpus:4;mem:100"]);
    assert_eq!(
        cluster.told("f"),
        [format!("rescinded {id}: lease-expired")]
    );
    let counters = cluster.core.framework_named("f").unwrap().counters;
    assert_eq!((counters.offers_made, counters.offers_expired), (1, 1));
}

#[test]
fn b12_agents_are_shuffled_by_a_seed_and_ties_are_the_same_again() {
    let first_choice = |seed: u64| {
        let mut cluster = Cluster::with(CoreConfig {
            seed,
            ..CoreConfig::default()
        });
        for agent in 0..20 {
            cluster.agent(&format!("a{agent}"), "cpus:4;mem:100");
        }
        cluster.framework("f", "*");
        cluster.command("f", vec![want_anything(1)]);
        cluster.offers().join(" ")
    };
    let choices: Vec<String> = (0..8).map(first_choice).collect();
    let again: Vec<String> = (0..8).map(first_choice).collect();
    assert_eq!(choices, again);
    let mut distinct = choices.clone();
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() > 3, "{choices:?}");
}

#[test]
fn b13_sums_are_exact_gpus_whole_and_ranges_split_and_merge() {
    let mut cluster = Cluster::new();
    cluster.agent(
        "a1",
        "cpus:1;mem:100;ports:[1-4];tokens:1;slots:[1-3];names:{a,b}",
    );
    cluster.framework("f", "*");
    let thirds = 0..3;
    for round in 0..20 {
        cluster.command("f", vec![want_anything(1), Command::Revive(vec![])]);
        cluster.advance(1_100);
        let id = cluster.offer_ids()[0];
        let tasks = thirds
            .clone()
            .map(|n| {
                task(
                    &format!("t{round}.{n}"),
                    &format!("cpus:0.333;mem:0.1;ports:[{0}-{0}]", n + 1),
                )
            })
            .collect();
        let clear = Command::ClearDemand(vec!["d".to_owned()]);
        cluster.answer("f", vec![accept(&[id], tasks, 0), clear]);
        assert_eq!(
            cluster.free("a1"),
            "cpus:0.001;mem:99.7;ports:[4-4];names:{a,b};slots:[1-3];tokens:1"
        );
        for n in thirds.clone() {
            cluster.update("a1", &format!("t{round}.{n}"), 1, TaskState::Finished);
        }
        while !cluster.told("f").is_empty() {
            cluster.answer("f", vec![]);
        }
        assert_eq!(
            cluster.free("a1"),
            "cpus:1;mem:100;ports:[1-4];names:{a,b};slots:[1-3];tokens:1"
        );
    }
    cluster.command("f", vec![want("cpus:1;mem:1", 1), Command::Revive(vec![])]);
    cluster.advance(1_100);
    let id = cluster.offer_ids()[0];
    let mut half = task("g", "mem:1");
    let mut bundle = half.resources.total();
    bundle.gpus = Amount::from_milli(500);
    half.resources = proffer_model::Resources::plain(bundle);
    cluster.answer("f", vec![accept(&[id], vec![half], 0)]);
    assert_eq!(cluster.told("f"), ["g error #0 (invalid)"]);
}
