//! A recording run through a core, and compared.

use proffer_codec::Codec;
use proffer_core::{Action, Core, Outbox};
use proffer_model::{Duration, Timestamp};
use sha2::{Digest, Sha256};

use crate::read::{Input, Segment};
use crate::record::put_actions;

/// Runs inputs through a core.
#[derive(Debug, Default)]
pub struct Replayer {
    live: Option<Live>,
    totals: Totals,
    hash: Sha256,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Live {
    core: Box<Core>,
    run: u64,
    index: u64,
    from: Timestamp,
    at: Timestamp,
}

/// What was replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events.
    pub events: u64,
    /// Actions that came of them.
    pub actions: u64,
    /// Runs of the host.
    pub runs: u64,
    /// Segments.
    pub segments: u64,
    /// Time from first to last event, over all runs.
    pub span: Duration,
    /// Time of the last event.
    pub at: Timestamp,
}

/// The first place at which the core did something else than was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Which event of its run, counted from 0; at a segment's beginning, the one that follows.
    pub event: u64,
    /// When.
    pub at: Timestamp,
    /// What the core was told, in words.
    pub told: String,
    /// Which action of that event, counted from 0.
    pub action: usize,
    /// What was recorded; none: nothing more.
    pub recorded: Option<String>,
    /// What came of it now; none: nothing more.
    pub replayed: Option<String>,
}

impl Replayer {
    /// Goes on in a segment. Where it follows on the one before, the state that it begins with is
    /// compared with the state reached; otherwise the core is the segment's.
    ///
    /// # Errors
    /// The states differ.
    pub fn segment(&mut self, segment: Segment) -> Result<(), Box<Difference>> {
        self.totals.segments += 1;
        if let Some(live) = &mut self.live
            && live.run == segment.run
            && live.index == segment.index
        {
            self.scratch.clear();
            live.core.checkpoint(&mut self.scratch);
            if self.scratch == segment.checkpoint {
                return Ok(());
            }
            let same = self
                .scratch
                .iter()
                .zip(&segment.checkpoint)
                .take_while(|(a, b)| a == b);
            let place = format!("state that differs from byte {}", same.count());
            return Err(Box::new(Difference {
                event: segment.index,
                at: segment.at,
                told: format!("the beginning of {}", segment.file.display()),
                action: 0,
                recorded: Some(place.clone()),
                replayed: Some(place),
            }));
        }
        self.totals.runs += 1;
        self.end_run();
        self.live = Some(Live {
            core: segment.core,
            run: segment.run,
            index: segment.index,
            from: segment.at,
            at: segment.at,
        });
        Ok(())
    }

    /// Runs an input through the core.
    ///
    /// # Errors
    /// The core did something else than was recorded.
    pub fn input(&mut self, input: Input) -> Result<Vec<Action>, Box<Difference>> {
        let Input { at, event, actions } = input;
        let Some(live) = &mut self.live else {
            return Ok(Vec::new());
        };
        // In words only if it is needed: kept as a value until then.
        let told = event.clone();
        let mut out = Outbox::new();
        live.core.handle(at, event, &mut out);
        let done: Vec<Action> = out.drain().collect();
        let index = live.index;
        live.index += 1;
        live.at = live.at.max(at);
        self.totals.events += 1;
        self.totals.actions += done.len() as u64;
        self.totals.at = at;
        self.scratch.clear();
        put_actions(&done, &mut self.scratch);
        self.hash.update(&self.scratch[4..]);
        if self.scratch[4..] == actions {
            return Ok(done);
        }
        let (action, recorded, replayed) = first_difference(&actions, &done);
        Err(Box::new(Difference {
            event: index,
            at,
            told: format!("{told:?}"),
            action,
            recorded,
            replayed,
        }))
    }

    /// The core as it is now.
    #[must_use]
    pub fn core(&self) -> Option<&Core> {
        self.live.as_ref().map(|live| &*live.core)
    }

    /// What was replayed.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = self.totals.clone();
        if let Some(live) = &self.live {
            totals.span.0 += live.at.since(live.from).0;
        }
        totals
    }

    /// SHA-256 over all actions, in hexadecimal digits.
    #[must_use]
    pub fn hash(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    fn end_run(&mut self) {
        if let Some(live) = self.live.take() {
            self.totals.span.0 += live.at.since(live.from).0;
        }
    }
}

/// Where two lists of actions part, and what each has there.
fn first_difference(
    recorded: &[u8],
    replayed: &[Action],
) -> (usize, Option<String>, Option<String>) {
    let mut input = proffer_codec::Input::new(recorded);
    let count = usize::take(&mut input).unwrap_or(0);
    for index in 0..count.max(replayed.len()) {
        let now = replayed.get(index).map(|action| format!("{action:?}"));
        if index >= count {
            return (index, None, now);
        }
        let then = match Action::take(&mut input) {
            Ok(action) => format!("{action:?}"),
            Err(error) => return (index, Some(format!("unreadable: {error}")), now),
        };
        if now.as_ref() != Some(&then) {
            return (index, Some(then), now);
        }
    }
    (count, None, None)
}
