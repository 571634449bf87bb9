//! How long a cluster is without a leader's work when its leader is killed, and what a restart costs.
//!
//! `cargo bench --workspace --bench failover -- AGENTS TASKS [restart|memory]`, or `-- job`
//!
//! Real: etcd, two host processes of the built command, gRPC, what agents say when they register.
//! Simulated: the agents, in this process, two hundred on a connection, and their tasks, which run
//! nowhere; their facts are put into the store before the hosts start, with a framework that is
//! quarantined, so that none of its steps runs. With `restart` one host on an embedded store is
//! started on the same facts, twice: the second time on a snapshot. `memory` does the same with agents
//! that have attributes and come back, tasks with ports, a framework's component that holds each task in its
//! state, and a policy's component that is told of all of them. `job`: nothing is simulated; three hosts, three agents, and a MapReduce job that wants
//! more than there is: until the next leader's first offer.
//!
//! Each connection is an open file, here and in the leader: the soft limit is raised to the hard one,
//! and if that is not enough it is said before anything begins.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use proffer_rpc::operator::{OperatorClient, StatusQuery};
use proffer_rpc::{PeerAddress, Tls, Token};

mod agents;
#[path = "../../../store/testing/etcd_server.rs"]
mod etcd_server;
mod facts;
mod host;
mod job;
mod restart;

use agents::{Group, Tally, registration};
use etcd_server::EtcdServer;
use facts::{Detail, fill_etcd};
use host::Host;
use restart::restart;

/// As the `proffer` command has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Agents on one connection; a host takes 256 streams on each.
const AGENTS_PER_CONNECTION: usize = 200;
/// Facts of one commit while the store is filled.
pub(crate) const FACTS_PER_COMMIT: usize = 2_000;
/// The shortest lease that etcd grants.
pub(crate) const LEASE: proffer_model::Duration = proffer_model::Duration::from_secs(2);
/// Open files besides the agents' connections: etcd's, the store's, the engine's, the other hosts'.
const OTHER_FILES: u64 = 256;
/// Between two lines that say how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// A leader is looked at for so long after the last agent is back: several leases.
const LED_FOR: Duration = Duration::from_secs(10);
/// Everything that is waited for comes within this.
pub(crate) const WITHIN: Duration = Duration::from_secs(600);

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|w| w != "--bench")
        .collect();
    if words.first().is_some_and(|word| word == "job") {
        return job::failover();
    }
    let number = |at: usize, default: usize| -> anyhow::Result<usize> {
        match words.get(at) {
            Some(word) => word
                .parse()
                .with_context(|| format!("'{word}' is no number")),
            None => Ok(default),
        }
    };
    let (agents, tasks) = (number(0, 100)?, number(1, 1_000)?);
    let runtime = tokio::runtime::Runtime::new()?;
    match words.get(2).map(String::as_str) {
        None => failover(&runtime, agents, tasks),
        Some("restart") => restart(&runtime, agents, tasks, Detail::Plain),
        Some("memory") => restart(&runtime, agents, tasks, Detail::Full),
        Some(other) => bail!("'{other}' is neither 'restart' nor 'memory'"),
    }
}

fn failover(runtime: &tokio::runtime::Runtime, agents: usize, tasks: usize) -> anyhow::Result<()> {
    let connections = agents.div_ceil(AGENTS_PER_CONNECTION);
    raise_open_files(connections as u64 + OTHER_FILES)?;
    let Some(etcd) = EtcdServer::start(&["--quota-backend-bytes", "8589934592"]) else {
        bail!("there is no etcd");
    };
    let dir = tempfile::tempdir()?;
    let store = format!("etcd://{}", etcd.member());
    let begun = Instant::now();
    runtime.block_on(fill_etcd(&store, agents, tasks))?;
    println!(
        "{tasks} tasks' facts written to etcd in {:.1} s",
        seconds(begun)
    );
    let mut hosts = Vec::new();
    for number in 0..2 {
        let begun = Instant::now();
        let host = Host::start(dir.path(), number, &["--store", &store])?;
        println!("host {number} has read them in {:.2} s", seconds(begun));
        hosts.push(host);
    }
    let token = Token::read(&dir.path().join("host0/token"))?;
    let addresses: Vec<PeerAddress> = hosts.iter().map(|host| host.address.clone()).collect();
    let tally = Arc::new(Tally::default());
    let detail = (agents, tasks, Detail::Plain);
    join_agents(runtime, (&addresses, &token), detail, &tally);
    let watch = Watch {
        runtime,
        addresses: &addresses,
        token: &token,
        agents,
        tally: &tally,
    };
    let begun = Instant::now();
    let first = reign_of(&etcd)?;
    let (_, all) = watch.until_all_are_back(begun)?;
    println!(
        "{agents} agents on {connections} connections ({AGENTS_PER_CONNECTION} to each) registered in {all:.2} s, {}",
        led_on(&first, &reign_of(&etcd)?)
    );
    let leader = leader_of(&etcd)?;
    let (dead, alive) = if hosts[0].address.to_string() == leader {
        (0, 1)
    } else {
        (1, 0)
    };
    let killed = Instant::now();
    hosts[dead].child.kill()?;
    let (answered, all) = watch.until_all_are_back(killed)?;
    println!(
        "from kill -9 (lease {LEASE}): the next leader answers after {answered:.2} s, all agents are back after {all:.2} s; its resident memory {} MiB",
        hosts[alive].resident_mib()?
    );
    // It goes on under what all those agents have to say.
    let second = reign_of(&etcd)?;
    let watched = Instant::now();
    while watched.elapsed() < LED_FOR {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    println!(
        "{:.0} s later: {}",
        seconds(watched),
        led_on(&second, &reign_of(&etcd)?)
    );
    Ok(())
}

/// All agents with their tasks, on connections to whichever host leads, until they are aborted.
fn join_agents(
    runtime: &tokio::runtime::Runtime,
    (hosts, token): (&[PeerAddress], &Token),
    (agents, tasks, detail): (usize, usize, Detail),
    tally: &Arc<Tally>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let groups = (0..agents).step_by(AGENTS_PER_CONNECTION).map(|first| {
        let numbers = first..(first + AGENTS_PER_CONNECTION).min(agents);
        let registrations = numbers
            .map(|agent| registration(agent, (agents, tasks), detail))
            .collect();
        let group = Group {
            hosts: hosts.to_vec(),
            token: token.clone(),
            registrations,
            tally: Arc::clone(tally),
        };
        runtime.spawn(group.run())
    });
    groups.collect()
}

/// Looks at the leader, whoever it is.
struct Watch<'r> {
    runtime: &'r tokio::runtime::Runtime,
    addresses: &'r [PeerAddress],
    token: &'r Token,
    agents: usize,
    tally: &'r Tally,
}

impl Watch<'_> {
    /// After how many seconds the leader answered, and all agents were there.
    fn until_all_are_back(&self, begun: Instant) -> anyhow::Result<(f64, f64)> {
        let mut first = None;
        let (mut told, mut active) = (Instant::now(), 0);
        while begun.elapsed() < WITHIN {
            let asked = Instant::now();
            let status = self.runtime.block_on(async {
                let client =
                    OperatorClient::connect_to_leader(self.addresses, self.token, &Tls::Off);
                client.await.ok()?.status(StatusQuery {}).await.ok()
            });
            if let Some(status) = status {
                let answered = *first.get_or_insert_with(|| seconds(begun));
                active = status.agents_active as usize;
                if active == self.agents {
                    return Ok((answered, seconds(begun)));
                }
            }
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                println!(
                    "  after {:.0} s: {active} of {} agents are there ({}); the leader answers within {:.2} s",
                    seconds(begun),
                    self.agents,
                    self.streams(),
                    seconds(asked)
                );
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        bail!(
            "{active} of {} agents are there after {WITHIN:?} ({})",
            self.agents,
            self.streams()
        )
    }

    fn streams(&self) -> String {
        let open = self.tally.open.load(Ordering::Relaxed);
        let sent_away = self.tally.sent_away.load(Ordering::Relaxed);
        match self.tally.first.get() {
            Some(why) => {
                format!("{open} streams, {sent_away} were sent away, the first because: {why}")
            }
            None => format!("{open} streams"),
        }
    }
}

/// As many open files as this process may have, which its hosts inherit.
fn raise_open_files(needed: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).context("the limit of open files cannot be raised")?;
    if let Some(most) = maximum {
        ensure!(
            most >= needed,
            "this needs {needed} open files, here and in each host, and {most} is the hard limit: raise it (ulimit -Hn {needed}, as root)"
        );
    }
    Ok(())
}

/// `HOST:PORT` of the leader, as etcd says it.
pub(crate) fn leader_of(etcd: &EtcdServer) -> anyhow::Result<String> {
    let place = leadership_key(etcd, "--print-value-only")?;
    Ok(place.lines().next().unwrap_or_default().to_owned())
}

/// Tells one leader's time from another's: etcd's revision at which the key was made. Empty: nobody leads.
fn reign_of(etcd: &EtcdServer) -> anyhow::Result<String> {
    let fields = leadership_key(etcd, "--write-out=fields")?;
    let made = fields.lines().find(|line| line.contains("CreateRevision"));
    Ok(made.unwrap_or_default().to_owned())
}

fn led_on(before: &str, after: &str) -> &'static str {
    match before == after && !after.is_empty() {
        true => "the leader led on",
        false => "THE LEADER CHANGED MEANWHILE",
    }
}

fn leadership_key(etcd: &EtcdServer, how: &str) -> anyhow::Result<String> {
    let got = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &etcd.member(), "get", how, "proffer/leader"])
        .output()?;
    Ok(String::from_utf8(got.stdout)?)
}

pub(crate) fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
