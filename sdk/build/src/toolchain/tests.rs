//! Tests of the parent module.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::progress::Silent;

/// A machine of directories, with compilers that are shell scripts.
struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new() -> Machine {
        Machine {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn touch(&self, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn script(&self, path: &str, body: &str) {
        self.touch(path);
        fs::write(self.path(path), format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A rustc and a cargo in `bin`, with a sysroot of its own.
    fn compiler(&self, bin: &str, release: &str, sysroot: &str) {
        let sysroot = self.path(sysroot);
        self.script(
            &format!("{bin}/rustc"),
            &format!(
                "case \"$1\" in -vV) echo 'rustc {release}'; echo 'release: {release}';\
                 echo 'host: here' ;; *) echo '{}' ;; esac",
                sysroot.display()
            ),
        );
        self.script(&format!("{bin}/cargo"), "");
    }

    fn target(&self, sysroot: &str, triple: &str) {
        self.touch(&format!("{sysroot}/lib/rustlib/{triple}/lib/libstd-1.rlib"));
    }

    fn source(&self, sysroot: &str) {
        let library = format!("{sysroot}/lib/rustlib/src/rust/library");
        self.touch(&format!("{library}/Cargo.lock"));
        self.touch(&format!("{library}/std/Cargo.toml"));
    }

    fn find(
        &self,
        target: WasmTarget,
        choice: ToolchainChoice,
    ) -> Result<Toolchain, FindToolchainError> {
        let places = Places {
            path: vec![self.path("home/bin")],
            distribution_bin: self.path("usr/bin"),
            wasi_libc: self.path("usr/lib/wasm32-wasi"),
        };
        ToolchainFinder::new(places, choice, self.dir.path(), &self.path("target"))
            .find(target, &mut Silent)
    }

    fn find_any(&self, target: WasmTarget) -> Result<Toolchain, FindToolchainError> {
        self.find(target, ToolchainChoice::Any)
    }
}

/// A rustup that writes down each call, and then does `body`.
fn rustup(machine: &Machine, body: &str) {
    let calls = machine.path("calls");
    machine.script(
        "home/bin/rustup",
        &format!("echo \"$@\" >> '{}'\n{body}", calls.display()),
    );
}

#[test]
fn an_installed_target_is_used() {
    let machine = Machine::new();
    machine.compiler("home/bin", "1.95.0", "stable");
    machine.target("stable", "wasm32-unknown-unknown");
    let toolchain = machine.find_any(WasmTarget::Unknown).unwrap();
    assert!(!toolchain.builds_standard_library());
    assert!(toolchain.describe().contains("rustc 1.95.0"));
}

#[test]
fn a_missing_target_is_added_through_rustup() {
    let machine = Machine::new();
    machine.compiler("home/bin", "1.95.0", "stable");
    let library = machine.path("stable/lib/rustlib/wasm32-wasip1/lib");
    let library = library.display();
    rustup(
        &machine,
        &format!("mkdir -p '{library}'; touch '{library}/libstd-1.rlib'"),
    );
    let toolchain = machine.find_any(WasmTarget::Wasip1).unwrap();
    assert!(!toolchain.builds_standard_library());
    let calls = fs::read_to_string(machine.path("calls")).unwrap();
    assert_eq!(calls, "target add wasm32-wasip1\n");
}

#[test]
fn a_failure_of_rustup_is_remembered() {
    let machine = Machine::new();
    machine.compiler("home/bin", "1.95.0", "stable");
    rustup(
        &machine,
        "echo 'info: downloading' >&2; echo 'error: no network' >&2; exit 1",
    );
    let first = machine.find_any(WasmTarget::Unknown).unwrap_err();
    assert!(
        first.tried[0].ends_with("`rustup target add wasm32-unknown-unknown` fails: no network")
    );
    let second = machine.find_any(WasmTarget::Unknown).unwrap_err();
    assert!(second.tried[0].ends_with("failed less than a day ago"));
    let calls = fs::read_to_string(machine.path("calls")).unwrap();
    assert_eq!(calls, "target add wasm32-unknown-unknown\n");
}

#[test]
fn without_a_target_the_distributions_source_is_built() {
    let machine = Machine::new();
    machine.compiler("home/bin", "1.95.0", "stable");
    machine.compiler("usr/bin", "1.96.0", "usr");
    machine.source("usr");
    machine.touch("stable/lib/rustlib/here/bin/rust-lld");
    let toolchain = machine.find_any(WasmTarget::Unknown).unwrap();
    assert!(toolchain.builds_standard_library());
    let cargo = toolchain.cargo_build(&["--remap".to_owned()]);
    let variable = |wanted: &str| {
        cargo
            .get_envs()
            .find(|(name, _)| *name == wanted)
            .and_then(|(_, value)| value?.to_str().map(str::to_owned))
    };
    assert_eq!(cargo.get_program(), machine.path("usr/bin/cargo"));
    assert_eq!(variable("RUSTC_BOOTSTRAP").as_deref(), Some("1"));
    assert_eq!(
        variable("CARGO_ENCODED_RUSTFLAGS").as_deref(),
        Some("--remap")
    );
    let linker = variable("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER");
    assert!(
        linker
            .unwrap()
            .ends_with("stable/lib/rustlib/here/bin/rust-lld")
    );
}

#[test]
fn tasks_need_the_distributions_c_library() {
    let machine = Machine::new();
    machine.compiler("usr/bin", "1.96.0", "usr");
    machine.source("usr");
    machine.touch("home/bin/wasm-ld-19");
    let error = machine.find_any(WasmTarget::Wasip1).unwrap_err();
    assert!(error.tried[1].contains("crt1-command.o"), "{error}");
    machine.touch("usr/lib/wasm32-wasi/crt1-command.o");
    let toolchain = machine.find_any(WasmTarget::Wasip1).unwrap();
    assert!(
        toolchain
            .identity()
            .contains("wasm-ld-19 -Clink-self-contained=no")
    );
}

#[test]
fn an_old_compiler_or_one_without_source_or_linker_does_not_do() {
    let machine = Machine::new();
    machine.compiler("usr/bin", "1.63.0", "usr");
    let reason = || machine.find_any(WasmTarget::Unknown).unwrap_err().tried[1].clone();
    assert!(reason().ends_with("is 1.63.0, older than 1.95"));
    machine.compiler("usr/bin", "1.96.0", "usr");
    assert!(reason().ends_with("has no source of its standard library"));
    machine.source("usr");
    assert!(reason().ends_with("there is no linker (lld)"));
}

#[test]
fn nothing_at_all_names_both_mends() {
    let machine = Machine::new();
    let error = machine.find_any(WasmTarget::Unknown).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("rustup target add wasm32-unknown-unknown wasm32-wasip1"),
        "{text}"
    );
    assert!(
        text.contains("apt-get install --no-install-recommends rustc-web"),
        "{text}"
    );
    assert_eq!(error.tried[0], "no rustc on the PATH");
}

#[test]
fn choices_exclude() {
    let machine = Machine::new();
    machine.compiler("home/bin", "1.95.0", "stable");
    machine.compiler("usr/bin", "1.96.0", "usr");
    machine.source("usr");
    machine.target("usr", "wasm32-unknown-unknown");
    machine.touch("home/bin/wasm-ld");
    rustup(&machine, "exit 1");
    let built = machine
        .find(WasmTarget::Unknown, ToolchainChoice::BuildStd)
        .unwrap();
    assert!(built.builds_standard_library());
    let installed = machine
        .find(WasmTarget::Unknown, ToolchainChoice::Installed)
        .unwrap();
    assert!(!installed.builds_standard_library());
    assert!(!machine.path("calls").exists());
}
