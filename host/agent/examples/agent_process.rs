//! An agent as a program: `agent_process DATA HOST:PORT TOKEN-FILE FILES-DIR [--disk-is-low] [--task-user
//! USERS]`, and, as it starts it itself, its runner. It waits less than a real one, so that tests need not wait either.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use proffer_agent::logic::Timings;
use proffer_agent::{Agent, AgentConfig, TaskUsers, runner};
use proffer_rpc::Token;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let first = args.next().unwrap_or_default();
    // Before anything that may start a thread.
    let ended: Result<(), Box<dyn std::error::Error>> = if first == "runner" {
        runner::main(args).map_err(Into::into)
    } else {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_env_filter("debug,h2=info,hyper=info,hyper_util=info,tower=info")
            .init();
        let words: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
        agent(PathBuf::from(first), &words)
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn agent(data: PathBuf, words: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [host, token, files, rest @ ..] = words else {
        return Err(
            "usage: agent_process DATA HOST:PORT TOKEN-FILE FILES-DIR [--disk-is-low] [--task-user USERS]".into(),
        );
    };
    let token = Token::read(Path::new(token))?;
    let mut config = AgentConfig::new(data, host.parse()?, token)?;
    config.resources = Some("cpus:4;mem:1024;disk:1024;ports:[31000-31009]".parse()?);
    config.files = vec![PathBuf::from(files)];
    match rest {
        [low] if low == "--disk-is-low" => config.disk_free_min_bytes = Some(u64::MAX),
        [user, users] if user == "--task-user" => config.task_users = TaskUsers::parse(users)?,
        _ => {}
    }
    config.runner_idle = Duration::from_secs(5);
    config.timings = Timings {
        resend_first: proffer_model::Duration(200),
        reconnect_first: proffer_model::Duration(20),
        reconnect_max: proffer_model::Duration(200),
        ..Timings::default()
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let ended = async {
            // Without a handler for it the tests' own end is the only one.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        Agent::run(config, ended).await
    })?;
    Ok(())
}
