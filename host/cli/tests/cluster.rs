//! A real cluster of processes on this machine, a real job on real files, and plugs that are pulled.
//!
//! Needs a wasm toolchain for the guests; without one the tests say so and end, unless
//! `PROFFER_REQUIRE_ALL=1`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proffer_rpc::operator::{FetchOutput, FrameworkRequest, OperatorClient, StatusQuery};
use proffer_rpc::{PeerAddress, Tls, Token};
use proffer_tests::cluster::{Guests, as_tsv, write_inputs};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

#[path = "cluster/edges.rs"]
mod edges;
#[path = "cluster/lifecycle.rs"]
mod lifecycle;
#[path = "cluster/policies.rs"]
mod policies;

/// Whatever is waited for comes within this, on a busy machine too.
const WITHIN: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A process that dies with the test.
struct Process(Child);

impl Process {
    fn kill_9(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.0.kill().is_err();
        let _reaped = self.0.wait().is_err();
    }
}

struct Cluster {
    dir: tempfile::TempDir,
    guests: Guests,
    runtime: Runtime,
    host: Option<Process>,
    agents: Vec<Process>,
    address: String,
    /// What the job must find.
    expected: Vec<u8>,
}

impl Cluster {
    fn start(guests: Guests, agents: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let expected = as_tsv(&write_inputs(&dir.path().join("input")));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut cluster = Self {
            dir,
            guests,
            runtime,
            host: None,
            agents: Vec::new(),
            address: "127.0.0.1:0".to_owned(),
            expected,
        };
        cluster.start_host();
        for number in 0..agents {
            cluster.start_agent(number);
        }
        let mut active = 0;
        wait_for(|| {
            active = cluster.status_agents();
            active == agents
        });
        cluster
    }

    fn command(&self, data: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proffer"));
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .arg("--data")
            .arg(data);
        command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn host_data(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    /// The first time on any free port, then on the same.
    fn start_host(&mut self) {
        let recorded = self.host_data().join("address");
        if recorded.exists() {
            std::fs::remove_file(&recorded).unwrap();
        }
        let mut command = self.command(&self.host_data());
        command.args(["host", "--http", "off", "--listen", &self.address]);
        command
            .args(["--set", "host.agent-timeout=2s", "--policy"])
            .arg(&self.guests.drf);
        self.host = Some(Process(command.spawn().unwrap()));
        wait_for(|| {
            recorded.exists()
                && std::fs::read_to_string(&recorded).is_ok_and(|text| text.ends_with('\n'))
        });
        self.address = std::fs::read_to_string(&recorded)
            .unwrap()
            .trim()
            .to_owned();
    }

    fn start_agent(&mut self, number: usize) {
        self.start_agent_with(number, "cpus:2;mem:2048;disk:4096");
    }

    fn start_agent_with(&mut self, number: usize, resources: &str) {
        let components = self.guests.wordcount.parent().unwrap().to_owned();
        let mut command = self.command(&self.dir.path().join(format!("agent{number}")));
        command.args(["agent", "--join", &self.address, "--resources", resources]);
        command
            .arg("--token-file")
            .arg(self.host_data().join("token"));
        command
            .arg("--files")
            .arg(self.dir.path().join("input"))
            .arg("--files")
            .arg(components);
        self.agents.push(Process(command.spawn().unwrap()));
    }

    fn client(&self) -> Option<OperatorClient> {
        let token = Token::read(&self.host_data().join("token")).ok()?;
        let address: PeerAddress = self.address.parse().unwrap();
        self.runtime
            .block_on(OperatorClient::connect(&address, &token, &Tls::Off))
            .ok()
    }

    fn status_agents(&self) -> usize {
        let Some(client) = self.client() else {
            return 0;
        };
        let status = self.runtime.block_on(client.status(StatusQuery {}));
        status.map_or(0, |status| status.agents_active as usize)
    }

    fn run_framework(&self) {
        let mut command = self.command(&self.host_data());
        let run = command
            .args(["framework", "run", "--approve"])
            .arg(&self.guests.mapreduce)
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
    }

    /// A framework's answer, or none if the host does not answer now.
    fn request(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: Vec<u8>,
    ) -> Option<(u16, Value)> {
        let request = FrameworkRequest {
            framework: "mapreduce".to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Vec::new(),
            body: body.into(),
            principal: String::new(),
        };
        let client = self.client()?;
        let response = self.runtime.block_on(client.request(request)).ok()?;
        Some((
            response.status,
            serde_json::from_slice(&response.body).unwrap_or(Value::Null),
        ))
    }

    fn submit(&self, split: u64) {
        let mut inputs = Vec::new();
        for path in files(&self.dir.path().join("input")) {
            let size = std::fs::metadata(&path).unwrap().len();
            inputs.push(json!({ "source": format!("file:{}", path.display()), "size": size }));
        }
        let function = json!({ "component": format!("file:{}", self.guests.wordcount.display()) });
        let job = json!({
            "name": "count", "inputs": inputs, "split": split, "reducers": 3, "map": function, "reduce": function,
        });
        let (status, answer) = self
            .request("POST", "/jobs", "", job.to_string().into_bytes())
            .unwrap();
        assert_eq!(status, 201, "{answer}");
    }

    fn job(&self) -> Option<Value> {
        let (status, job) = self.request("GET", "/jobs/count", "limit=0", Vec::new())?;
        (status == 200).then_some(job)
    }

    fn maps_done(&self) -> u64 {
        self.job()
            .map_or(0, |job| job["map"]["done"].as_u64().unwrap_or(0))
    }

    /// Waits for the job's end and puts its result together.
    fn result(&self) -> Vec<u8> {
        let mut job = Value::Null;
        wait_for(|| {
            job = self.job().unwrap_or(Value::Null);
            job["state"] == "succeeded" || job["state"] == "failed"
        });
        assert_eq!(job["state"], "succeeded", "{job:#}");
        let mut counts = BTreeMap::new();
        for part in job["result"].as_array().unwrap() {
            let fetch = FetchOutput {
                framework: "mapreduce".to_owned(),
                task: part["task"].as_str().unwrap().to_owned(),
                path: part["path"].as_str().unwrap().to_owned(),
            };
            let client = self.client().unwrap();
            let text = self.runtime.block_on(async {
                client
                    .fetch_output(fetch)
                    .await
                    .unwrap()
                    .all(16 * 1024 * 1024)
                    .await
                    .unwrap()
            });
            for line in text
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                let tab = line.iter().rposition(|byte| *byte == b'\t').unwrap();
                let count: u64 = std::str::from_utf8(&line[tab + 1..])
                    .unwrap()
                    .parse()
                    .unwrap();
                *counts.entry(line[..tab].to_vec()).or_default() += count;
            }
        }
        as_tsv(&counts)
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path))
        } else {
            all.push(path)
        }
    }
    all.sort();
    all
}

#[track_caller]
fn wait_for(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < WITHIN, "it did not come about in time");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

#[test]
fn the_demo_counts_as_a_script_does_whatever_the_split() {
    let Some(_) = Guests::build() else { return };
    let dir = tempfile::tempdir().unwrap();
    let expected = as_tsv(&write_inputs(&dir.path().join("input")));
    let mut seen = String::new();
    for split in [None, Some("64KiB"), Some("1KiB")] {
        let out = dir.path().join("counts.tsv");
        let mut command = Command::new(env!("CARGO_BIN_EXE_proffer"));
        command
            .arg("--data")
            .arg(dir.path().join("data"))
            .args(["demo", "--input"]);
        command.arg(dir.path().join("input")).arg("--out").arg(&out);
        command.args(split.map(|split| ["--split", split]).into_iter().flatten());
        let run = command.output().unwrap();
        let report = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(
            run.status.success(),
            "{split:?}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
        assert!(
            std::fs::read(&out).unwrap() == expected,
            "{split:?}: another count"
        );
        for part in [
            "sha256:",
            "made,",
            "from submit to first task",
            "share of the pool",
        ] {
            assert!(report.contains(part), "{split:?}: no '{part}' in {report}");
        }
        writeln!(seen, "{split:?}").unwrap();
    }
    assert_eq!(seen.lines().count(), 3);
}

#[test]
fn a_job_goes_on_when_its_host_is_killed() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let mut cluster = Cluster::start(guests, 3);
    cluster.run_framework();
    cluster.submit(1_024);
    wait_for(|| cluster.maps_done() >= 5);
    cluster.host.as_mut().unwrap().kill_9();
    cluster.start_host();
    assert!(cluster.result() == cluster.expected, "another count");
}

#[test]
fn a_job_goes_on_when_an_agent_is_killed_with_the_outputs_of_its_maps() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let mut cluster = Cluster::start(guests, 3);
    cluster.run_framework();
    cluster.submit(2_048);
    let half =
        |job: &Value| job["map"]["done"].as_u64() >= job["map"]["tasks"].as_u64().map(|n| n / 2);
    wait_for(|| cluster.job().is_some_and(|job| half(&job)));
    cluster.agents[1].kill_9();
    assert!(cluster.result() == cluster.expected, "another count");
}
