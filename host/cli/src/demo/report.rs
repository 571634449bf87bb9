//! What the demonstration says at its end.

use std::fmt::Write as _;
use std::path::Path;

use proffer_model::Timestamp;
use proffer_rpc::operator::{
    Framework, FrameworkName, OperatorClient, Policy, PolicyQuery, Status, StatusQuery, Task,
    TaskQuery, Usage, UsageQuery,
};

use super::chart::{self, Series};
use super::job::Ended;
use super::result::Counts;
use crate::commands::ran_for;
use crate::json::collect;
use crate::show;
use crate::table::{Columns, printable};

/// Tasks that a person may still want to scroll through; the file has them all.
const TASKS_SHOWN_MAX: usize = 100;

/// Tasks that are asked for: all that the framework allows in one job, attempts included.
const TASKS_MAX: usize = 100_000;

/// Words at the end of the report.
const TOP: usize = 10;

/// The report, whole and as it is shown.
pub(super) struct Report {
    pub(super) text: String,
    pub(super) shown: String,
}

/// All that goes into a report.
struct Facts<'a> {
    tasks: Vec<Task>,
    framework: Framework,
    policy: Policy,
    status: Status,
    usage: Usage,
    ended: &'a Ended,
    counts: &'a Counts,
    out: &'a Path,
}

/// Asks the host, and puts it into words.
pub(super) async fn make(
    client: &OperatorClient,
    framework: &str,
    ended: &Ended,
    counts: &Counts,
    out: &Path,
) -> anyhow::Result<Report> {
    let fetch = |page| {
        client.tasks(TaskQuery {
            page,
            framework: framework.to_owned(),
            ..TaskQuery::default()
        })
    };
    let mut tasks = collect(TASKS_MAX, fetch).await?;
    tasks.sort_by_key(|task| (task.launched, task.launch));
    let name = FrameworkName {
        name: framework.to_owned(),
    };
    let facts = Facts {
        tasks,
        framework: client.framework(name).await?.framework,
        policy: client.policy(PolicyQuery {}).await?,
        status: client.status(StatusQuery {}).await?,
        usage: client
            .usage(UsageQuery {
                since: Timestamp(0),
            })
            .await?,
        ended,
        counts,
        out,
    };
    let summary = facts.summary();
    let text = format!("{}\n{summary}", facts.tasks(usize::MAX));
    let shown = format!("{}\n{summary}", facts.tasks(TASKS_SHOWN_MAX));
    Ok(Report { text, shown })
}

impl Facts<'_> {
    /// Each task's agent, phase and run time.
    fn tasks(&self, max: usize) -> String {
        let mut columns = Columns::new(&["TASK", "PHASE", "AGENT", "STATE", ">RUN TIME"]);
        for task in self.tasks.iter().take(max) {
            columns.row([
                task.id.to_string(),
                task.name.clone(),
                task.hostname.clone(),
                task.state.name().to_owned(),
                ran_for(task, self.ended.ended),
            ]);
        }
        let mut text = columns.to_string();
        if self.tasks.len() > max {
            let more = self.tasks.len() - max;
            push(
                &mut text,
                format_args!("and {more} more: see report.txt in the demo's data directory"),
            );
        }
        text
    }

    fn summary(&self) -> String {
        let mut text = String::new();
        let Self {
            framework,
            policy,
            ended,
            counts,
            ..
        } = self;
        let native = if policy.fallback {
            ", replaced by the native one"
        } else {
            ""
        };
        push(
            &mut text,
            format_args!(
                "policy     {} {} {}{native}",
                printable(&policy.name),
                printable(&policy.version),
                policy.digest
            ),
        );
        push(
            &mut text,
            format_args!(
                "framework  {} {} {}",
                printable(&framework.name),
                printable(&framework.version),
                framework.digest
            ),
        );
        let offers = framework.offers;
        push(
            &mut text,
            format_args!(
                "offers     {} made, {} accepted, {} declined, {} expired, {} rescinded, in {} cycles",
                offers.made,
                offers.accepted,
                offers.declined,
                offers.expired,
                offers.rescinded,
                self.status.cycles
            ),
        );
        push(&mut text, format_args!("tasks      {}", self.phases()));
        let first = self.tasks.iter().filter_map(|task| task.started).min();
        push(
            &mut text,
            format_args!(
                "times      {} from submit to first task, {} to the end",
                show::ago(Some(ended.submitted), first.unwrap_or(ended.ended)),
                show::span(ended.ended.since(ended.submitted)),
            ),
        );
        push(
            &mut text,
            format_args!(
                "\nshare of the pool used by {} over time",
                printable(&framework.name)
            ),
        );
        text.push_str(&self.chart());
        push(
            &mut text,
            format_args!(
                "\n{} words, {} distinct; the most frequent:",
                counts.total(),
                counts.0.len()
            ),
        );
        for (word, count) in counts.0.iter().take(TOP) {
            let word = printable(&String::from_utf8_lossy(word));
            push(&mut text, format_args!("{count:>10}  {word}"));
        }
        push(
            &mut text,
            format_args!("\nall of them: {}", self.out.display()),
        );
        text
    }

    /// `12 map, 4 reduce; 16 finished, 1 failed`.
    fn phases(&self) -> String {
        let count = |key: fn(&Task) -> String| {
            let mut counts = std::collections::BTreeMap::<String, usize>::new();
            for task in &self.tasks {
                *counts.entry(key(task)).or_default() += 1;
            }
            let parts: Vec<String> = counts
                .iter()
                .map(|(name, n)| format!("{n} {name}"))
                .collect();
            parts.join(", ")
        };
        let phases = count(|task| task.name.clone());
        let states = count(|task| task.state.name().to_owned());
        let agents = count(|task| format!("on {}", task.hostname));
        format!("{phases}; {states}; {agents}")
    }

    fn chart(&self) -> String {
        let name = &self.framework.name;
        let usage = self
            .usage
            .frameworks
            .iter()
            .find(|usage| usage.framework == *name);
        let series = Series {
            times: &self.usage.times,
            share_milli: usage.map_or(&[], |usage| usage.share_milli.as_slice()),
        };
        chart::draw(&series, self.ended.submitted, self.ended.ended)
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{line}");
}
