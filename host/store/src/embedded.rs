//! The embedded backend: one redb file, beside it the component files and a line that says which
//! format they are in.
//!
//! An older format is upgraded when the store is opened; see `format`.

mod format;

use std::fs;
use std::ops::Bound;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proffer_model::FrameworkId;
use proffer_model::fact::Fact;
use proffer_model::framework::StateWrite;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, WriteTransaction,
};

use crate::components::sync_dir;
use crate::error::DatabaseFault;
use crate::wire;
use crate::{ComponentError, Components, OpenStoreError, Recovered, Store, WriteStoreError};

pub(crate) use format::{FORMAT, FORMAT_PREFIX};

/// The database's name.
const FACTS_FILE: &str = "facts.redb";

/// Where component files go.
const COMPONENTS_DIR: &str = "components";

/// Pages kept in memory. The journal is only ever appended to, and state is served from the host's
/// memory: what helps is the right edge of two trees, not a gigabyte (redb's default).
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Facts by their number.
const JOURNAL: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("journal");

/// State by framework and key.
const STATE: TableDefinition<'static, (u32, &'static str), &'static [u8]> =
    TableDefinition::new("state");

/// The embedded store, open. The file is locked while this lives.
#[derive(Debug)]
pub struct Embedded {
    database: Database,
    path: PathBuf,
    components: Components,
    /// The number of the next fact.
    next: u64,
    len: u64,
    stopped: bool,
}

/// Opens the store in `dir`, or makes an empty one if there is none, and reads all of it.
///
/// Every page's checksum is verified, so the time is that of reading the file once.
///
/// # Errors
/// If it is in use, of a newer format, damaged or out of reach; it is left as it is then.
pub fn open(dir: &Path) -> Result<(Embedded, Recovered), OpenStoreError> {
    prepare_dir(dir)?;
    let path = dir.join(FACTS_FILE);
    let database = builder()
        .create(&path)
        .map_err(|error| OpenStoreError::database(&path, "opening", error.into()))?;
    sync_dir(dir).map_err(|source| OpenStoreError::io(dir, source))?;
    format::prepare(&database, &path, || format::write_file(dir))?;
    Embedded::load(database, path, Components::new(dir.join(COMPONENTS_DIR)))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

/// Makes the directory if need be, and checks the format before anything else is touched.
fn prepare_dir(dir: &Path) -> Result<(), OpenStoreError> {
    let at = |source| OpenStoreError::io(dir, source);
    // The owner's only: facts hold configurations, which may hold secrets.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(at)?;
    if format::read_file(dir)?.is_some() {
        return Ok(());
    }
    if dir.join(FACTS_FILE).exists() {
        let why = format!("it has a {FACTS_FILE} but no {}", format::FORMAT_FILE);
        return Err(format::not_a_store(dir, why));
    }
    format::write_file(dir)
}

impl Embedded {
    /// The component files, for threads other than the store's.
    #[must_use]
    pub fn components(&self) -> &Components {
        &self.components
    }

    fn load(
        database: Database,
        path: PathBuf,
        components: Components,
    ) -> Result<(Self, Recovered), OpenStoreError> {
        let mut recovered = Recovered::default();
        let next = read_facts(&database, &path, &mut recovered)?;
        read_states(&database, &mut recovered)
            .map_err(|error| OpenStoreError::database(&path, "the state table", error))?;
        let len = recovered.facts.len() as u64;
        tracing::info!(
            facts = len,
            frameworks = recovered.states.len(),
            "store opened"
        );
        let store = Self {
            database,
            path,
            components,
            next,
            len,
            stopped: false,
        };
        Ok((store, recovered))
    }

    /// One durable transaction. A failure stops the store: the host must not go on as if it knew
    /// what is on disk.
    fn transact(
        &mut self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), WorkError>,
    ) -> Result<(), WriteStoreError> {
        if self.stopped {
            return Err(WriteStoreError::Stopped {
                path: self.path.clone(),
            });
        }
        let outcome = self
            .database
            .begin_write()
            .map_err(|error| WorkError::Database(error.into()))
            .and_then(|transaction| {
                work(&transaction)?;
                transaction
                    .commit()
                    .map_err(|error| WorkError::Database(error.into()))
            });
        outcome.map_err(|error| {
            self.stopped = true;
            match error {
                WorkError::Database(fault) => WriteStoreError::database(&self.path, fault),
                WorkError::Encode(why) => WriteStoreError::Encode { why },
            }
        })
    }
}

/// What can fail in a transaction.
enum WorkError {
    Database(DatabaseFault),
    Encode(String),
}

impl<E: Into<DatabaseFault>> From<E> for WorkError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// Reads the journal into `recovered`; the number of the next fact.
fn read_facts(
    database: &Database,
    path: &Path,
    recovered: &mut Recovered,
) -> Result<u64, OpenStoreError> {
    let fault = |error: DatabaseFault| OpenStoreError::database(path, "the journal", error);
    let transaction = database.begin_read().map_err(|error| fault(error.into()))?;
    let journal = transaction
        .open_table(JOURNAL)
        .map_err(|error| fault(error.into()))?;
    let mut last: Option<u64> = None;
    recovered
        .facts
        .reserve(usize::try_from(journal.len().map_err(|error| fault(error.into()))?).unwrap_or(0));
    for row in journal.iter().map_err(|error| fault(error.into()))? {
        let (number, bytes) = row.map_err(|error| fault(error.into()))?;
        let number = number.value();
        let damaged = |why: String| OpenStoreError::Damaged {
            path: path.to_owned(),
            place: format!("fact {number} of the journal"),
            why,
        };
        if last.is_some_and(|last| last.checked_add(1) != Some(number)) {
            return Err(damaged("the facts before it are missing".to_owned()));
        }
        last = Some(number);
        let fact = wire::decode(bytes.value()).map_err(|error| damaged(error.to_string()))?;
        recovered.facts.push(fact);
    }
    Ok(last.map_or(0, |last| last.saturating_add(1)))
}

fn read_states(database: &Database, recovered: &mut Recovered) -> Result<(), DatabaseFault> {
    let transaction = database.begin_read()?;
    for row in transaction.open_table(STATE)?.iter()? {
        let (key, value) = row?;
        let (framework, key) = key.value();
        recovered
            .states
            .entry(FrameworkId(framework))
            .or_default()
            .insert(key.to_owned(), Arc::from(value.value()));
    }
    Ok(())
}

type StateTable<'t> = Table<'t, (u32, &'static str), &'static [u8]>;

/// Applies what a fact says of state.
fn apply_state(state: &mut StateTable<'_>, fact: &Fact) -> Result<(), DatabaseFault> {
    match fact {
        Fact::StepCommitted(step) => {
            let framework = step.framework.0;
            for write in &step.writes {
                match write {
                    StateWrite::Set(key, value) => {
                        state.insert((framework, key.as_str()), &**value)?;
                    }
                    StateWrite::Delete(key) => {
                        state.remove((framework, key.as_str()))?;
                    }
                    StateWrite::DeleteRange(begin, end) => {
                        remove_range(state, framework, begin, end)?;
                    }
                }
            }
        }
        Fact::FrameworkRemoved { framework } => remove_range(state, framework.0, "", "")?,
        _ => {}
    }
    Ok(())
}

/// Removes a framework's keys from `begin` up to and without `end`; an empty `end` is no bound.
fn remove_range(
    state: &mut StateTable<'_>,
    framework: u32,
    begin: &str,
    end: &str,
) -> Result<(), DatabaseFault> {
    let upper = match (end.is_empty(), framework.checked_add(1)) {
        (false, _) if end <= begin => return Ok(()),
        (false, _) => Bound::Excluded((framework, end)),
        (true, Some(following)) => Bound::Excluded((following, "")),
        (true, None) => Bound::Unbounded,
    };
    state
        .retain_in::<(u32, &str), _>((Bound::Included((framework, begin)), upper), |_, _| false)?;
    Ok(())
}

impl Store for Embedded {
    fn append(&mut self, facts: &[Fact]) -> Result<(), WriteStoreError> {
        if facts.is_empty() {
            return Ok(());
        }
        let first = self.next;
        self.transact(|transaction| {
            let mut journal = transaction.open_table(JOURNAL)?;
            let mut state = transaction.open_table(STATE)?;
            for (number, fact) in (first..).zip(facts) {
                let bytes =
                    wire::encode(fact).map_err(|error| WorkError::Encode(error.to_string()))?;
                journal.insert(number, bytes.as_slice())?;
                apply_state(&mut state, fact)?;
            }
            Ok(())
        })?;
        self.next = first + facts.len() as u64;
        self.len += facts.len() as u64;
        Ok(())
    }

    fn snapshot(&mut self, facts: &[Fact]) -> Result<(), WriteStoreError> {
        let first = self.next;
        self.transact(|transaction| {
            transaction.delete_table(JOURNAL)?;
            let mut journal = transaction.open_table(JOURNAL)?;
            for (number, fact) in (first..).zip(facts) {
                let bytes =
                    wire::encode(fact).map_err(|error| WorkError::Encode(error.to_string()))?;
                journal.insert(number, bytes.as_slice())?;
            }
            Ok(())
        })?;
        self.next = first + facts.len() as u64;
        self.len = facts.len() as u64;
        Ok(())
    }

    fn journal_len(&self) -> u64 {
        self.len
    }

    fn put_blob(&self, digest: &str, bytes: &[u8]) -> Result<(), ComponentError> {
        self.components.put(digest, bytes)
    }

    fn get_blob(&self, digest: &str) -> Result<Vec<u8>, ComponentError> {
        self.components.get(digest)
    }

    fn remove_blob(&self, digest: &str) -> Result<(), ComponentError> {
        self.components.remove(digest)
    }
}

#[cfg(test)]
mod tests;
