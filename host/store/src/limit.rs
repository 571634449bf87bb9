//! When a snapshot is to replace the journal.

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

/// A journal so many times its limit makes the loop wait for a quiet moment to replace it.
const OVERDUE: u64 = 4;

impl JournalLimit {
    /// A limit of so many facts.
    #[must_use]
    pub const fn new(max: u64) -> Self {
        Self { max, at: max }
    }

    /// Whether a journal of this length is to be replaced at the next quiet moment.
    #[must_use]
    pub const fn is_reached(&self, length: u64) -> bool {
        length >= self.at
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
    use super::JournalLimit;

    /// Found by the simulator: with as many live tasks as the limit, the host made one snapshot after
    /// the other, for ever.
    #[test]
    fn a_snapshot_longer_than_the_limit_is_not_replaced_at_once() {
        let mut limit = JournalLimit::new(100);
        assert!(!limit.is_reached(99) && limit.is_reached(100));
        limit.replaced(150);
        assert!(!limit.is_reached(150) && !limit.is_reached(299) && limit.is_reached(300));
        assert!(!limit.is_overdue(1_199) && limit.is_overdue(1_200));
        limit.replaced(10);
        assert!(limit.is_reached(100));
    }
}
