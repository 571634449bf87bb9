//! What the core was told and did, kept in bounded files, and replayed from them.
//!
//! The core is deterministic: with the same state, the same events at the same times give the same
//! actions. So a **recording** is a checkpoint of the core, then events with their times and, as
//! proof, the actions that came of them. [`Recorder`] makes one beside the offer loop; [`Recording`]
//! reads it; [`Replayer`] runs it through a core and compares action for action, byte for byte,
//! without any plug-in: what plug-ins answered are events.
//!
//! A recording is a directory of **segments**. Each begins with a checkpoint, so that the oldest can
//! go and the rest still replays. A segment is a header and **frames**, each with its length, its
//! checksum and compressed content. A frame that is cut off at the end of a file is what a crash
//! leaves, and is no error; anything else that does not fit is damage, and is named with file and
//! offset.
//!
//! Why actions are kept whole, and not as a hash: a replay that differs then says what was done
//! and what would be done now. Compressed they cost less than the events did uncompressed.
//!
//! What it is not: the store. Nothing is synchronised to the disk, a recording that cannot be
//! written is ended and the host goes on, and one of another version of the core is refused: what
//! would replay it is the version that made it.

mod fingerprint;
mod read;
mod record;
mod replay;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

pub use read::{Input, Item, ReadRecordingError, Recording, Segment};
pub use record::{RECORDS_MAX, Recorder, RecordingTally};
pub use replay::{Difference, Replayer, Totals};
pub use segment::{Cause, InvalidSegment, Problem};
pub use writer::{RecordingLimits, StartRecordingError};
