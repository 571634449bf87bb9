//! The table of behaviours: number, what it says, and the test that holds the core to it.

use std::collections::BTreeSet;

/// By number in the list of behaviours that a serious implementation has.
const TABLE: &[(u32, &str)] = &[
    (1, "outstanding offers count as allocated"),
    (
        2,
        "accept with a stale, foreign or duplicate offer fails whole",
    ),
    (3, "one part takes offers of one agent and role"),
    (
        4,
        "operations see earlier ones; leftovers return with the caller's filter",
    ),
    (5, "a filter refuses subsets only"),
    (
        6,
        "a filter's end cannot race the cycle that it guards against",
    ),
    (
        7,
        "filters die on time-out, revive, deactivation, attribute change",
    ),
    (8, "absurd refusals are clamped and noted"),
    (9, "suppress rescinds nothing, revive repeats nothing"),
    (
        10,
        "rescind on disconnection, less resources, weights; accept after it fails cleanly",
    ),
    (11, "an expired lease returns the resources and counts"),
    (
        12,
        "agents are shuffled per cycle, the same under the same seed",
    ),
    (13, "fixed point, whole gpus, exact ranges"),
    (20, "weights outlive the host"),
    (
        21,
        "after a restart with a quota offers wait for 80 % of the agents, or 10 minutes",
    ),
    (22, "cycles are coalesced; a failed policy stops nothing"),
    (
        23,
        "an update is acknowledged when the step that took it is durable",
    ),
    (24, "repeated updates are acknowledged again and dropped"),
    (25, "an end is final"),
    (
        26,
        "resources go with the newest end, the record with the acknowledgement",
    ),
    (
        27,
        "reconcile answers each id or is silent while an agent may return",
    ),
    (28, "unreachable tasks may return, and are not killed"),
    (29, "task ids are unique over live and unreachable tasks"),
    (
        30,
        "kills are answered, kept and repeated; grace only shortens",
    ),
    (31, "groups are atomic; killed during launch is told apart"),
    (
        32,
        "events come until a committed step has taken them, over restarts too",
    ),
    (
        34,
        "what is fenced is nobody's: late answers, old connections",
    ),
    (
        35,
        "timers and absences outlive the host, without the time that none ran",
    ),
    (
        36,
        "a removed framework goes when its tasks have ended, or says presumed",
    ),
    (
        37,
        "what a removal would end can be looked at before (tasks)",
    ),
    (38, "heartbeats both ways"),
    (39, "too many requests are told when to come back"),
    (
        40,
        "disconnected, unreachable and gone differ in timer, fact and event",
    ),
    (
        41,
        "a brake on mass removal delays giving up and not the notice",
    ),
    (
        42,
        "gone agents are refused; a reboot is told by the boot's id",
    ),
    (
        52,
        "ended tasks, timers, waiting requests are bounded, and counted",
    ),
    (
        55,
        "an upgrade waits for the call under way; a failed one leaves the old",
    ),
];

/// Every row has a test named `bNN_…`, and every such test a row; prints the table.
#[test]
fn the_table_of_behaviours() {
    let sources = [
        include_str!("offers.rs"),
        include_str!("tasks.rs"),
        include_str!("hosts.rs"),
        include_str!("leases.rs"),
        include_str!("policies.rs"),
        include_str!("partitions.rs"),
        include_str!("upgrades.rs"),
    ];
    let tests: Vec<&str> = sources
        .iter()
        .flat_map(|source| source.lines())
        .filter_map(|line| line.strip_prefix("fn b")?.split_once("()"))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    let mut used = BTreeSet::new();
    let mut table = String::from("behaviours of the core\n");
    for (number, behaviour) in TABLE {
        let prefix = format!("{number:02}_");
        let found: Vec<&&str> = tests
            .iter()
            .filter(|test| test.starts_with(&prefix))
            .collect();
        let [test] = found[..] else {
            panic!("behaviour {number} has {} tests", found.len());
        };
        table.push_str(&format!("{number:>3} | {behaviour} | b{test}\n"));
        used.insert(*test);
    }
    let strange: Vec<&&str> = tests.iter().filter(|test| !used.contains(**test)).collect();
    assert!(strange.is_empty(), "not in the table: {strange:?}");
    super::words::say(&table);
}
