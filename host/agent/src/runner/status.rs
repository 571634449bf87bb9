//! Status files: what became of a launch, for when nobody is left to say it. And the marks by which a
//! process is known again.

use std::fs;
use std::io;
use std::path::Path;

use super::act::STATUS_DIR;
use super::protocol::{ProcessMark, Status};

/// Writes a status whole or not at all. No sync: it must survive the runner's death, not the
/// machine's, after which nothing runs.
pub(super) fn write(launch: u64, status: &Status) -> io::Result<()> {
    let content = postcard::to_stdvec(status).map_err(io::Error::other)?;
    let dir = Path::new(STATUS_DIR);
    let draft = dir.join(format!("{launch}.new"));
    fs::write(&draft, content)?;
    fs::rename(&draft, dir.join(launch.to_string()))
}

pub(super) fn remove(launch: u64) -> io::Result<()> {
    fs::remove_file(Path::new(STATUS_DIR).join(launch.to_string()))
}

/// Reads the content of a status file.
pub(crate) fn parse(content: &[u8]) -> Option<Status> {
    postcard::from_bytes(content).ok()
}

/// The mark of a process that runs now.
pub(crate) fn mark_of(pid: i32) -> Option<ProcessMark> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything; what follows its last parenthesis is numbers.
    let (_, fields) = stat.rsplit_once(')')?;
    // The start time is field 22 of the file, the 20th after the name.
    let started = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(ProcessMark { pid, started })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_again_by_its_start_time() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mark = mark_of(own).unwrap();
        assert_eq!(mark_of(own), Some(mark));
        assert!(mark.started > 0);
        assert_eq!(mark_of(i32::MAX), None);
    }
}
