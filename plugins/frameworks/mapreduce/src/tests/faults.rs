//! Tasks that fail, outputs that are lost, agents that go, tasks that take too long.

use proffer_sdk::framework::TaskState;
use serde_json::{Value, json};

use super::Cluster;
use crate::job::Job;
use crate::progress::lose_agent;
use crate::submit::{Submission, read_job};
use crate::task::AttemptState;

/// A cluster whose job has done its maps.
fn mapped(agents: u32, files: u32, reducers: u32) -> Cluster {
    let mut cluster = Cluster::new(agents);
    cluster.submit(files, reducers, json!({"straggler_after_ms": 100}));
    cluster.place();
    cluster.finish_all();
    cluster
}

#[test]
fn a_failed_task_is_tried_again_on_another_agent() {
    let mut cluster = Cluster::new(2);
    cluster.submit(1, 1, json!({}));
    cluster.place();
    let first = cluster.host("wc.1.m0.a0");
    cluster.kit.fail("wc.1.m0.a0", "exited", "exit status 1");
    assert_eq!(cluster.demand("wc.1.map"), 1);
    assert_eq!(cluster.place(), ["wc.1.m0.a1"]);
    assert_ne!(cluster.host("wc.1.m0.a1"), first);
    cluster.run_to_the_end();
    let job = cluster.job();
    assert_eq!(job["state"], "succeeded");
    assert_eq!(job["tasks"][0]["attempts"][0]["why"], "exit status 1");
    assert_eq!(job["tasks"][0]["failures"], 1);
}

#[test]
fn with_one_agent_it_is_tried_there_again_after_a_while() {
    let mut cluster = Cluster::new(1);
    cluster.submit(1, 1, json!({}));
    cluster.place();
    cluster.kit.fail("wc.1.m0.a0", "exited", "exit status 1");
    assert!(cluster.place().is_empty());
    cluster.kit.advance(10_000);
    assert_eq!(cluster.place(), ["wc.1.m0.a1"]);
}

#[test]
fn a_job_is_given_up_with_the_reason_and_its_tasks_are_killed() {
    let mut cluster = Cluster::new(4);
    cluster.submit(2, 1, json!({"failures_max": 2}));
    cluster.place();
    cluster.kit.fail("wc.1.m0.a0", "exited", "exit status 1");
    cluster.place();
    cluster.kit.fail("wc.1.m0.a1", "exited", "exit status 2");
    let job = cluster.job();
    assert_eq!(job["state"], "failed");
    assert_eq!(
        job["reason"],
        "map task 0 failed 2 times, the last time: exit status 2"
    );
    assert_eq!(cluster.kit.to_be_killed(), ["wc.1.m1.a0"]);
    assert!(cluster.kit.demands().is_empty());
    cluster.kit.update("wc.1.m1.a0", TaskState::Killed);
    assert_eq!(cluster.job()["tasks"][1]["attempts"][0]["state"], "killed");
}

#[test]
fn what_is_not_the_tasks_fault_never_counts() {
    let mut cluster = Cluster::new(2);
    cluster.submit(1, 1, json!({"failures_max": 1}));
    for attempt in 0..20 {
        assert_eq!(cluster.place(), [format!("wc.1.m0.a{attempt}")]);
        let state = if attempt % 2 == 0 {
            TaskState::Dropped
        } else {
            TaskState::Killed
        };
        cluster.kit.update(&format!("wc.1.m0.a{attempt}"), state);
    }
    assert_eq!(cluster.job()["state"], "running");
    cluster.run_to_the_end();
    assert_eq!(cluster.job()["state"], "succeeded");
}

#[test]
fn maps_whose_outputs_went_with_an_agent_run_again_under_the_same_name() {
    let mut cluster = mapped(3, 6, 2);
    cluster.kit.lose_agent("agent2");
    let job = cluster.job();
    assert_eq!(job["phase"], "map");
    assert_eq!(job["counters"]["rerun"], 2);
    assert_eq!(cluster.demand("wc.1.map"), 2);
    assert_eq!(cluster.demand("wc.1.reduce"), 0);
    assert_eq!(cluster.place(), ["wc.1.m1.a1", "wc.1.m4.a1"]);
    assert_eq!(
        cluster.kit.task("wc.1.m1.a1").unwrap().task.output,
        "wc.1.m1"
    );
    cluster.run_to_the_end();
    assert_eq!(cluster.job()["state"], "succeeded");
}

#[test]
fn running_tasks_of_a_lost_agent_run_elsewhere() {
    let mut cluster = Cluster::new(2);
    cluster.submit(2, 1, json!({}));
    cluster.place();
    cluster.kit.lose_agent("agent1");
    assert_eq!(cluster.place(), ["wc.1.m0.a1", "wc.1.m1.a0"]);
    assert_eq!(cluster.host("wc.1.m0.a1"), "agent2");
    assert_eq!(cluster.job()["counters"]["failed"], 0);
}

#[test]
fn an_unreachable_task_is_replaced_and_may_still_win() {
    let mut cluster = Cluster::new(2);
    cluster.submit(1, 1, json!({}));
    cluster.place();
    cluster.kit.update("wc.1.m0.a0", TaskState::Unreachable);
    cluster.place();
    assert_eq!(cluster.host("wc.1.m0.a1"), "agent2");
    cluster.finish("wc.1.m0.a0");
    assert_eq!(cluster.kit.to_be_killed(), ["wc.1.m0.a1"]);
    assert_eq!(cluster.job()["phase"], "reduce");
}

#[test]
fn inputs_that_a_reducer_found_missing_are_made_again_by_name() {
    let mut cluster = mapped(2, 4, 1);
    cluster.place();
    let mut update = cluster.kit.new_update("wc.1.r0.a0", TaskState::Failed);
    update.why.code = "input-lost".to_owned();
    update.why.text = "two outputs are gone".to_owned();
    update.data = b"wc.1.m2\nwc.1.m0\n".to_vec();
    cluster.kit.send(update);
    assert_eq!(cluster.place(), ["wc.1.m0.a1", "wc.1.m2.a1"]);
    assert_eq!(cluster.job()["counters"]["failed"], 0);
    cluster.run_to_the_end();
    assert_eq!(cluster.job()["state"], "succeeded");
}

/// Another host goes on, whose clock is behind: a map ended after what is now.
#[test]
fn an_output_written_later_than_now_is_lost_once_and_the_next_one_stays() {
    let body = json!({
        "name": "wc", "inputs": [{ "source": "file:/a", "size": 10 }], "reducers": 1,
        "map": { "component": "file:/w" }, "reduce": { "component": "file:/w" },
    });
    let roles = ["mapreduce".to_owned()];
    let submission = Submission {
        roles: &roles,
        run: 1,
        now: 0,
    };
    let mut job = read_job(body.to_string().as_bytes(), submission).unwrap();
    let end = |job: &mut Job, now| {
        let at = job.time_of_end(now);
        let task = &mut job.maps[0];
        let number = task.launch(1, "a", now, false);
        let attempt = task.attempt_mut(number).unwrap();
        attempt.end(AttemptState::Finished, at, "");
    };
    end(&mut job, 12_000);
    lose_agent(&mut job, 1, 400);
    assert!(!job.maps_done());
    end(&mut job, 500);
    // As it is read back from the state.
    for lost in job.record.lost.clone() {
        assert_eq!(job.apply_lost(lost), 0);
    }
    assert!(job.maps_done());
}

#[test]
fn a_reducer_that_was_dropped_for_an_agent_that_is_away_has_its_maps_made_again() {
    let mut cluster = mapped(3, 6, 1);
    cluster.place();
    let lost = cluster.host("wc.1.m1.a0");
    let mut update = cluster.kit.new_update("wc.1.r0.a0", TaskState::Dropped);
    update.why.code = "input-lost".to_owned();
    update.why.text = "output:wc.1.m*/out/0: agent-2 of wc.1.m1.a0 is not connected".to_owned();
    cluster.kit.send(update);
    let again = cluster.place();
    assert_eq!(again, ["wc.1.m1.a1", "wc.1.m4.a1"]);
    assert_eq!(cluster.host("wc.1.m4.a0"), lost);
    cluster.run_to_the_end();
    assert_eq!(cluster.job()["state"], "succeeded");
}

#[test]
fn a_reducer_that_never_finds_its_inputs_ends_the_job() {
    let mut cluster = mapped(3, 1, 1);
    for _ in 0..100 {
        cluster.kit.advance(10_000);
        for task in cluster.place() {
            if task.contains(".r0.") {
                cluster.kit.fail(&task, "input-lost", "there is no file");
            } else {
                cluster.finish(&task);
            }
        }
    }
    let job = cluster.job();
    assert_eq!(job["state"], "failed");
    assert_eq!(
        job["reason"],
        "reduce task 0 failed 4 times, the last time: there is no file"
    );
}

#[test]
fn a_map_whose_input_is_missing_fails_like_any_other() {
    let mut cluster = Cluster::new(4);
    cluster.submit(1, 1, json!({"failures_max": 2}));
    for attempt in 0..2 {
        cluster.place();
        let task = format!("wc.1.m0.a{attempt}");
        cluster
            .kit
            .fail(&task, "input-lost", "there is no file '/data/0'");
    }
    assert_eq!(
        cluster.job()["reason"],
        "map task 0 failed 2 times, the last time: there is no file '/data/0'"
    );
}

#[test]
fn inputs_that_nobody_names_are_all_made_again_and_finished_reducers_stay() {
    let mut cluster = mapped(2, 3, 2);
    cluster.place();
    cluster.finish("wc.1.r0.a0");
    cluster
        .kit
        .fail("wc.1.r1.a0", "input-lost", "something is gone");
    assert_eq!(cluster.place(), ["wc.1.m0.a1", "wc.1.m1.a1", "wc.1.m2.a1"]);
    cluster.finish_all();
    assert_eq!(cluster.place(), ["wc.1.r1.a1"]);
    cluster.finish_all();
    assert_eq!(cluster.job()["state"], "succeeded");
}

#[test]
fn a_straggler_gets_a_backup_elsewhere_and_the_first_to_finish_wins() {
    let mut cluster = Cluster::new(2);
    cluster.submit(
        4,
        1,
        json!({"straggler_factor": 2, "straggler_after_ms": 100}),
    );
    cluster.place();
    for task in ["wc.1.m0.a0", "wc.1.m1.a0", "wc.1.m2.a0", "wc.1.m3.a0"] {
        cluster.kit.update(task, TaskState::Running);
    }
    for task in ["wc.1.m0.a0", "wc.1.m1.a0", "wc.1.m2.a0"] {
        cluster.kit.update(task, TaskState::Finished);
    }
    cluster.kit.advance(99);
    assert_eq!(cluster.demand("wc.1.map"), 0);
    cluster.kit.advance(1);
    assert_eq!(cluster.demand("wc.1.map"), 1);
    assert_eq!(cluster.place(), ["wc.1.m3.a0", "wc.1.m3.a1"]);
    assert_ne!(cluster.host("wc.1.m3.a0"), cluster.host("wc.1.m3.a1"));
    assert_eq!(cluster.demand("wc.1.map"), 0);

    cluster.finish("wc.1.m3.a1");
    assert_eq!(cluster.kit.to_be_killed(), ["wc.1.m3.a0"]);
    cluster.kit.update("wc.1.m3.a0", TaskState::Killed);
    cluster.run_to_the_end();
    let job = cluster.job();
    assert_eq!(job["state"], "succeeded");
    assert_eq!(job["counters"]["backups"], 1);
    assert_eq!(job["counters"]["backups_won"], 1);
}

#[test]
fn a_job_that_wants_no_backups_gets_none() {
    let mut cluster = Cluster::new(2);
    cluster.submit(4, 1, json!({"speculative": false}));
    cluster.place();
    for task in ["wc.1.m0.a0", "wc.1.m1.a0", "wc.1.m2.a0"] {
        cluster.finish(task);
    }
    assert_eq!(cluster.kit.advance(1_000_000), None);
    assert_eq!(cluster.demand("wc.1.map"), 0);
}

#[test]
fn a_result_that_was_lost_after_the_end_is_told() {
    let mut cluster = mapped(2, 2, 2);
    cluster.run_to_the_end();
    let host = cluster.host("wc.1.r0.a0");
    cluster.kit.lose_agent(&host);
    let job = cluster.job();
    assert_eq!(job["state"], "succeeded");
    assert_eq!(job["result"][0]["task"], Value::Null);
    assert_eq!(job["result"][1]["task"], "wc.1.r1.a0");
}

#[test]
fn a_large_job_stays_within_what_a_step_may_write() {
    let mut cluster = Cluster::new(0);
    cluster.kit.add_agent("large", "cpus:100000;mem:10000000");
    cluster.submit(3_000, 1, json!({}));
    for placed in [500, 1_000, 1_500, 2_000, 2_500, 3_000] {
        assert_eq!(cluster.place().len(), placed);
    }
    // No task's record is written for its end, and no step ends more than it may.
    cluster.call("DELETE", "/jobs/wc", "", 200);
    assert_eq!(cluster.kit.to_be_killed().len(), 2_000);
    cluster.kit.advance(0);
    assert_eq!(cluster.kit.to_be_killed().len(), 3_000);
    assert_eq!(cluster.kit.state().keys().collect::<Vec<_>>(), ["run"]);
}
