//! Running cargo, and finding what it made.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use serde::Deserialize;

use crate::environment::cargo_home;
use crate::package::Package;
use crate::progress::Progress;
use crate::stop::Stop;
use crate::toolchain::{Toolchain, WasmTarget};

/// The cargo profile of guests. Where the workspace does not define it, [`PROFILE`] does.
const PROFILE_NAME: &str = "guest";

/// One small module each; a guest that panics traps, and unwinds nothing.
const PROFILE: [&str; 7] = [
    "profile.guest.inherits=\"release\"",
    "profile.guest.opt-level=3",
    "profile.guest.lto=true",
    "profile.guest.codegen-units=1",
    "profile.guest.panic=\"abort\"",
    "profile.guest.debug=false",
    "profile.guest.strip=\"debuginfo\"",
];

/// What is shown of a log on failure: about a screen.
const TAIL_LINES: usize = 40;

/// Why cargo produced no module.
#[derive(Debug, thiserror::Error)]
pub enum RunCargoError {
    /// It could not be started or listened to.
    #[error("cannot run cargo")]
    Io(#[from] io::Error),
    /// The log cannot be written.
    #[error("cannot write {}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed, most likely over the guest's code.
    #[error("cargo failed ({status}); all that it said is in {}\n{excerpt}", log.display())]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// Where its whole output is.
        log: PathBuf,
        /// The output from the first error on, or its end.
        excerpt: String,
    },
    /// It succeeded, and yet there is no one module.
    #[error(
        "cargo built no single .wasm file of {package}: {wanted} is needed (found {})",
        found.len()
    )]
    NoModule {
        /// The package.
        package: String,
        /// What the package must have.
        wanted: &'static str,
        /// The files there are.
        found: Vec<PathBuf>,
    },
}

/// One run of `cargo build`: packages of one workspace for one target.
pub(crate) struct CargoBuild<'a> {
    pub(crate) toolchain: &'a Toolchain,
    pub(crate) workspace_root: &'a Path,
    pub(crate) packages: &'a [&'a Package],
    /// The guests' own target directory.
    pub(crate) target_dir: &'a Path,
    /// Where cargo's output is kept.
    pub(crate) log: PathBuf,
    /// Ends it early.
    pub(crate) stop: &'a Stop,
}

impl CargoBuild<'_> {
    /// Builds, and returns the core module of each package, in their order.
    pub(crate) fn run(&self, progress: &mut dyn Progress) -> Result<Vec<PathBuf>, RunCargoError> {
        if self.is_first_with_source() {
            progress.line(&format!(
                "building the standard library for {}, once: some two minutes",
                self.toolchain.target.triple()
            ));
        }
        let mut log = self.create_log()?;
        let child = self.stop.guard(self.command().spawn()?);
        let pipes = child.with(|child| (child.stdout.take(), child.stderr.take()));
        let (stdout, stderr) = pipes.unwrap_or_default();
        let artifacts = thread::spawn(move || read_artifacts(stdout));
        let mut excerpt = Excerpt::default();
        let mut said_waiting = false;
        if let Some(stderr) = stderr {
            for line in BufReader::new(stderr).split(b'\n') {
                let line = String::from_utf8_lossy(&line?).into_owned();
                writeln!(log, "{line}").map_err(|source| self.log_error(source))?;
                let text = line.trim();
                if text.starts_with("Blocking waiting") && !said_waiting {
                    said_waiting = true;
                    progress.line("waiting for another cargo");
                } else if !text.is_empty() {
                    progress.activity(text);
                }
                excerpt.add(line);
            }
        }
        let status = child.with(Child::wait).unwrap_or_else(|| {
            let gone = "cargo was taken from its guard";
            Err(io::Error::other(gone))
        })?;
        // The thread reads and collects; it cannot panic, and with no list nothing is found.
        let artifacts = artifacts.join().unwrap_or_default();
        if !status.success() {
            return Err(RunCargoError::Failed {
                status,
                log: self.log.clone(),
                excerpt: excerpt.text(),
            });
        }
        self.packages
            .iter()
            .map(|package| self.module_of(package, &artifacts))
            .collect()
    }

    fn command(&self) -> Command {
        // Without this every panic message would carry the builder's home directory, and the same
        // sources would give other bytes elsewhere.
        let rustflags: Vec<String> = cargo_home()
            .map(|home| format!("--remap-path-prefix={}=/cargo", home.display()))
            .into_iter()
            .collect();
        let mut cargo = self.toolchain.cargo_build(&rustflags);
        cargo
            .current_dir(self.workspace_root)
            .arg("--manifest-path")
            .arg(self.workspace_root.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(self.target_dir)
            .args(["--profile", PROFILE_NAME, "--color", "never"])
            .arg("--message-format=json-render-diagnostics");
        if self
            .packages
            .iter()
            .any(|package| !package.has_guest_profile)
        {
            for setting in PROFILE {
                cargo.args(["--config", setting]);
            }
        }
        match self.toolchain.target {
            WasmTarget::Unknown => cargo.arg("--lib"),
            WasmTarget::Wasip1 => cargo.arg("--bins"),
        };
        for package in self.packages {
            cargo.args(["-p", &package.cargo_name]);
        }
        cargo
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        cargo
    }

    fn is_first_with_source(&self) -> bool {
        let built = self.target_dir.join(self.toolchain.target.triple());
        self.toolchain.builds_standard_library() && !built.join(PROFILE_NAME).is_dir()
    }

    fn create_log(&self) -> Result<File, RunCargoError> {
        let create = || {
            if let Some(dir) = self.log.parent() {
                fs::create_dir_all(dir)?;
            }
            File::create(&self.log)
        };
        create().map_err(|source| self.log_error(source))
    }

    fn log_error(&self, source: io::Error) -> RunCargoError {
        RunCargoError::Log {
            path: self.log.clone(),
            source,
        }
    }

    fn module_of(
        &self,
        package: &Package,
        artifacts: &BTreeMap<PathBuf, Vec<Module>>,
    ) -> Result<PathBuf, RunCargoError> {
        let modules = artifacts
            .get(&package.dir.join("Cargo.toml"))
            .map(Vec::as_slice)
            .unwrap_or_default();
        let single = match modules {
            [module] => Some(module),
            // A package of several programs: the one that carries its name.
            modules => modules.iter().find(|module| {
                module.target == package.cargo_name || module.target == package.name
            }),
        };
        single
            .map(|module| module.file.clone())
            .ok_or_else(|| RunCargoError::NoModule {
                package: package.cargo_name.clone(),
                wanted: match self.toolchain.target {
                    WasmTarget::Unknown => "a library with crate-type = [\"cdylib\", \"rlib\"]",
                    WasmTarget::Wasip1 => "one program, or one of the package's name",
                },
                found: modules.iter().map(|module| module.file.clone()).collect(),
            })
    }
}

/// A `.wasm` file and the cargo target (library or program) that it was made of.
#[derive(Debug)]
struct Module {
    target: String,
    file: PathBuf,
}

/// The `.wasm` files in cargo's messages, by the `Cargo.toml` of their package.
fn read_artifacts(stdout: Option<impl Read>) -> BTreeMap<PathBuf, Vec<Module>> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        #[serde(default)]
        manifest_path: PathBuf,
        #[serde(default)]
        filenames: Vec<PathBuf>,
        target: Option<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    let mut artifacts = BTreeMap::<PathBuf, Vec<Module>>::new();
    let Some(stdout) = stdout else {
        return artifacts;
    };
    for line in BufReader::new(stdout).split(b'\n') {
        let Ok(line) = line else { break };
        // Build scripts may print anything; what is no message is theirs.
        let Ok(message) = serde_json::from_slice::<Message>(&line) else {
            continue;
        };
        let (true, Some(target)) = (message.reason == "compiler-artifact", message.target) else {
            continue;
        };
        let modules = artifacts.entry(message.manifest_path).or_default();
        for file in message.filenames {
            if file
                .extension()
                .is_some_and(|extension| extension == "wasm")
            {
                modules.push(Module {
                    target: target.name.clone(),
                    file,
                });
            }
        }
    }
    artifacts
}

/// The part of cargo's output that is worth showing: from the first error on, or else the end.
#[derive(Default)]
struct Excerpt {
    lines: Vec<String>,
    in_error: bool,
}

impl Excerpt {
    fn add(&mut self, line: String) {
        if !self.in_error && line.starts_with("error") {
            self.in_error = true;
            self.lines.clear();
        }
        if self.lines.len() == TAIL_LINES {
            if self.in_error {
                return;
            }
            self.lines.remove(0);
        }
        self.lines.push(line);
    }

    fn text(&self) -> String {
        self.lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt_of(lines: impl IntoIterator<Item = String>) -> String {
        let mut excerpt = Excerpt::default();
        for line in lines {
            excerpt.add(line);
        }
        excerpt.text()
    }

    #[test]
    fn excerpt_begins_at_the_first_error() {
        let lines = [
            "   Compiling a",
            "error[E0308]: mismatched",
            "  --> src/lib.rs",
            "error: b",
        ];
        assert_eq!(
            excerpt_of(lines.map(str::to_owned)),
            "error[E0308]: mismatched\n  --> src/lib.rs\nerror: b"
        );
    }

    #[test]
    fn excerpt_without_an_error_is_the_end() {
        let text = excerpt_of((0..100).map(|number| number.to_string()));
        assert_eq!(text.lines().count(), TAIL_LINES);
        assert_eq!(text.lines().next_back(), Some("99"));
    }

    #[test]
    fn modules_are_found_by_package_and_other_output_is_skipped() {
        let stdout = br#"hello from a build script
{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"name":"a"},"filenames":["/t/a.wasm","/t/liba.rlib"]}
{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","target":{"name":"b"},"filenames":["/t/libb.rlib"]}
{"reason":"build-finished","success":true}
"#;
        let artifacts = read_artifacts(Some(stdout.as_slice()));
        let files = |dir: &str| -> Vec<PathBuf> {
            artifacts[Path::new(dir)]
                .iter()
                .map(|module| module.file.clone())
                .collect()
        };
        assert_eq!(files("/w/a/Cargo.toml"), [PathBuf::from("/t/a.wasm")]);
        assert!(files("/w/b/Cargo.toml").is_empty());
    }
}
