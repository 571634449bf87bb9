//! The log of hosts and agents: to standard error, as much as `PROFFER_LOG` asks for.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is shown if nobody says: decisions of ours, troubles of others.
const DEFAULT: &str = "warn,proffer=info";

/// What is shown beside a progress line: troubles only.
const QUIET: &str = "error";

/// Starts the log of a command that stays.
pub(crate) fn start() {
    init(DEFAULT);
}

/// Starts the log of a command that shows its progress itself.
pub(crate) fn start_quiet() {
    init(QUIET);
}

fn init(default: &str) {
    let asked = std::env::var("PROFFER_LOG").unwrap_or_default();
    let filter = if asked.is_empty() { default } else { &asked };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|error| {
        errln!("PROFFER_LOG is ignored: {error}");
        EnvFilter::new(default)
    });
    // A second start (in tests) changes nothing.
    let _already_there = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .is_err();
}
