//! Nothing simulated: a real job on real agents, and its leader killed.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use proffer_build::{BuildOptions, build};
use proffer_rpc::operator::{OperatorClient, PolicyQuery, StatusQuery};
use proffer_rpc::{PeerAddress, Tls, Token};

use crate::etcd_server::EtcdServer;
use crate::host::Host;
use crate::{LEASE, WITHIN, leader_of, seconds};

/// More maps than three agents are done with before the leader is killed.
const INPUT_BYTES: usize = 8 * 1024 * 1024;
const SPLIT_BYTES: usize = 4 * 1024;

/// An agent process that ends with the benchmark.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.0.kill().is_err();
        let _reaped = self.0.wait().is_err();
    }
}

pub(crate) fn failover() -> anyhow::Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dirs = ["plugins/frameworks/mapreduce", "plugins/tasks/wordcount"];
    let dirs: Vec<_> = dirs.iter().map(|dir| root.join(dir)).collect();
    let guests = build(&dirs, &BuildOptions::default(), &mut |_: &str| {})?;
    let guest = |name: &str| {
        let found = guests.iter().find(|guest| guest.name == name);
        found
            .map(|guest| guest.path.display().to_string())
            .context("no such guest")
    };
    let (mapreduce, wordcount) = (guest("mapreduce")?, guest("wordcount")?);
    let Some(etcd) = EtcdServer::start(&[]) else {
        bail!("there is no etcd");
    };
    let dir = tempfile::tempdir()?;
    let store = format!("etcd://{}", etcd.member());
    let mut hosts = Vec::new();
    for number in 0..3 {
        hosts.push(Host::start(dir.path(), number, &["--store", &store])?);
    }
    let addresses: Vec<PeerAddress> = hosts.iter().map(|host| host.address.clone()).collect();
    let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let names = names.join(",");
    let input = dir.path().join("input");
    std::fs::write(
        &input,
        "some words to be counted\n".repeat(INPUT_BYTES / 25),
    )?;
    let mut agents = Vec::new();
    for number in 0..3 {
        let components = std::path::Path::new(&wordcount)
            .parent()
            .context("a directory")?;
        let agent = command(dir.path(), &format!("agent{number}"))
            .args([
                "agent",
                "--join",
                &names,
                "--resources",
                "cpus:2;mem:2048;disk:4096",
            ])
            .arg("--token-file")
            .arg(dir.path().join("host0/token"))
            .arg("--files")
            .arg(dir.path())
            .arg("--files")
            .arg(components)
            .spawn()?;
        agents.push(Agent(agent));
    }
    let ask = |words: &[&str]| -> anyhow::Result<()> {
        let mut command = command(dir.path(), "host0");
        let status = command.args(["--connect", &names]).args(words).status()?;
        ensure!(status.success(), "{words:?} failed");
        Ok(())
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let token = Token::read(&dir.path().join("host0/token"))?;
    let look = || {
        runtime.block_on(async {
            let client = OperatorClient::connect_to_leader(&addresses, &token, &Tls::Off);
            let client = client.await.ok()?;
            let status = client.status(StatusQuery {}).await.ok()?;
            let policy = client.policy(PolicyQuery {}).await.ok()?;
            Some((status.agents_active, policy.grants))
        })
    };
    let begun = Instant::now();
    while look().is_none_or(|(active, _)| active != 3) {
        ensure!(begun.elapsed() < WITHIN, "the agents do not register");
    }
    ask(&["framework", "run", "--approve", &mapreduce])?;
    let function = format!(r#"{{"component":"file:{wordcount}"}}"#);
    let size = std::fs::metadata(&input)?.len();
    let job = format!(
        r#"{{"name":"count","inputs":[{{"source":"file:{}","size":{size}}}],"split":{SPLIT_BYTES},"reducers":2,"map":{function},"reduce":{function}}}"#,
        input.display()
    );
    ask(&["request", "mapreduce", "POST", "/jobs", &job])?;
    while look().is_none_or(|(_, grants)| grants < 20) {
        ensure!(begun.elapsed() < WITHIN, "the job does not run");
    }
    let leader = leader_of(&etcd)?;
    let leading = hosts
        .iter_mut()
        .find(|host| host.address.to_string() == leader);
    let leading = leading.context("nobody leads")?;
    let killed = Instant::now();
    leading.child.kill()?;
    let (mut offer, mut all) = (None, None);
    while offer.is_none() || all.is_none() {
        ensure!(killed.elapsed() < WITHIN, "the next leader offers nothing");
        if let Some((active, grants)) = look() {
            if grants > 0 {
                offer.get_or_insert_with(|| seconds(killed));
            }
            if active == 3 {
                all.get_or_insert_with(|| seconds(killed));
            }
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    println!(
        "3 hosts, 3 agents, a job running; from kill -9 (lease {LEASE}): first offer after {:.2} s, all agents back after {:.2} s",
        offer.unwrap_or_default(),
        all.unwrap_or_default()
    );
    Ok(())
}

fn command(dir: &std::path::Path, data: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proffer"));
    command
        .env_clear()
        .env("HOME", dir)
        .env("PROFFER_LOG", "error");
    command.arg("--data").arg(dir.join(data));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
