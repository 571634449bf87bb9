//! Whether an output is still what its inputs make.
//!
//! Beside each output `NAME.wasm` lies `NAME.json`, a [`Record`]. It holds the digest of the inputs
//! that are known beforehand (sources of the package and of its path dependencies, the toolchain),
//! taken *before* the build, so that an edit during a build is seen by the next one; and a digest of the
//! inputs that are known only afterwards (`Cargo.lock`, which the build may write, and files outside of
//! the packages that the compiler read, such as WIT).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::package::Package;
use crate::toolchain::Toolchain;

/// Raised when this crate makes other components of the same modules.
const BUILD_REVISION: u32 = 2;

/// Directories that are no sources: cargo's outputs and node's packages. Hidden ones are none either.
const SKIPPED_DIRS: [&str; 2] = ["target", "node_modules"];

/// What was known when an output was written.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Record {
    /// [`digest_of_sources`], before the build.
    pub(crate) sources: String,
    /// Further files that the build read.
    pub(crate) further_files: BTreeSet<PathBuf>,
    /// Their digest, after the build.
    pub(crate) further: String,
    /// The digest of the output itself.
    pub(crate) output: String,
}

impl Record {
    /// Whether the output at `path` may be used again: nothing that it was made of has changed, and
    /// neither has the output.
    pub(crate) fn is_fresh(path: &Path, sources: &str) -> bool {
        let Ok(text) = fs::read(record_path(path)) else {
            return false;
        };
        // A record that cannot be read is of another version, or cut off: build again.
        let Ok(record) = serde_json::from_slice::<Record>(&text) else {
            return false;
        };
        record.sources == sources
            && digest_of_files(&record.further_files).is_ok_and(|digest| digest == record.further)
            && fs::read(path).is_ok_and(|output| crate::inspect::digest(&output) == record.output)
    }
}

/// Where the record of an output is.
pub(crate) fn record_path(output: &Path) -> PathBuf {
    output.with_extension("json")
}

/// The digest of all inputs that are known before a build.
pub(crate) fn digest_of_sources(package: &Package, toolchain: &Toolchain) -> io::Result<String> {
    let mut hasher = Sha256::new();
    hash_text(&mut hasher, &BUILD_REVISION.to_string());
    hash_text(&mut hasher, env!("CARGO_PKG_VERSION"));
    hash_text(&mut hasher, &toolchain.identity());
    hash_file(&mut hasher, &package.workspace_root.join("Cargo.toml"))?;
    for dir in &package.source_dirs {
        hash_dir(&mut hasher, dir)?;
    }
    Ok(hex::encode(hasher.finalize()))
}

/// The digest of the files in their order; an error if one is missing.
pub(crate) fn digest_of_files(files: &BTreeSet<PathBuf>) -> io::Result<String> {
    let mut hasher = Sha256::new();
    for file in files {
        hash_file(&mut hasher, file)?;
    }
    Ok(hex::encode(hasher.finalize()))
}

/// The files that the compiler read for `module` outside of the package's source directories, and the
/// lock file.
pub(crate) fn further_files(package: &Package, module: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let lock = package.workspace_root.join("Cargo.lock");
    if lock.is_file() {
        files.insert(lock);
    }
    let text = fs::read_to_string(module.with_extension("d"))?;
    files.extend(
        parse_dep_info(&text)
            .into_iter()
            .filter(|file| !package.source_dirs.iter().any(|dir| file.starts_with(dir)))
            .filter(|file| file.is_file()),
    );
    Ok(files)
}

/// The prerequisites in cargo's `.d` file: `output: file file`, spaces in names escaped by `\`.
fn parse_dep_info(text: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in text.lines() {
        let Some((_, prerequisites)) = line.split_once(": ") else {
            continue;
        };
        let mut name = String::new();
        let mut characters = prerequisites.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if characters.next_if_eq(&' ').is_some() => name.push(' '),
                ' ' if !name.is_empty() => files.push(PathBuf::from(std::mem::take(&mut name))),
                ' ' => {}
                other => name.push(other),
            }
        }
        if !name.is_empty() {
            files.push(PathBuf::from(name));
        }
    }
    files
}

fn hash_dir(hasher: &mut Sha256, dir: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // An editor's swap files are hidden as well.
        if name.starts_with('.') || SKIPPED_DIRS.contains(&name.as_ref()) {
            continue;
        }
        let path = entry.path();
        // A link to a directory is not followed: it may lead in a circle.
        if entry.file_type()?.is_dir() {
            hash_dir(hasher, &path)?;
        } else if path.is_file() {
            hash_file(hasher, &path)?;
        }
    }
    Ok(())
}

fn hash_file(hasher: &mut Sha256, path: &Path) -> io::Result<()> {
    hash_text(hasher, &path.to_string_lossy());
    let mut file_hasher = Sha256::new();
    let mut file = File::open(path)?;
    io::copy(&mut file, &mut HashWriter(&mut file_hasher))?;
    hasher.update(file_hasher.finalize());
    Ok(())
}

/// The length goes first, so that no two lists of texts look the same.
fn hash_text(hasher: &mut Sha256, text: &str) {
    hasher.update((text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dep_info_names_its_prerequisites() {
        let files = parse_dep_info("/t/a.wasm: /w/src/lib.rs /w/my\\ file.wit\n\n/t/b: /w/b.rs\n");
        let expected = ["/w/src/lib.rs", "/w/my file.wit", "/w/b.rs"];
        assert_eq!(files, expected.map(PathBuf::from));
    }

    #[test]
    fn a_changed_added_or_renamed_file_changes_the_digest() {
        let dir = tempfile::tempdir().unwrap();
        let digest = || {
            let mut hasher = Sha256::new();
            hash_dir(&mut hasher, dir.path()).unwrap();
            hex::encode(hasher.finalize())
        };
        fs::create_dir_all(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("src/lib.rs"), "one").unwrap();
        let first = digest();
        assert_eq!(first, digest());
        fs::write(dir.path().join("src/lib.rs"), "two").unwrap();
        let changed = digest();
        assert_ne!(first, changed);
        fs::write(dir.path().join("src/more.rs"), "").unwrap();
        let added = digest();
        assert_ne!(changed, added);
        fs::rename(
            dir.path().join("src/more.rs"),
            dir.path().join("src/less.rs"),
        )
        .unwrap();
        assert_ne!(added, digest());
    }

    #[test]
    fn build_outputs_and_hidden_files_are_no_sources() {
        let dir = tempfile::tempdir().unwrap();
        let digest = || {
            let mut hasher = Sha256::new();
            hash_dir(&mut hasher, dir.path()).unwrap();
            hex::encode(hasher.finalize())
        };
        let before = digest();
        fs::create_dir_all(dir.path().join("target/debug")).unwrap();
        fs::write(dir.path().join("target/debug/x"), "x").unwrap();
        fs::write(dir.path().join(".lib.rs.swp"), "x").unwrap();
        assert_eq!(before, digest());
    }
}
