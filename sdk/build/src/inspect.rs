//! What a WebAssembly file is: which contract it implements, what it imports and exports.
//!
//! The file is untrusted. It is read in one pass and validated with every WebAssembly feature that
//! the parser knows; whether a host's engine takes those features is the host's question.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmparser::component_types::{ComponentEntityType, ComponentItem};
use wasmparser::types::Types;
use wasmparser::{Encoding, ExternalKind, Payload, TypeRef, Validator, WasmFeatures};

use crate::manifest::{Manifest, ManifestError, PluginWorld};
use crate::sections::{ReadWasmError, walk};

/// The packages of the two contracts, with the slash that ends a package's name.
const FRAMEWORK_PACKAGE: &str = "proffer:framework/";
const POLICY_PACKAGE: &str = "proffer:policy/";
const WASI_COMMAND: &str = "wasi:cli/run";

/// What a file implements, judged by its exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// It exports an interface of `proffer:framework`.
    Framework,
    /// It exports an interface of `proffer:policy`.
    Policy,
    /// It exports `wasi:cli/run`: a program.
    WasiCommand,
    /// A component that is none of these.
    Unknown,
    /// A core module, not a component.
    CoreModule,
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            World::Framework => "framework",
            World::Policy => "policy",
            World::WasiCommand => "WASI command",
            World::Unknown => "unknown",
            World::CoreModule => "core module",
        })
    }
}

impl From<PluginWorld> for World {
    fn from(world: PluginWorld) -> World {
        match world {
            PluginWorld::Framework => World::Framework,
            PluginWorld::Policy => World::Policy,
        }
    }
}

/// One import or export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// As written, with the version: `proffer:framework/state@0.1.0`. Of a core module,
    /// `module::field`.
    pub name: String,
    /// `instance`, `func`, `type`, `memory` and so on.
    pub kind: &'static str,
    /// Whether it is an interface of nothing but types, which gives no power.
    pub only_types: bool,
}

impl Item {
    /// The name without its version.
    pub fn interface(&self) -> &str {
        self.name
            .split_once('@')
            .map_or(self.name.as_str(), |(name, _)| name)
    }
}

/// What [`inspect()`] found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inspection {
    /// What it implements.
    pub world: World,
    /// The contract's version, from the name of the export that decided `world`.
    pub contract: Option<String>,
    /// What it needs, in the file's order.
    pub imports: Vec<Item>,
    /// What it offers, in the file's order.
    pub exports: Vec<Item>,
    /// The file's size in bytes.
    pub size: u64,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Its embedded manifest; `None` if it has none.
    pub manifest: Option<Manifest>,
}

impl Inspection {
    /// Fails unless the file implements `wanted`, and says what it is instead.
    pub fn require(&self, wanted: World) -> Result<(), WrongWorld> {
        if self.world == wanted {
            return Ok(());
        }
        Err(WrongWorld {
            wanted,
            found: self.world,
            exports: names_of(&self.exports),
        })
    }

    /// The first import that is not of `proffer:*`; a plug-in must have none.
    pub fn foreign_import(&self) -> Option<&Item> {
        self.imports
            .iter()
            .find(|import| !import.name.starts_with("proffer:"))
    }
}

/// A component (or module) that is not what was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct WrongWorld {
    /// What was wanted.
    pub wanted: World,
    /// What it is.
    pub found: World,
    /// The names of its exports.
    pub exports: Vec<String>,
}

impl fmt::Display for WrongWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrongWorld {
            wanted,
            found,
            exports,
        } = self;
        if *found == World::CoreModule {
            return write!(f, "a core module, not a component (wanted: a {wanted})");
        }
        let export = match wanted {
            World::Framework => "an export of `proffer:framework`",
            World::Policy => "an export of `proffer:policy`",
            World::WasiCommand => "the export `wasi:cli/run`",
            World::Unknown => "neither a plug-in nor a WASI command",
            World::CoreModule => "a core module",
        };
        let exports = match exports.as_slice() {
            [] => "nothing".to_owned(),
            exports => exports.join(", "),
        };
        write!(f, "not a {wanted}: it exports {exports}; wanted: {export}")
    }
}

/// Why a file cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is not a well-formed WebAssembly file.
    #[error(transparent)]
    Read(#[from] ReadWasmError),
    /// The component is well, but its manifest is not.
    #[error("the embedded manifest cannot be used")]
    Manifest(#[from] ManifestError),
}

/// Says what `bytes` are.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, InspectError> {
    let mut imports = Vec::new();
    let mut exports = Vec::new();
    let mut encoding = Encoding::Module;
    walk(bytes, |depth, payload| {
        if depth == 0 {
            if let Payload::Version {
                encoding: found, ..
            } = payload
            {
                encoding = *found;
            }
            collect_items(payload, &mut imports, &mut exports)?;
        }
        Ok(())
    })?;
    let types = Validator::new_with_features(WasmFeatures::all())
        .validate_all(bytes)
        .map_err(ReadWasmError::Invalid)?;
    for import in &mut imports {
        import.only_types = has_only_types(&types, types.component_item_for_import(&import.name));
    }
    for export in &mut exports {
        export.only_types = has_only_types(&types, types.component_item_for_export(&export.name));
    }
    let (world, contract) = match encoding {
        Encoding::Module => (World::CoreModule, None),
        Encoding::Component => world_of(&exports),
    };
    let manifest = Manifest::from_component(bytes)?;
    Ok(Inspection {
        world,
        contract,
        imports,
        exports,
        size: bytes.len() as u64,
        digest: digest(bytes),
        manifest,
    })
}

/// `sha256:` and the digest in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn names_of(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| item.name.clone()).collect()
}

fn has_only_types(types: &Types, item: Option<&ComponentItem>) -> bool {
    let Some(item) = item else { return false };
    match item.ty {
        // The id comes from these very types, so it is there.
        ComponentEntityType::Instance(id) => types[id]
            .exports
            .values()
            .all(|export| matches!(export.ty, ComponentEntityType::Type { .. })),
        _ => false,
    }
}

fn world_of(exports: &[Item]) -> (World, Option<String>) {
    let version = |item: &Item| {
        item.name
            .split_once('@')
            .map(|(_, version)| version.to_owned())
    };
    for (package, world) in [
        (FRAMEWORK_PACKAGE, World::Framework),
        (POLICY_PACKAGE, World::Policy),
    ] {
        if let Some(item) = exports.iter().find(|item| item.name.starts_with(package)) {
            return (world, version(item));
        }
    }
    match exports.iter().find(|item| item.interface() == WASI_COMMAND) {
        Some(item) => (World::WasiCommand, version(item)),
        None => (World::Unknown, None),
    }
}

fn collect_items(
    payload: &Payload<'_>,
    imports: &mut Vec<Item>,
    exports: &mut Vec<Item>,
) -> Result<(), wasmparser::Error> {
    match payload {
        Payload::ComponentImportSection(section) => {
            for import in section.clone() {
                let import = import?;
                imports.push(Item {
                    name: import.name.full_name().into_owned(),
                    kind: import.ty.kind().desc(),
                    only_types: false,
                });
            }
        }
        Payload::ComponentExportSection(section) => {
            for export in section.clone() {
                let export = export?;
                exports.push(Item {
                    name: export.name.full_name().into_owned(),
                    kind: export.kind.desc(),
                    only_types: false,
                });
            }
        }
        Payload::ImportSection(section) => {
            for import in section.clone().into_imports() {
                let import = import?;
                imports.push(Item {
                    name: format!("{}::{}", import.module, import.name),
                    kind: import_kind(&import.ty),
                    only_types: false,
                });
            }
        }
        Payload::ExportSection(section) => {
            for export in section.clone() {
                let export = export?;
                exports.push(Item {
                    name: export.name.to_owned(),
                    kind: export_kind(export.kind),
                    only_types: false,
                });
            }
        }
        _ => {}
    }
    Ok(())
}

fn import_kind(ty: &TypeRef) -> &'static str {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => "func",
        TypeRef::Table(_) => "table",
        TypeRef::Memory(_) => "memory",
        TypeRef::Global(_) => "global",
        TypeRef::Tag(_) => "tag",
    }
}

fn export_kind(kind: ExternalKind) -> &'static str {
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => "func",
        ExternalKind::Table => "table",
        ExternalKind::Memory => "memory",
        ExternalKind::Global => "global",
        ExternalKind::Tag => "tag",
    }
}

#[cfg(test)]
mod tests;
