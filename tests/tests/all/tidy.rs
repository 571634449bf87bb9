//! Rules that no compiler checks: crate arrows, sizes, words that may not merge.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Longest source file, in lines; a long uniform table or vocabulary may be listed below.
const FILE_LINES_MAX: usize = 600;
/// Files that may be longer, and why.
const LONG_FILES: [(&str, &str); 1] = [(
    "host/model/src/framework.rs",
    "a vocabulary: one declaration after the other",
)];

/// Threads of our own that have nothing to do between two moments, and wait for nothing else.
const SLEEPERS: [(&str, &str); 3] = [
    (
        "host/plugin/src/precedence.rs",
        "whoever is heavy stays away from a processor for a while, and must hold no lock",
    ),
    (
        "host/plugin/src/ticker.rs",
        "the epochs' clock is a thread that sleeps",
    ),
    (
        "sdk/build/src/toolchain/rustup.rs",
        "waits for a child of which only its end is of interest",
    ),
];

/// Which of our crates each may depend on, directly. Development dependencies are free.
const ARROWS: [(&str, &[&str]); 26] = [
    ("proffer-model", &[]),
    ("proffer-codec", &["proffer-model"]),
    ("proffer-core", &["proffer-codec", "proffer-model"]),
    (
        "proffer-record",
        &["proffer-codec", "proffer-core", "proffer-model"],
    ),
    ("proffer-plugin", &["proffer-model"]),
    ("proffer-store", &["proffer-model"]),
    ("proffer-rpc", &["proffer-model"]),
    (
        "proffer-agent",
        &["proffer-model", "proffer-plugin", "proffer-rpc"],
    ),
    (
        "proffer-daemon",
        &[
            "proffer-core",
            "proffer-model",
            "proffer-plugin",
            "proffer-policy",
            "proffer-record",
            "proffer-rpc",
            "proffer-store",
        ],
    ),
    (
        "proffer-check",
        &[
            "proffer-core",
            "proffer-model",
            "proffer-plugin",
            "proffer-policy",
        ],
    ),
    (
        "proffer",
        &[
            "proffer-agent",
            "proffer-build",
            "proffer-check",
            "proffer-daemon",
            "proffer-model",
            "proffer-plugin",
            "proffer-record",
            "proffer-rpc",
            "proffer-sim",
            "proffer-store",
        ],
    ),
    (
        "proffer-sim",
        &[
            "proffer-agent",
            "proffer-codec",
            "proffer-core",
            "proffer-mapreduce",
            "proffer-model",
            "proffer-plugin",
            "proffer-policy",
            "proffer-record",
            "proffer-sdk",
            "proffer-store",
        ],
    ),
    ("proffer-policy", &["proffer-model"]),
    ("proffer-sdk", &["proffer-model", "proffer-policy"]),
    ("proffer-build", &[]),
    ("proffer-binpack", &["proffer-policy", "proffer-sdk"]),
    ("proffer-drf", &["proffer-policy", "proffer-sdk"]),
    ("proffer-fragmentation", &["proffer-policy", "proffer-sdk"]),
    ("proffer-priority", &["proffer-policy", "proffer-sdk"]),
    ("proffer-spread", &["proffer-policy", "proffer-sdk"]),
    ("proffer-static", &["proffer-policy", "proffer-sdk"]),
    // A beginner's policy needs nothing but the kit.
    ("proffer-weighted-round-robin", &["proffer-sdk"]),
    ("proffer-mapreduce", &["proffer-model", "proffer-sdk"]),
    ("proffer-wordcount", &[]),
    ("proffer-noop-framework", &["proffer-sdk"]),
    (
        "proffer-tests",
        &["proffer-build", "proffer-model", "proffer-rpc"],
    ),
];

/// Crates that may be in no dependency tree of the core or of policies: they wait, or touch the world.
const IMPURE: [&str; 12] = [
    "tokio",
    "tonic",
    "wasmtime",
    "prost",
    "hyper",
    "axum",
    "redb",
    "rustix",
    "libc",
    "getrandom",
    "cap-std",
    "mio",
];

/// Foreign vocabularies and the only crates that may know them.
const ONLY_IN: [(&str, &[&str]); 6] = [
    ("wasmtime", &["proffer-plugin"]),
    ("wasmtime-wasi", &["proffer-plugin"]),
    // Our own protocols; and etcd's, which only the store speaks.
    ("tonic", &["proffer-rpc", "proffer-store"]),
    ("prost", &["proffer-rpc", "proffer-store"]),
    ("redb", &["proffer-store"]),
    (
        "wit-bindgen",
        &[
            "proffer-sdk",
            "proffer-hostile-framework",
            "proffer-hostile-policy",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(vec![
            "--locked".to_owned(),
            "--filter-platform=x86_64-unknown-linux-gnu".to_owned(),
        ])
        .exec()
        .unwrap()
}

fn normal_dependencies(package: &Package) -> BTreeSet<String> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.clone())
        .collect()
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let metadata = metadata();
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        if name.starts_with("proffer-hostile-") {
            continue;
        }
        let allowed = arrows
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no row in ARROWS"));
        for dependency in normal_dependencies(package) {
            let ours = dependency == "proffer" || dependency.starts_with("proffer-");
            assert!(
                !ours || allowed.contains(&dependency.as_str()),
                "{name} may not depend on {dependency}"
            );
        }
    }
}

#[test]
fn foreign_vocabularies_stay_in_their_crates() {
    for package in metadata().workspace_packages() {
        let dependencies = normal_dependencies(package);
        for (foreign, homes) in ONLY_IN {
            let home = homes.contains(&package.name.as_str());
            assert!(
                home || !dependencies.contains(foreign),
                "{} may not depend on {foreign}",
                package.name
            );
        }
    }
}

#[test]
fn planted_bugs_are_for_tests_alone() {
    for package in metadata().workspace_packages() {
        let default = package.features.get("default");
        let planted = "planted".to_owned();
        assert!(default.is_none_or(|features| !features.contains(&planted)));
        for dependency in &package.dependencies {
            let test = dependency.kind == DependencyKind::Development;
            assert!(
                test || !dependency.features.contains(&planted),
                "{} plants bugs in {} outside of tests",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn the_core_and_policies_are_pure_to_the_last_dependency() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().unwrap();
    let names: BTreeMap<_, _> = metadata
        .packages
        .iter()
        .map(|p| (&p.id, p.name.as_str()))
        .collect();
    for pure in ["proffer-core", "proffer-policy"] {
        let start = metadata
            .packages
            .iter()
            .find(|p| p.name.as_str() == pure)
            .unwrap();
        let mut waiting = vec![&start.id];
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if !seen.insert(id) {
                continue;
            }
            let node = resolve.nodes.iter().find(|node| node.id == *id).unwrap();
            let normal = node.deps.iter().filter(|dep| {
                dep.dep_kinds
                    .iter()
                    .any(|kind| kind.kind == DependencyKind::Normal)
            });
            waiting.extend(normal.map(|dep| &dep.pkg));
        }
        for id in seen {
            assert!(
                !IMPURE.contains(&names[id]),
                "{pure} depends on {}",
                names[id]
            );
        }
    }
}

/// Our Rust files, with their paths from the root.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for top in ["host", "plugins", "sdk", "tests"] {
        collect(&root().join(top), &mut files);
    }
    let relative = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    let mut sources: Vec<_> = files
        .iter()
        .map(|path| (relative(path), fs::read_to_string(path).unwrap()))
        .collect();
    sources.sort();
    assert!(sources.len() > 100, "the sources were not found");
    sources
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn files_are_of_a_size_to_be_read() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        let excused = LONG_FILES.iter().any(|(long, _)| *long == path);
        assert!(
            excused || lines <= FILE_LINES_MAX,
            "{path} has {lines} lines: split it by idea"
        );
    }
    for (long, _) in LONG_FILES {
        assert!(
            root().join(long).exists(),
            "{long} is excused and not there"
        );
    }
}

#[test]
fn files_begin_with_what_they_are() {
    for (path, text) in sources() {
        let documented =
            text.starts_with("//!") || text.starts_with("#![") || path.ends_with("build.rs");
        assert!(documented, "{path} does not begin with //!");
    }
}

#[test]
fn words_that_may_not_merge_have_not() {
    // Put together here, so that this file does not find itself.
    let banned = [
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["#[ig", "nore"].concat(),
        ["#[should", "_panic"].concat(),
        ["FIX", "ME"].concat(),
        ["db", "g!("].concat(),
    ];
    for (path, text) in sources() {
        if path.ends_with("tidy.rs") || path.starts_with("tests/guests/") {
            continue;
        }
        for word in &banned {
            assert!(!text.contains(word.as_str()), "{path} contains {word}");
        }
    }
}

#[test]
fn nobody_sleeps_but_those_who_may() {
    let sleep = ["thread::", "sleep("].concat();
    for (path, text) in sources() {
        let may = SLEEPERS.iter().any(|(sleeper, _)| *sleeper == path);
        let ours = !path.ends_with("tidy.rs") && !path.starts_with("tests/guests/");
        assert!(
            may || !ours || !text.contains(&sleep),
            "{path} sleeps: wait for a condition, with a bound"
        );
    }
}

#[test]
fn parent_modules_stand_beside_their_directories() {
    for (path, _) in sources() {
        assert!(
            !path.ends_with("/mod.rs"),
            "{path}: name it after its directory, beside it"
        );
        let stem = Path::new(&path)
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let vague = ["utils", "util", "helpers", "common", "misc"].contains(&stem.as_str());
        assert!(!vague, "{path}: name it for what it is");
    }
}
