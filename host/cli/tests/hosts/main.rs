//! Several hosts on a real etcd: leaders that are killed, stopped or cut off in the middle of a job; members
//! of etcd that are killed and stand still.
//!
//! Everything is done through the built command, which is given all hosts and finds the one that
//! leads. No directory is shared: each host has its own, and etcd. Needs a wasm toolchain and an `etcd`;
//! without one the tests say so and end, unless `PROFFER_REQUIRE_ALL=1`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use proffer_tests::cluster::Guests;
use serde_json::{Value, json};

mod components;
#[path = "../../../store/testing/etcd_server.rs"]
mod etcd_server;
mod members;

use etcd_server::EtcdServer;

/// Whatever is waited for comes within this, on a busy machine too.
const WITHIN: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The shortest that etcd grants.
const LEASE: &str = "host.leader-lease=2s";

/// A process that dies with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.0.kill().is_err();
        let _reaped = self.0.wait().is_err();
    }
}

struct Hosts {
    hosts: Vec<Process>,
    agents: Vec<Process>,
    addresses: Vec<String>,
    guests: Guests,
    etcd: Vec<EtcdServer>,
    dir: tempfile::TempDir,
}

impl Hosts {
    /// So many hosts, and two agents that know all of them.
    fn start(count: usize) -> Option<Self> {
        Self::start_on(1, count)
    }

    /// The same on an etcd of so many members.
    fn start_on(members: usize, count: usize) -> Option<Self> {
        let guests = Guests::build()?;
        let etcd = EtcdServer::start_cluster(members, &[])?;
        let mut hosts = Self {
            hosts: Vec::new(),
            agents: Vec::new(),
            addresses: vec!["127.0.0.1:0".to_owned(); count],
            guests,
            etcd,
            dir: tempfile::tempdir().unwrap(),
        };
        write_inputs(&hosts.dir.path().join("input"));
        for number in 0..count {
            let host = hosts.spawn_host(number);
            hosts.hosts.push(host);
        }
        for number in 0..2 {
            let agent = hosts.spawn_agent(number);
            hosts.agents.push(agent);
        }
        hosts.wait_for("agents", |hosts| hosts.active_agents() == 2);
        Some(hosts)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, data: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proffer"));
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PROFFER_LOG", "info")
            .arg("--data")
            .arg(self.data(data))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn store(&self) -> String {
        format!("etcd://{}", self.members())
    }

    /// All of etcd's, separated by commas.
    fn members(&self) -> String {
        let members: Vec<String> = self.etcd.iter().map(EtcdServer::member).collect();
        members.join(",")
    }

    /// The first time on any free port, then on the same.
    fn spawn_host(&mut self, number: usize) -> Process {
        let name = format!("host{number}");
        let recorded = self.data(&name).join("address");
        if recorded.exists() {
            std::fs::remove_file(&recorded).unwrap();
        }
        let mut command = self.command(&name);
        let process = command
            .args(["host", "--http", "127.0.0.1:0", "--store", &self.store()])
            .args(["--listen", &self.addresses[number], "--set", LEASE])
            .args(["--set", "host.agent-timeout=2s"])
            .stdout(Stdio::null())
            .stderr(self.log(&name))
            .spawn();
        let process = Process(process.unwrap());
        let read = || std::fs::read_to_string(&recorded).unwrap_or_default();
        self.wait_for("a host's address", |_| read().ends_with('\n'));
        self.addresses[number] = read().trim().to_owned();
        process
    }

    fn spawn_agent(&self, number: usize) -> Process {
        let name = format!("agent{number}");
        let mut command = self.command(&name);
        command
            .args(["agent", "--join", &self.addresses.join(",")])
            .args(["--resources", "cpus:2;mem:2048;disk:4096", "--token-file"])
            .arg(self.data("host0").join("token"))
            .arg("--files")
            .arg(self.dir.path().join("input"))
            .arg("--files")
            .arg(self.guests.wordcount.parent().unwrap());
        let spawned = command
            .stdout(Stdio::null())
            .stderr(self.log(&name))
            .spawn();
        Process(spawned.unwrap())
    }

    fn log(&self, name: &str) -> std::fs::File {
        let path = self.dir.path().join(format!("{name}.log"));
        let options = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        options.unwrap()
    }

    fn logged(&self, number: usize) -> String {
        let path = self.dir.path().join(format!("host{number}.log"));
        std::fs::read_to_string(path).unwrap()
    }

    /// The command, with all hosts; by the token of host 0, which is everybody's.
    fn ask(&self, words: &[&str]) -> Output {
        let mut command = self.command("host0");
        let addresses = self.addresses.join(",");
        command.args(["--connect", &addresses]).args(words);
        command.output().unwrap()
    }

    fn active_agents(&self) -> u64 {
        let status = self.ask(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or(Value::Null);
        status["agents_active"]
            .as_u64()
            .or_else(|| status["agents"]["active"].as_u64())
            .unwrap_or(0)
    }

    /// The leader's page of metrics.
    fn metrics(&self) -> String {
        let status = self.ask(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let address = status["http_address"].as_str().unwrap();
        let token = std::fs::read_to_string(self.data("host0").join("token")).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let token = token.trim();
        let request = format!(
            "GET /metrics HTTP/1.0\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    #[track_caller]
    fn wait_for(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            if begun.elapsed() > WITHIN {
                let logs: Vec<String> = (0..self.hosts.len()).map(|n| self.logged(n)).collect();
                panic!("waited in vain for {what}\n{}", logs.join("\n---\n"));
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Which host leads, as etcd says it.
    fn leader(&self) -> Option<usize> {
        let got = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.members()])
            .args(["get", "--print-value-only", "proffer/leader"])
            .output();
        let place = String::from_utf8(got.ok()?.stdout).ok()?;
        let place = place.lines().next()?.to_owned();
        self.addresses.iter().position(|address| *address == place)
    }

    fn wait_for_leader(&self) -> usize {
        let mut leader = None;
        self.wait_for("a leader", |hosts| {
            leader = hosts.leader();
            leader.is_some()
        });
        leader.unwrap()
    }

    /// A job of maps that count 512 bytes each.
    fn submit(&self) {
        self.submit_split(512);
    }

    fn submit_split(&self, split: u32) {
        let mapreduce = self.guests.mapreduce.display().to_string();
        let run = self.ask(&["framework", "run", "--approve", &mapreduce]);
        assert!(run.status.success(), "{run:?}");
        let mut inputs = Vec::new();
        for file in 0..FILES {
            let path = self.dir.path().join(format!("input/f{file}"));
            let size = std::fs::metadata(&path).unwrap().len();
            inputs.push(json!({ "source": format!("file:{}", path.display()), "size": size }));
        }
        let function = json!({ "component": format!("file:{}", self.guests.wordcount.display()) });
        let job = json!({
            "name": "count", "inputs": inputs, "split": split, "reducers": 2, "map": function, "reduce": function,
        });
        let body = self.dir.path().join("job.json");
        std::fs::write(&body, job.to_string()).unwrap();
        let body = format!("@{}", body.display());
        let posted = self.ask(&["request", "mapreduce", "POST", "/jobs", &body]);
        assert!(posted.status.success(), "{posted:?}");
    }

    fn job(&self) -> Value {
        let asked = self.ask(&["request", "mapreduce", "GET", "/jobs/count?limit=0"]);
        serde_json::from_slice(&asked.stdout).unwrap_or(Value::Null)
    }

    fn wait_for_maps(&self, least: u64) {
        self.wait_for("maps", |hosts| {
            hosts.job()["map"]["done"].as_u64().unwrap_or(0) >= least
        });
    }

    /// Waits for the job's end and puts its result together.
    fn result(&self) -> BTreeMap<String, u64> {
        let mut job = Value::Null;
        self.wait_for("the job's end", |hosts| {
            job = hosts.job();
            job["state"] == "succeeded" || job["state"] == "failed"
        });
        assert_eq!(job["state"], "succeeded", "{job:#}");
        let mut counts = BTreeMap::new();
        for part in job["result"].as_array().unwrap() {
            let (task, path) = (part["task"].as_str(), part["path"].as_str());
            let fetch = ["task", "fetch", "mapreduce", task.unwrap(), path.unwrap()];
            let fetched = self.ask(&fetch);
            assert!(fetched.status.success(), "{fetched:?}");
            for line in String::from_utf8(fetched.stdout).unwrap().lines() {
                let (word, count) = line.rsplit_once('\t').unwrap();
                *counts.entry(word.to_owned()).or_default() += count.parse::<u64>().unwrap();
            }
        }
        counts
    }

    fn signal(&self, number: usize, signal: &str) {
        let id = self.hosts[number].0.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }
}

const FILES: u32 = 6;

fn write_inputs(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    for file in 0..FILES {
        let mut out = std::fs::File::create(dir.join(format!("f{file}"))).unwrap();
        for word in words(file) {
            writeln!(out, "{word}").unwrap();
        }
    }
}

fn words(file: u32) -> impl Iterator<Item = String> {
    (0..1_000_u32).map(move |word| format!("w{}", (word * word + file * 7) % 211))
}

fn expected() -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in (0..FILES).flat_map(words) {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

#[test]
fn a_job_goes_on_when_the_leader_is_killed() {
    let Some(mut hosts) = Hosts::start(3) else {
        return;
    };
    hosts.submit();
    hosts.wait_for_maps(3);
    let first = hosts.wait_for_leader();
    hosts.hosts[first].0.kill().unwrap();
    hosts.wait_for("another leader", |hosts| {
        hosts.leader().is_some_and(|leader| leader != first)
    });
    // It comes back and follows.
    let host = hosts.spawn_host(first);
    hosts.hosts[first] = host;
    assert_eq!(hosts.result(), expected());
    assert_ne!(hosts.leader(), Some(first));
}

#[test]
fn a_leader_that_was_stopped_past_its_lease_steps_down_and_writes_nothing() {
    let Some(hosts) = Hosts::start(2) else {
        return;
    };
    hosts.submit();
    hosts.wait_for_maps(3);
    let first = hosts.wait_for_leader();
    hosts.signal(first, "-STOP");
    hosts.wait_for("another leader", |hosts| {
        hosts.leader().is_some_and(|leader| leader != first)
    });
    // The new one commits: what the old one might still write would not fit.
    hosts.wait_for("agents", |hosts| hosts.active_agents() == 2);
    hosts.signal(first, "-CONT");
    hosts.wait_for("the old leader's word", |hosts| {
        hosts.logged(first).contains("this host leads no more")
    });
    assert_eq!(hosts.result(), expected());
    assert_ne!(hosts.leader(), Some(first));
    // It follows again: it can take over.
    let second = 1 - first;
    hosts.signal(second, "-KILL");
    hosts.wait_for("the first again", |hosts| hosts.leader() == Some(first));
    hosts.wait_for("its frameworks", |hosts| {
        hosts.job()["state"] == "succeeded"
    });
}

#[test]
fn a_job_goes_on_when_etcd_is_killed_and_comes_back() {
    let Some(mut hosts) = Hosts::start(2) else {
        return;
    };
    hosts.submit();
    hosts.wait_for_maps(3);
    let leader = hosts.wait_for_leader();
    hosts.etcd[0].kill_9();
    hosts.wait_for("a step down", |hosts| {
        hosts.logged(leader).contains("this host leads no more")
    });
    // Nobody leads, and every host says so.
    let asked = hosts.ask(&["status"]);
    assert_eq!(asked.status.code(), Some(6), "{asked:?}");
    hosts.etcd[0].restart();
    assert_eq!(hosts.result(), expected());
    let page = hosts.metrics();
    assert!(page.contains("\nproffer_leader_leads 1\n"), "{page}");
    assert!(!page.contains("\nproffer_leader_terms_total 0\n"), "{page}");
    assert!(
        page.contains("\nproffer_leader_renewals_failed_total "),
        "{page}"
    );
    assert!(page.ends_with("# EOF\n"), "{page}");
}

#[test]
fn a_host_with_another_token_and_etcd_with_other_data_are_refused() {
    let Some(hosts) = Hosts::start(1) else {
        return;
    };
    let refused = |data: &str, store: &str, status: i32, message: &str| {
        let run = hosts
            .command(data)
            .args([
                "host",
                "--http",
                "off",
                "--listen",
                "127.0.0.1:0",
                "--store",
                store,
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(status), "{said}");
        assert!(said.contains(message), "{said}");
    };
    let other = hosts.data("other");
    std::fs::create_dir(&other).unwrap();
    let token = other.join("token");
    std::fs::write(&token, "another-token-than-theirs\n").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    refused(
        "other",
        &hosts.store(),
        5,
        "is not the one that is in etcd://",
    );
    refused(
        "new",
        "etcd://127.0.0.1:1",
        6,
        "no etcd answers at 127.0.0.1:1",
    );
    refused("new", "etcd://nowhere", 2, "host.store");
    // A prefix that is somebody else's.
    let put = |key: &str, value: &str| {
        let done = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &hosts.members(), "put", key, value])
            .output()
            .unwrap();
        assert!(done.status.success());
    };
    put("theirs/x", "1");
    let theirs = format!("{}/theirs", hosts.store());
    refused(
        "new",
        &theirs,
        8,
        "that is not proffer's: it has the key 'theirs/x'",
    );
    put("newer/format", "proffer store 99");
    let newer = format!("{}/newer", hosts.store());
    refused("new", &newer, 8, "has format 99");
}
