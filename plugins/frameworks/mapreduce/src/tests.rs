//! Jobs against the scripted host, which drops the instance after every step.

mod api;
mod faults;
mod job;

use proffer_sdk::framework::TaskState;
use proffer_sdk::testkit::Kit;
use serde_json::{Value, json};

use crate::MapReduce;

/// A cluster with one framework, in the words of these tests.
struct Cluster {
    kit: Kit<MapReduce>,
}

impl Cluster {
    /// With so many agents of 4 cpus and 4 GiB, `agent1` and on.
    fn new(agents: u32) -> Self {
        let mut kit = Kit::new().with_roles(&["mapreduce"]);
        for number in 1..=agents {
            kit.add_agent(&format!("agent{number}"), "cpus:4;mem:4096");
        }
        kit.start();
        Self { kit }
    }

    /// Submits the job `wc` of so many 100-byte files, changed by `extra`.
    fn submit(&mut self, files: u32, reducers: u32, extra: Value) -> Value {
        let inputs: Vec<Value> = (0..files)
            .map(|file| json!({"source": format!("file:/data/{file}"), "size": 100}))
            .collect();
        let mut body = json!({
            "name": "wc",
            "inputs": inputs,
            "reducers": reducers,
            "map": {"component": "file:/wordcount.wasm", "cpus": 1, "mem": 64},
            "reduce": {"component": "file:/wordcount.wasm", "cpus": 0.5, "mem": 1024},
        });
        if let (Value::Object(body), Value::Object(extra)) = (&mut body, extra) {
            body.extend(extra);
        }
        self.call("POST", "/jobs", &body.to_string(), 201)
    }

    /// Sends a request and wants this status; the answer's JSON.
    fn call(&mut self, method: &str, target: &str, body: &str, status: u16) -> Value {
        let response = self.kit.request(method, target, body.as_bytes());
        let text = String::from_utf8(response.body).unwrap();
        assert_eq!(response.status, status, "{method} {target}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The job `wc`.
    fn job(&mut self) -> Value {
        self.call("GET", "/jobs/wc", "", 200)
    }

    /// Offers what is free, and returns the ids of the tasks that run then.
    fn place(&mut self) -> Vec<String> {
        self.kit.offer_all();
        self.kit.running()
    }

    /// The one running task whose id begins so.
    fn running(&self, prefix: &str) -> String {
        let found: Vec<String> = self
            .kit
            .running()
            .into_iter()
            .filter(|id| id.starts_with(prefix))
            .collect();
        assert_eq!(found.len(), 1, "{prefix}: {found:?}");
        found.into_iter().next().unwrap()
    }

    /// Where a task runs.
    fn host(&self, task: &str) -> String {
        self.kit.task(task).unwrap().hostname.clone()
    }

    /// Lets a task run so long and finish.
    fn finish_after(&mut self, task: &str, milliseconds: u64) {
        self.kit.update(task, TaskState::Running);
        self.kit.advance(milliseconds);
        self.kit.update(task, TaskState::Finished);
    }

    fn finish(&mut self, task: &str) {
        self.finish_after(task, 10);
    }

    fn finish_all(&mut self) {
        for task in self.kit.running() {
            self.finish(&task);
        }
    }

    /// Offers and finishes until nothing runs and nothing is demanded.
    fn run_to_the_end(&mut self) {
        for _ in 0..100 {
            if self.place().is_empty() && self.kit.demands().is_empty() {
                return;
            }
            self.finish_all();
        }
        panic!("the job does not end: {}", self.job());
    }

    /// The count of a demand; 0 if there is none.
    fn demand(&self, key: &str) -> u32 {
        self.kit.demand(key).map_or(0, |demand| demand.count)
    }
}
