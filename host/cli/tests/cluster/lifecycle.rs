//! What operators do to frameworks and agents that run, through the built command.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use proffer_tests::guests;
use serde_json::Value;

use super::{Cluster, Guests, wait_for};

/// Exit statuses, as the README lists them.
const USAGE: i32 = 2;
const FAILED: i32 = 1;
const CONFLICT: i32 = 7;

/// The framework that misbehaves as its configuration says.
fn hostile() -> PathBuf {
    misbehaving("framework")
}

/// A guest that misbehaves as its configuration says.
pub(super) fn misbehaving(kind: &str) -> PathBuf {
    guests::component(&format!("tests/guests/{kind}")).unwrap()
}

pub(super) struct Ended {
    pub(super) status: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Cluster {
    pub(super) fn ask(&self, args: &[&str]) -> Ended {
        let mut command = self.command(&self.host_data());
        let output = command
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            status: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    pub(super) fn ask_json(&self, args: &[&str]) -> Value {
        let ended = self.ask(&[args, &["--json"]].concat());
        assert_eq!(ended.status, 0, "{args:?}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    }

    fn show(&self, name: &str) -> Value {
        self.ask_json(&["framework", "show", name])
    }

    /// A file of this content, by its path.
    pub(super) fn config(&self, text: &str) -> String {
        let path = self.dir.path().join("config");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn upgrade(&self, name: &str, file: &Path, config: &str) -> Ended {
        let (file, config) = (file.to_str().unwrap(), self.config(config));
        self.ask(&[
            "framework",
            "upgrade",
            name,
            file,
            "--config",
            &config,
            "--approve",
        ])
    }
}

#[test]
fn a_framework_is_upgraded_while_its_job_runs_and_unfit_ones_touch_nothing() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let mapreduce = guests.mapreduce.clone();
    let drf = guests.drf.clone();
    let cluster = Cluster::start(guests, 2);
    cluster.run_framework();
    cluster.submit(1_024);
    wait_for(|| cluster.maps_done() >= 3);
    // Refused before anything is unloaded: another world, another component, no component at all.
    let refused = cluster.upgrade("mapreduce", &drf, "{}");
    assert_eq!(refused.status, USAGE, "{}", refused.stderr);
    assert!(refused.stderr.contains("policy"), "{}", refused.stderr);
    let refused = cluster.upgrade("mapreduce", &hostile(), "{}");
    let other = "mapreduce runs the component 'mapreduce', and this is 'hostile-framework'";
    assert!(refused.stderr.contains(other), "{}", refused.stderr);
    let text = cluster.dir.path().join("text.wasm");
    std::fs::write(&text, "no component").unwrap();
    let refused = cluster.upgrade("mapreduce", &text, "{}");
    assert_eq!(refused.status, USAGE, "{}", refused.stderr);
    // What its manifest says of its configuration counts before anything of it runs.
    let refused = cluster.upgrade("mapreduce", &mapreduce, "{\"maps\": 3}");
    assert_eq!(refused.status, USAGE, "{}", refused.stderr);
    let unfit =
        "the configuration of mapreduce is not what its manifest says: 'maps' is not allowed";
    assert!(refused.stderr.contains(unfit), "{}", refused.stderr);
    assert_eq!(cluster.show("mapreduce")["last_upgrade"], Value::Null);
    let upgraded = cluster.upgrade("mapreduce", &mapreduce, "{}");
    assert_eq!(upgraded.status, 0, "{}", upgraded.stderr);
    assert!(upgraded.stderr.contains("asks for"), "{}", upgraded.stderr);
    assert!(
        upgraded.stdout.starts_with("mapreduce runs "),
        "{}",
        upgraded.stdout
    );
    let shown = cluster.show("mapreduce");
    assert_eq!(shown["config"], "{}");
    assert_eq!(shown["last_upgrade"]["refused"], Value::Null);
    let limits = shown["limits"].to_string();
    assert!(limits.contains("memory-bytes="), "{limits}");
    assert!(limits.contains("tasks=1000000"), "{limits}");
    assert!(cluster.result() == cluster.expected, "another count");
    let plan = cluster.ask(&["framework", "remove", "mapreduce", "--dry-run"]);
    assert!(
        plan.stdout.contains("0 tasks would be killed"),
        "{}",
        plan.stdout
    );
    assert_eq!(cluster.show("mapreduce")["framework"]["state"], "active");
}

#[test]
fn a_quarantined_framework_names_its_event_and_an_upgrade_leads_out() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let mut cluster = Cluster::start(guests, 0);
    let hostile = hostile();
    let name = "hostile-framework";
    let (file, config) = (hostile.to_str().unwrap(), cluster.config("trap 1"));
    let added = cluster.ask(&["framework", "run", file, "--config", &config, "--approve"]);
    assert_eq!(added.status, FAILED, "{}", added.stderr);
    let told = "hostile-framework was added and fails at its start";
    assert!(added.stderr.contains(told), "{}", added.stderr);
    let state = |cluster: &Cluster| cluster.show(name)["framework"]["state"].clone();
    wait_for(|| state(&cluster) == "quarantined");
    assert_eq!(cluster.show(name)["failing"]["id"], "started");
    let refused = cluster.ask(&["framework", "skip-event", name, "timer:x"]);
    assert_eq!(refused.status, CONFLICT, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("fails at 'started'"),
        "{}",
        refused.stderr
    );
    // A configuration that the component refuses, and one that traps in its first step.
    for (config, why) in [
        ("start-refuse", "I do not like this configuration"),
        ("error", "I would rather not"),
        ("spin", "took more than its"),
    ] {
        let refused = cluster.upgrade(name, &hostile, config);
        assert_eq!(refused.status, USAGE, "{}", refused.stderr);
        let stderr = refused.stderr.to_lowercase();
        assert!(stderr.contains(&why.to_lowercase()), "{}", refused.stderr);
        assert_eq!(state(&cluster), "quarantined");
        let shown = cluster.show(name);
        assert_eq!(shown["config"], "trap 1");
        assert_ne!(shown["last_upgrade"]["refused"], Value::Null);
    }
    let explained = cluster.ask(&["explain", "framework", name]);
    assert!(
        explained.stdout.contains("was turned down"),
        "{}",
        explained.stdout
    );
    // It is on record: a host that is killed knows it all again.
    cluster.host.as_mut().unwrap().kill_9();
    cluster.start_host();
    let shown = cluster.show(name);
    assert_eq!(shown["failing"]["id"], "started");
    assert_ne!(shown["last_upgrade"]["refused"], Value::Null);
    let upgraded = cluster.upgrade(name, &hostile, "draw");
    assert_eq!(upgraded.status, 0, "{}", upgraded.stderr);
    assert_eq!(state(&cluster), "active");
    assert_eq!(cluster.show(name)["failing"], Value::Null);
}

#[test]
fn an_agent_that_is_declared_gone_is_listed_as_that_and_refused_when_it_returns() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let mut cluster = Cluster::start(guests, 2);
    let refused = cluster.ask(&["agent", "gone", "agent-1"]);
    assert_eq!(refused.status, CONFLICT, "{}", refused.stderr);
    let agents = |cluster: &Cluster| cluster.ask_json(&["agent", "list"]);
    let away = |cluster: &Cluster| {
        let rows = agents(cluster);
        let mut rows = rows.as_array().unwrap().iter();
        rows.position(|row| row["state"] != "active")
    };
    cluster.agents[1].kill_9();
    wait_for(|| away(&cluster).is_some());
    let row = away(&cluster).unwrap();
    let id = agents(&cluster)[row]["id"].as_str().unwrap().to_owned();
    let tried = cluster.ask(&["agent", "gone", &id, "--dry-run"]);
    assert_eq!(tried.status, 0, "{}", tried.stderr);
    assert_ne!(agents(&cluster)[row]["state"], "gone");
    // After it is unreachable operators see how long it has.
    wait_for(|| agents(&cluster)[row]["state"] == "unreachable");
    assert!(agents(&cluster)[row]["gone_at"].is_u64());
    let gone = cluster.ask(&["agent", "gone", &id]);
    assert_eq!(gone.status, 0, "{}", gone.stderr);
    assert_eq!(agents(&cluster)[row]["state"], "gone");
    cluster.host.as_mut().unwrap().kill_9();
    cluster.start_host();
    assert_eq!(agents(&cluster)[row]["state"], "gone");
    cluster.start_agent(1);
    let mut returned = cluster.agents.pop().unwrap();
    let mut ended = None;
    wait_for(|| {
        ended = returned.0.try_wait().unwrap();
        ended.is_some()
    });
    assert!(!ended.unwrap().success(), "it is refused");
}

#[test]
fn a_removed_frameworks_reservations_are_listed_kept_for_others_and_released() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let cluster = Cluster::start(guests, 1);
    let hostile = hostile();
    let file = hostile.to_str().unwrap();
    let add = |name: &str, role: &str| {
        let run = ["framework", "run", file, "--name", name, "--role", role];
        let added = cluster.ask(&[&run[..], &["--approve"]].concat());
        assert_eq!(added.status, 0, "{}", added.stderr);
    };
    let reserved = |role: &str| {
        let roles = cluster.ask_json(&["role", "list"]);
        let rows = roles.as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == role);
        row.map_or(Value::Null, |row| row["reserved"].clone())
    };
    add("one", "eng");
    add("two", "eng");
    wait_for(|| {
        cluster
            .ask(&["reserve", "agent-0", "eng", "cpus:1;mem:64"])
            .status
            == 0
    });
    let plan = |name: &str| {
        let remove = ["framework", "remove", name, "--reservations", "release"];
        cluster.ask_json(&[&remove[..], &["--dry-run"]].concat())
    };
    // Two are in the role: what is reserved to it is not the one's to let go.
    let shared = plan("one");
    assert_eq!(
        (&shared["kept"], &shared["released"]),
        (&1.into(), &0.into())
    );
    assert_eq!(shared["left"][0]["shared_role"], true);
    let remove = |name: &str| {
        let remove = ["framework", "remove", name, "--reservations", "release"];
        let removed = cluster.ask(&remove);
        assert_eq!(removed.status, 0, "{}", removed.stderr);
        wait_for(|| cluster.ask(&["framework", "show", name]).status != 0);
    };
    remove("one");
    assert_eq!(reserved("eng")["cpus"], 1);
    let own = plan("two");
    assert_eq!((&own["kept"], &own["released"]), (&0.into(), &1.into()));
    let left = &own["left"][0];
    assert_eq!(
        (&left["role"], &left["becomes"], &left["resources"]["cpus"]),
        (&"eng".into(), &"released".into(), &1.into())
    );
    let told = cluster.ask(&["framework", "remove", "two", "--dry-run"]);
    assert!(
        told.stdout
            .contains("1 reservations and volumes would stay; 0 reservations would be released"),
        "{}",
        told.stdout
    );
    remove("two");
    let unreserved = reserved("eng");
    assert!(
        unreserved == Value::Null || unreserved["cpus"] != 1,
        "{unreserved}"
    );
    let wrong = cluster.ask(&["framework", "remove", "two", "--reservations", "burn"]);
    assert_eq!(wrong.status, USAGE, "{}", wrong.stderr);
}
