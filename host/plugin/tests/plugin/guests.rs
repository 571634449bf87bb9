//! The guests, built once, and hosts to run them in.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use proffer_build::{BuildError, BuildOptions, build};
use proffer_plugin::{Kind, LoadedPlugin, PluginHost, PluginHostConfig};

const DIRS: [&str; 3] = [
    "tests/guests/framework",
    "tests/guests/policy",
    "tests/guests/task",
];

/// Where each guest's component is, in the order of `DIRS`; none where nothing can be built.
fn built() -> Option<&'static [PathBuf]> {
    static BUILT: OnceLock<Option<Vec<PathBuf>>> = OnceLock::new();
    let paths = BUILT.get_or_init(|| {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let dirs = DIRS.map(|dir| repository.join(dir));
        let options = BuildOptions {
            target_dir: Some(repository.join("target/guests")),
            ..BuildOptions::default()
        };
        match build(&dirs, &options, &mut |line: &str| println!("{line}")) {
            Ok(built) => Some(built.into_iter().map(|built| built.path).collect()),
            Err(BuildError::Toolchain(missing)) => {
                let required = std::env::var("PROFFER_REQUIRE_ALL").is_ok_and(|value| value == "1");
                assert!(!required, "{missing}");
                println!("SKIPPED: {missing}");
                None
            }
            Err(error) => panic!("the guests do not build: {error:?}"),
        }
    });
    paths.as_deref()
}

fn read(index: usize) -> Option<Vec<u8>> {
    let path = &built()?[index];
    Some(std::fs::read(path).unwrap())
}

/// The bytes of the framework that misbehaves.
pub(crate) fn framework() -> Option<Vec<u8>> {
    read(0)
}

/// The bytes of the policy that misbehaves.
pub(crate) fn policy() -> Option<Vec<u8>> {
    read(1)
}

/// The file of the task that misbehaves.
pub(crate) fn task() -> Option<PathBuf> {
    Some(built()?[2].clone())
}

/// One host for all tests: its threads are shared, as they are in the daemon.
pub(crate) fn host() -> &'static PluginHost {
    static HOST: OnceLock<PluginHost> = OnceLock::new();
    HOST.get_or_init(|| PluginHost::new(PluginHostConfig::default()).unwrap())
}

/// A guest, compiled once for all tests.
pub(crate) fn loaded(kind: Kind) -> Option<LoadedPlugin> {
    static FRAMEWORK: OnceLock<Option<LoadedPlugin>> = OnceLock::new();
    static POLICY: OnceLock<Option<LoadedPlugin>> = OnceLock::new();
    let (cell, bytes): (_, fn() -> Option<Vec<u8>>) = match kind {
        Kind::Framework => (&FRAMEWORK, framework),
        Kind::Policy => (&POLICY, policy),
    };
    cell.get_or_init(|| {
        let bytes: Arc<[u8]> = bytes()?.into();
        Some(host().load_blocking(&bytes, kind).unwrap())
    })
    .clone()
}
