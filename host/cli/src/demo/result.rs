//! The result: parts fetched through the host, put together, written.

use std::cmp::Reverse;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use proffer_rpc::operator::{FetchOutput, OperatorClient};

use super::job::Part;
use crate::failure::Failure;

/// A part is held in memory: the demo is for what one machine has.
const PART_BYTES_MAX: usize = 1 << 30;

/// Words with their counts: the most frequent first, then by the words' bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts(pub(super) Vec<(Vec<u8>, u64)>);

/// Finds out now whether the result can be written later.
pub(super) fn check_out(out: &Path, asked_for: bool) -> Result<(), Failure> {
    // The demo's own directory is made by itself.
    if !asked_for {
        return Ok(());
    }
    let wrong = |problem: &str| {
        Err(Failure::Usage(format!(
            "--out {}: {problem}",
            out.display()
        )))
    };
    if out.is_dir() {
        return wrong("it is a directory; name a file in it");
    }
    let dir = directory_of(out);
    if !dir.is_dir() {
        return wrong(&format!(
            "there is no directory {}; make it first",
            dir.display()
        ));
    }
    match tempfile::NamedTempFile::new_in(dir) {
        Ok(_) => Ok(()),
        Err(error) => wrong(&format!("cannot write there: {error}")),
    }
}

fn directory_of(out: &Path) -> &Path {
    match out.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Fetches all parts.
pub(super) async fn fetch(
    client: &OperatorClient,
    framework: &str,
    parts: &[Part],
) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    for (number, part) in parts.iter().enumerate() {
        let fetch = FetchOutput {
            framework: framework.to_owned(),
            task: part.task.clone(),
            path: part.path.clone(),
        };
        let what = || format!("cannot fetch {} of task {}", part.path, part.task);
        let stream = client.fetch_output(fetch).await.with_context(what)?;
        let bytes = stream.all(PART_BYTES_MAX).await.with_context(what)?;
        counts.add(number, &bytes)?;
    }
    counts.sort();
    Ok(counts)
}

impl Counts {
    /// Adds a part: lines of `WORD TAB COUNT`.
    fn add(&mut self, number: usize, bytes: &[u8]) -> anyhow::Result<()> {
        for (line, text) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let Some((word, count)) = record(text) else {
                bail!(
                    "part {number} of the result, line {}: not WORD TAB COUNT",
                    line + 1
                );
            };
            self.0.push((word.to_vec(), count));
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.0
            .sort_unstable_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
    }

    /// How many words were counted, repeats included.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Writes `word TAB count` lines; the file is there whole or not at all.
    pub(super) fn write(&self, out: &Path) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let what = || format!("cannot write {}", out.display());
        let file = tempfile::NamedTempFile::new_in(directory_of(out)).with_context(what)?;
        let mut writer = BufWriter::new(file);
        for (word, count) in &self.0 {
            writer
                .write_all(word)
                .and_then(|()| writeln!(writer, "\t{count}"))
                .with_context(what)?;
        }
        let file = writer
            .into_inner()
            .map_err(|error| error.into_error())
            .with_context(what)?;
        // A result is for everybody to read, which temporary files are not.
        let everybody = std::fs::Permissions::from_mode(0o644);
        file.as_file()
            .set_permissions(everybody)
            .with_context(what)?;
        file.persist(out).with_context(what)?;
        Ok(())
    }
}

fn record(line: &[u8]) -> Option<(&[u8], u64)> {
    let line = line.strip_suffix(b"\n")?;
    let tab = line.iter().rposition(|&byte| byte == b'\t')?;
    let (word, count) = line.split_at(tab);
    let count = std::str::from_utf8(count.get(1..)?).ok()?.parse().ok()?;
    (!word.is_empty()).then_some((word, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_one_file_by_count_and_then_by_bytes() {
        let mut counts = Counts::default();
        counts.add(0, b"b\t2\nd\t1\n").unwrap();
        counts.add(1, b"").unwrap();
        counts.add(2, b"B\t2\n\xFF\xFE\t2\na\t10\n").unwrap();
        counts.sort();
        assert_eq!(counts.total(), 17);
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("counts.tsv");
        std::fs::write(&out, "old").unwrap();
        counts.write(&out).unwrap();
        let written = std::fs::read(&out).unwrap();
        assert_eq!(written, b"a\t10\nB\t2\nb\t2\n\xFF\xFE\t2\nd\t1\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_part_that_is_no_list_of_counts_is_named_by_line() {
        for bad in ["a\t1\nb 2\n", "a\t1\nb\t2", "a\t1\n\t3\n", "a\t1\nb\t-1\n"] {
            let error = Counts::default().add(3, bad.as_bytes()).unwrap_err();
            assert_eq!(
                error.to_string(),
                "part 3 of the result, line 2: not WORD TAB COUNT"
            );
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |out: &Path| check_out(out, true).unwrap_err().to_string();
        assert!(refused(dir.path()).contains("it is a directory"));
        assert!(refused(&dir.path().join("no/x")).contains("make it first"));
        check_out(&dir.path().join("x"), true).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
