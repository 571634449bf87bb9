//! `task`: listing, killing, logs and files.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use proffer_rpc::operator::{
    FetchOutput, KillTask, LogStream, OperatorClient, StatusQuery, Stream, Task as Row, TaskLogs,
    TaskQuery,
};
use serde_json::json;

use super::connect;
use super::list::print_or;
use crate::args::{Task, TaskList};
use crate::json::{self, collect};
use crate::settings::Settings;
use crate::show;
use crate::table::Columns;

pub(crate) async fn run(command: Task, settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let client = connect(settings).await?;
    match command {
        Task::List(filters) => list(&client, filters, as_json).await,
        Task::Kill {
            framework,
            task,
            grace,
        } => {
            let said = json!({ "framework": framework, "killed": task });
            let kill = KillTask {
                framework,
                task,
                grace,
            };
            client.kill_task(kill).await?;
            json::done(as_json, || said);
            Ok(())
        }
        Task::Logs {
            framework,
            task,
            stderr,
            follow,
        } => {
            let stream = if stderr {
                LogStream::Stderr
            } else {
                LogStream::Stdout
            };
            let logs = TaskLogs {
                framework,
                task,
                stream,
                follow,
            };
            let stream = client.task_logs(logs).await?;
            copy(stream, &mut std::io::stdout().lock()).await
        }
        Task::Fetch {
            framework,
            task,
            path,
            out,
        } => {
            let fetch = FetchOutput {
                framework,
                task,
                path,
            };
            let stream = client.fetch_output(fetch).await?;
            match out {
                Some(out) => copy_to_file(stream, &out).await,
                None => copy(stream, &mut std::io::stdout().lock()).await,
            }
        }
    }
}

async fn list(client: &OperatorClient, filters: TaskList, as_json: bool) -> anyhow::Result<()> {
    let TaskList {
        framework,
        agent,
        state,
        limit,
    } = filters;
    let query = TaskQuery {
        page: Default::default(),
        framework: framework.unwrap_or_default(),
        agent: agent.unwrap_or_default(),
        states: state,
    };
    let fetch = |page| {
        let query = TaskQuery {
            page,
            ..query.clone()
        };
        client.tasks(query)
    };
    let mut rows = collect(limit.saturating_add(1), fetch).await?;
    if rows.len() > limit {
        rows.truncate(limit);
        errln!("only the first {limit}; more with --limit N");
    }
    if as_json {
        json::print(&json::list(&rows, json::task));
        return Ok(());
    }
    let now = client.status(StatusQuery {}).await?.now;
    let columns = table(&rows, now);
    print_or(&columns, "no such tasks");
    Ok(())
}

/// Tasks, a line each.
pub(super) fn table(rows: &[Row], now: proffer_model::Timestamp) -> Columns {
    let headings = [
        "FRAMEWORK",
        "TASK",
        "NAME",
        "STATE",
        "AGENT",
        ">RAN FOR",
        "RESOURCES",
        "WHY",
    ];
    let mut columns = Columns::new(&headings);
    for task in rows {
        let why = task
            .why
            .as_ref()
            .map(|why| why.text.clone())
            .unwrap_or_default();
        columns.row([
            task.framework.clone(),
            task.id.to_string(),
            task.name.clone(),
            task.state.name().to_owned(),
            task.hostname.clone(),
            ran_for(task, now),
            task.resources.to_string(),
            why,
        ]);
    }
    columns
}

/// From its start to its end, or to now.
pub(crate) fn ran_for(task: &Row, now: proffer_model::Timestamp) -> String {
    match task.started {
        Some(started) => show::span(task.ended.unwrap_or(now).since(started)),
        None => "-".to_owned(),
    }
}

async fn copy(mut stream: Stream, out: &mut impl Write) -> anyhow::Result<()> {
    while let Some(chunk) = stream.next().await? {
        let written = out.write_all(&chunk).and_then(|()| out.flush());
        match written {
            // Whoever read it has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("cannot write")?,
        }
    }
    Ok(())
}

/// The file is there whole or not at all.
async fn copy_to_file(stream: Stream, path: &Path) -> anyhow::Result<()> {
    let what = || format!("cannot write {}", path.display());
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(dir).with_context(what)?;
    copy(stream, &mut file).await?;
    file.persist(path).with_context(what)?;
    Ok(())
}
