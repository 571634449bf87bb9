//! Components in the simulator: real plug-ins under simulated faults, the same from run to run.

use proffer_sim::plugins::Plugins;
use proffer_sim::{Components, Run, Summary, sweep};
use proffer_tests::guests::component;

/// Enough that hosts die, steps fail and policies are fed anew dozens of times over.
const SEEDS: std::ops::Range<u64> = 0..24;

/// As many as CI has cores.
const JOBS: usize = 2;

/// These guests; they stay for as long as the tests run. None where nothing can be built.
fn components(guests: &[(&str, &str)]) -> Option<&'static Components> {
    let mut components = Components::new().unwrap();
    for (dir, config) in guests {
        let bytes = std::fs::read(component(dir)?).unwrap();
        components.add(&bytes, config).unwrap();
    }
    Some(Box::leak(Box::new(components)))
}

fn run(seed: u64, components: Option<&'static Components>) -> proffer_sim::Outcome {
    let run = Run {
        plugins: components.map(|components| components as &dyn Plugins),
        ..Run::of(seed)
    };
    run.run()
}

#[track_caller]
fn check_silent(summary: &Summary) {
    let failed: Vec<String> = (summary.failures.iter())
        .map(|outcome| format!("seed {}: {:?}", outcome.seed, outcome.violation))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What a component does is what its source does, natively: so a run with it is the run without it, event
/// by event, and the same each time.
#[test]
fn a_seed_is_the_same_run_with_components_and_without() {
    let guests = [
        ("plugins/frameworks/mapreduce", ""),
        ("plugins/policies/drf", ""),
    ];
    let Some(components) = components(&guests) else {
        return;
    };
    let seeds: Vec<u64> = SEEDS.collect();
    std::thread::scope(|scope| {
        for part in seeds.chunks(seeds.len().div_ceil(JOBS)) {
            scope.spawn(move || {
                for seed in part {
                    let native = run(*seed, None);
                    assert_eq!(native.violation, None, "seed {seed}");
                    assert_eq!(run(*seed, Some(components)), native, "seed {seed}");
                }
            });
        }
    });
    let again = SEEDS.start;
    assert_eq!(run(again, Some(components)), run(again, Some(components)));
    let (steps, steps_failed) = components.calls().steps();
    let (cycles, cycles_failed) = components.calls().cycles();
    println!("{steps} steps and {cycles} cycles of components");
    assert!(steps > 0 && cycles > 0, "{steps} steps, {cycles} cycles");
    assert_eq!((steps_failed, cycles_failed), (0, 0));
}

/// Its own steps fail, again and again; everybody else is served, and all comes to rest.
#[test]
fn components_that_trap_on_their_nth_call_hurt_nobody_else() {
    for (guest, config) in [
        ("tests/guests/framework", "trap 2"),
        ("tests/guests/policy", "rest 7"),
    ] {
        let Some(components) = components(&[(guest, config)]) else {
            return;
        };
        let like = Run {
            plugins: Some(components),
            ..Run::default()
        };
        let summary = sweep(like, SEEDS, JOBS, |_| {});
        check_silent(&summary);
        let failed = components.calls().steps().1 + components.calls().cycles().1;
        println!("{guest}: {failed} calls trapped in {} seeds", summary.seeds);
        assert!(failed > 0, "{guest} was never called so often");
    }
}
