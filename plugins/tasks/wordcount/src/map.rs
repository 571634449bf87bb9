//! `map`: counts the words of a split, and deals them out to partitions.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};

use crate::arguments::Map;
use crate::failure::Failure;
use crate::hash::{BuildFnv, partition_of};
use crate::record::{Totals, write_record};
use crate::split::words_of_split;

/// Each read of a WASI file is a call of the host, so reads are large.
const READ_BYTES: usize = 256 * 1024;

/// Counts, and writes the partitions.
pub(crate) fn run(map: &Map) -> Result<Totals, Failure> {
    let reading = Failure::at("read", &map.input);
    let counts = match File::open(&map.input).and_then(|file| count(file, map)) {
        Ok(counts) => counts,
        Err(error) => return Err(reading(error)),
    };
    write_partitions(map, counts)
}

fn count(file: File, map: &Map) -> std::io::Result<HashMap<Vec<u8>, u64, BuildFnv>> {
    let mut counts = HashMap::<Vec<u8>, u64, BuildFnv>::default();
    let input = BufReader::with_capacity(READ_BYTES, file);
    words_of_split(input, map.offset, map.length, |word| {
        // Most words have been seen, and then nothing is allocated.
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                counts.insert(word.to_vec(), 1);
            }
        }
    })?;
    Ok(counts)
}

fn write_partitions(map: &Map, counts: HashMap<Vec<u8>, u64, BuildFnv>) -> Result<Totals, Failure> {
    fs::create_dir_all(&map.out_dir).map_err(Failure::at("make", &map.out_dir))?;
    let mut partitions = vec![Vec::new(); map.partitions as usize];
    let mut totals = Totals::default();
    for (word, count) in counts {
        totals.add(count);
        let partition = partition_of(&word, map.partitions);
        partitions[partition as usize].push((word, count));
    }
    // One after the other, so that one file is open at a time.
    for (number, mut records) in partitions.into_iter().enumerate() {
        // Words differ, so an unstable order cannot show.
        records.sort_unstable();
        let path = map.out_dir.join(number.to_string());
        let write = || {
            let mut output = BufWriter::new(File::create(&path)?);
            for (word, count) in &records {
                write_record(&mut output, word, *count)?;
            }
            output.flush()
        };
        write().map_err(Failure::at("write", &path))?;
    }
    Ok(totals)
}
