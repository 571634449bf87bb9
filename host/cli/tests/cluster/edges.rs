//! Where commands end when what they ask for is not there (yet), and what is left when something is gone.

use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::lifecycle::{Ended, misbehaving};
use super::{Cluster, Guests, Process, wait_for};

/// Exit statuses, as the README lists them.
const NOT_FOUND: i32 = 4;
const CONFLICT: i32 = 7;

impl Cluster {
    /// Runs the framework that launches one task of this shape, under this name.
    fn run_one_task(&self, name: &str, shape: &str, argv: &[&str]) -> Ended {
        let config = json!({ "tasks": 1, "shape": shape, "argv": argv });
        let config = self.config(&config.to_string());
        let file = misbehaving("noop");
        let file = file.to_str().unwrap();
        let args = [
            "framework",
            "run",
            file,
            "--name",
            name,
            "--config",
            &config,
        ];
        let ended = self.ask(&[&args[..], &["--approve"]].concat());
        assert_eq!(ended.status, 0, "{}", ended.stderr);
        ended
    }

    /// The state of a framework's only task; none before it is launched.
    fn task_state(&self, framework: &str) -> Value {
        let rows = self.ask_json(&["task", "list", "--framework", framework]);
        rows[0]["state"].clone()
    }

    fn components(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.host_data().join("store/components")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut digests: Vec<String> = names
            .filter_map(|name| Some(format!("sha256:{}", name.strip_suffix(".wasm")?)))
            .collect();
        digests.sort();
        digests
    }

    /// Starts a host with its signals as `env` says.
    fn start_host_under(&mut self, signals: &str) {
        let recorded = self.host_data().join("address");
        let mut command = std::process::Command::new("env");
        command
            .arg(signals)
            .arg(env!("CARGO_BIN_EXE_proffer"))
            .arg("--data")
            .arg(self.host_data())
            .args(["host", "--http", "off", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::null());
        self.host = Some(Process(command.spawn().unwrap()));
        wait_for(|| recorded.exists());
    }

    fn signal_host(&mut self, signal: Signal) -> Option<i32> {
        let mut host = self.host.take().unwrap();
        send(&host, signal);
        host.0.wait().unwrap().code()
    }
}

fn send(process: &Process, signal: Signal) {
    let pid = i32::try_from(process.0.id()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn gpus_are_for_frameworks_that_ask_for_them_and_asking_is_shown() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let mut cluster = Cluster::start(guests, 0);
    cluster.start_agent_with(0, "cpus:2;mem:2048;disk:4096;gpus:1");
    wait_for(|| cluster.status_agents() == 1);
    cluster.run_framework();
    cluster.submit(1_024);
    let shape = "cpus:0.5;mem:32;gpus:1";
    let added = cluster.run_one_task("gpus", shape, &["/bin/true"]);
    let asked = added.stderr.lines().find(|line| line.contains("asks for"));
    assert!(asked.unwrap().ends_with(", gpus"), "{}", added.stderr);
    wait_for(|| cluster.task_state("gpus") == "finished");
    // The other has had all that time.
    let explained = cluster.ask(&["explain", "framework", "mapreduce"]);
    assert!(explained.stdout.contains("gpus"), "{}", explained.stdout);
    assert_eq!(cluster.task_state("mapreduce"), Value::Null);
}

#[test]
fn components_go_with_the_last_that_refers_to_them() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let mut cluster = Cluster::start(guests, 0);
    cluster.run_framework();
    let without = cluster.components();
    assert_eq!(without.len(), 2, "the policy's and the framework's");
    for name in ["one", "two"] {
        cluster.run_one_task(name, "cpus:1", &["/bin/true"]);
    }
    let with = cluster.components();
    assert_eq!(with.len(), 3);
    assert_eq!(
        cluster.ask_json(&["framework", "remove", "one"])["removed"],
        "one"
    );
    wait_for(|| {
        cluster
            .ask_json(&["framework", "list"])
            .as_array()
            .unwrap()
            .len()
            == 2
    });
    // Whatever it did about that removal it has done when it goes on.
    cluster.host.as_mut().unwrap().kill_9();
    cluster.start_host();
    assert_eq!(cluster.components(), with);
    cluster.ask_json(&["framework", "remove", "two"]);
    wait_for(|| cluster.components() == without);
    // One that nobody has referred to since before the start.
    let digits = "0".repeat(64);
    let stray: PathBuf = cluster
        .host_data()
        .join(format!("store/components/{digits}.wasm"));
    assert_eq!(cluster.signal_host(Signal::TERM), Some(0));
    std::fs::write(&stray, "").unwrap();
    cluster.start_host();
    wait_for(|| cluster.components() == without);
}

#[test]
fn what_a_task_does_not_give_out_is_refused_with_the_status_for_it() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let cluster = Cluster::start(guests, 1);
    cluster.run_one_task("ends", "cpus:0.5;mem:32", &["/bin/true"]);
    let line = "echo said; echo kept > file; exit 3";
    cluster.run_one_task("fails", "cpus:0.5;mem:32", &["/bin/sh", "-c", line]);
    wait_for(|| cluster.task_state("fails") == "failed");
    wait_for(|| cluster.task_state("ends") == "finished");
    let fetch =
        |framework: &str, path: &str| cluster.ask(&["task", "fetch", framework, "t0", path]);
    assert_eq!(fetch("fails", "stdout").stdout, "said\n");
    for (framework, path, why) in [
        ("ends", "stdout/x", "there is no 'stdout/x'"),
        ("ends", "file", "there is no 'file'"),
        ("fails", "file", "ended badly: only its stdout and stderr"),
    ] {
        let refused = fetch(framework, path);
        assert_eq!(refused.status, NOT_FOUND, "{path}: {}", refused.stderr);
        assert!(refused.stderr.contains(why), "{path}: {}", refused.stderr);
    }
    let line = "echo kept > file; exec sleep 1000";
    cluster.run_one_task("runs", "cpus:0.5;mem:32", &["/bin/sh", "-c", line]);
    wait_for(|| cluster.task_state("runs") == "running");
    let refused = fetch("runs", "file");
    assert_eq!(refused.status, CONFLICT, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("has not ended"),
        "{}",
        refused.stderr
    );
    let killed = cluster.ask_json(&["task", "kill", "runs", "t0", "--grace", "0ms"]);
    assert_eq!(killed, json!({ "framework": "runs", "killed": "t0" }));
    wait_for(|| cluster.task_state("runs") == "killed");
}

#[test]
fn a_host_ends_in_order_with_its_terminal_unless_it_was_told_to_outlive_it() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let mut cluster = Cluster::start(guests, 0);
    assert_eq!(cluster.signal_host(Signal::TERM), Some(0));
    // The tests themselves may have been started to outlive theirs.
    cluster.start_host_under("--default-signal=HUP");
    let recorded = cluster.host_data().join("address");
    assert_eq!(cluster.signal_host(Signal::HUP), Some(0));
    assert!(!recorded.exists(), "who ends in order takes it away");
    cluster.start_host_under("--ignore-signal=HUP");
    send(cluster.host.as_ref().unwrap(), Signal::HUP);
    let answers = cluster.ask(&["status"]);
    assert_eq!(answers.status, 0, "{}", answers.stderr);
    assert_eq!(cluster.signal_host(Signal::TERM), Some(0));
}
