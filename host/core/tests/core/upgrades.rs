//! Another version of a component, and the ways out of quarantine: behaviours 32 and 55.

use proffer_core::{Blame, Event, FrameworkUpgrade, Reply, Ticket};
use proffer_model::TaskState;
use proffer_model::fact::FrameworkStanding;
use proffer_model::framework::{Command, Finish};

use super::cluster::Cluster;
use super::words::{accept, kill, respond, task, timer, want_anything};

impl Cluster {
    pub(crate) fn upgrade(&mut self, name: &str, version: &str) -> Ticket {
        let ticket = self.ticket();
        self.event(Event::FrameworkUpgradeAsked {
            ticket,
            upgrade: Box::new(FrameworkUpgrade {
                name: name.to_owned(),
                version: version.to_owned(),
                digest: format!("sha256:{version}"),
                config: None,
            }),
        });
        ticket
    }

    pub(crate) fn skip(&mut self, name: &str, event: &str) -> Ticket {
        let ticket = self.ticket();
        let (name, event) = (name.to_owned(), event.to_owned());
        self.event(Event::EventSkipAsked {
            ticket,
            name,
            event,
        });
        ticket
    }

    /// What was answered, in words; empty if nothing was.
    #[track_caller]
    pub(crate) fn reply(&self, ticket: Ticket) -> String {
        match self.replies.get(&ticket) {
            Some(Reply::Done) => "done".to_owned(),
            Some(Reply::Refused(why)) => why.text.clone(),
            Some(other) => format!("{other:?}"),
            None => String::new(),
        }
    }

    fn version(&self, name: &str) -> String {
        self.core.framework_named(name).unwrap().version
    }

    /// A framework that fails at a task's end until it is in quarantine.
    fn quarantined() -> Self {
        let mut cluster = Self::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
        cluster.update("a1", "t", 2, TaskState::Failed);
        for _ in 0..3 {
            assert_eq!(cluster.fail("f"), ["t failed #2"]);
            cluster.advance(400);
        }
        assert!(matches!(
            cluster.standing("f"),
            FrameworkStanding::Quarantined(_)
        ));
        cluster
    }
}

#[test]
fn b55_an_upgrade_waits_for_the_call_under_way_and_carries_tasks_and_queue_over() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    cluster.lifecycle.clear();
    cluster.request("f", "/busy");
    let ticket = cluster.upgrade("f", "2");
    assert_eq!(cluster.lifecycle, Vec::<String>::new(), "its call goes on");
    let waiting = cluster.request("f", "/later");
    cluster.update("a1", "t", 2, TaskState::Failed);
    cluster.answer("f", vec![timer("x", 10)]);
    assert_eq!(cluster.lifecycle, ["start f 2"]);
    assert_eq!(cluster.reply(ticket), "", "nothing is decided yet");
    assert_eq!(cluster.version("f"), "1");
    assert_eq!(cluster.answer("f", vec![]), ["started Upgraded(\"1\")"]);
    assert_eq!(cluster.reply(ticket), "done");
    assert_eq!(cluster.version("f"), "2");
    let told = cluster.answer("f", vec![respond(3, 200)]);
    assert_eq!(told, ["request 3 /later", "t failed #2"]);
    assert_eq!(cluster.status(waiting), Some(200));
    cluster.advance(10);
    assert_eq!(cluster.answer("f", vec![]), ["timer x"]);
    // Durable with the step that took it: a host that dies now goes on with the new version.
    cluster.restart();
    assert_eq!(cluster.version("f"), "2");
    assert_eq!(cluster.answer("f", vec![]), ["started Resumed"]);
    let outcome = cluster.core.framework_named("f").unwrap().last_upgrade;
    assert_eq!(outcome.unwrap().from, "1");
}

#[test]
fn a_version_that_fails_in_its_first_step_leaves_the_one_before() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    cluster.command("f", vec![want_anything(1), Command::Revive(vec![])]);
    cluster.advance(1_100);
    let ids = cluster.offer_ids();
    let kept = ids.iter().copied().map(proffer_model::OfferId).collect();
    cluster.answer("f", vec![Command::Keep(kept)]);
    cluster.lifecycle.clear();
    let ticket = cluster.upgrade("f", "2");
    assert_eq!(
        cluster.fail("f"),
        ["started Upgraded(\"1\")"],
        "alone, without the offer that is kept"
    );
    let text = "f 2 did not start, so 1 goes on: it trapped";
    assert_eq!(cluster.reply(ticket), text);
    assert_eq!(cluster.lifecycle, ["start f 2", "start f 1"]);
    assert_eq!(cluster.version("f"), "1");
    assert_eq!(
        cluster.told("f"),
        Vec::<String>::new(),
        "it is told nothing"
    );
    // The offer that was kept is still there, and can be used.
    cluster.command("f", vec![accept(&ids, vec![task("u", "cpus:1;mem:1")], 0)]);
    assert_eq!(cluster.state("f", "u"), TaskState::Staging);
    // It is on record, over a restart too, and `explain` says it.
    cluster.restart();
    let outcome = cluster
        .core
        .framework_named("f")
        .unwrap()
        .last_upgrade
        .unwrap();
    assert_eq!(
        (outcome.version.as_str(), outcome.from.as_str()),
        ("2", "1")
    );
    let report = cluster.core.explain_framework("f").unwrap();
    let said = report
        .general
        .iter()
        .any(|why| why.text == "the upgrade to 2 was turned down, 1 goes on: it trapped");
    assert!(said, "{:?}", report.general);
}

/// A step that the host prevents is not the framework's fault; all the same an upgrade does not wait
/// behind it, and a version that cannot be run leaves the one before.
#[test]
fn what_the_host_prevents_keeps_no_version_from_running() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    cluster.request("f", "/busy");
    let ticket = cluster.upgrade("f", "2");
    cluster.fail_by(Blame::Host, "f");
    assert_eq!(cluster.told("f"), ["started Upgraded(\"1\")"]);
    cluster.fail_by(Blame::Host, "f");
    assert!(cluster.reply(ticket).contains("2 did not start"));
    cluster.advance(400);
    assert_eq!(cluster.told("f").len(), 1, "the request comes again, to 1");
    assert_eq!(cluster.version("f"), "1");
}

#[test]
fn a_host_that_dies_during_a_trial_goes_on_with_the_version_before() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    cluster.upgrade("f", "2");
    cluster.prompt_store = false;
    cluster.answer("f", vec![]);
    assert_eq!(cluster.version("f"), "2");
    cluster.restart();
    assert_eq!(cluster.version("f"), "1", "its step was not durable");
    assert_eq!(
        cluster.told("f"),
        Vec::<String>::new(),
        "nor is the restart"
    );
    cluster.prompt_store = true;
    cluster.persist_all();
    assert_eq!(cluster.answer("f", vec![]), ["started Resumed"]);
}

#[test]
fn upgrades_that_make_no_sense_are_refused_with_what_is_in_the_way() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    let ticket = cluster.upgrade("g", "2");
    assert_eq!(cluster.reply(ticket), "there is no framework named 'g'");
    cluster.upgrade("f", "2");
    let ticket = cluster.upgrade("f", "3");
    assert_eq!(cluster.reply(ticket), "f is being upgraded to 2 already");
    cluster.answer("f", vec![]);
    let ticket = cluster.upgrade("f", "2");
    let text = "f runs this component with this configuration already";
    assert_eq!(cluster.reply(ticket), text);
    // Removed while it waits for the call under way.
    cluster.request("f", "/busy");
    let waits = cluster.upgrade("f", "3");
    let finish = Finish {
        text: "done".to_owned(),
        kill_tasks: false,
        release: false,
    };
    cluster.answer("f", vec![Command::Finish(finish)]);
    assert_eq!(cluster.reply(waits), "the framework is being removed");
    let ticket = cluster.upgrade("f", "4");
    assert_eq!(cluster.reply(ticket), "f is being removed");
    assert_eq!(cluster.version("f"), "2");
}

#[test]
fn a_framework_that_never_started_is_mended_by_an_upgrade() {
    let mut cluster = Cluster::new();
    cluster.add("f", "*");
    cluster.fail("f");
    let ticket = cluster.upgrade("f", "2");
    assert_eq!(cluster.answer("f", vec![]), ["started First"], "at once");
    assert_eq!(cluster.reply(ticket), "done");

    let mut cluster = Cluster::new();
    cluster.add("f", "*");
    cluster.fail("f");
    cluster.upgrade("f", "2");
    cluster.fail("f");
    cluster.advance(400);
    assert_eq!(
        cluster.answer("f", vec![]),
        ["started First"],
        "the old one"
    );
    assert_eq!(cluster.version("f"), "1");
}

#[test]
fn an_upgrade_resumes_at_the_event_that_failed() {
    let mut cluster = Cluster::quarantined();
    let ticket = cluster.upgrade("f", "2");
    cluster.fail("f");
    assert!(cluster.reply(ticket).contains("2 did not start"));
    let view = cluster.core.framework_named("f").unwrap();
    assert!(matches!(view.standing, FrameworkStanding::Quarantined(_)));
    assert_eq!(view.blamed.unwrap().id, "update:t:2", "it stays as it was");
    let ticket = cluster.upgrade("f", "3");
    assert_eq!(cluster.answer("f", vec![]), ["started Upgraded(\"1\")"]);
    assert_eq!(cluster.reply(ticket), "done");
    assert_eq!(cluster.answer("f", vec![]), ["t failed #2"]);
    assert_eq!(cluster.inbox("a1"), ["ack 2 #2"]);
    assert_eq!(cluster.core.framework_named("f").unwrap().blamed, None);
}

#[test]
fn the_event_of_a_quarantine_is_named_and_may_be_passed_over_but_no_other() {
    let mut cluster = Cluster::quarantined();
    let view = cluster.core.framework_named("f").unwrap();
    let blamed = view.blamed.unwrap();
    assert_eq!(blamed.id, "update:t:2");
    assert!(
        blamed.what.starts_with("update 2 of task t: failed"),
        "{blamed:?}"
    );
    let ticket = cluster.skip("f", "update:t:1");
    assert!(cluster.reply(ticket).contains("fails at 'update:t:2'"));
    cluster.skip("f", "update:t:2");
    assert_eq!(cluster.inbox("a1"), ["ack 2 #2"], "the agent may forget it");
    assert_eq!(cluster.answer("f", vec![]), ["started Resumed"]);
    assert_eq!(cluster.told("f"), Vec::<String>::new(), "it is never told");
    assert_eq!(cluster.state("f", "t"), TaskState::Failed);
    let ticket = cluster.skip("f", "update:t:2");
    assert!(cluster.reply(ticket).contains("not in quarantine"));
    cluster.restart();
    let skipped = cluster.core.framework_named("f").unwrap().skipped;
    assert_eq!(skipped.len(), 1, "on record");
    assert_eq!(skipped[0].id, "update:t:2");
}

#[test]
fn an_event_is_passed_over_after_a_restart_when_its_agent_has_told_it_again() {
    let mut cluster = Cluster::quarantined();
    cluster.restart();
    assert_eq!(
        cluster
            .core
            .framework_named("f")
            .unwrap()
            .blamed
            .unwrap()
            .id,
        "update:t:2"
    );
    let ticket = cluster.skip("f", "update:t:2");
    assert!(cluster.reply(ticket).contains("not been told again"));
    cluster.reconnect("a1", &[(2, "f", "t", TaskState::Failed)]);
    cluster.update("a1", "t", 2, TaskState::Failed);
    let ticket = cluster.skip("f", "update:t:2");
    assert_eq!(cluster.reply(ticket), "done");
    assert_eq!(cluster.answer("f", vec![]), ["started Resumed"]);
    assert_eq!(cluster.told("f"), Vec::<String>::new());
}

#[test]
fn a_life_cycle_event_that_is_passed_over_does_not_come_again() {
    let mut cluster = Cluster::new();
    cluster.add("f", "*");
    for _ in 0..3 {
        cluster.fail("f");
        cluster.advance(400);
    }
    cluster.restart();
    let blamed = cluster.core.framework_named("f").unwrap().blamed.unwrap();
    assert_eq!(blamed.id, "started");
    let ticket = cluster.skip("f", "started");
    assert_eq!(cluster.reply(ticket), "done");
    assert_eq!(cluster.told("f"), Vec::<String>::new());
    cluster.request("f", "/x");
    assert!(cluster.told("f")[0].ends_with(" /x"), "nothing before it");
}

/// Agents that come and go while a framework is in quarantine do not fill its queue, and it is told
/// how they stand when it goes on.
#[test]
fn quarantine_keeps_of_each_agent_the_newest_change_only() {
    let mut cluster = Cluster::quarantined();
    cluster.agent("a2", "cpus:1;mem:10");
    let before = cluster.core.framework_named("f").unwrap().queued;
    for _ in 0..50 {
        cluster.disconnect("a1");
        cluster.reconnect("a1", &[(2, "f", "t", TaskState::Failed)]);
    }
    assert_eq!(cluster.core.framework_named("f").unwrap().queued, before);
}

/// Every step that was committed was told once; what was told to no committed step comes again.
#[test]
fn b32_events_come_until_a_committed_step_has_taken_them() {
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![task("t", "cpus:1;mem:10")]);
    cluster.command("f", vec![timer("x", 5), kill("nobody")]);
    cluster.advance(5);
    let told = ["nobody unknown #0 (reconciliation)"];
    assert_eq!(cluster.told("f"), told);
    // The host dies under the step: nothing of it is durable, all of it comes again.
    cluster.prompt_store = false;
    cluster.answer("f", vec![timer("y", 1_000)]);
    cluster.restart();
    cluster.prompt_store = true;
    cluster.persist_all();
    // What has passed since the last fact may be time in which no host ran: the timer is late by that.
    cluster.advance(5);
    assert_eq!(cluster.answer("f", vec![]), ["started Resumed"]);
    assert_eq!(cluster.answer("f", vec![]), [told[0], "timer x"]);
    cluster.restart();
    assert_eq!(cluster.answer("f", vec![]), ["started Resumed"]);
    assert_eq!(
        cluster.told("f"),
        Vec::<String>::new(),
        "and not a third time"
    );
}
