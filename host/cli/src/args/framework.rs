//! What can be asked about frameworks.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Framework {
    /// Add a framework; shows what it asks for first
    Run(FrameworkRun),
    /// List frameworks
    List,
    /// Show one in full
    Show {
        /// Its name
        name: String,
    },
    /// Go on as another version of its component while its tasks run; also out of quarantine
    Upgrade(FrameworkUpgrade),
    /// Kill its tasks and remove it with its state
    Remove(FrameworkRemove),
    /// Pass over the event that a quarantined framework fails at, for good
    SkipEvent {
        /// Its name
        name: String,
        /// The event's id, as `framework show` names it
        event: String,
    },
    /// Let a quarantined framework try again
    Resume {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct FrameworkRun {
    /// The component, a .wasm file
    pub(crate) file: PathBuf,
    /// Its name in the cluster [default: the manifest's]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A role that it may use; may be repeated [default: the manifest's]
    #[arg(long)]
    pub(crate) role: Vec<String>,
    /// Its configuration (JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Approve all that it asks for, without being asked
    #[arg(long)]
    pub(crate) approve: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FrameworkUpgrade {
    /// The framework's name
    pub(crate) name: String,
    /// The component, a .wasm file
    pub(crate) file: PathBuf,
    /// Its configuration (JSON) [default: as before]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Approve all that it asks for, without being asked
    #[arg(long)]
    pub(crate) approve: bool,
}

/// How a framework is removed.
#[derive(Clone, Debug, Args)]
pub(crate) struct FrameworkRemove {
    /// Its name
    pub(crate) name: String,
    /// List what would end and what becomes of what it leaves, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What becomes of what was reserved at run time to roles that only this framework is in, and of
    /// volumes there; what is reserved to roles that others share stays
    #[arg(long, value_enum, default_value_t)]
    pub(crate) reservations: Reservations,
}

/// What becomes of the reservations and volumes that a removed framework leaves.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Reservations {
    /// All of it stays with its role
    #[default]
    Keep,
    /// Reservations are let go; refused if there is a volume, which holds data
    Release,
    /// Volumes are destroyed with what is in them, and reservations let go
    Wipe,
}
