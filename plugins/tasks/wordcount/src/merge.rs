//! Merging sorted files of records into one.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::record::{Record, Totals, read_record, write_record};

/// So many files are open at once: as a WASI component it has 128 descriptors (the adapter's table),
/// of which the standard streams, the directories and the output take some.
pub(crate) const FAN_IN_MAX: usize = 64;

/// For each open file; with all of them about 4 MiB.
const READ_BYTES: usize = 64 * 1024;

/// Merges `inputs` into `out`, in rounds if they are many.
pub(crate) fn merge_files(inputs: Vec<PathBuf>, out: &Path) -> Result<Totals, Failure> {
    merge_in_rounds(inputs, out, FAN_IN_MAX)
}

fn merge_in_rounds(mut inputs: Vec<PathBuf>, out: &Path, fan_in: usize) -> Result<Totals, Failure> {
    let mut intermediate = Vec::new();
    while inputs.len() > fan_in {
        // The whole list takes its turn before a merged file is merged again.
        let rest = inputs.split_off(fan_in);
        let mut name = out.as_os_str().to_owned();
        name.push(format!(".merge-{}", intermediate.len()));
        let merged = PathBuf::from(name);
        merge(&inputs, &merged)?;
        intermediate.push(merged.clone());
        inputs = rest;
        inputs.push(merged);
    }
    let totals = merge(&inputs, out)?;
    for file in intermediate {
        fs::remove_file(&file).map_err(Failure::at("remove", &file))?;
    }
    Ok(totals)
}

fn merge(inputs: &[PathBuf], out: &Path) -> Result<Totals, Failure> {
    let mut sources = BinaryHeap::new();
    for path in inputs {
        if let Some(source) = Source::open(path)? {
            sources.push(Reverse(source));
        }
    }
    let mut output = File::create(out)
        .map(BufWriter::new)
        .map_err(Failure::at("write", out))?;
    let mut totals = Totals::default();
    let mut current = Record {
        word: Vec::new(),
        count: 0,
    };
    while let Some(mut top) = sources.peek_mut() {
        let Reverse(source) = &mut *top;
        if source.record.word == current.word {
            current.count = current.count.saturating_add(source.record.count);
        } else {
            if !current.word.is_empty() {
                totals.add(current.count);
                write_record(&mut output, &current.word, current.count)
                    .map_err(Failure::at("write", out))?;
            }
            current.clone_from(&source.record);
        }
        if !source.advance()? {
            std::collections::binary_heap::PeekMut::pop(top);
        }
    }
    // No word is empty: this is the beginning, if there was no record at all.
    if !current.word.is_empty() {
        totals.add(current.count);
        write_record(&mut output, &current.word, current.count)
            .map_err(Failure::at("write", out))?;
    }
    output.flush().map_err(Failure::at("write", out))?;
    Ok(totals)
}

/// An input at its next record.
struct Source {
    path: PathBuf,
    input: BufReader<File>,
    record: Record,
    previous: Vec<u8>,
}

impl Source {
    /// `None` if the file is empty.
    fn open(path: &Path) -> Result<Option<Source>, Failure> {
        let file = File::open(path).map_err(Failure::at("read", path))?;
        let mut source = Source {
            path: path.to_owned(),
            input: BufReader::with_capacity(READ_BYTES, file),
            record: Record {
                word: Vec::new(),
                count: 0,
            },
            previous: Vec::new(),
        };
        Ok(source.advance()?.then_some(source))
    }

    /// Goes to the next record, and says whether there is one.
    fn advance(&mut self) -> Result<bool, Failure> {
        std::mem::swap(&mut self.previous, &mut self.record.word);
        let outcome = match read_record(&mut self.input, &mut self.record) {
            Ok(true) if self.record.word <= self.previous => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its words are not in order",
            )),
            outcome => outcome,
        };
        outcome.map_err(Failure::at("read", &self.path))
    }
}

impl Ord for Source {
    fn cmp(&self, other: &Source) -> Ordering {
        self.record.word.cmp(&other.record.word)
    }
}

impl PartialOrd for Source {
    fn partial_cmp(&self, other: &Source) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Source {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_fan_in_gives_the_same_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let inputs: Vec<PathBuf> = (0..10)
            .map(|number| {
                let path = dir.path().join(format!("in{number}"));
                fs::write(&path, format!("all\t1\nof{number}\t{number}\n")).unwrap();
                path
            })
            .collect();
        let out = dir.path().join("out");
        let mut expected = "all\t10\n".to_owned();
        for number in 0..10 {
            expected += &format!("of{number}\t{number}\n");
        }
        for fan_in in [2, 3, 9, 10, 100] {
            let totals = merge_in_rounds(inputs.clone(), &out, fan_in).unwrap();
            assert_eq!(fs::read_to_string(&out).unwrap(), expected);
            let words = 10 + (0..10).sum::<u64>();
            assert_eq!(
                totals,
                Totals {
                    words,
                    distinct: 11
                }
            );
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 11);
        }
    }

    #[test]
    fn inputs_that_are_not_sorted_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in");
        for content in ["b\t1\na\t1\n", "a\t1\na\t1\n"] {
            fs::write(&input, content).unwrap();
            let failure = merge(std::slice::from_ref(&input), &dir.path().join("out")).unwrap_err();
            assert!(failure.to_string().ends_with("its words are not in order"));
        }
    }
}
