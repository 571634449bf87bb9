//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: wordcount map --partitions R [--offset BYTES] [--length BYTES] INPUT OUTDIR
       wordcount reduce OUT INPUT...";

/// Each partition is a file and a reducer; more than this is a slip of the keyboard.
const PARTITIONS_MAX: u64 = 10_000;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Map(Map),
    Reduce(Reduce),
}

/// `wordcount map`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) partitions: u64,
    pub(crate) offset: u64,
    /// `None` is up to the end of the file.
    pub(crate) length: Option<u64>,
    pub(crate) input: PathBuf,
    pub(crate) out_dir: PathBuf,
}

/// `wordcount reduce`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reduce {
    pub(crate) out: PathBuf,
    pub(crate) inputs: Vec<PathBuf>,
}

/// Parses all arguments but the program's name; an error is a line for people.
pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Job, String> {
    let job = arguments.next().ok_or("no job named")?;
    match job.to_str() {
        Some("map") => parse_map(arguments).map(Job::Map),
        Some("reduce") => parse_reduce(arguments).map(Job::Reduce),
        _ => Err(format!("unknown job {}", job.display())),
    }
}

fn parse_map(mut arguments: impl Iterator<Item = OsString>) -> Result<Map, String> {
    let mut partitions = None;
    let mut offset = None;
    let mut length = None;
    let mut files = Vec::new();
    while let Some(argument) = arguments.next() {
        let (flag, value) = match argument.to_str() {
            Some(text) if text.starts_with("--") => match text.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(OsString::from(value))),
                None => (text.to_owned(), arguments.next()),
            },
            _ => {
                files.push(PathBuf::from(argument));
                continue;
            }
        };
        let slot = match flag.as_str() {
            "--partitions" => &mut partitions,
            "--offset" => &mut offset,
            "--length" => &mut length,
            _ => return Err(format!("unknown flag {flag}")),
        };
        let number = value
            .as_ref()
            .and_then(|value| value.to_str()?.parse().ok());
        if slot
            .replace(number.ok_or(format!("{flag} needs a whole number"))?)
            .is_some()
        {
            return Err(format!("{flag} twice"));
        }
    }
    let partitions = partitions.ok_or("--partitions is missing")?;
    if !(1..=PARTITIONS_MAX).contains(&partitions) {
        return Err(format!("--partitions must be 1 to {PARTITIONS_MAX}"));
    }
    let Ok([input, out_dir]) = <[PathBuf; 2]>::try_from(files) else {
        return Err("map needs INPUT and OUTDIR".to_owned());
    };
    Ok(Map {
        partitions,
        offset: offset.unwrap_or(0),
        length,
        input,
        out_dir,
    })
}

fn parse_reduce(mut arguments: impl Iterator<Item = OsString>) -> Result<Reduce, String> {
    let out = arguments.next().map(PathBuf::from);
    let inputs: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    match out {
        Some(out) if !inputs.is_empty() => Ok(Reduce { out, inputs }),
        _ => Err("reduce needs OUT and at least one INPUT".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Job, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn map_takes_its_flags_in_any_place_and_both_forms() {
        let expected = Job::Map(Map {
            partitions: 4,
            offset: 10,
            length: Some(20),
            input: PathBuf::from("in"),
            out_dir: PathBuf::from("out"),
        });
        let line = "map --partitions 4 --offset 10 --length 20 in out";
        assert_eq!(parse_line(line).as_ref(), Ok(&expected));
        let line = "map in --partitions=4 out --length=20 --offset=10";
        assert_eq!(parse_line(line), Ok(expected));
    }

    #[test]
    fn a_split_is_the_whole_file_by_default() {
        let Ok(Job::Map(map)) = parse_line("map --partitions 1 in out") else {
            panic!("not a map");
        };
        assert_eq!((map.offset, map.length), (0, None));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let cases = [
            ("", "no job named"),
            ("sort a b", "unknown job sort"),
            ("map in out", "--partitions is missing"),
            (
                "map --partitions 0 in out",
                "--partitions must be 1 to 10000",
            ),
            (
                "map --partitions x in out",
                "--partitions needs a whole number",
            ),
            ("map --partitions", "--partitions needs a whole number"),
            (
                "map --partitions 1 --partitions 1 a b",
                "--partitions twice",
            ),
            ("map --partitions 1 --fast a b", "unknown flag --fast"),
            ("map --partitions 1 in", "map needs INPUT and OUTDIR"),
            ("reduce out", "reduce needs OUT and at least one INPUT"),
        ];
        for (line, wrong) in cases {
            assert_eq!(parse_line(line), Err(wrong.to_owned()), "{line}");
        }
    }
}
