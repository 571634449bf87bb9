//! One file of a sandbox being written: limited in size, its digest checked, read-only at the end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};
use proffer_model::agent::ResolvedInput;
use sha2::{Digest, Sha256};

/// The only kind of digest.
const SHA256: &str = "sha256:";

/// Read at once when copying.
const BLOCK_BYTES: usize = 256 * 1024;

/// A file that is not yet what it will be. Dropped before [`Place::finish`], it stays as it is: its
/// sandbox is not used then.
#[derive(Debug)]
pub(super) struct Place {
    file: File,
    /// None: nobody asked.
    digest: Option<(String, Sha256)>,
    written: u64,
    bytes_max: u64,
    mode: u32,
}

/// Why a file could not be put in its place.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    /// The disk.
    #[error("it cannot be written: {0}")]
    Disk(#[from] io::Error),
    /// Where it comes from.
    #[error("it cannot be read: {0}")]
    Source(io::Error),
    /// Too large.
    #[error("it is larger than {0} bytes, the most that this agent takes")]
    TooLarge(u64),
    /// It is not what was wanted.
    #[error("its digest is sha256:{found}, and sha256:{wanted} was wanted")]
    Digest { wanted: String, found: String },
    /// What was wanted is no digest.
    #[error("'{0}' is not a digest; wanted sha256: and 64 hex digits")]
    NotADigest(String),
}

impl Place {
    /// A new file at this path.
    pub(super) fn new(
        dir: Dir,
        path: &str,
        input: &ResolvedInput,
        bytes_max: u64,
    ) -> Result<Self, PlaceError> {
        let digest = match input.digest.as_str() {
            "" => None,
            text => Some((wanted(text)?, Sha256::new())),
        };
        if let Some(parent) = Path::new(path).parent() {
            dir.create_dir_all(parent)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        Ok(Self {
            file: dir.open_with(path, &options)?.into_std(),
            digest,
            written: 0,
            bytes_max,
            mode: if input.marks.executable { 0o555 } else { 0o444 },
        })
    }

    /// Refuses a size before any of it comes.
    pub(super) fn expect(&self, bytes: u64) -> Result<(), PlaceError> {
        if bytes > self.bytes_max {
            return Err(PlaceError::TooLarge(self.bytes_max));
        }
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), PlaceError> {
        self.written += bytes.len() as u64;
        self.expect(self.written)?;
        if let Some((_, digest)) = &mut self.digest {
            digest.update(bytes);
        }
        Ok(self.file.write_all(bytes)?)
    }

    /// Writes all that a reader has.
    pub(super) fn copy(mut self, mut from: impl Read) -> Result<(), PlaceError> {
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            match from.read(&mut block) {
                Ok(0) => return self.finish(),
                Ok(read) => self.write(&block[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PlaceError::Source(error)),
            }
        }
    }

    /// All is written: checks it and takes the right to write.
    pub(super) fn finish(self) -> Result<(), PlaceError> {
        if let Some((wanted, digest)) = self.digest {
            let found = hex::encode(digest.finalize());
            if found != wanted {
                return Err(PlaceError::Digest { wanted, found });
            }
        }
        let sealed = Permissions::from_mode(self.mode);
        cap_std::fs::File::from_std(self.file).set_permissions(sealed)?;
        Ok(())
    }
}

fn wanted(text: &str) -> Result<String, PlaceError> {
    let digits = text.strip_prefix(SHA256).unwrap_or_default();
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(PlaceError::NotADigest(text.chars().take(100).collect()));
    }
    Ok(digits.to_ascii_lowercase())
}
