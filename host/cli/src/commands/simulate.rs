//! `simulate`, and `replay --policy`: demand, run through the real core and a policy on machines that
//! are not there.

mod component;
mod deciders;
mod show;

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use proffer_record::Recording;
use proffer_sim::workload::nodes::read_nodes;
use proffer_sim::workload::openb::read_openb;
use proffer_sim::workload::recorded::{Recorded, read_recorded};
use proffer_sim::workload::swf::read_swf;
use proffer_sim::workload::{Outcome, Simulation, Workload, simulate};
use serde_json::{Value, json};

pub(crate) use self::component::Component;
use self::deciders::Decider;
use crate::args::{Replay, Simulate};
use crate::commands::replay;
use crate::failure::Failure;
use crate::json;
use crate::progress::Progress;
use crate::settings::Settings;

/// What a policy made of it, and how long that took.
struct Simulated {
    outcome: Outcome,
    seconds: f64,
}

/// Runs a trace under each policy.
pub(crate) fn run(command: &Simulate, settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let mut workload = read(command)?;
    if command.endless {
        workload = workload.endless();
    }
    let workload = workload.faster(command.speed);
    let simulation = Simulation::default();
    let mut all = Vec::new();
    for decider in deciders::load(&command.deciders, settings)? {
        let simulated = under(decider, &workload, &simulation)?;
        if !as_json {
            if !all.is_empty() {
                outln!();
            }
            show::one(&workload, &simulated);
        }
        all.push(simulated);
    }
    if as_json {
        let machines = workload.machines.len();
        let rows: Vec<Value> = all.iter().map(show::as_json).collect();
        json::print(&json!({ "simulated": true, "machines": machines, "policies": rows }));
    } else if all.len() > 1 {
        show::side_by_side(&all, None);
    }
    Ok(())
}

/// Runs a recording's demand under each policy.
pub(crate) fn recording(
    command: &Replay,
    settings: &Settings,
    as_json: bool,
) -> anyhow::Result<()> {
    let dir = replay::find(command.dir.as_deref(), settings)?;
    let recorded = read_recorded(&mut Recording::open(&dir)?)?;
    let simulation = Simulation {
        config: recorded.config.clone(),
    };
    let mut all = Vec::new();
    for decider in deciders::load(&command.deciders, settings)? {
        all.push(under(decider, &recorded.workload, &simulation)?);
    }
    if as_json {
        print_recording(&recorded, &all);
    } else {
        show::recording(&recorded);
        show::side_by_side(&all, Some(&recorded));
    }
    Ok(())
}

fn print_recording(recorded: &Recorded, all: &[Simulated]) {
    let rows: Vec<Value> = all.iter().map(show::as_json).collect();
    json::print(&json!({
        "simulated": true,
        "machines": recorded.workload.machines.len(),
        "tasks": recorded.workload.tasks.len(),
        "recorded": {
            "policy": recorded.policy,
            "utilisation": show::parts(&recorded.utilisation),
            "waiting_ms": show::waits_json(recorded.waits),
        },
        "policies": rows,
    }));
}

fn read(command: &Simulate) -> anyhow::Result<Workload> {
    let nodes = command.nodes.as_deref().map(read_nodes).transpose()?;
    let trace = match command.trace.is_dir() {
        true => command.trace.join("pods.csv"),
        false => command.trace.clone(),
    };
    if !trace.is_file() {
        let text = format!("there is no trace {}", trace.display());
        return Err(Failure::NotFound(text).into());
    }
    if is_swf(&trace)? {
        return Ok(read_swf(&trace, nodes)?);
    }
    let nodes = match nodes {
        Some(nodes) => nodes,
        None => {
            let beside = trace.with_file_name("nodes.csv");
            if !beside.is_file() {
                let text = format!(
                    "there is no {}; give the machines with --nodes FILE",
                    beside.display()
                );
                return Err(Failure::NotFound(text).into());
            }
            read_nodes(&beside)?
        }
    };
    Ok(read_openb(&trace, nodes)?)
}

/// Named so, or beginning as one: with a comment, or with a job.
fn is_swf(trace: &Path) -> anyhow::Result<bool> {
    use std::io::Read as _;
    if trace
        .extension()
        .is_some_and(|extension| extension == "swf")
    {
        return Ok(true);
    }
    let mut start = Vec::new();
    let what = || Failure::NotFound(format!("cannot read {}", trace.display()));
    let file = std::fs::File::open(trace).with_context(what)?;
    file.take(4_096)
        .read_to_end(&mut start)
        .with_context(what)?;
    let text = String::from_utf8_lossy(&start);
    let first = text.lines().find(|line| !line.trim().is_empty());
    Ok(first.is_some_and(|line| line.starts_with(';') || line.split_whitespace().count() == 18))
}

fn under(
    decider: Decider,
    workload: &Workload,
    simulation: &Simulation,
) -> anyhow::Result<Simulated> {
    let Decider { named, mut decide } = decider;
    let mut progress = Progress::new();
    let tasks = workload.tasks.len();
    let begun = Instant::now();
    let outcome = simulate(workload, &mut *decide, simulation, &mut |placed| {
        let milestone = placed * 4 / tasks.max(1);
        let text = format!("{named}: {placed} of {tasks} tasks placed");
        progress.at(&text, &milestone.to_string());
    });
    progress.done();
    Ok(Simulated {
        outcome: outcome?,
        seconds: begun.elapsed().as_secs_f64(),
    })
}
