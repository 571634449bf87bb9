//! Tables in text files: every error says where and what was wanted.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// Longest file that is read: the largest public traces are a third of it.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// As much of a wrong field as an error shows.
const FIELD_SHOWN_MAX: usize = 64;

/// Why a trace cannot be used.
#[derive(Debug)]
pub struct InvalidTrace {
    /// Its file.
    pub file: PathBuf,
    /// Line, counted from 1; none: the file as a whole.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: TraceProblem,
}

/// What is wrong with a trace.
#[derive(Debug)]
pub enum TraceProblem {
    /// It cannot be read.
    Read(io::Error),
    /// There is nothing in it.
    Empty(&'static str),
    /// A column is missing.
    NoColumn(String),
    /// A line has too few or too many fields.
    Fields {
        /// So many.
        found: usize,
        /// Instead of so many.
        wanted: usize,
    },
    /// A field is not what it should be.
    Field {
        /// Its column.
        column: String,
        /// As it is.
        found: String,
        /// As it should be.
        wanted: &'static str,
    },
    /// Something else, as a sentence.
    Other(String),
}

impl fmt::Display for InvalidTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        match &self.problem {
            TraceProblem::Read(_) => write!(f, ": cannot be read"),
            TraceProblem::Empty(wanted) => write!(f, ": empty; wanted {wanted}"),
            TraceProblem::NoColumn(column) => write!(f, ": there is no column {column}"),
            TraceProblem::Fields { found, wanted } => {
                write!(f, ": {found} fields; wanted {wanted}")
            }
            TraceProblem::Field {
                column,
                found,
                wanted,
            } => write!(f, ", column {column}: '{found}'; wanted {wanted}"),
            TraceProblem::Other(problem) => write!(f, ": {problem}"),
        }
    }
}

impl std::error::Error for InvalidTrace {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            TraceProblem::Read(error) => Some(error),
            _ => None,
        }
    }
}

/// The whole of a file.
pub(super) fn read(file: &Path) -> Result<String, InvalidTrace> {
    let wrong = |error| InvalidTrace {
        file: file.to_owned(),
        line: None,
        problem: TraceProblem::Read(error),
    };
    let about = fs::metadata(file).map_err(wrong)?;
    if about.len() > FILE_BYTES_MAX {
        let text = format!("longer than {FILE_BYTES_MAX} bytes");
        return Err(wrong(io::Error::other(text)));
    }
    fs::read_to_string(file).map_err(wrong)
}

/// A table with commas, whose first line names the columns, in any order.
pub(super) struct Table<'t> {
    file: &'t Path,
    columns: Vec<&'t str>,
    lines: std::iter::Enumerate<std::str::Lines<'t>>,
}

/// A line of a table.
pub(super) struct Line<'t> {
    file: &'t Path,
    pub(super) number: usize,
    columns: Vec<&'t str>,
    fields: Vec<&'t str>,
}

impl<'t> Table<'t> {
    pub(super) fn new(
        file: &'t Path,
        text: &'t str,
        wanted: &[&str],
    ) -> Result<Self, InvalidTrace> {
        let mut lines = text.lines().enumerate();
        let invalid = |problem| InvalidTrace {
            file: file.to_owned(),
            line: Some(1),
            problem,
        };
        let Some((_, first)) = lines.next() else {
            return Err(InvalidTrace {
                file: file.to_owned(),
                line: None,
                problem: TraceProblem::Empty("a line with the names of columns"),
            });
        };
        let columns: Vec<&str> = first.split(',').map(str::trim).collect();
        for column in wanted {
            if !columns.contains(column) {
                return Err(invalid(TraceProblem::NoColumn((*column).to_owned())));
            }
        }
        Ok(Self {
            file,
            columns,
            lines,
        })
    }

    /// The next line that is not blank.
    pub(super) fn next_line(&mut self) -> Option<Result<Line<'t>, InvalidTrace>> {
        let (index, text) = self.lines.find(|(_, text)| !text.trim().is_empty())?;
        let line = Line {
            file: self.file,
            number: index + 1,
            columns: self.columns.clone(),
            fields: text.split(',').map(str::trim).collect(),
        };
        let (found, wanted) = (line.fields.len(), line.columns.len());
        if found != wanted {
            return Some(Err(line.invalid(TraceProblem::Fields { found, wanted })));
        }
        Some(Ok(line))
    }
}

impl<'t> Line<'t> {
    /// A line whose fields have these names.
    pub(super) fn of(
        file: &'t Path,
        number: usize,
        columns: &[&'t str],
        fields: Vec<&'t str>,
    ) -> Self {
        Self {
            file,
            number,
            columns: columns.to_vec(),
            fields,
        }
    }

    pub(super) fn text(&self, column: &str) -> &'t str {
        let place = self.columns.iter().position(|name| *name == column);
        place
            .and_then(|place| self.fields.get(place))
            .copied()
            .unwrap_or("")
    }

    /// A number that is not negative.
    pub(super) fn number(&self, column: &str) -> Result<u64, InvalidTrace> {
        let text = self.text(column);
        text.parse()
            .map_err(|_| self.field(column, "a whole number of at least 0"))
    }

    /// A number; none if it is negative, which stands for unknown.
    pub(super) fn known(&self, column: &str) -> Result<Option<u64>, InvalidTrace> {
        let text = self.text(column);
        // Some archives write whole numbers with a fraction of zeros.
        let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
        let number: i64 = whole
            .parse()
            .map_err(|_| self.field(column, "a number, or -1 for unknown"))?;
        Ok(u64::try_from(number).ok())
    }

    pub(super) fn field(&self, column: &str, wanted: &'static str) -> InvalidTrace {
        self.invalid(TraceProblem::Field {
            column: column.to_owned(),
            found: self.text(column).chars().take(FIELD_SHOWN_MAX).collect(),
            wanted,
        })
    }

    pub(super) fn invalid(&self, problem: TraceProblem) -> InvalidTrace {
        InvalidTrace {
            file: self.file.to_owned(),
            line: Some(self.number),
            problem,
        }
    }
}
