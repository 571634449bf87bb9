//! Requests, above all bad ones.

use serde_json::{Value, json};

use super::Cluster;

/// Submits a body with one field changed and wants 400; the message.
fn refused(field: &str, value: Value) -> String {
    let mut cluster = Cluster::new(1);
    let mut body = json!({
        "name": "wc",
        "inputs": [{"source": "file:/a", "size": 1_000_000}],
        "reducers": 1,
        "map": {"component": "file:/wc.wasm"},
        "reduce": {"component": "file:/wc.wasm"},
    });
    body[field] = value;
    let answer = cluster.call("POST", "/jobs", &body.to_string(), 400);
    assert!(cluster.kit.state().is_empty(), "nothing is half done");
    answer["error"].as_str().unwrap().to_owned()
}

#[test]
fn bad_jobs_are_refused_by_field() {
    for (field, value, message) in [
        ("name", json!("a/b"), "name: wanted 1 to 63 lower-case"),
        ("name", json!(""), "name: wanted 1 to 63 lower-case"),
        (
            "role",
            json!("other"),
            "role: 'other' is not mine; wanted one of this framework's: mapreduce",
        ),
        ("inputs", json!([]), "inputs: there is none"),
        (
            "inputs",
            json!([{"source": "relative", "size": 1}]),
            "inputs: number 0, 'relative': ",
        ),
        (
            "inputs",
            json!([{"source": "file:/a"}]),
            "missing field `size`",
        ),
        (
            "inputs",
            json!([{"source": "output:a*/x", "size": 1}]),
            "inputs: number 0: a pattern",
        ),
        ("split", json!(0), "split: wanted a number of bytes above 0"),
        (
            "split",
            json!(1),
            "map tasks: 1000000 are more than 10000; take a larger split",
        ),
        ("reducers", json!(0), "reducers: wanted 1 or more"),
        ("reducers", json!(2000), "reducers: 2000 are more than 1000"),
        (
            "map",
            json!({"component": "wc.wasm"}),
            "map.component: 'wc.wasm': ",
        ),
        (
            "map",
            json!({"component": "file:/a", "cpus": -1}),
            "cpus: '-1' is not an amount",
        ),
        (
            "map",
            json!({"component": "file:/a", "mem": 0}),
            "mem: wanted MiB above 0",
        ),
        ("failures_max", json!(0), "failures_max: wanted 1 to 100"),
        (
            "straggler_factor",
            json!(0),
            "straggler_factor: wanted 1 or more",
        ),
        ("colour", json!("red"), "unknown field `colour`"),
    ] {
        let error = refused(field, value.clone());
        assert!(error.starts_with(message), "{field} {value}: {error}");
    }
}

#[test]
fn other_paths_and_methods_are_answered_by_what_would_work() {
    let mut cluster = Cluster::new(1);
    for (method, target, status) in [
        ("GET", "/", 404),
        ("GET", "/jobs/none", 404),
        ("DELETE", "/jobs/none", 404),
        ("PUT", "/jobs", 405),
        ("POST", "/jobs/x", 405),
        ("GET", "/jobs/%zz", 400),
        ("POST", "/jobs", 400),
    ] {
        let answer = cluster.call(method, target, "not json", status);
        assert!(answer["error"].is_string(), "{method} {target}");
    }
    assert_eq!(cluster.call("GET", "/jobs/", "", 200), json!({"jobs": []}));
}

#[test]
fn a_name_that_is_in_use_is_a_conflict_and_a_missing_one_is_made_up() {
    let mut cluster = Cluster::new(1);
    cluster.submit(1, 1, json!({}));
    let answer = cluster.call(
        "POST",
        "/jobs",
        r#"{"name":"wc","inputs":[{"source":"file:/a","size":1}],"reducers":1,
            "map":{"component":"file:/w"},"reduce":{"component":"file:/w"}}"#,
        409,
    );
    assert!(answer["error"].as_str().unwrap().contains("'wc' already"));
    let summary = cluster.submit(1, 1, json!({"name": null}));
    assert_eq!(summary["name"], "job-2");
    let jobs = cluster.call("GET", "/jobs", "", 200);
    assert_eq!(jobs["jobs"][0]["name"], "job-2");
    assert_eq!(jobs["jobs"][1]["name"], "wc");
}

#[test]
fn tasks_come_in_pages() {
    let mut cluster = Cluster::new(1);
    cluster.submit(5, 2, json!({}));
    let page = cluster.call("GET", "/jobs/wc?limit=4", "", 200);
    assert_eq!(page["tasks"].as_array().unwrap().len(), 4);
    assert_eq!(page["next"], 4);
    let page = cluster.call("GET", "/jobs/wc?limit=4&offset=4", "", 200);
    assert_eq!(page["tasks"].as_array().unwrap().len(), 3);
    assert_eq!(page["tasks"][2]["phase"], "reduce");
    assert_eq!(page["next"], Value::Null);
    cluster.call("GET", "/jobs/wc?limit=x", "", 400);
}

#[test]
fn a_deleted_job_is_forgotten_and_its_tasks_are_killed() {
    let mut cluster = Cluster::new(1);
    cluster.submit(6, 1, json!({}));
    assert_eq!(cluster.place().len(), 4);
    let answer = cluster.call("DELETE", "/jobs/wc", "", 200);
    assert_eq!(answer, json!({"deleted": "wc", "killed": 4}));
    assert_eq!(cluster.kit.to_be_killed().len(), 4);
    assert!(cluster.kit.demands().is_empty());
    cluster.call("GET", "/jobs/wc", "", 404);
}
