//! Cycles and their failures, fencing, removal, heartbeats, back-pressure: behaviours 22, 34, 36,
//! 38 and 39, and what else a host must bear.

use proffer_core::{CoreConfig, Event, Reply};
use proffer_model::fact::FrameworkStanding;
use proffer_model::framework::{Answer, Command, Finish};
use proffer_model::policy::{Feeds, NONE, Piece, Proposal, TERMS_PLAIN, kind};
use proffer_model::{Amount, OfferId, Reason, Remedy, TaskState};

use super::cluster::{Cluster, Decider};
use super::words::{accept, decline, respond, task, timer, want, want_anything, want_as};

fn piece(kind: u32, units: i64) -> Piece {
    Piece {
        terms: TERMS_PLAIN,
        kind,
        amount: Amount::from_units(units),
    }
}

fn grant(agent: u32, client: u32, demand: u32, pieces: &[Piece]) -> Proposal {
    let mut proposal = Proposal::default();
    proposal.grants.push(agent, client, demand, pieces);
    proposal
}

fn broken() -> Decider {
    Decider::Script(Box::new(|_, _| {
        Err(Reason::new("overrun", Remedy::Retry, "it took too long"))
    }))
}

#[test]
fn b22_cycles_are_coalesced_and_a_failed_policy_stops_nothing() {
    // While a cycle runs everything that happens waits for one more, not for many.
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(9)]);
    cluster.load_policy(Decider::Hand);
    let before = cluster.cycles_asked;
    for agent in 0..9 {
        cluster.agent(&format!("a{agent}"), "cpus:1;mem:100");
    }
    assert_eq!(
        cluster.cycles_asked - before,
        0,
        "one has been in flight since the policy came"
    );
    cluster.propose(Proposal::default());
    assert_eq!(cluster.cycles_asked - before, 1);
    let (_, _, cycle) = &cluster.cycles[0];
    assert_eq!(cycle.agents.as_ref().unwrap().len(), 9);

    // It traps: the fallback decides at once, the policy is tried again, in the end left out.
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(9)]);
    cluster.load_policy(broken());
    cluster.agent("a1", "cpus:1;mem:100");
    assert_eq!(cluster.offers().len(), 1);
    assert!(cluster.core.policy().fallback);
    assert_eq!(cluster.core.policy().failures, 1);
    cluster.agent("a2", "cpus:1;mem:100");
    assert_eq!(
        cluster.offers().len(),
        2,
        "while it waits the fallback goes on"
    );
    cluster.advance(5_000);
    let policy = cluster.core.policy();
    assert_eq!((policy.failures, policy.left_out.is_some()), (5, true));
    cluster.agent("a3", "cpus:1;mem:100");
    assert_eq!(cluster.offers().len(), 3);
    // A good one takes over with a snapshot.
    cluster.load_policy(Decider::Hand);
    assert_eq!(cluster.cycles.back().unwrap().1[0].agents.len(), 3);
    assert!(!cluster.core.policy().fallback);
}

#[test]
fn wrong_by_what_the_policy_knew_is_a_fault_and_wrong_only_now_is_stale() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.load_policy(Decider::Hand);
    cluster.command("f", vec![want("cpus:1;mem:1", 9)]);
    // The agent leaves while the policy thinks: stale, harmless.
    cluster.disconnect("a1");
    let unit = [piece(kind::CPUS, 1), piece(kind::MEM, 1)];
    cluster.propose(grant(0, 0, 0, &unit));
    let policy = cluster.core.policy();
    assert_eq!(
        (policy.grants_stale, policy.grants_invalid, policy.failures),
        (1, 0, 0)
    );
    // It knows that the agent is away, and grants it all the same.
    cluster.command("f", vec![want("cpus:1;mem:1", 10)]);
    while cluster.cycles.len() > 1 {
        cluster.propose(Proposal::default());
    }
    cluster.propose(grant(0, 0, 0, &unit));
    let policy = cluster.core.policy();
    assert_eq!(
        (policy.grants_stale, policy.grants_invalid, policy.failures),
        (1, 1, 1)
    );
}

#[test]
fn nonsense_of_a_policy_is_rejected_by_itself_and_the_rest_stands() {
    let unit = [piece(kind::CPUS, 1), piece(kind::MEM, 1)];
    let too_much = [piece(kind::CPUS, 5), piece(kind::MEM, 5)];
    let negative = [piece(kind::CPUS, -1)];
    for (name, bad) in [
        ("an unknown agent", grant(7, 0, 0, &unit)),
        ("an unknown client", grant(0, 7, 0, &unit)),
        ("an unknown demand", grant(0, 0, 7, &unit)),
        ("more than is there", grant(0, 0, 0, &too_much)),
        ("a negative amount", grant(0, 0, NONE, &negative)),
        ("an unknown kind", grant(0, 0, 0, &[piece(99, 1)])),
        ("a crumb", grant(0, 0, NONE, &[piece(kind::DISK, 1)])),
    ] {
        let mut cluster = Cluster::new();
        cluster.agent("a1", "cpus:4;mem:100;disk:10");
        cluster.framework("f", "*");
        cluster.load_policy(Decider::Hand);
        cluster.command("f", vec![want("cpus:1;mem:1", 1)]);
        let mut proposal = bad;
        proposal.grants.push(0, 0, 0, &unit);
        cluster.fallback = Decider::Hand;
        cluster.propose(proposal);
        assert_eq!(cluster.offers(), ["f a1 cpus:1;mem:1"], "{name}");
        assert_eq!(cluster.core.policy().grants_invalid, 1, "{name}");
    }
    // Columns that differ in length are no proposal at all, and the fallback decides.
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.load_policy(Decider::Hand);
    cluster.command("f", vec![want("cpus:1;mem:1", 1)]);
    let mut torn = grant(0, 0, 0, &unit);
    torn.grants.client.clear();
    cluster.propose(torn);
    assert_eq!(cluster.offers(), ["f a1 cpus:1;mem:1"]);
    assert_eq!(cluster.core.policy().fallback_cycles, 1);
}

#[test]
fn gangs_are_granted_together_in_one_batch_or_not_at_all() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:2;mem:100");
    cluster.agent("a2", "cpus:2;mem:100");
    cluster.framework("f", "*");
    let gang = |count| {
        want_as("d", "*", "cpus:1;mem:1", count, |demand| {
            demand.gang = count
        })
    };
    cluster.command("f", vec![gang(5)]);
    assert_eq!(cluster.offers(), Vec::<String>::new());
    cluster.command("f", vec![gang(4)]);
    assert_eq!(cluster.offers().len(), 2);
    assert!(
        cluster.told("f").iter().all(|told| told.ends_with("gang")),
        "{:?}",
        cluster.told("f")
    );
    // Less than a gang for a demand that is of no use otherwise: a fault.
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:2;mem:100");
    cluster.framework("f", "*");
    cluster.fallback = Decider::Hand;
    cluster.load_policy(Decider::Hand);
    cluster.command("f", vec![gang(2)]);
    cluster.propose(grant(0, 0, 0, &[piece(kind::CPUS, 1), piece(kind::MEM, 1)]));
    assert_eq!(cluster.offers(), Vec::<String>::new());
    assert_eq!(cluster.core.policy().grants_invalid, 1);
}

#[test]
fn a_policy_that_wants_no_filters_is_not_blamed_for_them() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let id = cluster.offer_ids()[0];
    let feeds = Feeds {
        tasks: false,
        filters: false,
        demands: true,
    };
    cluster.load_policy_fed(
        Decider::Script(Box::new(|_, _| Ok(grant(0, 0, 0, &[])))),
        feeds,
    );
    cluster.answer("f", vec![decline(&[id], 60_000)]);
    let before = cluster.cycles_asked;
    cluster.advance(50_000);
    assert_eq!(cluster.offers(), Vec::<String>::new());
    let policy = cluster.core.policy();
    assert!(policy.grants_stale > 0);
    assert_eq!((policy.grants_invalid, policy.failures), (0, 0));
    assert!(
        cluster.cycles_asked - before < 20,
        "{}",
        cluster.cycles_asked - before
    );
}

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

/// Whoever declines everything with 0 s, and does all that could bring the offer back, costs a
/// bounded number of cycles.
#[test]
fn a_framework_that_declines_for_ever_does_not_make_the_host_spin() {
    let commands: [(&str, fn() -> Vec<Command>); 3] = [
        ("declines", Vec::new),
        ("and revives", || vec![Command::Revive(vec![])]),
        ("and restates", || {
            vec![Command::ClearDemand(vec!["d".to_owned()]), want_anything(1)]
        }),
    ];
    for (name, more) in commands {
        let mut cluster = Cluster::new();
        for agent in 0..5 {
            cluster.agent(&format!("a{agent}"), "cpus:4;mem:100");
        }
        cluster.framework("f", "*");
        cluster.command("f", vec![want_anything(1)]);
        let end = cluster.now + 60_000;
        let mut steps = 0;
        while cluster.now < end {
            while !cluster.told("f").is_empty() {
                let ids: Vec<u64> = cluster.offer_ids();
                let mut commands = vec![decline(&ids, 0)];
                commands.extend(more());
                cluster.answer("f", commands);
                steps += 1;
                assert!(steps < 10_000, "{name}: spins at {}", cluster.now);
            }
            cluster.advance(10);
        }
        println!(
            "{name}: {} cycles and {steps} steps in 60 s, 5 agents",
            cluster.cycles_asked
        );
        assert!(
            cluster.cycles_asked < 60 * 25,
            "{name}: {} cycles",
            cluster.cycles_asked
        );
    }
}

#[test]
fn demand_that_comes_free_again_is_met_elsewhere_at_once() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.agent("a2", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let first = cluster.offer_ids();
    cluster.answer("f", vec![decline(&first, 3_600_000)]);
    cluster.advance(200);
    assert_eq!(cluster.offers().len(), 1, "not with the next sweep");
    assert_ne!(cluster.offer_ids(), first);
    let keep: Vec<OfferId> = cluster.offer_ids().into_iter().map(OfferId).collect();
    cluster.answer("f", vec![Command::Keep(keep)]);
}
