//! The loop's end of a recording: it writes down what happens, and never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use proffer_codec::Codec;
use proffer_core::{Action, Core, Event};
use proffer_model::Timestamp;

use crate::segment::{Begin, Cause};
use crate::writer::{Message, RecordingLimits, StartRecordingError, Writer};

/// Blocks that may wait for the disk. With [`BLOCK_FULL`] it bounds the memory of a recording that
/// falls behind; single events that are larger come on top.
const BLOCKS_WAITING_MAX: usize = 32;
/// A block that is so long is given to the writer even if that is busy.
const BLOCK_FULL: usize = 1 << 20;
/// Agents, tasks, offers and filters of the largest core that is recorded. Making a checkpoint holds
/// the offer loop up for about a microsecond for each of them: a tenth of a second at most.
pub const RECORDS_MAX: usize = 100_000;

/// How a recording does, for metrics.
#[derive(Debug, Default)]
pub struct RecordingTally {
    /// It goes on.
    pub running: AtomicBool,
    /// Events recorded.
    pub events: AtomicU64,
    /// Bytes recorded, before compression.
    pub bytes: AtomicU64,
    /// Bytes in files now, all segments.
    pub stored: AtomicU64,
    /// Segments begun.
    pub segments: AtomicU64,
    /// Checkpoints that were left out because the core had grown too large.
    pub checkpoints_skipped: AtomicU64,
    /// The writer wants a new segment.
    pub(crate) wants_checkpoint: AtomicBool,
    /// Blocks given and not yet written.
    pub waiting: AtomicU64,
    /// It was ended because the disk was too slow.
    pub(crate) behind: AtomicBool,
}

/// Records what a core is told and does.
#[derive(Debug)]
pub struct Recorder {
    live: Option<Live>,
    tally: Arc<RecordingTally>,
}

#[derive(Debug)]
struct Live {
    messages: SyncSender<Message>,
    writer: Option<thread::JoinHandle<()>>,
    run: u64,
    index: u64,
    /// The time of the last event.
    at: Timestamp,
    /// Inputs that the writer has not been given.
    block: Vec<u8>,
}

impl Recorder {
    /// One that records nothing.
    #[must_use]
    pub fn off() -> Self {
        Self {
            live: None,
            tally: Arc::default(),
        }
    }

    /// Begins a recording of a core that has not been told anything yet.
    ///
    /// # Errors
    /// The directory cannot be used, or the core is too large to be recorded.
    pub fn start(
        limits: RecordingLimits,
        core: &Core,
        now: Timestamp,
    ) -> Result<Self, StartRecordingError> {
        let records = core.record_count();
        if records > RECORDS_MAX {
            return Err(StartRecordingError::TooLarge { records });
        }
        let tally = Arc::new(RecordingTally::default());
        let begin = Begin {
            run: now.0,
            index: 0,
            at: now,
            cause: Cause::Started,
        };
        let mut content = Vec::new();
        begin.put(&mut content);
        core.checkpoint(&mut content);
        let mut writer = Writer::open(limits, Arc::clone(&tally))?;
        let (messages, work) = sync_channel(BLOCKS_WAITING_MAX);
        let thread = thread::Builder::new()
            .name("proffer-record".to_owned())
            .spawn(move || {
                writer.begin(&content);
                drop(content);
                writer.run(&work);
            })
            .map_err(StartRecordingError::Thread)?;
        tally.running.store(true, Ordering::Relaxed);
        Ok(Self {
            live: Some(Live {
                messages,
                writer: Some(thread),
                run: now.0,
                index: 0,
                at: now,
                block: Vec::new(),
            }),
            tally,
        })
    }

    /// How it does.
    #[must_use]
    pub fn tally(&self) -> Arc<RecordingTally> {
        Arc::clone(&self.tally)
    }

    /// The core is about to be told this.
    pub fn event(&mut self, now: Timestamp, event: &Event) {
        if let Some(live) = &mut self.live {
            live.at = now;
            now.put(&mut live.block);
            event.put(&mut live.block);
        }
    }

    /// The core did this.
    pub fn actions(&mut self, actions: &[Action]) {
        let Some(live) = &mut self.live else { return };
        put_actions(actions, &mut live.block);
        live.index += 1;
        self.tally.events.fetch_add(1, Ordering::Relaxed);
        if live.block.len() >= BLOCK_FULL {
            self.give();
        }
    }

    /// Called between events, often: gives the writer what has gathered, if it has nothing else to
    /// do, and makes the checkpoint that it wants.
    pub fn rest(&mut self, core: &Core) {
        if self.live.is_none() {
            return;
        }
        if !self.tally.running.load(Ordering::Relaxed) {
            // The writer has ended it; it has said why.
            self.live = None;
            return;
        }
        if self.tally.waiting.load(Ordering::Relaxed) == 0 {
            self.give();
        }
        if self.tally.wants_checkpoint.swap(false, Ordering::Relaxed) {
            self.begin_segment(core);
        }
    }

    fn begin_segment(&mut self, core: &Core) {
        self.give();
        let Some(live) = &mut self.live else { return };
        if core.record_count() > RECORDS_MAX {
            self.tally
                .checkpoints_skipped
                .fetch_add(1, Ordering::Relaxed);
            return;
        }
        let begin = Begin {
            run: live.run,
            index: live.index,
            at: live.at,
            cause: Cause::Continued,
        };
        let mut content = Vec::new();
        begin.put(&mut content);
        core.checkpoint(&mut content);
        self.send(Message::Begin(content));
    }

    fn give(&mut self) {
        let Some(live) = &mut self.live else { return };
        if !live.block.is_empty() {
            let block = std::mem::take(&mut live.block);
            self.tally
                .bytes
                .fetch_add(block.len() as u64, Ordering::Relaxed);
            self.send(Message::Inputs(block));
        }
    }

    fn send(&mut self, message: Message) {
        let Some(live) = &mut self.live else { return };
        self.tally.waiting.fetch_add(1, Ordering::Relaxed);
        match live.messages.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                // A gap could not be replayed: what is written so far stays, the rest is not recorded.
                self.tally.behind.store(true, Ordering::Relaxed);
                self.tally.running.store(false, Ordering::Relaxed);
                self.live = None;
            }
            Err(TrySendError::Disconnected(_)) => self.live = None,
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.give();
        if let Some(mut live) = self.live.take() {
            let writer = live.writer.take();
            // Without a sender the writer ends after what it was given.
            drop(live);
            if writer.is_some_and(|writer| writer.join().is_err()) {
                tracing::error!("the recording's thread panicked");
            }
        }
    }
}

/// The actions of one event, with their length before them, so that they can be compared unread.
pub(crate) fn put_actions(actions: &[Action], out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    (actions.len()).put(out);
    for action in actions {
        action.put(out);
    }
    // Past four gigabytes the frame is refused as a whole.
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}
