//! A component's file that stays open.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use wasmtime_wasi::p2::bindings::CommandPre;

use super::{RunCommandError, TaskState};
use crate::compiled::Compiled;

/// A component's file, open: it may be removed meanwhile. Whoever runs it first reads and compiles it, the
/// others wait for that and afterwards touch the file no more. Of one engine only.
pub struct ComponentFile {
    path: PathBuf,
    file: Mutex<File>,
    command: OnceLock<CommandPre<TaskState>>,
}

impl std::fmt::Debug for ComponentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        write!(f, "ComponentFile({path})")
    }
}

impl ComponentFile {
    /// Opens it.
    ///
    /// # Errors
    /// If it is not there, or not to be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(File::open(path)?),
            command: OnceLock::new(),
        })
    }

    pub(super) fn command(
        &self,
        compiled: &Compiled<CommandPre<TaskState>>,
        make: impl FnOnce(&[u8]) -> Result<CommandPre<TaskState>, String>,
    ) -> Result<CommandPre<TaskState>, RunCommandError> {
        if let Some(command) = self.command.get() {
            return Ok(command.clone());
        }
        // Whoever panicked here has left the file at some place; reading begins at its start.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(command) = self.command.get() {
            return Ok(command.clone());
        }
        let command = compiled.by_file(&self.path, &mut file, make)?;
        Ok(self.command.get_or_init(|| command).clone())
    }
}
