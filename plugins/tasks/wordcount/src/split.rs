//! The words of a split of a file.

use std::io::{self, BufRead, Seek, SeekFrom};

/// Calls `visit` with each word that begins in `[offset, offset + length)`; without a length, up to
/// the end.
pub(crate) fn words_of_split(
    mut input: impl BufRead + Seek,
    offset: u64,
    length: Option<u64>,
    mut visit: impl FnMut(&[u8]),
) -> io::Result<()> {
    let end = match length {
        Some(length) => offset.saturating_add(length),
        None => u64::MAX,
    };
    if end == offset {
        return Ok(());
    }
    let mut scanner = Scanner {
        position: offset,
        end,
        state: State::BetweenWords,
        word: Vec::new(),
    };
    if offset > 0 {
        input.seek(SeekFrom::Start(offset - 1))?;
        let mut before = [0];
        match input.read_exact(&mut before) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            outcome => outcome?,
        }
        if !is_white_space(before[0]) {
            scanner.state = State::InForeignWord;
        }
    }
    loop {
        let block = match input.fill_buf() {
            Ok(block) => block,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if block.is_empty() || scanner.scan(block, &mut visit) {
            break;
        }
        let read = block.len();
        input.consume(read);
    }
    if scanner.state == State::InWord {
        visit(&scanner.word);
    }
    Ok(())
}

/// ASCII white space as C's `isspace` has it, the vertical tab included.
pub(crate) fn is_white_space(byte: u8) -> bool {
    byte == b' ' || (b'\t'..=b'\r').contains(&byte)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    BetweenWords,
    /// A word that began before the split.
    InForeignWord,
    /// A word whose bytes so far are in `word`.
    InWord,
}

/// Takes the bytes block by block.
struct Scanner {
    /// Of the next block's first byte in the file.
    position: u64,
    end: u64,
    state: State,
    /// The part of a word that came in earlier blocks; or, at the end of the input, all of it.
    word: Vec<u8>,
}

impl Scanner {
    /// Scans a block, and says whether the split is done.
    fn scan(&mut self, block: &[u8], visit: &mut impl FnMut(&[u8])) -> bool {
        let mut rest = block;
        loop {
            let length = match self.state {
                State::BetweenWords => rest.iter().position(|byte| !is_white_space(*byte)),
                State::InForeignWord | State::InWord => {
                    rest.iter().position(|byte| is_white_space(*byte))
                }
            };
            let (run, following) = rest.split_at(length.unwrap_or(rest.len()));
            self.position = self.position.saturating_add(run.len() as u64);
            if self.state == State::InWord {
                if length.is_none() {
                    self.word.extend_from_slice(run);
                } else if self.word.is_empty() {
                    visit(run);
                } else {
                    self.word.extend_from_slice(run);
                    visit(&self.word);
                    self.word.clear();
                }
            }
            if length.is_none() {
                return self.state != State::InWord && self.position >= self.end;
            }
            self.state = match self.state {
                State::BetweenWords if self.position >= self.end => return true,
                State::BetweenWords => State::InWord,
                State::InForeignWord | State::InWord => State::BetweenWords,
            };
            rest = following;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use proptest::prelude::*;

    use super::*;

    /// White space of every kind, at both ends, doubled; words of one byte and of many; bytes that are no
    /// UTF-8, and Unicode's white space, which is none here.
    const TRICKY: &[u8] =
        b"\n  a bb\tccc\r\n\x0b\x0cdddd  a\xff\xfe\x80 \xc2\xa0e a\n\n\nlonger-than-the-buffer z ";

    fn words(text: &[u8], offset: u64, length: Option<u64>, buffer: usize) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        let input = BufReader::with_capacity(buffer, Cursor::new(text));
        words_of_split(input, offset, length, |word| words.push(word.to_vec())).unwrap();
        words
    }

    fn words_at_once(text: &[u8]) -> Vec<Vec<u8>> {
        text.split(|byte| is_white_space(*byte))
            .filter(|word| !word.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }

    #[test]
    fn words_are_runs_without_ascii_white_space() {
        for buffer in [1, 2, 3, 7, 4096] {
            assert_eq!(words(TRICKY, 0, None, buffer), words_at_once(TRICKY));
        }
    }

    #[test]
    fn two_splits_at_any_offset_make_the_whole() {
        for text in [TRICKY, TRICKY.trim_ascii(), b"", b"x", b" ", b"one-word"] {
            for cut in 0..=text.len() as u64 {
                for buffer in [1, 3, 4096] {
                    let mut both = words(text, 0, Some(cut), buffer);
                    both.extend(words(text, cut, None, buffer));
                    assert_eq!(both, words_at_once(text), "cut at {cut}, buffer {buffer}");
                }
            }
        }
    }

    #[test]
    fn splits_of_any_length_make_the_whole() {
        for length in 1..=TRICKY.len() as u64 {
            let mut all = Vec::new();
            for offset in (0..TRICKY.len() as u64).step_by(length as usize) {
                all.extend(words(TRICKY, offset, Some(length), 4));
            }
            assert_eq!(all, words_at_once(TRICKY), "length {length}");
        }
    }

    #[test]
    fn a_split_behind_the_end_and_one_of_no_length_are_empty() {
        let end = TRICKY.len() as u64;
        assert!(words(TRICKY, end, None, 8).is_empty());
        assert!(words(TRICKY, end + 1, Some(5), 8).is_empty());
        assert!(words(TRICKY, 3, Some(0), 8).is_empty());
        assert!(words(b"word", 4, Some(u64::MAX), 8).is_empty());
    }

    #[test]
    fn a_word_is_its_first_bytes_split() {
        let text = b"aa bbbbbb cc";
        assert_eq!(
            words(text, 0, Some(4), 2),
            [b"aa".to_vec(), b"bbbbbb".to_vec()]
        );
        assert!(words(text, 4, Some(5), 2).is_empty());
        assert_eq!(words(text, 9, Some(2), 2), [b"cc".to_vec()]);
    }

    proptest! {
        #[test]
        fn any_cuts_of_any_text_make_the_whole(
            text in prop::collection::vec(prop::sample::select(&b"ab \n\t\xff"[..]), 0..80),
            cuts in prop::collection::btree_set(0_u64..80, 0..6),
            buffer in 1_usize..9,
        ) {
            let mut all = Vec::new();
            let mut offset = 0;
            for cut in cuts {
                all.extend(words(&text, offset, Some(cut - offset), buffer));
                offset = cut;
            }
            all.extend(words(&text, offset, None, buffer));
            prop_assert_eq!(all, words_at_once(&text));
        }
    }
}
