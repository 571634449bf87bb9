//! What is kept of ended launches, and for how long.

use proffer_model::{Duration, LaunchNumber, Timestamp};

use super::launch::{Due, Phase};
use super::{Action, FORGOTTEN_MAX, Logic, Outbox, Record};

/// What an agent keeps of launches that have ended and that the host knows all about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaning {
    /// Sandboxes are removed after this.
    pub keep_for: Duration,
    /// At most so many sandboxes; the oldest go first.
    pub keep_max: usize,
}

impl Default for Cleaning {
    /// A day, to look at what went wrong yesterday; ten thousand, so that directories stay small.
    fn default() -> Self {
        Self {
            keep_for: Duration::DAY,
            keep_max: 10_000,
        }
    }
}

/// The part of the kept sandboxes, oldest first, that goes when disk is low: enough to help, and not
/// all that a running job may still want to read.
const LOW_DISK_PART: usize = 4;

impl Logic {
    pub(super) fn clean(&mut self, now: Timestamp, disk_is_low: bool, outbox: &mut Outbox) {
        let settled = self.launches.iter();
        let mut settled: Vec<(Timestamp, LaunchNumber)> = settled
            .filter(|(_, state)| state.is_settled())
            .filter_map(|(number, state)| match state.phase {
                Phase::Ended { at } => Some((at, *number)),
                _ => None,
            })
            .collect();
        settled.sort_unstable();
        let Cleaning { keep_for, keep_max } = self.settings.cleaning;
        let for_disk = if disk_is_low {
            settled.len().div_ceil(LOW_DISK_PART)
        } else {
            0
        };
        let for_room = settled.len().saturating_sub(keep_max).max(for_disk);
        for (index, (ended, number)) in settled.into_iter().enumerate() {
            if index < for_room || ended + keep_for <= now {
                self.forget(number, outbox);
            }
        }
    }

    /// Drops a launch that has ended, with its sandbox; its number is never run again.
    pub(super) fn forget(&mut self, number: LaunchNumber, outbox: &mut Outbox) {
        let Some(state) = self.launches.remove(&number) else {
            return;
        };
        if let Some(in_flight) = state.stream.in_flight {
            self.dues.remove(&(in_flight.at, number, Due::Resend));
        }
        self.counters.sandboxes_removed += 1;
        outbox.push(Action::Persist(Record::Forgotten(number)));
        outbox.push(Action::RemoveSandbox {
            launch: number,
            framework: state.launch.framework,
        });
        self.dismiss_if_forgotten(state.launch.framework, outbox);
        self.forgotten.insert(number);
        if self.forgotten.len() > FORGOTTEN_MAX {
            self.coarsen_forgotten(outbox);
        }
    }

    /// Numbers grow, so the lower half becomes one bound: a launch below it that never came here will
    /// not come either, the host has long given it up.
    fn coarsen_forgotten(&mut self, outbox: &mut Outbox) {
        let middle = self.forgotten.iter().nth(self.forgotten.len() / 2).copied();
        if let Some(middle) = middle {
            self.forgotten = self.forgotten.split_off(&LaunchNumber(middle.0 + 1));
            self.forgotten_up_to = middle;
            outbox.push(Action::Persist(Record::ForgottenUpTo(middle)));
        }
    }
}
