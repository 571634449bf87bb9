//! `run` changes hands when the agent's task user was changed between two of its processes: a runner of the new
//! user could not use what is the old one's.
//!
//! What the status log says goes over, or a launch that has run could run again; so do the directories that
//! components wanted. The rest is the old runner's, which has ended.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use cap_std::fs::{Dir, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::{FlockOperation, RenameFlags, flock, renameat_with};

use crate::files::open_regular;
use crate::runner::{LOCK, STATUS_LOG};

use super::make;

const RUN: &str = "run";

/// Made ready here, and then swapped with `run`.
const DRAFT: &str = "run.new";

/// What is below both.
const WORK: &str = "work";

/// A longer log is not read by an agent either.
const STATUS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Whether `run` is, now, this user's. If it is not, a runner of the other user still has it.
pub(super) fn hand_over(
    dir: &Dir,
    uid: u32,
    give: impl Fn(&Dir, &str) -> io::Result<()>,
) -> io::Result<bool> {
    finish(dir, &give)?;
    if dir.symlink_metadata(RUN)?.uid() == uid {
        return Ok(true);
    }
    match open_regular(dir, LOCK) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        lock => match flock(&lock?, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        },
    }
    make(dir, DRAFT, 0o700)?;
    let draft = dir.open_dir(DRAFT)?;
    let mut statuses = Vec::new();
    match open_regular(dir, STATUS_LOG) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        log => {
            log?.take(STATUS_BYTES_MAX).read_to_end(&mut statuses)?;
        }
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut log = draft.open_with("status", &options)?;
    log.write_all(&statuses)?;
    give(&draft, "status")?;
    give(dir, DRAFT)?;
    // At no moment is there none.
    renameat_with(dir.as_fd(), RUN, dir.as_fd(), DRAFT, RenameFlags::EXCHANGE)?;
    finish(dir, &give)?;
    Ok(true)
}

/// Removes what is left of a hand-over, wherever it was interrupted.
fn finish(dir: &Dir, give: &impl Fn(&Dir, &str) -> io::Result<()>) -> io::Result<()> {
    let draft = match dir.open_dir(DRAFT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        draft => draft?,
    };
    let run = dir.open_dir(RUN)?;
    let is_dir = |dir: &Dir| dir.symlink_metadata(WORK).is_ok_and(|work| work.is_dir());
    if is_dir(&draft) && !is_dir(&run) {
        draft.rename(WORK, &run, WORK)?;
        give(&run, WORK)?;
    }
    drop(draft);
    dir.remove_dir_all(DRAFT)
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;
    use proffer_model::{FrameworkId, LaunchNumber};

    use super::super::{LATE_DIR, Sandboxes};
    use super::*;
    use crate::runner::TaskUser;
    use crate::users::TaskUsers;

    #[test]
    fn run_goes_to_another_task_user_with_what_must_not_be_forgotten() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give files away");
            let required = std::env::var("PROFFER_REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!required, "not root");
            return;
        }
        let temporary = tempfile::tempdir().unwrap();
        let data = Dir::open_ambient_dir(temporary.path(), ambient_authority()).unwrap();
        let framework = FrameworkId(1);
        let open = |id| {
            let user = TaskUser { uid: id, gid: id };
            Sandboxes::open(&data, TaskUsers::One(user)).unwrap()
        };
        let dir = open(60_001).runner(framework).unwrap();
        dir.write(STATUS_LOG, "what became of launches").unwrap();
        dir.write("run/control", "").unwrap();
        dir.create_dir_all(format!("{LATE_DIR}/launch-7")).unwrap();
        dir.write(format!("{LATE_DIR}/launch-7/stdout"), "words")
            .unwrap();
        let lock = dir.create(LOCK).unwrap().into_std();
        let uid_of = |path: &str| dir.symlink_metadata(path).unwrap().uid();

        // As long as its runner lives it stays.
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let sandboxes = open(60_002);
        sandboxes.runner(framework).unwrap();
        assert_eq!(uid_of(RUN), 60_001);
        drop(lock);
        sandboxes.runner(framework).unwrap();
        assert_eq!(
            [RUN, STATUS_LOG, LATE_DIR].map(uid_of),
            [60_002, 60_002, 60_002]
        );
        assert_eq!(
            dir.read_to_string(STATUS_LOG).unwrap(),
            "what became of launches"
        );
        assert!(!dir.exists("run/control") && !dir.exists(DRAFT));
        let work = sandboxes.work(framework, LaunchNumber(7)).unwrap();
        assert_eq!(work.read_to_string("stdout").unwrap(), "words");
    }
}
