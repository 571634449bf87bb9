//! The map and reduce functions of the word count: a program for tasks of the MapReduce framework.
//!
//! It is built as a WASI command component, and is an ordinary program besides. Any component that
//! takes the same arguments can stand in its place.
//!
//! # Interface
//!
//! ```text
//! wordcount map --partitions R [--offset BYTES] [--length BYTES] INPUT OUTDIR
//! ```
//!
//! reads the split `[offset, offset + length)` of the file INPUT and writes the files `OUTDIR/0` to
//! `OUTDIR/(R-1)`, all of them, empty ones included; OUTDIR is made if it is not there. The defaults are
//! the beginning and the end of the file, so that without them the split is the whole file.
//!
//! ```text
//! wordcount reduce OUT INPUT...
//! ```
//!
//! merges such files into the file OUT. An INPUT that is a directory stands for all files in it and in
//! its directories. An input that is not sorted is an error.
//!
//! Both write the line `WORDS words, DISTINCT distinct` to standard output. The exit status is 0 for
//! success, 1 for a failure (which standard error explains), and 2 for wrong arguments. A task that
//! fails may leave files half-written; so may one that is killed.
//!
//! # What is a word
//!
//! A longest run of bytes other than ASCII white space (space, `\t`, `\n`, `\r`, `\x0b`, `\x0c`). The
//! input need not be UTF-8.
//!
//! A split owns the words that *begin* in it. It therefore looks at the byte before its offset, to see
//! whether its first word is the previous split's, and reads on behind its end to finish its last. So
//! splits that cover a file without overlapping count each word once, wherever they are cut, inside of
//! words too.
//!
//! # Files
//!
//! A file is a sequence of records `WORD TAB COUNT NEWLINE`, COUNT in decimal, sorted by the words'
//! bytes, each word once. A word has no white space in it, so this needs no quoting. The partition of
//! a word is its FNV-1a hash of 64 bits modulo R: the same for every mapper, whoever wrote it.
//!
//! # Limits
//!
//! Map holds the distinct words of its split, never more than the split is long (and a last word that
//! reaches out of it). Reduce holds one record for each of at most [`merge::FAN_IN_MAX`] files; of more
//! files it makes intermediate ones beside OUT.

mod arguments;

mod hash;

mod split;

mod record;

mod map;

mod merge;

mod reduce;

mod failure;

use std::process::ExitCode;

use crate::arguments::{Job, USAGE};
use crate::record::Totals;

fn main() -> ExitCode {
    let job = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(job) => job,
        Err(wrong) => {
            eprintln!("wordcount: {wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let outcome = match &job {
        Job::Map(map) => map::run(map),
        Job::Reduce(reduce) => reduce::run(reduce),
    };
    match outcome {
        Ok(Totals { words, distinct }) => {
            println!("{words} words, {distinct} distinct");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("wordcount: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
