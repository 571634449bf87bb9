//! The recording's thread: blocks to frames, frames to files, old files away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};

use crate::record::{RECORDS_MAX, RecordingTally};
use crate::segment::{Kind, SUFFIX, frame, header};

/// A recording is cut in so many segments when it is full: the oldest goes, and the rest is kept.
const SEGMENTS_OF_ALL: u64 = 8;
/// Shortest segment: a checkpoint is worth it.
const SEGMENT_MIN: u64 = 256 * 1024;
/// A segment is no longer than an hour in time, so that an old one can go.
const SEGMENT_AGE: Duration = Duration::from_secs(3_600);

/// How much is kept, and where.
#[derive(Clone, Debug)]
pub struct RecordingLimits {
    /// The directory; made if need be.
    pub dir: PathBuf,
    /// Bytes of all segments.
    pub bytes_max: u64,
    /// Age of the oldest.
    pub keep: Duration,
}

/// Why nothing is recorded.
#[derive(Debug, thiserror::Error)]
pub enum StartRecordingError {
    /// The directory.
    #[error("cannot use {}", dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The core.
    #[error(
        "the cluster has {records} agents, tasks, offers and filters; at most {RECORDS_MAX} are recorded"
    )]
    TooLarge {
        /// How many.
        records: usize,
    },
}

/// What the thread is to write.
#[derive(Debug)]
pub(crate) enum Message {
    /// A new segment with this beginning.
    Begin(Vec<u8>),
    /// Inputs.
    Inputs(Vec<u8>),
}

pub(crate) struct Writer {
    limits: RecordingLimits,
    tally: Arc<RecordingTally>,
    /// Closed segments and their bytes, oldest first.
    closed: Vec<(PathBuf, u64)>,
    current: Option<Current>,
    number: u64,
}

struct Current {
    path: PathBuf,
    file: File,
    bytes: u64,
    begun: SystemTime,
}

/// Why the thread wrote nothing more.
enum Stop {
    Disk(io::Error),
    Full,
}

impl Writer {
    pub(crate) fn open(
        limits: RecordingLimits,
        tally: Arc<RecordingTally>,
    ) -> Result<Self, StartRecordingError> {
        let wrong = |source| StartRecordingError::Directory {
            dir: limits.dir.clone(),
            source,
        };
        private_dir(&limits.dir).map_err(wrong)?;
        let mut closed = Vec::new();
        for (number, path) in segments_in(&limits.dir).map_err(wrong)? {
            let bytes = fs::metadata(&path).map_err(wrong)?.len();
            closed.push((number, path, bytes));
        }
        let number = closed.last().map_or(0, |(number, _, _)| *number);
        Ok(Self {
            limits,
            tally,
            closed: closed
                .into_iter()
                .map(|(_, path, bytes)| (path, bytes))
                .collect(),
            current: None,
            number,
        })
    }

    /// Begins the first segment.
    pub(crate) fn begin(&mut self, content: &[u8]) {
        if let Err(stop) = self.begin_segment(content) {
            self.stop(&stop);
        }
    }

    /// Writes until nobody gives any more.
    pub(crate) fn run(mut self, work: &Receiver<Message>) {
        while let Ok(message) = work.recv() {
            if self.tally.running.load(Ordering::Relaxed)
                || self.tally.behind.load(Ordering::Relaxed)
            {
                let written = match &message {
                    Message::Begin(content) => self.begin_segment(content),
                    Message::Inputs(block) => self.write_inputs(block),
                };
                if let Err(stop) = written {
                    self.stop(&stop);
                    return;
                }
            }
            self.tally.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        let why = if self.tally.behind.load(Ordering::Relaxed) {
            tracing::warn!("recording has ended: the disk is too slow for it");
            "the disk was too slow"
        } else {
            "the host ended"
        };
        self.mark(why);
    }

    fn begin_segment(&mut self, content: &[u8]) -> Result<(), Stop> {
        if let Some(current) = self.current.take() {
            self.closed.push((current.path, current.bytes));
        }
        self.number += 1;
        let path = self
            .limits
            .dir
            .join(format!("{:010}.{SUFFIX}", self.number));
        let file = create(&path).map_err(Stop::Disk)?;
        self.current = Some(Current {
            path,
            file,
            bytes: 0,
            begun: SystemTime::now(),
        });
        self.write(&header())?;
        self.write_frame(Kind::Begin, content)?;
        self.tally.segments.fetch_add(1, Ordering::Relaxed);
        self.drop_old();
        Ok(())
    }

    fn write_inputs(&mut self, block: &[u8]) -> Result<(), Stop> {
        self.write_frame(Kind::Inputs, block)?;
        let (bytes, old) = match &self.current {
            // A clock that went back makes no segment old.
            Some(current) => (
                current.bytes,
                current.begun.elapsed().is_ok_and(|age| age > SEGMENT_AGE),
            ),
            None => (0, false),
        };
        if bytes > self.limits.bytes_max {
            // The cluster is too large for checkpoints, so nothing of this can go.
            return Err(Stop::Full);
        }
        let enough = (self.limits.bytes_max / SEGMENTS_OF_ALL).max(SEGMENT_MIN);
        if bytes >= enough || old {
            self.tally.wants_checkpoint.store(true, Ordering::Relaxed);
        }
        self.drop_old();
        Ok(())
    }

    /// Removes the oldest segments while all are too many or it is too old.
    fn drop_old(&mut self) {
        let current = self.current.as_ref().map_or(0, |current| current.bytes);
        let mut all: u64 = current + self.closed.iter().map(|(_, bytes)| bytes).sum::<u64>();
        while let Some((path, bytes)) = self.closed.first() {
            let too_old = fs::metadata(path)
                .and_then(|about| about.modified())
                .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > self.limits.keep));
            if all <= self.limits.bytes_max && !too_old {
                break;
            }
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(%error, file = %path.display(), "an old segment cannot be removed");
            }
            all -= bytes;
            self.closed.remove(0);
        }
        self.tally.stored.store(all, Ordering::Relaxed);
    }

    fn write_frame(&mut self, kind: Kind, content: &[u8]) -> Result<(), Stop> {
        let frame = frame(kind, content)
            .ok_or_else(|| Stop::Disk(io::Error::other("a block is too long for a frame")))?;
        self.write(&frame)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let Some(current) = &mut self.current else {
            return Err(Stop::Disk(io::Error::other("no segment is open")));
        };
        current.file.write_all(bytes).map_err(Stop::Disk)?;
        current.bytes += bytes.len() as u64;
        Ok(())
    }

    fn stop(&mut self, stop: &Stop) {
        self.tally.running.store(false, Ordering::Relaxed);
        let dir = self.limits.dir.display();
        match stop {
            Stop::Disk(error) => {
                tracing::warn!(%error, %dir, "recording has ended: it cannot be written");
                // What was written of the frame is cut off, which a reader takes for a crash.
                self.mark("it could not be written");
            }
            Stop::Full => {
                let max = RECORDS_MAX;
                tracing::warn!(%dir, "recording has ended: it is full, and a cluster of more than {max} agents and tasks begins no new segment");
                self.mark("it was full");
            }
        }
    }

    /// Says at the end why nothing follows. On a disk that fails it is left out.
    fn mark(&mut self, why: &str) {
        let marked = self.write_frame(Kind::Ended, why.as_bytes());
        if marked.is_err() {
            tracing::debug!("a recording's end could not be marked");
        }
    }
}

/// Segments of a recording, oldest first.
pub(crate) fn segments_in(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse::<u64>().ok())
            .filter(|_| {
                path.extension()
                    .is_some_and(|extension| extension == SUFFIX)
            });
        if let Some(number) = number {
            segments.push((number, path));
        }
    }
    segments.sort();
    Ok(segments)
}

fn private_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// For its owner alone: a recording has what frameworks and operators said.
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
