//! Fencing, removal, heartbeats, back-pressure and failing steps: behaviours 34, 36, 38 and 39.

use proffer_core::{Blame, CoreConfig, Event, NewFramework, Reply};
use proffer_model::fact::{FrameworkOptions, FrameworkStanding};
use proffer_model::framework::{Answer, Command, Finish};
use proffer_model::{RoleName, TaskState, code};

use super::cluster::Cluster;
use super::words::{accept, respond, task, timer, want_anything};

#[test]
fn b34_late_answers_and_old_connections_are_nobodys() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    let framework = cluster.framework_id("f");
    cluster.request("f", "/x");
    let step = cluster.steps[&framework].batch.step;
    let attempt = cluster.steps[&framework].attempt;
    cluster.fail("f");
    cluster.advance(100);
    let late = Event::StepCompleted {
        framework,
        step,
        attempt,
        writes: vec![],
        answer: Box::new(Answer {
            commands: vec![super::words::kill("t")],
        }),
    };
    cluster.event(late);
    assert_eq!(cluster.inbox("a1"), Vec::<String>::new());
    assert_eq!(
        cluster
            .core
            .framework_named("f")
            .unwrap()
            .counters
            .answers_stale,
        1
    );
    // An agent registers on a new connection: what comes on the old one is not the agent.
    let old = cluster.machines["a1"].connection;
    cluster.reconnect("a1", &[(2, "f", "t", TaskState::Running)]);
    assert_eq!(cluster.closed, [old]);
    cluster.event(Event::AgentDisconnected { connection: old });
    let mut update = super::words::agent_update(2, framework, "t", (2, TaskState::Failed));
    update.latest = TaskState::Failed;
    cluster.event(Event::TaskUpdated {
        connection: old,
        update: Box::new(update),
    });
    assert_eq!(cluster.state("f", "t"), TaskState::Running);
    assert!(cluster.core.agents(None).next().unwrap().active);
}

/// Found by the simulator: an update that nobody takes any more is repeated for ever, and with it, at
/// last, the newest word that the task has ended.
#[test]
fn a_removed_framework_goes_when_the_end_comes_with_a_repeated_update() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    cluster.remove("f");
    cluster.update("a1", "t", 2, TaskState::Killing);
    assert!(cluster.core.framework_named("f").is_some());
    cluster.update_with("a1", "t", 2, TaskState::Killing, |update| {
        update.latest = TaskState::Killed;
    });
    assert!(cluster.core.framework_named("f").is_none());
    assert_eq!(cluster.free("a1"), "cpus:4;mem:100");
}

#[test]
fn b36_a_removed_framework_goes_when_its_tasks_have_ended() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    cluster.remove("f");
    assert_eq!(cluster.inbox("a1"), ["kill 2 within 3s"]);
    assert!(matches!(
        cluster.standing("f"),
        FrameworkStanding::Removing(_)
    ));
    cluster.update("a1", "t", 2, TaskState::Killed);
    assert!(cluster.core.framework_named("f").is_none());
    assert_eq!(cluster.inbox("a1"), ["remove framework-1"]);
    assert_eq!(cluster.free("a1"), "cpus:4;mem:100");

    // On an agent that is away: presumed, said so, and the agent is told when it returns.
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    cluster.remove("f");
    cluster.disconnect("a1");
    assert!(cluster.core.framework_named("f").is_none());
    assert!(
        cluster.notes.iter().any(|note| note.contains("presumed")),
        "{:?}",
        cluster.notes
    );
    let mut registration = cluster.machines["a1"].registration.clone();
    registration.launches = vec![proffer_model::agent::KnownLaunch {
        launch: proffer_model::LaunchNumber(2),
        framework: proffer_model::FrameworkId(1),
        task: super::words::task_id("t"),
        role: proffer_model::RoleName::star(),
        latest: TaskState::Running,
    }];
    cluster.register("a1", registration);
    assert_eq!(
        cluster.inbox("a1"),
        ["registered as agent-0", "remove framework-1"]
    );

    // A framework that finishes may leave its tasks to their own end.
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    let finish = Finish {
        text: "done".to_owned(),
        kill_tasks: false,
        release: false,
    };
    cluster.command("f", vec![Command::Finish(finish)]);
    assert_eq!(cluster.inbox("a1"), Vec::<String>::new());
    assert!(cluster.core.framework_named("f").is_some());
    cluster.update("a1", "t", 2, TaskState::Finished);
    assert!(cluster.core.framework_named("f").is_none());
}

#[test]
fn b38_heartbeats_go_both_ways_and_silence_is_disconnection() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    let connection = cluster.machines["a1"].connection;
    cluster.trace = Some(Vec::new());
    cluster.advance(5_000);
    let trace = cluster.trace.take().unwrap();
    assert!(
        trace.iter().any(|line| line.contains("Heartbeat")),
        "{trace:?}"
    );
    assert!(cluster.core.agents(None).next().unwrap().active);
    // It says nothing any more.
    cluster.machines.clear();
    cluster.advance(35_000);
    assert_eq!(cluster.closed, [connection]);
    assert!(!cluster.core.agents(None).next().unwrap().active);
}

#[test]
fn b39_too_many_requests_are_told_when_to_come_back() {
    let mut cluster = Cluster::with(CoreConfig {
        requests_waiting_max: 2,
        ..CoreConfig::default()
    });
    cluster.framework("f", "*");
    let tickets: Vec<_> = (0..3)
        .map(|n| cluster.request("f", &format!("/{n}")))
        .collect();
    assert_eq!(cluster.status(tickets[2]), Some(429));
    let Reply::Response(refused) = &cluster.replies[&tickets[2]] else {
        panic!("a response");
    };
    assert!(
        refused
            .headers
            .contains(&("retry-after".to_owned(), "1".to_owned()))
    );
    assert!(matches!(cluster.standing("f"), FrameworkStanding::Active));
    cluster.answer("f", vec![respond(1, 200)]);
    assert_eq!(cluster.status(tickets[0]), Some(200));
    // The other one waits in vain.
    cluster.answer("f", vec![]);
    cluster.advance(30_000);
    assert_eq!(cluster.status(tickets[1]), Some(504));
    let next = cluster.request("f", "/next");
    cluster.answer("f", vec![respond(3, 204)]);
    assert_eq!(cluster.status(next), Some(204));
}

#[test]
fn effects_wait_for_the_facts_that_they_depend_on() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    cluster.inbox("a1");
    cluster.prompt_store = false;
    let ids = cluster.offer_ids();
    cluster.answer(
        "f",
        vec![accept(&ids, vec![task("t", "cpus:1;mem:1")], 60_000)],
    );
    assert_eq!(cluster.inbox("a1"), Vec::<String>::new());
    assert_eq!(cluster.state("f", "t"), TaskState::Staging);
    // The next step may run before; its effects stay behind.
    cluster.request("f", "/x");
    cluster.answer("f", vec![respond(1, 200)]);
    assert_eq!(cluster.replies.len(), 1);
    cluster.persist_all();
    assert_eq!(cluster.inbox("a1"), ["launch t@2"]);
    assert_eq!(cluster.core.held_effects(), 0);
}

#[test]
fn a_failed_batch_is_halved_down_to_the_event_that_fails_alone() {
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    cluster.request("f", "/busy");
    let tickets: Vec<_> = (0..20)
        .map(|n| cluster.request("f", &format!("/{n}")))
        .collect();
    cluster.answer("f", vec![]);
    // /5 is poison.
    let mut steps = 0;
    let mut sizes = Vec::new();
    while cluster.status(tickets[5]).is_none() {
        cluster.advance(100);
        let told = cluster.told("f");
        if told.is_empty() {
            continue;
        }
        sizes.push(told.len());
        if told.iter().any(|told| told.ends_with("/5")) {
            cluster.fail("f");
        } else {
            cluster.answer("f", vec![]);
        }
        steps += 1;
        assert!(steps < 40);
    }
    assert_eq!(cluster.status(tickets[5]), Some(500));
    assert!(matches!(cluster.standing("f"), FrameworkStanding::Active));
    assert_eq!(sizes[..3], [20, 10, 5]);
}

#[test]
fn an_event_that_cannot_be_dropped_leads_to_quarantine_and_out_again() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    cluster.update("a1", "t", 2, TaskState::Failed);
    for _ in 0..3 {
        assert_eq!(cluster.fail("f"), ["t failed #2"]);
        cluster.advance(400);
    }
    assert!(matches!(
        cluster.standing("f"),
        FrameworkStanding::Quarantined(_)
    ));
    let ticket = cluster.request("f", "/x");
    assert_eq!(cluster.status(ticket), Some(503));
    let ticket = cluster.ticket();
    let name = "f".to_owned();
    cluster.event(Event::FrameworkResumeAsked { ticket, name });
    assert_eq!(cluster.answer("f", vec![]), ["started Resumed"]);
    assert_eq!(cluster.answer("f", vec![]), ["t failed #2"]);
    assert_eq!(cluster.inbox("a1"), ["ack 2 #2"]);
}

#[test]
fn a_step_that_the_host_prevents_comes_again_whole_and_blames_nobody() {
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    cluster.command("f", vec![timer("t1", 100), timer("t2", 100)]);
    cluster.advance(100);
    for _ in 0..20 {
        assert_eq!(cluster.fail_by(Blame::Host, "f"), ["timer t1", "timer t2"]);
        // The longest wait between two tries.
        cluster.advance(60_000);
    }
    assert_eq!(cluster.standing("f"), FrameworkStanding::Active);
    assert_eq!(cluster.answer("f", vec![]), ["timer t1", "timer t2"]);
}

#[test]
fn a_host_has_room_for_so_many_frameworks() {
    let mut cluster = Cluster::with(CoreConfig {
        frameworks_max: 1,
        ..CoreConfig::default()
    });
    cluster.framework("f", "*");
    let ticket = cluster.ticket();
    cluster.event(Event::FrameworkAdded {
        ticket,
        framework: Box::new(NewFramework {
            name: "g".into(),
            version: "1".to_owned(),
            digest: "sha256:0".to_owned(),
            roles: vec![RoleName::star()],
            config: String::new(),
            gpus: false,
            options: FrameworkOptions::default(),
        }),
    });
    let Some(Reply::Refused(why)) = cluster.replies.get(&ticket) else {
        panic!("{:?}", cluster.replies);
    };
    assert_eq!(why.code, code::LIMIT);
}

#[test]
fn a_timer_that_is_set_anew_fires_once_at_its_new_time() {
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    cluster.command("f", vec![timer("t", 100)]);
    cluster.request("f", "/busy");
    cluster.advance(200);
    // It has fired and waits; the step that runs sets it anew.
    cluster.answer("f", vec![timer("t", 1_000)]);
    assert_eq!(cluster.told("f"), Vec::<String>::new());
    cluster.advance(999);
    assert_eq!(cluster.told("f"), Vec::<String>::new());
    cluster.advance(1);
    assert_eq!(cluster.answer("f", vec![]), ["timer t"]);
    cluster.advance(10_000);
    assert_eq!(cluster.told("f"), Vec::<String>::new());
}
