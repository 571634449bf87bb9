//! What an allocation cycle costs: the reference policy natively and as a component, on the same
//! changes, which must give the same grants (their hash is printed).
//!
//! `cargo bench -p proffer-tests --bench allocation [-- FILTER]`. Figures are CPU time of the whole
//! process, as medians over rounds in which the two alternate, for machines are noisy.

mod pool;

use std::hash::{DefaultHasher, Hash, Hasher};

use proffer_model::policy::Proposal;
use proffer_policy::{Drf, Policy};

use pool::{Pool, Work};

/// Rounds that are measured; one more before them warms up.
const ROUNDS: usize = 11;

/// Agents, clients, and what they do.
const CASES: [(&str, usize, usize, Work); 8] = [
    ("1,000 x 50, whole agents", 1_000, 50, Work::Whole),
    ("1,000 x 100, whole agents", 1_000, 100, Work::Whole),
    ("10,000 x 100, whole agents", 10_000, 100, Work::Whole),
    ("10,000 x 1,000, whole agents", 10_000, 1_000, Work::Whole),
    ("10,000 x 1,000, a role each", 10_000, 1_000, Work::WholeWithRoles),
    ("1,000 x 100, units of demand", 1_000, 100, Work::Units),
    ("10,000 x 100, units of demand", 10_000, 100, Work::Units),
    ("10,000 x 1,000, units of demand", 10_000, 1_000, Work::Units),
];

fn main() {
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    println!(
        "{:34} {:>9} {:>9} {:>9} {:>9}",
        "CPU ms, medians", "return", "decide", "outcome", "grants"
    );
    for (name, agents, clients, work) in CASES {
        if filter.as_ref().is_none_or(|filter| name.contains(filter.as_str())) {
            run(name, agents, clients, work);
        }
    }
}

fn run(name: &str, agents: usize, clients: usize, work: Work) {
    let mut pool = Pool::new(agents, clients, work);
    let mut native = Drf::default();
    native
        .configure(work.config())
        .expect("the bench's own config");
    native.apply(&pool.snapshot());
    let mut times = [const { Vec::new() }; 3];
    let mut last = None;
    for round in 0..=ROUNDS {
        let returned = pool.take_changes();
        let cycle = pool.cycle();
        let (_, applied) = timed(|| native.apply(&returned));
        let (proposal, decided) = timed(|| native.decide(&cycle));
        pool.commit(&proposal);
        let outcome = pool.take_changes();
        let (_, stated) = timed(|| native.apply(&outcome));
        pool.release_all();
        if round > 0 {
            for (times, time) in times.iter_mut().zip([applied, decided, stated]) {
                times.push(time);
            }
        }
        last = Some(proposal);
    }
    let [returned, decided, stated] = times.map(median);
    let (grants, hash) = last.map_or((0, 0), |proposal| (proposal.grants.len(), hash(&proposal)));
    println!("{name:34} {returned:9.2} {decided:9.2} {stated:9.2} {grants:9}  {hash:016x}");
}

/// A call, and its CPU time in milliseconds.
fn timed<T>(call: impl FnOnce() -> T) -> (T, f64) {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
    };
    let before = now();
    let answer = call();
    (answer, now() - before)
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
