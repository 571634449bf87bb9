//! Records: `WORD TAB COUNT NEWLINE`.

use std::io::{self, BufRead, Write};

use crate::split::is_white_space;

/// A word and how often it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) word: Vec<u8>,
    pub(crate) count: u64,
}

/// What a job has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) words: u64,
    pub(crate) distinct: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, count: u64) {
        self.words = self.words.saturating_add(count);
        self.distinct += 1;
    }
}

/// Writes one record.
pub(crate) fn write_record(output: &mut impl Write, word: &[u8], count: u64) -> io::Result<()> {
    output.write_all(word)?;
    writeln!(output, "\t{count}")
}

/// Reads the next record into `record`, and says whether there was one.
pub(crate) fn read_record(input: &mut impl BufRead, record: &mut Record) -> io::Result<bool> {
    record.word.clear();
    if input.read_until(b'\n', &mut record.word)? == 0 {
        return Ok(false);
    }
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not a record WORD TAB COUNT");
    let line = record.word.strip_suffix(b"\n").ok_or_else(wrong)?;
    let tab = line
        .iter()
        .position(|byte| *byte == b'\t')
        .ok_or_else(wrong)?;
    let (word, count) = line.split_at(tab);
    if word.is_empty() || word.iter().any(|byte| is_white_space(*byte)) {
        return Err(wrong());
    }
    record.count = std::str::from_utf8(&count[1..])
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(wrong)?;
    record.word.truncate(tab);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut input: &[u8]) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut record = Record {
            word: Vec::new(),
            count: 0,
        };
        while read_record(&mut input, &mut record)? {
            records.push(record.clone());
        }
        Ok(records)
    }

    #[test]
    fn a_record_that_is_written_is_read() {
        let mut file = Vec::new();
        write_record(&mut file, b"a\xff", 3).unwrap();
        write_record(&mut file, b"b", u64::MAX).unwrap();
        let expected = [(&b"a\xff"[..], 3), (b"b", u64::MAX)].map(|(word, count)| Record {
            word: word.to_vec(),
            count,
        });
        assert_eq!(read_all(&file).unwrap(), expected);
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        for file in [
            &b"a\t1"[..],
            b"a 1\n",
            b"\t1\n",
            b"a\t\n",
            b"a\t-1\n",
            b"a\t1\t2\n",
            b"a b\t1\n",
            b"a\t99999999999999999999\n",
            b"\n",
        ] {
            let error = read_all(file).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{file:?}");
        }
    }
}
