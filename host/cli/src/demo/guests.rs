//! The components of the demonstration, built from the project's sources if they are not there yet.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use proffer_build::{BuildOptions, Stop};

use crate::cluster::interrupted;
use crate::failure::Failure;
use crate::progress::Progress;

/// A signal to a group reaches one of it so much later than another, at most.
const SIGNAL_WITHIN: Duration = Duration::from_millis(100);

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

/// Builds what is not there or not up to date; a signal ends that at once.
pub(super) async fn build(mut progress: Progress) -> anyhow::Result<(Guests, Progress)> {
    let stop = Stop::default();
    let stopped = stop.clone();
    let mut building = tokio::task::spawn_blocking(move || {
        let built = build_until(stopped, &mut progress);
        if built.is_err() {
            progress.done();
        }
        built.map(|guests| (guests, progress))
    });
    let interrupted = interrupted();
    tokio::pin!(interrupted);
    tokio::select! {
        built = &mut building => {
            let built = built.context("the build panicked")?;
            // Ctrl-C in a terminal ends the compiler as well, perhaps a moment before it is heard here.
            if built.is_err()
                && let Ok(signal) = tokio::time::timeout(SIGNAL_WITHIN, interrupted).await
            {
                signal?;
                return Err(Failure::Interrupted.into());
            }
            built
        }
        signal = &mut interrupted => {
            stop.stop();
            // Of no interest any more, but it shall not go on behind the shell's back.
            let _ended = building.await.is_ok();
            signal?;
            Err(Failure::Interrupted.into())
        }
    }
}

fn build_until(stop: Stop, progress: &mut Progress) -> anyhow::Result<Guests> {
    let root = project()?;
    let dirs = [
        "plugins/policies/drf",
        "plugins/frameworks/mapreduce",
        "plugins/tasks/wordcount",
    ]
    .map(|dir| root.join(dir));
    let options = BuildOptions {
        stop,
        ..BuildOptions::default()
    };
    let built = proffer_build::build(&dirs, &options, progress)
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
