//! Reading a WebAssembly file section by section, without trusting it.

use wasmparser::{Chunk, Parser, Payload, WasmFeatures};

/// The largest file that is looked at: several times the largest known guest (a Python
/// interpreter in 18 MB).
const FILE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why a file cannot be read as WebAssembly.
#[derive(Debug, thiserror::Error)]
pub enum ReadWasmError {
    /// It is something else altogether.
    #[error("not a WebAssembly file: it does not begin with `\\0asm`")]
    NotWebAssembly,
    /// It ends too soon.
    #[error("the file is truncated: it ends at byte {size} in the middle of a section")]
    Truncated {
        /// Where it ends.
        size: usize,
    },
    /// It is larger than any guest.
    #[error("the file has {size} bytes, more than {FILE_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// It is malformed.
    #[error("not a valid WebAssembly file")]
    Invalid(#[source] wasmparser::Error),
}

/// Reads a file section by section, and gives each to `visit` with its depth: 0 for the outermost
/// module or component. Validates nothing but the frame.
pub(crate) fn walk<'a>(
    bytes: &'a [u8],
    mut visit: impl FnMut(usize, &Payload<'a>) -> Result<(), wasmparser::Error>,
) -> Result<(), ReadWasmError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(ReadWasmError::NotWebAssembly);
    }
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ReadWasmError::TooLarge { size: bytes.len() });
    }
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::all());
    let mut parents = Vec::new();
    let mut rest = bytes;
    loop {
        // The parser is told of the end of the input only when it has consumed all: before that, its
        // wish for more is what tells a truncated file from a bad one.
        let at_end = rest.is_empty();
        let (consumed, payload) = match parser.parse(rest, at_end) {
            Ok(Chunk::Parsed { consumed, payload }) => (consumed, payload),
            Err(error) if !at_end => return Err(ReadWasmError::Invalid(error)),
            Ok(Chunk::NeedMoreData(_)) | Err(_) => {
                return Err(ReadWasmError::Truncated { size: bytes.len() });
            }
        };
        rest = rest.get(consumed..).unwrap_or_default();
        visit(parents.len(), &payload).map_err(ReadWasmError::Invalid)?;
        match payload {
            Payload::ModuleSection { parser: inner, .. }
            | Payload::ComponentSection { parser: inner, .. } => {
                parents.push(std::mem::replace(&mut parser, inner));
            }
            Payload::End(_) => match parents.pop() {
                Some(parent) => parser = parent,
                None => return Ok(()),
            },
            _ => {}
        }
    }
}
