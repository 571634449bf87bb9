//! `policy`: what decides whom to offer what.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show it
    Show,
    /// Put another one in while the cluster runs; it is taken out again by itself if it fails
    Swap(PolicySwap),
    /// Go back to the policy before the last swap, or drop the canary or the one that is being compared
    Rollback(PolicyRollback),
    /// List the policies that were put in
    History,
    /// Say what two policies offer differently in the same scenarios; needs no host
    Diff(PolicyDiff),
    /// Replay scenarios against a policy, through the host's own ledger and filters; needs no host
    Check(PolicyCheck),
}

/// The policy that is put in.
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicySwap {
    /// A component's file; a built-in policy by name; or native, the host's own
    #[arg(value_name = "FILE|NAME", required_unless_present = "promote")]
    pub(crate) policy: Option<String>,
    /// Its configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) why: String,
    /// Ask it beside the running one for so long first, compare, and print what differs
    #[arg(long, value_name = "SPAN", value_parser = super::span)]
    pub(crate) shadow: Option<proffer_model::Duration>,
    /// Let it decide for these roles' subtrees only, until --promote or `policy rollback`
    #[arg(long, value_name = "ROLE", num_args = 1.., value_delimiter = ',', conflicts_with = "shadow")]
    pub(crate) canary: Vec<String>,
    /// Promote the canary after so long by itself; with --dry-run it goes then
    #[arg(long = "for", value_name = "SPAN", value_parser = super::span, requires = "canary")]
    pub(crate) canary_for: Option<proffer_model::Duration>,
    /// Let the canary decide for all from now on
    #[arg(long, conflicts_with_all = ["policy", "config", "shadow", "canary", "canary_for", "dry_run", "guard"])]
    pub(crate) promote: bool,
    /// Compare (--shadow) or let it decide for some (--canary --for), and do not put it in
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take it out again if demand that fits waits longer, as in 'max-wait<10s' or 'p99-wait<5s'; may be repeated
    #[arg(long, value_name = "GUARD")]
    pub(crate) guard: Vec<String>,
}

/// Back to the policy before.
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyRollback {
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) why: String,
}

/// Scenarios to be replayed.
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyCheck {
    /// The policy: a built-in one by name, or a component's file
    #[arg(long, value_name = "NAME|FILE", default_value = "drf")]
    pub(crate) policy: String,
    /// The policy as it runs natively in the host, not as a component
    #[arg(long)]
    pub(crate) native: bool,
    /// A scenario that needs what is not offered is skipped, and not failed
    #[arg(long)]
    pub(crate) skip_unsupported: bool,
    /// Scenario files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
}

/// Two policies and scenarios.
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyDiff {
    /// A built-in policy by name, or a component's file
    #[arg(value_name = "A")]
    pub(crate) one: String,
    /// Another one
    #[arg(value_name = "B")]
    pub(crate) two: String,
    /// A scenario file, or a folder of them
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: PathBuf,
    /// Both as they run natively in the host, not as components
    #[arg(long)]
    pub(crate) native: bool,
}
