//! `policy check`: scenarios replayed against a policy, without a host.

use std::path::{Path, PathBuf};

use anyhow::Context;
use proffer_build::BuildOptions;
use proffer_check::{Component, Native, ReadError, Report, Seats, Verdict};
use serde_json::json;

use crate::args::PolicyCheck;
use crate::demo::project;
use crate::failure::Failure;
use crate::json;
use crate::progress::Progress;

pub(crate) fn check(check: &PolicyCheck, as_json: bool) -> anyhow::Result<()> {
    // Read first: what is wrong with them is said before anything is built.
    let mut scenarios = Vec::new();
    for path in &check.paths {
        scenarios.extend(proffer_check::read(path).map_err(unreadable)?);
    }
    let mut seats = seats(check)?;
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
fn seats(check: &PolicyCheck) -> anyhow::Result<Box<dyn Seats>> {
    let is_file = Path::new(&check.policy)
        .extension()
        .is_some_and(|extension| extension == "wasm");
    if is_file {
        if check.native {
            let text = format!(
                "{} is a component: --native is for built-in policies",
                check.policy
            );
            return Err(Failure::Usage(text).into());
        }
        return Ok(Box::new(component(Path::new(&check.policy))?));
    }
    let Some(native) = Native::named(&check.policy) else {
        let text = format!(
            "there is no built-in policy '{}'; there are {}, or give a component's file (.wasm)",
            check.policy.escape_debug(),
            Native::names().collect::<Vec<_>>().join(", ")
        );
        return Err(Failure::NotFound(text).into());
    };
    if check.native {
        return Ok(Box::new(native));
    }
    Ok(Box::new(component(&built(&check.policy)?)?))
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
