//! From input files to map tasks: whole files, or ranges of bytes.

use serde::{Deserialize, Serialize};

/// An input file: where it is, and how many bytes it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// As an input's source: `file:/…`.
    pub source: String,
    /// Bytes.
    pub size: u64,
}

/// A job's input files, in the order in which they were submitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs(Vec<InputFile>);

/// The part of a file that one map task reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice<'a> {
    /// The file.
    pub file: &'a InputFile,
    /// Its first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

impl Inputs {
    /// Of these files.
    #[must_use]
    pub fn new(files: Vec<InputFile>) -> Self {
        Self(files)
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &[InputFile] {
        &self.0
    }

    /// How many map tasks these files make. An empty file makes one: it may be read all the same, and
    /// a job of empty files ends like any other.
    #[must_use]
    pub fn maps(&self, split: Option<u64>) -> u64 {
        let all = self.0.iter().map(|file| splits_of(file, split));
        all.fold(0, u64::saturating_add)
    }

    /// The part of map task `index`: files in order, each from its beginning.
    #[must_use]
    pub fn slice(&self, split: Option<u64>, index: usize) -> Option<Slice<'_>> {
        let mut left = index as u64;
        for file in &self.0 {
            let splits = splits_of(file, split);
            if left >= splits {
                left -= splits;
                continue;
            }
            let size = split.unwrap_or(file.size);
            let offset = left.saturating_mul(size);
            return Some(Slice {
                file,
                offset,
                length: size.min(file.size.saturating_sub(offset)),
            });
        }
        None
    }
}

fn splits_of(file: &InputFile, split: Option<u64>) -> u64 {
    match split {
        Some(split) if split > 0 => file.size.div_ceil(split).max(1),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_cover_every_byte_of_every_file_once() {
        let sizes = [0, 1, 9, 10, 11, 25];
        let files = sizes.iter().map(|size| InputFile {
            source: format!("file:/{size}"),
            size: *size,
        });
        let inputs = Inputs::new(files.collect());
        for (split, maps) in [(None, 6), (Some(10), 9), (Some(1), 57), (Some(100), 6)] {
            assert_eq!(inputs.maps(split), maps);
            let mut covered: Vec<u64> = vec![0; 26];
            for index in 0..usize::try_from(maps).unwrap() {
                let slice = inputs.slice(split, index).unwrap();
                let reached = &mut covered[usize::try_from(slice.file.size).unwrap()];
                assert_eq!(*reached, slice.offset);
                *reached += slice.length;
            }
            for size in sizes {
                assert_eq!(covered[usize::try_from(size).unwrap()], size);
            }
            assert_eq!(inputs.slice(split, usize::try_from(maps).unwrap()), None);
        }
    }
}
