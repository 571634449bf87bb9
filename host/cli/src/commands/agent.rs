//! `agent`: an agent in a process of its own, until it is told to end.

use std::path::PathBuf;

use proffer_rpc::Token;

use crate::cluster::{RunningAgent, interrupted, private_dir};
use crate::connect::token_file;
use crate::failure::Failure;
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
