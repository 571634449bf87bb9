//! Building guests: deciding what is stale, running cargo once per workspace and target, finishing
//! and writing the components.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cargo::{CargoBuild, RunCargoError};
use crate::component::{FinishError, finish_plugin, finish_task};
use crate::fingerprint::{Record, digest_of_files, digest_of_sources, further_files, record_path};
use crate::inspect::digest;
use crate::package::{GuestKind, Package, ReadPackageError};
use crate::progress::Progress;
use crate::stop::Stop;
use crate::toolchain::{
    FindToolchainError, Places, Toolchain, ToolchainChoice, ToolchainFinder, WasmTarget,
};

/// How to build.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Cargo's target directory for guests; otherwise `target/guests` of the guest's workspace. One
    /// directory for many workspaces shares the standard library between them.
    pub target_dir: Option<PathBuf>,
    /// Where components are written; otherwise `components` in the target directory.
    pub output_dir: Option<PathBuf>,
    /// Which toolchains may be used.
    pub toolchain: ToolchainChoice,
    /// Ends the build early, from another thread.
    pub stop: Stop,
}

/// A component that is there, whether built now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The component's name.
    pub name: String,
    /// What it is.
    pub kind: GuestKind,
    /// The component's file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Whether nothing had to be done.
    pub was_fresh: bool,
}

/// Why a guest could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The directory holds no guest.
    #[error(transparent)]
    Package(#[from] ReadPackageError),
    /// Two guests would write the same file.
    #[error("{} and {} are both named `{name}`", dirs[0].display(), dirs[1].display())]
    SameName {
        /// The name.
        name: String,
        /// Their directories.
        dirs: [PathBuf; 2],
    },
    /// There is no compiler for WebAssembly.
    #[error(transparent)]
    Toolchain(#[from] FindToolchainError),
    /// Cargo failed.
    #[error("cannot compile {packages}")]
    Cargo {
        /// The packages that were compiled together.
        packages: String,
        /// What cargo said.
        #[source]
        source: RunCargoError,
    },
    /// The compiled module makes no valid plug-in or task.
    #[error("{name} does not make a valid {}", kind.as_str())]
    Finish {
        /// The guest.
        name: String,
        /// What it should be.
        kind: GuestKind,
        /// What is wrong.
        #[source]
        source: FinishError,
    },
    /// [`BuildOptions::stop`] was used.
    #[error("the build was stopped")]
    Stopped,
    /// A file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Builds the guests in `dirs`, each the directory of a `Cargo.toml`, and returns their components in
/// the same order. Guests of one workspace and target are compiled by one cargo.
pub fn build(
    dirs: &[PathBuf],
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<Vec<Built>, BuildError> {
    let packages = dirs
        .iter()
        .map(|dir| Package::read(dir))
        .collect::<Result<Vec<_>, _>>()?;
    check_names(&packages)?;
    let mut workspaces = BTreeMap::<&Path, BTreeMap<WasmTarget, Vec<&Package>>>::new();
    for package in &packages {
        workspaces
            .entry(&package.workspace_root)
            .or_default()
            .entry(package.kind.target())
            .or_default()
            .push(package);
    }
    let mut built = BTreeMap::new();
    for (workspace_root, targets) in workspaces {
        let mut workspace = Workspace::new(workspace_root, options);
        for (target, packages) in targets {
            workspace.build(target, &packages, &mut built, progress)?;
        }
    }
    Ok(packages
        .iter()
        .filter_map(|package| built.remove(&package.name))
        .collect())
}

fn check_names(packages: &[Package]) -> Result<(), BuildError> {
    let mut dirs = BTreeMap::<&str, &Path>::new();
    for package in packages {
        if let Some(other) = dirs.insert(&package.name, &package.dir) {
            return Err(BuildError::SameName {
                name: package.name.clone(),
                dirs: [other.to_owned(), package.dir.clone()],
            });
        }
    }
    Ok(())
}

/// The guests of one workspace.
struct Workspace<'a> {
    root: &'a Path,
    target_dir: PathBuf,
    output_dir: PathBuf,
    finder: ToolchainFinder,
    stop: Stop,
}

impl<'a> Workspace<'a> {
    fn new(root: &'a Path, options: &BuildOptions) -> Workspace<'a> {
        let target_dir = options
            .target_dir
            .clone()
            .unwrap_or_else(|| root.join("target/guests"));
        // Cargo runs in another directory, where a relative path would be another.
        let target_dir = std::path::absolute(&target_dir).unwrap_or(target_dir);
        Workspace {
            root,
            output_dir: options
                .output_dir
                .clone()
                .unwrap_or_else(|| target_dir.join("components")),
            finder: ToolchainFinder::new(
                Places::of_this_machine(),
                options.toolchain,
                root,
                &target_dir,
            )
            .stopped_by(options.stop.clone()),
            stop: options.stop.clone(),
            target_dir,
        }
    }

    fn build(
        &mut self,
        target: WasmTarget,
        packages: &[&Package],
        built: &mut BTreeMap<String, Built>,
        progress: &mut dyn Progress,
    ) -> Result<(), BuildError> {
        let toolchain = self.finder.find(target, progress);
        // Whatever it came to then, that is why.
        if self.stop.is_stopped() {
            return Err(BuildError::Stopped);
        }
        let toolchain = toolchain?;
        let mut stale = Vec::new();
        for package in packages {
            let sources =
                digest_of_sources(package, &toolchain).map_err(|source| BuildError::Io {
                    path: package.dir.clone(),
                    source,
                })?;
            let output = self.output_of(package);
            if Record::is_fresh(&output, &sources) {
                built.insert(package.name.clone(), self.fresh(package)?);
            } else {
                stale.push(Stale { package, sources });
            }
        }
        if stale.is_empty() {
            return Ok(());
        }
        for (stale, module) in stale
            .iter()
            .zip(self.compile(&stale, &toolchain, progress)?)
        {
            let component = self.finish(stale, &module)?;
            progress.line(&format!(
                "{}: {} bytes, {}",
                component.name,
                component.size,
                component.path.display()
            ));
            built.insert(component.name.clone(), component);
        }
        Ok(())
    }

    fn compile(
        &self,
        stale: &[Stale<'_>],
        toolchain: &Toolchain,
        progress: &mut dyn Progress,
    ) -> Result<Vec<PathBuf>, BuildError> {
        let packages: Vec<&Package> = stale.iter().map(|stale| stale.package).collect();
        let names: Vec<&str> = packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        let names = names.join(", ");
        progress.line(&format!("building {names}: {}", toolchain.describe()));
        let began = Instant::now();
        let log = format!("{}.log", names.replace(", ", "+"));
        let modules = CargoBuild {
            toolchain,
            workspace_root: self.root,
            packages: &packages,
            target_dir: &self.target_dir,
            log: self.target_dir.join("logs").join(log),
            stop: &self.stop,
        }
        .run(progress);
        if self.stop.is_stopped() {
            return Err(BuildError::Stopped);
        }
        let modules = modules.map_err(|source| BuildError::Cargo {
            packages: names,
            source,
        })?;
        progress.line(&format!("compiled in {} s", began.elapsed().as_secs()));
        Ok(modules)
    }

    /// Makes the component, and writes it and its record.
    fn finish(&self, stale: &Stale<'_>, module: &Path) -> Result<Built, BuildError> {
        let Stale { package, sources } = stale;
        let io_error = |path: &Path| {
            let path = path.to_owned();
            |source| BuildError::Io { path, source }
        };
        let wasm = fs::read(module).map_err(io_error(module))?;
        let finished = match &package.draft {
            Some(draft) => finish_plugin(&wasm, draft).map(|(component, _)| component),
            None => finish_task(&wasm),
        };
        let component = finished.map_err(|source| BuildError::Finish {
            name: package.name.clone(),
            kind: package.kind,
            source,
        })?;
        let output = self.output_of(package);
        let further_files = further_files(package, module).map_err(io_error(module))?;
        let record = Record {
            sources: sources.clone(),
            further: digest_of_files(&further_files).map_err(io_error(&package.dir))?,
            further_files,
            output: digest(&component),
        };
        let json = serde_json::to_vec_pretty(&record)
            .map_err(|error| io_error(&output)(io::Error::other(error)))?;
        fs::create_dir_all(&self.output_dir).map_err(io_error(&self.output_dir))?;
        write_whole(&output, &component).map_err(io_error(&output))?;
        write_whole(&record_path(&output), &json).map_err(io_error(&output))?;
        Ok(Built {
            name: package.name.clone(),
            kind: package.kind,
            size: component.len() as u64,
            digest: record.output,
            path: output,
            was_fresh: false,
        })
    }

    fn fresh(&self, package: &Package) -> Result<Built, BuildError> {
        let path = self.output_of(package);
        match fs::read(&path) {
            Ok(component) => Ok(Built {
                name: package.name.clone(),
                kind: package.kind,
                size: component.len() as u64,
                digest: digest(&component),
                path,
                was_fresh: true,
            }),
            Err(source) => Err(BuildError::Io { path, source }),
        }
    }

    fn output_of(&self, package: &Package) -> PathBuf {
        self.output_dir.join(format!("{}.wasm", package.name))
    }
}

/// A package that has to be built, and the digest of its sources before that.
struct Stale<'a> {
    package: &'a Package,
    sources: String,
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".partial-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A component is for everybody to read, which temporary files are not.
        builder.permissions(fs::Permissions::from_mode(0o644));
    }
    let mut file = builder.tempfile_in(dir)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}
