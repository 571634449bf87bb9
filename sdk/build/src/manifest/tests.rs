//! Tests of the parent module.

use proptest::prelude::*;

use super::*;
use crate::component::tests::{FRAMEWORK, component_of, draft};
use crate::finish_plugin;

fn manifest() -> Manifest {
    Manifest {
        manifest_version: 1,
        name: "cron".to_owned(),
        version: "0.3.1".to_owned(),
        world: PluginWorld::Framework,
        contract: "0.1.0-dev.1".to_owned(),
        description: "Runs things at times.".to_owned(),
        roles: vec!["batch".to_owned()],
        gpus: true,
        limits: Limits {
            memory_mib: Some(64),
            step_cpu_ms: None,
            state_mib: Some(16),
        },
        config_schema: Some(serde_json::json!({"type": "object"})),
        imports: vec!["proffer:framework/state".to_owned()],
        language: "rust".to_owned(),
    }
}

fn finished() -> Vec<u8> {
    finish_plugin(&component_of(FRAMEWORK), &draft()).unwrap().0
}

fn custom_section(name: &str, content: &[u8]) -> Vec<u8> {
    assert!(name.len() + content.len() < 127, "one byte of length");
    let mut section = vec![0, (name.len() + content.len() + 1) as u8, name.len() as u8];
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(content);
    section
}

/// Hosts of other versions read this text: a change here is a change of the format.
#[test]
fn the_json_is_stable() {
    let json = String::from_utf8(manifest().to_json().unwrap()).unwrap();
    assert_eq!(
        json,
        "{\"manifest-version\":1,\"name\":\"cron\",\"version\":\"0.3.1\",\"world\":\"framework\",\
         \"contract\":\"0.1.0-dev.1\",\"description\":\"Runs things at times.\",\"roles\":[\"batch\"],\
         \"gpus\":true,\"limits\":{\"memory-mib\":64,\"state-mib\":16},\"config-schema\":{\"type\":\"object\"},\
         \"imports\":[\"proffer:framework/state\"],\"language\":\"rust\"}"
    );
    assert_eq!(Manifest::from_json(json.as_bytes()).unwrap(), manifest());
}

#[test]
fn optional_fields_may_be_absent_and_unknown_ones_are_ignored() {
    let json = br#"{"manifest-version":1,"name":"a","version":"1","world":"policy",
        "contract":"0.1.0","limits":{"gpu-mib":1},"signature":"x"}"#;
    let manifest = Manifest::from_json(json).unwrap();
    assert_eq!(manifest.world, PluginWorld::Policy);
    assert_eq!(manifest.limits, Limits::default());
    assert!(manifest.roles.is_empty() && manifest.config_schema.is_none() && !manifest.gpus);
}

#[test]
fn a_later_format_is_refused_by_its_version() {
    let json = br#"{"manifest-version":2,"name":["not","a","text"]}"#;
    assert!(matches!(
        Manifest::from_json(json),
        Err(ManifestError::UnknownFormat { version: 2 })
    ));
}

#[test]
fn bad_values_are_named() {
    type Change = fn(&mut Manifest);
    let cases: [(Change, &str); 8] = [
        (|it| it.name = "Cron".to_owned(), "the name `Cron`"),
        (|it| it.name = "../x".to_owned(), "the name `../x`"),
        (|it| it.version.clear(), "`version` is missing or empty"),
        (|it| it.contract.clear(), "`contract` is missing or empty"),
        (
            |it| it.description = "\x1b[2J".to_owned(),
            "`description` has control",
        ),
        (
            |it| it.roles = vec![String::new()],
            "`roles` is missing or empty",
        ),
        (
            |it| it.roles = vec!["r".to_owned(); 257],
            "`roles` has more than",
        ),
        (
            |it| it.limits.memory_mib = Some(0),
            "`limits.memory-mib` is 0",
        ),
    ];
    for (change, wrong) in cases {
        let mut changed = manifest();
        change(&mut changed);
        let error = changed.to_json().unwrap_err().to_string();
        assert!(error.starts_with(wrong), "{error}");
        // Readers judge alike.
        let json = serde_json::to_vec(&changed).unwrap();
        assert!(Manifest::from_json(&json).is_err());
    }
}

#[test]
fn a_schema_is_an_object_or_a_boolean() {
    let with_schema = |schema| Manifest {
        config_schema: Some(schema),
        ..manifest()
    };
    assert!(with_schema(serde_json::json!(true)).to_json().is_ok());
    assert!(matches!(
        with_schema(serde_json::json!("object")).to_json(),
        Err(ManifestError::NotASchema)
    ));
}

#[test]
fn too_large_a_manifest_is_refused_both_ways() {
    let large = Manifest {
        config_schema: Some(serde_json::json!({"x": "y".repeat(MANIFEST_BYTES_MAX)})),
        ..manifest()
    };
    assert!(matches!(
        large.to_json(),
        Err(ManifestError::TooLarge { .. })
    ));
    let json = serde_json::to_vec(&large).unwrap();
    assert!(matches!(
        Manifest::from_json(&json),
        Err(ManifestError::TooLarge { .. })
    ));
}

/// Depth that would overflow a recursive reader's stack.
#[test]
fn deep_nesting_is_an_error() {
    let mut json = br#"{"manifest-version":1,"config-schema":"#.to_vec();
    json.extend(std::iter::repeat_n(b'[', MANIFEST_BYTES_MAX - json.len()));
    assert!(matches!(
        Manifest::from_json(&json),
        Err(ManifestError::Json(_))
    ));
}

#[test]
fn only_the_outermost_components_section_counts() {
    let component = component_of(FRAMEWORK);
    assert!(Manifest::from_component(&component).unwrap().is_none());
    // A component (id 4) whose only content is another with a manifest.
    let mut inner = b"\0asm\x0d\0\x01\0".to_vec();
    inner.extend(custom_section(MANIFEST_SECTION, b"{}"));
    let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
    outer.push(inner.len() as u8);
    outer.extend(inner);
    assert!(Manifest::from_component(&outer).unwrap().is_none());
}

#[test]
fn two_sections_are_an_error() {
    let mut component = finished();
    component.extend(custom_section(MANIFEST_SECTION, b"{}"));
    assert!(matches!(
        Manifest::from_component(&component),
        Err(ManifestError::Repeated { sections: 2 })
    ));
}

#[test]
fn every_truncation_is_an_error_or_no_manifest() {
    let component = finished();
    assert!(Manifest::from_component(&component).unwrap().is_some());
    for end in 0..component.len() {
        match Manifest::from_component(&component[..end]) {
            Ok(Some(_)) => panic!("a manifest out of the first {end} bytes"),
            Ok(None) | Err(ManifestError::Component(_)) => {}
            Err(error) => panic!("{error} in the first {end} bytes"),
        }
    }
}

#[test]
fn a_draft_refuses_what_it_does_not_know() {
    for text in [
        "colour = \"red\"",
        "[limits]\nmemory = 1",
        "world = \"kernel\"",
    ] {
        assert!(ManifestDraft::from_toml(text).is_err(), "{text}");
    }
    let text = "roles = [\"a\"]\n[limits]\nmemory-mib = 8\n[config-schema]\ntype = \"object\"\n";
    let draft = ManifestDraft::from_toml(text).unwrap();
    assert_eq!(draft.limits.memory_mib, Some(8));
    assert_eq!(
        draft.config_schema,
        Some(serde_json::json!({"type": "object"}))
    );
    let json = r#"{"roles":["a"],"limits":{"memory-mib":8},"config-schema":{"type":"object"}}"#;
    assert_eq!(ManifestDraft::from_json(json).unwrap(), draft);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn damaged_components_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
    ) {
        let mut component = FINISHED.with(Clone::clone);
        for (index, byte) in damage {
            let at = index.index(component.len());
            component[at] = byte;
        }
        // Any outcome will do but a panic.
        drop(Manifest::from_component(&component));
        drop(crate::inspect(&component));
    }
}

thread_local! {
    static FINISHED: Vec<u8> = finished();
}
