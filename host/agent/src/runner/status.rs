//! The status log: what became of launches, for when nobody is left to say it. And the marks by which a
//! process is known again.
//!
//! A record is appended and never changed, those that come together with one write; of several about one launch the last counts.
//! (A file per launch, replaced at each change, spent more than half of a runner's processor time in the
//! file system.) It is not synced: it must survive the runner's death, not the machine's, after which
//! nothing runs.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::act::STATUS_LOG;
use super::protocol::{ProcessMark, Status};

/// A log smaller than this is not worth writing anew: some twenty thousand records.
const COMPACT_FROM: u64 = 1024 * 1024;

/// Bytes before a record: its length, and its launch.
const HEAD: usize = 4 + 8;

/// A status is a few bytes, or a message of an engine.
const STATUS_BYTES_MAX: usize = 1024 * 1024;

/// The open log of a runner.
#[derive(Debug)]
pub(super) struct StatusLog {
    file: File,
    bytes: u64,
    compact_at: u64,
}

impl StatusLog {
    /// Opens the log in the runner's directory. What an earlier runner wrote stays: the agent may not
    /// have read it yet.
    pub(super) fn open() -> io::Result<Self> {
        let content = match fs::read(STATUS_LOG) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            content => content?,
        };
        let file = append_to(STATUS_LOG)?;
        // What an earlier runner's full disk cut short would hide what follows.
        let bytes = whole(&content) as u64;
        file.set_len(bytes)?;
        Ok(Self {
            file,
            bytes,
            compact_at: COMPACT_FROM.max(bytes * 2),
        })
    }

    /// Adds records with one write, all or none of them.
    pub(super) fn note(&mut self, statuses: &[(u64, Status)]) -> io::Result<()> {
        let mut records = Vec::new();
        for (launch, status) in statuses {
            records.extend(record(*launch, status)?);
        }
        if let Err(error) = self.file.write_all(&records) {
            // If this fails too, the next runner or reader drops what is cut short.
            let _best_effort = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.bytes += records.len() as u64;
        Ok(())
    }

    /// Whether most of it may be past.
    pub(super) fn wants_compacting(&self) -> bool {
        self.bytes >= self.compact_at
    }

    /// Writes the log anew: what is current, and of earlier runners' launches those that `is_kept` says.
    pub(super) fn compact(
        &mut self,
        current: impl Iterator<Item = (u64, Status)>,
        is_kept: impl Fn(u64) -> bool,
    ) -> io::Result<()> {
        let mut all = parse(&fs::read(STATUS_LOG)?);
        all.retain(|launch, _| is_kept(*launch));
        all.extend(current);
        let mut content = Vec::new();
        for (launch, status) in &all {
            content.extend(record(*launch, status)?);
        }
        let draft = format!("{STATUS_LOG}.new");
        fs::write(&draft, &content)?;
        let file = append_to(&draft)?;
        fs::rename(&draft, STATUS_LOG)?;
        self.file = file;
        self.bytes = content.len() as u64;
        self.compact_at = COMPACT_FROM.max(self.bytes * 2);
        Ok(())
    }
}

fn append_to(path: impl AsRef<Path>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(path)
}

fn record(launch: u64, status: &Status) -> io::Result<Vec<u8>> {
    let content = postcard::to_stdvec(status).map_err(io::Error::other)?;
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut record = length.to_le_bytes().to_vec();
    record.extend_from_slice(&launch.to_le_bytes());
    record.extend_from_slice(&content);
    Ok(record)
}

/// One record of a log, and the rest; none at its end, or where it is cut short or damaged.
fn next(log: &[u8]) -> Option<(u64, Status, &[u8])> {
    let (head, rest) = log.split_at_checked(HEAD)?;
    let (length, launch) = head.split_at(4);
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    if length > STATUS_BYTES_MAX {
        return None;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    let launch = u64::from_le_bytes(launch.try_into().ok()?);
    Some((launch, postcard::from_bytes(content).ok()?, rest))
}

/// How many bytes of a log are whole records.
pub(crate) fn whole(log: &[u8]) -> usize {
    let mut rest = log;
    while let Some((_, _, after)) = next(rest) {
        rest = after;
    }
    log.len() - rest.len()
}

/// The last status of each launch in a log.
pub(crate) fn parse(log: &[u8]) -> BTreeMap<u64, Status> {
    let mut statuses = BTreeMap::new();
    let mut rest = log;
    while let Some((launch, status, after)) = next(rest) {
        statuses.insert(launch, status);
        rest = after;
    }
    statuses
}

/// The mark of a process that runs now.
pub(crate) fn mark_of(pid: i32) -> Option<ProcessMark> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything; what follows its last parenthesis is numbers.
    let (_, fields) = stat.rsplit_once(')')?;
    // The start time is field 22 of the file, the 20th after the name.
    let started = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(ProcessMark { pid, started })
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{Ending, How};
    use super::*;

    #[test]
    fn a_process_is_known_again_by_its_start_time() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mark = mark_of(own).unwrap();
        assert_eq!(mark_of(own), Some(mark));
        assert!(mark.started > 0);
        assert_eq!(mark_of(i32::MAX), None);
    }

    #[test]
    fn the_last_record_of_a_launch_counts_and_what_is_cut_short_does_not() {
        let ended = Status::Ended(Ending {
            how: How::Exited(7),
            stopped: false,
            has_result: true,
        });
        let mut log = Vec::new();
        for (launch, status) in [
            (1, Status::Starting),
            (2, Status::Running(None)),
            (1, ended.clone()),
        ] {
            log.extend(record(launch, &status).unwrap());
        }
        let all = BTreeMap::from([(1, ended), (2, Status::Running(None))]);
        assert_eq!(parse(&log), all);
        assert_eq!(whole(&log), log.len());
        let last = record(1, &all[&1]).unwrap().len();
        for cut in 1..last {
            let torn = &log[..log.len() - cut];
            assert_eq!(parse(torn)[&1], Status::Starting, "{cut}");
            assert_eq!(whole(torn), log.len() - last, "{cut}");
        }
    }
}
