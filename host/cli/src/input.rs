//! Files that are read whole: never more of them than they can be long, so that `/dev/zero` is an error too.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Settings, certificates and configurations are pages long, not megabytes.
pub(crate) const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a file that has at most so many bytes.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let problem = format!("it has more than {} MiB", bytes_max >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// Reads a text of at most [`TEXT_BYTES_MAX`].
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let bytes = read(path, TEXT_BYTES_MAX)?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8"))
}
