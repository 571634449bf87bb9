//! What plug-ins cost, and what a good one notices of bad ones.
//!
//! `cargo bench -p proffer-plugin`: the time to make an instance, a framework's step with 1, 100 and
//! 1,000 offers, and the 99th percentile of a good framework's step alone and beside sixteen
//! frameworks and a policy that spin, each of which has been stopped once before. Figures are of the
//! machine as it is; compare only within a run.
//! What else runs there shows as run-queue delay: how long the threads that ran the good steps were
//! ready and had no processor, as the kernel counts it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proffer_build::{BuildOptions, build};
use proffer_model::framework::{Batch, Context, Event};
use proffer_model::policy::{Changes, Cycle};
use proffer_model::state::StateEntries;
use proffer_model::{
    AgentId, AgentInfo, FrameworkId, Offer, OfferId, Resources, RoleName, StepNumber, Timestamp,
};
use proffer_plugin::{
    FrameworkHandle, FrameworkInit, FrameworkLimits, Kind, LoadedPlugin, PluginHost,
    PluginHostConfig, PolicyLimits,
};

/// Spinning frameworks beside the good one.
const SPINNERS: u32 = 16;
/// Steps of the good framework in each round.
const STEPS: u64 = 1_000;
/// Rounds alone and beside, in turns: the machine's own mood is in both.
const ROUNDS: usize = 5;
/// Between two of its steps, as offers come.
const PAUSE: Duration = Duration::from_millis(1);

fn main() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dirs = ["tests/guests/framework", "tests/guests/policy"].map(|dir| repository.join(dir));
    let options = BuildOptions {
        target_dir: Some(repository.join("target/guests")),
        ..BuildOptions::default()
    };
    let built = build(&dirs, &options, &mut |line: &str| println!("{line}"))
        .expect("the guests build: see the message");
    let read = |index: usize| std::fs::read(&built[index].path).expect("it was just built");
    let host = PluginHost::new(PluginHostConfig::default()).expect("a plug-in host");
    let framework = host
        .load_blocking(&read(0), Kind::Framework)
        .expect("the framework loads");
    let policy = host
        .load_blocking(&read(1), Kind::Policy)
        .expect("the policy loads");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        instances(&host, &framework).await;
        steps(&host, &framework).await;
        fairness(&host, &framework, &policy).await;
    });
}

fn spawn(host: &PluginHost, loaded: &LoadedPlugin, id: u32, order: &str) -> FrameworkHandle {
    host.spawn_framework(FrameworkInit {
        loaded: loaded.clone(),
        context: Context {
            name: format!("{order}-{id}"),
            id: format!("framework-{id}"),
            cluster: "bench".to_owned(),
            region: String::new(),
            version: "0".to_owned(),
            roles: vec![RoleName::star()],
            config: order.to_owned(),
            limits: Vec::new(),
        },
        framework: FrameworkId(id),
        state: StateEntries::new(),
        limits: FrameworkLimits::default(),
        seed: 1,
    })
    .expect("it is a framework")
}

fn batch(step: u64, offers: u64) -> Batch {
    let info = Arc::new(AgentInfo {
        hostname: "host-1".into(),
        region: "region".into(),
        zone: "zone".into(),
        attributes: Vec::new(),
    });
    let resources: Resources =
        Resources::plain("cpus:4;mem:8192;ports:[31000-32000]".parse().expect("good"));
    let offer = |id| Offer {
        id: OfferId(step * 10_000 + id),
        agent: AgentId(1),
        role: RoleName::star(),
        resources: resources.clone(),
        expires: Timestamp(1_000),
        demand: "demand".to_owned(),
        gang: 0,
        down: None,
    };
    Batch {
        step: StepNumber(step),
        now: Timestamp(step),
        agents: vec![(AgentId(1), info)],
        events: vec![Event::Offers((0..offers).map(offer).collect())],
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

async fn instances(host: &PluginHost, loaded: &LoadedPlugin) {
    let handle = spawn(host, loaded, 1, "idle");
    let mut with = Vec::new();
    let mut without = Vec::new();
    for step in 0..500_u64 {
        let warm = handle.step(batch(step, 0)).await;
        without.push(warm.cpu);
        assert!(handle.drop_instance(), "no step is under way");
        let cold = handle.step(batch(step, 0)).await;
        with.push(cold.cpu);
    }
    with.sort_unstable();
    without.sort_unstable();
    let made = percentile(&with, 50).saturating_sub(percentile(&without, 50));
    println!("instantiate and start: {made:?} of processor time (median)");
}

async fn steps(host: &PluginHost, loaded: &LoadedPlugin) {
    for offers in [1, 100, 1_000] {
        let handle = spawn(host, loaded, 2, "good");
        let mut cpu = Vec::new();
        let mut wall = Vec::new();
        for step in 1..=200 {
            let outcome = handle.step(batch(step, offers)).await;
            outcome.result.expect("a good step");
            cpu.push(outcome.cpu);
            wall.push(outcome.wall);
        }
        cpu.sort_unstable();
        wall.sort_unstable();
        println!(
            "step with {offers} offers, a launch each: {:?} of processor time, {:?} from call to answer (medians)",
            percentile(&cpu, 50),
            percentile(&wall, 50)
        );
    }
}

/// What steps took.
#[derive(Default)]
struct Measured {
    /// From call to answer.
    walls: Vec<Duration>,
    /// The quick threads' run-queue delay.
    delay: Duration,
    /// Processor time of the threads of heavy calls.
    heavy: Duration,
    /// From beginning to end.
    took: Duration,
}

impl Measured {
    fn add(&mut self, more: Self) {
        self.walls.extend(more.walls);
        self.delay += more.delay;
        self.heavy += more.heavy;
        self.took += more.took;
    }

    fn print(&mut self, name: &str) {
        self.walls.sort_unstable();
        let steps = u32::try_from(self.walls.len()).unwrap_or(u32::MAX).max(1);
        println!(
            "a good step {name}: median {:?}, 99th percentile {:?}, longest {:?}; run-queue delay {:?} a step; heavy calls used {:.0} % of a processor",
            percentile(&self.walls, 50),
            percentile(&self.walls, 99),
            percentile(&self.walls, 100),
            self.delay / steps,
            100.0 * self.heavy.as_secs_f64() / self.took.as_secs_f64(),
        );
    }
}

/// Time on a processor and time ready without one, of this process's threads of these names; zero
/// where the kernel does not count it.
fn scheduled(names: &[&str]) -> (Duration, Duration) {
    let mut sum = (Duration::ZERO, Duration::ZERO);
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return sum;
    };
    for thread in threads.flatten() {
        let read = |file| std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        if !names.contains(&read("comm").trim()) {
            continue;
        }
        let counted = read("schedstat");
        let mut nanos = counted
            .split_whitespace()
            .map(|text| text.parse().unwrap_or(0));
        sum.0 += Duration::from_nanos(nanos.next().unwrap_or(0));
        sum.1 += Duration::from_nanos(nanos.next().unwrap_or(0));
    }
    sum
}

/// The good framework's steps.
async fn measure(good: &FrameworkHandle, offers: u64) -> Measured {
    let quick = || scheduled(&["proffer-quick"]).1;
    let heavy = || scheduled(&["proffer-slow", "proffer-policy"]).0;
    let (began, quick_before, heavy_before) = (Instant::now(), quick(), heavy());
    let mut walls = Vec::new();
    for step in 1..=STEPS {
        let outcome = good.step(batch(step, offers)).await;
        outcome.result.expect("a good step");
        walls.push(outcome.wall);
        tokio::time::sleep(PAUSE).await;
    }
    Measured {
        walls,
        delay: quick().saturating_sub(quick_before),
        heavy: heavy().saturating_sub(heavy_before),
        took: began.elapsed(),
    }
}

async fn fairness(host: &PluginHost, framework: &LoadedPlugin, policy: &LoadedPlugin) {
    let good = spawn(host, framework, 3, "good");
    measure(&good, 10).await;
    let mut alone = Measured::default();
    let mut beside = Measured::default();
    for _ in 0..ROUNDS {
        alone.add(measure(&good, 10).await);
        let spun = Spinning::start(host, framework, policy).await;
        beside.add(measure(&good, 10).await);
        let (steps, cycles) = spun.stop().await;
        println!("  a round beside {steps} steps and {cycles} cycles that ran out of time");
    }
    alone.print("alone");
    beside.print("beside spinners");
    let p99 = |measured: &Measured| percentile(&measured.walls, 99).as_secs_f64();
    let ratio = p99(&beside) / p99(&alone);
    println!(
        "99th percentile beside {SPINNERS} spinning frameworks and a spinning policy: {ratio:.2} times that alone (aim: at most 2)"
    );
}

/// Frameworks and a policy that spin, called again as soon as they have been stopped.
struct Spinning {
    stop: Arc<AtomicBool>,
    steps: Arc<AtomicU64>,
    cycles: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Spinning {
    /// Starts them, and waits until each has been stopped once: whoever is new is not known to spin.
    async fn start(host: &PluginHost, framework: &LoadedPlugin, policy: &LoadedPlugin) -> Self {
        let known = Arc::new(tokio::sync::Semaphore::new(0));
        let mut spinning = Self {
            stop: Arc::new(AtomicBool::new(false)),
            steps: Arc::new(AtomicU64::new(0)),
            cycles: Arc::new(AtomicU64::new(0)),
            tasks: Vec::new(),
        };
        for id in 0..SPINNERS {
            let handle = spawn(host, framework, 100 + id, "spin");
            let (stop, steps) = (Arc::clone(&spinning.stop), Arc::clone(&spinning.steps));
            let known = Arc::clone(&known);
            spinning.tasks.push(tokio::spawn(async move {
                let first = handle.step(batch(1, 1)).await;
                first.result.expect_err("it spins");
                known.add_permits(1);
                while !stop.load(Ordering::Relaxed) {
                    let outcome = handle.step(batch(1, 1)).await;
                    outcome.result.expect_err("it spins");
                    steps.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        let (host, policy, policy_known) = (host.clone(), policy.clone(), Arc::clone(&known));
        let (stop, cycles) = (Arc::clone(&spinning.stop), Arc::clone(&spinning.cycles));
        spinning.tasks.push(tokio::spawn(async move {
            let (handle, _) = host
                .spawn_policy(policy, PolicyLimits::default(), "spin")
                .await
                .expect("it can be configured");
            let cycle = || Cycle {
                number: 1,
                now: Timestamp(1),
                seed: 1,
                agents: None,
                grants_max: 1,
            };
            let first = handle.cycle(vec![Changes::default()], cycle()).await;
            first.result.expect_err("it spins");
            policy_known.add_permits(1);
            while !stop.load(Ordering::Relaxed) {
                handle
                    .configure("spin")
                    .await
                    .expect("it can be configured");
                let outcome = handle.cycle(vec![Changes::default()], cycle()).await;
                outcome.result.expect_err("it spins");
                cycles.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let all = known.acquire_many(SPINNERS + 1).await;
        all.expect("it is not closed").forget();
        spinning
    }

    async fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let began = Instant::now();
        for task in self.tasks {
            task.await.expect("a spinner's task ends");
        }
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(60), "{waited:?}");
        (
            self.steps.load(Ordering::Relaxed),
            self.cycles.load(Ordering::Relaxed),
        )
    }
}
