//! What a crash leaves, and what it does not.

use std::fs;
use std::path::Path;

use cap_std::ambient_authority;
use tempfile::TempDir;

use super::*;

fn open(dir: &Path) -> Result<(Journal, Vec<Record>), JournalError> {
    Journal::open(Dir::open_ambient_dir(dir, ambient_authority()).unwrap())
}

fn numbers(from: u64, to: u64) -> Vec<Record> {
    let numbers = (from..=to).map(LaunchNumber);
    numbers.map(Record::Started).collect()
}

/// A journal with three records, its directory, and the file's content.
fn three() -> (TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, none) = open(dir.path()).unwrap();
    assert_eq!(none, []);
    journal.append(&numbers(1, 2)).unwrap();
    journal.append(&numbers(3, 3)).unwrap();
    let content = fs::read(dir.path().join(NAME)).unwrap();
    (dir, content)
}

#[test]
fn what_was_appended_is_read_again() {
    let (dir, _) = three();
    let (mut journal, records) = open(dir.path()).unwrap();
    assert_eq!(records, numbers(1, 3));
    journal.append(&numbers(4, 4)).unwrap();
    drop(journal);
    assert_eq!(open(dir.path()).unwrap().1, numbers(1, 4));
}

#[test]
fn a_record_that_a_crash_cut_short_is_dropped_wherever_it_was_cut() {
    let (dir, content) = three();
    let last = content.len() - FRAME - 2;
    for length in last..content.len() {
        fs::write(dir.path().join(NAME), &content[..length]).unwrap();
        let (mut journal, records) = open(dir.path()).unwrap();
        assert_eq!(records, numbers(1, 2), "cut at {length}");
        journal.append(&numbers(9, 9)).unwrap();
        let again = open(dir.path()).unwrap().1;
        assert_eq!(again.len(), 3);
        assert_eq!(again[2], Record::Started(LaunchNumber(9)));
    }
}

#[test]
fn a_header_that_a_crash_cut_short_begins_a_journal() {
    for length in 0..HEADER.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), &HEADER[..length]).unwrap();
        let (mut journal, records) = open(dir.path()).unwrap();
        assert_eq!(records, []);
        journal.append(&numbers(1, 1)).unwrap();
        assert_eq!(open(dir.path()).unwrap().1, numbers(1, 1));
    }
}

#[test]
fn damage_in_the_middle_stops_the_agent_and_says_where() {
    let (dir, mut content) = three();
    let second = HEADER.len() + FRAME + 1;
    content[second + FRAME] ^= 1;
    fs::write(dir.path().join(NAME), &content).unwrap();
    // The first is whole, the second's frame begins behind it.
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("damaged at byte"), "{error}");
    // A wrong length looks like an end that was cut short, if what follows it is not looked at.
    for length in [255, 0] {
        let (dir, mut content) = three();
        content[HEADER.len() + FRAME + 2] = length;
        fs::write(dir.path().join(NAME), &content).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("damaged at byte"), "{length}: {error}");
    }
    fs::write(dir.path().join(NAME), "something else").unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, JournalError::Foreign), "{error}");
}

#[test]
fn what_is_written_waits_for_a_sync_unless_all_is_written_anew() {
    let (dir, _) = three();
    let (mut journal, _) = open(dir.path()).unwrap();
    let mut states = vec![journal.is_synced()];
    journal.append(&numbers(4, 4)).unwrap();
    states.push(journal.is_synced());
    journal.sync().unwrap();
    states.push(journal.is_synced());
    journal.append(&numbers(5, 5)).unwrap();
    journal.replace(&numbers(1, 5)).unwrap();
    states.push(journal.is_synced());
    assert_eq!(states, [true, false, true, true]);
}

#[test]
fn what_replaces_a_journal_is_all_that_is_left() {
    let (dir, _) = three();
    let (mut journal, _) = open(dir.path()).unwrap();
    journal.replace(&numbers(7, 8)).unwrap();
    journal.append(&numbers(9, 9)).unwrap();
    drop(journal);
    assert_eq!(open(dir.path()).unwrap().1, numbers(7, 9));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_full_disk_stops_the_journal_for_good() {
    let (dir, before) = three();
    let (mut journal, _) = open(dir.path()).unwrap();
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let real = std::mem::replace(&mut journal.file, full.unwrap());
    let error = journal.append(&numbers(4, 4)).unwrap_err();
    let JournalError::Disk(why) = error else {
        panic!("{error}");
    };
    assert_eq!(why.kind(), std::io::ErrorKind::StorageFull);
    // Room again, but some of a record may be there: what followed it could not be read.
    journal.file = real;
    journal.append(&numbers(5, 5)).unwrap_err();
    drop(journal);
    assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), before);
}
