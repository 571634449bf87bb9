//! Which format a store is in, and how an older one becomes today's.
//!
//! The number is in two places. The file `FORMAT` is read before anything opens, and perhaps repairs,
//! the database: a newer store is refused untouched. The database says it too, from format 2 on, so
//! that an upgrade and its number are one transaction. The file is written before that transaction
//! commits: between the two, an older proffer refuses the store and this one upgrades it again.
//!
//! To change a wire type or a table: raise [`FORMAT`], add a step to [`UPGRADES`], and say below what
//! the format is. A variant that is added at the end of an enum needs no work in its step
//! ([`nothing_to_rewrite`]): what was written before reads as before.
//!
//! - 1: the tables `journal` and `state`.
//! - 2: the table `about`, which says the format; facts of upgrades, skipped events, absences of
//!   agents and the times at which a host ran.
//! - 3: facts of bound outputs.
//! - 4: facts of policies that were put in, and of what they carry.
//! - 5: facts of canaries, of roles' own policies, of what is done with reservations when a framework goes,
//!   and of steps' times.

use std::fs;
use std::io;
use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition, TableHandle, WriteTransaction};

use super::{JOURNAL, STATE};
use crate::OpenStoreError;
use crate::components::write_whole;
use crate::error::DatabaseFault;

/// The format written by this build, and the newest that it reads.
pub(crate) const FORMAT: u32 = 5;

/// The format file's name, and what stands before the number in it.
pub(super) const FORMAT_FILE: &str = "FORMAT";
pub(crate) const FORMAT_PREFIX: &str = "proffer store ";

/// Words about the store itself; `format` is the only one.
const ABOUT: TableDefinition<'static, &'static str, u64> = TableDefinition::new("about");

type Upgrade = fn(&WriteTransaction) -> Result<(), DatabaseFault>;

/// What leads from each format to the next, the first from 1 to 2.
const UPGRADES: [Upgrade; FORMAT as usize - 1] = [nothing_to_rewrite; FORMAT as usize - 1];

/// For a format that only adds.
fn nothing_to_rewrite(_: &WriteTransaction) -> Result<(), DatabaseFault> {
    Ok(())
}

/// What the directory's format file says; none: there is no such file.
pub(super) fn read_file(dir: &Path) -> Result<Option<u32>, OpenStoreError> {
    let path = dir.join(FORMAT_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(not_a_store(dir, format!("its {FORMAT_FILE} is not text")));
        }
        Err(source) => return Err(OpenStoreError::io(&path, source)),
    };
    let found: u32 = text
        .trim_end()
        .strip_prefix(FORMAT_PREFIX)
        .and_then(|number| number.parse().ok())
        .filter(|&number| number > 0)
        .ok_or_else(|| {
            let why = format!("its {FORMAT_FILE} does not say '{FORMAT_PREFIX}' and a number");
            not_a_store(dir, why)
        })?;
    check(dir, u64::from(found))?;
    Ok(Some(found))
}

pub(super) fn write_file(dir: &Path) -> Result<(), OpenStoreError> {
    let path = dir.join(FORMAT_FILE);
    write_whole(dir, &path, format!("{FORMAT_PREFIX}{FORMAT}\n").as_bytes())
        .map_err(|source| OpenStoreError::io(&path, source))
}

pub(super) fn not_a_store(dir: &Path, why: String) -> OpenStoreError {
    OpenStoreError::NotAStore {
        dir: dir.to_owned(),
        why,
    }
}

fn check(dir: &Path, found: u64) -> Result<(), OpenStoreError> {
    if found > u64::from(FORMAT) {
        return Err(OpenStoreError::NewerFormat {
            dir: dir.to_owned(),
            found: u32::try_from(found).unwrap_or(u32::MAX),
            known: FORMAT,
        });
    }
    Ok(())
}

/// Makes the tables of a new database, or brings an older one to today's format, in one transaction.
/// `announce` is called before it commits.
pub(super) fn prepare(
    database: &Database,
    path: &Path,
    announce: impl FnOnce() -> Result<(), OpenStoreError>,
) -> Result<(), OpenStoreError> {
    let fault = |error: DatabaseFault| OpenStoreError::database(path, "the tables", error);
    let found = format_of(database).map_err(fault)?;
    check(path.parent().unwrap_or(path), found.unwrap_or_default())?;
    if found == Some(u64::from(FORMAT)) {
        return Ok(());
    }
    let transaction = database
        .begin_write()
        .map_err(|error| fault(error.into()))?;
    upgrade(&transaction, found).map_err(fault)?;
    announce()?;
    transaction.commit().map_err(|error| fault(error.into()))?;
    if let Some(found) = found {
        tracing::info!(found, now = FORMAT, "the store's format was upgraded");
    }
    Ok(())
}

/// None: the database is new.
fn format_of(database: &Database) -> Result<Option<u64>, DatabaseFault> {
    let transaction = database.begin_read()?;
    let tables: Vec<String> = transaction
        .list_tables()?
        .map(|table| table.name().to_owned())
        .collect();
    if tables.is_empty() {
        return Ok(None);
    }
    if !tables.iter().any(|name| name == ABOUT.name()) {
        return Ok(Some(1));
    }
    let number = transaction.open_table(ABOUT)?.get("format")?;
    match number.map(|number| number.value()) {
        Some(number) if number > 0 => Ok(Some(number)),
        _ => Err(DatabaseFault::Other(
            "the table about does not say the format".to_owned(),
        )),
    }
}

fn upgrade(transaction: &WriteTransaction, found: Option<u64>) -> Result<(), DatabaseFault> {
    match found {
        Some(found) => {
            let done = usize::try_from(found)
                .unwrap_or(usize::MAX)
                .saturating_sub(1);
            for step in UPGRADES.iter().skip(done) {
                step(transaction)?;
            }
        }
        None => {
            transaction.open_table(JOURNAL)?;
            transaction.open_table(STATE)?;
        }
    }
    let mut about = transaction.open_table(ABOUT)?;
    about.insert("format", u64::from(FORMAT))?;
    Ok(())
}
