//! Facts per second and commit latency, embedded and in etcd, beside a bare loop of the same bytes: write
//! and fsync on the same disk, puts to the same server.
//!
//! `cargo bench --workspace --bench commit` prints one line per batch size: how many facts a transaction
//! holds is what group commit decides, by how much queued up meanwhile. Give a directory in
//! `PROFFER_BENCH_DIR` to measure another disk than that of the temporary directory; etcd, of one
//! member, writes to the temporary directory.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use proffer_model::fact::{Effect, Fact, LaunchRecord, StepRecord};
use proffer_model::framework::StateWrite;
use proffer_model::{
    AgentId, Executor, FrameworkId, LaunchNumber, Resources, RoleName, StepNumber, TaskId,
    TaskSpec, Template, Timestamp,
};
use proffer_store::etcd::{Cluster, Election, EtcdAddress, EtcdStore, Follower, Role};
use proffer_store::{Store, journal_bytes, open};

#[path = "../testing/etcd_server.rs"]
mod etcd_server;

use etcd_server::EtcdServer;

/// Long enough for a few hundred commits of a slow disk.
const RUN: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = match std::env::var_os("PROFFER_BENCH_DIR") {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    println!("embedded");
    print_header();
    for batch in [1, 10, 100, 1_000] {
        let facts: Vec<Fact> = (0..batch).map(launch).collect();
        let bytes = payload(&facts);
        let cpu = cpu_time();
        let ours = run_store(&dir.path().join(format!("store-{batch}")), &facts)?;
        let cpu = cpu_time().saturating_sub(cpu);
        let bare = run_bare(&dir.path().join(format!("bare-{batch}")), &bytes)?;
        print_row(batch, &ours, &bare, cpu);
    }
    in_etcd()
}

fn in_etcd() -> Result<(), Box<dyn std::error::Error>> {
    let Some(etcd) = EtcdServer::start(&["--quota-backend-bytes", "8589934592"]) else {
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let address: EtcdAddress = format!("etcd://{}", etcd.member()).parse()?;
    let (cluster, mut store, election) = runtime.block_on(async {
        let cluster = Cluster::open(address, runtime.handle().clone()).await?;
        let lease = proffer_model::Duration::from_secs(10);
        let election = Election::start(&cluster, lease, "bench".to_owned())?;
        let mut role = election.role();
        let role = role.wait_for(|role| matches!(role, Role::Leading(_)));
        let Role::Leading(fence) = *role.await? else {
            return Err("it does not lead".into());
        };
        let (follower, recovered) = Follower::load(cluster.clone()).await?;
        let authority = election.authority();
        let store = EtcdStore::lead(follower, recovered.states, fence, authority).await?;
        Ok::<_, Box<dyn std::error::Error>>((cluster, store, election))
    })?;
    println!("etcd, one member");
    print_header();
    for batch in [1, 10, 100, 1_000] {
        let facts: Vec<Fact> = (0..batch).map(launch).collect();
        let bytes = payload(&facts);
        let cpu = cpu_time();
        let ours = timed(|| Ok(store.append(&facts)?))?;
        let cpu = cpu_time().saturating_sub(cpu);
        let mut number = 0;
        let bare = timed(|| {
            number += 1;
            let key = format!("{batch}/{number}");
            let put = cluster.put_unfenced(&key, bytes.clone());
            Ok(runtime.block_on(put)?)
        })?;
        print_row(batch, &ours, &bare, cpu);
    }
    runtime.block_on(election.resign());
    Ok(())
}

fn print_header() {
    println!(
        "{:>6} {:>12} {:>10} {:>10} {:>10} | {:>12} {:>10} {:>6}",
        "batch", "facts/s", "p50 ms", "p99 ms", "CPU µs/f", "bare facts/s", "p50 ms", "ratio"
    );
}

fn print_row(batch: u64, ours: &[Duration], bare: &[Duration], cpu: Duration) {
    let rate = |times: &[Duration]| {
        (batch * times.len() as u64) as f64 / times.iter().sum::<Duration>().as_secs_f64()
    };
    println!(
        "{batch:>6} {:>12.0} {:>10.3} {:>10.3} {:>10.2} | {:>12.0} {:>10.3} {:>6.2}",
        rate(ours),
        percentile(ours, 50),
        percentile(ours, 99),
        cpu.as_secs_f64() * 1e6 / (batch * ours.len() as u64) as f64,
        rate(bare),
        percentile(bare, 50),
        percentile(ours, 50) / percentile(bare, 50),
    );
}

/// A step that launches one task and writes forty bytes of state: what a placement costs.
fn launch(number: u64) -> Fact {
    let id = format!("job-42.map-{number:06}");
    let task = TaskSpec {
        id: TaskId::new(id.as_str()).expect("a word is a task id"),
        template: Template {
            name: "map".into(),
            executor: Executor::Process(vec!["bin/map".into(), "--split".into()]),
            env: Vec::new(),
            inputs: Vec::new(),
            checks: Vec::new(),
            grace: proffer_model::Duration::from_secs(5),
            longest: None,
            group: String::new(),
            labels: Vec::new(),
            options: Vec::new(),
        },
        resources: Resources::plain("cpus:1;mem:256".parse().expect("resources")),
        args: vec![number.to_string()],
        env: Vec::new(),
        inputs: Vec::new(),
        mounts: Vec::new(),
        output: id.clone(),
        priority: 0,
    };
    Fact::StepCommitted(Box::new(StepRecord {
        framework: FrameworkId(1),
        step: StepNumber(number),
        writes: vec![StateWrite::Set(id, vec![7; 40].into())],
        effects: vec![Effect::TaskLaunched(Box::new(LaunchRecord {
            launch: LaunchNumber(number),
            agent: AgentId(number as u32 % 100),
            role: RoleName::star(),
            task: task.into(),
            group: LaunchNumber(number),
            at: Timestamp(1_700_000_000_000),
        }))],
    }))
}

/// As many bytes as the store has to keep: the facts, and the keys and values of their state.
fn payload(facts: &[Fact]) -> Vec<u8> {
    let state = |fact: &Fact| match fact {
        Fact::StepCommitted(step) => step.writes.iter().map(written).sum(),
        _ => 0,
    };
    let bytes = |fact: &Fact| journal_bytes(fact).unwrap_or(0) + state(fact);
    vec![0x5A; facts.iter().map(bytes).sum()]
}

fn written(write: &StateWrite) -> usize {
    match write {
        StateWrite::Set(key, value) => key.len() + value.len(),
        StateWrite::Delete(_) | StateWrite::DeleteRange(..) => 0,
    }
}

fn run_store(dir: &Path, facts: &[Fact]) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    let (mut store, _) = open(dir)?;
    timed(|| Ok(store.append(facts)?))
}

fn run_bare(path: &Path, bytes: &[u8]) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    let mut file = File::create(path)?;
    timed(|| {
        file.write_all(bytes)?;
        Ok(file.sync_data()?)
    })
}

/// How long each of as many goes takes as there is time for.
fn timed(
    mut go: impl FnMut() -> Result<(), Box<dyn std::error::Error>>,
) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < RUN {
        let begin = Instant::now();
        go()?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() - 1) * percent / 100;
    sorted[at].as_secs_f64() * 1e3
}

/// User and system time of this process, from the kernel's own account.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // The kernel reports hundredths of a second, whatever its own tick is.
    Duration::from_millis(ticks * 10)
}
