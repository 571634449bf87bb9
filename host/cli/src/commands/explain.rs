//! `explain`: why something is as it is.

use proffer_rpc::operator::{Subject, TaskName};

use super::{connect, replay};
use crate::args::{self, Explain};
use crate::json;
use crate::settings::Settings;
use crate::table::{Columns, printable};

pub(crate) async fn run(
    command: Explain,
    settings: &Settings,
    as_json: bool,
) -> anyhow::Result<()> {
    let subject = match command.subject {
        args::Subject::Framework { name } => Subject::Framework(name),
        args::Subject::Task { framework, task } => Subject::Task(TaskName { framework, task }),
        args::Subject::Agent { name } => Subject::Agent(name),
        args::Subject::Role { name } => Subject::Role(name),
    };
    let explanation = match command.at {
        Some(at) => replay::explain(&subject, at, command.recording.as_deref(), settings)?,
        None => connect(settings).await?.explain(subject).await?,
    };
    if as_json {
        json::print(&json::explanation(&explanation));
        return Ok(());
    }
    for sentence in &explanation.sentences {
        outln!("{}", printable(sentence));
    }
    let mut columns = Columns::new(&["ABOUT", ">AGENTS", "REASON", "FOR INSTANCE", "SHORT OF"]);
    for row in &explanation.reasons {
        let short = match row.short.is_empty() {
            true => String::new(),
            false => row.short.to_string(),
        };
        columns.row([
            row.subject.clone(),
            row.agents.to_string(),
            row.why.to_string(),
            row.sample
                .map(|agent| agent.to_string())
                .unwrap_or_default(),
            short,
        ]);
    }
    if columns.len() > 0 {
        out!("\n{columns}");
    }
    Ok(())
}
