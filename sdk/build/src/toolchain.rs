//! Finding a compiler with a standard library for WebAssembly.
//!
//! In this order:
//!
//! 1. The toolchain on the `PATH`, if it has the target (rustup's, or a distribution's).
//! 2. The same after `rustup target add`, tried once; a failure is remembered for a day, so that a
//!    machine without rustup's server does not wait for it at each build.
//! 3. Debian's compiler with the source of its standard library, which cargo then builds itself
//!    (`-Zbuild-std`); the linker is the `rust-lld` that comes with any rustup toolchain, or LLVM's.
//!
//! With none of them the error names both mends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::environment::{command, path_beginning_with, search_path};
use crate::progress::Progress;
use crate::stop::Stop;

mod compiler;
mod rustup;

use compiler::Compiler;
use rustup::TargetAddition;

/// What guests are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WasmTarget {
    /// `wasm32-unknown-unknown`: plug-ins.
    Unknown,
    /// `wasm32-wasip1`: tasks.
    Wasip1,
}

impl WasmTarget {
    /// The compiler's name for it.
    pub fn triple(self) -> &'static str {
        match self {
            WasmTarget::Unknown => "wasm32-unknown-unknown",
            WasmTarget::Wasip1 => "wasm32-wasip1",
        }
    }

    fn linker_variable(self) -> &'static str {
        match self {
            WasmTarget::Unknown => "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
            WasmTarget::Wasip1 => "CARGO_TARGET_WASM32_WASIP1_LINKER",
        }
    }
}

/// Which toolchains may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolchainChoice {
    /// The first that works, in the order of this module's documentation.
    #[default]
    Any,
    /// Only one that has the target, and nothing is downloaded.
    Installed,
    /// Only Debian's compiler, which builds the standard library.
    BuildStd,
}

/// A compiler that can build for a target.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// What it builds for.
    pub target: WasmTarget,
    compiler: Compiler,
    standard_library: StandardLibrary,
}

#[derive(Clone, Debug)]
enum StandardLibrary {
    Installed,
    BuiltByCargo {
        linker: PathBuf,
        rustflags: Vec<String>,
    },
}

impl Toolchain {
    /// One line for people: which compiler, and where its standard library comes from.
    pub fn describe(&self) -> String {
        let Toolchain {
            target,
            compiler,
            standard_library,
        } = self;
        let triple = target.triple();
        let rustc = compiler.rustc.display();
        let release = &compiler.release;
        match standard_library {
            StandardLibrary::Installed => {
                format!("rustc {release} ({rustc}) with its standard library for {triple}")
            }
            StandardLibrary::BuiltByCargo { .. } => {
                format!("rustc {release} ({rustc}), standard library for {triple} from source")
            }
        }
    }

    /// Whether cargo builds the standard library, which takes minutes the first time.
    pub fn builds_standard_library(&self) -> bool {
        matches!(self.standard_library, StandardLibrary::BuiltByCargo { .. })
    }

    /// Everything about the toolchain that changes what it produces.
    pub(crate) fn identity(&self) -> String {
        let how = match &self.standard_library {
            StandardLibrary::Installed => "installed".to_owned(),
            StandardLibrary::BuiltByCargo { linker, rustflags } => {
                format!("{} {}", linker.display(), rustflags.join(" "))
            }
        };
        format!("{}\n{}\n{how}", self.target.triple(), self.compiler.verbose)
    }

    /// A `cargo build` for the target, to which packages and directories are still to be added.
    /// `rustflags` are added to the toolchain's own.
    pub(crate) fn cargo_build(&self, rustflags: &[String]) -> Command {
        let mut cargo = command(&self.compiler.cargo);
        cargo.arg("build").args(["--target", self.target.triple()]);
        let mut all_rustflags = rustflags.to_vec();
        match &self.standard_library {
            StandardLibrary::Installed => {}
            StandardLibrary::BuiltByCargo { linker, rustflags } => {
                all_rustflags.extend_from_slice(rustflags);
                cargo.arg("-Zbuild-std=std,panic_abort");
                cargo.env("RUSTC_BOOTSTRAP", "1");
                cargo.env("RUSTC", &self.compiler.rustc);
                cargo.env(self.target.linker_variable(), linker);
                if let Some(bin) = self.compiler.rustc.parent() {
                    cargo.env("PATH", path_beginning_with(bin));
                }
            }
        }
        if !all_rustflags.is_empty() {
            cargo.env("CARGO_ENCODED_RUSTFLAGS", all_rustflags.join("\x1f"));
        }
        cargo
    }
}

/// No toolchain can build for a target.
#[derive(Debug, thiserror::Error)]
#[error(
    "no standard library for {triple}; either of these mends it:\n  \
     rustup target add wasm32-unknown-unknown wasm32-wasip1\n  \
     {apt_get}\n(tried: {tried})",
    triple = target.triple(),
    apt_get = APT_GET,
    tried = tried.join("; "),
)]
pub struct FindToolchainError {
    /// What was to be built for.
    pub target: WasmTarget,
    /// Each thing tried and why it does not do.
    pub tried: Vec<String>,
}

/// What Debian 12 and later need. `lld` is for machines without a rustup toolchain, whose linker
/// would do as well.
const APT_GET: &str =
    "apt-get install --no-install-recommends rustc-web cargo-web rust-web-src wasi-libc lld";

/// Where things are on a machine. Tests have machines of their own.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The directories of `PATH`.
    pub(crate) path: Vec<PathBuf>,
    /// Where the distribution keeps its programs.
    pub(crate) distribution_bin: PathBuf,
    /// Where Debian's `wasi-libc` has its libraries.
    pub(crate) wasi_libc: PathBuf,
}

impl Places {
    pub(crate) fn of_this_machine() -> Places {
        Places {
            path: search_path(),
            distribution_bin: PathBuf::from("/usr/bin"),
            wasi_libc: PathBuf::from("/usr/lib/wasm32-wasi"),
        }
    }

    fn find_program(&self, name: &str) -> Option<PathBuf> {
        self.path
            .iter()
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
    }
}

/// Looks for toolchains on behalf of one workspace. Compilers are asked once, as that takes some
/// tens of milliseconds.
pub(crate) struct ToolchainFinder {
    places: Places,
    choice: ToolchainChoice,
    /// `rust-toolchain.toml` is looked for from here.
    workspace_root: PathBuf,
    target_additions: TargetAddition,
    on_path: Option<Result<Compiler, String>>,
    of_distribution: Option<Result<Compiler, String>>,
}

impl ToolchainFinder {
    pub(crate) fn new(
        places: Places,
        choice: ToolchainChoice,
        workspace_root: &Path,
        target_dir: &Path,
    ) -> ToolchainFinder {
        ToolchainFinder {
            places,
            choice,
            workspace_root: workspace_root.to_owned(),
            target_additions: TargetAddition::remembered_in(target_dir),
            on_path: None,
            of_distribution: None,
        }
    }

    /// What is downloaded can be ended early.
    pub(crate) fn stopped_by(mut self, stop: Stop) -> ToolchainFinder {
        self.target_additions = self.target_additions.stopped_by(stop);
        self
    }

    pub(crate) fn find(
        &mut self,
        target: WasmTarget,
        progress: &mut dyn Progress,
    ) -> Result<Toolchain, FindToolchainError> {
        let mut tried = Vec::new();
        if self.choice != ToolchainChoice::BuildStd {
            match self.installed(target, progress) {
                Ok(compiler) => {
                    return Ok(Toolchain {
                        target,
                        compiler,
                        standard_library: StandardLibrary::Installed,
                    });
                }
                Err(reason) => tried.push(reason),
            }
        }
        match self.distribution(target) {
            Ok(toolchain) => return Ok(toolchain),
            Err(reason) => tried.push(reason),
        }
        Err(FindToolchainError { target, tried })
    }

    fn installed(
        &mut self,
        target: WasmTarget,
        progress: &mut dyn Progress,
    ) -> Result<Compiler, String> {
        let compiler = self.compiler_on_path()?;
        if compiler.has_target(target) {
            return Ok(compiler);
        }
        let triple = target.triple();
        let lacks = format!("rustc {} on the PATH has no {triple}", compiler.release);
        if self.choice == ToolchainChoice::Installed {
            return Err(lacks);
        }
        let Some(rustup) = self.places.find_program("rustup") else {
            return Err(format!("{lacks}, and there is no rustup"));
        };
        self.target_additions
            .add(&rustup, target, &self.workspace_root, progress)
            .map_err(|reason| format!("{lacks}, and {reason}"))?;
        if compiler.has_target(target) {
            return Ok(compiler);
        }
        Err(format!("{lacks} even after `rustup target add {triple}`"))
    }

    fn distribution(&mut self, target: WasmTarget) -> Result<Toolchain, String> {
        let compiler = self.compiler_of_distribution()?;
        let rustc = compiler.rustc.display();
        if !compiler.is_new_enough() {
            return Err(format!(
                "{rustc} is {}, older than {}",
                compiler.release,
                env!("CARGO_PKG_RUST_VERSION")
            ));
        }
        if self.choice != ToolchainChoice::BuildStd && compiler.has_target(target) {
            return Ok(Toolchain {
                target,
                compiler,
                standard_library: StandardLibrary::Installed,
            });
        }
        if self.choice == ToolchainChoice::Installed {
            return Err(format!("{rustc} has no {}", target.triple()));
        }
        if !compiler.has_source() {
            return Err(format!("{rustc} has no source of its standard library"));
        }
        let linker = self
            .linker(&compiler)
            .ok_or_else(|| format!("{rustc} has its source, but there is no linker (lld)"))?;
        let rustflags = match target {
            WasmTarget::Unknown => Vec::new(),
            WasmTarget::Wasip1 => self.wasi_rustflags()?,
        };
        Ok(Toolchain {
            target,
            compiler,
            standard_library: StandardLibrary::BuiltByCargo { linker, rustflags },
        })
    }

    /// The distribution's standard library has no C library of its own, as rustup's has.
    fn wasi_rustflags(&self) -> Result<Vec<String>, String> {
        let libc = &self.places.wasi_libc;
        let start = libc.join("crt1-command.o");
        if !start.is_file() {
            return Err(format!("there is no {} (wasi-libc)", start.display()));
        }
        Ok(vec![
            "-Clink-self-contained=no".to_owned(),
            format!("-Clink-arg=-L{}", libc.display()),
            format!("-Clink-arg={}", start.display()),
            "-Clink-arg=-lc".to_owned(),
        ])
    }

    fn linker(&mut self, distribution: &Compiler) -> Option<PathBuf> {
        let on_path = self.compiler_on_path().ok();
        let of_compilers = on_path
            .iter()
            .chain([distribution])
            .map(Compiler::rust_lld)
            .find(|linker| linker.is_file());
        // The newest LLVM first: an old one may not know what the compiler emits.
        let versions = (14..=30).rev().map(|major| format!("wasm-ld-{major}"));
        of_compilers.or_else(|| {
            ["rust-lld".to_owned(), "wasm-ld".to_owned()]
                .into_iter()
                .chain(versions)
                .find_map(|name| self.places.find_program(&name))
        })
    }

    fn compiler_on_path(&mut self) -> Result<Compiler, String> {
        let ToolchainFinder {
            places,
            workspace_root,
            on_path,
            ..
        } = self;
        on_path
            .get_or_insert_with(|| {
                let rustc = places.find_program("rustc").ok_or("no rustc on the PATH")?;
                let cargo = places.find_program("cargo").ok_or("no cargo on the PATH")?;
                Compiler::ask(&rustc, &cargo, workspace_root)
            })
            .clone()
    }

    fn compiler_of_distribution(&mut self) -> Result<Compiler, String> {
        let ToolchainFinder {
            places,
            workspace_root,
            of_distribution,
            ..
        } = self;
        of_distribution
            .get_or_insert_with(|| {
                let bin = &places.distribution_bin;
                for program in ["rustc", "cargo"] {
                    if !bin.join(program).is_file() {
                        return Err(format!("there is no {}", bin.join(program).display()));
                    }
                }
                Compiler::ask(&bin.join("rustc"), &bin.join("cargo"), workspace_root)
            })
            .clone()
    }
}

/// A program's standard output as text, or why there is none.
fn output_of(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let reason = stderr.lines().next().unwrap_or_default();
        return Err(format!("{program} fails: {reason}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests;
