//! `reduce`: merges what mappers wrote.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::arguments::Reduce;
use crate::failure::Failure;
use crate::merge::merge_files;
use crate::record::Totals;

/// Deeper than any framework lays out its outputs; ends a walk that a link has led in a circle.
const DEPTH_MAX: usize = 16;

/// Merges all inputs.
pub(crate) fn run(reduce: &Reduce) -> Result<Totals, Failure> {
    let mut files = Vec::new();
    for input in &reduce.inputs {
        collect_files(input, 0, &mut files).map_err(Failure::at("read", input))?;
    }
    merge_files(files, &reduce.out)
}

fn collect_files(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth == DEPTH_MAX {
        return Err(io::Error::other("directories in directories, too many"));
    }
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        collect_files(&entry.path(), depth + 1, files)?;
    }
    Ok(())
}
