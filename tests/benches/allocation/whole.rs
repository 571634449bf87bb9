//! Whole cycles: the core's part, the policy's, and the core's again, as Mesos's own benchmark does
//! them; and what it costs when one agent comes free.

use std::time::Duration;

use proffer_model::policy::{Changes, ChangesPart, Cycle, Feeds, Proposal};
use proffer_plugin::{PolicyHandle, PolicyLimits};
use proffer_sim::allocation::{CONFIG, Round, SIZES, Size, alternate, incremental, median};
use proffer_sim::workload::{Decide, Native};

use crate::{ROUNDS, Wasm, cpu_now};

/// Prints a row for each size whose name contains the filter.
pub(crate) fn run(filter: Option<&str>, wasm: Option<&Wasm>) {
    println!(
        "{:28} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>8} {:>8} {:>7} {:>9} {:>9}  offers, hash",
        "whole cycles, CPU ms",
        "",
        "feed",
        "policy",
        "judge",
        "cycle",
        "least",
        "mesos",
        "times",
        "us/offer",
        "recover",
        "ratio",
        "KiB over",
        "peak MiB"
    );
    for size in SIZES {
        if filter.is_none_or(|filter| size.name().contains(filter)) {
            forget_peak();
            one(size, wasm);
        }
    }
}

fn one(size: Size, wasm: Option<&Wasm>) {
    let mut native = Native::named("drf", CONFIG).expect("the bench's own config");
    let mut component = wasm.map(Component::new);
    let mut deciders: Vec<&mut dyn Decide> = vec![&mut native];
    deciders.extend(
        component
            .as_mut()
            .map(|component| component as &mut dyn Decide),
    );
    let all = alternate(size, &mut deciders, ROUNDS, cpu_now)
        .unwrap_or_else(|wrong| panic!("{}: {wrong}", size.name()));
    if let [native, wasm] = &all[..] {
        let hashes = |rounds: &[Round]| rounds.iter().map(|round| round.hash).collect::<Vec<_>>();
        assert_eq!(
            hashes(native),
            hashes(wasm),
            "the component's offers are others"
        );
    }
    let ratio = match &all[..] {
        [native, wasm] => {
            let pairs = native.iter().zip(wasm);
            let ratios =
                pairs.map(|(one, other)| other.cycle().as_secs_f64() / one.cycle().as_secs_f64());
            let mut ratios: Vec<f64> = ratios.collect();
            ratios.sort_by(f64::total_cmp);
            ratios[ratios.len() / 2]
        }
        _ => f64::NAN,
    };
    for (who, rounds) in ["native", "wasm"].into_iter().zip(&all) {
        let ratio = if who == "wasm" { ratio } else { f64::NAN };
        println!("{}", line(size, who, rounds, ratio));
    }
}

fn line(size: Size, who: &str, rounds: &[Round], ratio: f64) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let middle = |of: fn(&Round) -> Duration| ms(median(rounds.iter().map(of).collect()));
    let least = ms(rounds.iter().map(Round::cycle).min().unwrap_or_default());
    let last = rounds.last().copied().unwrap_or_default();
    let mesos = size.mesos_ms.unwrap_or(f64::NAN);
    format!(
        "{:28} {who:>6} {:8.2} {:8.2} {:8.2} {:8.2} {least:8.2} {mesos:8.2} {:6.1} {:8.2} {:8.2} {ratio:7.2} {:9.0} {:9.0}  {}, {:016x}",
        size.name(),
        middle(|round| round.feed),
        middle(|round| round.policy),
        middle(|round| round.judge),
        middle(Round::cycle),
        mesos / least,
        middle(Round::cycle) * 1e3 / last.offers.max(1) as f64,
        middle(|round| round.recover),
        (last.bytes.0 + last.bytes.1) as f64 / 1024.0,
        peak_mib(),
        last.offers,
        last.hash,
    )
}

/// One agent of ten thousand comes free.
pub(crate) fn run_incremental(wasm: Option<&Wasm>) {
    for frameworks in [50, 200, 1_000] {
        let size = Size {
            agents: 10_000,
            frameworks,
            own_roles: false,
            mesos_ms: None,
        };
        let mut native = Native::named("drf", CONFIG).expect("the bench's own config");
        let mut component = wasm.map(Component::new);
        let mut deciders: Vec<(&str, &mut dyn Decide)> = vec![("native", &mut native)];
        deciders.extend(
            component
                .as_mut()
                .map(|component| ("wasm", component as &mut dyn Decide)),
        );
        for (who, decider) in deciders {
            let times = incremental(size, decider, 4 * ROUNDS, cpu_now)
                .unwrap_or_else(|wrong| panic!("{}: {wrong}", size.name()));
            let us = |time: Duration| time.as_secs_f64() * 1e6;
            let least = us(times.iter().min().copied().unwrap_or_default());
            println!(
                "one agent free of {:20} {who:>6}: {:8.1} us, least {least:.1}",
                size.name(),
                us(median(times))
            );
        }
    }
}

/// The policy as a component.
struct Component<'a> {
    wasm: &'a Wasm,
    instance: Option<PolicyHandle>,
    feeds: Feeds,
}

impl<'a> Component<'a> {
    fn new(wasm: &'a Wasm) -> Self {
        let (instance, feeds) = spawn(wasm);
        Self {
            wasm,
            instance: Some(instance),
            feeds,
        }
    }
}

fn spawn(wasm: &Wasm) -> (PolicyHandle, Feeds) {
    let mut limits = PolicyLimits::default();
    // What is measured must not be cut short.
    limits.cycle.cpu = Duration::from_secs(10);
    limits.snapshot.cpu = Duration::from_secs(10);
    let spawned = wasm.host.spawn_policy(wasm.loaded.clone(), limits, CONFIG);
    wasm.runtime.block_on(spawned).expect("a policy")
}

impl Decide for Component<'_> {
    fn name(&self) -> String {
        "wasm drf".to_owned()
    }

    fn feeds(&self) -> Feeds {
        self.feeds
    }

    fn decide(&mut self, changes: &[Changes], cycle: &Cycle) -> Result<Proposal, String> {
        let begins = changes
            .first()
            .is_some_and(|first| first.part != ChangesPart::Delta);
        if begins {
            self.instance = Some(spawn(self.wasm).0);
        }
        let instance = self.instance.as_ref().ok_or("no instance")?;
        let asked = instance.cycle(changes.to_vec(), cycle.clone());
        let outcome = self.wasm.runtime.block_on(asked);
        outcome.result.map_err(|fault| fault.to_string())
    }
}

/// The most memory that this process has had since [`forget_peak`].
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| {
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<f64>()
            .ok()
    });
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

fn forget_peak() {
    // Where it cannot be forgotten, the peak is that of all sizes so far.
    std::fs::write("/proc/self/clear_refs", "5").ok();
}
