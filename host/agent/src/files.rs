//! Which files of sandboxes others may have: all of a task that finished, the logs of any.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use proffer_model::{FrameworkId, LaunchNumber};
use proffer_rpc::data::{FetchFile, FetchRefused, SandboxStore};
use rustix::fs::OFlags;

use crate::logic::is_plain_path;
use crate::sandbox::Sandboxes;

/// Logs can be read while a task runs and after it failed.
const LOGS: [&str; 2] = ["stdout", "stderr"];

/// What a log that was never written to is read from.
const NOTHING: &str = "/dev/null";

/// Serves files of sandboxes. Clones serve the same.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    sandboxes: Arc<Sandboxes>,
    index: Arc<Mutex<BTreeMap<LaunchNumber, Entry>>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    framework: FrameworkId,
    /// None while it has not ended.
    finished: Option<bool>,
}

impl Files {
    pub(crate) fn new(sandboxes: Arc<Sandboxes>) -> Self {
        Self {
            sandboxes,
            index: Arc::default(),
        }
    }

    /// A launch and where it stands; none: it has not ended.
    pub(crate) fn set(&self, launch: LaunchNumber, framework: FrameworkId, finished: Option<bool>) {
        let entry = Entry {
            framework,
            finished,
        };
        self.index().insert(launch, entry);
    }

    /// A launch that was set before has ended.
    pub(crate) fn end(&self, launch: LaunchNumber, finished: bool) -> Option<FrameworkId> {
        let mut index = self.index();
        let entry = index.get_mut(&launch)?;
        entry.finished = Some(finished);
        Some(entry.framework)
    }

    /// Whether a launch was set and has not ended.
    pub(crate) fn is_open(&self, launch: LaunchNumber) -> bool {
        let index = self.index();
        index
            .get(&launch)
            .is_some_and(|entry| entry.finished.is_none())
    }

    pub(crate) fn remove(&self, launch: LaunchNumber) {
        self.index().remove(&launch);
    }

    /// A panic while it was held cannot have left it half changed.
    fn index(&self) -> MutexGuard<'_, BTreeMap<LaunchNumber, Entry>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SandboxStore for Files {
    fn open(&self, file: &FetchFile) -> Result<File, FetchRefused> {
        let FetchFile { launch, path, .. } = file;
        if !is_plain_path(path) {
            return Err(FetchRefused::Invalid(format!(
                "'{}' is not a path in a sandbox",
                path.escape_debug()
            )));
        }
        let entry = self.index().get(launch).copied();
        let Some(Entry {
            framework,
            finished,
        }) = entry
        else {
            return Err(FetchRefused::Lost(format!(
                "the sandbox of {launch} is not on this agent (any more)"
            )));
        };
        if finished != Some(true) && !LOGS.contains(&path.as_str()) {
            let problem = match finished {
                None => "has not ended",
                Some(_) => "ended badly",
            };
            return Err(FetchRefused::NotYet(format!(
                "{launch} {problem}: only its stdout and stderr can be read"
            )));
        }
        let opened = self
            .sandboxes
            .work(framework, *launch)
            .and_then(|work| open_regular(&work, path));
        let opened = match opened {
            // A component's log is made when it first writes to it.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && LOGS.contains(&path.as_str()) =>
            {
                File::open(NOTHING)
            }
            opened => opened,
        };
        opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                FetchRefused::Lost(format!("there is no '{path}' in the sandbox of {launch}"))
            }
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::IsADirectory => FetchRefused::Invalid(format!(
                "'{path}' of {launch} is no regular file inside its sandbox"
            )),
            _ => FetchRefused::Failed(format!("'{path}' of {launch}: {error}")),
        })
    }
}

/// Opens a regular file below a directory: links that lead out are refused, and a pipe that a task left
/// there does not block.
pub(crate) fn open_regular(dir: &Dir, path: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = dir.open_with(path, &options)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    Ok(file.into_std())
}
