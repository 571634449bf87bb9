//! `rustup target add`, once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::environment::command;
use crate::progress::Progress;
use crate::stop::{Guarded, Stop};
use crate::toolchain::WasmTarget;

/// How long a failure is remembered: a machine without rustup's server has none tomorrow either, and
/// one whose network was down is back by then.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// The download is some 20 MB: minutes on a slow line, and longer than anyone waits for a dead one.
const TIMEOUT: Duration = Duration::from_secs(180);

/// The child is looked at this often.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Adds targets through rustup, and remembers failures.
pub(super) struct TargetAddition {
    state_dir: PathBuf,
    stop: Stop,
}

impl TargetAddition {
    pub(super) fn remembered_in(state_dir: &Path) -> TargetAddition {
        TargetAddition {
            state_dir: state_dir.to_owned(),
            stop: Stop::default(),
        }
    }

    pub(super) fn stopped_by(self, stop: Stop) -> TargetAddition {
        TargetAddition { stop, ..self }
    }

    /// Runs `rustup target add`, unless it failed less than a day ago.
    pub(super) fn add(
        &self,
        rustup: &Path,
        target: WasmTarget,
        workspace_root: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(), String> {
        let triple = target.triple();
        let memory = self.state_dir.join(format!("rustup-failed-{triple}"));
        if is_recent(&memory) {
            return Err(format!(
                "`rustup target add {triple}` failed less than a day ago"
            ));
        }
        progress.line(&format!("rustup target add {triple}"));
        let outcome = run(rustup, triple, workspace_root, &self.stop);
        let Err(reason) = outcome else {
            return Ok(());
        };
        // That says nothing of rustup.
        if self.stop.is_stopped() {
            return Err(reason);
        }
        progress.line(&format!(
            "`rustup target add {triple}` failed ({reason}); it is not tried again for a day"
        ));
        let remembered =
            fs::create_dir_all(&self.state_dir).and_then(|()| fs::write(&memory, &reason));
        if let Err(error) = remembered {
            progress.line(&format!("cannot write {}: {error}", memory.display()));
        }
        Err(format!("`rustup target add {triple}` fails: {reason}"))
    }
}

fn is_recent(file: &Path) -> bool {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified());
    // A time stamp in the future is as good as none.
    modified
        .ok()
        .and_then(|modified| modified.elapsed().ok())
        .is_some_and(|age| age < FAILURE_REMEMBERED)
}

fn run(rustup: &Path, triple: &str, dir: &Path, stop: &Stop) -> Result<(), String> {
    let mut child = command(rustup)
        .current_dir(dir)
        .args(["target", "add", triple])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start rustup: {error}"))?;
    let stderr = child.stderr.take();
    // Read at the side, so that a full pipe does not block the child.
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let read = stderr.map(|mut stderr| std::io::Read::read_to_string(&mut stderr, &mut text));
        match read {
            Some(Err(error)) => format!("error: {error}"),
            Some(Ok(_)) | None => text,
        }
    });
    let outcome = wait(&stop.guard(child));
    let said = reader.join().unwrap_or_default();
    match outcome? {
        true => Ok(()),
        false => Err(first_error(&said)),
    }
}

/// Whether the child succeeded; after the time-out it is killed with its guard.
fn wait(child: &Guarded<'_>) -> Result<bool, String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match child.with(Child::try_wait).unwrap_or(Ok(None)) {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
            Ok(None) => return Err(format!("no end after {} s", TIMEOUT.as_secs())),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn first_error(said: &str) -> String {
    said.lines()
        .find_map(|line| line.strip_prefix("error: "))
        .or_else(|| said.lines().next_back())
        .unwrap_or("no reason given")
        .to_owned()
}
