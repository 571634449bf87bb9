//! `plugin`: starting, building and inspecting plug-ins. No host is needed for it.

use std::path::Path;

use anyhow::Context;
use proffer_build::{BuildOptions, Inspection, NewPlugin, PluginWorld, SdkSource};
use serde_json::json;

use super::framework::read_component;
use crate::args::{Plugin, PluginKind};
use crate::failure::Failure;
use crate::json;
use crate::progress::Progress;
use crate::show;
use crate::table::printable;

pub(crate) fn run(command: Plugin, as_json: bool) -> anyhow::Result<()> {
    match command {
        Plugin::New { name, kind, dir } => {
            let world = match kind {
                PluginKind::Framework => PluginWorld::Framework,
                PluginKind::Policy => PluginWorld::Policy,
            };
            let made = proffer_build::new_plugin(&NewPlugin {
                parent: dir,
                name,
                world,
                sdk: SdkSource::of_this_build(),
            })
            .map_err(|error| match error {
                proffer_build::NewPluginError::Exists { .. } => {
                    anyhow::Error::new(Failure::Conflict(error.to_string()))
                }
                proffer_build::NewPluginError::BadName(_)
                | proffer_build::NewPluginError::ReservedName { .. } => {
                    anyhow::Error::new(Failure::Usage(error.to_string()))
                }
                error => error.into(),
            })?;
            if as_json {
                json::print(&json!({ "path": made }));
            } else {
                outln!("{}", made.display());
            }
            errln!(
                "its test: cargo test; the component: proffer plugin build {}",
                made.display()
            );
            Ok(())
        }
        Plugin::Build { dirs, out } => {
            let options = BuildOptions {
                output_dir: out,
                ..BuildOptions::default()
            };
            let mut progress = Progress::new();
            let built = proffer_build::build(&dirs, &options, &mut progress);
            progress.done();
            let built = built?;
            if as_json {
                json::print(&json::list(&built, |built| {
                    json!({
                        "name": built.name, "kind": built.kind.as_str(), "path": built.path,
                        "size": built.size, "digest": built.digest, "was_fresh": built.was_fresh,
                    })
                }));
            } else {
                for built in &built {
                    outln!("{}", built.path.display());
                }
            }
            Ok(())
        }
        Plugin::Inspect { file } => inspect(&file, as_json),
    }
}

fn inspect(file: &Path, as_json: bool) -> anyhow::Result<()> {
    let bytes = read_component(file)?;
    let inspection = proffer_build::inspect(&bytes)
        .with_context(|| Failure::Usage(format!("{} is not a component", file.display())))?;
    if as_json {
        json::print(&inspection_json(&inspection));
    } else {
        print_inspection(&inspection);
    }
    Ok(())
}

fn inspection_json(inspection: &Inspection) -> serde_json::Value {
    let names = |items: &[proffer_build::Item]| -> Vec<String> {
        items.iter().map(|item| item.name.clone()).collect()
    };
    let manifest = inspection
        .manifest
        .as_ref()
        .and_then(|manifest| manifest.to_json().ok())
        .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    json!({
        "world": inspection.world.to_string(), "contract": inspection.contract,
        "imports": names(&inspection.imports), "exports": names(&inspection.exports),
        "size": inspection.size, "digest": inspection.digest, "manifest": manifest,
    })
}

fn print_inspection(inspection: &Inspection) {
    if let Some(manifest) = &inspection.manifest {
        outln!(
            "name      {} {}",
            printable(&manifest.name),
            printable(&manifest.version)
        );
        if !manifest.description.is_empty() {
            outln!("          {}", printable(&manifest.description));
        }
    }
    outln!("world     {}", inspection.world);
    if let Some(contract) = &inspection.contract {
        outln!("contract  {}", printable(contract));
    }
    outln!("size      {}", show::bytes(inspection.size));
    outln!("digest    {}", inspection.digest);
    let imports = inspection.imports.iter().filter(|item| !item.only_types);
    let mut imports = imports.map(|item| printable(&item.name));
    outln!(
        "imports   {}",
        imports.next().unwrap_or_else(|| "nothing".to_owned())
    );
    for import in imports {
        outln!("          {import}");
    }
    if inspection
        .manifest
        .as_ref()
        .is_some_and(|manifest| manifest.gpus)
    {
        outln!("takes     gpus");
    }
    for export in &inspection.exports {
        outln!("exports   {}", printable(&export.name));
    }
}
