//! The cluster's token: whoever knows it may call; nobody else may.
//!
//! One token per data directory, made at first use, in a file that only its owner can read. Every
//! call carries it as `authorization: Bearer …`. It is compared in constant time and never printed.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::leader::LOST_KEY;

/// 256 bits: nobody guesses it, and it is the usual size of a key.
const RANDOM_BYTES: usize = 32;

/// Tokens of operators' own making may have other lengths; shorter ones could be guessed.
const LEN_MIN: usize = 16;

/// A token longer than this is some other file.
const LEN_MAX: usize = 256;

/// Bits of a file's mode that let others than its owner at it.
const OTHERS: u32 = 0o077;

/// A shared secret.
#[derive(Clone)]
pub struct Token(String);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The system has no randomness to give.
    #[error("no randomness for a new token: {0}")]
    Random(getrandom::Error),
    /// The file cannot be read or written.
    #[error("token file {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read the file.
    #[error("token file {path} is open to others (mode {mode:o}); run: chmod 600 {path}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What was given is not a token.
    #[error(
        "a token is {LEN_MIN} to {LEN_MAX} letters, digits, '-', '_' or '.' on one line{origin}"
    )]
    Malformed {
        /// ` (in PATH)`, or empty.
        origin: String,
    },
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn random() -> Result<Self, TokenError> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// Checks that a text can be a token.
    ///
    /// # Errors
    /// If it cannot.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        Self::parse_from(text, String::new())
    }

    /// Reads the token in a file.
    ///
    /// # Errors
    /// If it cannot be read, others may read it, or it holds no token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let fail = |source| TokenError::File {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(fail)?;
        let mode = file.metadata().map_err(fail)?.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(TokenError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        let mut start = file.take(LEN_MAX as u64 + 2);
        start.read_to_string(&mut text).map_err(fail)?;
        Self::parse_from(text.trim_end(), format!(" (in {})", path.display()))
    }

    /// Reads the token in a file, or makes one there. Several may do this at once: all get the same.
    ///
    /// # Errors
    /// As [`Token::read`] and [`Token::random`].
    pub fn read_or_create(path: &Path) -> Result<Self, TokenError> {
        match Self::read(path) {
            Err(TokenError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
        let token = Self::random()?;
        match token.write_new(path) {
            Ok(()) => Ok(token),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(path),
            Err(source) => Err(TokenError::File {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Keeps it in a file of its own, which must not be there yet.
    ///
    /// # Errors
    /// If the file is there or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), TokenError> {
        self.write_new(path).map_err(|source| TokenError::File {
            path: path.to_owned(),
            source,
        })
    }

    /// Whether `other` is this token, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, other: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), other.as_bytes());
        if own.len() != other.len() {
            return false;
        }
        let differing = own.iter().zip(other).fold(0, |bits, (a, b)| bits | (a ^ b));
        // Keeps the compiler from leaving the loop at the first difference.
        std::hint::black_box(differing) == 0
    }

    /// The secret itself, for HTTP clients and servers that are not in this crate.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn parse_from(text: &str, origin: String) -> Result<Self, TokenError> {
        let fits = (LEN_MIN..=LEN_MAX).contains(&text.len());
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !fits || !text.bytes().all(plain) {
            return Err(TokenError::Malformed { origin });
        }
        Ok(Self(text.to_owned()))
    }

    /// The file appears whole or not at all: it is written beside and linked to its name, which
    /// fails if somebody was first.
    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut draft = [0; 8];
        getrandom::fill(&mut draft).map_err(|error| io::Error::other(error.to_string()))?;
        let beside = path.with_extension(format!("{}.tmp", hex::encode(draft)));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        let written = file
            .write_all(format!("{}\n", self.0).as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&beside, path));
        fs::remove_file(&beside)?;
        written
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Puts the token on every call of a client, and the leader that it has lost.
#[derive(Clone, Debug)]
pub(crate) struct TokenCarrier {
    token: MetadataValue<Ascii>,
    lost: Option<MetadataValue<Ascii>>,
}

impl TokenCarrier {
    /// `lost` is empty if there is no such leader.
    pub(crate) fn new(token: &Token, lost: &str) -> Self {
        let mut value = MetadataValue::try_from(format!("Bearer {}", token.0))
            .expect("a token holds only letters, digits, '-', '_' and '.'");
        value.set_sensitive(true);
        let lost = (!lost.is_empty()).then(|| MetadataValue::try_from(lost).ok());
        Self {
            token: value,
            lost: lost.flatten(),
        }
    }
}

impl Interceptor for TokenCarrier {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.token.clone());
        if let Some(lost) = &self.lost {
            metadata.insert(LOST_KEY, lost.clone());
        }
        Ok(request)
    }
}

/// Refuses calls without the token.
#[derive(Clone, Debug)]
pub(crate) struct TokenCheck(pub(crate) Token);

impl Interceptor for TokenCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        match given {
            Some(given) if self.0.matches(given) => Ok(request),
            Some(_) => Err(Status::unauthenticated("the token is not this cluster's")),
            None => Err(Status::unauthenticated(
                "a call carries 'authorization: Bearer TOKEN'",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_second_reads_what_the_first_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let first = Token::read_or_create(&path).unwrap();
        let second = Token::read_or_create(&path).unwrap();
        assert!(first.matches(second.expose()));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_token_file_that_others_can_read_is_refused_with_the_mend() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        Token::read_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Token::read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn other_texts_do_not_match_and_are_not_shown() {
        let token = Token::parse("0123456789abcdef").unwrap();
        assert!(token.matches("0123456789abcdef"));
        for other in [
            "",
            "0123456789abcdeg",
            "0123456789abcde",
            "1123456789abcdef",
        ] {
            assert!(!token.matches(other));
        }
        assert!(!format!("{token:?}").contains("0123"));
        for bad in ["short", "has white space in it", "ümlaut-ümlaut-ümlaut"] {
            Token::parse(bad).unwrap_err();
        }
    }
}
