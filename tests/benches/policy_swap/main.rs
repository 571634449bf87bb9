//! What a swap of the policy costs those who wait for offers: 10,000 agents, 200 frameworks, tasks that
//! end and begin, and a hundred swaps back and forth between two policies, each with a cycle under way.
//!
//! `cargo bench --bench policy_swap [-- AGENTS FRAMEWORKS SWAPS]`. A pause is from the moment at which the
//! seat changes hands to the new policy's first answer: carry, adopt, and a whole cycle. Beside it is how
//! long the loop's own thread waited for a processor meanwhile.

/// As the `proffer` command has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[expect(dead_code, reason = "the test uses the rest of it")]
mod stage;

use std::time::Duration;

use proffer_tests::guests;
use stage::{Pause, Stage};

/// Two policies and their configurations.
const POLICIES: [(&str, &str); 2] = [
    ("plugins/policies/drf", ""),
    ("plugins/policies/binpack", ""),
];

fn main() {
    let words = std::env::args().skip(1);
    let mut numbers = words.filter_map(|word| word.parse::<u32>().ok());
    let mut number = |default| numbers.next().unwrap_or(default);
    let (agents, frameworks, swaps) = (number(10_000), number(200), number(100));
    let built: Option<Vec<_>> = POLICIES
        .iter()
        .map(|(dir, _)| guests::component(dir))
        .collect();
    let Some(built) = built else { return };
    let mut stage = Stage::new(agents, frameworks);
    let loaded: Vec<_> = built.iter().map(|file| stage.load(file)).collect();
    let mut pauses: Vec<Pause> = Vec::new();
    for swap in 0..swaps as usize {
        let side = swap % POLICIES.len();
        pauses.push(stage.swap(&loaded[side], POLICIES[side].1));
    }
    let policy = stage.core.policy();
    let (launched, running) = stage.tasks();
    println!(
        "{agents} agents, {frameworks} frameworks, {swaps} swaps: {launched} tasks launched, {running} run, {} cycles, {} of the fallback, {} failed, {} grants stale",
        policy.cycles, policy.fallback_cycles, policy.failed_cycles, policy.grants_stale
    );
    assert_eq!(policy.failed_cycles, 0, "a policy failed");
    pauses.sort_by_key(|pause| pause.lasted);
    let cycles = percentiles(stage.cycles().to_vec());
    println!(
        "a cycle of theirs: p50 {:.1} ms, p99 {:.1} ms, p100 {:.1} ms",
        cycles[0], cycles[1], cycles[2]
    );
    let lasted = percentiles(pauses.iter().map(|pause| pause.lasted).collect());
    println!(
        "a pause:           p50 {:.1} ms, p99 {:.1} ms, p100 {:.1} ms",
        lasted[0], lasted[1], lasted[2]
    );
    if let Some(worst) = pauses.last() {
        println!(
            "during the longest, the loop's thread waited {:.1} ms for a processor",
            ms(worst.queued)
        );
    }
}

fn percentiles(mut spans: Vec<Duration>) -> [f64; 3] {
    spans.sort_unstable();
    [50, 99, 100].map(|percent| {
        let at = (spans.len() * percent).div_ceil(100).saturating_sub(1);
        spans.get(at).copied().map_or(f64::NAN, ms)
    })
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
