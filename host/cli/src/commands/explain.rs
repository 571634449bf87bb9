//! `explain`: why something is as it is.

use proffer_rpc::operator::{Subject, TaskName};

use super::connect;
use crate::args::Explain;
use crate::json;
use crate::settings::Settings;
use crate::table::{Columns, printable};

pub(crate) async fn run(
    command: Explain,
    settings: &Settings,
    as_json: bool,
) -> anyhow::Result<()> {
    let subject = match command {
        Explain::Framework { name } => Subject::Framework(name),
        Explain::Task { framework, task } => Subject::Task(TaskName { framework, task }),
        Explain::Agent { name } => Subject::Agent(name),
    };
    let explanation = connect(settings).await?.explain(subject).await?;
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
