//! Why a job failed. There is one kind: a file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A file could not be read or written.
///
/// Written by hand, and the cause in its text, as this program has no dependencies and prints one line.
#[derive(Debug)]
pub(crate) struct Failure {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Failure {
    /// Turns an I/O error into a failure of `doing` something to `path`.
    pub(crate) fn at<'a>(
        doing: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Failure + 'a {
        move |source| Failure {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {} {}: {}",
            self.doing,
            self.path.display(),
            self.source
        )
    }
}
