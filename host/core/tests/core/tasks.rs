//! What becomes of tasks: behaviours 24 to 31.

use proffer_core::CoreConfig;
use proffer_model::framework::{Act, Command};
use proffer_model::{Duration, Reason, Remedy, TaskState, code};

use super::cluster::Cluster;
use super::words::{accept, accept_parts, kill, kill_within, part, reconcile, task, want_anything};

fn one() -> Cluster {
    Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")])
}

#[test]
fn b24_repeated_updates_are_acknowledged_again_and_dropped() {
    let mut cluster = one();
    cluster.update("a1", "t", 1, TaskState::Running);
    assert_eq!(cluster.inbox("a1"), ["ack 2 #1"]);
    assert_eq!(cluster.told("f"), Vec::<String>::new());
    // Told and not yet taken: neither told twice nor acknowledged.
    cluster.update("a1", "t", 2, TaskState::Failed);
    cluster.update("a1", "t", 2, TaskState::Failed);
    assert_eq!(cluster.inbox("a1"), Vec::<String>::new());
    assert_eq!(cluster.answer("f", vec![]), ["t failed #2"]);
    assert_eq!(cluster.told("f"), Vec::<String>::new());
    assert_eq!(cluster.inbox("a1"), ["ack 2 #2"]);
    assert_eq!(
        cluster
            .core
            .framework_named("f")
            .unwrap()
            .counters
            .updates_repeated,
        2
    );
    // Of a launch that the host forgot, or of somebody else's: the agent may forget it too.
    cluster.update_with("a1", "t", 9, TaskState::Running, |update| {
        update.launch.0 = 777
    });
    assert_eq!(cluster.inbox("a1"), ["ack 777 #9"]);
}

#[test]
fn b25_an_end_is_final() {
    let mut cluster = one();
    cluster.update("a1", "t", 2, TaskState::Failed);
    // Before the framework has taken the end: a late word is neither told nor acknowledged, for
    // with that the agent would forget the end.
    cluster.update("a1", "t", 3, TaskState::Running);
    assert_eq!(cluster.inbox("a1"), Vec::<String>::new());
    assert_eq!(cluster.answer("f", vec![]), ["t failed #2"]);
    assert_eq!(cluster.inbox("a1"), ["ack 2 #2"]);
    cluster.update("a1", "t", 3, TaskState::Running);
    assert_eq!(cluster.inbox("a1"), ["ack 2 #3"]);
    assert_eq!(cluster.told("f"), Vec::<String>::new());
    assert_eq!(cluster.state("f", "t"), TaskState::Failed);
}

#[test]
fn b26_resources_go_with_the_newest_word_and_the_record_with_the_acknowledgement() {
    let mut cluster = one();
    assert_eq!(cluster.free("a1"), "cpus:3;mem:90");
    // The front of the agent's stream is old; its newest word is final.
    cluster.update_with("a1", "t", 2, TaskState::Killing, |update| {
        update.latest = TaskState::Killed;
    });
    assert_eq!(cluster.free("a1"), "cpus:4;mem:100");
    assert_eq!(cluster.state("f", "t"), TaskState::Killed);
    assert_eq!(cluster.core.framework_named("f").unwrap().tasks, (1, 0));
    assert_eq!(cluster.answer("f", vec![]), ["t killing #2"]);
    cluster.update("a1", "t", 3, TaskState::Killed);
    assert_eq!(cluster.core.framework_named("f").unwrap().tasks, (1, 0));
    assert_eq!(cluster.answer("f", vec![]), ["t killed #3"]);
    assert_eq!(cluster.core.framework_named("f").unwrap().tasks, (0, 1));
}

#[test]
fn b27_reconcile_answers_each_id_or_is_silent_while_an_agent_may_return() {
    let tasks = vec![task("t1", "cpus:1;mem:10"), task("t2", "cpus:1;mem:10")];
    let mut cluster = Cluster::running("cpus:4;mem:100", tasks);
    cluster.command("f", vec![reconcile(&[])]);
    let all = [
        "t1 running #0 (reconciliation)",
        "t2 running #0 (reconciliation)",
        "reconciled 2, silent []",
    ];
    assert_eq!(cluster.told("f"), all);
    cluster.answer("f", vec![reconcile(&["t2", "nobody", "a/b"])]);
    let told = cluster.told("f");
    assert_eq!(
        told,
        [
            "rejected reconcile a/b: invalid",
            "t2 running #0 (reconciliation)",
            "nobody unknown #0 (reconciliation)",
            "reconciled 2, silent []",
        ]
    );
    // In doubt it says so, and does not repeat what was before.
    cluster.answer("f", vec![]);
    cluster.disconnect("a1");
    cluster.advance(30_000);
    while !cluster.told("f").is_empty() {
        cluster.answer("f", vec![]);
    }
    cluster.command("f", vec![reconcile(&["t1"])]);
    assert_eq!(cluster.told("f")[0], "t1 unreachable #0 (reconciliation)");

    // Launched, and nobody knows whether its agent has it.
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let ids = cluster.offer_ids();
    cluster.answer(
        "f",
        vec![accept(&ids, vec![task("t", "cpus:1;mem:1")], 60_000)],
    );
    cluster.disconnect("a1");
    cluster.command("f", vec![reconcile(&["t"])]);
    assert!(
        cluster
            .told("f")
            .contains(&"reconciled 0, silent [\"t\"]".to_owned())
    );
}

#[test]
fn b28_unreachable_tasks_may_return_and_are_not_killed() {
    let mut cluster = one();
    cluster.disconnect("a1");
    assert_eq!(cluster.answer("f", vec![]), ["agent-0 Disconnected"]);
    assert_eq!(cluster.state("f", "t"), TaskState::Running);
    cluster.advance(30_000);
    let told = ["t unreachable #0 (agent-lost)", "agent-0 Unreachable"];
    assert_eq!(cluster.answer("f", vec![]), told);
    assert_eq!(cluster.state("f", "t"), TaskState::Unreachable);
    assert_eq!(cluster.free("a1"), "cpus:3;mem:90", "it may still run");
    cluster.reconnect("a1", &[(2, "f", "t", TaskState::Running)]);
    let told = cluster.answer("f", vec![]);
    assert_eq!(told, ["agent-0 Returned", "t running #0 (reconciliation)"]);
    assert_eq!(cluster.state("f", "t"), TaskState::Running);
    assert_eq!(cluster.inbox("a1"), ["registered as agent-0"], "no kill");
}

#[test]
fn b29_task_ids_are_unique_over_live_and_unreachable_tasks() {
    let mut cluster = one();
    let again = |cluster: &mut Cluster| {
        cluster.command("f", vec![want_anything(1), Command::Revive(vec![])]);
        cluster.advance(1_100);
        let ids = cluster.offer_ids();
        cluster.answer("f", vec![accept(&ids, vec![task("t", "cpus:1;mem:1")], 0)]);
        let told = cluster.answer("f", vec![]);
        assert_eq!(told, ["rejected accept t: duplicate-task"]);
    };
    again(&mut cluster);
    cluster.agent("a2", "cpus:1;mem:10");
    cluster.disconnect("a1");
    cluster.advance(40_000);
    while !cluster.told("f").is_empty() {
        cluster.answer("f", vec![]);
    }
    assert_eq!(cluster.state("f", "t"), TaskState::Unreachable);
    again(&mut cluster);
}

#[test]
fn b30_kills_are_answered_kept_and_repeated_with_less_grace_only() {
    let mut cluster = one();
    cluster.command("f", vec![kill("nobody"), kill("a/b")]);
    let told = [
        "nobody unknown #0 (reconciliation)",
        "rejected kill a/b: invalid",
    ];
    assert_eq!(cluster.answer("f", vec![]), told);

    cluster.command(
        "f",
        vec![kill("t"), kill_within("t", 1_000), kill_within("t", 9_000)],
    );
    let last = cluster.inbox("a1").pop();
    assert_eq!(last, Some("kill 2 within 1s".to_owned()));

    // Asked while the agent is away: kept, over a restart of the host too, and sent on return.
    let mut cluster = one();
    cluster.disconnect("a1");
    cluster.answer("f", vec![kill("t")]);
    assert_eq!(cluster.inbox("a1"), Vec::<String>::new());
    cluster.restart();
    cluster.reconnect("a1", &[(2, "f", "t", TaskState::Running)]);
    assert_eq!(
        cluster.inbox("a1"),
        ["registered as agent-0", "kill 2 within 3s"]
    );
}

#[test]
fn a_snapshot_stands_still_while_its_tasks_go_on() {
    let mut cluster = one();
    let at_once = cluster.core.snapshot().into_facts();
    let held = cluster.core.snapshot();
    cluster.command("f", vec![kill("t")]);
    cluster.update("a1", "t", 9, TaskState::Killed);
    cluster.answer("f", vec![]);
    assert_ne!(cluster.core.snapshot().into_facts(), at_once);
    assert_eq!(held.into_facts(), at_once);
}

/// The agent says `killed` with the code `killed-during-launch` if it never started; the core passes
/// that on. A group is launched, killed and dropped as one.
#[test]
fn b31_groups_are_atomic_and_killed_during_launch_is_told_apart() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let group = |ids: [&str; 2], cpus: [&str; 2]| {
        let tasks = [0, 1].map(|n| task(ids[n], &format!("cpus:{};mem:1", cpus[n])));
        Act::LaunchGroup(tasks.to_vec())
    };
    let ids = cluster.offer_ids();
    let acts = vec![
        group(["x1", "x2"], ["1", "9"]),
        group(["y1", "y2"], ["1", "1"]),
    ];
    cluster.answer(
        "f",
        vec![accept_parts(vec![part(&ids, acts)], false, 0), kill("y2")],
    );
    let told = [
        "x1 dropped #0 (group-failed)",
        "x2 error #0 (insufficient-resources)",
    ];
    assert_eq!(cluster.answer("f", vec![]), told);
    let sent = [
        "registered as agent-0",
        "launch y1@2 + y2@3",
        "kill 2 within 3s",
        "kill 3 within 3s",
    ];
    assert_eq!(cluster.inbox("a1"), sent);
    cluster.update_with("a1", "y1", 1, TaskState::Killed, |update| {
        update.update.why = Reason::new(code::KILLED_DURING_LAUNCH, Remedy::Retry, "killed");
    });
    let told = cluster.answer("f", vec![]);
    assert_eq!(told.last().unwrap(), "y1 killed #1 (killed-during-launch)");
}

#[test]
fn a_whole_accept_is_all_or_nothing_over_agents() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:2;mem:100");
    cluster.agent("a2", "cpus:2;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(2)]);
    let ids = cluster.offer_ids();
    let parts = |second: &str| {
        vec![
            part(
                &ids[..1],
                vec![Act::Launch(vec![task("t1", "cpus:2;mem:1")])],
            ),
            part(&ids[1..], vec![Act::Launch(vec![task("t2", second)])]),
        ]
    };
    cluster.answer("f", vec![accept_parts(parts("cpus:3;mem:1"), true, 0)]);
    let told = [
        "t1 dropped #0 (group-failed)",
        "t2 error #0 (insufficient-resources)",
    ];
    assert_eq!(cluster.answer("f", vec![]), told);
    assert_eq!(
        (cluster.free("a1"), cluster.free("a2")),
        ("cpus:2;mem:100".into(), "cpus:2;mem:100".into())
    );
}

#[test]
fn a_launch_that_the_agent_does_not_report_is_sent_again_under_its_number() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let ids = cluster.offer_ids();
    let tasks = vec![task("t1", "cpus:1;mem:1"), task("t2", "cpus:1;mem:1")];
    cluster.answer("f", vec![accept(&ids, tasks, 60_000)]);
    let sent = ["registered as agent-0", "launch t1@2", "launch t2@3"];
    assert_eq!(cluster.inbox("a1"), sent);
    cluster.reconnect("a1", &[(3, "f", "t2", TaskState::Running)]);
    assert_eq!(
        cluster.inbox("a1"),
        ["registered as agent-0", "launch t1@2"]
    );
    // The agent has spoken of it: gone is gone.
    cluster.reconnect("a1", &[(2, "f", "t1", TaskState::Running)]);
    assert_eq!(cluster.inbox("a1"), ["registered as agent-0"]);
    assert_eq!(cluster.state("f", "t2"), TaskState::Gone);
    // And if it then runs after all, it must end.
    cluster.reconnect(
        "a1",
        &[
            (2, "f", "t1", TaskState::Running),
            (3, "f", "t2", TaskState::Running),
        ],
    );
    assert_eq!(
        cluster.inbox("a1"),
        ["registered as agent-0", "kill 3 within 0ms"]
    );
}

#[test]
fn ended_tasks_are_bounded_by_number() {
    let mut cluster = Cluster::with(CoreConfig {
        ended_tasks_max: 2,
        lease: Duration(1_000),
        ..CoreConfig::default()
    });
    cluster.agent("a1", "cpus:9;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let ids = cluster.offer_ids();
    let tasks = (0..5)
        .map(|n| task(&format!("t{n}"), "cpus:1;mem:1"))
        .collect();
    cluster.answer("f", vec![accept(&ids, tasks, 60_000)]);
    for n in 0..5 {
        cluster.update("a1", &format!("t{n}"), 1, TaskState::Finished);
    }
    while !cluster.told("f").is_empty() {
        cluster.answer("f", vec![]);
    }
    let left: Vec<String> = cluster
        .core
        .tasks(None, None)
        .map(|t| t.id.to_string())
        .collect();
    assert_eq!(left, ["t3", "t4"]);
}
