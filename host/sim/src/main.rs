//! `proffer-sim`: runs seeds of the simulator and says what did not hold.

use std::io::Write;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;
use proffer_sim::plugins::Plugins;
use proffer_sim::{Components, Invariant, Outcome, Run, Summary, sweep};
use serde_json::json;

/// The command line is wrong.
const USAGE: u8 = 2;

/// Progress is said so often.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Simulates a cluster under faults, seed by seed, and checks that all invariants hold.
///
/// Exit status: 0 all held, 1 one did not, 2 the command line is wrong.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Run this seed alone, and show what came of it.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run these seeds: FROM..TO, without TO itself.
    #[arg(long, value_parser = range, default_value = "0..1000")]
    seeds: Range<u64>,
    /// On so many threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Show so many of the last events of a seed that fails.
    #[arg(long, default_value_t = 100)]
    log: usize,
    /// Say it in JSON.
    #[arg(long)]
    json: bool,
    /// With this component: mapreduce in the native one's place, a policy in the loaded policy's, another
    /// framework beside those that there are. May be repeated.
    #[arg(long, value_name = "FILE")]
    wasm: Vec<std::path::PathBuf>,
    /// The configuration of the components that are given, but of mapreduce's, which has its own.
    #[arg(long, value_name = "TEXT", default_value = "", requires = "wasm")]
    wasm_config: String,
    /// With this bug in every host.
    #[cfg(feature = "planted")]
    #[arg(long, value_parser = planted)]
    plant: Option<proffer_sim::Planted>,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let wanted = || format!("'{text}' is not FROM..TO");
    let (from, to) = text.split_once("..").ok_or_else(wanted)?;
    let number = |text: &str| text.parse().map_err(|_| wanted());
    Ok(number(from)?..number(to)?)
}

#[cfg(feature = "planted")]
fn planted(text: &str) -> Result<proffer_sim::Planted, String> {
    let known = proffer_sim::Planted::all();
    let found = known.iter().find(|(name, _)| *name == text);
    found.map(|(_, planted)| *planted).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic is a finding like others: it is said with its seed, once.
    std::panic::set_hook(Box::new(|_| {}));
    let plugins = match components(&arguments) {
        Ok(plugins) => plugins,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(USAGE);
        }
    };
    let like = Run {
        log_max: arguments.log,
        plugins,
        #[cfg(feature = "planted")]
        planted: arguments.plant.unwrap_or_default(),
        ..Run::default()
    };
    let seeds = match arguments.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None => arguments.seeds,
    };
    let began = Instant::now();
    let last = Mutex::new(began);
    let total = seeds.end.saturating_sub(seeds.start);
    let summary = sweep(like, seeds, arguments.jobs, |summary| {
        let Ok(mut last) = last.lock() else { return };
        if last.elapsed() >= PROGRESS_EVERY {
            *last = Instant::now();
            eprintln!(
                "{} of {total} seeds, {} failed",
                summary.seeds,
                summary.failures.len()
            );
        }
    });
    let text = if arguments.json {
        in_json(&summary, began.elapsed())
    } else {
        in_words(&summary, began.elapsed())
    };
    // Whoever does not read it to the end has seen enough.
    let _written = std::io::stdout().write_all(text.as_bytes()).is_ok();
    match summary.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The components that were given; they live as long as the process.
fn components(arguments: &Arguments) -> Result<Option<&'static dyn Plugins>, String> {
    if arguments.wasm.is_empty() {
        return Ok(None);
    }
    let mut components = Components::new().map_err(|error| error.to_string())?;
    for file in &arguments.wasm {
        let named = |problem: String| format!("{}: {problem}", file.display());
        let bytes = std::fs::read(file).map_err(|error| named(error.to_string()))?;
        let added = components.add(&bytes, &arguments.wasm_config);
        added.map_err(|error| named(error.to_string()))?;
    }
    Ok(Some(Box::leak(Box::new(components))))
}

fn hours(milliseconds: u64) -> f64 {
    milliseconds as f64 / 3_600_000.0
}

fn failure_in_words(outcome: &Outcome) -> String {
    let mut text = String::new();
    for line in &outcome.last_events {
        text.push_str(line);
        text.push('\n');
    }
    let violation = outcome.violation.as_ref().map(ToString::to_string);
    text + &format!(
        "seed {} after {} events at {} ms: {}\n",
        outcome.seed,
        outcome.events,
        outcome.simulated_ms,
        violation.unwrap_or_default()
    )
}

fn in_words(summary: &Summary, took: Duration) -> String {
    // The log of one is enough to begin with; --seed shows that of another.
    let mut text: String = summary
        .failures
        .iter()
        .take(1)
        .map(failure_in_words)
        .collect();
    for other in summary.failures.iter().skip(1) {
        let bare = Outcome {
            last_events: Vec::new(),
            ..other.clone()
        };
        text.push_str(&failure_in_words(&bare));
    }
    for invariant in Invariant::ALL {
        let times = summary.tally.of(invariant);
        text.push_str(&format!("{:<20} {times:>12} times\n", invariant.name()));
    }
    text + &format!(
        "{} seeds, {} failed; {:.1} simulated hours, {} terms of hosts, {} tasks, {} events in {:.1} s: {:.1} seeds per second\n",
        summary.seeds,
        summary.failures.len(),
        hours(summary.simulated_ms),
        summary.terms,
        summary.tasks,
        summary.events,
        took.as_secs_f64(),
        summary.seeds as f64 / took.as_secs_f64().max(0.001),
    )
}

fn in_json(summary: &Summary, took: Duration) -> String {
    let failures: Vec<_> = summary
        .failures
        .iter()
        .map(|outcome| {
            json!({
                "seed": outcome.seed,
                "invariant": outcome.violation.as_ref().map(|violation| violation.invariant.name()),
                "text": outcome.violation.as_ref().map(|violation| violation.text.as_str()),
                "last_events": outcome.last_events,
            })
        })
        .collect();
    let checked: serde_json::Map<String, serde_json::Value> = Invariant::ALL
        .into_iter()
        .map(|invariant| {
            let times = summary.tally.of(invariant);
            (invariant.name().to_owned(), times.into())
        })
        .collect();
    let all = json!({
        "seeds": summary.seeds,
        "failures": failures,
        "checked": checked,
        "simulated_hours": hours(summary.simulated_ms),
        "terms": summary.terms,
        "tasks": summary.tasks,
        "events": summary.events,
        "seconds": took.as_secs_f64(),
    });
    format!("{all:#}\n")
}
