//! What the embedded backend promises of its files: nothing lost, nothing torn, nothing guessed.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::format::FORMAT_FILE;
use super::*;
use crate::wire::random::Random;

fn open_error(dir: &Path) -> String {
    open(dir).map(|_| ()).unwrap_err().to_string()
}

fn load(backend: impl StorageBackend) -> Result<(Embedded, Recovered), OpenStoreError> {
    let database = builder()
        .create_with_backend(backend)
        .map_err(|error| OpenStoreError::database(Path::new("x"), "opening", error.into()))?;
    format::prepare(&database, Path::new("x"), || Ok(()))?;
    Embedded::load(database, "x".into(), Components::new("x".into()))
}

#[test]
fn a_second_process_is_refused_and_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    let error = open_error(dir.path());
    assert!(
        error.contains("is another proffer host using this directory?"),
        "{error}"
    );
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
    drop(store);
    open(dir.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    fs::write(dir.path().join(FORMAT_FILE), "proffer store 9\n").unwrap();
    let before = fs::read(dir.path().join(FACTS_FILE)).unwrap();
    let error = open_error(dir.path());
    assert!(
        error.contains("has format 9, and this proffer knows formats up to 5"),
        "{error}"
    );
    assert_eq!(fs::read(dir.path().join(FACTS_FILE)).unwrap(), before);
}

/// A store as format 1 had it: no table `about`, and FORMAT says 1.
fn make_format_1(dir: &Path) -> Vec<Fact> {
    let facts = Random::new(9).facts(50);
    let (mut store, _) = open(dir).unwrap();
    store.append(&facts).unwrap();
    store
        .transact(|transaction| {
            let gone = transaction
                .delete_table(TableDefinition::<&str, u64>::new("about"))
                .unwrap();
            assert!(gone);
            Ok(())
        })
        .unwrap();
    drop(store);
    fs::write(dir.join(FORMAT_FILE), "proffer store 1\n").unwrap();
    facts
}

#[test]
fn an_older_store_is_upgraded_and_then_refused_by_the_older_proffer() {
    let dir = tempfile::tempdir().unwrap();
    let facts = make_format_1(dir.path());
    let format = || fs::read_to_string(dir.path().join(FORMAT_FILE)).unwrap();
    let (store, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered.facts, facts);
    assert_eq!(format(), "proffer store 5\n");
    drop(store);
    assert_eq!(open(dir.path()).unwrap().1.facts, facts);
    // The process may die between the file and the commit: the next one finishes.
    let facts = make_format_1(&dir.path().join("b"));
    fs::write(dir.path().join("b").join(FORMAT_FILE), "proffer store 5\n").unwrap();
    assert_eq!(open(&dir.path().join("b")).unwrap().1.facts, facts);
}

#[test]
fn an_upgrade_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    make_format_1(dir.path());
    let before = fs::read_to_string(dir.path().join(FORMAT_FILE)).unwrap();
    let path = dir.path().join(FACTS_FILE);
    let database = builder().create(&path).unwrap();
    let refuse = || Err(format::not_a_store(Path::new("x"), "no".to_owned()));
    format::prepare(&database, &path, refuse).unwrap_err();
    let tables = database
        .begin_read()
        .unwrap()
        .list_tables()
        .unwrap()
        .count();
    assert_eq!(tables, 2);
    drop(database);
    assert_eq!(
        fs::read_to_string(dir.path().join(FORMAT_FILE)).unwrap(),
        before
    );
    open(dir.path()).unwrap();
}

#[test]
fn a_database_of_a_newer_format_is_refused_whatever_its_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path()).unwrap();
    store
        .transact(|transaction| {
            let mut about = transaction.open_table(TableDefinition::<&str, u64>::new("about"))?;
            about.insert("format", 7)?;
            Ok(())
        })
        .unwrap();
    drop(store);
    let error = open_error(dir.path());
    assert!(error.contains("has format 7"), "{error}");
}

#[test]
fn directories_that_are_not_stores_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FACTS_FILE), "someone's own file").unwrap();
    let error = open_error(dir.path());
    assert!(
        error.contains("it has a facts.redb but no FORMAT"),
        "{error}"
    );
    fs::write(dir.path().join(FORMAT_FILE), "hello").unwrap();
    let error = open_error(dir.path());
    assert!(error.contains("does not say 'proffer store '"), "{error}");
    fs::write(dir.path().join(FORMAT_FILE), "proffer store 1").unwrap();
    let error = open_error(dir.path());
    assert!(error.contains("facts.redb at opening"), "{error}");
    assert_eq!(
        fs::read(dir.path().join(FACTS_FILE)).unwrap(),
        b"someone's own file"
    );
}

#[test]
fn a_changed_byte_anywhere_in_what_is_kept_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path()).unwrap();
    let facts = Random::new(3).facts(200);
    store.append(&facts).unwrap();
    drop(store);
    let path = dir.path().join(FACTS_FILE);
    let whole = fs::read(&path).unwrap();
    let mut damaged = 0;
    // What nothing refers to may change unnoticed; whatever opens is what was written.
    for at in (4_096..whole.len()).step_by(997) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        match open(dir.path()) {
            Ok((_, recovered)) => assert_eq!(recovered.facts, facts, "byte {at}"),
            Err(OpenStoreError::Damaged { path: named, .. }) => {
                assert_eq!(named, path);
                damaged += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(damaged > 10, "only {damaged} changes noticed");
}

#[test]
fn a_fact_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path()).unwrap();
    store.append(&Random::new(3).facts(3)).unwrap();
    store
        .transact(|transaction| {
            transaction
                .open_table(JOURNAL)?
                .insert(1, [0xFF].as_slice())?;
            Ok(())
        })
        .unwrap();
    drop(store);
    let error = open_error(dir.path());
    assert!(
        error.contains("facts.redb at fact 1 of the journal: cannot be decoded"),
        "{error}"
    );

    let (mut store, _) = load(InMemoryBackend::new()).unwrap();
    store.append(&Random::new(3).facts(3)).unwrap();
    store
        .transact(|transaction| {
            transaction.open_table(JOURNAL)?.remove(1)?;
            Ok(())
        })
        .unwrap();
    let error = read_facts(&store.database, Path::new("x"), &mut Recovered::default());
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("at fact 2 of the journal: the facts before")
    );
}

/// A disk with room for so many bytes.
#[derive(Debug)]
struct Small {
    inner: InMemoryBackend,
    room: &'static AtomicU64,
}

impl StorageBackend for Small {
    fn len(&self) -> Result<u64, io::Error> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        if len > self.room.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.inner.write(offset, data)
    }
}

#[test]
fn a_full_disk_is_named_and_stops_the_store() {
    static ROOM: AtomicU64 = AtomicU64::new(u64::MAX);
    let (mut store, _) = load(Small {
        inner: InMemoryBackend::new(),
        room: &ROOM,
    })
    .unwrap();
    ROOM.store(4 << 20, Ordering::Relaxed);
    let mut random = Random::new(5);
    let error = (0..1_000)
        .find_map(|_| store.append(&random.facts(500)).err())
        .expect("four megabytes are soon full");
    assert!(matches!(error, WriteStoreError::DiskFull { .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("no space left on the disk of x"),
        "{error}"
    );
    ROOM.store(u64::MAX, Ordering::Relaxed);
    let error = store.append(&random.facts(1)).unwrap_err();
    assert!(matches!(error, WriteStoreError::Stopped { .. }), "{error}");
}

/// What a machine would have on its disk, write by write.
#[derive(Clone, Debug, Default)]
struct Tape(Arc<Mutex<Vec<Op>>>);

#[derive(Clone, Debug)]
enum Op {
    Write(u64, Vec<u8>),
    Len(u64),
    Sync,
}

#[derive(Debug)]
struct Taped {
    inner: InMemoryBackend,
    tape: Tape,
}

impl Tape {
    fn push(&self, op: Op) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(op);
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The disk if power failed after `ops` operations: all that was synchronized, and of the rest
    /// whatever the dice say. Lengths are journalled by file systems and kept.
    fn disk_after(&self, ops: usize, random: &mut Random) -> InMemoryBackend {
        let tape = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let synced = tape[..ops]
            .iter()
            .rposition(|op| matches!(op, Op::Sync))
            .unwrap_or(0);
        let disk = InMemoryBackend::new();
        for (index, op) in tape[..ops].iter().enumerate() {
            match op {
                Op::Len(len) => disk.set_len(*len).unwrap(),
                Op::Write(at, data) if index < synced || random.below(2) == 0 => {
                    // A write kept by the dice may lie past the end of a file that shrank since.
                    if at + data.len() as u64 <= disk.len().unwrap() {
                        disk.write(*at, data).unwrap();
                    }
                }
                Op::Write(..) | Op::Sync => {}
            }
        }
        disk
    }
}

impl StorageBackend for Taped {
    fn len(&self) -> Result<u64, io::Error> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.tape.push(Op::Len(len));
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.tape.push(Op::Sync);
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.tape.push(Op::Write(offset, data.to_vec()));
        self.inner.write(offset, data)
    }
}

/// Power fails at every point of a run, with unsynchronized writes kept or lost at random: what was
/// acknowledged is there, whole transactions only, in order.
#[test]
fn no_acknowledged_fact_is_lost_when_power_fails() {
    let tape = Tape::default();
    let (mut store, _) = load(Taped {
        inner: InMemoryBackend::new(),
        tape: tape.clone(),
    })
    .unwrap();
    let mut random = Random::new(11);
    let made_at = tape.len();
    let mut all = Vec::new();
    // After how many operations how many facts had been acknowledged.
    let mut acknowledged = vec![(made_at, 0)];
    for round in 0..12 {
        let facts = random.facts(1 + round % 4);
        store.append(&facts).unwrap();
        all.extend(facts);
        acknowledged.push((tape.len(), all.len()));
    }
    let boundaries: Vec<usize> = acknowledged.iter().map(|&(_, facts)| facts).collect();
    let stored: Vec<_> = all.iter().map(|fact| wire::encode(fact).unwrap()).collect();
    for ops in made_at..=tape.len() {
        let disk = tape.disk_after(ops, &mut random);
        let (_, recovered) = load(disk).unwrap_or_else(|error| panic!("after {ops}: {error}"));
        let found: Vec<_> = recovered
            .facts
            .iter()
            .map(|fact| wire::encode(fact).unwrap())
            .collect();
        let promised = acknowledged
            .iter()
            .rfind(|&&(at, _)| at <= ops)
            .map_or(0, |&(_, facts)| facts);
        assert!(
            found.len() >= promised,
            "after {ops}: {} of {promised}",
            found.len()
        );
        assert!(
            boundaries.contains(&found.len()),
            "after {ops}: a torn transaction"
        );
        assert_eq!(found, stored[..found.len()], "after {ops}");
    }
}
