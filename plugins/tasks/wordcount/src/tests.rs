//! Map and reduce together, over files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::arguments::{Map, Reduce};
use crate::hash::partition_of;
use crate::record::Totals;
use crate::{map, reduce};

const TEXT: &[u8] = b"to be or not to be\x0bthat is\tthe question\xff\r\nto \xff to";

fn map_of(dir: &Path, partitions: u64, split: (u64, Option<u64>), out: &str) -> Map {
    let input = dir.join("input");
    fs::write(&input, TEXT).unwrap();
    Map {
        partitions,
        offset: split.0,
        length: split.1,
        input,
        out_dir: dir.join(out),
    }
}

fn counts(text: &[u8]) -> BTreeMap<Vec<u8>, u64> {
    let mut counts = BTreeMap::new();
    for word in text.split(|byte| crate::split::is_white_space(*byte)) {
        if !word.is_empty() {
            *counts.entry(word.to_vec()).or_default() += 1;
        }
    }
    counts
}

fn file_of(counts: &BTreeMap<Vec<u8>, u64>) -> Vec<u8> {
    let mut file = Vec::new();
    for (word, count) in counts {
        crate::record::write_record(&mut file, word, *count).unwrap();
    }
    file
}

#[test]
fn map_writes_every_partition_sorted() {
    let dir = tempfile::tempdir().unwrap();
    let totals = map::run(&map_of(dir.path(), 3, (0, None), "out")).unwrap();
    assert_eq!(
        totals,
        Totals {
            words: 13,
            distinct: 9
        }
    );
    for partition in 0..3 {
        let mut expected = counts(TEXT);
        expected.retain(|word, _| partition_of(word, 3) == partition);
        let written = fs::read(dir.path().join("out").join(partition.to_string())).unwrap();
        assert_eq!(written, file_of(&expected));
    }
}

#[test]
fn map_of_nothing_writes_empty_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let split = (TEXT.len() as u64, None);
    let totals = map::run(&map_of(dir.path(), 2, split, "a/new/dir")).unwrap();
    assert_eq!(totals, Totals::default());
    for partition in ["0", "1"] {
        let written = fs::read(dir.path().join("a/new/dir").join(partition)).unwrap();
        assert!(written.is_empty());
    }
}

/// Splits at every offset, reduced per partition from directories as the agent lays them out, give the
/// counts of the whole text.
#[test]
fn mapped_splits_reduce_to_the_whole() {
    for cut in 0..=TEXT.len() as u64 {
        let dir = tempfile::tempdir().unwrap();
        map::run(&map_of(dir.path(), 2, (0, Some(cut)), "out/m0")).unwrap();
        map::run(&map_of(dir.path(), 2, (cut, None), "out/m1")).unwrap();
        let mut all = BTreeMap::new();
        for partition in ["0", "1"] {
            let inputs = dir.path().join(format!("inputs{partition}"));
            for mapper in ["m0", "m1"] {
                fs::create_dir_all(inputs.join(mapper)).unwrap();
                fs::copy(
                    dir.path().join("out").join(mapper).join(partition),
                    inputs.join(mapper).join(partition),
                )
                .unwrap();
            }
            let out = dir.path().join(format!("result{partition}"));
            let totals = reduce::run(&Reduce {
                out: out.clone(),
                inputs: vec![inputs],
            })
            .unwrap();
            let mut expected = counts(TEXT);
            expected.retain(|word, _| partition_of(word, 2).to_string() == partition);
            assert_eq!(fs::read(out).unwrap(), file_of(&expected), "cut at {cut}");
            assert_eq!(totals.distinct, expected.len() as u64);
            all.append(&mut expected);
        }
        assert_eq!(all, counts(TEXT));
    }
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no-such-file");
    let failure = reduce::run(&Reduce {
        out: dir.path().join("out"),
        inputs: vec![missing.clone()],
    })
    .unwrap_err();
    let expected = format!("cannot read {}: ", missing.display());
    assert!(failure.to_string().starts_with(&expected), "{failure}");
    let failure = map::run(&Map {
        partitions: 1,
        offset: 0,
        length: None,
        input: PathBuf::from(&missing),
        out_dir: dir.path().join("out"),
    })
    .unwrap_err();
    assert!(failure.to_string().starts_with(&expected), "{failure}");
}
