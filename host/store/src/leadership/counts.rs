//! How leading has gone, for whoever watches a host.

/// Since the host began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times at which it began to lead.
    pub terms: u64,
    /// Keep-alives that it sent while it led.
    pub renewals: u64,
    /// Of these, such as failed or were given up without an answer.
    pub renewals_failed: u64,
}
