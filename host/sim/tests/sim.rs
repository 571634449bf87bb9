//! Seeds are the same again, silent as the code is, and loud with a bug in it.

use std::ops::Range;
use std::time::Instant;

use proffer_sim::{Invariant, Planted, Run, Summary, sweep};

/// Seeds of every run of the tests; more is `proffer-sim`'s.
const SEEDS: Range<u64> = 0..2_000;

/// As many as CI has cores.
const JOBS: usize = 2;

/// Ranges in which each planted bug is found, and nothing else is: any would do.
const RANGES: [Range<u64>; 3] = [0..200, 77_000..77_200, 9_000_000..9_000_200];

/// Of so many seeds in a row at least one finds any of the planted bugs.
const FOUND_WITHIN: u64 = 100;

fn report(summary: &Summary) -> String {
    let failed = summary.failures.iter().map(|outcome| {
        let violation = outcome.violation.as_ref().map(ToString::to_string);
        format!("seed {}: {}", outcome.seed, violation.unwrap_or_default())
    });
    failed.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [0, 1, 2, 3, 77_000, u64::MAX] {
        let (first, second) = (Run::of(seed).run(), Run::of(seed).run());
        assert_eq!(first, second);
        assert_ne!(first.hash, Run::of(seed ^ 1).run().hash);
    }
}

#[test]
fn seeds_are_silent_and_check_every_invariant() {
    let began = Instant::now();
    let summary = sweep(Run::of(0), SEEDS, JOBS, |_| {});
    for invariant in Invariant::ALL {
        let times = summary.tally.of(invariant);
        println!("{:<20} {times:>12} times", invariant.name());
        assert!(times > 0, "{} was never checked", invariant.name());
    }
    println!(
        "{} seeds: {} simulated hours, {} terms of hosts, {} tasks, {} events in {:?}",
        summary.seeds,
        summary.simulated_ms / 3_600_000,
        summary.terms,
        summary.tasks,
        summary.events,
        began.elapsed()
    );
    assert!(summary.failures.is_empty(), "{}", report(&summary));
}

#[test]
fn every_planted_bug_is_found_in_every_range_and_nothing_where_none_is() {
    // A planted bug may end in an assertion of the core: that is a finding like others.
    std::panic::set_hook(Box::new(|_| {}));
    for range in RANGES {
        let silent = sweep(Run::of(0), range.clone(), JOBS, |_| {});
        assert!(silent.failures.is_empty(), "{}", report(&silent));
        for (name, planted) in Planted::all() {
            let like = Run {
                planted,
                ..Run::default()
            };
            let part = range.start..range.start + FOUND_WITHIN;
            let loud = sweep(like, part, JOBS, |_| {});
            println!(
                "{name} in {range:?}: {} of {} seeds",
                loud.failures.len(),
                loud.seeds
            );
            assert!(
                !loud.failures.is_empty(),
                "{name} was not found in {range:?}"
            );
        }
    }
}
