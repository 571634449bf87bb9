//! Recordings written, cut, damaged and replayed.

mod cluster;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use proffer_core::Event;
use proffer_model::Timestamp;

use crate::read::{Item, ReadRecordingError, Recording};
use crate::record::Recorder;
use crate::replay::{Difference, Replayer, Totals};
use crate::segment::{HEADER_BYTES, Problem};
use crate::tests::cluster::{Cluster, core_with};
use crate::writer::RecordingLimits;

fn limits(dir: &Path, bytes_max: u64) -> RecordingLimits {
    RecordingLimits {
        dir: dir.to_owned(),
        bytes_max,
        keep: Duration::from_secs(3_600),
    }
}

/// A recording of so many tasks, in a directory.
fn record(dir: &Path, tasks: u64, bytes_max: u64) -> Cluster {
    let core = core_with(4);
    let recorder = Recorder::start(limits(dir, bytes_max), &core, Timestamp(1)).unwrap();
    let mut cluster = Cluster::new(core, recorder);
    cluster.run(tasks);
    cluster.stop();
    cluster
}

/// What was replayed, the first difference, and how segments ended.
type Replayed = (Totals, Option<Difference>, Vec<Option<String>>);

fn replay(dir: &Path) -> Result<Replayed, ReadRecordingError> {
    let mut recording = Recording::open(dir)?;
    let mut replayer = Replayer::default();
    let mut ends = Vec::new();
    while let Some(item) = recording.next_item()? {
        let difference = match item {
            Item::Segment(segment) => replayer.segment(segment).err(),
            Item::Input(input) => replayer.input(input).err(),
            Item::Ended(why) => {
                ends.push(why);
                None
            }
        };
        if let Some(difference) = difference {
            return Ok((replayer.totals(), Some(*difference), ends));
        }
    }
    Ok((replayer.totals(), None, ends))
}

fn only_segment(dir: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert_eq!(files.len(), 1);
    files.remove(0)
}

#[test]
fn a_replay_gives_the_same_actions_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = record(dir.path(), 500, 1 << 30);
    let (totals, difference, ends) = replay(dir.path()).unwrap();
    assert_eq!(difference, None);
    assert_eq!(
        (totals.events, totals.actions),
        (cluster.events, cluster.actions)
    );
    assert_eq!((totals.runs, totals.segments), (1, 1));
    assert_eq!(ends, [Some("the host ended".to_owned())]);
}

#[test]
fn a_bounded_recording_loses_its_beginning_and_replays() {
    let dir = tempfile::tempdir().unwrap();
    let max = 2 * 1024 * 1024;
    let cluster = record(dir.path(), 60_000, max);
    let (totals, difference, _) = replay(dir.path()).unwrap();
    assert_eq!(difference, None);
    assert!(totals.segments > 2, "{totals:?}");
    assert!(
        totals.events < cluster.events,
        "nothing was dropped: {totals:?}"
    );
    let stored: u64 = fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(stored <= max + max / 4, "{stored} bytes");
}

#[test]
fn a_second_run_goes_on_beside_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = record(dir.path(), 50, 1 << 30);
    let second = record(dir.path(), 60, 1 << 30);
    let (totals, difference, ends) = replay(dir.path()).unwrap();
    assert_eq!(difference, None);
    assert_eq!(totals.events, first.events + second.events);
    assert_eq!((totals.runs, ends.len()), (2, 2));
}

#[test]
fn a_core_that_does_something_else_is_shown_with_both_actions() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 20, 1 << 30);
    let mut recording = Recording::open(dir.path()).unwrap();
    let mut replayer = Replayer::default();
    let mut difference = None;
    while let (Some(item), None) = (recording.next_item().unwrap(), &difference) {
        difference = match item {
            Item::Segment(segment) => replayer.segment(segment).err(),
            Item::Input(mut input) => {
                if let Event::FrameworkAdded { framework, .. } = &mut input.event {
                    framework.name = "other".into();
                }
                replayer.input(input).err()
            }
            Item::Ended(_) => None,
        };
    }
    let difference = difference.unwrap();
    assert!(
        difference.told.starts_with("FrameworkAdded"),
        "{difference:?}"
    );
    assert_eq!(difference.action, 0);
    let (recorded, replayed) = (difference.recorded.unwrap(), difference.replayed.unwrap());
    assert!(recorded.contains("name: \"f0\""), "{recorded}");
    assert!(replayed.contains("name: \"other\""), "{replayed}");
}

#[test]
fn a_recording_cut_anywhere_replays_to_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 3, 1 << 30);
    let file = only_segment(dir.path());
    let whole = fs::read(&file).unwrap();
    let mut most = 0;
    for end in 0..whole.len() {
        fs::write(&file, &whole[..end]).unwrap();
        let (totals, difference, ends) = replay(dir.path()).unwrap();
        assert_eq!(difference, None);
        assert!(totals.events >= most, "a longer file holds no less");
        assert_eq!(ends, [None], "cut at {end}");
        most = totals.events;
    }
    assert!(most > 0);
    fs::write(&file, [&whole[..], &[0; 4096]].concat()).unwrap();
    replay(dir.path()).unwrap();
}

#[test]
fn a_flipped_byte_is_named_with_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 3, 1 << 30);
    let file = only_segment(dir.path());
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, &damaged).unwrap();
        let Err(ReadRecordingError::Invalid(invalid)) = replay(dir.path()) else {
            panic!("byte {at} was flipped and nobody minded");
        };
        assert_eq!(invalid.file, file);
        assert!(invalid.offset <= at as u64, "{invalid}");
        if at >= HEADER_BYTES {
            assert_eq!(invalid.problem, Problem::Checksum, "{invalid}");
        }
    }
}

#[test]
fn another_version_and_no_recording_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let error = Recording::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("holds no recording"), "{error}");
    record(dir.path(), 3, 1 << 30);
    let file = only_segment(dir.path());
    let mut bytes = fs::read(&file).unwrap();
    bytes[12] ^= 1;
    let sum = crc32fast::hash(&bytes[..16]);
    bytes[16..20].copy_from_slice(&sum.to_le_bytes());
    fs::write(&file, &bytes).unwrap();
    let error = replay(dir.path()).unwrap_err().to_string();
    assert!(error.contains("another version of proffer"), "{error}");
    bytes[0] = b'X';
    fs::write(&file, &bytes).unwrap();
    let error = replay(dir.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("byte 0: this is not a recording's segment"),
        "{error}"
    );
}

#[test]
fn a_recorder_that_cannot_write_ends_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let core = core_with(1);
    let path = dir.path().join("recording");
    let recorder = Recorder::start(limits(&path, 1 << 30), &core, Timestamp(1)).unwrap();
    let tally = recorder.tally();
    let mut cluster = Cluster::new(core, recorder);
    cluster.run(1);
    cluster.wait_for_writer(&tally);
    // Of the two limits of a file's size in this test's reach, the recording's own is the portable one.
    fs::remove_dir_all(&path).unwrap();
    tally.wants_checkpoint.store(true, Ordering::Relaxed);
    cluster.run_until(|| !tally.running.load(Ordering::Relaxed));
    let events = cluster.events;
    cluster.run(10);
    assert!(cluster.events > events, "the core goes on");
    fs::write(&path, b"in the way").unwrap();
    let core = core_with(1);
    Recorder::start(limits(&path, 1 << 30), &core, Timestamp(1)).unwrap_err();
}
