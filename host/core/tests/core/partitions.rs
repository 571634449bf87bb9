//! Agents that are away, time in which no host ran, and what outlives a host: behaviours 20, 21, 23,
//! 35, 37, 40, 41, 42 and 52.

use proffer_core::{AgentChange, CoreConfig, Event, Ticket};
use proffer_model::fact::Fact;
use proffer_model::framework::Standing;
use proffer_model::{Duration, TaskState, Timestamp, Window};

use super::cluster::Cluster;
use super::words::{accept, kill, reconcile, task, timer, want_anything};

impl Cluster {
    pub(crate) fn declare_gone(&mut self, agent: &str) -> Ticket {
        let ticket = self.ticket();
        let agent = agent.to_owned();
        self.event(Event::AgentGoneAsked { ticket, agent });
        ticket
    }

    fn agent_standing(&self, name: &str) -> Option<Standing> {
        self.core.agent_named(name).map(|view| {
            if view.active {
                Standing::Returned
            } else {
                view.standing
            }
        })
    }

    /// A cluster whose unreachable agents are given up after a minute, two within ten minutes.
    fn impatient() -> Self {
        Self::with(CoreConfig {
            agent_gone_after: Some(Duration::from_secs(60)),
            agent_removals: (2, Duration::from_secs(600)),
            ..CoreConfig::default()
        })
    }

    /// One task of `f` on each of these agents.
    fn with_a_task_each(mut self, agents: usize) -> Self {
        self.framework("f", "*");
        for n in 0..agents {
            self.agent(&format!("a{n}"), "cpus:1;mem:10");
            self.command(
                "f",
                vec![
                    want_anything(1),
                    proffer_model::framework::Command::Revive(vec![]),
                ],
            );
            self.advance(1_100);
            let id = self.offer_ids()[0];
            let spec = task(&format!("t{n}"), "cpus:1;mem:10");
            let clear = proffer_model::framework::Command::ClearDemand(vec!["d".to_owned()]);
            self.answer("f", vec![accept(&[id], vec![spec], 0), clear]);
            self.update(&format!("a{n}"), &format!("t{n}"), 1, TaskState::Running);
            self.answer("f", vec![]);
        }
        self
    }

    /// Everything that `f` is told until it is idle.
    pub(crate) fn drain(&mut self, name: &str) -> Vec<String> {
        let mut all = Vec::new();
        while !self.told(name).is_empty() {
            all.extend(self.answer(name, vec![]));
        }
        all
    }
}

#[test]
fn b40_disconnected_unreachable_and_gone_differ_in_time_fact_and_event() {
    let mut cluster = Cluster::impatient().with_a_task_each(1);
    let since = cluster.facts.len();
    cluster.disconnect("a0");
    assert_eq!(cluster.answer("f", vec![]), ["agent-0 Disconnected"]);
    assert_eq!(cluster.facts.len(), since, "nothing is decided");
    assert_eq!(cluster.agent_standing("a0"), Some(Standing::Disconnected));
    // It is back before its time: nothing was written, nothing is in doubt.
    cluster.advance(29_000);
    cluster.reconnect("a0", &[(2, "f", "t0", TaskState::Running)]);
    cluster.advance(2_000);
    assert_eq!(cluster.drain("f"), ["agent-0 Returned"]);
    let written = |cluster: &Cluster| -> Vec<String> {
        let facts = cluster.facts[since..].iter().flatten();
        let facts = facts.filter(|fact| {
            matches!(
                fact,
                Fact::AgentUnreachable { .. } | Fact::AgentReturned { .. } | Fact::AgentGone(_)
            )
        });
        facts
            .map(|fact| format!("{fact:?}").chars().take(13).collect())
            .collect()
    };
    assert_eq!(written(&cluster), Vec::<String>::new());
    // Longer: in doubt, and back.
    cluster.disconnect("a0");
    cluster.advance(30_000);
    let told = [
        "agent-0 Disconnected",
        "t0 unreachable #0 (agent-lost)",
        "agent-0 Unreachable",
    ];
    assert_eq!(cluster.drain("f"), told);
    cluster.reconnect("a0", &[(2, "f", "t0", TaskState::Running)]);
    cluster.drain("f");
    assert_eq!(written(&cluster), ["AgentUnreacha", "AgentReturned"]);
    // Longer still: gone, by a timer of its own.
    cluster.disconnect("a0");
    cluster.advance(30_000);
    cluster.drain("f");
    let gone_at = cluster.core.agent_named("a0").unwrap().gone_at;
    assert_eq!(gone_at.unwrap().0, cluster.now + 60_000, "operators see it");
    cluster.advance(59_999);
    assert_eq!(cluster.agent_standing("a0"), Some(Standing::Unreachable));
    cluster.advance(1);
    assert_eq!(
        cluster.drain("f"),
        ["t0 gone #0 (agent-lost)", "agent-0 Gone"]
    );
    assert_eq!(cluster.agent_standing("a0"), None);
    let gone: Vec<_> = cluster.core.gone_agents(None).collect();
    assert_eq!((gone.len(), gone[0].hostname.as_str()), (1, "a0"));
    assert_eq!(
        written(&cluster).last().map(String::as_str),
        Some("AgentGone(Gon")
    );
}

#[test]
fn b41_many_agents_that_fail_at_once_are_noticed_at_once_and_given_up_slowly() {
    let mut cluster = Cluster::impatient().with_a_task_each(5);
    for n in 0..5 {
        cluster.disconnect(&format!("a{n}"));
    }
    cluster.advance(30_000);
    let told = cluster.drain("f");
    let unreachable = told
        .iter()
        .filter(|told| told.contains("unreachable #0"))
        .count();
    assert_eq!(unreachable, 5, "the notice is not delayed");
    cluster.advance(60_000);
    let lost = |cluster: &Cluster| cluster.core.gone_agents(None).count();
    assert_eq!((lost(&cluster), cluster.core.agents_braked()), (2, 3));
    // One of those that wait comes back, and is not given up.
    let launch = cluster.launch_of("f", "t4");
    cluster.reconnect("a4", &[(launch, "f", "t4", TaskState::Running)]);
    assert_eq!((lost(&cluster), cluster.core.agents_braked()), (2, 2));
    cluster.advance(599_000);
    assert_eq!(lost(&cluster), 2);
    cluster.advance(1_000);
    assert_eq!((lost(&cluster), cluster.core.agents_braked()), (4, 0));
    assert_eq!(cluster.state("f", "t4"), TaskState::Running);
    // An operator's word is not braked.
    cluster.disconnect("a4");
    let ticket = cluster.declare_gone("a4");
    assert_eq!(cluster.reply(ticket), "done");
    assert_eq!(lost(&cluster), 5);
}

#[test]
fn b42_gone_agents_are_refused_and_a_reboot_ends_what_ran() {
    let tasks = vec![task("t1", "cpus:1;mem:10"), task("t2", "cpus:1;mem:10")];
    let mut cluster = Cluster::running("cpus:4;mem:100", tasks);
    // Another boot: the same agent and id, and nothing runs any more.
    cluster.reconnect_with("a1", &[(3, "f", "t2", TaskState::Killed)], |registration| {
        registration.boot = "boot 2".to_owned();
    });
    assert_eq!(cluster.inbox("a1"), ["registered as agent-0"]);
    assert_eq!(cluster.answer("f", vec![]), ["t1 gone #0 (agent-lost)"]);
    let why = cluster.core.task_named("f", "t1").unwrap().why.text;
    assert_eq!(why, "its machine was rebooted");
    assert_eq!(cluster.free("a1"), "cpus:4;mem:100");
    let ticket = cluster.declare_gone("a1");
    assert!(cluster.reply(ticket).contains("is connected"));
    cluster.disconnect("a1");
    cluster.declare_gone("agent-0");
    // Its newest word on t2 was heard, its update was not.
    let told = cluster.drain("f");
    assert!(
        told.contains(&"t2 killed #0 (agent-lost)".to_owned()),
        "{told:?}"
    );
    // For ever, after a restart and from a snapshot too.
    for _ in 0..2 {
        let registration = cluster.machines["a1"].registration.clone();
        cluster.register("a1", registration);
        let inbox = cluster.inbox("a1");
        assert!(inbox[0].starts_with("refused: "), "{inbox:?}");
        assert_eq!(cluster.core.agents(None).count(), 0);
        let snapshot = cluster.core.snapshot().into_facts();
        cluster.restart_from(snapshot);
    }
    // With a new data directory it is a new agent under a new id.
    cluster.reconnect_with("a1", &[], |registration| {
        registration.key = "new".to_owned()
    });
    assert_eq!(cluster.inbox("a1"), ["registered as agent-1"]);
}

#[test]
fn what_is_gone_is_answered_and_kept_apart_from_what_may_return() {
    let mut cluster = Cluster::impatient().with_a_task_each(2);
    cluster.disconnect("a0");
    cluster.disconnect("a1");
    cluster.advance(30_000);
    cluster.declare_gone("a0");
    cluster.drain("f");
    cluster.command("f", vec![reconcile(&["t0", "t1"]), kill("t0")]);
    let told = cluster.drain("f");
    assert!(
        told.contains(&"t0 gone-by-operator #0 (reconciliation)".to_owned()),
        "{told:?}"
    );
    assert!(
        told.contains(&"t1 unreachable #0 (reconciliation)".to_owned()),
        "{told:?}"
    );
    // Of those that have not ended, all.
    cluster.command("f", vec![reconcile(&[])]);
    let told = cluster.drain("f");
    assert_eq!(
        told,
        [
            "t1 unreachable #0 (reconciliation)",
            "reconciled 1, silent []"
        ]
    );
}

#[test]
fn b35_timers_and_absences_run_on_over_a_restart_without_the_time_between() {
    let mut cluster = Cluster::impatient().with_a_task_each(1);
    cluster.disconnect("a0");
    cluster.advance(30_000);
    cluster.drain("f");
    let by_clock = proffer_model::Timestamp(cluster.now + 300_000);
    let at = proffer_model::framework::Timer {
        id: "at".to_owned(),
        due: proffer_model::framework::Due::At(by_clock),
    };
    cluster.command(
        "f",
        vec![
            timer("after", 40_000),
            proffer_model::framework::Command::SetTimer(at),
        ],
    );
    cluster.advance(20_000);
    // No host runs for an hour.
    cluster.now += 3_600_000;
    cluster.restart();
    let told = cluster.drain("f");
    assert_eq!(
        told,
        ["started Resumed", "timer at"],
        "the wall clock's is due"
    );
    assert_eq!(cluster.agent_standing("a0"), Some(Standing::Unreachable));
    // What was left is left, give or take how often the host says that it runs.
    cluster.advance(20_000);
    let told = cluster.drain("f");
    assert!(told.is_empty() || told == ["timer after"], "{told:?}");
    cluster.advance(10_000);
    assert_eq!(cluster.state("f", "t0"), TaskState::Unreachable);
    cluster.advance(20_000);
    assert_eq!(cluster.core.gone_agents(None).count(), 1);
    // And over a second one, from a snapshot.
    let mut cluster = Cluster::impatient();
    cluster.framework("f", "*");
    cluster.advance(10_000);
    cluster.command("f", vec![timer("x", 60_000)]);
    for _ in 0..3 {
        cluster.advance(10_000);
        cluster.now += 100_000;
        let snapshot = cluster.core.snapshot().into_facts();
        cluster.restart_from(snapshot);
        assert_eq!(cluster.drain("f"), ["started Resumed"]);
    }
    cluster.advance(29_999);
    assert_eq!(cluster.drain("f"), Vec::<String>::new(), "never early");
    cluster.advance(31_001);
    assert_eq!(cluster.drain("f"), ["timer x"]);
}

#[test]
fn b21_after_a_restart_agents_are_awaited_to_four_fifths_or_for_ten_minutes() {
    let mut cluster = Cluster::new();
    for n in 0..10 {
        cluster.agent(&format!("a{n}"), "cpus:1;mem:10");
    }
    assert_eq!(
        cluster.core.agents_awaited(),
        None,
        "a new host waits for nobody"
    );
    cluster.restart();
    let back = |cluster: &Cluster| cluster.core.agents_awaited().map(|a| (a.back, a.expected));
    for n in 0..8 {
        assert_eq!(back(&cluster), Some((n, 10)));
        cluster.reconnect(&format!("a{n}"), &[]);
        // One that comes twice counts once.
        if n == 0 {
            cluster.disconnect("a0");
            cluster.reconnect("a0", &[]);
        }
    }
    assert_eq!(back(&cluster), None);
    cluster.restart();
    cluster.advance(599_999);
    assert_eq!(back(&cluster), Some((0, 10)));
    cluster.advance(1);
    assert_eq!(back(&cluster), None);

    // With a quota nothing is offered before that.
    let mut cluster = Cluster::new();
    for n in 0..5 {
        cluster.agent(&format!("a{n}"), "cpus:1;mem:10");
    }
    cluster.framework("f", "eng");
    let ticket = cluster.ticket();
    cluster.event(Event::QuotaSet {
        ticket,
        role: proffer_model::RoleName::new("eng").unwrap(),
        quotas: vec![proffer_model::KindQuota {
            kind: "cpus".to_owned(),
            guarantee: proffer_model::Amount::ZERO,
            limit: Some(proffer_model::Amount::from_units(4)),
        }],
        weight: None,
        force: false,
    });
    assert_eq!(cluster.reply(ticket), "done");
    let demand = super::words::want_as("d", "eng", "cpus:1;mem:1", 1, |_| {});
    cluster.command("f", vec![demand]);
    assert_eq!(cluster.offers().len(), 1);
    cluster.restart();
    assert_eq!(cluster.answer("f", vec![]), ["started Resumed"]);
    for n in 0..4 {
        assert_eq!(cluster.offers(), Vec::<String>::new(), "{n} of 5 are back");
        cluster.reconnect(&format!("a{n}"), &[]);
    }
    assert_eq!(cluster.offers().len(), 1);
}

#[test]
fn b23_an_update_is_acknowledged_when_the_step_that_took_it_is_durable() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    cluster.prompt_store = false;
    cluster.update("a1", "t", 2, TaskState::Failed);
    assert_eq!(cluster.answer("f", vec![]), ["t failed #2"]);
    assert_eq!(
        cluster.inbox("a1"),
        Vec::<String>::new(),
        "the agent keeps it"
    );
    // The host dies before: the agent tells it again, and so does the host.
    cluster.restart();
    cluster.prompt_store = true;
    cluster.persist_all();
    cluster.reconnect("a1", &[(2, "f", "t", TaskState::Failed)]);
    cluster.inbox("a1");
    cluster.update("a1", "t", 2, TaskState::Failed);
    assert_eq!(cluster.answer("f", vec![]), ["started Resumed"]);
    assert_eq!(cluster.answer("f", vec![]), ["t failed #2"]);
    assert_eq!(cluster.inbox("a1"), ["ack 2 #2"]);
    // It dies after: told again by the agent, acknowledged again, and told to nobody.
    cluster.restart();
    cluster.reconnect("a1", &[(2, "f", "t", TaskState::Failed)]);
    assert_eq!(cluster.answer("f", vec![]), ["started Resumed"]);
    cluster.inbox("a1");
    cluster.update("a1", "t", 2, TaskState::Failed);
    assert_eq!(cluster.inbox("a1"), ["ack 2 #2"]);
    assert_eq!(cluster.told("f"), Vec::<String>::new());
}

/// A heartbeat before the answer to a registration would come from a host that is nobody's yet.
#[test]
fn no_heartbeat_comes_before_the_registration_is_durable() {
    let mut cluster = Cluster::new();
    cluster.prompt_store = false;
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.trace = Some(Vec::new());
    cluster.advance(6_000);
    let trace = cluster.trace.take().unwrap();
    let beats = |trace: &[String]| {
        trace
            .iter()
            .filter(|line| line.contains("Heartbeat"))
            .count()
    };
    assert_eq!(beats(&trace), 0, "{trace:?}");
    cluster.prompt_store = true;
    cluster.persist_all();
    assert_eq!(cluster.inbox("a1"), ["registered as agent-0"]);
    cluster.trace = Some(Vec::new());
    cluster.advance(6_000);
    assert!(beats(&cluster.trace.take().unwrap()) > 0);
}

#[test]
fn b20_weights_outlive_the_host_from_facts_and_from_a_snapshot() {
    let mut cluster = Cluster::new();
    cluster.framework("f", "eng");
    let ticket = cluster.ticket();
    let eng = proffer_model::RoleName::new("eng").unwrap();
    cluster.event(Event::RoleSet {
        ticket,
        role: eng.clone(),
        weight: proffer_model::Amount::from_milli(2_500),
    });
    let weight = |cluster: &Cluster| {
        let mut roles = cluster.core.roles();
        roles.find(|(role, _)| **role == eng).unwrap().1.milli()
    };
    cluster.restart();
    assert_eq!(weight(&cluster), 2_500);
    let snapshot = cluster.core.snapshot().into_facts();
    cluster.restart_from(snapshot);
    assert_eq!(weight(&cluster), 2_500);
}

#[test]
fn b37_what_a_removal_would_end_can_be_looked_at_before() {
    let mut cluster = Cluster::impatient().with_a_task_each(3);
    cluster.update("a1", "t1", 2, TaskState::Finished);
    cluster.answer("f", vec![]);
    cluster.disconnect("a2");
    let framework = cluster.framework_id("f");
    let before = cluster.facts.len();
    let planned: Vec<String> = cluster
        .core
        .live_tasks(framework)
        .map(|task| format!("{} on {}", task.id, task.agent))
        .collect();
    assert_eq!(planned, ["t0 on agent-0", "t2 on agent-2"]);
    assert_eq!(cluster.facts.len(), before, "a look changes nothing");
    // And that is what it ends: one confirmed, one presumed and said so.
    cluster.remove("f");
    cluster.update("a0", "t0", 2, TaskState::Killed);
    assert!(cluster.core.framework_named("f").is_none());
    let presumed = "removed with 1 tasks on agents that are away";
    assert!(
        cluster.notes.iter().any(|note| note.contains(presumed)),
        "{:?}",
        cluster.notes
    );
}

/// Each thing that a restless cluster could fill the host's memory with, far over its limit.
#[test]
fn b52_what_ended_waits_or_is_gone_is_bounded() {
    let mut cluster = Cluster::with(CoreConfig {
        ended_tasks_max: 3,
        requests_waiting_max: 4,
        timers_max: 5,
        ..CoreConfig::default()
    });
    cluster.agent("a0", "cpus:99;mem:99");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let ids = cluster.offer_ids();
    let specs = (0..9).map(|n| task(&format!("t{n}"), "cpus:1;mem:1"));
    cluster.answer("f", vec![accept(&ids, specs.collect(), 60_000)]);
    for n in 0..9 {
        cluster.update("a0", &format!("t{n}"), 1, TaskState::Finished);
    }
    cluster.drain("f");
    assert_eq!(cluster.core.framework_named("f").unwrap().tasks, (0, 3));
    let timers = (0..9).map(|n| timer(&format!("x{n}"), 60_000)).collect();
    cluster.command("f", timers);
    let told = cluster.drain("f");
    let rejected = told.iter().filter(|told| told.ends_with("limit")).count();
    assert_eq!(rejected, 4, "{told:?}");
    cluster.request("f", "/busy");
    cluster.answer("f", vec![]);
    let before = cluster.core.framework_named("f").unwrap().counters;
    let asked: Vec<Ticket> = (0..9)
        .map(|n| cluster.request("f", &format!("/{n}")))
        .collect();
    let refused = asked
        .iter()
        .filter(|ticket| cluster.status(**ticket) == Some(429))
        .count() as u64;
    assert!(refused >= 5, "{refused}");
    let counters = cluster.core.framework_named("f").unwrap().counters;
    let counted = counters.requests_refused - before.requests_refused;
    assert_eq!(counted, refused, "and counted");
}

/// Declared gone by an operator or by time, its downtime was still asked for.
#[test]
fn what_was_asked_back_on_an_agent_is_rescinded_when_it_is_gone() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:1")]);
    let (ticket, agent) = (cluster.ticket(), cluster.agent_id("a1"));
    let start = Timestamp(cluster.now + 60_000);
    let down = Some(Window {
        start,
        length: None,
    });
    cluster.event(Event::AgentChangeAsked {
        ticket,
        agent,
        change: AgentChange::Down(down),
    });
    cluster.command("f", vec![want_anything(1)]);
    assert_eq!(cluster.core.inverse_offers().count(), 1);
    cluster.drain("f");
    cluster.disconnect("a1");
    cluster.declare_gone("a1");
    assert_eq!(cluster.core.inverse_offers().count(), 0);
    let told = cluster.drain("f").join("\n");
    assert!(told.contains("InverseRescinded"), "{told}");
}
