//! Directories of launches that began without one: a component that names no inputs, and may never write.
//! The runner makes one, in its own `run`, when the component first wants it.
//!
//! Everything in `run` is the task user's, who could put a link anywhere there: so each step of the way is
//! taken by itself, and none through a link.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use cap_std::fs::Dir;
use proffer_model::LaunchNumber;
use rustix::fs::{AtFlags, Mode, OFlags};

/// Where they are, relative to the runner's directory.
pub(crate) const LATE_DIR: &str = "run/work";

/// One of them, relative to the same.
pub(crate) fn late_path_of(launch: LaunchNumber) -> String {
    format!("{LATE_DIR}/{launch}")
}

pub(super) fn open(runner: &Dir, launch: LaunchNumber) -> io::Result<Dir> {
    look(runner, launch)?;
    step(&parent(runner)?, &launch.to_string())
}

/// Removes it, if there is one.
pub(super) fn remove(runner: &Dir, launch: LaunchNumber) -> io::Result<()> {
    let removed = look(runner, launch)
        .and_then(|()| parent(runner))
        .and_then(|parent| parent.remove_dir_all(launch.to_string()));
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Most launches have none, which one look tells; where a link leads it is not believed.
fn look(runner: &Dir, launch: LaunchNumber) -> io::Result<()> {
    let path = late_path_of(launch);
    rustix::fs::statat(runner.as_fd(), path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn parent(runner: &Dir) -> io::Result<Dir> {
    let mut dir = runner.open_dir(".")?;
    for name in LATE_DIR.split('/') {
        dir = step(&dir, name)?;
    }
    Ok(dir)
}

fn step(dir: &Dir, name: &str) -> io::Result<Dir> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let opened = rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty())?;
    Ok(Dir::from_std_file(File::from(opened)))
}
