//! The environment of the compilers that are started.
//!
//! A build may run inside another cargo (in `cargo test`, in `cargo run`), whose variables would
//! turn the inner one into something else: `RUSTUP_TOOLCHAIN` would override the guest's toolchain,
//! `RUSTFLAGS` would rebuild its standard library, `CARGO_TARGET_DIR` move its outputs.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Cargo's own variables that are the user's settings rather than an outer cargo's.
const CARGO_SETTINGS: [&str; 5] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRY_",
    "CARGO_REGISTRIES_",
];

/// A command with a clean environment.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    let inside_cargo = std::env::var_os("CARGO").is_some();
    for (name, _) in std::env::vars_os() {
        if is_foreign(&name, inside_cargo) {
            command.env_remove(name);
        }
    }
    command
}

/// Whether a variable must not reach a guest's compiler.
fn is_foreign(name: &OsStr, inside_cargo: bool) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    match name {
        "RUSTC"
        | "RUSTDOC"
        | "RUSTFLAGS"
        | "RUSTDOCFLAGS"
        | "RUSTC_WRAPPER"
        | "RUSTC_WORKSPACE_WRAPPER"
        | "RUSTC_BOOTSTRAP"
        | "RUSTC_LINKER"
        | "RUSTUP_TOOLCHAIN"
        | "RUSTUP_TOOLCHAIN_SOURCE"
        | "RUST_RECURSION_COUNT" => true,
        // Cargo's: the directories of the host's libraries.
        "LD_LIBRARY_PATH" | "DYLD_FALLBACK_LIBRARY_PATH" => inside_cargo,
        name => {
            (name == "CARGO" || name.starts_with("CARGO_") || name.starts_with("__CARGO"))
                && !CARGO_SETTINGS.iter().any(|kept| name.starts_with(kept))
        }
    }
}

/// The directories of `PATH`.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

/// `PATH` with `first` before everything else.
pub(crate) fn path_beginning_with(first: &Path) -> OsString {
    let dirs = std::iter::once(first.to_owned()).chain(search_path());
    // A directory with a colon in its name cannot be joined; then `first` alone has to do.
    std::env::join_paths(dirs).unwrap_or_else(|_| first.as_os_str().to_owned())
}

/// Cargo's home: where registry crates are unpacked.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Some(PathBuf::from(home));
    }
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outer_cargo_does_not_leak_into_the_inner() {
        for name in [
            "RUSTUP_TOOLCHAIN",
            "RUSTC",
            "RUSTFLAGS",
            "RUSTC_BOOTSTRAP",
            "CARGO",
            "CARGO_TARGET_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "LD_LIBRARY_PATH",
        ] {
            assert!(is_foreign(OsStr::new(name), true), "{name}");
        }
    }

    #[test]
    fn the_users_settings_are_kept() {
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_OURS_INDEX",
            "RUSTUP_HOME",
            "RUSTUP_DIST_SERVER",
            "RUST_BACKTRACE",
        ] {
            assert!(!is_foreign(OsStr::new(name), true), "{name}");
        }
        assert!(!is_foreign(OsStr::new("LD_LIBRARY_PATH"), false));
    }
}
