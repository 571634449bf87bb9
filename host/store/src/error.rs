//! What can go wrong with a store, and whose doing it is.

use std::io;
use std::path::{Path, PathBuf};

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

use crate::etcd::EtcdError;

/// Why a store was not opened. Nothing in the directory was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// Another process has it.
    #[error("the store in {} is in use: is another proffer host using this directory? End it, or give this one another --data directory", dir.display())]
    InUse {
        /// The store's directory.
        dir: PathBuf,
    },
    /// It was written by a newer host.
    #[error(
        "the store in {} has format {found}, and this proffer knows formats up to {known}: use the newer proffer that wrote it, or another --data directory",
        dir.display()
    )]
    NewerFormat {
        /// The store's directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that this build reads.
        known: u32,
    },
    /// The directory holds something, but not a store.
    #[error("{} is not a proffer store: {why}; give another --data directory", dir.display())]
    NotAStore {
        /// The directory.
        dir: PathBuf,
        /// What is there instead.
        why: String,
    },
    /// What is there cannot be read back.
    #[error(
        "the store is damaged: {} at {place}: {why}; nothing was changed: restore the file from a backup, or start with an empty --data directory",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: String,
        /// What is wrong there.
        why: String,
    },
    /// There is no room to open it.
    #[error("no space left on the disk of {}: free some and start again", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot open the store at {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        #[source]
        source: io::Error,
    },
}

/// Why facts were not made durable.
#[derive(Debug, thiserror::Error)]
pub enum WriteStoreError {
    /// There is no room.
    #[error(
        "no space left on the disk of {}: the facts were not written; free some space and start the host again",
        path.display()
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot write the store at {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        #[source]
        source: io::Error,
    },
    /// A page read back is not what was written.
    #[error("the store is damaged: {}: {why}; restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A fact has no wire form: a bug of the host.
    #[error("a fact cannot be encoded: {why}")]
    Encode {
        /// The encoder's words.
        why: String,
    },
    /// Somebody else leads by now, or this host cannot know that nobody does.
    #[error("this host does not lead any more: {store} takes no write of it")]
    Deposed {
        /// Which store.
        store: String,
    },
    /// etcd.
    #[error("the facts were not written")]
    Etcd(#[source] EtcdError),
    /// An earlier write failed.
    #[error(
        "the store at {} takes no more writes since one failed; start the host again",
        path.display()
    )]
    Stopped {
        /// The file.
        path: PathBuf,
    },
}

/// What went wrong with a component's file.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The name is not a digest.
    #[error("'{digest}' is not a digest: wanted sha256: and 64 hexadecimal digits in lower case")]
    NotADigest {
        /// As given.
        digest: String,
    },
    /// The bytes are not those of the digest.
    #[error("the bytes given for {digest} have the digest {found}")]
    Mismatch {
        /// The digest wanted.
        digest: String,
        /// The one that they have.
        found: String,
    },
    /// Too many bytes.
    #[error(
        "a component of {size} bytes is over the limit of {} bytes",
        crate::COMPONENT_BYTES_MAX
    )]
    TooLarge {
        /// How many.
        size: usize,
    },
    /// There is none.
    #[error("no component with digest {digest} is kept: add it again with `proffer framework run`")]
    Unknown {
        /// The digest.
        digest: String,
    },
    /// The file has changed since it was written.
    #[error("the component file {} is damaged: its digest is {found}; remove it and add the component again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What its bytes amount to now.
        found: String,
    },
    /// etcd.
    #[error("the component cannot be read or written")]
    Etcd(#[source] EtcdError),
    /// There is no room.
    #[error("no space left on the disk of {}: the component was not kept; free some and try again", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot read or write the component file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        #[source]
        source: io::Error,
    },
}

impl ComponentError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_disk_full(&source) {
            Self::DiskFull { path }
        } else {
            Self::Io { path, source }
        }
    }
}

impl OpenStoreError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_disk_full(&source) {
            Self::DiskFull { path }
        } else {
            Self::Io { path, source }
        }
    }

    /// `place`: what was being read.
    pub(crate) fn database(path: &Path, place: &str, error: DatabaseFault) -> Self {
        match error {
            DatabaseFault::InUse => Self::InUse {
                dir: path.parent().unwrap_or(path).to_owned(),
            },
            DatabaseFault::Io(source) => Self::io(path, source),
            DatabaseFault::Other(why) => Self::Damaged {
                path: path.to_owned(),
                place: place.to_owned(),
                why,
            },
        }
    }
}

impl WriteStoreError {
    pub(crate) fn database(path: &Path, error: DatabaseFault) -> Self {
        let path = path.to_owned();
        match error {
            DatabaseFault::Io(source) if is_disk_full(&source) => Self::DiskFull { path },
            DatabaseFault::Io(source) => Self::Io { path, source },
            DatabaseFault::InUse => Self::Stopped { path },
            DatabaseFault::Other(why) => Self::Damaged { path, why },
        }
    }
}

/// The database's many error types, as far as anybody can do something about them.
#[derive(Debug)]
pub(crate) enum DatabaseFault {
    InUse,
    Io(io::Error),
    Other(String),
}

impl From<StorageError> for DatabaseFault {
    fn from(error: StorageError) -> Self {
        match error {
            // How redb says that what it read is no database of its own.
            StorageError::Io(source)
                if matches!(
                    source.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::Other(source.to_string())
            }
            StorageError::Io(source) => Self::Io(source),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<DatabaseError> for DatabaseFault {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Self::InUse,
            DatabaseError::Storage(storage) => storage.into(),
            other => Self::Other(other.to_string()),
        }
    }
}

macro_rules! storage_or_text {
    ($($error:ident),*) => {$(
        impl From<$error> for DatabaseFault {
            fn from(error: $error) -> Self {
                match error {
                    $error::Storage(storage) => storage.into(),
                    other => Self::Other(other.to_string()),
                }
            }
        }
    )*};
}

storage_or_text!(TableError, TransactionError, CommitError);

fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        // The last: a limit on the size of files that this process was started with.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
