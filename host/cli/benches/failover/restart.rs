//! One host on a store of its own, started twice: on the facts as they came, and on a snapshot of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use proffer_build::{BuildOptions, build, inspect};
use proffer_core::{Core, CoreConfig};
use proffer_model::Timestamp;
use proffer_rpc::Token;
use proffer_rpc::operator::{PolicyQuery, StatusQuery};
use proffer_store::Store;

use crate::agents::Tally;
use crate::facts::{Detail, fill};
use crate::host::Host;
use crate::{WITHIN, Watch, join_agents, seconds};

/// After a restart memory is looked at once more when this has passed.
const SETTLED_AFTER: Duration = Duration::from_secs(20);

/// The policy that is told of tasks, and the configuration that makes it ask for them.
const POLICY_CONFIG: &str = r#"{"priorities":["prod:1"]}"#;

/// What a full host runs.
struct Plugins {
    framework: PathBuf,
    policy: PathBuf,
}

impl Plugins {
    fn build() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let dirs = ["tests/guests/noop", "plugins/policies/priority"].map(|dir| root.join(dir));
        let guests = build(&dirs, &BuildOptions::default(), &mut |_: &str| {})?;
        let paths: BTreeMap<_, _> = guests.into_iter().map(|g| (g.name, g.path)).collect();
        let path = |name: &str| paths.get(name).cloned().context("no such guest");
        Ok(Self {
            framework: path("noop")?,
            policy: path("priority")?,
        })
    }
}

pub(crate) fn restart(
    runtime: &tokio::runtime::Runtime,
    agents: usize,
    tasks: usize,
    detail: Detail,
) -> anyhow::Result<()> {
    let plugins = match detail {
        Detail::Plain => None,
        Detail::Full => Some(Plugins::build()?),
    };
    let dir = tempfile::tempdir()?;
    let store = dir.path().join("host0/store");
    let begun = Instant::now();
    {
        let (mut store, _) = proffer_store::open(&store)?;
        let framework = match &plugins {
            None => None,
            Some(plugins) => Some(keep(&store, &plugins.framework)?),
        };
        fill(&mut store, agents, tasks, framework)?;
    }
    println!("{tasks} tasks' facts written in {:.1} s", seconds(begun));
    for round in ["the journal", "a snapshot"] {
        if round == "a snapshot" {
            shorten(&store)?;
        }
        println!("restarting from {round} ...");
        let begun = Instant::now();
        let policy = plugins.as_ref().map(|plugins| plugins.policy.display());
        let policy = policy.map(|path| path.to_string());
        let more: Vec<&str> = match &policy {
            None => Vec::new(),
            Some(path) => vec!["--policy", path, "--policy-config", POLICY_CONFIG],
        };
        let host = Host::start(dir.path(), 0, &more)?;
        let client = runtime.block_on(host.client(dir.path()))?;
        let status = runtime.block_on(client.status(StatusQuery {}))?;
        println!(
            "restart from {round}: {:.2} s until it answers; {} agents known; resident {} MiB",
            seconds(begun),
            status.agents,
            host.resident_mib()?,
        );
        match plugins {
            Some(_) => run_full(runtime, &host, dir.path(), (agents, tasks))?,
            None => settle(&host)?,
        }
    }
    Ok(())
}

fn settle(host: &Host) -> anyhow::Result<()> {
    std::thread::park_timeout(SETTLED_AFTER);
    println!("  20 s later: resident {} MiB", host.resident_mib()?);
    Ok(())
}

/// All agents come back, the framework runs, and the policy has been told of everything.
fn run_full(
    runtime: &tokio::runtime::Runtime,
    host: &Host,
    dir: &Path,
    (agents, tasks): (usize, usize),
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let addresses = [host.address.clone()];
    let token = Token::read(&dir.join("host0/token"))?;
    let tally = Arc::new(Tally::default());
    let joined = join_agents(
        runtime,
        (&addresses, &token),
        (agents, tasks, Detail::Full),
        &tally,
    );
    let watch = Watch {
        runtime,
        addresses: &addresses,
        token: &token,
        agents,
        tally: &tally,
    };
    watch.until_all_are_back(begun)?;
    let client = runtime.block_on(host.client(dir))?;
    let asked = loop {
        ensure!(begun.elapsed() < WITHIN, "the policy is not asked");
        let policy = runtime.block_on(client.policy(PolicyQuery {}))?;
        if policy.cycles > 0 && !policy.fallback {
            break policy;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    };
    ensure!(asked.name == "priority", "{} decides", asked.name);
    println!(
        "  {agents} agents are back after {:.1} s and {} has decided; resident {} MiB",
        seconds(begun),
        asked.name,
        host.resident_mib()?
    );
    let settled = settle(host);
    joined.into_iter().for_each(|group| group.abort());
    settled
}

/// Keeps a framework's component; its digest.
fn keep(store: &impl Store, path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path)?;
    let digest = inspect(&bytes)?.digest;
    store.put_blob(&digest, &bytes)?;
    Ok(digest)
}

/// Replaces the journal by a snapshot, as the host does when it has grown enough.
fn shorten(store: &Path) -> anyhow::Result<()> {
    let (mut store, recovered) = proffer_store::open(store)?;
    let core = Core::recover(CoreConfig::default(), recovered.facts, Timestamp(0))?;
    store.snapshot(&core.snapshot().into_facts())?;
    Ok(())
}
