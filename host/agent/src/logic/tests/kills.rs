//! Kills, at every stage.

use expect_test::expect;
use proffer_model::agent::ToAgent;
use proffer_model::{Duration, FrameworkId};

use super::super::{Found, Input, Outcome};
use super::{Script, task, task_with_input};

#[test]
fn b30_kills_repeat_safely_and_grace_only_gets_shorter() {
    let mut script = Script::registered();
    script.running(1);
    let mut out = script.at(1_000).kill(1, 5_000);
    out += "-- the same, longer, and one that is over later\n";
    out += &script.kill(1, 5_000);
    out += &script.kill(1, 60_000);
    out += &script.at(4_000).kill(1, 2_000);
    out += "-- shorter\n";
    out += &script.kill(1, 1_000);
    out += &script.kill(1, 0);
    out += "-- the end\n";
    out += &script.ended(1, Outcome::Signalled(9), true);
    out += &script.kill(1, 0);
    expect![[r#"
          durable: stopping 1 Asked by 6000
        stop 1 within 5000
          durable: 1 #2 killing killed exit None
        say: 1 #2 killing (latest killing)
        -- the same, longer, and one that is over later
        -- shorter
          durable: stopping 1 Asked by 5000
        stop 1 within 1000
          durable: stopping 1 Asked by 4000
        stop 1 within 0
        -- the end
          durable: 1 #3 killed killed exit None
        publish 1 false
    "#]]
    .assert_eq(&out);
}

#[test]
fn b31_a_kill_before_the_task_runs_is_told_apart() {
    let mut script = Script::registered();
    script.launch(vec![task_with_input(1, "in")]);
    script.fetching(1);
    script.acknowledge(1, 1);
    let mut out = script.kill(1, 5_000);
    out += "-- its preparation was done all the same\n";
    out += &script.prepared(1);
    out += "-- handed over, not yet running\n";
    script.launch(vec![task(2)]);
    script.prepared(2);
    out += &script.kill(2, 5_000);
    out += &script.found(2, Found::Running);
    out += &script.ended(2, Outcome::Signalled(15), true);
    expect![[r#"
        cancel 1
          durable: 1 #2 killed killed-during-launch exit None
        publish 1 false
        say: 1 #2 killed (latest killed)
        -- its preparation was done all the same
        -- handed over, not yet running
          durable: stopping 2 Asked by 5000
        stop 2 within 5000
          durable: 2 #1 killing killed exit None
        say: 2 #1 killing (latest killing)
          durable: 2 #2 killed killed exit None
        publish 2 false
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_task_that_had_ended_by_itself_is_not_called_killed() {
    let mut script = Script::registered();
    script.running(1);
    script.kill(1, 5_000);
    let out = script.exited(1, 0);
    expect![[r#"
          durable: 1 #3 finished exited exit Some(0)
        publish 1 true
    "#]]
    .assert_eq(&out);
}

#[test]
fn kills_of_other_frameworks_and_unknown_launches_do_nothing() {
    let mut script = Script::registered();
    script.running(1);
    let foreign = ToAgent::Kill {
        framework: FrameworkId(2),
        launch: proffer_model::LaunchNumber(1),
        grace: Duration::ZERO,
    };
    assert_eq!(script.give(Input::FromHost(foreign)), "");
    assert_eq!(script.kill(7, 0), "");
}

#[test]
fn a_task_that_runs_too_long_is_ended_and_has_failed() {
    let mut script = Script::registered();
    let mut long = task(1);
    std::sync::Arc::make_mut(&mut long.task).template.longest = Some(Duration(500));
    script.launch(vec![long]);
    script.prepared(1);
    script.at(100).found(1, Found::Running);
    script.acknowledge(1, 1);
    let mut out = script.at(599).give(Input::Tick);
    out += &script.at(600).give(Input::Tick);
    out += &script.ended(1, Outcome::Signalled(15), true);
    expect![[r#"
          durable: stopping 1 TooLong by 3600
        stop 1 within 3000
          durable: 1 #2 killing too-long exit None
        say: 1 #2 killing (latest killing)
          durable: 1 #3 failed too-long exit None
        publish 1 false
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_removed_framework_takes_its_tasks_and_sandboxes_with_it() {
    let mut script = Script::registered();
    script.running(1);
    script.running(2);
    script.exited(1, 0);
    let remove = || {
        Input::FromHost(ToAgent::RemoveFramework {
            framework: FrameworkId(1),
        })
    };
    let mut out = script.give(remove());
    out += "-- the last ends\n";
    out += &script.ended(2, Outcome::Signalled(15), true);
    out += "-- said again\n";
    out += &script.give(remove());
    expect![[r#"
          durable: forgotten 1
        remove 1
          durable: stopping 2 FrameworkRemoved by 3000
        stop 2 within 3000
          durable: 2 #2 killing framework-removed exit None
        say: 2 #2 killing (latest killing)
        -- the last ends
          durable: 2 #3 killed framework-removed exit None
        publish 2 false
        -- said again
          durable: forgotten 2
        remove 2
        dismiss framework-1
    "#]]
    .assert_eq(&out);
}

#[test]
fn the_runner_of_a_removed_framework_is_dismissed_with_its_last_sandbox() {
    let mut script = Script::registered();
    script.running(1);
    script.give(Input::FromHost(ToAgent::RemoveFramework {
        framework: FrameworkId(1),
    }));
    script.ended(1, Outcome::Signalled(15), true);
    script.acknowledge(1, 2);
    script.acknowledge(1, 3);
    let clean = || Input::Clean { disk_is_low: false };
    assert_eq!(script.at(1_000).give(clean()), "");
    let out = script.at(Duration::DAY.0 + 1_000).give(clean());
    expect![[r#"
          durable: forgotten 1
        remove 1
        dismiss framework-1
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_launch_without_a_runner_never_ran_and_a_kill_of_it_has_worked() {
    let mut script = Script::registered();
    for number in 1..=2 {
        script.launch(vec![task(number)]);
        script.prepared(number);
    }
    let no_runner = || Found::NoRunner("taken".to_owned());
    let mut out = script.found(1, no_runner());
    script.kill(2, 0);
    out += &script.found(2, no_runner());
    expect![[r#"
          durable: 1 #1 dropped runner-lost exit None
        publish 1 false
        say: 1 #1 dropped (latest dropped)
          durable: 2 #2 killed killed-during-launch exit None
        publish 2 false
    "#]]
    .assert_eq(&out);
}
