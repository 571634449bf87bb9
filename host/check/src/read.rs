//! Scenario files: one, or all in a folder.

use std::path::{Path, PathBuf};

use crate::Scenario;

/// Longest file, in bytes: what is larger is no scenario.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why scenarios cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file or folder cannot be read.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}:{line}: {problem}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What was expected.
        problem: String,
    },
    /// There is nothing to replay.
    #[error("{}: a folder without any .json file", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
}

/// All scenarios of a file, or of the `.json` files right in a folder, with their files, in order of
/// the files' names.
///
/// # Errors
/// The first file that cannot be read or is malformed: with file, line and what was expected.
pub fn read(path: &Path) -> Result<Vec<(PathBuf, Scenario)>, ReadError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ReadError::Io { path, source }
    };
    let about = std::fs::metadata(path).map_err(io(path))?;
    if !about.is_dir() {
        return read_file(path);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io(path))? {
        let file = entry.map_err(io(path))?.path();
        if file
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(ReadError::Empty {
            path: path.to_owned(),
        });
    }
    files.sort();
    let mut all = Vec::new();
    for file in files {
        all.extend(read_file(&file)?);
    }
    Ok(all)
}

fn read_file(path: &Path) -> Result<Vec<(PathBuf, Scenario)>, ReadError> {
    let io = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    let malformed = |line, problem| ReadError::Malformed {
        path: path.to_owned(),
        line,
        problem,
    };
    if std::fs::metadata(path).map_err(io)?.len() > FILE_BYTES_MAX {
        return Err(malformed(1, format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    let text_read = std::fs::read_to_string(path).map_err(io)?;
    let scenarios: Vec<Scenario> = serde_json::from_str(&text_read).map_err(|error| {
        // The place is said once, before the problem.
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let problem = text.strip_suffix(&place).unwrap_or(&text);
        let line = last_token(&text_read, error.line(), error.column());
        malformed(line, problem.to_owned())
    })?;
    for scenario in &scenarios {
        if let Some(problem) = scenario.problem() {
            let at = text_read
                .find(&format!("\"{}\"", scenario.name))
                .unwrap_or(0);
            let line = text_read[..at].matches('\n').count() + 1;
            return Err(malformed(line, format!("{}: {problem}", scenario.name)));
        }
    }
    Ok(scenarios
        .into_iter()
        .map(|scenario| (path.to_owned(), scenario))
        .collect())
}

/// The line of the last token before a place: a step is read whole before it is looked at, and the
/// place of what is wrong in it is then where the next one begins.
fn last_token(text: &str, line: usize, column: usize) -> usize {
    let begin: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let bytes = text.as_bytes();
    // The column is of the byte that was looked at last, from 1.
    let mut at = (begin + column).min(bytes.len()).saturating_sub(1);
    while at > 0
        && bytes
            .get(at.saturating_sub(1))
            .is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b',')
    {
        at -= 1;
    }
    bytes.iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}
