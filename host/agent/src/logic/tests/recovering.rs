//! The machine from its records.

use expect_test::expect;

use super::super::{Found, Input, Outcome, Record};
use super::{Script, task, task_with_input};

/// One launch at each stage: preparing, handed over, running, being killed, ended, settled.
fn at_all_stages() -> Script {
    let mut script = Script::registered();
    script.launch(vec![task_with_input(1, "in")]);
    script.fetching(1);
    script.launch(vec![task(2)]);
    script.prepared(2);
    for number in 3..=6 {
        script.running(number);
    }
    script.kill(4, 5_000);
    script.exited(5, 7);
    script.exited(6, 0);
    script.acknowledge(6, 2);
    script
}

#[test]
fn after_a_restart_everything_goes_on_where_it_was() {
    let before = at_all_stages();
    let (mut script, mut out) = Script::from_records(before.records, "boot-1", 1_000);
    out += "-- registering\n";
    out += &script.register();
    out += "-- what the runner says\n";
    out += &script.found(2, Found::NeverStarted);
    out += &script.found(3, Found::Running);
    out += &script.ended(4, Outcome::Signalled(9), true);
    out += &script.found(3, Found::Lost);
    expect![[r#"
        prepare 1
        inquire 2 3 4
        stop 4 within 4000
        -- registering
        say: register 9 [1=starting 2=staging 3=running 4=killing 5=failed]
        say: 1 #1 starting (latest starting)
        say: 4 #2 killing (latest killing)
        say: 5 #2 failed (latest failed)
        -- what the runner says
        prepare 2
          durable: 4 #3 killed killed exit None
        publish 4 false
          durable: 3 #2 failed runner-lost exit None
        publish 3 false
        say: 3 #2 failed (latest failed)
    "#]]
    .assert_eq(&out);
}

#[test]
fn after_another_boot_nothing_runs_any_more() {
    let before = at_all_stages();
    let (mut script, mut out) = Script::from_records(before.records, "boot-2", 1_000);
    out += &script.register();
    expect![[r#"
          durable: identity boot-2
          durable: 1 #2 gone agent-lost exit None
        publish 1 false
          durable: 2 #1 gone agent-lost exit None
        publish 2 false
          durable: 3 #2 gone agent-lost exit None
        publish 3 false
          durable: 4 #3 gone agent-lost exit None
        publish 4 false
        say: register 9 [1=gone 2=gone 3=gone 4=gone 5=failed]
        say: 1 #1 starting (latest gone)
        say: 2 #1 gone (latest gone)
        say: 3 #2 gone (latest gone)
        say: 4 #2 killing (latest gone)
        say: 5 #2 failed (latest failed)
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_compacted_journal_makes_the_same_machine() {
    let mut before = at_all_stages();
    before.at(2_000_000).running(7);
    before.exited(7, 0);
    before.acknowledge(7, 2);
    before.give(Input::Clean { disk_is_low: false });
    before.running(8);
    before.kill(8, 1_000);
    before.acknowledge(8, 2);
    let compacted = before.logic.compacted();
    assert!(compacted.len() < before.records.len());
    let (again, long) = Script::from_records(before.records, "boot-1", 3_000_000);
    let (compact, short) = Script::from_records(compacted, "boot-1", 3_000_000);
    assert_eq!(long, short);
    assert_eq!(format!("{:?}", again.logic), format!("{:?}", compact.logic));
}

#[test]
fn a_group_that_was_ending_when_the_agent_died_is_ended() {
    let mut before = Script::registered();
    before.launch(vec![task(1), task(2)]);
    before.prepared(1);
    before.prepared(2);
    before.found(1, Found::Running);
    before.found(2, Found::Running);
    before.exited(1, 3);
    // Dead before the second was told to stop.
    let cut = before
        .records
        .iter()
        .position(|record| matches!(record, Record::Stopping { .. }));
    before.records.truncate(cut.unwrap());
    let (_, out) = Script::from_records(before.records, "boot-1", 1_000);
    expect![[r#"
        inquire 2
          durable: stopping 2 Group by 4000
        stop 2 within 3000
          durable: 2 #2 killing group-failed exit None
        stop 2 within 3000
    "#]]
    .assert_eq(&out);
}
