//! The project's own guests, built once and shared by all tests and benches.

use std::path::{Path, PathBuf};

use proffer_build::{BuildError, BuildOptions, build};

/// The component of the guest in a directory of the repository, such as `plugins/policies/drf`;
/// none where no compiler for WebAssembly is installed. With `PROFFER_REQUIRE_ALL=1` that is a
/// failure.
///
/// # Panics
/// If the guest does not build: there is nothing to test then.
pub fn component(dir: &str) -> Option<PathBuf> {
    // Without "..": agents compare paths of inputs with what they may read.
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let dirs = [repository.join(dir)];
    let options = BuildOptions {
        target_dir: Some(repository.join("target/guests")),
        ..BuildOptions::default()
    };
    match build(&dirs, &options, &mut |line: &str| println!("{line}")) {
        Ok(built) => built.into_iter().next().map(|built| built.path),
        Err(BuildError::Toolchain(missing)) => {
            let required = std::env::var("PROFFER_REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!required, "{missing}");
            println!("SKIPPED: {missing}");
            None
        }
        Err(error) => panic!("{dir} does not build: {error:?}"),
    }
}
