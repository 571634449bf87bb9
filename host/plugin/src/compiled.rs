//! Components that were compiled lately, so that the thousandth task of a kind starts at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::command::RunCommandError;

/// How many components are kept ready: a job has one or two kinds of task, a runner one framework.
const KEPT_MAX: usize = 32;

/// The largest component of a task: several times a Python interpreter.
const COMPONENT_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// What was made of components, by content; files also by what tells that they have not changed.
pub(crate) struct Compiled<T> {
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    by_digest: BTreeMap<[u8; 32], Slot<T>>,
    by_file: BTreeMap<FileIdentity, [u8; 32]>,
}

/// Filled by whoever comes first; the others wait for it rather than compile the same once more: a
/// job's first tasks come all at once.
type Slot<T> = Arc<OnceLock<Result<T, String>>>;

/// A file that agrees in all of these has the same content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: Option<SystemTime>,
}

impl<T> Default for Compiled<T> {
    fn default() -> Self {
        Self {
            kept: Mutex::new(Kept {
                by_digest: BTreeMap::new(),
                by_file: BTreeMap::new(),
            }),
        }
    }
}

impl<T: Clone> Compiled<T> {
    /// What `make` makes, or has made, of the bytes of the component at this path. Blocks while they are
    /// read and compiled; so do the others.
    pub(crate) fn by_path(
        &self,
        path: &Path,
        make: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, RunCommandError> {
        let mut file = File::open(path).map_err(|source| unreadable(path, source))?;
        self.by_file(path, &mut file, make)
    }

    /// The same of a file that is open; its path is for people.
    pub(crate) fn by_file(
        &self,
        path: &Path,
        file: &mut File,
        make: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, RunCommandError> {
        let failed = |source| unreadable(path, source);
        let identity = identity_of(file).map_err(failed)?;
        let known = {
            let kept = self.kept();
            let digest = kept.by_file.get(&identity);
            digest.and_then(|digest| kept.by_digest.get(digest).cloned())
        };
        if let Some(Ok(made)) = known.as_ref().and_then(|slot| slot.get()) {
            return Ok(made.clone());
        }
        file.rewind().map_err(failed)?;
        let mut bytes = Vec::new();
        // One byte more than allowed tells that there is more.
        file.take(COMPONENT_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let (digest, made) = self.by_digest(&bytes, make)?;
        let mut kept = self.kept();
        if kept.by_file.len() >= KEPT_MAX {
            kept.by_file.clear();
        }
        kept.by_file.insert(identity, digest);
        Ok(made)
    }

    /// The same of bytes.
    pub(crate) fn by_content(
        &self,
        bytes: &[u8],
        make: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, RunCommandError> {
        self.by_digest(bytes, make).map(|(_, made)| made)
    }

    fn by_digest(
        &self,
        bytes: &[u8],
        make: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<([u8; 32], T), RunCommandError> {
        if bytes.len() as u64 > COMPONENT_BYTES_MAX {
            return Err(RunCommandError::TooLarge {
                bytes: bytes.len() as u64,
                max: COMPONENT_BYTES_MAX,
            });
        }
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let slot = {
            let mut kept = self.kept();
            if kept.by_digest.len() >= KEPT_MAX && !kept.by_digest.contains_key(&digest) {
                kept.by_digest.clear();
            }
            Arc::clone(kept.by_digest.entry(digest).or_default())
        };
        // Not under the lock: who compiles something else does not wait.
        match slot.get_or_init(|| make(bytes)) {
            Ok(made) => Ok((digest, made.clone())),
            Err(problem) => Err(RunCommandError::NotACommand {
                problem: problem.clone(),
            }),
        }
    }

    /// A panic while it was held cannot have left it half changed.
    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> RunCommandError {
    RunCommandError::Read {
        path: path.to_owned(),
        source,
    }
}

#[cfg(unix)]
fn identity_of(file: &File) -> std::io::Result<FileIdentity> {
    use std::os::unix::fs::MetadataExt;

    let metadata = file.metadata()?;
    Ok(FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        changed: metadata.modified().ok(),
    })
}
