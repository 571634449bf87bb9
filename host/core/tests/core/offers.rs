//! Offers, filters and grants: behaviours 1 to 8.

use proffer_core::{Allocation, CoreConfig, Event};
use proffer_model::fact::FrameworkStanding;
use proffer_model::framework::{Act, Command};
use proffer_model::{Amount, AttributeValue, Duration, TaskState};

use super::cluster::Cluster;
use super::words::{
    INVALID_OFFERS, accept, accept_parts, decline, launch, part, task, timer, want_anything,
    want_as,
};

fn interval(millis: u64) -> Cluster {
    Cluster::with(CoreConfig {
        allocation: Allocation::Interval(Duration(millis)),
        ..CoreConfig::default()
    })
}

/// Two frameworks want all of two agents: what is on offer to the first counts as its share.
#[test]
fn b01_offers_count_as_allocated() {
    let mut cluster = Cluster::new();
    for (name, role) in [("f1", "r1"), ("f2", "r2")] {
        cluster.framework(name, role);
        cluster.command(name, vec![want_as("d", role, "", 4, |_| {})]);
    }
    cluster.agent("a1", "cpus:4;mem:100");
    let first = cluster.offers();
    assert_eq!(first.len(), 1);
    cluster.agent("a2", "cpus:4;mem:100");
    let both = cluster.offers();
    assert_eq!(both.len(), 2, "{both:?}");
    assert_ne!(both[0].split(' ').next(), both[1].split(' ').next());
    let pool = cluster.core.pool();
    assert_eq!(
        (pool.offered.cpus, pool.used.cpus),
        (Amount::from_units(8), Amount::ZERO)
    );
    assert_eq!(cluster.free("a1"), "nothing");
}

#[test]
fn b02_accept_with_a_bad_offer_fails_whole_and_says_so() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let good = cluster.offer_ids()[0];
    for bad in [vec![good, 77], vec![good, good], vec![]] {
        if cluster.told("f").is_empty() {
            cluster.advance(1_100);
        }
        let current = cluster.offer_ids()[0];
        let named: Vec<u64> = bad
            .iter()
            .map(|id| if *id == good { current } else { *id })
            .collect();
        cluster.answer(
            "f",
            vec![accept(&named, vec![task("t", "cpus:1;mem:1")], 60_000)],
        );
        assert_eq!(
            cluster.told("f"),
            [format!("t dropped #0 ({INVALID_OFFERS})")]
        );
        assert_eq!(cluster.free("a1"), "cpus:4;mem:100");
        assert!(cluster.core.task_named("f", "t").is_none());
        cluster.answer("f", vec![]);
        if bad.is_empty() {
            break;
        }
        // Returned without the caller's filter of a minute: only reoffer_ms keeps it back.
        cluster.advance(1_100);
        assert_eq!(cluster.offers(), ["f a1 cpus:4;mem:100"]);
    }
}

#[test]
fn b03_one_part_takes_offers_of_one_agent_and_role() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:2;mem:100");
    cluster.agent("a2", "cpus:2;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(2)]);
    let ids = cluster.offer_ids();
    cluster.answer("f", vec![accept(&ids, vec![task("t", "cpus:3;mem:1")], 0)]);
    assert_eq!(
        cluster.answer("f", vec![]),
        [format!("t dropped #0 ({INVALID_OFFERS})")]
    );
    assert_eq!(cluster.free("a1"), "cpus:2;mem:100");

    // Two offers of one agent are pooled.
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command(
        "f",
        vec![
            want_as("x", "*", "cpus:2;mem:1", 1, |_| {}),
            want_as("y", "*", "cpus:2;mem:1", 1, |_| {}),
        ],
    );
    let ids = cluster.offer_ids();
    assert_eq!(ids.len(), 2);
    cluster.answer("f", vec![accept(&ids, vec![task("t", "cpus:4;mem:2")], 0)]);
    assert_eq!(cluster.state("f", "t"), TaskState::Staging);
    assert_eq!(cluster.free("a1"), "mem:98");
}

#[test]
fn b04_operations_see_earlier_ones_and_leftovers_are_refused() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let id = cluster.offer_ids()[0];
    let operations = vec![
        launch(vec![
            task("t1", "cpus:3;mem:10"),
            task("t2", "cpus:2;mem:10"),
        ]),
        launch(vec![task("t3", "cpus:0.5;mem:10")]),
        Act::Unreserve(super::words::plain("cpus:1")),
    ];
    cluster.answer(
        "f",
        vec![accept_parts(vec![part(&[id], operations)], false, 60_000)],
    );
    let told = cluster.told("f");
    assert_eq!(told[0], "t2 error #0 (insufficient-resources)");
    assert!(told[1].contains("to be reserved to nobody"), "{told:?}");
    assert_eq!(
        cluster.inbox("a1")[1..],
        ["launch t1@2".to_owned(), "launch t3@3".to_owned()]
    );
    assert_eq!(cluster.free("a1"), "cpus:0.5;mem:80");
    // The rest stays refused for the caller's minute.
    cluster.answer("f", vec![]);
    cluster.advance(59_000);
    assert_eq!(cluster.offers(), Vec::<String>::new());
    cluster.advance(1_100);
    assert_eq!(cluster.offers(), ["f a1 cpus:0.5;mem:80"]);
}

#[test]
fn b05_a_filter_refuses_subsets_only() {
    let mut cluster = Cluster::running(
        "cpus:4;mem:100;ports:[1-10]",
        vec![task("t", "cpus:2;mem:50;ports:[1-5]")],
    );
    cluster.command("f", vec![want_anything(1)]);
    cluster.advance(1_100);
    let id = cluster.offer_ids()[0];
    cluster.answer("f", vec![decline(&[id], 3_600_000)]);
    cluster.advance(60_000);
    assert_eq!(cluster.offers(), Vec::<String>::new());
    // The task ends: more is free than was refused.
    cluster.update("a1", "t", 2, TaskState::Finished);
    assert_eq!(cluster.offers(), ["f a1 cpus:4;mem:100;ports:[1-10]"]);
}

#[test]
fn b06_a_filter_is_honoured_by_the_cycle_at_its_end() {
    let mut cluster = interval(1_000);
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    cluster.advance(1_000);
    let id = cluster.offer_ids()[0];
    // Shorter than an interval, and made exactly at a cycle: the next one still honours it.
    cluster.answer("f", vec![decline(&[id], 1)]);
    cluster.advance(1_000);
    assert_eq!(
        cluster.offers(),
        Vec::<String>::new(),
        "the cycle at its end honours it"
    );
    cluster.advance(999);
    assert_eq!(
        cluster.offers(),
        Vec::<String>::new(),
        "nothing between cycles"
    );
    cluster.advance(1);
    assert_eq!(cluster.offers().len(), 1, "the cycle after it does not");
    // 0: no filter at all.
    let id = cluster.offer_ids()[0];
    cluster.answer("f", vec![decline(&[id], 0)]);
    cluster.advance(1_000);
    assert_eq!(cluster.offers().len(), 1);
}

#[test]
fn b07_filters_die_on_timeout_revive_quarantine_and_attribute_change() {
    let filtered = || {
        let mut cluster = Cluster::new();
        cluster.agent("a1", "cpus:4;mem:100");
        cluster.framework("f", "*");
        cluster.command("f", vec![want_anything(1)]);
        let id = cluster.offer_ids()[0];
        cluster.answer("f", vec![decline(&[id], 20_000)]);
        cluster.advance(19_000);
        assert_eq!(cluster.offers(), Vec::<String>::new());
        assert_eq!(cluster.core.pool().filters, 1);
        cluster
    };
    let offered = |cluster: &Cluster| cluster.offers() == ["f a1 cpus:4;mem:100"];

    let mut timed_out = filtered();
    timed_out.advance(1_100);
    assert!(offered(&timed_out));

    let mut revived = filtered();
    revived.command("f", vec![Command::Revive(vec![])]);
    assert!(offered(&revived));

    let mut grown = filtered();
    grown.command("f", vec![want_anything(2)]);
    assert!(offered(&grown));

    let mut moved = filtered();
    moved.reconnect_with("a1", &[], |registration| {
        let mut info = (*registration.info).clone();
        info.attributes.push(proffer_model::Attribute {
            name: "rack".to_owned(),
            value: AttributeValue::Text("r1".to_owned()),
        });
        registration.info = info.into();
    });
    assert!(offered(&moved));

    let mut quarantined = filtered();
    quarantined.command("f", vec![timer("t", 0)]);
    for _ in 0..3 {
        quarantined.fail("f");
        quarantined.advance(200);
    }
    assert!(matches!(
        quarantined.standing("f"),
        FrameworkStanding::Quarantined(_)
    ));
    assert_eq!(quarantined.core.pool().filters, 0);

    let mut removed = filtered();
    removed.remove("f");
    assert_eq!(removed.core.pool().filters, 0);
}

#[test]
fn b08_absurd_refusals_are_cut_to_a_year() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let id = cluster.offer_ids()[0];
    cluster.answer("f", vec![decline(&[id], u64::MAX)]);
    assert!(
        cluster.notes.iter().any(|note| note.contains("365 days")),
        "{:?}",
        cluster.notes
    );
    // A year in one leap: the agent comes back, and is offered.
    cluster.disconnect("a1");
    cluster.now += 365 * Duration::DAY.0 + 1_000;
    cluster.event(Event::Ticked);
    cluster.reconnect("a1", &[]);
    assert_eq!(cluster.offers().len(), 1);
}
