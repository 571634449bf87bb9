//! `agent`: an agent in a process of its own, until it is told to end.

use std::path::PathBuf;

use proffer_rpc::Token;
use proffer_rpc::operator::{DeclareAgentGone, TaskQuery};

use super::connect;
use super::list::{ROWS_MAX, print_or};
use super::task::table;
use crate::cluster::{RunningAgent, interrupted, private_dir};
use crate::connect::token_file;
use crate::failure::Failure;
use crate::json::{self, collect};
use crate::log;
use crate::settings::{Settings, agent};

pub(crate) async fn run(settings: &Settings, token: Option<PathBuf>) -> anyhow::Result<()> {
    let data = settings.data_dir()?;
    let path = token.unwrap_or_else(|| token_file(&data));
    if !path.exists() {
        return Err(Failure::NotFound(format!(
            "there is no token at {}; copy the file `token` of the host's data directory there (mode 600), or \
             name it with --token-file",
            path.display()
        ))
        .into());
    }
    let token = Token::read(&path)?;
    // Beside a host on the same data directory, an agent has a directory of its own.
    let dir = data.join("agent");
    private_dir(&dir)?;
    let config = agent::check(settings, dir, token)?;
    log::start();
    outln!("agent of {}; Ctrl-C ends it, tasks go on", config.host);
    let mut agent = RunningAgent::start("the agent".to_owned(), config);
    tokio::select! {
        signal = interrupted() => signal?,
        ended = agent.ended() => return ended,
    }
    agent.stop().await
}

/// Lists the tasks that are lost with an agent, and then says that it is gone, unless that is to be
/// tried only.
pub(crate) async fn gone(
    settings: &Settings,
    name: String,
    dry_run: bool,
    as_json: bool,
) -> anyhow::Result<()> {
    let client = connect(settings).await?;
    let query = |page| TaskQuery {
        page,
        framework: String::new(),
        agent: name.clone(),
        states: Vec::new(),
    };
    let rows = collect(ROWS_MAX, |page| client.tasks(query(page))).await?;
    let lost: Vec<_> = rows
        .into_iter()
        .filter(|task| !task.state.is_final())
        .collect();
    if !dry_run {
        let which = DeclareAgentGone { agent: name };
        client.declare_agent_gone(which).await?;
    }
    if as_json {
        json::print(&json::list(&lost, json::task));
        return Ok(());
    }
    let now = client
        .status(proffer_rpc::operator::StatusQuery {})
        .await?
        .now;
    print_or(&table(&lost, now), "no tasks are lost with it");
    Ok(())
}
