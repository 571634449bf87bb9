//! What a placement costs: policy and frameworks are components, facts are on disk before launches are
//! sent, 5,000 agents are simulated; first into an empty cluster, then beside 500,000 running tasks.
//!
//! `cargo bench --bench placements [-- AGENTS FRAMEWORKS TASKS RUNNING]`. A placement is everything from
//! free resources to the framework having been told that its task runs; its cost is the processor
//! time of all threads of this process, the simulated agents' with them.

/// As the `proffer` command has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod stage;

use std::collections::BTreeMap;
use std::fs;

use proffer_tests::guests;
use stage::{Counts, Stage};

/// Tasks of each framework beyond what is measured: nobody runs out of wishes, and pool remains.
const SPARE: u64 = 20_000;

fn main() {
    let words = std::env::args().skip(1);
    let mut numbers = words.filter_map(|word| word.parse::<u64>().ok());
    let mut number = |default| numbers.next().unwrap_or(default);
    let (agents, frameworks) = (number(5_000), number(10));
    let (tasks, running) = (number(100_000), number(500_000));
    let small = |number: u64| u32::try_from(number).expect("fewer than four thousand million");
    let (Some(policy), Some(framework)) = (
        guests::component("plugins/policies/drf"),
        guests::component("tests/guests/noop"),
    ) else {
        return;
    };
    let mut stage = Stage::new(small(agents), &policy, &framework);
    println!("{agents} agents, {frameworks} frameworks, {tasks} placements each time");
    let wanted = running.max(tasks) + tasks;
    stage.add_frameworks(small(frameworks), wanted.div_ceil(frameworks) + SPARE);
    let empty = measure(&mut stage, tasks, "into an empty cluster");
    stage.place(running);
    let full = measure(&mut stage, tasks, &format!("beside {running} running"));
    println!(
        "beside running tasks a placement costs {:.2} times what it does in an empty cluster (aim: at most 1.2)",
        full / empty
    );
    println!("most resident memory: {} MiB", resident_most_mib());
    stage.check();
}

/// Places so many tasks more; answers the processor time of each, in seconds.
fn measure(stage: &mut Stage, tasks: u64, what: &str) -> f64 {
    let before: Counts = stage.place(0);
    let cpu_before = processor_seconds();
    let after = stage.place(before.placed + tasks);
    let cpu = processor_seconds();
    let placed = after.placed - before.placed;
    let spent: BTreeMap<&String, f64> = cpu
        .iter()
        .map(|(name, seconds)| (name, seconds - cpu_before.get(name).unwrap_or(&0.0)))
        .collect();
    let each = spent.values().sum::<f64>() / placed as f64;
    println!(
        "{what}: {placed} placements, {:.1} µs of processor time each, {:.0} per processor-second (aim: 25,000); {} steps, {} facts in {} commits",
        each * 1e6,
        1.0 / each,
        after.steps - before.steps,
        after.facts - before.facts,
        after.commits - before.commits,
    );
    for (name, seconds) in spent {
        let micros = seconds * 1e6 / placed as f64;
        if micros >= 0.1 {
            println!("  {name:<16} {micros:>6.1} µs");
        }
    }
    each
}

/// Processor time of this process's threads by their names. None of them ends meanwhile.
fn processor_seconds() -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for thread in fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let read = |file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let schedstat = read("schedstat");
        let nanos = schedstat.split_whitespace().next();
        let nanos: u64 = nanos.and_then(|text| text.parse().ok()).unwrap_or(0);
        *sums.entry(read("comm").trim().to_owned()).or_insert(0.0) += nanos as f64 / 1e9;
    }
    sums
}

fn resident_most_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
