//! `policy check`: scenarios replayed against a policy, without a host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use proffer_build::BuildOptions;
use proffer_check::{Component, Failed, Native, ReadError, Report, Seats, StepOffers, Verdict};
use serde_json::json;

use super::shipped::{NATIVE, Named};
use crate::args::{PolicyCheck, PolicyDiff};
use crate::demo::project;
use crate::failure::Failure;
use crate::json;
use crate::progress::Progress;

/// What the host's own policy is as one of the project's.
const REFERENCE: &str = "drf";

pub(crate) fn check(check: &PolicyCheck, as_json: bool) -> anyhow::Result<()> {
    // Read first: what is wrong with them is said before anything is built.
    let mut scenarios = Vec::new();
    for path in &check.paths {
        scenarios.extend(proffer_check::read(path).map_err(unreadable)?);
    }
    let mut seats = seats(&check.policy, check.native)?;
    let mut report = Report::default();
    let mut rows = Vec::new();
    for (_, scenario) in &scenarios {
        let verdict = proffer_check::replay(scenario, &mut *seats);
        report.count(scenario.kind, &verdict, check.skip_unsupported);
        if as_json {
            rows.push(row(&scenario.name, &verdict, check.skip_unsupported));
        } else if let Some(text) = text(&verdict, check.skip_unsupported) {
            out!("{}: {text}\n", scenario.name);
        }
    }
    if as_json {
        json::print(&json!({
            "passed": report.passed,
            "failed": report.failed,
            "skipped": report.skipped,
            "cases_passed": report.cases_passed,
            "cases_failed": report.cases_failed,
            "scenarios": rows,
        }));
    } else {
        out!(
            "{} scenarios passed, {} failed, {} skipped; of the host's functions {} passed, {} failed\n",
            report.passed,
            report.failed,
            report.skipped,
            report.cases_passed,
            report.cases_failed,
        );
    }
    anyhow::ensure!(
        report.is_clean(),
        "{} of {} scenarios failed",
        report.failed + report.cases_failed,
        scenarios.len()
    );
    Ok(())
}

/// What two policies offer differently in the same scenarios.
pub(crate) fn diff(diff: &PolicyDiff, as_json: bool) -> anyhow::Result<()> {
    let scenarios = proffer_check::read(&diff.scenario).map_err(unreadable)?;
    let mut one = seats(&diff.one, diff.native)?;
    let mut two = seats(&diff.two, diff.native)?;
    let (mut rows, mut compared, mut same) = (Vec::new(), 0, 0);
    for (_, scenario) in &scenarios {
        let (Some(offered), Some(others)) = (
            proffer_check::offers(scenario, &mut *one),
            proffer_check::offers(scenario, &mut *two),
        ) else {
            continue;
        };
        let found = differences(&offered, &others);
        compared += 1;
        same += usize::from(found.is_empty());
        let named = |found: Difference| (scenario.name.clone(), found);
        rows.extend(found.into_iter().map(named));
    }
    if as_json {
        let row = |(scenario, found): &(String, Difference)| {
            json!({
                "scenario": scenario, "step": found.step, "op": found.op, "one": found.one,
                "two": found.two,
            })
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        json::print(&json!({ "same": same, "compared": compared, "differences": rows }));
        return Ok(());
    }
    for (scenario, found) in &rows {
        outln!(
            "{scenario}, step {} ({})\n  {}: {}\n  {}: {}",
            found.step,
            found.op,
            diff.one,
            found.one,
            diff.two,
            found.two
        );
    }
    outln!("{same} of {compared} scenarios the same");
    Ok(())
}

/// A step that two policies take differently.
struct Difference {
    step: usize,
    op: String,
    one: String,
    two: String,
}

type Offered = (Vec<StepOffers>, Option<Failed>);

/// Up to where one of them did not offer what the scenario goes on with.
fn differences(one: &Offered, two: &Offered) -> Vec<Difference> {
    let mut steps: BTreeMap<usize, (&str, [&str; 2])> = BTreeMap::new();
    for (side, (offers, _)) in [(0, one), (1, two)] {
        for row in offers {
            let entry = steps.entry(row.step).or_insert((&row.op, ["no offer"; 2]));
            entry.1[side] = &row.offers;
        }
    }
    let ended = [one, two].map(|(_, failed)| failed.as_ref());
    let last = ended
        .iter()
        .flatten()
        .map(|failed| failed.step.unwrap_or(0));
    let last = last.min().unwrap_or(usize::MAX);
    let mut found: Vec<Difference> = steps
        .into_iter()
        .filter(|(step, (_, [one, two]))| one != two && *step < last)
        .map(|(step, (op, [one, two]))| Difference {
            step,
            op: op.to_owned(),
            one: one.to_owned(),
            two: two.to_owned(),
        })
        .collect();
    let failed = |side: Option<&Failed>| match side {
        Some(failed) => format!("cannot go on: {}", failed.actual),
        None => "goes on".to_owned(),
    };
    if let Some(first) = ended.iter().flatten().next() {
        found.push(Difference {
            step: last,
            op: first.op.clone(),
            one: failed(ended[0]),
            two: failed(ended[1]),
        });
    }
    found
}

fn unreadable(error: ReadError) -> anyhow::Error {
    let missing = matches!(
        &error,
        ReadError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound
    );
    let text = match &error {
        ReadError::Io { source, .. } => format!("{error}: {source}"),
        ReadError::Malformed { .. } | ReadError::Empty { .. } => error.to_string(),
    };
    if missing {
        Failure::NotFound(text).into()
    } else {
        Failure::Usage(text).into()
    }
}

/// Whom to ask, by what the command line says.
fn seats(policy: &str, native: bool) -> anyhow::Result<Box<dyn Seats>> {
    let compiled_in = match policy {
        NATIVE => Native::named(REFERENCE),
        name => Native::named(name),
    };
    if let Some(compiled_in) = compiled_in.filter(|_| native) {
        return Ok(Box::new(compiled_in));
    }
    let file = match Named::find(policy)? {
        _ if native => {
            let text = format!(
                "{policy} is a component only: --native is for {}",
                Native::names().collect::<Vec<_>>().join(", ")
            );
            return Err(Failure::Usage(text).into());
        }
        Named::Native => built(REFERENCE)?,
        Named::Shipped(name) => built(&name)?,
        Named::File(file) => file,
    };
    Ok(Box::new(component(&file)?))
}

fn component(file: &Path) -> anyhow::Result<Component> {
    if !file.exists() {
        return Err(Failure::NotFound(format!("there is no file {}", file.display())).into());
    }
    Component::load(file).map_err(|problem| Failure::Usage(problem).into())
}

/// The component of a built-in policy, from the project's sources.
pub(super) fn built(name: &str) -> anyhow::Result<PathBuf> {
    let dir = project()?.join("plugins/policies").join(name);
    let mut progress = Progress::new();
    let built = proffer_build::build(&[dir], &BuildOptions::default(), &mut progress)
        .with_context(|| format!("cannot build the policy {name}"))?;
    let first = built.into_iter().next();
    first
        .map(|built| built.path)
        .with_context(|| format!("the build made no component '{name}'"))
}

/// What there is to say of one; nothing if it passed.
fn text(verdict: &Verdict, skip: bool) -> Option<String> {
    match verdict {
        Verdict::Passed => None,
        Verdict::Failed(failed) => Some(failed.to_string()),
        Verdict::Unsupported(_) if skip => None,
        Verdict::Unsupported(what) => Some(format!("needs what is not offered: {what}")),
    }
}

fn row(name: &str, verdict: &Verdict, skip: bool) -> serde_json::Value {
    match verdict {
        Verdict::Passed => json!({ "name": name, "verdict": "passed" }),
        Verdict::Failed(failed) => json!({
            "name": name,
            "verdict": "failed",
            "step": failed.step,
            "op": failed.op,
            "expected": failed.expected,
            "actual": failed.actual,
        }),
        Verdict::Unsupported(what) => json!({
            "name": name,
            "verdict": if skip { "skipped" } else { "failed" },
            "needs": what,
        }),
    }
}
