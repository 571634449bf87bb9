//! The command line.

mod flags;
mod framework;
mod policy;
mod replay;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::flags::{AgentCommand, HostFlags, Up};
pub(crate) use self::framework::{
    Framework, FrameworkRemove, FrameworkRun, FrameworkUpgrade, Reservations,
};
pub(crate) use self::policy::{Policy, PolicyCheck, PolicyDiff, PolicySwap};
pub(crate) use self::replay::{
    Bench, BenchAllocation, Deciders, Explain, Replay, Simulate, Subject,
};

use crate::settings::FlagValue;
use crate::show::parse_bytes;

/// Shares one pool of machines between many distributed systems.
///
/// The host owns the pool and offers resources; frameworks and the allocation policy are sandboxed
/// WebAssembly components that decide what to run and whom to offer. Begin with `proffer demo`.
#[derive(Debug, Parser)]
#[command(name = "proffer", version, arg_required_else_help = true, after_help = crate::failure::help())]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Default, Args)]
pub(crate) struct Global {
    /// Data directory: store, token, compiled code [default: proffer in the user's data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Settings file [default: proffer.toml here, then the user's]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// Host to talk to, or several with commas: whichever leads [default: the one on the data directory]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) connect: Option<String>,
    /// Any setting, as `config check` lists them; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a word count on an embedded cluster and print what happened
    Demo(Demo),
    /// Run a host and agents in this process until Ctrl-C
    Up(Up),
    /// Run a host until Ctrl-C
    Host(HostFlags),
    /// Run an agent until Ctrl-C, or list agents
    #[command(args_conflicts_with_subcommands = true)]
    Agent(AgentCommand),
    /// Add, list, show and remove frameworks
    #[command(subcommand)]
    Framework(Framework),
    /// List and kill tasks, read what they wrote
    #[command(subcommand)]
    Task(Task),
    /// List the offers that are outstanding
    #[command(subcommand)]
    Offer(ListOnly),
    /// List roles, set their weights and quotas
    #[command(subcommand)]
    Role(Role),
    /// Reserve what is free on an agent to a role
    Reserve(Reservation),
    /// Let a reservation that is free go
    Unreserve(Reservation),
    /// Show which allocation policy decides, put another in, take it out again, check one
    #[command(subcommand)]
    Policy(Policy),
    /// Say how the cluster stands
    Status,
    /// Say why something is as it is
    Explain(Explain),
    /// Run a recording through the core again and compare
    Replay(Replay),
    /// Run a workload trace through the core and a policy, on machines that are not there
    Simulate(Simulate),
    /// Measure what the host's own work costs on this machine
    #[command(subcommand)]
    Bench(Bench),
    /// Send a request to a framework's own interface
    Request(Request),
    /// Start, build and inspect plug-ins
    #[command(subcommand)]
    Plugin(Plugin),
    /// Check and show settings
    #[command(subcommand)]
    Config(Config),
    /// A runner of tasks; started by agents
    #[command(hide = true, disable_help_flag = true)]
    Runner {
        /// As the agent gives them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

/// The demonstration.
#[derive(Clone, Debug, Args)]
pub(crate) struct Demo {
    /// Count the words of all files in this directory [default: the project's own source files]
    #[arg(long, value_name = "DIR")]
    pub(crate) input: Option<PathBuf>,
    /// Write `word TAB count` lines here [default: counts.tsv in the demo's data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Bytes of a split, as in 64KiB [default: whole files]
    #[arg(long, value_name = "SIZE", value_parser = positive_bytes)]
    pub(crate) split: Option<u64>,
    /// Reduce tasks
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) reducers: u32,
    /// Agents
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) agents: u32,
}

/// What can be asked about agents.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AgentAsk {
    /// List them
    List,
    /// Say that an agent which is away will not be back: its tasks and outputs are lost
    Gone {
        /// Its id or hostname
        name: String,
        /// List the tasks that would be lost, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// `list`, and nothing else.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ListOnly {
    /// List them
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// List tasks, running and ended
    List(TaskList),
    /// End a task
    Kill {
        /// Its framework's name
        framework: String,
        /// Its id
        task: String,
        /// Between TERM and KILL, as in 5s [default: the task's own]
        #[arg(long, value_parser = span)]
        grace: Option<proffer_model::Duration>,
    },
    /// Print what a task wrote
    Logs {
        /// Its framework's name
        framework: String,
        /// Its id
        task: String,
        /// Standard error instead of standard output
        #[arg(long)]
        stderr: bool,
        /// Go on until the task ends
        #[arg(long, short)]
        follow: bool,
    },
    /// Copy a file from a task's sandbox
    Fetch {
        /// Its framework's name
        framework: String,
        /// Its id
        task: String,
        /// The file, relative to the sandbox
        path: String,
        /// Where to [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Default, Args)]
pub(crate) struct TaskList {
    /// Only this framework's
    #[arg(long)]
    pub(crate) framework: Option<String>,
    /// Only on this agent (id or hostname)
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// Only in this state, as in running; may be repeated
    #[arg(long, value_parser = task_state)]
    pub(crate) state: Vec<proffer_model::TaskState>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// List roles
    List,
    /// Show one in full
    Show {
        /// The role
        role: String,
    },
    /// Set a role's weight against its siblings
    Weight {
        /// The role
        role: String,
        /// 1 is usual, 2 is twice as much
        weight: proffer_model::Amount,
    },
    /// Set a role's weight and quota
    Set(RoleSet),
}

/// What of a role is set; what is not named stays.
#[derive(Clone, Debug, Args)]
pub(crate) struct RoleSet {
    /// The role
    pub(crate) role: String,
    /// Against its siblings: 1 is usual, 2 is twice as much
    #[arg(long)]
    pub(crate) weight: Option<proffer_model::Amount>,
    /// Held ready for it, as in "cpus:10;mem:4096"; "none": nothing
    #[arg(long, value_name = "RESOURCES")]
    pub(crate) guarantee: Option<String>,
    /// Never more than this, its sub-roles included, as in "cpus:20;gpus:0"; "none": no bound
    #[arg(long, value_name = "RESOURCES")]
    pub(crate) limit: Option<String>,
    /// Even if the pool cannot hold it, or the role is over its limit now
    #[arg(long)]
    pub(crate) force: bool,
    /// Its own policy, which shares what the role and its sub-roles are granted among those within: a component's file, a
    /// built-in policy by name, or "none"
    #[arg(long, value_name = "FILE|NAME", conflicts_with_all = ["weight", "guarantee", "limit", "force"])]
    pub(crate) policy: Option<String>,
    /// That policy's configuration
    #[arg(long, value_name = "FILE", requires = "policy")]
    pub(crate) config: Option<std::path::PathBuf>,
    /// Why, for `role show`
    #[arg(long, value_name = "TEXT", requires = "policy")]
    pub(crate) why: Option<String>,
    /// Leave it out again if demand that it could serve waits longer, as in 'max-wait<10s' or 'p99-wait<5s'; may be repeated
    #[arg(long, value_name = "GUARD", requires = "policy")]
    pub(crate) guard: Vec<String>,
}

/// What of an agent is reserved, or let go.
#[derive(Clone, Debug, Args)]
pub(crate) struct Reservation {
    /// The agent, by id or hostname
    pub(crate) agent: String,
    /// The role
    pub(crate) role: String,
    /// What of it, as in "cpus:4;mem:1024"
    pub(crate) resources: String,
}

#[derive(Debug, Args)]
pub(crate) struct Request {
    /// The framework's name
    pub(crate) framework: String,
    /// GET, POST, …
    pub(crate) method: String,
    /// Begins with a slash; may have a ?query
    pub(crate) path: String,
    /// The body; @FILE: that file's content, -: standard input
    pub(crate) body: Option<String>,
    /// A header; may be repeated
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Start a plug-in from a template, in a directory of its name
    New {
        /// Its name
        name: String,
        /// Which contract it implements
        #[arg(long, value_enum)]
        kind: PluginKind,
        /// Where its directory is made
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
    /// Build plug-ins to components
    Build {
        /// Directories with a Cargo.toml
        #[arg(default_value = ".")]
        dirs: Vec<PathBuf>,
        /// Where components are written [default: target/guests/components of the workspace]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Say what a component is: world, version, imports, size
    Inspect {
        /// The component
        file: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PluginKind {
    /// Decides what to run
    Framework,
    /// Decides whom to offer what
    Policy,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Config {
    /// Check all settings and show each with its source
    Check,
}

fn positive_bytes(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err("wanted at least one byte".to_owned()),
        bytes => Ok(bytes),
    }
}

fn span(text: &str) -> Result<proffer_model::Duration, String> {
    proffer_daemon::config::parse_span(text).map_err(str::to_owned)
}

/// All states by their names in the contract.
fn task_state(text: &str) -> Result<proffer_model::TaskState, String> {
    use proffer_model::TaskState as S;
    let all = [
        S::Staging,
        S::Starting,
        S::Running,
        S::Killing,
        S::Finished,
        S::Failed,
        S::Killed,
        S::Error,
        S::Dropped,
        S::Gone,
        S::Unreachable,
        S::GoneByOperator,
    ];
    all.into_iter()
        .find(|state| state.name() == text)
        .ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|state| state.name()).collect();
            format!("wanted one of {}", names.join(", "))
        })
}

impl Global {
    /// What these flags say of settings. The last of `--set` wins over the first.
    pub(crate) fn flags(&self) -> Result<Vec<FlagValue>, crate::failure::Failure> {
        let mut flags = Vec::new();
        let mut say = |key: &str, text: String, flag: &str| {
            flags.push(FlagValue {
                key: key.to_owned(),
                text,
                flag: flag.to_owned(),
            });
        };
        for pair in &self.set {
            let (key, text) = pair.split_once('=').ok_or_else(|| {
                let problem = format!("--set {pair}: wanted KEY=VALUE, as in host.lease=10s");
                crate::failure::Failure::Usage(problem)
            })?;
            say(key.trim(), text.trim().to_owned(), "--set");
        }
        if let Some(data) = &self.data {
            say("data", data.to_string_lossy().into_owned(), "--data");
        }
        if let Some(connect) = &self.connect {
            say("connect", connect.clone(), "--connect");
        }
        Ok(flags)
    }
}

#[cfg(test)]
mod tests;
