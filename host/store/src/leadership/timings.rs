//! How long what takes.

use proffer_model::{Duration, Timestamp};

/// How long what takes. [`Timings::of_lease`] derives all from the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Asked of the store; the store may give a longer one.
    pub lease: Duration,
    /// Between two keep-alives.
    pub renew_every: Duration,
    /// So long before the lease may end, the leader stops.
    pub margin: Duration,
    /// After a failure, before the next try.
    pub retry_after: Duration,
    /// A request without an answer is given up.
    pub answer_within: Duration,
}

impl Timings {
    /// A keep-alive every fifth of the lease, so that two may be lost; the last quarter is margin.
    #[must_use]
    pub const fn of_lease(lease: Duration) -> Self {
        Self {
            lease,
            renew_every: Duration(lease.0 / 5),
            margin: Duration(lease.0 / 4),
            retry_after: Duration(lease.0 / 10),
            answer_within: Duration(lease.0 / 2),
        }
    }

    /// When a host stops by itself whose lease was asked for, or renewed, at that time.
    pub(super) fn stops_at(self, sent: Timestamp, ttl: Duration) -> Timestamp {
        #[cfg(feature = "planted")]
        if super::planted::is_lease_ignored() {
            return sent + Duration::DAY;
        }
        sent + ttl - self.margin
    }
}
