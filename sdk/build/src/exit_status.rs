//! The exit status of a task, kept whole.
//!
//! A preview-1 module ends with `proc_exit(status)`. The standard adapter makes `wasi:cli/exit`'s
//! `exit` of that, which knows only success and failure: every status but 0 arrives as 1. The same
//! interface has `exit-with-code`, whose core signature is that of `proc_exit`. So the module's import
//! is renamed before the adapter sees it, and the module says in its metadata that it imports this.

use wasmparser::Payload;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::sections::walk;

/// What preview-1 modules import.
const BEFORE: (&str, &str) = ("wasi_snapshot_preview1", "proc_exit");

/// What they import instead. The version is the adapter's: of two versions both would be imported.
const AFTER: (&str, &str) = ("wasi:cli/exit@0.2.12", "exit-with-code");

/// The interface, word for word as the adapter has it: two worlds are merged only if they agree.
const WIT: &str = "
    package wasi:cli@0.2.12;
    interface exit {
        exit: func(status: result);
        exit-with-code: func(status-code: u8);
    }
    world exit-status { import exit; }";

const IMPORT_SECTION: u8 = 2;

/// The module with its whole exit status; as it is if it never ends by itself.
///
/// # Errors
/// What cannot be read, or why the metadata cannot be added: for people.
pub(crate) fn keep_exit_status(module: &[u8]) -> Result<Vec<u8>, String> {
    let Some(mut renamed) = rename_import(module)? else {
        return Ok(module.to_vec());
    };
    let failed = |error: &dyn std::fmt::Display| format!("{error:#}");
    let mut resolve = Resolve::default();
    let package = resolve
        .push_str("exit.wit", WIT)
        .map_err(|error| failed(&error))?;
    let world = resolve
        .select_world(&[package], None)
        .map_err(|error| failed(&error))?;
    embed_component_metadata(&mut renamed, &resolve, world, StringEncoding::UTF8, false)
        .map_err(|error| failed(&error))?;
    Ok(renamed)
}

/// The same module with one import renamed; none if it has no such import.
fn rename_import(module: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut section = None;
    walk(module, |_, payload| {
        if let Payload::ImportSection(imports) = payload {
            let range = imports.range();
            section = Some(range.start as usize..range.end as usize);
        }
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    let Some(content) = section else {
        return Ok(None);
    };
    let (before, after) = (names(BEFORE), names(AFTER));
    let old = &module[content.clone()];
    let Some(at) = old
        .windows(before.len())
        .position(|window| window == before)
    else {
        return Ok(None);
    };
    let new = [&old[..at], &after, &old[at + before.len()..]].concat();
    // The section's header is its number and its length, of as many bytes as its writer chose.
    let header = module[..content.start]
        .iter()
        .rposition(|byte| *byte == IMPORT_SECTION)
        .filter(|at| leb128(&module[at + 1..content.start]) == Some(old.len()));
    let Some(header) = header else {
        return Err("the import section's header cannot be found".to_owned());
    };
    let mut renamed = module[..=header].to_vec();
    push_leb128(&mut renamed, new.len());
    renamed.extend_from_slice(&new);
    renamed.extend_from_slice(&module[content.end..]);
    Ok(Some(renamed))
}

/// An import's two names as the binary format has them: each with its length before it.
fn names((module, name): (&str, &str)) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in [module, name] {
        push_leb128(&mut bytes, text.len());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// Appends a number as the binary format has them.
pub(crate) fn push_leb128(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Reads a number that is exactly these bytes.
fn leb128(bytes: &[u8]) -> Option<usize> {
    let (last, first) = bytes.split_last()?;
    if *last >= 0x80 || first.iter().any(|byte| *byte < 0x80) || bytes.len() > 5 {
        return None;
    }
    let digits = bytes.iter().rev();
    Some(digits.fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for value in [0, 1, 127, 128, 300, 65_536, 4_000_000] {
            let mut bytes = Vec::new();
            push_leb128(&mut bytes, value);
            assert_eq!(leb128(&bytes), Some(value));
        }
        // Longer than need be, as linkers write what they fill in later.
        assert_eq!(leb128(&[0x81, 0x80, 0x00]), Some(1));
        assert_eq!(leb128(&[0x80]), None);
        assert_eq!(leb128(&[0x01, 0x01]), None);
    }

    #[test]
    fn only_the_import_of_the_exit_is_renamed() {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        // A type of one parameter, and two imports of it.
        module.extend([1, 5, 1, 0x60, 1, 0x7f, 0]);
        let mut imports = vec![2];
        for name in ["fd_close", "proc_exit"] {
            imports.extend(names(("wasi_snapshot_preview1", name)));
            imports.extend([0, 0]);
        }
        module.push(IMPORT_SECTION);
        push_leb128(&mut module, imports.len());
        module.extend(&imports);
        module.extend([0, 2, 1, b'x']);
        let renamed = rename_import(&module).unwrap().unwrap();
        let mut seen = Vec::new();
        walk(&renamed, |_, payload| {
            if let Payload::ImportSection(imports) = payload {
                for import in imports.clone().into_imports() {
                    let import = import?;
                    seen.push(format!("{} {}", import.module, import.name));
                }
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(
            seen,
            [
                "wasi_snapshot_preview1 fd_close",
                "wasi:cli/exit@0.2.12 exit-with-code"
            ]
        );
        assert_eq!(
            renamed.len() - module.len(),
            AFTER.0.len() + AFTER.1.len() - 31
        );
        assert_eq!(rename_import(&renamed).unwrap(), None);
        assert_eq!(rename_import(b"\0asm\x01\0\0\0").unwrap(), None);
    }
}
