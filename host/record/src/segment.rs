//! The form of a segment file: a header, then frames.
//!
//! ```text
//! header   "PROFFREC" · format u32 · fingerprint u32 · checksum u32 of what is before
//! frame    kind u8 · stored u32 · length u32 · checksum u32 of the content · checksum u32 of the 13 bytes before
//! content  `stored` bytes, compressed from `length`
//! ```
//! Numbers are little-endian. The frame's own checksum tells a damaged length from a file that ends.

use std::path::PathBuf;

use proffer_codec::{codec_enum, codec_struct};
use proffer_model::Timestamp;

use crate::fingerprint::fingerprint;

/// Version of the file's form. What is in frames has a fingerprint of its own.
pub(crate) const FORMAT: u32 = 1;
/// First bytes of every segment.
const MAGIC: &[u8; 8] = b"PROFFREC";
/// Bytes of a segment's header.
pub(crate) const HEADER_BYTES: usize = 20;
/// Bytes of a frame's head.
pub(crate) const FRAME_BYTES: usize = 17;
/// Longest content of a frame, uncompressed: a checkpoint of the largest core that is recorded takes
/// a tenth of it. More is refused before memory is taken for it.
pub(crate) const CONTENT_MAX: u32 = 1 << 30;
/// zstd's fastest regular level: recordings shrink to a fifth, at hundreds of megabytes a second.
const COMPRESSION: i32 = 1;
/// Name of segment files after their number.
pub(crate) const SUFFIX: &str = "segment";

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A [`Begin`] and a checkpoint; first, and only there.
    Begin = 1,
    /// Inputs and what came of them.
    Inputs = 2,
    /// Why nothing follows: a text.
    Ended = 3,
}

/// Where a segment begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    /// The run of the host: its start, in milliseconds.
    pub(crate) run: u64,
    /// Events of the run before this segment.
    pub(crate) index: u64,
    /// When.
    pub(crate) at: Timestamp,
    /// Why.
    pub(crate) cause: Cause,
}

codec_struct!(Begin {
    run,
    index,
    at,
    cause
});

/// Why a segment was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host started.
    Started,
    /// The one before was long or old enough.
    Continued,
}

codec_enum!(Cause { Started, Continued });

/// Damage, or another version's file.
#[derive(Debug, thiserror::Error)]
#[error("{}, byte {offset}: {problem}", file.display())]
pub struct InvalidSegment {
    /// Which file.
    pub file: PathBuf,
    /// Where in it the frame begins that does not fit.
    pub offset: u64,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not one of ours.
    #[error("this is not a recording's segment")]
    NotASegment,
    /// A newer or older proffer wrote it.
    #[error(
        "recorded by another version of proffer (form {found}, this one reads {wanted}); replay it with that one"
    )]
    OtherVersion {
        /// The file's.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// A checksum is wrong.
    #[error("the checksum does not match: the file is damaged")]
    Checksum,
    /// The checksums are right and the content is not.
    #[error("the content makes no sense: {0}")]
    Content(String),
}

/// The header of a segment of this version.
pub(crate) fn header() -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..16].copy_from_slice(&fingerprint().to_le_bytes());
    let sum = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Whether a header is one of this version.
pub(crate) fn check_header(bytes: &[u8; HEADER_BYTES]) -> Result<(), Problem> {
    if bytes[..8] != *MAGIC {
        return Err(Problem::NotASegment);
    }
    if u32_at(bytes, 16) != crc32fast::hash(&bytes[..16]) {
        return Err(Problem::Checksum);
    }
    let (format, form) = (u32_at(bytes, 8), u32_at(bytes, 12));
    if (format, form) != (FORMAT, fingerprint()) {
        return Err(Problem::OtherVersion {
            found: format!("{format}.{form:08x}"),
            wanted: format!("{FORMAT}.{:08x}", fingerprint()),
        });
    }
    Ok(())
}

/// A frame's head, checked.
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) stored: u32,
    length: u32,
    checksum: u32,
}

/// Reads a frame's head.
pub(crate) fn head(bytes: &[u8; FRAME_BYTES]) -> Result<Head, Problem> {
    if u32_at(bytes, 13) != crc32fast::hash(&bytes[..13]) {
        return Err(Problem::Checksum);
    }
    let kind = match bytes[0] {
        1 => Kind::Begin,
        2 => Kind::Inputs,
        3 => Kind::Ended,
        other => return Err(Problem::Content(format!("a frame of kind {other}"))),
    };
    let head = Head {
        kind,
        stored: u32_at(bytes, 1),
        length: u32_at(bytes, 5),
        checksum: u32_at(bytes, 9),
    };
    if head.length > CONTENT_MAX || head.stored > CONTENT_MAX {
        return Err(Problem::Content(format!(
            "a frame of {} bytes",
            head.length
        )));
    }
    Ok(head)
}

/// What a frame holds, from what is stored.
pub(crate) fn content(head: &Head, stored: &[u8]) -> Result<Vec<u8>, Problem> {
    if crc32fast::hash(stored) != head.checksum {
        return Err(Problem::Checksum);
    }
    let room = head.length as usize;
    let content = zstd::bulk::decompress(stored, room)
        .map_err(|error| Problem::Content(error.to_string()))?;
    if content.len() == room {
        Ok(content)
    } else {
        Err(Problem::Content(format!(
            "{} bytes instead of {room}",
            content.len()
        )))
    }
}

/// A whole frame. None: the content is too long for one, or cannot be compressed.
pub(crate) fn frame(kind: Kind, content: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(content.len())
        .ok()
        .filter(|length| *length <= CONTENT_MAX)?;
    let compressed = zstd::bulk::compress(content, COMPRESSION).ok()?;
    let stored = u32::try_from(compressed.len()).ok()?;
    let mut bytes = Vec::with_capacity(FRAME_BYTES + compressed.len());
    bytes.push(kind as u8);
    bytes.extend_from_slice(&stored.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&compressed).to_le_bytes());
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes.extend_from_slice(&compressed);
    Some(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}
