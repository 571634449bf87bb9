//! The files whose words are counted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::show;

/// What of the project counts as source.
const SOURCE_EXTENSIONS: [&str; 5] = ["md", "proto", "rs", "toml", "wit"];

/// Directories of a checkout that hold no sources of its own.
const NOT_SOURCES: [&str; 1] = ["target"];

/// Directories in directories; a deeper tree is a mistake or a trap.
const DEPTH_MAX: usize = 64;

/// Regular files below one directory, sorted by path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inputs {
    /// Absolute, without symbolic links.
    pub(super) root: PathBuf,
    /// Path and size.
    pub(super) files: Vec<(String, u64)>,
}

impl Inputs {
    /// All regular files below a directory. Symbolic links are not followed.
    pub(super) fn of_directory(dir: &Path) -> Result<Self, Failure> {
        let root = match fs::canonicalize(dir) {
            Ok(root) if root.is_dir() => root,
            Ok(_) => {
                let problem = "it is a file; give the directory that it is in";
                return Err(wrong(dir, problem));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(wrong(dir, "there is no such directory"));
            }
            Err(error) => return Err(wrong(dir, &error.to_string())),
        };
        Self::collect(root, dir, &|_| true)
    }

    /// The project's own source files.
    pub(super) fn of_project(root: &Path) -> Result<Self, Failure> {
        let is_source = |path: &Path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            extension.is_some_and(|extension| SOURCE_EXTENSIONS.contains(&extension))
        };
        Self::collect(root.to_owned(), root, &is_source)
    }

    fn collect(
        root: PathBuf,
        named: &Path,
        wanted: &dyn Fn(&Path) -> bool,
    ) -> Result<Self, Failure> {
        let mut files = Vec::new();
        walk(&root, 0, wanted, &mut files)?;
        if files.is_empty() {
            return Err(wrong(
                named,
                "there is no file in it whose words could be counted",
            ));
        }
        files.sort();
        Ok(Self { root, files })
    }

    /// In one line.
    pub(super) fn describe(&self) -> String {
        let size = self.files.iter().map(|(_, size)| size).sum();
        format!(
            "{} files, {}, in {}",
            self.files.len(),
            show::bytes(size),
            self.root.display()
        )
    }
}

fn wrong(path: &Path, problem: &str) -> Failure {
    Failure::Usage(format!("input {}: {problem}", path.display()))
}

fn walk(
    dir: &Path,
    depth: usize,
    wanted: &dyn Fn(&Path) -> bool,
    files: &mut Vec<(String, u64)>,
) -> Result<(), Failure> {
    if depth > DEPTH_MAX {
        return Err(wrong(dir, "directories in directories, too many"));
    }
    let entries = fs::read_dir(dir).map_err(|error| unreadable(dir, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(dir, &error))?;
        let path = entry.path();
        let kind = entry
            .file_type()
            .map_err(|error| unreadable(&path, &error))?;
        if kind.is_dir() {
            if !is_left_out(&path, depth) {
                walk(&path, depth + 1, wanted, files)?;
            }
        } else if kind.is_file() && wanted(&path) {
            // Opening it is the only sure way to know that it can be read; agents do it later.
            let file = fs::File::open(&path).map_err(|error| unreadable(&path, &error))?;
            let size = file
                .metadata()
                .map_err(|error| unreadable(&path, &error))?
                .len();
            let text = path.to_str().ok_or_else(|| {
                wrong(
                    &path,
                    "its name is not UTF-8, which tasks' inputs must be; rename it",
                )
            })?;
            files.push((text.to_owned(), size));
        }
    }
    Ok(())
}

/// Hidden directories (version control) and build products, at the top only: below, all counts.
fn is_left_out(path: &Path, depth: usize) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    depth == 0
        && (name == ".git" || NOT_SOURCES.contains(&name) && path.join("CACHEDIR.TAG").exists())
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    wrong(
        path,
        &format!("{error}; make it readable, or move it out of the directory"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_at_every_depth_and_sorted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("b/c")).unwrap();
        for (name, text) in [("z", "1"), ("b/c/y", "22"), ("a.bin", "")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("z", dir.path().join("link")).unwrap();
        let inputs = Inputs::of_directory(dir.path()).unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let named: Vec<(&str, u64)> = inputs
            .files
            .iter()
            .map(|(path, size)| (path.strip_prefix(root.to_str().unwrap()).unwrap(), *size))
            .collect();
        assert_eq!(named, [("/a.bin", 0), ("/b/c/y", 2), ("/z", 1)]);
        let described = format!("3 files, 3 B, in {}", root.display());
        assert_eq!(inputs.describe(), described);
    }

    #[test]
    fn what_cannot_be_counted_is_named_with_the_mend() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("empty")).unwrap();
        fs::write(path("file"), "x").unwrap();
        let error = |path: PathBuf| Inputs::of_directory(&path).unwrap_err().to_string();
        let text = error(path("none"));
        assert!(text.ends_with("none: there is no such directory"), "{text}");
        let text = error(path("empty"));
        assert!(text.contains("empty: there is no file in it"), "{text}");
        let text = error(path("file"));
        assert!(text.contains("it is a file; give the directory"), "{text}");
    }

    #[test]
    fn a_name_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let name = std::ffi::OsStr::from_bytes(b"\xFF\xFE");
        fs::write(dir.path().join(name), "x").unwrap();
        let error = Inputs::of_directory(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("not UTF-8") && error.contains("rename it"),
            "{error}"
        );
    }
}
