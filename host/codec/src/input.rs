//! Where values are taken from: bytes, or made up.

use std::fmt;

/// Why bytes are not the value that they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidBytes {
    /// Offset of the byte.
    pub at: usize,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for InvalidBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.at, self.problem)
    }
}

impl std::error::Error for InvalidBytes {}

/// What values are taken from.
#[derive(Debug)]
pub struct Input<'b> {
    source: Source<'b>,
}

#[derive(Debug)]
enum Source<'b> {
    Bytes { all: &'b [u8], at: usize },
    MadeUp { state: u64 },
}

/// Texts that every checked text of the model may be.
const WORDS: [&str; 6] = ["a", "b", "map-1", "日本", "r.1", "Z"];
/// Below it any two numbers make a range of ports.
const MADE_UP_BELOW: u64 = 400_000_000;
/// Most bytes of a number: 64 bits in sevens.
const NUMBER_BYTES_MAX: u32 = 10;

impl<'b> Input<'b> {
    /// From bytes.
    #[must_use]
    pub fn new(bytes: &'b [u8]) -> Self {
        Self {
            source: Source::Bytes { all: bytes, at: 0 },
        }
    }

    /// From nothing: valid values of any type, the same for the same seed. They reach every variant
    /// and field of every type, also of those that are added later; so tests are made of them, and
    /// a hash of many is a fingerprint of the form.
    #[must_use]
    pub fn made_up(seed: u64) -> Self {
        Self {
            source: Source::MadeUp { state: seed },
        }
    }

    /// Offset of the next byte.
    #[must_use]
    pub fn position(&self) -> usize {
        match self.source {
            Source::Bytes { at, .. } => at,
            Source::MadeUp { .. } => 0,
        }
    }

    /// Whether no bytes are left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self.source {
            Source::Bytes { all, at } => at >= all.len(),
            Source::MadeUp { .. } => true,
        }
    }

    /// An error at this place.
    #[must_use]
    pub fn refuse(&self, problem: impl Into<String>) -> InvalidBytes {
        InvalidBytes {
            at: self.position(),
            problem: problem.into(),
        }
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// How much is.
    pub fn finish(&self) -> Result<(), InvalidBytes> {
        match self.source {
            Source::Bytes { all, at } if at < all.len() => {
                Err(self.refuse(format!("{} bytes after the end", all.len() - at)))
            }
            _ => Ok(()),
        }
    }

    /// A number of at most `max`.
    ///
    /// # Errors
    /// The bytes end, or it is larger.
    pub fn number(&mut self, max: u64) -> Result<u64, InvalidBytes> {
        let number = match &mut self.source {
            Source::MadeUp { state } => {
                return Ok(random(state) % max.min(MADE_UP_BELOW).saturating_add(1));
            }
            Source::Bytes { all, at } => number_at(all, at),
        };
        match number {
            Some(number) if number <= max => Ok(number),
            Some(number) => Err(self.refuse(format!("{number}, which is larger than {max}"))),
            None => Err(self.refuse("no number")),
        }
    }

    /// A number with a sign.
    ///
    /// # Errors
    /// As [`Input::number`].
    pub fn signed(&mut self) -> Result<i64, InvalidBytes> {
        let number = self.number(u64::MAX)?;
        if let Source::MadeUp { .. } = self.source {
            // Amounts are not negative.
            return Ok(i64::try_from(number).unwrap_or(0));
        }
        let half = (number >> 1).cast_signed();
        Ok(if number & 1 == 0 { half } else { !half })
    }

    /// Which of `count` alternatives.
    ///
    /// # Errors
    /// There are not so many.
    pub fn variant(&mut self, count: u8) -> Result<u8, InvalidBytes> {
        let last = u64::from(count.saturating_sub(1));
        let number = self.number(last)?;
        u8::try_from(number).map_err(|_| self.refuse("no alternative"))
    }

    /// How many items follow. Each takes at least a byte.
    ///
    /// # Errors
    /// There are not so many bytes.
    pub fn length(&mut self) -> Result<usize, InvalidBytes> {
        if let Source::MadeUp { state } = &mut self.source {
            return Ok(usize::try_from(random(state) % 3).unwrap_or(0));
        }
        let number = self.number(u64::MAX)?;
        let left = match self.source {
            Source::Bytes { all, at } => all.len() - at,
            Source::MadeUp { .. } => 0,
        };
        match usize::try_from(number) {
            Ok(length) if length <= left => Ok(length),
            _ => Err(self.refuse(format!("a list of {number} items in {left} bytes"))),
        }
    }

    /// So many bytes as they are.
    ///
    /// # Errors
    /// There are not so many.
    pub fn bytes(&mut self, count: usize) -> Result<Vec<u8>, InvalidBytes> {
        match &mut self.source {
            Source::MadeUp { state } => {
                Ok((0..count).map(|_| random(state).to_le_bytes()[0]).collect())
            }
            Source::Bytes { all, at } => {
                let Some(bytes) = all.get(*at..at.saturating_add(count)) else {
                    return Err(self.refuse(format!("fewer than {count} bytes")));
                };
                *at += count;
                Ok(bytes.to_vec())
            }
        }
    }

    /// A text, given to `make` as it lies.
    ///
    /// # Errors
    /// It is cut off, or not UTF-8.
    pub fn text<T>(&mut self, make: impl FnOnce(&str) -> T) -> Result<T, InvalidBytes> {
        if let Source::MadeUp { state } = &mut self.source {
            let word = usize::try_from(random(state)).unwrap_or(0) % WORDS.len();
            return Ok(make(WORDS[word]));
        }
        let length = self.length()?;
        let Source::Bytes { all, at } = &mut self.source else {
            return Err(self.refuse("no text"));
        };
        let bytes = &all[*at..*at + length];
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                *at += length;
                Ok(make(text))
            }
            Err(_) => Err(self.refuse("a text that is not UTF-8")),
        }
    }
}

/// Appends a number.
pub(crate) fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn number_at(all: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0_u64;
    for place in 0..NUMBER_BYTES_MAX {
        let byte = *all.get(*at)?;
        *at += 1;
        let bits = u64::from(byte & 0x7F);
        let shifted = bits << (7 * place);
        if shifted >> (7 * place) != bits {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
