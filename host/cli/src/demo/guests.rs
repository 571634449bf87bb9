//! The components of the demonstration, built from the project's sources if they are not there yet.

use std::path::{Path, PathBuf};

use anyhow::Context;
use proffer_build::BuildOptions;

use crate::failure::Failure;
use crate::progress::Progress;

/// The components' files.
pub(super) struct Guests {
    pub(super) drf: PathBuf,
    pub(super) mapreduce: PathBuf,
    pub(super) wordcount: PathBuf,
}

/// The checkout that this program was built in.
pub(crate) fn project() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::canonicalize(root)
        .ok()
        .filter(|root| root.join("plugins").is_dir())
        .ok_or_else(|| {
            Failure::NotFound(
                "components that are not given as files are built from the project's sources, and the \
                 checkout that this proffer was built in is gone; give a file, or run it in a checkout"
                    .to_owned(),
            )
            .into()
        })
}

/// Builds what is not there or not up to date.
pub(super) fn build(progress: &mut Progress) -> anyhow::Result<Guests> {
    let root = project()?;
    let dirs = [
        "plugins/policies/drf",
        "plugins/frameworks/mapreduce",
        "plugins/tasks/wordcount",
    ]
    .map(|dir| root.join(dir));
    let built = proffer_build::build(&dirs, &BuildOptions::default(), progress)
        .context("cannot build the demo's components")?;
    let path = |name: &str| {
        let found = built.iter().find(|built| built.name == name);
        found
            .map(|built| built.path.clone())
            .with_context(|| format!("the build made no component '{name}'"))
    };
    Ok(Guests {
        drf: path("drf")?,
        mapreduce: path("mapreduce")?,
        wordcount: path("wordcount")?,
    })
}

impl Guests {
    /// Where tasks' components are: agents are allowed to read there.
    pub(super) fn dir(&self) -> anyhow::Result<PathBuf> {
        let dir = self.wordcount.parent().unwrap_or(Path::new("."));
        std::fs::canonicalize(dir).with_context(|| format!("cannot find {}", dir.display()))
    }
}
