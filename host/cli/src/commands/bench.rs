//! `bench allocation`: what an allocation cycle costs here, natively and in a component.

use std::time::Duration;

use proffer_sim::allocation::{CONFIG, Round, SIZES, Size, alternate, incremental, median};
use proffer_sim::workload::{Decide, Native};
use serde_json::{Value, json};

use crate::args::BenchAllocation;
use crate::commands::simulate::Component;
use crate::failure::Failure;
use crate::json;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::table::Columns;

/// Where one agent comes free among so many.
const INCREMENTAL: Size = Size {
    agents: 10_000,
    frameworks: 200,
    own_roles: false,
    mesos_ms: None,
};

/// One policy at one size.
struct Measured {
    who: &'static str,
    rounds: Vec<Round>,
}

/// Measures the chosen sizes.
pub(crate) fn allocation(
    command: &BenchAllocation,
    settings: &Settings,
    as_json: bool,
) -> anyhow::Result<()> {
    let sizes = chosen(command)?;
    let mut native = Native::named(&command.policy, CONFIG)?;
    let mut component = match &command.component {
        Some(file) => Some(Component::load(file, CONFIG, &settings.data_dir()?)?),
        None => None,
    };
    let mut progress = Progress::new();
    let mut columns = Columns::new(&[
        "SIZE", "POLICY", ">FEED", ">POLICY", ">JUDGE", ">CYCLE", ">LEAST", ">MESOS", ">TIMES",
        ">OFFERS", "HASH",
    ]);
    let mut rows = Vec::new();
    for size in sizes {
        progress.at(&size.name(), &size.name());
        forget_peak();
        let mut deciders: Vec<&mut dyn Decide> = vec![&mut native];
        deciders.extend(
            component
                .as_mut()
                .map(|component| component as &mut dyn Decide),
        );
        let all = alternate(size, &mut deciders, command.rounds.into(), cpu)?;
        let all = ["native", "wasm"].into_iter().zip(all);
        let all: Vec<Measured> = all.map(|(who, rounds)| Measured { who, rounds }).collect();
        for measured in &all {
            columns.row(cells(size, measured));
        }
        rows.push(size_json(size, &all));
    }
    let one = match command.incremental {
        true => Some(median(incremental(
            INCREMENTAL,
            &mut native,
            command.rounds.into(),
            cpu,
        )?)),
        false => None,
    };
    progress.done();
    if as_json {
        let incremental = one.map(|time| json!({ "agents": INCREMENTAL.agents, "frameworks": INCREMENTAL.frameworks, "us": micros(time) }));
        json::print(&json!({
            "policy": command.policy,
            "rounds": command.rounds,
            "sizes": rows,
            "incremental": incremental,
        }));
        return Ok(());
    }
    outln!(
        "CPU ms, medians of {} rounds; LEAST: the least; MESOS: its offer loop's least; TIMES: MESOS / LEAST\n",
        command.rounds
    );
    out!("{columns}");
    if let Some(time) = one {
        outln!(
            "\none agent free among {}: {:.1} us",
            INCREMENTAL.agents,
            micros(time)
        );
    }
    Ok(())
}

fn chosen(command: &BenchAllocation) -> anyhow::Result<Vec<Size>> {
    let Some(size) = &command.size else {
        return Ok(SIZES.to_vec());
    };
    let wrong = || {
        Failure::Usage(format!(
            "--size {size}: wanted AGENTSxFRAMEWORKS, as in 1000x50"
        ))
    };
    let (agents, frameworks) = size.split_once('x').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0);
    let agents = number(agents).ok_or_else(wrong)?;
    let frameworks = number(frameworks).ok_or_else(wrong)?;
    let known = |size: &&Size| {
        (size.agents, size.frameworks, size.own_roles) == (agents, frameworks, command.own_roles)
    };
    let mesos_ms = SIZES.iter().find(known).and_then(|size| size.mesos_ms);
    Ok(vec![Size {
        agents,
        frameworks,
        own_roles: command.own_roles,
        mesos_ms,
    }])
}

fn cells(size: Size, measured: &Measured) -> Vec<String> {
    let part = |of: fn(&Round) -> Duration| {
        let times = measured.rounds.iter().map(of);
        format!("{:.2}", millis(median(times.collect())))
    };
    let least = least(&measured.rounds);
    let last = measured.rounds.last().copied().unwrap_or_default();
    let mesos = size.mesos_ms;
    vec![
        size.name(),
        measured.who.to_owned(),
        part(|round| round.feed),
        part(|round| round.policy),
        part(|round| round.judge),
        part(Round::cycle),
        format!("{:.2}", millis(least)),
        mesos.map_or_else(|| "-".to_owned(), |ms| format!("{ms}")),
        mesos.map_or_else(|| "-".to_owned(), |ms| format!("{:.1}", ms / millis(least))),
        last.offers.to_string(),
        format!("{:016x}", last.hash),
    ]
}

fn size_json(size: Size, all: &[Measured]) -> Value {
    let of = |measured: &Measured| {
        let times = |of: fn(&Round) -> Duration| median(measured.rounds.iter().map(of).collect());
        let last = measured.rounds.last().copied().unwrap_or_default();
        json!({
            "who": measured.who,
            "cycle_ms": millis(times(Round::cycle)),
            "cycle_least_ms": millis(least(&measured.rounds)),
            "feed_ms": millis(times(|round| round.feed)),
            "policy_ms": millis(times(|round| round.policy)),
            "judge_ms": millis(times(|round| round.judge)),
            "recover_ms": millis(times(|round| round.recover)),
            "offers": last.offers,
            "hash": format!("{:016x}", last.hash),
            "bytes_to_policy": last.bytes.0,
            "bytes_from_policy": last.bytes.1,
        })
    };
    let ratio = |of: fn(&Round) -> Duration| match all {
        [native, wasm] => {
            let pairs = native.rounds.iter().zip(&wasm.rounds);
            let ratios = pairs.map(|(native, wasm)| {
                of(wasm).as_secs_f64() / of(native).as_secs_f64().max(f64::MIN_POSITIVE)
            });
            let mut ratios: Vec<f64> = ratios.collect();
            ratios.sort_by(f64::total_cmp);
            ratios.get(ratios.len() / 2).copied()
        }
        _ => None,
    };
    json!({
        "agents": size.agents,
        "frameworks": size.frameworks,
        "own_roles": size.own_roles,
        "mesos_loop_cpu_least_ms": size.mesos_ms,
        "policies": all.iter().map(of).collect::<Vec<_>>(),
        "wasm_over_native_cycle": ratio(Round::cycle),
        "wasm_over_native_policy": ratio(|round| round.policy),
        "peak_memory_bytes": peak(),
    })
}

fn least(rounds: &[Round]) -> Duration {
    rounds.iter().map(Round::cycle).min().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// CPU time of all threads: a component runs on one of its own.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

/// The most memory that this process has had since [`forget_peak`]; none where that is not told.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1_024)
}

fn forget_peak() {
    // Where it cannot be forgotten, the peak is that of all sizes so far.
    std::fs::write("/proc/self/clear_refs", "5").ok();
}
