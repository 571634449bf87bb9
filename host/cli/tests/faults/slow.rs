//! A slow disk: every sync of host and agents takes long. The system's own `fsync` and `fdatasync` are
//! replaced by ones that wait first, in a library that the loader puts before it.

use std::path::{Path, PathBuf};
use std::process::Command;

use proffer_tests::cluster::{Cluster, Guests, JobSize, Setup};

use crate::PROGRAM;

/// The library. Each wait leaves a byte, so that a test can tell that it was slow indeed.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void take_long(void) {
    struct timespec delay = {0, 150 * 1000 * 1000};
    nanosleep(&delay, 0);
    const char *told = getenv("SLOW_DISK_TOLD");
    int file = told ? open(told, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (file >= 0) {
        if (write(file, ".", 1) != 1) abort();
        close(file);
    }
}

int fsync(int file) {
    take_long();
    return syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    take_long();
    return syscall(SYS_fdatasync, file);
}
"#;

/// Some fifty maps, several at a time on each agent.
const JOB: JobSize = JobSize {
    split: 2_048,
    reducers: 3,
    map_cpus: 1.0,
};

/// A host that commits and an agent that writes its journal sync at least so often for such a job.
const SYNCS_MIN: u64 = 50;

/// The built library; none without a compiler for it, which is said.
fn library(dir: &Path) -> Option<PathBuf> {
    let source = dir.join("slow.c");
    std::fs::write(&source, LIBRARY).unwrap();
    let built = dir.join("slow.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&built, &source])
        .output();
    let why = match compiled {
        Ok(output) if output.status.success() => return Some(built),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let required = std::env::var("PROFFER_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "no C compiler: {why}");
    println!("skipped: no C compiler: {why}");
    None
}

#[test]
fn a_job_counts_right_though_every_sync_takes_long_and_plugs_are_pulled() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = library(dir.path()) else {
        return;
    };
    let told = dir.path().join("told");
    let env = [
        ("LD_PRELOAD", library.display().to_string()),
        ("SLOW_DISK_TOLD", told.display().to_string()),
    ];
    let setup = Setup {
        env: env.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        ..Setup::new(PROGRAM, guests)
    };
    let mut cluster = Cluster::start_in(setup, dir, |_| {});
    cluster.run_framework();
    cluster.submit(JOB);
    cluster.wait_for_maps(3);
    // In the middle of a sync, more likely than not.
    cluster.host().kill_9();
    cluster.start_host();
    cluster.wait_for_maps(10);
    cluster.agent(0).kill_9();
    cluster.start_agent(0);
    cluster.assert_result();
    let evidence = cluster.assert_nothing_lost_or_doubled();
    let syncs = std::fs::metadata(told).unwrap().len();
    println!("{evidence:?}, {syncs} syncs of 150 ms and more");
    assert!(syncs >= SYNCS_MIN, "only {syncs} syncs were slow");
}
