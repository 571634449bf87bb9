//! FNV-1a of 64 bits: decides a word's partition, and hashes the table of words.
//!
//! It needs no random seed, so a run is the same everywhere. Chosen text can make it collide, which
//! slows down only the task that counts that text.

use std::hash::{BuildHasherDefault, Hasher};

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// For a `HashMap`.
pub(crate) type BuildFnv = BuildHasherDefault<Fnv>;

/// The hash so far.
#[derive(Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(OFFSET_BASIS)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
}

/// Which of `partitions` a word belongs to; there must be at least one.
pub(crate) fn partition_of(word: &[u8], partitions: u64) -> u64 {
    let mut hash = Fnv::default();
    hash.write(word);
    hash.finish() % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published test vectors: mappers in other languages must agree.
    #[test]
    fn the_hash_is_fnv_1a() {
        for (word, expected) in [
            (&b""[..], 0xcbf2_9ce4_8422_2325),
            (b"a", 0xaf63_dc4c_8601_ec8c),
            (b"foobar", 0x8594_4171_f739_67e8),
        ] {
            let mut hash = Fnv::default();
            hash.write(word);
            assert_eq!(hash.finish(), expected);
        }
    }
}
