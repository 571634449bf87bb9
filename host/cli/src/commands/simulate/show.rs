//! Simulated results, for people and for scripts. Each says that it is simulated.

use proffer_model::Duration;
use proffer_sim::workload::recorded::Recorded;
use proffer_sim::workload::{Waits, Workload};
use serde_json::{Map, Value, json};

use super::Simulated;
use crate::show::span;
use crate::table::Columns;

/// One policy's result in full.
pub(super) fn one(workload: &Workload, simulated: &Simulated) {
    let Simulated { outcome, seconds } = simulated;
    let length = workload.end.since(workload.begin);
    outln!(
        "simulated  {} machines, {} tasks of {} owners over {}",
        workload.machines.len(),
        outcome.tasks,
        workload.owners.len(),
        span(length)
    );
    outln!("policy     {}", outcome.policy);
    let kinds: Vec<&str> = outcome
        .utilisation
        .iter()
        .map(|(kind, _)| &**kind)
        .collect();
    let mut headings = vec![">AFTER".to_owned()];
    headings.extend(kinds.iter().map(|kind| format!(">{}", kind.to_uppercase())));
    headings.extend([">FRAGMENTED", ">RUNNING", ">WAITING"].map(str::to_owned));
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut columns = Columns::new(&headings);
    for row in &outcome.rows {
        let mut cells = vec![span(row.at.since(workload.begin))];
        for kind in &kinds {
            let used = row.used.iter().find(|(name, _)| name == kind);
            cells.push(percent(used.map_or(0, |(_, used)| *used)));
        }
        cells.push(percent(row.fragmentation));
        cells.push(row.running.to_string());
        cells.push(row.waiting.to_string());
        columns.row(cells);
    }
    out!("\n{columns}\n");
    let utilisation: Vec<String> = outcome
        .utilisation
        .iter()
        .map(|(kind, part)| format!("{kind} {}", percent(*part)))
        .collect();
    outln!("in use     {} on average", utilisation.join(", "));
    outln!(
        "fragmented of what is free of {}, the part where a task of this workload, picked at random, does not fit",
        outcome.fragmented
    );
    outln!(
        "placed     {} of {} tasks, {} ended",
        outcome.placed,
        outcome.tasks,
        outcome.finished
    );
    outln!("waited     {}", waits(outcome.waits));
    if outcome.refused > 0 || outcome.failures > 0 {
        outln!(
            "failed     {} commands and tasks refused, {} cycles failed",
            outcome.refused,
            outcome.failures
        );
    }
    outln!(
        "cycles     {}, {} grants, {} events of the core",
        outcome.cycles,
        outcome.grants,
        outcome.events
    );
    outln!("run time   {seconds:.2}s of wall time");
}

/// What was recorded, before what might have been.
pub(super) fn recording(recorded: &Recorded) {
    let workload = &recorded.workload;
    let length = workload.end.since(workload.begin);
    outln!(
        "recorded   {} machines, {} tasks of {} frameworks over {}, policy {}",
        workload.machines.len(),
        workload.tasks.len(),
        workload.owners.len(),
        span(length),
        recorded.policy
    );
    outln!("simulated  the same demand, under each policy\n");
}

/// One row for each policy.
pub(super) fn side_by_side(all: &[Simulated], recorded: Option<&Recorded>) {
    let Some(first) = all.first() else { return };
    let kinds: Vec<&str> = first
        .outcome
        .utilisation
        .iter()
        .map(|(kind, _)| &**kind)
        .collect();
    let mut headings = vec!["POLICY".to_owned()];
    headings.extend(kinds.iter().map(|kind| format!(">{}", kind.to_uppercase())));
    headings.extend(
        [
            ">FRAGMENTED",
            ">PLACED",
            ">WAIT MEAN",
            ">P50",
            ">P99",
            ">SECONDS",
        ]
        .map(str::to_owned),
    );
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut columns = Columns::new(&headings);
    let cells = |name: String,
                 utilisation: &[(String, u64)],
                 waits: Waits,
                 fragmented: String,
                 placed: usize,
                 seconds: String| {
        let mut cells = vec![name];
        for kind in &kinds {
            let used = utilisation.iter().find(|(name, _)| name == kind);
            cells.push(percent(used.map_or(0, |(_, used)| *used)));
        }
        cells.push(fragmented);
        cells.push(placed.to_string());
        cells.extend([span(waits.mean), span(waits.p50), span(waits.p99), seconds]);
        cells
    };
    if let Some(recorded) = recorded {
        let name = format!("recorded: {}", recorded.policy);
        let tasks = recorded.workload.tasks.len();
        columns.row(cells(
            name,
            &recorded.utilisation,
            recorded.waits,
            "-".to_owned(),
            tasks,
            "-".to_owned(),
        ));
    } else {
        outln!();
    }
    for Simulated { outcome, seconds } in all {
        let name = format!("simulated: {}", outcome.policy);
        columns.row(cells(
            name,
            &outcome.utilisation,
            outcome.waits,
            percent(outcome.fragmentation()),
            outcome.placed,
            format!("{seconds:.2}"),
        ));
    }
    out!("{columns}");
}

/// The same for scripts.
pub(super) fn as_json(simulated: &Simulated) -> Value {
    let Simulated { outcome, seconds } = simulated;
    let rows: Vec<Value> = outcome
        .rows
        .iter()
        .map(|row| {
            json!({
                "at_ms": row.at.0,
                "used": parts(&row.used),
                "fragmentation": part(row.fragmentation),
                "running": row.running,
                "waiting": row.waiting,
            })
        })
        .collect();
    json!({
        "policy": outcome.policy,
        "tasks": outcome.tasks,
        "placed": outcome.placed,
        "finished": outcome.finished,
        "utilisation": parts(&outcome.utilisation),
        "fragmentation": part(outcome.fragmentation()),
        "fragmentation_of": outcome.fragmented,
        "waiting_ms": waits_json(outcome.waits),
        "ended_ms": outcome.ended.0,
        "cycles": outcome.cycles,
        "grants": outcome.grants,
        "failed_cycles": outcome.failures,
        "refused": outcome.refused,
        "events": outcome.events,
        "seconds": seconds,
        "rows": rows,
    })
}

/// Parts of a whole, by kind.
pub(super) fn parts(parts: &[(String, u64)]) -> Value {
    let all = parts
        .iter()
        .map(|(kind, millionths)| (kind.clone(), part(*millionths)));
    Value::Object(all.collect::<Map<String, Value>>())
}

pub(super) fn waits_json(waits: Waits) -> Value {
    let Waits {
        mean,
        p50,
        p99,
        max,
    } = waits;
    json!({ "mean": mean.0, "p50": p50.0, "p99": p99.0, "max": max.0 })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "millionths are exact enough in a float"
)]
fn part(millionths: u64) -> Value {
    json!(millionths as f64 / 1e6)
}

fn percent(millionths: u64) -> String {
    format!("{}.{}%", millionths / 10_000, millionths / 1_000 % 10)
}

fn waits(waits: Waits) -> String {
    let Waits {
        mean,
        p50,
        p99,
        max,
    } = waits;
    let shown = |wait: Duration| span(wait);
    format!(
        "{} on average, half of them {}, 99 of 100 at most {}, the longest {}",
        shown(mean),
        shown(p50),
        shown(p99),
        shown(max)
    )
}
