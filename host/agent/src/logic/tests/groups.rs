//! Groups: all or none.

use expect_test::expect;
use proffer_model::{LaunchNumber, Reason, Remedy};

use super::super::{Found, Input, Outcome};
use super::{Script, task, task_with_input};

#[test]
fn a_group_starts_when_all_of_it_is_ready() {
    let mut script = Script::registered();
    let mut out = script.launch(vec![task(1), task(2)]);
    out += &script.prepared(2);
    out += "-- and the other\n";
    out += &script.prepared(1);
    expect![[r#"
          durable: launched 1 2
        prepare 1
        prepare 2
        -- and the other
          durable: started 1
        start 1
          durable: started 2
        start 2
    "#]]
    .assert_eq(&out);
}

#[test]
fn one_that_never_reached_its_runner_is_prepared_again_and_starts_alone() {
    let mut script = Script::registered();
    script.launch(vec![task(1), task(2)]);
    script.prepared(1);
    script.prepared(2);
    script.found(1, Found::Running);
    let mut out = script.found(2, Found::NeverStarted);
    out += &script.prepared(2);
    expect![[r#"
        prepare 2
          durable: started 2
        start 2
    "#]]
    .assert_eq(&out);
    script.found(2, Found::NeverStarted);
    assert!(script.kill(2, 0).contains("killed-during-launch"));
    assert_eq!(script.prepared(2), "");
}

#[test]
fn one_that_cannot_be_prepared_drops_its_group() {
    let mut script = Script::registered();
    script.launch(vec![task(1), task(2), task(3)]);
    script.prepared(2);
    let out = script.give(Input::Prepared {
        launch: LaunchNumber(1),
        outcome: Err(Reason::new("input-lost", Remedy::ChooseAnew, "test").into()),
    });
    expect![[r#"
          durable: 1 #1 failed input-lost exit None
        publish 1 false
        say: 1 #1 failed (latest failed)
          durable: 2 #1 dropped group-failed exit None
        publish 2 false
        say: 2 #1 dropped (latest dropped)
        cancel 3
          durable: 3 #1 dropped group-failed exit None
        publish 3 false
        say: 3 #1 dropped (latest dropped)
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_malformed_member_refuses_the_whole_group() {
    let mut script = Script::registered();
    let out = script.launch(vec![task(1), task_with_input(2, "..")]);
    expect![[r#"
          durable: launched 1 2
          durable: 2 #1 error invalid exit None
        publish 2 false
        say: 2 #1 error (latest error)
        cancel 1
          durable: 1 #1 dropped group-failed exit None
        publish 1 false
        say: 1 #1 dropped (latest dropped)
    "#]]
    .assert_eq(&out);
}

#[test]
fn one_that_ends_badly_ends_its_group_and_one_that_finishes_does_not() {
    let mut script = Script::registered();
    script.launch(vec![task(1), task(2), task(3)]);
    for number in 1..=3 {
        script.prepared(number);
    }
    for number in 1..=3 {
        script.found(number, Found::Running);
        script.acknowledge(number, 1);
    }
    let mut out = script.exited(1, 0);
    out += "-- badly\n";
    out += &script.exited(2, 1);
    out += &script.ended(3, Outcome::Signalled(15), true);
    expect![[r#"
          durable: 1 #2 finished exited exit Some(0)
        publish 1 true
        say: 1 #2 finished (latest finished)
        -- badly
          durable: 2 #2 failed exited exit Some(1)
        publish 2 false
        say: 2 #2 failed (latest failed)
          durable: stopping 3 Group by 3000
        stop 3 within 3000
          durable: 3 #2 killing group-failed exit None
        say: 3 #2 killing (latest killing)
          durable: 3 #3 killed group-failed exit None
        publish 3 false
    "#]]
    .assert_eq(&out);
}
