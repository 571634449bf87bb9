//! A process of the built command: its log, its end, and who its runners are.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::{LOOK_EVERY, WITHIN};

/// Lines of a log that a failing test shows.
const TAIL_LINES: usize = 25;

/// A process, or none at the moment. It is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Option<Child>,
}

impl Process {
    pub(super) fn none(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            child: None,
        }
    }

    /// Starts it; what it logs is appended to a file of its name.
    pub(super) fn start(mut command: Command, name: &str, dir: &Path) -> Self {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(log_of(dir, name))
            .expect("its log");
        let child = command.stderr(log).spawn().expect("the command starts");
        Self {
            name: name.to_owned(),
            child: Some(child),
        }
    }

    /// Its name in logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id; 0 if it does not run.
    pub fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// `kill -9`.
    pub fn kill_9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// Waits until it ends by itself: its exit status; none if it runs on.
    ///
    /// # Panics
    /// If the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        let begun = Instant::now();
        while begun.elapsed() < WITHIN {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                return Some(status);
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        self.child = Some(child);
        None
    }

    /// All that it has logged, also as an earlier process of this name.
    pub fn log(&self, dir: &Path) -> String {
        let log = fs::read(log_of(dir, &self.name)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    pub(super) fn log_tail(&self, dir: &Path) -> String {
        let log = self.log(dir);
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        lines[from..]
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already.
            let _gone = child.kill().is_err();
            let _reaped = child.wait().is_err();
        }
    }
}

fn log_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}

/// Ends one runner of those that live in a directory of this one.
pub(super) fn kill_runner_in(home: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut runners = processes.filter_map(|process| {
        let at = fs::read_link(process.path().join("cwd")).ok()?;
        let is_runner = at.parent() == Some(home);
        let pid = process.file_name().to_str()?.parse::<i32>().ok()?;
        Pid::from_raw(pid).filter(|_| is_runner)
    });
    runners
        .next()
        .is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}
