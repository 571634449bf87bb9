//! The agent's durable memory: a file of records, appended and synced before what depends on them is
//! reported, and written anew when most of it is past.
//!
//! A record is its length, the first eight bytes of its SHA-256, and its content. A record that is cut
//! short or damaged at the end is what a crash leaves, and is dropped: nothing depended on it yet.
//! Damage anywhere else stops the agent: it must not guess what it has run.

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use cap_std::fs::{Dir, OpenOptions};
use proffer_model::{AgentId, LaunchNumber, Timestamp};
use proffer_rpc::agent::{
    RecordError, launch_from_record, launch_to_record, update_from_record, update_to_record,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::logic::{Identity, Record, StopCause};

/// The file's name in the agent's directory.
const NAME: &str = "journal";

/// A new file is written here, then renamed.
const DRAFT: &str = "journal.new";

/// First in the file; another number is another format.
const HEADER: &[u8] = b"proffer agent journal 1\n";

/// Bytes of a record before its content: length and checksum.
const FRAME: usize = 4 + CHECKSUM;

/// Enough to notice any damage that is no attack.
const CHECKSUM: usize = 8;

/// A record larger than the largest message is no record.
const RECORD_MAX: usize = 32 * 1024 * 1024;

/// Below this a file is not worth writing anew.
const COMPACT_FROM: u64 = 4 * 1024 * 1024;

/// The open file.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: Dir,
    file: std::fs::File,
    bytes: u64,
    /// Written anew past this.
    compact_at: u64,
    /// A write failed in the middle: what follows it could not be read.
    is_broken: bool,
    /// All that was written is durable.
    is_synced: bool,
}

/// A journal that threads of the disk's work share with the agent; one at a time.
#[derive(Clone, Debug)]
pub(crate) struct SharedJournal(Arc<Mutex<Journal>>);

impl SharedJournal {
    pub(crate) fn new(journal: Journal) -> Self {
        Self(Arc::new(Mutex::new(journal)))
    }

    /// A panic in the middle of a write left a record cut short, which the next reader drops; but what
    /// follows it would be dropped as well, so nothing more is written.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Journal> {
        let mut journal = match self.0.lock() {
            Ok(journal) => return journal,
            Err(poisoned) => poisoned.into_inner(),
        };
        journal.is_broken = true;
        journal
    }
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk.
    #[error("the agent's journal")]
    Disk(#[from] io::Error),
    /// It is of another version, or no journal.
    #[error("the agent's journal begins otherwise than '{}'", HEADER.escape_ascii())]
    Foreign,
    /// A record in the middle is damaged.
    #[error("the agent's journal is damaged at byte {at}: {problem}; move it away to begin anew")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong.
        problem: String,
    },
}

/// A record's content. Numbers of variants are the format: add at the end only.
#[derive(Debug, Serialize, Deserialize)]
enum Stored {
    Identity {
        agent: Option<u32>,
        key: String,
        boot: String,
    },
    Launched(Vec<Vec<u8>>),
    Started(u64),
    Stopping {
        launch: u64,
        cause: StoredCause,
        by: u64,
    },
    Updated {
        launch: u64,
        update: Vec<u8>,
    },
    Acknowledged {
        launch: u64,
        sequence: u64,
    },
    Forgotten(u64),
    ForgottenUpTo(u64),
}

#[derive(Debug, Serialize, Deserialize)]
enum StoredCause {
    Asked,
    TooLong,
    Group,
    FrameworkRemoved,
}

impl Journal {
    /// Opens the journal in a directory, or begins one; the records so far, in order.
    ///
    /// # Errors
    /// If the disk fails or the file is damaged.
    pub(crate) fn open(dir: Dir) -> Result<(Self, Vec<Record>), JournalError> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = dir.open_with(NAME, &options)?.into_std();
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        // A crash may have cut the header short.
        let (records, good) = if content.len() < HEADER.len() && HEADER.starts_with(&content) {
            file.set_len(0)?;
            file.write_all(HEADER)?;
            (Vec::new(), HEADER.len())
        } else {
            let rest = content.strip_prefix(HEADER);
            let rest = rest.ok_or(JournalError::Foreign)?;
            let (records, good) = decode(rest)?;
            (records, HEADER.len() + good)
        };
        let bytes = good as u64;
        file.set_len(bytes)?;
        file.sync_data()?;
        let journal = Self {
            dir,
            file,
            bytes,
            compact_at: COMPACT_FROM.max(bytes.saturating_mul(2)),
            is_broken: false,
            is_synced: true,
        };
        Ok((journal, records))
    }

    /// Adds records. They outlive this process, and are durable after the next [`Journal::sync`].
    ///
    /// # Errors
    /// If the disk fails. Nothing that depends on them may happen then.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let content = encode(records)?;
        if self.is_broken {
            return Err(io::Error::other("a write failed before").into());
        }
        self.is_broken = true;
        self.is_synced = false;
        self.file.write_all(&content)?;
        self.is_broken = false;
        self.bytes += content.len() as u64;
        Ok(())
    }

    /// Makes durable what was added.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn sync(&mut self) -> Result<(), JournalError> {
        if !self.is_synced {
            // What a failed sync has lost a later one would not bring back.
            let was_broken = std::mem::replace(&mut self.is_broken, true);
            self.file.sync_data()?;
            self.is_broken = was_broken;
            self.is_synced = true;
        }
        Ok(())
    }

    /// Whether anything waits to be made durable.
    #[must_use]
    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Whether most of the file may be past.
    #[must_use]
    pub(crate) fn wants_compacting(&self) -> bool {
        self.bytes >= self.compact_at
    }

    /// Puts these records in the place of all before.
    ///
    /// # Errors
    /// If the disk fails; the old file is then still there.
    pub(crate) fn replace(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let content = [HEADER, &encode(records)?].concat();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let draft = self.dir.open_with(DRAFT, &options)?;
        draft.set_len(0)?;
        let mut draft = draft.into_std();
        draft.write_all(&content)?;
        draft.sync_data()?;
        self.dir.rename(DRAFT, &self.dir, NAME)?;
        self.dir.open(".")?.sync_all()?;
        self.file = draft;
        self.bytes = content.len() as u64;
        self.compact_at = COMPACT_FROM.max(self.bytes.saturating_mul(2));
        self.is_synced = true;
        Ok(())
    }
}

/// What is appended to the file for these records.
///
/// # Errors
/// If a record cannot be encoded.
pub fn encode(records: &[Record]) -> Result<Vec<u8>, JournalError> {
    let mut content = Vec::new();
    for record in records {
        frame(record, &mut content)?;
    }
    Ok(content)
}

fn frame(record: &Record, content: &mut Vec<u8>) -> Result<(), JournalError> {
    let stored = postcard::to_stdvec(&to_stored(record)).map_err(io::Error::other)?;
    let length = u32::try_from(stored.len()).map_err(io::Error::other)?;
    content.extend_from_slice(&length.to_le_bytes());
    content.extend_from_slice(&Sha256::digest(&stored)[..CHECKSUM]);
    content.extend_from_slice(&stored);
    Ok(())
}

/// The records of what was appended, and how many bytes of it are whole: the end may be cut short.
///
/// # Errors
/// If a record before the last is damaged.
pub fn decode(content: &[u8]) -> Result<(Vec<Record>, usize), JournalError> {
    let mut records = Vec::new();
    let mut at = 0;
    while let Some((head, rest)) = content[at..].split_at_checked(FRAME) {
        let (length, checksum) = head.split_at(4);
        let length: [u8; 4] = length.try_into().unwrap_or_default();
        let length = u32::from_le_bytes(length) as usize;
        let stored = rest.get(..length).filter(|_| length <= RECORD_MAX);
        let damaged = |problem: String| JournalError::Damaged {
            at: (HEADER.len() + at) as u64,
            problem,
        };
        let Some(stored) = stored else {
            if holds_a_record(rest) {
                return Err(damaged("a length is wrong".to_owned()));
            }
            break;
        };
        if Sha256::digest(stored)[..CHECKSUM] != *checksum {
            if rest.len() == length {
                break;
            }
            return Err(damaged("a checksum is wrong".to_owned()));
        }
        let stored: Stored =
            postcard::from_bytes(stored).map_err(|error| damaged(error.to_string()))?;
        records.push(from_stored(stored).map_err(|error| damaged(error.to_string()))?);
        at += FRAME + length;
    }
    Ok((records, at))
}

/// Whether a whole record begins anywhere in these bytes: then what is before it was not cut short by a
/// crash.
fn holds_a_record(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|from| {
        let Some((head, rest)) = bytes[from..].split_at_checked(FRAME) else {
            return false;
        };
        let (length, checksum) = head.split_at(4);
        let length: [u8; 4] = length.try_into().unwrap_or_default();
        let stored = rest.get(..u32::from_le_bytes(length) as usize);
        stored.is_some_and(|stored| Sha256::digest(stored)[..CHECKSUM] == *checksum)
    })
}

fn to_stored(record: &Record) -> Stored {
    match record {
        Record::Identity(Identity { agent, key, boot }) => Stored::Identity {
            agent: agent.map(|agent| agent.0),
            key: key.clone(),
            boot: boot.clone(),
        },
        Record::Launched(launches) => Stored::Launched(
            launches
                .iter()
                .map(|launch| launch_to_record(launch))
                .collect(),
        ),
        Record::Started(launch) => Stored::Started(launch.0),
        Record::Stopping { launch, cause, by } => Stored::Stopping {
            launch: launch.0,
            cause: match cause {
                StopCause::Asked => StoredCause::Asked,
                StopCause::TooLong => StoredCause::TooLong,
                StopCause::Group => StoredCause::Group,
                StopCause::FrameworkRemoved => StoredCause::FrameworkRemoved,
            },
            by: by.0,
        },
        Record::Updated { launch, update } => Stored::Updated {
            launch: launch.0,
            update: update_to_record(update),
        },
        Record::Acknowledged { launch, sequence } => Stored::Acknowledged {
            launch: launch.0,
            sequence: *sequence,
        },
        Record::Forgotten(launch) => Stored::Forgotten(launch.0),
        Record::ForgottenUpTo(launch) => Stored::ForgottenUpTo(launch.0),
    }
}

fn from_stored(stored: Stored) -> Result<Record, RecordError> {
    Ok(match stored {
        Stored::Identity { agent, key, boot } => Record::Identity(Identity {
            agent: agent.map(AgentId),
            key,
            boot,
        }),
        Stored::Launched(launches) => Record::Launched(
            launches
                .iter()
                .map(|launch| launch_from_record(launch).map(Arc::new))
                .collect::<Result<_, _>>()?,
        ),
        Stored::Started(launch) => Record::Started(LaunchNumber(launch)),
        Stored::Stopping { launch, cause, by } => Record::Stopping {
            launch: LaunchNumber(launch),
            cause: match cause {
                StoredCause::Asked => StopCause::Asked,
                StoredCause::TooLong => StopCause::TooLong,
                StoredCause::Group => StopCause::Group,
                StoredCause::FrameworkRemoved => StopCause::FrameworkRemoved,
            },
            by: Timestamp(by),
        },
        Stored::Updated { launch, update } => Record::Updated {
            launch: LaunchNumber(launch),
            update: Arc::new(update_from_record(&update)?),
        },
        Stored::Acknowledged { launch, sequence } => Record::Acknowledged {
            launch: LaunchNumber(launch),
            sequence,
        },
        Stored::Forgotten(launch) => Record::Forgotten(LaunchNumber(launch)),
        Stored::ForgottenUpTo(launch) => Record::ForgottenUpTo(LaunchNumber(launch)),
    })
}
