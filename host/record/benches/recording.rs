//! What recording costs the offer loop: processor time of its thread for the same events, with and
//! without, in alternating pairs; and how many bytes an event takes.
//!
//! `cargo bench --bench recording` prints one line per pair and the medians.

mod record {
    pub(crate) use proffer_record::{Recorder, RecordingTally};
}

#[path = "../src/tests/cluster.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod cluster;

use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::{Cluster, core_with};
use proffer_model::Timestamp;
use proffer_record::{Recorder, RecordingLimits};
use rustix::time::{ClockId, clock_gettime};

/// Tasks of one measurement: some seconds.
const TASKS: u64 = 100_000;
/// Medians are over so many pairs.
const PAIRS: usize = 10;

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Microseconds for each event, policy and harness included.
fn measure(recorder: Recorder) -> (f64, u64) {
    let mut cluster = Cluster::new(core_with(4), recorder);
    cluster.run(TASKS / 10);
    let (begun, events) = (cpu_seconds(), cluster.events);
    cluster.run(TASKS);
    let events = cluster.events - events;
    ((cpu_seconds() - begun) * 1e6 / events as f64, events)
}

fn main() {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut bytes, mut stored) = (0.0, 0.0);
    for pair in 1..=PAIRS {
        let (off, events) = measure(Recorder::off());
        let dir = tempfile::tempdir().expect("a directory");
        let limits = RecordingLimits {
            dir: dir.path().to_owned(),
            bytes_max: 1 << 30,
            keep: Duration::from_secs(3_600),
        };
        let core = core_with(4);
        let recorder = Recorder::start(limits, &core, Timestamp(1)).expect("a recording");
        let tally = recorder.tally();
        let (on, _) = measure(recorder);
        let all = tally.events.load(Ordering::Relaxed) as f64;
        bytes = tally.bytes.load(Ordering::Relaxed) as f64 / all;
        stored = tally.stored.load(Ordering::Relaxed) as f64 / all;
        println!("pair {pair}: {events} events, {off:.2} µs each without, {on:.2} µs with");
        without.push(off);
        with.push(on);
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (off, on) = (median(&mut without), median(&mut with));
    println!(
        "medians: {:.0} events/s without, {:.0} with: {:.2} µs more for each; {bytes:.0} bytes an event, {stored:.0} in files",
        1e6 / off,
        1e6 / on,
        on - off
    );
}
