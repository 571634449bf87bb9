//! Policies that mean harm, on the whole path: the component in its sandbox, its answer judged by the
//! core. Whatever one proposes, the ledger adds up, offers go only to those who want them, of what is
//! free, and the pool goes on under the fallback.

mod shell;

use proffer_model::FrameworkId;

use shell::{Made, Shell, Wasm};

/// Seconds of each life:
/// as many as five failures with growing waits between them take.
const SECONDS: u64 = 60;

/// What each word of the hostile component proposes is wrong altogether: nothing of it becomes an
/// offer, so the pool lives as under the fallback alone.
const NONSENSE: [&str; 11] = [
    "spin",
    "apply-spin",
    "apply-trap",
    "memory",
    "trap 1",
    "uneven",
    "unknown",
    "million",
    "over",
    "negative",
    "strangers",
];

#[test]
fn what_is_nonsense_altogether_changes_nothing() {
    let Some(wasm) = Wasm::load() else { return };
    let alone = Shell::new(None).live(SECONDS);
    assert!(alone.made.len() > 20, "{:?}", alone.made);
    for word in NONSENSE {
        let life = Shell::new(Some((&wasm, word))).live(SECONDS);
        assert_eq!(life.made, alone.made, "{word}");
        assert!(life.failed > 0, "{word}: {} cycles", life.cycles);
        assert!(life.left_out, "{word} failed {} times", life.failed);
    }
}

#[test]
fn what_is_wrong_in_part_is_used_in_part() {
    let Some(wasm) = Wasm::load() else { return };
    for (word, is_fault) in [
        ("duplicate", true),
        ("idle", true),
        ("reclaim-all", false),
        // It grants all to whom it heard of last, and that one suppressed its role.
        ("good", true),
    ] {
        let life = Shell::new(Some((&wasm, word))).live(SECONDS);
        assert_eq!(
            life.failed > 0,
            is_fault,
            "{word}: {} failures, the last {}",
            life.failed,
            life.fault
        );
        assert_eq!(life.made.is_empty(), word == "reclaim-all", "{word}");
        // The ledger was recounted after each event, and here it is seen from outside.
        assert!(
            life.most_held <= 4_000,
            "{word}: {} at once",
            life.most_held
        );
        for Made { framework, .. } in &life.made {
            assert_ne!(*framework, FrameworkId(3), "{word}: it suppressed its role");
        }
    }
}
