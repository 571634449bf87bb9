//! What is no plug-in is refused, with what it is and what was wanted.

use proffer_plugin::{Kind, LoadPluginError};

use crate::guests;

fn refused(bytes: &[u8], kind: Kind) -> String {
    guests::host()
        .load_blocking(bytes, kind)
        .unwrap_err()
        .to_string()
}

/// The bytes with every `from` replaced by a `to` of the same length.
fn patched(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut patched = bytes.to_vec();
    let mut at = 0;
    let mut count = 0;
    while at + from.len() <= patched.len() {
        if &patched[at..at + from.len()] == from.as_bytes() {
            patched[at..at + to.len()].copy_from_slice(to.as_bytes());
            count += 1;
        }
        at += 1;
    }
    assert!(count > 0, "{from} is nowhere in it");
    patched
}

#[test]
fn a_file_of_something_else_is_refused() {
    assert!(refused(b"#!/bin/sh\n", Kind::Policy).contains("not a WebAssembly file"));
    assert!(refused(b"", Kind::Policy).contains("not a WebAssembly file"));
    let huge = vec![0; proffer_plugin::PLUGIN_BYTES_MAX + 1];
    let huge = [b"\0asm".as_slice(), &huge].concat();
    assert!(refused(&huge, Kind::Policy).contains("more than 33554432"));
}

#[test]
fn a_core_module_is_refused_with_the_way_to_a_component() {
    let error = refused(b"\0asm\x01\0\0\0", Kind::Framework);
    assert!(error.contains("a core WebAssembly module"), "{error}");
    assert!(error.contains("proffer plugin build"), "{error}");
}

#[test]
fn a_component_without_a_manifest_or_world_is_refused() {
    let empty = b"\0asm\x0d\0\x01\0";
    let error = refused(empty, Kind::Framework);
    assert!(
        error.contains("it exports nothing, wanted proffer:framework/guest@0.1.0-dev.1"),
        "{error}"
    );
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let Some(bytes) = guests::framework() else {
        return;
    };
    let mut at = 8;
    while at < bytes.len() - 1 {
        let error = guests::host()
            .load_blocking(&bytes[..at], Kind::Framework)
            .unwrap_err();
        // Cut between two sections it is a shorter component, of which something is missing.
        assert!(
            matches!(
                error,
                LoadPluginError::Truncated { .. }
                    | LoadPluginError::WrongWorld { .. }
                    | LoadPluginError::NoManifest
            ),
            "cut at {at}: {error}"
        );
        at += 997;
    }
}

#[test]
fn garbage_in_the_middle_is_refused() {
    let Some(mut bytes) = guests::framework() else {
        return;
    };
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xff);
    let error = refused(&bytes, Kind::Framework);
    assert!(error.contains("cannot be compiled"), "{error}");
}

#[test]
fn a_component_of_the_wrong_world_is_refused_with_what_it_exports() {
    let Some(policy) = guests::policy() else {
        return;
    };
    let error = refused(&policy, Kind::Framework);
    assert_eq!(
        error,
        "not a framework: it exports proffer:policy/guest@0.1.0-dev.1, wanted \
         proffer:framework/guest@0.1.0-dev.1"
    );
    let task = std::fs::read(guests::task().unwrap()).unwrap();
    let error = refused(&task, Kind::Policy);
    assert!(error.contains("it exports wasi:cli/run@0.2."), "{error}");
}

#[test]
fn another_version_of_the_contract_is_refused_with_both() {
    let Some(bytes) = guests::framework() else {
        return;
    };
    let error = refused(
        &patched(&bytes, "0.1.0-dev.1", "0.1.0-dev.9"),
        Kind::Framework,
    );
    assert!(
        error.contains("exports proffer:framework/guest@0.1.0-dev.9"),
        "{error}"
    );
    assert!(
        error.contains("wanted proffer:framework/guest@0.1.0-dev.1"),
        "{error}"
    );
}

#[test]
fn imports_are_those_of_the_contract_and_asked_for() {
    let Some(bytes) = guests::framework() else {
        return;
    };
    let wasi = patched(
        &bytes,
        "proffer:framework/random",
        "wasi:filesystemab/random",
    );
    let error = refused(&wasi, Kind::Framework);
    assert!(
        error.contains("it imports wasi:filesystemab/random@"),
        "{error}"
    );
    assert!(
        error.contains("plug-ins have no files, clocks or sockets"),
        "{error}"
    );
    let unasked = patched(
        &bytes,
        "\"proffer:framework/state\"",
        "\"proffer:framework/other\"",
    );
    let error = refused(&unasked, Kind::Framework);
    assert!(
        error.contains("it imports proffer:framework/state, which its manifest does not ask for"),
        "{error}"
    );
}

#[tokio::test]
async fn a_plug_in_tells_what_it_is() {
    let Some(bytes) = guests::framework() else {
        return;
    };
    let size = bytes.len();
    let loaded = guests::host().load(bytes, Kind::Framework).await.unwrap();
    assert_eq!(
        (loaded.name(), loaded.kind()),
        ("hostile-framework", Kind::Framework)
    );
    assert_eq!(loaded.version(), env!("CARGO_PKG_VERSION"));
    assert_eq!(loaded.bytes(), size);
    assert!(loaded.digest().starts_with("sha256:"));
    let mut imports = loaded.imports().to_vec();
    imports.sort();
    assert_eq!(
        imports,
        [
            "proffer:framework/metrics",
            "proffer:framework/random",
            "proffer:framework/state",
            "proffer:types/log",
        ]
    );
}
