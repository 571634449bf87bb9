//! Tests of the parent module.

use super::*;
use crate::component::tests::{FRAMEWORK, component_of, module_of};

fn error_of(bytes: &[u8]) -> String {
    inspect(bytes).unwrap_err().to_string()
}

#[test]
fn a_framework_is_known_by_its_export() {
    let component = component_of(FRAMEWORK);
    let inspection = inspect(&component).unwrap();
    assert_eq!(inspection.world, World::Framework);
    assert_eq!(inspection.contract.as_deref(), Some("0.1.0-dev.1"));
    let names = |items: &[Item]| -> Vec<String> {
        items
            .iter()
            .map(|item| format!("{} {}", item.kind, item.name))
            .collect()
    };
    assert_eq!(
        names(&inspection.imports),
        [
            "instance proffer:framework/state@0.1.0-dev.1",
            "instance proffer:framework/model@0.1.0-dev.1"
        ]
    );
    assert_eq!(
        names(&inspection.exports),
        ["instance proffer:framework/guest@0.1.0-dev.1"]
    );
    assert_eq!(inspection.size, component.len() as u64);
    assert!(inspection.digest.starts_with("sha256:") && inspection.digest.len() == 71);
    assert!(inspection.manifest.is_none() && inspection.foreign_import().is_none());
    inspection.require(World::Framework).unwrap();
}

#[test]
fn a_core_module_is_called_one() {
    let inspection = inspect(&module_of(FRAMEWORK)).unwrap();
    assert_eq!(inspection.world, World::CoreModule);
    assert_eq!(
        inspection
            .require(World::Framework)
            .unwrap_err()
            .to_string(),
        "a core module, not a component (wanted: a framework)"
    );
}

#[test]
fn a_component_of_no_known_world_says_what_it_exports() {
    let inspection = inspect(&component_of(
        "package a:b; world w { export one: func(); export two: func(); }",
    ))
    .unwrap();
    assert_eq!(inspection.world, World::Unknown);
    assert_eq!(
        inspection.require(World::Policy).unwrap_err().to_string(),
        "not a policy: it exports one, two; wanted: an export of `proffer:policy`"
    );
}

#[test]
fn other_files_are_refused_by_name() {
    assert_eq!(
        error_of(b""),
        "not a WebAssembly file: it does not begin with `\\0asm`"
    );
    assert_eq!(
        error_of(b"\x7fELF"),
        "not a WebAssembly file: it does not begin with `\\0asm`"
    );
    assert_eq!(error_of(b"\0asm\x07\0\0\0"), "not a valid WebAssembly file");
}

#[test]
fn a_truncated_file_is_called_one() {
    let component = component_of(FRAMEWORK);
    let half = &component[..component.len() / 2];
    assert_eq!(
        error_of(half),
        format!(
            "the file is truncated: it ends at byte {} in the middle of a section",
            half.len()
        )
    );
}

#[test]
fn the_report_is_json_as_well() {
    let json = serde_json::to_value(inspect(&component_of(FRAMEWORK)).unwrap()).unwrap();
    assert_eq!(json["world"], "framework");
    assert_eq!(json["imports"][0]["kind"], "instance");
}
