//! Real builds with a real compiler.
//!
//! They need a wasm toolchain, and say so and pass where there is none; with `PROFFER_REQUIRE_ALL=1`
//! they fail instead. They share the workspace's target directory of guests, as Debian's compiler
//! would otherwise build a standard library for each test.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use proffer_build::{
    BuildError, BuildOptions, Built, GuestKind, NewPlugin, PluginWorld, Progress, SdkSource, World,
    build, inspect, new_plugin,
};
use tempfile::TempDir;

fn repository() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

/// Builds into a directory of the test's own. `None` where there is no toolchain.
fn build_here(dirs: &[PathBuf], output: &TempDir) -> Option<Result<Vec<Built>, BuildError>> {
    let options = BuildOptions {
        target_dir: Some(repository().join("target/guests")),
        output_dir: Some(output.path().to_owned()),
        ..BuildOptions::default()
    };
    build_unless_missing(dirs, &options, &mut |line: &str| println!("{line}"))
}

fn build_unless_missing(
    dirs: &[PathBuf],
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Option<Result<Vec<Built>, BuildError>> {
    let result = build(dirs, options, progress);
    if let Err(BuildError::Toolchain(missing)) = &result {
        let required = std::env::var("PROFFER_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!required, "{missing}");
        println!("SKIPPED: {missing}");
        return None;
    }
    Some(result)
}

fn chain_of(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn build_well(dirs: &[PathBuf], output: &TempDir) -> Option<Vec<Built>> {
    Some(build_here(dirs, output)?.unwrap_or_else(|error| panic!("{}", chain_of(&error))))
}

#[test]
fn a_build_that_is_stopped_as_it_compiles_leaves_no_component() {
    let output = tempfile::tempdir().unwrap();
    let options = BuildOptions {
        target_dir: Some(repository().join("target/guests")),
        output_dir: Some(output.path().to_owned()),
        ..BuildOptions::default()
    };
    let stop = options.stop.clone();
    let mut progress = |line: &str| {
        if line.starts_with("building ") {
            stop.stop();
        }
    };
    let dirs = [repository().join("plugins/tasks/wordcount")];
    let Some(result) = build_unless_missing(&dirs, &options, &mut progress) else {
        return;
    };
    assert!(matches!(result, Err(BuildError::Stopped)), "{result:?}");
    assert_eq!(fs::read_dir(output.path()).unwrap().count(), 0);
}

#[test]
fn wordcount_becomes_a_wasi_command_and_is_not_built_twice() {
    let output = tempfile::tempdir().unwrap();
    let dirs = [repository().join("plugins/tasks/wordcount")];
    let Some(built) = build_well(&dirs, &output) else {
        return;
    };
    let [first] = &built[..] else {
        panic!("{built:?}");
    };
    assert_eq!(
        (first.name.as_str(), first.kind),
        ("wordcount", GuestKind::Task)
    );
    assert_eq!(first.path, output.path().join("wordcount.wasm"));
    assert!(!first.was_fresh);
    let bytes = fs::read(&first.path).unwrap();
    let inspection = inspect(&bytes).unwrap();
    assert_eq!(inspection.world, World::WasiCommand);
    assert_eq!(
        (inspection.size, &inspection.digest),
        (first.size, &first.digest)
    );
    for import in &inspection.imports {
        assert!(import.name.starts_with("wasi:"), "{}", import.name);
    }
    let home = std::env::var("HOME").unwrap_or_default();
    assert!(
        home.len() < 2 || !contains(&bytes, home.as_bytes()),
        "the component names the builder's home directory"
    );

    let began = Instant::now();
    let again = build_well(&dirs, &output).unwrap();
    println!("nothing to do in {:?}", began.elapsed());
    assert!(again[0].was_fresh);
    assert_eq!(again[0].digest, first.digest);

    // An output that somebody has damaged is not used again.
    fs::write(&first.path, b"\0asm").unwrap();
    let repaired = build_well(&dirs, &output).unwrap();
    assert!(!repaired[0].was_fresh);
    assert_eq!(repaired[0].digest, first.digest);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_guest_that_does_not_compile_shows_cargos_error_and_its_log() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("src")).unwrap();
    fs::write(
        dir.path().join("Cargo.toml"),
        "[package]\nname = \"broken-guest\"\nedition = \"2024\"\n[workspace]\n\
         [package.metadata.proffer]\nkind = \"task\"\n",
    )
    .unwrap();
    fs::write(dir.path().join("src/main.rs"), "fn main() { missing() }\n").unwrap();
    let output = tempfile::tempdir().unwrap();
    let Some(result) = build_here(&[dir.path().to_owned()], &output) else {
        return;
    };
    let text = chain_of(&result.unwrap_err());
    assert!(
        text.starts_with("cannot compile broken-guest: cargo failed"),
        "{text}"
    );
    assert!(text.contains("cannot find function `missing`"), "{text}");
    assert!(text.contains("broken-guest.log"), "{text}");
    assert_eq!(fs::read_dir(output.path()).unwrap().count(), 0);
}

/// What `proffer plugin new` writes is a plug-in, and the two kinds are compiled together.
#[test]
fn new_plugins_build_and_implement_their_contracts() {
    let parent = tempfile::tempdir().unwrap();
    let new = |name: &str, world| {
        new_plugin(&NewPlugin {
            parent: parent.path().to_owned(),
            name: name.to_owned(),
            world,
            sdk: SdkSource::of_this_build(),
        })
        .unwrap()
    };
    let dirs = [
        new("new-framework", PluginWorld::Framework),
        new("new-policy", PluginWorld::Policy),
    ];
    for dir in &dirs {
        // The versions that the rest of the workspace uses, so that nothing is fetched for this test.
        fs::copy(repository().join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    }
    let output = tempfile::tempdir().unwrap();
    let Some(built) = build_well(&dirs, &output) else {
        return;
    };
    for (built, world) in built.iter().zip([World::Framework, World::Policy]) {
        let inspection = inspect(&fs::read(&built.path).unwrap()).unwrap();
        inspection.require(world).unwrap();
        let manifest = inspection.manifest.unwrap();
        assert_eq!(manifest.name, built.name);
        assert_eq!(Some(manifest.contract), inspection.contract);
        assert!(
            manifest
                .imports
                .iter()
                .all(|import| import.starts_with("proffer:"))
        );
    }
}
