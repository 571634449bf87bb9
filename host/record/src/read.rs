//! Reading a recording, segment after segment.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use proffer_codec::Codec;
use proffer_core::{Core, Event};
use proffer_model::Timestamp;

use crate::segment::{Begin, Cause, FRAME_BYTES, HEADER_BYTES, InvalidSegment, Kind, Problem};
use crate::segment::{check_header, content, head};
use crate::writer::segments_in;

/// Why a recording cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadRecordingError {
    /// The directory or a file.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is nothing.
    #[error("{} holds no recording: there is no file named NUMBER.segment", dir.display())]
    Empty {
        /// Which directory.
        dir: PathBuf,
    },
    /// Damage, or another version.
    #[error(transparent)]
    Invalid(#[from] InvalidSegment),
}

/// A recording, from its oldest segment on.
#[derive(Debug)]
pub struct Recording {
    segments: VecDeque<PathBuf>,
    current: Option<Reader>,
    /// Inputs of the frame that was read last.
    frame: Frame,
    /// Bytes of all segments, and of those that were read.
    bytes: (u64, u64),
}

#[derive(Debug)]
struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    /// Of the next frame.
    offset: u64,
    begun: bool,
}

#[derive(Debug, Default)]
struct Frame {
    offset: u64,
    bytes: Vec<u8>,
    at: usize,
}

/// Where a segment begins, and with which core.
#[derive(Debug)]
pub struct Segment {
    /// Its file.
    pub file: PathBuf,
    /// The run of the host that it is of.
    pub run: u64,
    /// Events of that run before it.
    pub index: u64,
    /// When it begins.
    pub at: Timestamp,
    /// Why it was begun.
    pub cause: Cause,
    /// The core as it was then.
    pub core: Box<Core>,
    /// The same, as it is written.
    pub checkpoint: Vec<u8>,
}

/// Something that the core was told, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// The actions, as they are written.
    pub actions: Vec<u8>,
}

/// What a recording holds next.
#[derive(Debug)]
pub enum Item {
    /// A segment begins.
    Segment(Segment),
    /// An input.
    Input(Input),
    /// A segment ends; with why, if the recorder said it. A crash says nothing.
    Ended(Option<String>),
}

impl Recording {
    /// Opens a directory.
    ///
    /// # Errors
    /// It cannot be read or holds no segment.
    pub fn open(dir: &Path) -> Result<Self, ReadRecordingError> {
        let wrong = |source| ReadRecordingError::Read {
            path: dir.to_owned(),
            source,
        };
        let segments = segments_in(dir).map_err(wrong)?;
        if segments.is_empty() {
            return Err(ReadRecordingError::Empty {
                dir: dir.to_owned(),
            });
        }
        let mut bytes = 0;
        for (_, path) in &segments {
            bytes += std::fs::metadata(path).map_err(wrong)?.len();
        }
        Ok(Self {
            segments: segments.into_iter().map(|(_, path)| path).collect(),
            current: None,
            frame: Frame::default(),
            bytes: (bytes, 0),
        })
    }

    /// Bytes read so far, and bytes in all.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.bytes.1, self.bytes.0)
    }

    /// The next item; none at the end.
    ///
    /// # Errors
    /// A file cannot be read, is damaged, or another version's.
    pub fn next_item(&mut self) -> Result<Option<Item>, ReadRecordingError> {
        loop {
            if self.frame.at < self.frame.bytes.len() {
                return self.next_input().map(Some);
            }
            let Some(reader) = &mut self.current else {
                let Some(path) = self.segments.pop_front() else {
                    return Ok(None);
                };
                self.current = Some(Reader::open(path)?);
                continue;
            };
            let before = reader.offset;
            let read = reader.next_frame()?;
            self.bytes.1 += reader.offset - before;
            match read {
                None => {
                    self.current = None;
                    return Ok(Some(Item::Ended(None)));
                }
                Some((Kind::Ended, why)) => {
                    self.current = None;
                    let why = String::from_utf8_lossy(&why).into_owned();
                    return Ok(Some(Item::Ended(Some(why))));
                }
                Some((Kind::Begin, bytes)) => {
                    let segment = reader.segment(before, bytes)?;
                    return Ok(Some(Item::Segment(segment)));
                }
                Some((Kind::Inputs, bytes)) => {
                    self.frame = Frame {
                        offset: before,
                        bytes,
                        at: 0,
                    };
                }
            }
        }
    }

    fn next_input(&mut self) -> Result<Item, ReadRecordingError> {
        match self.frame.input() {
            Ok(input) => Ok(Item::Input(input)),
            Err(problem) => {
                let file = self.current.as_ref().map(|reader| reader.path.clone());
                let invalid = InvalidSegment {
                    file: file.unwrap_or_default(),
                    offset: self.frame.offset,
                    problem: Problem::Content(problem.to_string()),
                };
                self.frame = Frame::default();
                Err(invalid.into())
            }
        }
    }
}

impl Frame {
    fn input(&mut self) -> Result<Input, proffer_codec::InvalidBytes> {
        let mut input = proffer_codec::Input::new(&self.bytes[self.at..]);
        let (at, event) = <(Timestamp, Event)>::take(&mut input)?;
        let length = input.bytes(4)?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        let actions = input.bytes(length as usize)?;
        self.at += input.position();
        Ok(Input { at, event, actions })
    }
}

impl Reader {
    fn open(path: PathBuf) -> Result<Self, ReadRecordingError> {
        let opened = File::open(&path);
        let file = opened.map_err(|source| ReadRecordingError::Read {
            path: path.clone(),
            source,
        })?;
        let mut reader = Self {
            path,
            file: BufReader::with_capacity(1 << 18, file),
            offset: 0,
            begun: false,
        };
        let mut header = [0; HEADER_BYTES];
        if reader.fill(&mut header)? {
            check_header(&header).map_err(|problem| reader.invalid(problem))?;
            reader.offset = HEADER_BYTES as u64;
        }
        Ok(reader)
    }

    /// The next frame; none where the file ends, in the middle of one or not.
    fn next_frame(&mut self) -> Result<Option<(Kind, Vec<u8>)>, ReadRecordingError> {
        if self.offset == 0 {
            // Not even the header was written.
            return Ok(None);
        }
        let mut bytes = [0; FRAME_BYTES];
        if !self.fill(&mut bytes)? {
            return Ok(None);
        }
        if bytes == [0; FRAME_BYTES] && self.only_zeros_follow()? {
            // A file system that lost power may have made room and written nothing into it.
            return Ok(None);
        }
        let head = head(&bytes).map_err(|problem| self.invalid(problem))?;
        let mut stored = Vec::new();
        let wanted = u64::from(head.stored);
        self.read(|file| file.take(wanted).read_to_end(&mut stored))?;
        if stored.len() as u64 != wanted {
            return Ok(None);
        }
        let content = content(&head, &stored).map_err(|problem| self.invalid(problem))?;
        let first = !std::mem::replace(&mut self.begun, true);
        if first != (head.kind == Kind::Begin) {
            let problem = Problem::Content(format!("a frame of kind {:?} here", head.kind));
            return Err(self.invalid(problem).into());
        }
        self.offset += FRAME_BYTES as u64 + wanted;
        Ok(Some((head.kind, content)))
    }

    fn segment(&self, offset: u64, content: Vec<u8>) -> Result<Segment, ReadRecordingError> {
        let invalid = |problem: proffer_codec::InvalidBytes| InvalidSegment {
            file: self.path.clone(),
            offset,
            problem: Problem::Content(problem.to_string()),
        };
        let mut input = proffer_codec::Input::new(&content);
        let Begin {
            run,
            index,
            at,
            cause,
        } = Begin::take(&mut input).map_err(invalid)?;
        let checkpoint = content[input.position()..].to_vec();
        let core = Core::from_checkpoint(&checkpoint).map_err(invalid)?;
        Ok(Segment {
            file: self.path.clone(),
            run,
            index,
            at,
            cause,
            core: Box::new(core),
            checkpoint,
        })
    }

    fn only_zeros_follow(&mut self) -> Result<bool, ReadRecordingError> {
        let mut rest = Vec::new();
        self.read(|file| file.read_to_end(&mut rest))?;
        Ok(rest.iter().all(|byte| *byte == 0))
    }

    /// Fills the whole of it; false if the file ends before.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, ReadRecordingError> {
        match self.file.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => self.read(|_| Err(error)).map(|()| false),
        }
    }

    fn read<T>(
        &mut self,
        read: impl FnOnce(&mut BufReader<File>) -> io::Result<T>,
    ) -> Result<T, ReadRecordingError> {
        read(&mut self.file).map_err(|source| ReadRecordingError::Read {
            path: self.path.clone(),
            source,
        })
    }

    fn invalid(&self, problem: Problem) -> InvalidSegment {
        InvalidSegment {
            file: self.path.clone(),
            offset: self.offset,
            problem,
        }
    }
}
