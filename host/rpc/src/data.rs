//! The data plane: agents serve files of the sandboxes of launches that they ran.
//!
//! A file goes over as a stream of chunks, the first of which says how long it is: who fetches knows
//! whether it got all. Which files there are is the [`SandboxStore`]'s word.

mod client;
mod server;

use std::fs::File;

use proffer_model::LaunchNumber;

pub use client::{DataClient, FetchError, Fetched};

pub(crate) use server::data_service;

/// A file, asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchFile {
    /// Of which launch.
    pub launch: LaunchNumber,
    /// Relative to its sandbox; not yet checked.
    pub path: String,
    /// From which byte.
    pub offset: u64,
}

/// Why a file is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchRefused {
    /// The launch or the file is not there (any more).
    #[error("{0}")]
    Lost(String),
    /// The task has not finished, and this is not one of its logs.
    #[error("{0}")]
    NotYet(String),
    /// No such path can be, or it leads to something else than a regular file.
    #[error("{0}")]
    Invalid(String),
    /// The agent could not read it.
    #[error("{0}")]
    Failed(String),
}

/// Opens files of sandboxes. Called on a thread that may block.
pub trait SandboxStore: Send + Sync + 'static {
    /// Opens a regular file for reading, from its beginning.
    ///
    /// # Errors
    /// Why it is not served.
    fn open(&self, file: &FetchFile) -> Result<File, FetchRefused>;
}
