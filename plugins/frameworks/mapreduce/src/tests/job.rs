//! Jobs that go well.

use proffer_sdk::framework::{Command, Executor, TaskState};
use serde_json::json;

use super::Cluster;

#[test]
fn a_job_maps_then_reduces_and_names_its_result() {
    let mut cluster = Cluster::new(3);
    cluster.submit(5, 2, json!({}));
    assert_eq!(cluster.kit.demands(), ["wc.1.map"]);
    assert_eq!(cluster.demand("wc.1.map"), 5);

    let maps = cluster.place();
    assert_eq!(
        maps,
        [
            "wc.1.m0.a0",
            "wc.1.m1.a0",
            "wc.1.m2.a0",
            "wc.1.m3.a0",
            "wc.1.m4.a0"
        ]
    );
    assert_eq!(cluster.kit.demands(), Vec::<&str>::new());
    assert_eq!(cluster.job()["phase"], "map");
    cluster.finish_all();

    assert_eq!(cluster.kit.demands(), ["wc.1.reduce"]);
    assert_eq!(cluster.place(), ["wc.1.r0.a0", "wc.1.r1.a0"]);
    cluster.finish_all();

    let job = cluster.job();
    assert_eq!(job["state"], "succeeded");
    assert_eq!(job["result"][1]["source"], "output:wc.1.r1/part");
    assert_eq!(job["result"][1]["task"], "wc.1.r1.a0");
    assert_eq!(job["map"]["done"], 5);
    assert_eq!(job["counters"]["launched"], 7);
    assert_eq!(job["tasks"].as_array().unwrap().len(), 7);
    assert!(cluster.kit.demands().is_empty());
}

#[test]
fn tasks_follow_the_convention_of_the_functions() {
    let mut cluster = Cluster::new(1);
    cluster.submit(1, 3, json!({"split": 60}));
    cluster.place();
    let map = cluster.kit.task("wc.1.m1.a0").unwrap();
    let args = "map --partitions 3 --offset 60 --length 40 in out";
    assert_eq!(map.task.args.join(" "), args);
    assert_eq!(map.task.inputs[0].source, "file:/data/0");
    assert_eq!(map.task.inputs[0].path, "in");
    assert_eq!(map.task.output, "wc.1.m1");
    assert_eq!(map.task.piles, ["cpus:1;mem:64".parse().unwrap()]);
    assert!(matches!(&map.template.executor,
        Executor::Wasm(component) if component.source == "file:/wordcount.wasm"));

    cluster.finish_all();
    cluster.place();
    let reduce = cluster.kit.task("wc.1.r2.a0").unwrap();
    assert_eq!(reduce.task.args.join(" "), "reduce part in");
    assert_eq!(reduce.task.inputs[0].source, "output:wc.1.m*/out/2");
    assert_eq!(reduce.task.piles, ["cpus:0.5;mem:1024".parse().unwrap()]);
}

#[test]
fn whole_files_are_mapped_without_offsets() {
    let mut cluster = Cluster::new(1);
    cluster.submit(1, 1, json!({}));
    cluster.place();
    let map = cluster.kit.task("wc.1.m0.a0").unwrap();
    assert_eq!(map.task.args.join(" "), "map --partitions 1 in out");
}

#[test]
fn a_phase_is_dealt_to_all_agents_and_restated_as_it_is_placed() {
    let mut cluster = Cluster::new(3);
    cluster.submit(15, 1, json!({}));
    let placed = cluster.place();
    assert_eq!(placed.len(), 12);
    let on_first = placed.iter().filter(|task| cluster.host(task) == "agent1");
    assert_eq!(on_first.count(), 4);
    assert_eq!(cluster.demand("wc.1.map"), 3);
    // No reduce is demanded while maps are to be done: nothing is held for it.
    assert_eq!(cluster.kit.demands(), ["wc.1.map"]);
    cluster.run_to_the_end();
    assert_eq!(cluster.job()["state"], "succeeded");
}

#[test]
fn offers_are_unwanted_while_there_is_nothing_to_do() {
    let mut cluster = Cluster::new(1);
    let outcome = cluster.kit.offer("agent1", "cpus:4;mem:4096");
    assert!(matches!(outcome.commands.as_slice(), [Command::Decline(_)]));
    cluster.submit(1, 1, json!({}));
    cluster.place();
    cluster.finish_all();
    cluster.place();
    let task = cluster.running("wc.1.r0");
    let outcome = cluster.kit.update(&task, TaskState::Finished);
    assert_eq!(outcome.commands, Vec::<Command>::new());
    assert_eq!(cluster.job()["state"], "succeeded");
}

#[test]
fn jobs_run_beside_each_other_and_the_older_is_served_first() {
    let mut cluster = Cluster::new(1);
    cluster.submit(3, 1, json!({"name": "old"}));
    cluster.submit(3, 1, json!({"name": "new"}));
    assert_eq!(
        cluster.place(),
        ["new.2.m0.a0", "old.1.m0.a0", "old.1.m1.a0", "old.1.m2.a0"]
    );
    cluster.run_to_the_end();
    for name in ["old", "new"] {
        let job = cluster.call("GET", &format!("/jobs/{name}"), "", 200);
        assert_eq!(job["state"], "succeeded", "{name}");
    }
}

#[test]
fn a_name_can_be_used_again_after_its_job_was_deleted() {
    let mut cluster = Cluster::new(1);
    cluster.submit(1, 1, json!({}));
    cluster.run_to_the_end();
    cluster.call("DELETE", "/jobs/wc", "", 200);
    assert_eq!(cluster.kit.state().keys().collect::<Vec<_>>(), ["run"]);
    cluster.submit(1, 1, json!({}));
    assert_eq!(cluster.place(), ["wc.2.m0.a0"]);
}
