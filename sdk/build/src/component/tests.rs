//! Tests of the parent module.

use wit_component::{StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

use super::*;
use crate::inspect::Item;

/// A core module that implements the world `w` of a WIT text, and does nothing.
pub(crate) fn module_of(wit: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some("w")).unwrap();
    let mut module = dummy_module(
        &resolve,
        world,
        ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync),
    );
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    module
}

pub(crate) fn component_of(wit: &str) -> Vec<u8> {
    componentize_plugin(&module_of(wit)).unwrap()
}

/// A framework with an import that has functions and one that has only types.
pub(crate) const FRAMEWORK: &str = "
    package proffer:framework@0.1.0-dev.1;
    interface model { record offer { id: string } }
    interface state { get: func(key: string) -> option<string>; }
    interface guest { use model.{offer}; step: func(offers: list<offer>); }
    world w { import state; export guest; }";

const POLICY: &str = "
    package proffer:policy@0.2.0;
    interface guest { decide: func(); }
    world w { export guest; }";

const FOREIGN: &str = "
    package proffer:framework@0.1.0;
    package wasi:clocks@0.2.0 { interface wall-clock { now: func() -> u64; } }
    interface guest { step: func(); }
    world w { import wasi:clocks/wall-clock@0.2.0; export guest; }";

pub(crate) fn draft() -> ManifestDraft {
    ManifestDraft {
        name: Some("sample".to_owned()),
        version: Some("1.2.3".to_owned()),
        ..ManifestDraft::default()
    }
}

fn draft_importing(imports: &[&str]) -> ManifestDraft {
    ManifestDraft {
        imports: Some(imports.iter().map(|&import| import.to_owned()).collect()),
        ..draft()
    }
}

/// The error's text and that of its causes.
fn error_of<T>(result: Result<T, FinishError>) -> String {
    let Err(error) = result else {
        panic!("accepted");
    };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[test]
fn a_module_becomes_a_plugin_with_its_manifest() {
    let (component, manifest) = finish_plugin(&module_of(FRAMEWORK), &draft()).unwrap();
    assert_eq!(manifest.world, PluginWorld::Framework);
    assert_eq!(manifest.contract, "0.1.0-dev.1");
    assert_eq!(manifest.imports, ["proffer:framework/state"]);
    let inspection = inspect(&component).unwrap();
    assert_eq!(inspection.world, World::Framework);
    assert_eq!(inspection.manifest, Some(manifest));
}

#[test]
fn a_component_is_finished_like_a_module() {
    let (of_module, _) = finish_plugin(&module_of(POLICY), &draft()).unwrap();
    let (of_component, _) = finish_plugin(&component_of(POLICY), &draft()).unwrap();
    assert_eq!(of_module, of_component);
    assert_eq!(
        error_of(finish_plugin(&of_component, &draft())),
        "it has a section `proffer:manifest` already"
    );
}

#[test]
fn a_wrong_world_is_named() {
    let wanted = ManifestDraft {
        world: Some(PluginWorld::Policy),
        ..draft()
    };
    assert_eq!(
        error_of(finish_plugin(&module_of(FRAMEWORK), &wanted)),
        "not a policy: it exports proffer:framework/guest@0.1.0-dev.1; \
         wanted: an export of `proffer:policy`"
    );
    assert_eq!(
        error_of(finish_task(&component_of(POLICY))),
        "not a WASI command: it exports proffer:policy/guest@0.2.0; \
         wanted: the export `wasi:cli/run`"
    );
}

#[test]
fn a_foreign_import_is_named_unless_the_author_lists_it() {
    let module = module_of(FOREIGN);
    let refused = "it imports `wasi:clocks/wall-clock@0.2.0`: a plug-in may import only `proffer:*` \
                   and what the `imports` of its manifest name";
    assert_eq!(error_of(finish_plugin(&module, &draft())), refused);
    let listing_other = draft_importing(&["proffer:framework/state"]);
    assert_eq!(error_of(finish_plugin(&module, &listing_other)), refused);
    let listing = draft_importing(&["wasi:clocks/wall-clock"]);
    let (_, manifest) = finish_plugin(&module, &listing).unwrap();
    assert_eq!(manifest.imports, ["wasi:clocks/wall-clock"]);
}

#[test]
fn a_preview_1_import_is_named() {
    // (module (import "wasi_snapshot_preview1" "fd_write" (func)))
    let mut module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x23\x01\x16".to_vec();
    module.extend_from_slice(b"wasi_snapshot_preview1\x08fd_write\0\0");
    assert_eq!(
        error_of(finish_plugin(&module, &draft())),
        "it imports `wasi_snapshot_preview1::fd_write`: a plug-in may import only `proffer:*` and \
         what the `imports` of its manifest name"
    );
}

#[test]
fn an_import_that_the_author_left_out_is_named_but_types_are_free() {
    let module = module_of(FRAMEWORK);
    assert_eq!(
        error_of(finish_plugin(&module, &draft_importing(&[]))),
        "it imports `proffer:framework/state@0.1.0-dev.1`, which the `imports` of its manifest leave \
         out"
    );
    let all = draft_importing(&["proffer:framework/state"]);
    let (component, _) = finish_plugin(&module, &all).unwrap();
    let imports = inspect(&component).unwrap().imports;
    let types: Vec<&str> = imports
        .iter()
        .filter(|import| import.only_types)
        .map(Item::interface)
        .collect();
    assert_eq!(types, ["proffer:framework/model"]);
}

#[test]
fn what_is_no_guest_at_all_is_refused() {
    let empty_module = b"\0asm\x01\0\0\0";
    let error = error_of(finish_plugin(empty_module, &draft()));
    assert!(
        error.contains("not a framework: it exports nothing"),
        "{error}"
    );
    let error = error_of(finish_task(b"#!/bin/sh\n"));
    assert!(error.contains("not a WebAssembly file"), "{error}");
}
