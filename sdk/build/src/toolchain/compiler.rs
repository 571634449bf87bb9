//! One compiler, and what it says of itself.

use std::path::{Path, PathBuf};

use crate::environment::command;
use crate::toolchain::{WasmTarget, output_of};

#[derive(Clone, Debug)]
pub(super) struct Compiler {
    pub(super) rustc: PathBuf,
    pub(super) cargo: PathBuf,
    /// `1.95.0`.
    pub(super) release: String,
    /// All that `rustc -vV` says.
    pub(super) verbose: String,
    host: String,
    sysroot: PathBuf,
}

impl Compiler {
    /// Asks a compiler, from within `dir`, which decides what rustup makes of it.
    pub(super) fn ask(rustc: &Path, cargo: &Path, dir: &Path) -> Result<Compiler, String> {
        let verbose = output_of(command(rustc).current_dir(dir).arg("-vV"))?;
        let sysroot = output_of(command(rustc).current_dir(dir).args(["--print", "sysroot"]))?;
        let field = |name: &str| {
            verbose
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim().to_owned())
                .ok_or_else(|| format!("{} does not say its {name}", rustc.display()))
        };
        Ok(Compiler {
            rustc: rustc.to_owned(),
            cargo: cargo.to_owned(),
            release: field("release:")?,
            host: field("host:")?,
            sysroot: PathBuf::from(sysroot.trim_end()),
            verbose,
        })
    }

    /// Whether it has a ready-made standard library for `target`.
    pub(super) fn has_target(&self, target: WasmTarget) -> bool {
        let libraries = self.rustlib().join(target.triple()).join("lib");
        let Ok(entries) = libraries.read_dir() else {
            return false;
        };
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    }

    /// Whether it has the source of its standard library, with all that this depends on.
    pub(super) fn has_source(&self) -> bool {
        let library = self.rustlib().join("src/rust/library");
        library.join("Cargo.lock").is_file() && library.join("std/Cargo.toml").is_file()
    }

    /// Whether it can compile our guests at all.
    pub(super) fn is_new_enough(&self) -> bool {
        let numbers = |version: &str| {
            let mut parts = version.split(['.', '-']).map(|part| part.parse().ok());
            let next: [Option<u32>; 2] = [parts.next().flatten(), parts.next().flatten()];
            next
        };
        numbers(&self.release) >= numbers(env!("CARGO_PKG_RUST_VERSION"))
    }

    /// Where its own linker would be.
    pub(super) fn rust_lld(&self) -> PathBuf {
        self.rustlib().join(&self.host).join("bin/rust-lld")
    }

    fn rustlib(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib")
    }
}
