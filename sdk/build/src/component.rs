//! From a core module to a finished component.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

use crate::exit_status::{keep_exit_status, push_leb128};
use crate::inspect::{InspectError, Inspection, World, WrongWorld, inspect};
use crate::manifest::{
    Learnt, MANIFEST_SECTION, Manifest, ManifestDraft, ManifestError, PluginWorld,
};

/// Imports of this package are ours, and any plug-in may have them.
const OWN_NAMESPACE: &str = "proffer:";

/// Why a module or component cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The module could not be turned into a component.
    #[error("the core module cannot be made a component: {reason}")]
    Componentize {
        /// What the encoder says, with its causes.
        reason: String,
    },
    /// The file cannot be read.
    #[error("the guest's WebAssembly cannot be read")]
    Inspect(#[from] InspectError),
    /// It implements something else.
    #[error(transparent)]
    World(#[from] WrongWorld),
    /// A plug-in imports what is not of our contracts, nor listed by its author.
    #[error(
        "it imports `{import}`: a plug-in may import only `proffer:*` and what the `imports` of its \
         manifest name"
    )]
    ForeignImport {
        /// The import's name.
        import: String,
    },
    /// A plug-in imports what its own manifest does not ask for.
    #[error("it imports `{import}`, which the `imports` of its manifest leave out")]
    ImportNotAsked {
        /// The import's name.
        import: String,
    },
    /// The export that shows the world has no version.
    #[error("its export of the contract carries no version")]
    NoContractVersion,
    /// It has a manifest already.
    #[error("it has a section `{MANIFEST_SECTION}` already")]
    HasManifest,
    /// The manifest itself is wrong.
    #[error("the plug-in's manifest is wrong")]
    Manifest(#[from] ManifestError),
}

/// Makes a WASI 0.2 command of a preview-1 module; a component is only checked.
pub fn finish_task(wasm: &[u8]) -> Result<Vec<u8>, FinishError> {
    let component = if wasmparser::Parser::is_core_wasm(wasm) {
        let module =
            keep_exit_status(wasm).map_err(|reason| FinishError::Componentize { reason })?;
        let mut encoder = ComponentEncoder::default();
        encoder
            .module(&module)
            .and_then(|encoder| {
                encoder.adapter(
                    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                    WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
                )
            })
            .and_then(ComponentEncoder::encode)
            .map_err(|error| FinishError::Componentize {
                reason: format!("{error:#}"),
            })?
    } else {
        wasm.to_vec()
    };
    inspect(&component)?.require(World::WasiCommand)?;
    Ok(component)
}

/// Makes a plug-in of a core module with WIT metadata, or of a component: checks what it exports and
/// imports, and embeds the manifest.
pub fn finish_plugin(
    wasm: &[u8],
    draft: &ManifestDraft,
) -> Result<(Vec<u8>, Manifest), FinishError> {
    let mut component = if wasmparser::Parser::is_core_wasm(wasm) {
        componentize_plugin(wasm)?
    } else {
        wasm.to_vec()
    };
    let inspection = inspect(&component)?;
    if inspection.manifest.is_some() {
        return Err(FinishError::HasManifest);
    }
    let world = plugin_world(&inspection, draft.world)?;
    check_imports(&inspection, draft)?;
    let contract = inspection
        .contract
        .clone()
        .ok_or(FinishError::NoContractVersion)?;
    let manifest = draft.complete(Learnt {
        world,
        contract,
        imports: imports_with_functions(&inspection),
    })?;
    append_section(&mut component, MANIFEST_SECTION, &manifest.to_json()?);
    Ok((component, manifest))
}

fn componentize_plugin(module: &[u8]) -> Result<Vec<u8>, FinishError> {
    // The encoder's own words for this are about adapters, which are no help here.
    let preview1 = format!("{WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME}::");
    for import in inspect(module)?.imports {
        if import.name.starts_with(&preview1) {
            return Err(FinishError::ForeignImport {
                import: import.name,
            });
        }
    }
    ComponentEncoder::default()
        .module(module)
        .and_then(ComponentEncoder::encode)
        .map_err(|error| FinishError::Componentize {
            reason: format!("{error:#}"),
        })
}

fn plugin_world(
    inspection: &Inspection,
    wanted: Option<PluginWorld>,
) -> Result<PluginWorld, WrongWorld> {
    match (wanted, inspection.world) {
        (Some(wanted), _) => {
            inspection.require(wanted.into())?;
            Ok(wanted)
        }
        (None, World::Policy) => Ok(PluginWorld::Policy),
        (None, _) => {
            inspection.require(World::Framework)?;
            Ok(PluginWorld::Framework)
        }
    }
}

fn check_imports(inspection: &Inspection, draft: &ManifestDraft) -> Result<(), FinishError> {
    for import in &inspection.imports {
        let listed = draft
            .imports
            .as_ref()
            .map(|listed| listed.iter().any(|name| name == import.interface()));
        let own = import.name.starts_with(OWN_NAMESPACE);
        let import_name = || import.name.clone();
        match listed {
            Some(true) => {}
            Some(false) if own && import.only_types => {}
            Some(false) if own => {
                return Err(FinishError::ImportNotAsked {
                    import: import_name(),
                });
            }
            None if own => {}
            Some(false) | None => {
                return Err(FinishError::ForeignImport {
                    import: import_name(),
                });
            }
        }
    }
    Ok(())
}

fn imports_with_functions(inspection: &Inspection) -> Vec<String> {
    inspection
        .imports
        .iter()
        .filter(|import| !import.only_types)
        .map(|import| import.interface().to_owned())
        .collect()
}

/// Appends a custom section, which may stand anywhere between others, to a module or component.
fn append_section(wasm: &mut Vec<u8>, name: &str, content: &[u8]) {
    const CUSTOM_SECTION_ID: u8 = 0;
    let mut body = Vec::with_capacity(name.len() + content.len() + 5);
    push_leb128(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content);
    wasm.push(CUSTOM_SECTION_ID);
    push_leb128(wasm, body.len());
    wasm.extend_from_slice(&body);
}

#[cfg(test)]
pub(crate) mod tests;
