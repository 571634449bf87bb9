//! Streams of updates, and the link that carries them.

use expect_test::expect;
use proffer_model::agent::ToAgent;
use proffer_model::{Container, Duration, Executor, LaunchNumber};

use super::super::{Found, Input};
use super::{Script, task, task_with_input};

#[test]
fn b23_updates_go_in_order_one_in_flight_and_again_until_acknowledged() {
    let mut script = Script::registered();
    let mut out = script.at(100).launch(vec![task_with_input(1, "in")]);
    out += &script.fetching(1);
    out += &script.prepared(1);
    out += &script.found(1, Found::Running);
    out += &script.exited(1, 7);
    out += "-- nothing is acknowledged\n";
    for at in [10_099, 10_100, 30_099, 30_100, 70_100] {
        out += &format!("at {at}\n");
        out += &script.at(at).give(Input::Tick);
    }
    out += "-- acknowledged one by one\n";
    for sequence in 1..=3 {
        out += &script.acknowledge(1, sequence);
    }
    out += &script
        .at(10_000_000)
        .give(Input::Tick)
        .replace("say: alive\n", "");
    expect![[r#"
          durable: launched 1
        prepare 1
          durable: 1 #1 starting preparing exit None
        say: 1 #1 starting (latest starting)
          durable: started 1
        start 1
          durable: 1 #2 running running exit None
          durable: 1 #3 failed exited exit Some(7)
        publish 1 false
        -- nothing is acknowledged
        at 10099
        at 10100
        say: 1 #1 starting (latest failed)
        at 30099
        at 30100
        say: 1 #1 starting (latest failed)
        at 70100
        say: 1 #1 starting (latest failed)
        -- acknowledged one by one
          durable: 1 #1 told
        say: 1 #2 running (latest failed)
          durable: 1 #2 told
        say: 1 #3 failed (latest failed)
          durable: 1 #3 told
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_launch_is_starting_only_while_something_is_fetched_for_it_and_says_so_once() {
    let mut script = Script::registered();
    let mut out = script.launch(vec![task_with_input(1, "in")]);
    out += &script.prepared(1);
    assert_eq!(script.fetching(1), "");
    assert!(!out.contains("starting"), "{out}");
    script.launch(vec![task_with_input(2, "in")]);
    assert!(script.fetching(2).contains("say: 2 #1 starting"));
    assert_eq!(script.fetching(2), "");
}

#[test]
fn b24_acknowledgements_of_what_is_not_in_flight_are_refused_and_counted() {
    let mut script = Script::registered();
    script.launch(vec![task(1)]);
    script.prepared(1);
    script.found(1, Found::Running);
    for (launch, sequence) in [(1, 0), (1, 2), (2, 1)] {
        assert_eq!(script.acknowledge(launch, sequence), "");
    }
    assert_eq!(script.acknowledge(1, 1), "  durable: 1 #1 told\n");
    assert_eq!(script.acknowledge(1, 1), "");
    assert_eq!(script.logic.counters().acknowledgements_refused, 4);
}

#[test]
fn b25_what_comes_after_an_end_is_ignored() {
    let mut script = Script::registered();
    script.running(1);
    script.exited(1, 7);
    for found in [Found::Running, Found::Lost, Found::NeverStarted] {
        assert_eq!(script.found(1, found), "");
    }
    assert_eq!(script.exited(1, 0), "");
    assert_eq!(script.prepared(1), "");
}

#[test]
fn the_time_between_repeats_doubles_up_to_a_bound() {
    let mut script = Script::registered();
    script.launch(vec![task(1)]);
    script.prepared(1);
    script.found(1, Found::Running);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let due = script.logic.next_due().unwrap();
        waits.push(due.since(script.now).0 / 1_000);
        script.now = due;
        assert!(script.give(Input::Tick).contains("say: 1 #1 running"));
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
}

#[test]
fn a_launch_is_taken_once() {
    let mut script = Script::registered();
    expect![[r#"
          durable: launched 1
        prepare 1
    "#]]
    .assert_eq(&script.launch(vec![task(1)]));
    assert_eq!(script.launch(vec![task(1)]), "");
    script.prepared(1);
    assert_eq!(script.launch(vec![task(1)]), "");
    script.exited(1, 0);
    script.acknowledge(1, 1);
    assert_eq!(script.launch(vec![task(1)]), "");
    // Not even when its sandbox is gone.
    script
        .at(2_000_000)
        .give(Input::Clean { disk_is_low: false });
    assert_eq!(script.launch(vec![task(1)]), "");
    assert_eq!(script.logic.counters().launches_repeated, 4);
}

#[test]
fn what_waits_is_told_again_after_every_connection() {
    let mut script = Script::registered();
    script.running(1);
    script.exited(1, 0);
    let mut out = script.give(Input::Disconnected {
        why: "test".to_owned(),
    });
    out += "-- alone\n";
    out += &script.launch(vec![task(2)]);
    out += &script.prepared(2);
    out += &script.found(2, Found::Running);
    out += &script.at(1_000).give(Input::Tick);
    out += "-- again\n";
    out += &script.give(Input::Connected);
    out += &script.give(Input::FromHost(ToAgent::Registered {
        agent: proffer_model::AgentId(9),
        heartbeat: Duration(1_000),
        timeout: Duration(3_000),
    }));
    out += "-- quiet\n";
    for at in [2_000, 3_000, 4_000] {
        out += &script.at(at).give(Input::Tick);
    }
    expect![[r#"
        -- alone
          durable: launched 2
        prepare 2
          durable: started 2
        start 2
          durable: 2 #1 running running exit None
        connect
        -- again
        say: register 9 [1=finished 2=running]
        say: 1 #2 finished (latest finished)
        say: 2 #1 running (latest running)
        -- quiet
        say: alive
        say: alive
        disconnect: nothing was heard of the host for 3s
    "#]]
    .assert_eq(&out);
}

#[test]
fn attempts_to_connect_come_apart_and_are_bounded() {
    let mut script = Script::new();
    let mut waits = Vec::new();
    for _ in 0..6 {
        let due = script.logic.next_due().unwrap();
        waits.push(due.since(script.now).0);
        script.now = due;
        assert_eq!(script.give(Input::Tick), "connect\n");
        script.give(Input::Disconnected {
            why: "nobody is there".to_owned(),
        });
    }
    for (wait, longest) in waits.iter().zip([0, 2_000, 4_000, 8_000, 8_000, 8_000]) {
        assert!(*wait <= longest && *wait >= longest / 2, "{waits:?}");
    }
}

#[test]
fn a_registration_without_an_answer_is_tried_again() {
    let mut script = Script::new();
    script.give(Input::Tick);
    script.give(Input::Connected);
    let out = script.at(15_000).give(Input::Tick);
    assert_eq!(
        out,
        "disconnect: the host did not answer the registration\n"
    );
    assert!(script.logic.next_due().is_some());
}

#[test]
fn a_refused_agent_ends_with_its_tasks() {
    let mut script = Script::registered();
    script.running(1);
    script.exited(1, 0);
    script.running(2);
    script.give(Input::Disconnected {
        why: "test".to_owned(),
    });
    script.now = script.logic.next_due().unwrap();
    script.give(Input::Tick);
    script.give(Input::Connected);
    let refused = ToAgent::Refused {
        why: "it is gone".to_owned(),
    };
    let out = script.give(Input::FromHost(refused));
    assert_eq!(out, "stop 2 within 3000\nexit: it is gone\n");
}

#[test]
fn a_wrong_token_ends_a_new_agent_and_not_one_that_was_let_in() {
    let denied = || Input::Denied {
        why: "the token is not this cluster's".to_owned(),
    };
    let mut script = Script::new();
    assert_eq!(
        script.give(denied()),
        "exit: the token is not this cluster's\n"
    );
    let mut script = Script::registered();
    script.running(1);
    assert_eq!(script.give(denied()), "");
    assert!(script.logic.next_due().is_some(), "it tries again");
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    let mut cases = Vec::new();
    let mut container = task(1);
    std::sync::Arc::make_mut(&mut container.task)
        .template
        .executor = Executor::Container(Container {
        image: "x".to_owned(),
        argv: Vec::new(),
    });
    cases.push((container, "unsupported"));
    let mut extracted = task_with_input(2, "in");
    extracted.inputs[0].marks.extract = true;
    cases.push((extracted, "unsupported"));
    for (number, path) in (3..).zip(["../in", "/in", "", "a//b", "a/.", "stdout", "result/x"]) {
        cases.push((task_with_input(number, path), "invalid"));
    }
    let mut inside = task_with_input(20, "a");
    inside
        .inputs
        .push(task_with_input(20, "a/b").inputs.remove(0));
    cases.push((inside, "invalid"));
    let mut large = task(21);
    std::sync::Arc::make_mut(&mut large.task).resources =
        proffer_model::Resources::plain("cpus:5".parse().unwrap());
    cases.push((large, "invalid"));
    let mut script = Script::registered();
    for (launch, code) in cases {
        let LaunchNumber(number) = launch.number;
        let out = script.launch(vec![launch]);
        let expected = format!(
            "  durable: launched {number}\n  durable: {number} #1 error {code} exit None\n\
             publish {number} false\nsay: {number} #1 error (latest error)\n"
        );
        assert_eq!(out, expected);
    }
}

#[test]
fn old_sandboxes_go_by_age_by_number_and_when_disk_is_low() {
    let mut script = Script::registered();
    for number in 1..=5 {
        script.at(number * 1_000).running(number);
        script.exited(number, 0);
        if number != 1 {
            script.acknowledge(number, 2);
        }
    }
    let clean = |disk_is_low| Input::Clean { disk_is_low };
    // The first is not acknowledged, so it stays; of the others three may.
    assert_eq!(
        script.give(clean(false)),
        "  durable: forgotten 2\nremove 2\n"
    );
    assert_eq!(script.give(clean(false)), "");
    assert_eq!(
        script.give(clean(true)),
        "  durable: forgotten 3\nremove 3\n"
    );
    let out = script.at(1_004_000).give(clean(false));
    assert_eq!(out, "  durable: forgotten 4\nremove 4\n");
}
