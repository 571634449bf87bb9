//! Component files: plain files under their digest, written whole or not at all, checked when read.
//!
//! Where several hosts share an etcd, components are kept there too, and a host's own files are copies
//! that it makes when it needs them: no directory is shared.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::ComponentError;
use crate::etcd::Cluster;

/// The largest component kept: twice what an operator may send, so that a policy of a language with
/// a large runtime still fits, and little enough to be read into memory at once.
pub const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The directory of component files. Cheap to clone; several threads may use it at once.
#[derive(Clone, Debug)]
pub struct Components {
    dir: PathBuf,
    /// Where other hosts find them.
    shared: Option<Cluster>,
}

impl Components {
    /// Uses this directory; it is made when the first component is kept.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, shared: None }
    }

    /// Keeps components in etcd, and copies of them in this directory.
    #[must_use]
    pub fn shared(dir: PathBuf, cluster: Cluster) -> Self {
        Self {
            dir,
            shared: Some(cluster),
        }
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

    /// Drops the bytes kept under a digest, if there are any.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn remove(&self, digest: &str) -> Result<(), ComponentError> {
        let path = self.path(digest)?;
        if let Some(cluster) = &self.shared {
            cluster.remove_component(digest)?;
        }
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
