//! A guest's cargo package: what it is called, what it becomes, and which directories it is made of.
//!
//! Read from the manifests directly: `cargo metadata` would take longer than deciding that nothing
//! has to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::manifest::{
    DRAFT_JSON, DRAFT_TOML, ManifestDraft, ManifestError, PluginWorld, check_name,
};
use crate::toolchain::WasmTarget;

/// What a guest becomes, as its `[package.metadata.proffer]` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestKind {
    /// A plug-in that decides what to run.
    Framework,
    /// A plug-in that decides whom to offer what.
    Policy,
    /// A program that runs as a task.
    Task,
}

impl GuestKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            GuestKind::Framework => "framework",
            GuestKind::Policy => "policy",
            GuestKind::Task => "task",
        }
    }

    /// What it is compiled for.
    pub fn target(self) -> WasmTarget {
        match self {
            GuestKind::Framework | GuestKind::Policy => WasmTarget::Unknown,
            GuestKind::Task => WasmTarget::Wasip1,
        }
    }

    /// The contract that it implements; a task has none.
    pub fn plugin_world(self) -> Option<PluginWorld> {
        match self {
            GuestKind::Framework => Some(PluginWorld::Framework),
            GuestKind::Policy => Some(PluginWorld::Policy),
            GuestKind::Task => None,
        }
    }
}

/// A guest's package, read from its directory.
#[derive(Clone, Debug)]
pub struct Package {
    /// The directory of its `Cargo.toml`, absolute.
    pub dir: PathBuf,
    /// Cargo's name of it.
    pub cargo_name: String,
    /// The component's name: of the plug-in manifest, of the metadata, or cargo's, in that order.
    pub name: String,
    /// What it becomes.
    pub kind: GuestKind,
    /// The root of its workspace; its own directory if it is in none.
    pub workspace_root: PathBuf,
    /// Whether the workspace has the cargo profile `guest`.
    pub has_guest_profile: bool,
    /// A plug-in's manifest as its author wrote it, completed from `Cargo.toml`.
    pub draft: Option<ManifestDraft>,
    /// The directories of the package and of all its path dependencies.
    pub source_dirs: BTreeSet<PathBuf>,
}

impl Package {
    /// Reads the package in `dir`.
    pub fn read(dir: &Path) -> Result<Package, ReadPackageError> {
        let dir = fs::canonicalize(dir).map_err(|source| ReadPackageError::Read {
            path: dir.to_owned(),
            source,
        })?;
        let manifest = CargoManifest::read(&dir)?;
        let workspace_root = workspace_root(&dir, &manifest)?;
        let root = CargoManifest::read(&workspace_root)?;
        let path = || dir.join("Cargo.toml");
        let package = manifest
            .package
            .as_ref()
            .ok_or_else(|| ReadPackageError::NotAPackage { path: path() })?;
        let metadata = package
            .metadata
            .proffer
            .clone()
            .ok_or_else(|| ReadPackageError::NotAGuest { path: path() })?;
        let inherited = root.workspace.as_ref().map(|table| &table.package);
        let draft = match metadata.kind.plugin_world() {
            Some(world) => Some(read_draft(&dir, package, inherited, world)?),
            None => None,
        };
        let name = draft
            .as_ref()
            .and_then(|draft| draft.name.clone())
            .or(metadata.name)
            .unwrap_or_else(|| package.name.clone());
        // The name becomes a file's; nothing but a plain word may.
        check_name(&name).map_err(|source| ReadPackageError::Manifest {
            path: path(),
            source,
        })?;
        let source_dirs = source_dirs(&dir, &workspace_root, &root)?;
        Ok(Package {
            cargo_name: package.name.clone(),
            draft: draft.map(|draft| ManifestDraft {
                name: Some(name.clone()),
                ..draft
            }),
            name,
            kind: metadata.kind,
            has_guest_profile: root.profile.contains_key("guest"),
            workspace_root,
            source_dirs,
            dir,
        })
    }
}

/// Why a directory is not a guest's.
#[derive(Debug, thiserror::Error)]
pub enum ReadPackageError {
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A `Cargo.toml` is not one.
    #[error("{} is not a valid cargo manifest", path.display())]
    Toml {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// A workspace without a package.
    #[error("{} has no [package]: name the directory of one guest", path.display())]
    NotAPackage {
        /// Which.
        path: PathBuf,
    },
    /// A package that does not say what it becomes.
    #[error(
        "{} does not say what it is: add [package.metadata.proffer] with kind = \"framework\", \
         \"policy\" or \"task\"", path.display()
    )]
    NotAGuest {
        /// Which.
        path: PathBuf,
    },
    /// The plug-in's manifest is wrong.
    #[error("{} is not a valid plug-in manifest", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The kind and the plug-in's manifest contradict each other.
    #[error("{} says world = \"{}\", and Cargo.toml says kind = \"{}\"",
        path.display(), stated.as_str(), kind.as_str())]
    WorldMismatch {
        /// The plug-in's manifest.
        path: PathBuf,
        /// What that says.
        stated: PluginWorld,
        /// What the package's metadata says.
        kind: PluginWorld,
    },
}

/// The parts of a `Cargo.toml` that matter here.
#[derive(Debug, Deserialize)]
struct CargoManifest {
    package: Option<PackageTable>,
    workspace: Option<WorkspaceTable>,
    #[serde(default)]
    profile: toml::Table,
    #[serde(flatten)]
    dependencies: DependencyTables,
    #[serde(default)]
    target: BTreeMap<String, DependencyTables>,
}

#[derive(Debug, Deserialize)]
struct PackageTable {
    name: String,
    version: Option<toml::Value>,
    description: Option<toml::Value>,
    workspace: Option<PathBuf>,
    #[serde(default)]
    metadata: PackageMetadata,
}

#[derive(Debug, Default, Deserialize)]
struct PackageMetadata {
    proffer: Option<GuestMetadata>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct GuestMetadata {
    kind: GuestKind,
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WorkspaceTable {
    #[serde(default)]
    package: toml::Table,
    #[serde(default)]
    dependencies: toml::Table,
    #[serde(default)]
    exclude: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
struct DependencyTables {
    #[serde(default)]
    dependencies: toml::Table,
    #[serde(default, rename = "build-dependencies")]
    build_dependencies: toml::Table,
}

impl CargoManifest {
    fn read(dir: &Path) -> Result<CargoManifest, ReadPackageError> {
        let path = dir.join("Cargo.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(ReadPackageError::Read { path, source }),
        };
        toml::from_str(&text).map_err(|source| ReadPackageError::Toml { path, source })
    }

    /// The directories of its path dependencies, those inherited from the workspace included.
    fn path_dependencies(
        &self,
        dir: &Path,
        root: &Path,
        workspace: &CargoManifest,
    ) -> Vec<PathBuf> {
        let inherited = workspace.workspace.as_ref();
        let mut found = Vec::new();
        for tables in std::iter::once(&self.dependencies).chain(self.target.values()) {
            let entries = tables.dependencies.iter();
            for (name, dependency) in entries.chain(&tables.build_dependencies) {
                if let Some(path) = dependency.get("path").and_then(toml::Value::as_str) {
                    found.push(normalize(&dir.join(path)));
                } else if dependency.get("workspace").is_some()
                    && let Some(path) = inherited
                        .and_then(|table| table.dependencies.get(name)?.get("path"))
                        .and_then(toml::Value::as_str)
                {
                    found.push(normalize(&root.join(path)));
                }
            }
        }
        found
    }
}

/// Cargo's rule: the package's own table, its `workspace` key, or the first ancestor with one.
fn workspace_root(dir: &Path, manifest: &CargoManifest) -> Result<PathBuf, ReadPackageError> {
    if manifest.workspace.is_some() {
        return Ok(dir.to_owned());
    }
    let stated = manifest
        .package
        .as_ref()
        .and_then(|package| package.workspace.as_ref());
    if let Some(path) = stated {
        return Ok(normalize(&dir.join(path)));
    }
    for ancestor in dir.ancestors().skip(1) {
        if !ancestor.join("Cargo.toml").is_file() {
            continue;
        }
        if let Some(workspace) = CargoManifest::read(ancestor)?.workspace {
            let inside = dir.strip_prefix(ancestor).unwrap_or(dir);
            if !workspace
                .exclude
                .iter()
                .any(|path| inside.starts_with(path))
            {
                return Ok(ancestor.to_owned());
            }
        }
    }
    Ok(dir.to_owned())
}

fn read_draft(
    dir: &Path,
    package: &PackageTable,
    inherited: Option<&toml::Table>,
    kind: PluginWorld,
) -> Result<ManifestDraft, ReadPackageError> {
    let mut draft = ManifestDraft::default();
    for (file, parse) in [
        (DRAFT_TOML, ManifestDraft::from_toml as fn(&str) -> _),
        (DRAFT_JSON, ManifestDraft::from_json),
    ] {
        let path = dir.join(file);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ReadPackageError::Read { path, source }),
        };
        draft = match parse(&text) {
            Ok(draft) => draft,
            Err(source) => return Err(ReadPackageError::Manifest { path, source }),
        };
        if let Some(stated) = draft.world
            && stated != kind
        {
            return Err(ReadPackageError::WorldMismatch { path, stated, kind });
        }
        break;
    }
    let of_package = |field: Option<&toml::Value>, key: &str| match field? {
        toml::Value::String(text) => Some(text.clone()),
        _ => Some(inherited?.get(key)?.as_str()?.to_owned()),
    };
    Ok(ManifestDraft {
        world: Some(kind),
        version: draft
            .version
            .or_else(|| of_package(package.version.as_ref(), "version")),
        description: draft
            .description
            .or_else(|| of_package(package.description.as_ref(), "description")),
        language: draft.language.or_else(|| Some("rust".to_owned())),
        ..draft
    })
}

fn source_dirs(
    dir: &Path,
    root: &Path,
    workspace: &CargoManifest,
) -> Result<BTreeSet<PathBuf>, ReadPackageError> {
    let mut found = BTreeSet::from([dir.to_owned()]);
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        let manifest = CargoManifest::read(&dir)?;
        // A dependency outside of the workspace belongs to another, and inherits from that.
        let dependencies = if dir.starts_with(root) {
            manifest.path_dependencies(&dir, root, workspace)
        } else {
            let other = workspace_root(&dir, &manifest)?;
            manifest.path_dependencies(&dir, &other, &CargoManifest::read(&other)?)
        };
        for dependency in dependencies {
            if found.insert(dependency.clone()) {
                pending.push(dependency);
            }
        }
    }
    Ok(found)
}

/// Removes `.` and `..` without asking the file system, as cargo does.
fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests;
