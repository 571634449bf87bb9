//! What came of scenarios.

use std::fmt;

use crate::Kind;

/// What came of one scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was as expected.
    Passed,
    /// Something was not.
    Failed(Failed),
    /// It needs what is not offered: these features.
    Unsupported(String),
}

/// Where a scenario failed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Step or case, counted from 0; none: the scenario as a whole.
    pub step: Option<usize>,
    /// The step's operation.
    pub op: String,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub actual: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) => write!(f, "step {step} ({})", self.op)?,
            None => write!(f, "{}", self.op)?,
        }
        write!(f, ": expected {}, got {}", self.expected, self.actual)
    }
}

/// Counts over many scenarios.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of kinds allocator and sorter.
    pub passed: usize,
    /// Likewise.
    pub failed: usize,
    /// Skipped because of what they need, as was asked for.
    pub skipped: usize,
    /// Scenarios of kind cases: the host's own functions.
    pub cases_passed: usize,
    /// Likewise.
    pub cases_failed: usize,
}

impl Report {
    /// Counts one. `skip`: what is not offered is skipped and not failed.
    pub fn count(&mut self, kind: Kind, verdict: &Verdict, skip: bool) {
        let counter = match (kind, verdict) {
            (_, Verdict::Unsupported(_)) if skip => &mut self.skipped,
            (Kind::Cases, Verdict::Passed) => &mut self.cases_passed,
            (Kind::Cases, _) => &mut self.cases_failed,
            (_, Verdict::Passed) => &mut self.passed,
            (_, _) => &mut self.failed,
        };
        *counter += 1;
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failed == 0 && self.cases_failed == 0
    }
}
