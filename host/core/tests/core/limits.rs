//! What a framework can make the host keep, send and compute is bounded.

use proffer_core::CoreConfig;
use proffer_model::fact::FrameworkStanding;
use proffer_model::framework::{Command, Event as Told, Reconcile};
use proffer_model::{TaskState, code};

use super::cluster::{Cluster, Decider};
use super::words::{accept, input, kill, task, want_anything, want_as};

/// Codes of the rejections that the step is told.
fn rejections(cluster: &Cluster) -> Vec<String> {
    let mut codes = Vec::new();
    for event in cluster.batch("f") {
        if let Told::Rejected(rows) = event {
            codes.extend(rows.iter().map(|row| row.why.code.to_string()));
        }
    }
    codes
}

#[test]
fn demands_that_come_and_go_by_the_thousand_starve_nobody() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:1;mem:100");
    cluster.framework("f", "*");
    for round in 0..40 {
        let pairs = (0..2_000).flat_map(|n| {
            let key = format!("{round}-{n}");
            let set = want_as(&key, "*", "cpus:9;mem:1", 1, |_| {});
            [set, Command::ClearDemand(vec![key])]
        });
        cluster.command("f", pairs.collect());
    }
    // Another policy takes over: it is told what is, not what ever was.
    cluster.load_policy(Decider::Drf(Box::default()));
    cluster.framework("g", "*");
    cluster.command("g", vec![want_anything(1)]);
    assert_eq!(cluster.offers().len(), 1);
}

#[test]
fn a_question_waits_until_the_answer_before_it_was_taken() {
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    let ask = || Command::ListHoldings("token".to_owned());
    cluster.command("f", vec![ask(), ask()]);
    assert_eq!(rejections(&cluster), [code::LIMIT]);
    cluster.answer("f", vec![]);
    cluster.command("f", vec![ask()]);
    assert!(rejections(&cluster).is_empty());
    cluster.answer("f", vec![]);

    let reconcile = |tasks: &[&str]| {
        Command::Reconcile(Reconcile {
            token: "token".to_owned(),
            tasks: tasks.iter().map(|task| (*task).to_owned()).collect(),
        })
    };
    let mut asked = vec![reconcile(&[]), reconcile(&[])];
    asked.extend((0..16).map(|_| reconcile(&["t"])));
    cluster.command("f", asked);
    // The second of everything, and one more than may wait.
    assert_eq!(rejections(&cluster), [code::LIMIT, code::LIMIT]);
}

#[test]
fn a_framework_that_never_learns_from_rejections_is_quarantined() {
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    for _ in 0..6 {
        if cluster.standing("f") == FrameworkStanding::Active {
            cluster.command("f", (0..4_096).map(|_| kill("")).collect());
        }
    }
    let FrameworkStanding::Quarantined(why) = cluster.standing("f") else {
        panic!("it goes on");
    };
    assert_eq!(why.code, code::LIMIT);
}

#[test]
fn tasks_of_a_framework_are_bounded_by_number() {
    let mut cluster = Cluster::with(CoreConfig {
        tasks_max: 2,
        ..CoreConfig::default()
    });
    cluster.agent("a1", "cpus:9;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let ids = cluster.offer_ids();
    let tasks = (0..3)
        .map(|n| task(&format!("t{n}"), "cpus:1;mem:1"))
        .collect();
    cluster.answer("f", vec![accept(&ids, tasks, 60_000)]);
    let told = cluster.told("f").join("\n");
    assert!(
        told.contains("t2 dropped") && told.contains("limit"),
        "{told}"
    );
    assert_eq!(cluster.state("f", "t1"), TaskState::Staging);
}

#[test]
fn inputs_that_no_message_holds_drop_the_launch() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:1000;mem:1000");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let ids = cluster.offer_ids();
    let maps = (0..500).map(|n| {
        let mut map = task(&format!("t{n}"), "cpus:1;mem:1");
        map.output = format!("{n:0>200}");
        map
    });
    cluster.answer("f", vec![accept(&ids, maps.collect(), 0)]);
    for n in 0..500 {
        cluster.update("a1", &format!("t{n}"), 1, TaskState::Finished);
    }
    let is_offer = |event: &Told| matches!(event, Told::Offers(_));
    while !cluster.batch("f").iter().any(is_offer) {
        cluster.answer("f", vec![]);
    }
    let mut reduce = task("reduce", "cpus:1;mem:1");
    reduce.inputs = (0..100).map(|_| input("output:0*/part")).collect();
    let ids = cluster.offer_ids();
    cluster.inbox("a1");
    cluster.answer("f", vec![accept(&ids, vec![reduce], 0)]);
    assert_eq!(cluster.state("f", "reduce"), TaskState::Dropped);
    let sent = cluster.inbox("a1").join("\n");
    assert!(!sent.contains("launch "), "{sent}");
}
