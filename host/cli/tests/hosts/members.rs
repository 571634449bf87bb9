//! Members of an etcd of three: the hosts go on while most of them do.

use std::time::{Duration, Instant};

use crate::{Hosts, expected};

/// Bytes of a map: many hundreds of them, so that the job outlasts what is done to etcd.
const SPLIT: u32 = 48;

/// Longer than members wait before they choose another leader among them.
const STANDS_STILL: Duration = Duration::from_secs(3);

/// How often etcd stands still and goes on, and for how long: a disk whose every write takes that long.
const STALLS: usize = 12;
const STALL: Duration = Duration::from_millis(350);
const BETWEEN: Duration = Duration::from_millis(150);

impl Hosts {
    fn maps_done(&self) -> u64 {
        self.job()["map"]["done"].as_u64().unwrap_or(0)
    }

    /// Waits until the job has come further than it is now, which it must not have ended for.
    fn wait_for_progress(&self) {
        let mut before = None;
        self.wait_for("progress", |hosts| {
            let job = hosts.job();
            assert_ne!(job["state"], "succeeded", "make the job longer");
            let done = job["map"]["done"].as_u64();
            let more = done > before && before.is_some();
            before = before.or(done);
            more
        });
    }

    /// A time that passes, with nothing to be waited for but itself.
    fn wait_out(&self, time: Duration) {
        let begun = Instant::now();
        self.wait_for("a while", |_| begun.elapsed() >= time);
    }
}

#[test]
fn a_job_goes_on_when_each_member_of_etcd_is_killed_in_turn() {
    let Some(mut hosts) = Hosts::start_on(3, 2) else {
        return;
    };
    hosts.submit_split(SPLIT);
    hosts.wait_for_maps(3);
    // One of the three leads them, whichever it is.
    for member in 0..3 {
        hosts.etcd[member].kill_9();
        hosts.wait_for_progress();
        hosts.etcd[member].restart();
        println!("{} maps done without member {member}", hosts.maps_done());
    }
    assert_eq!(hosts.result(), expected());
}

#[test]
fn a_job_goes_on_when_each_member_of_etcd_stands_still_in_turn() {
    let Some(hosts) = Hosts::start_on(3, 2) else {
        return;
    };
    hosts.submit_split(SPLIT);
    hosts.wait_for_maps(3);
    for member in &hosts.etcd {
        member.signal("-STOP");
        hosts.wait_out(STANDS_STILL);
        hosts.wait_for_progress();
        member.signal("-CONT");
        println!("{} maps done by then", hosts.maps_done());
    }
    assert_eq!(hosts.result(), expected());
}

/// Not a disk: etcd's process is stopped for a third of a second at a time, as it is while its disk does not
/// answer. The lease outlasts it, unless this machine is busy besides.
#[test]
fn a_job_goes_on_while_all_that_etcd_does_takes_long() {
    let Some(hosts) = Hosts::start(2) else {
        return;
    };
    hosts.submit();
    hosts.wait_for_maps(3);
    let leader = hosts.wait_for_leader();
    for _ in 0..STALLS {
        hosts.etcd[0].signal("-STOP");
        hosts.wait_out(STALL);
        hosts.etcd[0].signal("-CONT");
        hosts.wait_out(BETWEEN);
    }
    assert_eq!(hosts.result(), expected());
    println!("leaders: first {leader}, last {:?}", hosts.leader());
}
