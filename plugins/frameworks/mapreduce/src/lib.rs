//! MapReduce as a framework: jobs of map and reduce tasks over files.
//!
//! An operator submits a job by a request (see [`api`]) that names the input files with their
//! sizes, how to split them, and the components of the map and the reduce function. The framework
//!
//! - cuts the inputs into map tasks ([`split`]);
//! - states a demand per phase, `NAME.RUN.map` and `NAME.RUN.reduce`, and restates it as it places, so
//!   that no phase is offered what only the other could use ([`placing`]);
//! - runs the functions as Wasm tasks by the convention of `plugins/tasks/wordcount`:
//!   `map --partitions R --offset B --length L INPUT OUTDIR` and `reduce OUT INPUT...`;
//! - binds what map task I has written to the output name `NAME.RUN.mI`, so that the reduce task of
//!   partition P takes `output:NAME.RUN.m*/out/P`: agents fetch from agents, no directory is shared;
//! - retries what failed on another agent, runs maps again whose output was lost with an agent, and
//!   gives a job up after so many failures of one task, with the reason ([`progress`]);
//! - starts a backup of a task that runs much longer than the others of its phase; who finishes first
//!   wins ([`straggler`]).
//!
//! What it is not: it sees no file. It never reads inputs or merges results; it names them.
//!
//! # Invariants
//!
//! - Everything that must last is in the state ([`store`]); the instance may be dropped at any time.
//! - What one step writes and commands stays below the contract's 1 MiB, however large a job is: a task
//!   has a record only once it was launched, a lost agent is one record, and launches per step are
//!   bounded.
//! - Times, ids and choices come from the step alone: the same events give the same commands.
//!
//! # Output names
//!
//! A name is bound to the first task that finishes under it, and bound anew by a later one if the
//! former's sandbox is lost. A map that is run again therefore keeps its name, and reducers need not
//! know which attempt they read. `RUN` grows with every job, so a name is never used by two jobs.

pub mod api;
pub mod job;
pub mod placing;
pub mod progress;
pub mod scheduler;
pub mod split;
pub mod store;
pub mod straggler;
pub mod submit;
pub mod task;
pub mod view;

#[cfg(test)]
mod tests;

pub use scheduler::MapReduce;

proffer_sdk::export_framework!(MapReduce);
