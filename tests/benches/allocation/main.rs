//! What an allocation cycle costs, natively and with the policy as a component, which must come to the
//! same offers (their hash is printed): the whole cycle as Mesos's own benchmark runs it, one agent
//! that comes free, and the policy alone on the same changes.
//!
//! `cargo bench --bench allocation [-- whole|one|policy] [FILTER]`. Figures are CPU time of the whole
//! process, as medians over rounds in which the two alternate, for machines are noisy.

/// As the `proffer` command has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod pool;
mod whole;

use std::hash::{DefaultHasher, Hash, Hasher};

use std::time::Duration;

use proffer_model::policy::{Changes, Cycle, Proposal};
use proffer_plugin::{
    Kind, LoadedPlugin, PluginHost, PluginHostConfig, PolicyHandle, PolicyLimits,
};
use proffer_policy::{Drf, Policy};
use proffer_tests::guests;
use tokio::runtime::Runtime;

use pool::{Pool, Work};

/// Rounds that are measured; one more before them warms up.
const ROUNDS: usize = 11;

/// Agents, clients, and what they do.
const CASES: [(&str, usize, usize, Work); 8] = [
    ("1,000 x 50, whole agents", 1_000, 50, Work::Whole),
    ("1,000 x 100, whole agents", 1_000, 100, Work::Whole),
    ("10,000 x 100, whole agents", 10_000, 100, Work::Whole),
    ("10,000 x 1,000, whole agents", 10_000, 1_000, Work::Whole),
    (
        "10,000 x 1,000, a role each",
        10_000,
        1_000,
        Work::WholeWithRoles,
    ),
    ("1,000 x 100, units of demand", 1_000, 100, Work::Units),
    ("10,000 x 100, units of demand", 10_000, 100, Work::Units),
    (
        "10,000 x 1,000, units of demand",
        10_000,
        1_000,
        Work::Units,
    ),
];

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let parts = ["whole", "one", "policy"];
    let part = words.iter().find(|word| parts.contains(&word.as_str()));
    let filter = words.iter().find(|word| !parts.contains(&word.as_str()));
    let filter = filter.map(String::as_str);
    let wasm = Wasm::load();
    let chosen = |name: &str| part.is_none_or(|part| part == name);
    if chosen("whole") {
        whole::run(filter, wasm.as_ref());
    }
    if chosen("one") {
        whole::run_incremental(wasm.as_ref());
    }
    if chosen("policy") {
        policy_alone(filter, wasm.as_ref());
    }
}

/// The policy's `apply` and `decide`, without the core.
fn policy_alone(filter: Option<&str>, wasm: Option<&Wasm>) {
    println!(
        "{:32} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>7}",
        "CPU ms, medians of 11",
        "apply",
        "decide",
        "both",
        "w apply",
        "w decide",
        "w both",
        "ratio",
        "grants"
    );
    for (name, agents, clients, work) in CASES {
        if filter.is_none_or(|filter| name.contains(filter)) {
            run(name, Pool::new(agents, clients, work), wasm);
        }
    }
}

/// One case. Each round is a cycle's whole traffic: everything that was on offer comes back, what
/// became of the last proposal is stated, and a new one is made.
fn run(name: &str, mut pool: Pool, wasm: Option<&Wasm>) {
    let config = pool.work().config();
    let snapshot = pool.snapshot();
    let mut native = Native::new(config, &snapshot);
    let mut component = wasm.map(|wasm| wasm.spawn(config, &snapshot));
    let mut times: [Vec<f64>; 5] = Default::default();
    let mut last = (0, 0);
    for round in 0..=ROUNDS {
        let changes = pool.take_changes();
        let cycle = pool.cycle();
        let (proposal, applied, decided) = native.cycle(&changes, &cycle);
        last = (proposal.grants.len(), hash(&proposal));
        let mut measured = vec![applied, decided];
        if let Some(component) = &mut component {
            let (other, applied, decided) = component.cycle(changes, cycle);
            assert_eq!(hash(&other), last.1, "the component decides otherwise");
            measured.extend([applied, decided]);
        }
        pool.commit(&proposal);
        pool.release_all();
        if round > 0 {
            let ratio = match measured[..] {
                [one, two, three, four] => (three + four) / (one + two),
                _ => f64::NAN,
            };
            measured.resize(4, f64::NAN);
            measured.push(ratio);
            for (times, time) in times.iter_mut().zip(measured) {
                times.push(time);
            }
        }
    }
    let [apply, decide, w_apply, w_decide, ratio] = times.map(median);
    println!(
        "{name:32} {apply:8.2} {decide:8.2} {:8.2} {w_apply:8.2} {w_decide:8.2} {:8.2} {ratio:6.2} {:7}  {:016x}",
        apply + decide,
        w_apply + w_decide,
        last.0,
        last.1
    );
}

/// The policy in this process, as the host falls back on it.
struct Native(Drf);

impl Native {
    fn new(config: &str, snapshot: &Changes) -> Self {
        let mut policy = Drf::default();
        policy.configure(config).expect("the bench's own config");
        policy.apply(snapshot);
        Self(policy)
    }

    fn cycle(&mut self, changes: &Changes, cycle: &Cycle) -> (Proposal, f64, f64) {
        let ((), applied) = timed(|| self.0.apply(changes));
        let (proposal, decided) = timed(|| self.0.decide(cycle));
        (proposal, applied, decided)
    }
}

/// Where components run.
struct Wasm {
    runtime: Runtime,
    host: PluginHost,
    loaded: LoadedPlugin,
}

impl Wasm {
    fn load() -> Option<Self> {
        let component = guests::component("plugins/policies/drf")?;
        let bytes = std::fs::read(component).expect("a component that was just built");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime with nothing but a timer");
        let host = PluginHost::new(PluginHostConfig::default()).expect("a plug-in host");
        let loaded = runtime
            .block_on(host.load(bytes, Kind::Policy))
            .expect("the reference policy fits the contract");
        Some(Self {
            runtime,
            host,
            loaded,
        })
    }

    fn spawn(&self, config: &str, snapshot: &Changes) -> Component<'_> {
        let mut limits = PolicyLimits::default();
        // What is measured must not be cut short.
        limits.cycle.cpu = Duration::from_secs(10);
        let spawned = self.host.spawn_policy(self.loaded.clone(), limits, config);
        let (handle, _) = self.runtime.block_on(spawned).expect("a policy");
        let fed = handle.apply(vec![snapshot.clone()]);
        self.runtime.block_on(fed).expect("a snapshot");
        Component {
            handle,
            runtime: &self.runtime,
        }
    }
}

/// The policy as a component.
struct Component<'a> {
    handle: PolicyHandle,
    runtime: &'a Runtime,
}

impl Component<'_> {
    /// Times are of the plug-in's thread, conversions at the boundary included.
    fn cycle(&mut self, changes: Changes, cycle: Cycle) -> (Proposal, f64, f64) {
        let outcome = self
            .runtime
            .block_on(self.handle.cycle(vec![changes], cycle));
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let proposal = outcome.result.expect("a proposal");
        (proposal, ms(outcome.apply_cpu), ms(outcome.decide_cpu))
    }
}

/// A call, and its CPU time in milliseconds.
fn timed<T>(call: impl FnOnce() -> T) -> (T, f64) {
    let before = cpu_now();
    let answer = call();
    (answer, (cpu_now() - before).as_secs_f64() * 1e3)
}

/// CPU time of all threads: a component runs on one of its own.
fn cpu_now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn hash(proposal: &Proposal) -> u64 {
    let grants = &proposal.grants;
    let mut hasher = DefaultHasher::new();
    (&grants.agent, &grants.client, &grants.demand, &grants.gang).hash(&mut hasher);
    (&grants.pieces, &grants.terms, &grants.kind, &grants.amount).hash(&mut hasher);
    hasher.finish()
}
