//! When a snapshot is to replace the journal.

use proffer_model::Duration;

/// How long the journal may get. Pure: the host's loop and the simulator ask the same one.
///
/// A snapshot may be longer than the limit: a million tasks are a million facts. So after each, the
/// journal may grow to twice what the snapshot left, and making snapshots stays a constant part of
/// all writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalLimit {
    max: u64,
    at: u64,
}

/// A host that has just begun to lead has better things to do: agents come back to it, and everybody waits for
/// what it says. A snapshot of half a million tasks takes it seconds.
const BEGINS_WITHIN: Duration = Duration(10_000);

/// A journal so many times its limit makes the loop wait for a quiet moment to replace it.
const OVERDUE: u64 = 4;

impl JournalLimit {
    /// A limit of so many facts, for a host that begins with what a snapshot would say in so many: they are most
    /// of its journal, or it would not have become so short.
    #[must_use]
    pub fn new(max: u64, snapshot: u64) -> Self {
        let mut limit = Self { max, at: max };
        limit.replaced(snapshot);
        limit
    }

    /// Whether a journal of this length is to be replaced at the next quiet moment, by a host that has led for
    /// so long.
    #[must_use]
    pub const fn is_due(&self, length: u64, led_for: Duration) -> bool {
        length >= self.at && (led_for.0 >= BEGINS_WITHIN.0 || self.is_overdue(length))
    }

    /// Whether that cannot wait much longer.
    #[must_use]
    pub const fn is_overdue(&self, length: u64) -> bool {
        length >= self.at.saturating_mul(OVERDUE)
    }

    /// A snapshot of this length has replaced it.
    pub fn replaced(&mut self, length: u64) {
        self.at = self.max.max(length.saturating_mul(2));
    }
}

#[cfg(test)]
mod tests {
    use super::{BEGINS_WITHIN, JournalLimit};

    /// Found by the simulator: with as many live tasks as the limit, the host made one snapshot after
    /// the other, for ever.
    #[test]
    fn a_snapshot_longer_than_the_limit_is_not_replaced_at_once() {
        let mut limit = JournalLimit::new(100, 0);
        let due = |limit: &JournalLimit, length| limit.is_due(length, BEGINS_WITHIN);
        assert!(!due(&limit, 99) && due(&limit, 100));
        limit.replaced(150);
        assert!(!due(&limit, 150) && !due(&limit, 299) && due(&limit, 300));
        assert!(!limit.is_overdue(1_199) && limit.is_overdue(1_200));
        limit.replaced(10);
        assert!(due(&limit, 100));
    }

    /// The facts of its last snapshot are in the journal that a host begins with.
    #[test]
    fn a_host_that_begins_with_a_long_snapshot_does_not_replace_it_at_once() {
        let limit = JournalLimit::new(100, 450);
        assert!(!limit.is_due(899, BEGINS_WITHIN) && limit.is_due(900, BEGINS_WITHIN));
    }

    #[test]
    fn who_has_just_begun_to_lead_makes_none_unless_it_is_overdue() {
        let limit = JournalLimit::new(100, 0);
        let soon = proffer_model::Duration(BEGINS_WITHIN.0 - 1);
        assert!(!limit.is_due(399, soon) && limit.is_due(399, BEGINS_WITHIN));
        assert!(limit.is_due(400, soon));
    }
}
