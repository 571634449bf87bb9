//! One file per command; here is which runs.

mod agent;
mod bench;
mod config;
mod explain;
mod framework;
mod host;
mod list;
mod plugin;
mod policy;
mod removal;
mod replay;
mod request;
mod role;
mod shipped;
mod simulate;
mod status;
mod swap;
mod task;

use std::future::Future;

use anyhow::Context;
use serde_json::json;

use crate::args::{AgentAsk, Bench, Command, CommandLine, Global, Policy, Task};
use crate::failure::Failure;
use crate::settings::{self, FlagValue, Settings};
use crate::{connect, demo, json};

/// Runs a command to its end.
pub(crate) fn run(line: CommandLine) -> anyhow::Result<()> {
    let CommandLine { global, command } = line;
    let json = global.json;
    if let (true, Some(prints)) = (json, prints_no_json(&command)) {
        let problem = format!("--json: this command prints {prints}, and no JSON");
        return Err(Failure::Usage(problem).into());
    }
    match command {
        // Handled before, because a runner must be the first thing in its process.
        Command::Runner { .. } => Ok(()),
        Command::Plugin(command) => plugin::run(command, json),
        Command::Policy(Policy::Check(check)) => policy::check(&check, json),
        Command::Policy(Policy::Diff(diff)) => policy::diff(&diff, json),
        Command::Config(crate::args::Config::Check) => config::check(&load(&global, [])?, json),
        Command::Demo(demo) => {
            let settings = load(&global, [])?;
            block_on(demo::run(&demo, &settings))
        }
        Command::Up(up) => {
            let settings = load(&global, up.host.flags())?;
            block_on(host::up(&settings, up.agents))
        }
        Command::Host(flags) => {
            let settings = load(&global, flags.flags())?;
            block_on(host::host(&settings))
        }
        Command::Agent(command) => match command.ask {
            Some(AgentAsk::List) => {
                let settings = load(&global, [])?;
                block_on(list::agents(&settings, json))
            }
            Some(AgentAsk::Gone { name, dry_run }) => {
                let settings = load(&global, [])?;
                block_on(agent::gone(&settings, name, dry_run, json))
            }
            None => {
                let settings = load(&global, command.run.flags())?;
                block_on(agent::run(&settings, command.run.token_file))
            }
        },
        Command::Replay(command) if !command.deciders.policy.is_empty() => {
            simulate::recording(&command, &load(&global, [])?, json)
        }
        Command::Replay(command) => replay::run(&command, &load(&global, [])?, json),
        Command::Simulate(command) => simulate::run(&command, &load(&global, [])?, json),
        Command::Bench(Bench::Allocation(command)) => {
            bench::allocation(&command, &load(&global, [])?, json)
        }
        command => {
            let settings = load(&global, [])?;
            block_on(ask(command, settings, json))
        }
    }
}

/// What a command prints that is neither a list nor a result, whatever is asked for.
fn prints_no_json(command: &Command) -> Option<&'static str> {
    match command {
        Command::Demo(_) => Some("a report for people"),
        Command::Up(_) | Command::Host(_) => Some("where it listens"),
        Command::Agent(command) if command.ask.is_none() => Some("whom it joins"),
        Command::Task(Task::Logs { .. }) => Some("what the task wrote"),
        Command::Task(Task::Fetch { .. }) => Some("the file"),
        _ => None,
    }
}

/// Commands that talk to a host.
async fn ask(command: Command, settings: Settings, json: bool) -> anyhow::Result<()> {
    // Files are read, and people asked, before a connection is made where possible; the commands
    // connect by themselves.
    match command {
        Command::Framework(command) => framework::run(command, &settings, json).await,
        Command::Task(command) => task::run(command, &settings, json).await,
        Command::Offer(_) => list::offers(&settings, json).await,
        Command::Role(command) => role::run(command, &settings, json).await,
        Command::Reserve(what) => {
            role::reserve(&what, &settings, false).await?;
            json::done(json, || json!({ "reserved": role::reservation(&what) }));
            Ok(())
        }
        Command::Unreserve(what) => {
            role::reserve(&what, &settings, true).await?;
            json::done(json, || json!({ "unreserved": role::reservation(&what) }));
            Ok(())
        }
        Command::Policy(command) => swap::run(command, &settings, json).await,
        Command::Status => status::status(&settings, json).await,
        Command::Explain(command) => explain::run(command, &settings, json).await,
        Command::Request(command) => request::run(command, &settings, json).await,
        Command::Runner { .. }
        | Command::Plugin(_)
        | Command::Config(_)
        | Command::Replay(_)
        | Command::Simulate(_)
        | Command::Bench(_)
        | Command::Demo(_)
        | Command::Up(_)
        | Command::Host(_)
        | Command::Agent(_) => Ok(()),
    }
}

fn load(global: &Global, flags: impl IntoIterator<Item = FlagValue>) -> anyhow::Result<Settings> {
    // A flag of its own says it more plainly than --set.
    let mut all = global.flags()?;
    all.extend(flags);
    settings::load(global.settings.as_deref(), all)
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?
        .block_on(work)
}

use connect::connect;

pub(crate) use framework::read_component;
pub(crate) use request::principal;
pub(crate) use task::ran_for;
