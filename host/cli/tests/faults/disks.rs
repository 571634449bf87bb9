//! Disks that are full: small ones of their own, which wants the right to mount.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use proffer_tests::cluster::{Cluster, Guests, JobSize, Setup};

use crate::PROGRAM;

const JOB: JobSize = JobSize {
    split: 1_024,
    reducers: 3,
    map_cpus: 2.0,
};

/// A file system of a few mebibytes; it goes with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None without the right to mount, which is said.
    fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0700")])
            .args(["tmpfs"])
            .arg(at)
            .output();
        let why = match mounted {
            Ok(output) if output.status.success() => return Some(Self(at.to_owned())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        let required = std::env::var("PROFFER_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!required, "no small disk can be mounted: {why}");
        println!("skipped: no small disk can be mounted: {why}");
        None
    }

    /// Takes all that is free.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        for size in [65_536, 4_096, 1] {
            while ballast.write_all(&vec![7; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: runners of a test that failed may still be in it.
        let gone = Command::new("umount").arg("-l").arg(&self.0).status();
        if !gone.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}

/// A cluster with a job that has begun, whose directory of this name is a small disk.
fn cluster_on_small_disk(name: &str, mebibytes: u32) -> Option<(Cluster, SmallDisk)> {
    let guests = Guests::build()?;
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&dir.path().join(name), mebibytes)?;
    let cluster = Cluster::start_in(Setup::new(PROGRAM, guests), dir, |_| {});
    cluster.run_framework();
    cluster.submit(JOB);
    cluster.wait_for_maps(3);
    Some((cluster, disk))
}

#[test]
fn an_agent_whose_disk_is_full_stops_says_so_and_goes_on_when_it_has_room() {
    let Some((mut cluster, disk)) = cluster_on_small_disk("agent0", 24) else {
        return;
    };
    disk.fill();
    let status = cluster.agent(0).ended();
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    let log = log_of(&cluster, "agent0");
    assert!(log.contains("journal"), "{log}");
    assert!(log.contains("No space left on device"), "{log}");
    disk.free();
    cluster.start_agent(0);
    cluster.wait_for("it is back", |cluster| cluster.active_agents() == 3);
    cluster.assert_result();
    cluster.assert_nothing_lost_or_doubled();
}

#[test]
fn a_host_whose_disk_is_full_stops_says_so_and_goes_on_when_it_has_room() {
    let Some((mut cluster, disk)) = cluster_on_small_disk("host", 48) else {
        return;
    };
    disk.fill();
    let status = cluster.host().ended();
    assert_eq!(status.and_then(|status| status.code()), Some(8));
    let log = log_of(&cluster, "host");
    let said = "no space left on the disk";
    assert!(log.contains("store") && log.contains(said), "{log}");
    disk.free();
    cluster.start_host();
    cluster.assert_result();
    cluster.assert_nothing_lost_or_doubled();
}

fn log_of(cluster: &Cluster, name: &str) -> String {
    std::fs::read_to_string(cluster.dir().join(format!("{name}.log"))).unwrap()
}
