//! What was recorded, and what might have been.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::instant::Instant;

/// A recording run through the core again.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// A recording, or the data directory that it is in [default: the data directory]
    pub(crate) dir: Option<PathBuf>,
    /// Stop before the first event after this: +90s after the beginning, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "policy")]
    pub(crate) until: Option<Instant>,
    /// Others decide on the recorded demand.
    #[command(flatten)]
    pub(crate) deciders: Deciders,
}

/// Who decides in a simulation.
#[derive(Debug, Args)]
pub(crate) struct Deciders {
    /// Let this policy decide: a shipped one's name, `all` of those that are native, or a component's file; the
    /// result is simulated. May be repeated, or a list with commas
    #[arg(long, value_name = "NAME|FILE", value_delimiter = ',')]
    pub(crate) policy: Vec<String>,
    /// A policy's configuration (JSON); may be repeated
    #[arg(long, value_name = "NAME=FILE", requires = "policy")]
    pub(crate) policy_config: Vec<String>,
}

/// A workload run on machines that are not there.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// openb pods (CSV), a directory with pods.csv and nodes.csv, or a log in the Standard Workload Format
    pub(crate) trace: PathBuf,
    /// Who decides; drf if nobody is named.
    #[command(flatten)]
    pub(crate) deciders: Deciders,
    /// The machines (CSV: sn,cpu_milli,memory_mib,gpu,model) [default: nodes.csv beside the pods, or the log's header]
    #[arg(long, value_name = "FILE")]
    pub(crate) nodes: Option<PathBuf>,
    /// Tasks never end: how full does the pool get?
    #[arg(long)]
    pub(crate) endless: bool,
    /// Arrivals so many times closer to each other; run times stay
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) speed: u32,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// An allocation cycle, as Apache Mesos's own benchmark runs it: CPU time, offers and their hash
    Allocation(BenchAllocation),
}

/// Which cycles.
#[derive(Debug, Args)]
pub(crate) struct BenchAllocation {
    /// The native policy
    #[arg(long, value_name = "NAME", default_value = "drf")]
    pub(crate) policy: String,
    /// The same policy as a component, in turns with the native one
    #[arg(long, value_name = "FILE")]
    pub(crate) component: Option<PathBuf>,
    /// Only this size, as in 1000x50 [default: all of the reference]
    #[arg(long, value_name = "AGENTSxFRAMEWORKS")]
    pub(crate) size: Option<String>,
    /// A role for each framework, with --size
    #[arg(long, requires = "size")]
    pub(crate) own_roles: bool,
    /// Rounds that are measured
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) rounds: u16,
    /// Also one agent that comes free among 10,000
    #[arg(long)]
    pub(crate) incremental: bool,
}

/// Why something is, or was, as it is.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(subcommand)]
    pub(crate) subject: Subject,
    /// As it was then, from the recording: +90s after its beginning, or 2026-01-31T12:00:00Z
    #[arg(long, global = true, value_name = "TIME")]
    pub(crate) at: Option<Instant>,
    /// The recording, with --at [default: the data directory's]
    #[arg(long, global = true, value_name = "DIR", requires = "at")]
    pub(crate) recording: Option<PathBuf>,
}

/// What is to be explained.
#[derive(Debug, Subcommand)]
pub(crate) enum Subject {
    /// Why a framework gets what it gets
    Framework {
        /// Its name
        name: String,
    },
    /// Why a task is where it is
    Task {
        /// Its framework's name
        framework: String,
        /// Its id
        task: String,
    },
    /// Why a role gets what it gets
    Role {
        /// Its whole name
        name: String,
    },
    /// Why an agent is used as it is
    Agent {
        /// Its id or hostname
        name: String,
    },
}
