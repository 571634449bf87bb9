//! The `proffer` command: everything of the project that a person types.
//!
//! Commands either run parts of a cluster in this process (`demo`, `up`, `host`, `agent`), talk to a
//! host over gRPC (lists, `framework`, `task`, `explain`, …), or build plug-ins. The file that each is
//! in has its name, below `commands`.
//!
//! What it is not: it decides nothing about a cluster, and it keeps nothing but what `demo` writes.
//!
//! # Invariants
//! - Results go to standard output, everything else to standard error.
//! - A command ends with a status of [`failure::EXIT_STATUSES`] and, if it failed, one message that
//!   says what, where, and what may help.
//! - Settings are read once, at the start ([`settings`]).

/// Prints to standard output; see [`out::write`].
macro_rules! out {
    ($($what:tt)*) => { $crate::out::write(format_args!($($what)*)) };
}

/// Prints a line to standard output.
macro_rules! outln {
    () => { $crate::out::write(format_args!("\n")) };
    ($($what:tt)*) => { $crate::out::write(format_args!("{}\n", format_args!($($what)*))) };
}

/// Writes to standard error.
macro_rules! err {
    ($($what:tt)*) => { $crate::out::tell(format_args!($($what)*)) };
}

/// Writes a line to standard error.
macro_rules! errln {
    ($($what:tt)*) => { $crate::out::tell(format_args!("{}\n", format_args!($($what)*))) };
}

/// A host's ledger is small values by the million, made and dropped in every cycle, by several threads:
/// a whole allocation cycle takes two thirds of the time that it takes with the C library's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod args;
mod cluster;
mod commands;
mod connect;
mod demo;
mod failure;
mod input;
mod instant;
mod json;
mod log;
mod out;
mod progress;
mod settings;
mod show;
mod table;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Command, CommandLine};

fn main() -> ExitCode {
    let line = CommandLine::parse();
    // A runner is not a command for people: it makes its own runtime and never reads settings.
    if let Command::Runner { args } = line.command {
        return cluster::run_runner(args);
    }
    match commands::run(line) {
        Ok(()) => ExitCode::from(failure::OK),
        Err(error) => {
            errln!("error: {error:#}");
            ExitCode::from(failure::status_of(&error))
        }
    }
}
