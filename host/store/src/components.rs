//! Component files: plain files under their digest, written whole or not at all, checked when read.
//!
//! Where several hosts share an etcd, components are kept there too, and a host's own files are copies
//! that it makes when it needs them: no directory is shared. What nobody refers to goes from there by the
//! hand of the host that leads, from a directory by that of its host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::ComponentError;
use crate::etcd::Cluster;
use crate::leadership::Fence;

/// The largest component kept: twice what an operator may send, so that a policy of a language with
/// a large runtime still fits, and little enough to be read into memory at once.
pub const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The directory of component files. Cheap to clone; several threads may use it at once.
#[derive(Clone, Debug)]
pub struct Components {
    dir: PathBuf,
    /// Where other hosts find them.
    shared: Option<Cluster>,
    /// Under which this host leads: then it may remove what is there.
    fence: Option<Fence>,
    wanted: Arc<Mutex<Wanted>>,
}

/// What must not be removed, although nobody may refer to it yet.
#[derive(Debug, Default)]
struct Wanted {
    pinned: BTreeMap<String, usize>,
    /// Pinned or kept since the last removal began.
    touched: BTreeSet<String>,
}

/// A removal of what nobody refers to, under way.
#[derive(Debug)]
pub struct Removal {
    /// This host's own files.
    here: BTreeSet<String>,
    /// Where the hosts share them, and when each was kept last.
    shared: BTreeMap<String, i64>,
}

impl Removal {
    /// The digests of all that could be removed.
    pub fn digests(&self) -> impl Iterator<Item = &str> {
        let all: BTreeSet<&String> = self.here.iter().chain(self.shared.keys()).collect();
        all.into_iter().map(String::as_str)
    }
}

/// A component stays as long as this is held.
#[derive(Debug)]
#[must_use = "a component whose pin is dropped may be removed"]
pub struct Pin {
    digest: String,
    wanted: Arc<Mutex<Wanted>>,
}

impl Wanted {
    fn is_wanted(&self, digest: &str) -> bool {
        self.touched.contains(digest) || self.pinned.contains_key(digest)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut wanted = locked(&self.wanted);
        if let Some(pins) = wanted.pinned.get_mut(&self.digest) {
            *pins -= 1;
            if *pins == 0 {
                wanted.pinned.remove(&self.digest);
            }
        }
    }
}

/// A panic while it was held cannot have left it half changed.
fn locked(wanted: &Mutex<Wanted>) -> MutexGuard<'_, Wanted> {
    wanted.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Components {
    /// Uses this directory; it is made when the first component is kept.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            shared: None,
            fence: None,
            wanted: Arc::default(),
        }
    }

    /// Keeps components in etcd, and copies of them in this directory.
    #[must_use]
    pub fn shared(dir: PathBuf, cluster: Cluster) -> Self {
        Self {
            dir,
            shared: Some(cluster),
            fence: None,
            wanted: Arc::default(),
        }
    }

    /// Keeps a component from [`Components::remove_unused`] until whoever is to refer to it does.
    pub fn pin(&self, digest: &str) -> Pin {
        let mut wanted = locked(&self.wanted);
        *wanted.pinned.entry(digest.to_owned()).or_default() += 1;
        wanted.touched.insert(digest.to_owned());
        Pin {
            digest: digest.to_owned(),
            wanted: Arc::clone(&self.wanted),
        }
    }

    /// The same, of a host that leads: what it removes goes from etcd too, as long as it does.
    #[must_use]
    pub fn led(&self, fence: Fence) -> Self {
        Self {
            fence: Some(fence),
            ..self.clone()
        }
    }

    /// What is pinned is where other hosts find it: a host that led before may have removed it there.
    ///
    /// # Errors
    /// If it cannot be read here, or written there.
    pub fn share_pinned(&self) -> Result<(), ComponentError> {
        let Some(cluster) = &self.shared else {
            return Ok(());
        };
        let pinned: Vec<String> = locked(&self.wanted).pinned.keys().cloned().collect();
        for digest in pinned {
            // One that is pinned before it is kept is on its way there.
            if let Ok(bytes) = self.read(&digest) {
                cluster.put_component(&digest, &bytes)?;
            }
        }
        Ok(())
    }

    /// Begins a removal of what nobody refers to: all that there is here, and in etcd if this host leads.
    /// What is kept or pinned from now on stays.
    ///
    /// # Errors
    /// If the directory cannot be read, or etcd does not answer.
    pub fn begin_removal(&self) -> Result<Removal, ComponentError> {
        let mut wanted = locked(&self.wanted);
        wanted.touched = wanted.pinned.keys().cloned().collect();
        drop(wanted);
        let shared = match (&self.shared, self.fence) {
            (Some(cluster), Some(_)) => cluster.components()?,
            _ => BTreeMap::new(),
        };
        let here = self.files()?;
        Ok(Removal { here, shared })
    }

    fn files(&self) -> Result<BTreeSet<String>, ComponentError> {
        let failed = |source| ComponentError::io(&self.dir, source);
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(failed)?,
        };
        let mut digests = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let hex = name.to_str().and_then(|name| name.strip_suffix(".wasm"));
            let digest = hex.map(|hex| format!("sha256:{hex}"));
            digests.extend(digest.filter(|digest| check_digest(digest).is_ok()));
        }
        Ok(digests)
    }

    /// Removes a component, unless it was kept or pinned since the removal began; says whether it is gone.
    ///
    /// # Errors
    /// If the file cannot be removed, or etcd does not answer.
    pub fn remove_unused(&self, removal: &Removal, digest: &str) -> Result<bool, ComponentError> {
        let path = self.path(digest)?;
        if self.is_wanted(digest) {
            return Ok(false);
        }
        // Not under the lock, which nobody is to wait for as long as for etcd: whoever keeps it meanwhile has
        // put its header again, and then it stays there.
        if let (Some(cluster), Some(fence)) = (&self.shared, self.fence)
            && let Some(revision) = removal.shared.get(digest)
            && !cluster.remove_component(digest, fence, Some(*revision))?
        {
            return Ok(false);
        }
        // Held: whoever keeps it next finds it there or gone, and does not rely on what is about to go.
        let wanted = locked(&self.wanted);
        if wanted.is_wanted(digest) {
            return Ok(false);
        }
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ComponentError::io(&path, source))
            }
            _ => Ok(true),
        }
    }

    fn is_wanted(&self, digest: &str) -> bool {
        locked(&self.wanted).is_wanted(digest)
    }

    /// Keeps bytes under their digest. Durable when it returns.
    ///
    /// # Errors
    /// If the bytes do not have that digest, are too many, or cannot be written.
    pub fn put(&self, digest: &str, bytes: &[u8]) -> Result<(), ComponentError> {
        let path = self.path(digest)?;
        check(digest, bytes)?;
        if let Some(cluster) = &self.shared {
            cluster.put_component(digest, bytes)?;
        }
        self.write(&path, bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ComponentError> {
        // Also one that is fetched from the others: somebody is about to use it.
        locked(&self.wanted).touched.insert(digest_of(bytes));
        // A file that is there and whole is left alone: readers may have it open.
        if fs::read(path).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        write_whole(&self.dir, path, bytes).map_err(|source| ComponentError::io(path, source))
    }

    /// The bytes kept under a digest, checked against it.
    ///
    /// # Errors
    /// If there are none, or they have changed on disk.
    pub fn get(&self, digest: &str) -> Result<Vec<u8>, ComponentError> {
        let kept = self.read(digest);
        let Some(cluster) = self.shared.as_ref().filter(|_| kept.is_err()) else {
            return kept;
        };
        // No copy here, or a damaged one.
        let bytes = cluster.get_component(digest)?;
        self.write(&self.path(digest)?, &bytes)?;
        Ok(bytes)
    }

    fn read(&self, digest: &str) -> Result<Vec<u8>, ComponentError> {
        let path = self.path(digest)?;
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ComponentError::Unknown {
                digest: digest.to_owned(),
            },
            _ => ComponentError::io(&path, source),
        })?;
        let found = digest_of(&bytes);
        if found == digest {
            Ok(bytes)
        } else {
            Err(ComponentError::Damaged { path, found })
        }
    }

    /// Drops this host's file, if there is one.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub(crate) fn remove(&self, digest: &str) -> Result<(), ComponentError> {
        let path = self.path(digest)?;
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ComponentError::io(&path, source))
            }
            _ => Ok(()),
        }
    }

    /// Only a checked digest becomes part of a path.
    fn path(&self, digest: &str) -> Result<PathBuf, ComponentError> {
        let hex = check_digest(digest)?;
        Ok(self.dir.join(format!("{hex}.wasm")))
    }
}

/// Refuses bytes that are too many or not those of the digest.
pub(crate) fn check(digest: &str, bytes: &[u8]) -> Result<(), ComponentError> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(ComponentError::TooLarge { size: bytes.len() });
    }
    let found = digest_of(bytes);
    if found == digest {
        return Ok(());
    }
    Err(ComponentError::Mismatch {
        digest: digest.to_owned(),
        found,
    })
}

/// The hexadecimal digits of a well-formed digest.
pub(crate) fn check_digest(digest: &str) -> Result<&str, ComponentError> {
    digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b"0123456789abcdef".contains(&b)))
        .ok_or_else(|| ComponentError::NotADigest {
            digest: digest.chars().take(80).collect(),
        })
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Writes a file that is there in whole and durably, or not at all.
pub(crate) fn write_whole(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    sync_dir(dir)
}

/// Makes a directory's entries durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_or_pinned_while_a_removal_runs_stays() {
        let dir = tempfile::tempdir().unwrap();
        let components = Components::new(dir.path().join("components"));
        let all = ["pinned", "kept again", "unpinned meanwhile", "unused"];
        let digests = all.map(|text| digest_of(text.as_bytes()));
        for (digest, text) in digests.iter().zip(all) {
            components.put(digest, text.as_bytes()).unwrap();
        }
        std::fs::write(dir.path().join("components/other"), "").unwrap();
        let [pinned, kept, unpinned, unused] = &digests;
        let _pin = components.pin(pinned);
        let short = components.pin(unpinned);
        let listed = components.begin_removal().unwrap();
        let mut all_there: Vec<&str> = digests.iter().map(String::as_str).collect();
        all_there.sort_unstable();
        assert_eq!(listed.digests().collect::<Vec<_>>(), all_there);
        drop(short);
        components.put(kept, all[1].as_bytes()).unwrap();
        let removed = |removal, digest: &String| components.remove_unused(removal, digest).unwrap();
        let first = digests.each_ref().map(|digest| removed(&listed, digest));
        assert_eq!(first, [false, false, false, true]);
        assert!(components.get(unused).is_err());
        // Nobody refers to them by the next time.
        let listed = components.begin_removal().unwrap();
        let left = [pinned, kept, unpinned].map(|digest| removed(&listed, digest));
        assert_eq!(left, [false, true, true]);
    }
}
