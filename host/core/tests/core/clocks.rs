//! Clocks of several hosts: time that plug-ins are told never falls, whatever the clock of the host that goes on.

use proffer_core::Core;
use proffer_model::framework::Command;
use proffer_model::{Duration, Timestamp};

use super::cluster::{Cluster, START};
use super::words::timer;

const HOUR: u64 = 3_600_000;

impl Cluster {
    /// Another host goes on whose clock shows that.
    fn taken_over_at(&mut self, clock: u64) {
        self.now = clock;
        self.restart();
    }

    /// The time of the step that waits for its answer.
    fn told_time(&self, name: &str) -> u64 {
        self.steps[&self.framework_id(name)].batch.now.0
    }
}

/// A step that leaves a fact; the time that it was told.
fn remembered_step(cluster: &mut Cluster) -> u64 {
    cluster.request("f", "/x");
    let told = cluster.told_time("f");
    cluster.answer("f", vec![timer("t", HOUR)]);
    told
}

#[test]
fn a_host_whose_clock_is_behind_goes_on_where_the_last_step_was_and_lets_its_clock_catch_up() {
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    // Between two of the host's words that it is alive.
    cluster.advance(HOUR + 7_321);
    let told = remembered_step(&mut cluster);
    assert_eq!(told, START + HOUR + 7_321);

    cluster.taken_over_at(START);
    assert_eq!(cluster.told_time("f"), told);
    assert_eq!(cluster.core.now(), Timestamp(told));
    assert_eq!(
        cluster.core.ahead_of(Timestamp(START)),
        Duration(HOUR + 7_321)
    );
    let note = "this host's clock is 3607.321s behind the time that is in the facts";
    assert!(
        cluster.notes.iter().any(|told| told.starts_with(note)),
        "{:?}",
        cluster.notes
    );
    cluster.answer("f", vec![]);

    // Three quarters of the speed: an hour is caught up in four.
    cluster.advance(HOUR);
    cluster.request("f", "/x");
    assert_eq!(cluster.told_time("f"), told + HOUR * 3 / 4);
    cluster.answer("f", vec![]);
    cluster.advance(4 * HOUR);
    assert_eq!(cluster.core.now(), Timestamp(START + 5 * HOUR));
    assert_eq!(
        cluster.core.ahead_of(Timestamp(START + 5 * HOUR)),
        Duration::ZERO
    );
}

#[test]
fn a_timer_fires_once_its_time_has_passed_while_the_clock_catches_up_and_nobody_is_woken_in_vain() {
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    cluster.advance(HOUR);
    cluster.command("f", vec![timer("t", 30_000)]);
    cluster.taken_over_at(START);
    cluster.answer("f", vec![]);
    // Thirty seconds of the core's time are forty of the clock's.
    cluster.advance(39_999);
    assert!(!cluster.steps.contains_key(&cluster.framework_id("f")));
    cluster.advance(1);
    assert_eq!(cluster.told("f"), ["timer t"]);
    assert_eq!(cluster.told_time("f"), START + HOUR + 30_000);
}

#[test]
fn a_snapshot_remembers_what_time_was_told_and_a_clock_that_is_ahead_leaps() {
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    cluster.advance(HOUR + 1);
    let told = remembered_step(&mut cluster);
    let snapshot = cluster.core.snapshot().into_facts();
    let lead = |clock: u64| {
        let config = cluster.config.clone();
        Core::recover(config, snapshot.clone(), Timestamp(clock)).unwrap()
    };
    assert_eq!(lead(START).now(), Timestamp(told));
    assert_eq!(lead(told + HOUR).now(), Timestamp(told + HOUR));
    assert_eq!(
        lead(told + HOUR).ahead_of(Timestamp(told + HOUR)),
        Duration::ZERO
    );
}

#[test]
fn each_takeover_by_a_clock_that_is_further_behind_goes_on_from_the_one_before() {
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    let mut told = 0;
    for behind in [0, 10_000, 500_000, 2_000] {
        cluster.taken_over_at(START + 600_000 - behind);
        let time = cluster.told_time("f");
        assert!(time >= told, "{time} after {told}");
        cluster.answer("f", vec![timer("t", HOUR)]);
        cluster.advance(1_000);
        cluster.request("f", "/x");
        told = cluster.told_time("f");
        cluster.answer("f", vec![Command::CancelTimer("t".to_owned())]);
    }
}
