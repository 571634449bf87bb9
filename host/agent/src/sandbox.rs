//! Sandboxes on disk: who owns what in them, and how nothing leads out.
//!
//! ```text
//! DATA/runners/            agent's, closed to others
//!   framework-3/           agent's; the runner's directory
//!     run/                 task user's: socket, status log, compiled code
//!       work/launch-18/    of a component that named no inputs and wanted a directory all the same
//!     kept/                agent's; inputs for later tasks, and their components
//!     tasks/launch-17/     agent's
//!       work/              task user's: the task's directory, its logs and outputs
//!       inputs/            agent's; files 0444 or 0555, directories 0555; only if there are any
//!       component.wasm     agent's, of a Wasm task
//! ```
//!
//! A process finds each input under its path in `work`, through a link to `inputs`. A component has
//! `work` as its `.` and each directory of `inputs` opened for reading under its own name; an input
//! that is a single file at the top is linked into `work` itself, where its mode keeps it as it is. So
//! inputs cannot be written by either kind. (If agent and tasks are one user, a process can change
//! modes of its own files; run the agent as root to prevent that.)
//!
//! A component that names no inputs has nothing made for it before it starts: it runs from `kept`, and what it
//! writes is in `run/work` ([`late`]). Most small tasks write nothing.
//!
//! The agent goes into `work` through [`Dir`] only: whatever links a task leaves there, nothing outside
//! is read or written.

mod late;
mod owner;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, MetadataExt, Permissions, PermissionsExt};
use proffer_model::{FrameworkId, LaunchNumber};
use rustix::fs::{AtFlags, FlockOperation, flock};
use rustix::process::{Gid, Uid};

use crate::files::open_regular;
use crate::runner::{LOCK, TaskUser};
use crate::users::TaskUsers;

pub(crate) use late::{LATE_DIR, late_path_of};

/// Directories in directories of inputs; deeper ones are a mistake.
const DEPTH_MAX: usize = 64;

/// The directory of all sandboxes.
#[derive(Debug)]
pub(crate) struct Sandboxes {
    runners: Dir,
    users: TaskUsers,
    /// Frameworks whose directories this process has made or found whole.
    made: Mutex<BTreeSet<FrameworkId>>,
    /// What the names of files begin with that this process keeps: no name is ever used twice.
    kept_prefix: String,
}

/// Random bytes of a prefix: two processes never have the same.
const PREFIX_BYTES: usize = 8;

/// One sandbox, open.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// `tasks/launch-N`.
    pub(crate) dir: Dir,
    /// `work`.
    pub(crate) work: Dir,
    /// `inputs`; none if the task has none.
    pub(crate) inputs: Option<Dir>,
}

/// A framework's directory that is being removed.
#[derive(Debug)]
pub(crate) struct Retired {
    runners: Dir,
    name: String,
}

/// Where inputs for later tasks are, relative to the runner's directory.
pub(crate) const KEPT_DIR: &str = "kept";

/// What the name of such a directory begins with.
const RETIRED: &str = "removed-";

/// The file in its directory that holds a task's own result.
pub(crate) const RESULT: &str = "result";

/// Free disk below which old sandboxes go: room for the logs of what runs.
const FREE_MIN_BYTES: u64 = 1024 * 1024 * 1024;

/// Of a smaller disk this part: otherwise it would count as low when it is empty, and outputs that
/// other tasks still want would be removed for no gain.
const FREE_MIN_PART: u64 = 10;

/// Paths relative to the runner's directory.
pub(crate) fn path_of(launch: LaunchNumber) -> String {
    format!("tasks/{launch}")
}

/// How full a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskRoom {
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
}

impl DiskRoom {
    /// Whether less is free than there should be.
    pub(crate) fn is_low(self, free_min_bytes: Option<u64>) -> bool {
        let usual = || FREE_MIN_BYTES.min(self.total_bytes / FREE_MIN_PART);
        self.free_bytes < free_min_bytes.unwrap_or_else(usual)
    }
}

impl Sandboxes {
    pub(crate) fn open(data: &Dir, users: TaskUsers) -> io::Result<Self> {
        make(data, "runners", 0o700)?;
        let runners = data.open_dir("runners")?;
        remove_retired(&runners);
        let mut prefix = [0; PREFIX_BYTES];
        getrandom::fill(&mut prefix).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            runners,
            users,
            made: Mutex::default(),
            kept_prefix: hex::encode(prefix),
        })
    }

    /// The runner's directory, made if it is not there.
    pub(crate) fn runner(&self, framework: FrameworkId) -> io::Result<Dir> {
        let name = framework.to_string();
        // A panic while it was held cannot have left it half changed.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.contains(&framework) {
            return self.runners.open_dir(&name);
        }
        make(&self.runners, &name, 0o755)?;
        let dir = self.runners.open_dir(&name)?;
        make(&dir, "tasks", 0o755)?;
        let is_ours = if make(&dir, "run", 0o700)? {
            self.give(framework, &dir, "run")?;
            true
        } else {
            let own = rustix::process::geteuid().as_raw();
            let uid = self.users.of(framework).map_or(own, |user| user.uid);
            owner::hand_over(&dir, uid, |dir, name| self.give(framework, dir, name))?
        };
        // Open to the runner, which takes components from there. Earlier versions closed it.
        if !make(&dir, KEPT_DIR, 0o755)? {
            dir.set_permissions(KEPT_DIR, Permissions::from_mode(0o755))?;
        }
        // Otherwise it is looked at again the next time.
        if is_ours {
            made.insert(framework);
        }
        Ok(dir)
    }

    /// Takes a framework's directory out of the way, if no runner is in it. None: one is, and holds its lock.
    pub(crate) fn retire(&self, framework: FrameworkId) -> io::Result<Option<Retired>> {
        let name = framework.to_string();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let retired = Retired {
            runners: self.runners.try_clone()?,
            name: format!("{RETIRED}{name}"),
        };
        let dir = match self.runners.open_dir(&name) {
            // It never ran anything here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(retired)),
            dir => dir?,
        };
        match open_regular(&dir, LOCK) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            lock => match flock(&lock?, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        }
        self.runners.rename(&name, &self.runners, &retired.name)?;
        made.remove(&framework);
        Ok(Some(retired))
    }

    /// Where inputs for later tasks of a framework are kept. On the same disk as its sandboxes.
    pub(crate) fn kept(&self, framework: FrameworkId) -> io::Result<Dir> {
        self.runner(framework)?.open_dir(KEPT_DIR)
    }

    /// A name for a file there that no other file ever had.
    pub(crate) fn kept_name(&self, number: u64) -> String {
        format!("{}-{number}", self.kept_prefix)
    }

    /// Removes what earlier agent processes kept: they are not known any more. Not before this process is
    /// attached to the runner, which until then may still be told to use them.
    pub(crate) fn sweep_kept(&self, framework: FrameworkId) -> io::Result<()> {
        for entry in self.kept(framework)?.entries()? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if !name.starts_with(&self.kept_prefix) {
                entry.remove_file()?;
            }
        }
        Ok(())
    }

    /// A fresh sandbox, with room for inputs or without; what was there under this number is removed.
    pub(crate) fn create(
        &self,
        framework: FrameworkId,
        launch: LaunchNumber,
        has_inputs: bool,
    ) -> io::Result<Sandbox> {
        let runner = self.runner(framework)?;
        let path = path_of(launch);
        remove_sandbox(&runner, path.as_ref())?;
        make(&runner, &path, 0o755)?;
        let dir = runner.open_dir(&path)?;
        make(&dir, "work", 0o700)?;
        self.give(framework, &dir, "work")?;
        if has_inputs {
            make(&dir, "inputs", 0o755)?;
        }
        open(dir)
    }

    /// The directory of a launch's own that is there.
    pub(crate) fn work(&self, framework: FrameworkId, launch: LaunchNumber) -> io::Result<Dir> {
        let runner = self.runners.open_dir(framework.to_string())?;
        match late::open(&runner, launch) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                runner.open_dir(format!("{}/work", path_of(launch)))
            }
            work => work,
        }
    }

    /// Removes a sandbox, or what there is of one.
    pub(crate) fn remove(&self, framework: FrameworkId, launch: LaunchNumber) -> io::Result<()> {
        let runner = match self.runners.open_dir(framework.to_string()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            runner => runner?,
        };
        remove(&runner, launch)
    }

    /// The disk that tasks share.
    pub(crate) fn disk(&self) -> io::Result<DiskRoom> {
        let disk = rustix::fs::fstatvfs(&self.runners)?;
        Ok(DiskRoom {
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }

    fn give(&self, framework: FrameworkId, dir: &Dir, name: &str) -> io::Result<()> {
        let Some(TaskUser { uid, gid }) = self.users.of(framework) else {
            return Ok(());
        };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(
            dir.as_fd(),
            name,
            Some(uid),
            Some(gid),
            flags,
        )?)
    }
}

impl Retired {
    /// Removes all of it.
    pub(crate) fn remove(self) -> io::Result<()> {
        let Self { runners, name } = self;
        let dir = match runners.open_dir(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            dir => dir?,
        };
        // Sealed directories could not be emptied by an agent that is not root.
        if let Ok(tasks) = dir.open_dir("tasks") {
            for task in tasks.entries()? {
                remove_sandbox(&tasks, &task?.file_name())?;
            }
        }
        drop(dir);
        runners.remove_dir_all(&name)
    }
}

impl Sandbox {
    /// Takes the right to write from all directories of inputs.
    pub(crate) fn seal(&self) -> io::Result<()> {
        let Some(inputs) = &self.inputs else {
            return Ok(());
        };
        set_modes(inputs, 0o555, DEPTH_MAX)?;
        let sealed = Permissions::from_mode(0o555);
        self.dir.set_permissions("inputs", sealed)
    }

    /// The names at the top of the inputs, and whether each is a directory.
    pub(crate) fn tops(&self) -> io::Result<Vec<(String, bool)>> {
        let mut tops = Vec::new();
        let Some(inputs) = &self.inputs else {
            return Ok(tops);
        };
        for entry in inputs.entries()? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().map(str::to_owned);
            let name = name.ok_or_else(|| io::Error::other("a name that is not UTF-8"))?;
            tops.push((name, entry.file_type()?.is_dir()));
        }
        tops.sort_unstable();
        Ok(tops)
    }

    /// Shows the inputs to a process: links in its directory.
    pub(crate) fn link_for_process(&self) -> io::Result<()> {
        for (name, _) in self.tops()? {
            self.work
                .symlink_contents(format!("../inputs/{name}"), name)?;
        }
        Ok(())
    }

    /// Shows single files at the top to a component: they cannot be opened as directories.
    pub(crate) fn link_for_component(&self) -> io::Result<()> {
        let tops = self.tops()?;
        let Some(inputs) = &self.inputs else {
            return Ok(());
        };
        for (name, is_dir) in tops {
            if !is_dir {
                inputs.hard_link(&name, &self.work, &name)?;
            }
        }
        Ok(())
    }
}

/// What an agent before did not get to remove.
fn remove_retired(runners: &Dir) {
    let names = runners.entries().into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| name.starts_with(RETIRED)) {
        let retired = runners.try_clone().and_then(|runners| {
            let name = name.clone();
            Retired { runners, name }.remove()
        });
        if let Err(error) = retired {
            tracing::warn!(name, %error, "a runner's directory was not removed");
        }
    }
}

fn open(dir: Dir) -> io::Result<Sandbox> {
    let inputs = match dir.open_dir("inputs") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        inputs => Some(inputs?),
    };
    Ok(Sandbox {
        work: dir.open_dir("work")?,
        inputs,
        dir,
    })
}

/// Makes a directory with this mode, whatever the process's mask; says whether it was new.
fn make(dir: &Dir, name: &str, mode: u32) -> io::Result<bool> {
    let mut builder = DirBuilder::new();
    builder.mode(mode);
    match dir.create_dir_with(name, &builder) {
        Ok(()) => {
            // To change a mode costs a file system ten times what it costs to look.
            let made = rustix::fs::statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
            if made.st_mode & 0o777 != mode {
                dir.set_permissions(name, Permissions::from_mode(mode))?;
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(runner: &Dir, launch: LaunchNumber) -> io::Result<()> {
    late::remove(runner, launch)?;
    remove_sandbox(runner, path_of(launch).as_ref())
}

fn remove_sandbox(within: &Dir, path: &OsStr) -> io::Result<()> {
    let dir = match within.open_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        dir => dir?,
    };
    // Sealed directories could not be emptied by an agent that is not root.
    if let Ok(inputs) = dir.open_dir("inputs") {
        dir.set_permissions("inputs", Permissions::from_mode(0o755))?;
        set_modes(&inputs, 0o755, DEPTH_MAX)?;
    }
    drop(dir);
    within.remove_dir_all(path)
}

/// Sets the mode of all directories in a directory of the agent's own.
fn set_modes(dir: &Dir, mode: u32, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("directories in directories, too many"));
    }
    for entry in dir.entries()? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if !metadata.is_dir() {
            continue;
        }
        let name = entry.file_name();
        // Opened while it may still be read, changed afterwards: modes may take that right.
        let inner = dir.open_dir(&name)?;
        set_modes(&inner, mode, depth - 1)?;
        if metadata.mode() & 0o777 != mode {
            dir.set_permissions(&name, Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_is_low_when_little_of_it_is_free_and_not_always() {
        const MIB: u64 = 1024 * 1024;
        let is_low = |free, total, min| {
            DiskRoom {
                free_bytes: free * MIB,
                total_bytes: total * MIB,
            }
            .is_low(min)
        };
        assert_eq!((is_low(3, 24, None), is_low(2, 24, None)), (false, true));
        let large = 1_000_000;
        assert_eq!(
            (is_low(1_024, large, None), is_low(1_023, large, None)),
            (false, true)
        );
        assert!(is_low(large, large, Some(u64::MAX)));
    }
}
