//! Telling the user what a build is at.

/// Where a build reports to. A closure that takes a line is one.
pub trait Progress {
    /// A step has begun or ended, in one line without a line end.
    fn line(&mut self, line: &str);

    /// What cargo says at this moment, for a status line that is overwritten. Ignored by default:
    /// the whole of it is in the log.
    fn activity(&mut self, text: &str) {
        let _ = text;
    }
}

impl<F: FnMut(&str)> Progress for F {
    fn line(&mut self, line: &str) {
        self(line);
    }
}

/// Reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn line(&mut self, _line: &str) {}
}
