//! What every backend promises, asked of each: the same test, over memory, files and a real etcd.

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_model::fact::{Fact, StepRecord};
use proffer_model::framework::StateWrite;
use proffer_model::{FrameworkId, StepNumber};

use crate::etcd::tests::InEtcd;
use crate::wire::random::Random;
use crate::{ComponentError, Memory, Recovered, Store, open};

/// A backend, and how to start it again.
trait Backend {
    fn start(&mut self) -> (Box<dyn Store>, Recovered);
}

struct Files(tempfile::TempDir);

impl Backend for Files {
    fn start(&mut self) -> (Box<dyn Store>, Recovered) {
        let (store, recovered) = open(self.0.path()).unwrap();
        (Box::new(store), recovered)
    }
}

impl Backend for Memory {
    fn start(&mut self) -> (Box<dyn Store>, Recovered) {
        (Box::new(self.clone()), self.recovered())
    }
}

impl Backend for InEtcd {
    fn start(&mut self) -> (Box<dyn Store>, Recovered) {
        let (store, recovered) = self.lead();
        (Box::new(store), recovered)
    }
}

fn check(test: fn(&mut dyn Backend)) {
    test(&mut Memory::default());
    test(&mut Files(tempfile::tempdir().unwrap()));
    if let Some(mut etcd) = InEtcd::start_server() {
        test(&mut etcd);
    }
}

fn set(key: &str, value: &str) -> StateWrite {
    StateWrite::Set(key.into(), value.as_bytes().into())
}

fn step(framework: u32, writes: Vec<StateWrite>) -> Fact {
    Fact::StepCommitted(Box::new(StepRecord {
        framework: FrameworkId(framework),
        step: StepNumber(1),
        writes,
        effects: Vec::new(),
    }))
}

fn text(recovered: &Recovered) -> BTreeMap<u32, Vec<String>> {
    let show =
        |(key, value): (&String, &Arc<[u8]>)| format!("{key}={}", String::from_utf8_lossy(value));
    recovered
        .states
        .iter()
        .map(|(framework, state)| (framework.0, state.iter().map(show).collect()))
        .collect()
}

#[test]
fn facts_come_back_in_order_and_only_once() {
    check(|backend| {
        let (mut store, recovered) = backend.start();
        assert!(recovered.facts.is_empty() && recovered.states.is_empty());
        let facts = Random::new(2).facts(300);
        store.append(&facts[..100]).unwrap();
        store.append(&[]).unwrap();
        store.append(&facts[100..250]).unwrap();
        drop(store);
        let (mut store, recovered) = backend.start();
        assert_eq!(recovered.facts, facts[..250]);
        assert_eq!(store.journal_len(), 250);
        store.append(&facts[250..]).unwrap();
        drop(store);
        assert_eq!(backend.start().1.facts, facts);
    });
}

#[test]
fn state_writes_are_applied_in_order_and_kept_once() {
    check(|backend| {
        let (mut store, _) = backend.start();
        let delete_range =
            |begin: &str, end: &str| StateWrite::DeleteRange(begin.into(), end.into());
        store
            .append(&[
                step(
                    1,
                    vec![set("a", "1"), set("b", "2"), set("c", "3"), set("a", "4")],
                ),
                step(2, vec![set("a", "other"), set("", "the empty key")]),
                step(u32::MAX, vec![set("a", "last"), set("é", "")]),
                step(
                    1,
                    vec![
                        StateWrite::Delete("c".into()),
                        delete_range("b", "c"),
                        set("d", "5"),
                    ],
                ),
            ])
            .unwrap();
        store
            .append(&[
                step(
                    1,
                    vec![
                        delete_range("z", ""),
                        delete_range("d", "a"),
                        delete_range("d", "d"),
                    ],
                ),
                step(u32::MAX, vec![delete_range("b", "")]),
            ])
            .unwrap();
        drop(store);
        let (mut store, recovered) = backend.start();
        let expected = BTreeMap::from([
            (1, vec!["a=4".to_owned(), "d=5".to_owned()]),
            (2, vec!["=the empty key".to_owned(), "a=other".to_owned()]),
            (u32::MAX, vec!["a=last".to_owned()]),
        ]);
        assert_eq!(text(&recovered), expected);
        assert_eq!(recovered.facts[0], step(1, Vec::new()));

        store
            .append(&[
                Fact::FrameworkRemoved {
                    framework: FrameworkId(1),
                },
                Fact::FrameworkRemoved {
                    framework: FrameworkId(u32::MAX),
                },
                step(2, vec![delete_range("", "")]),
            ])
            .unwrap();
        drop(store);
        assert_eq!(text(&backend.start().1), BTreeMap::new());
    });
}

#[test]
fn a_snapshot_replaces_the_journal_and_leaves_state() {
    check(|backend| {
        let (mut store, _) = backend.start();
        let mut random = Random::new(4);
        store.append(&random.facts(40)).unwrap();
        store.append(&[step(7, vec![set("k", "v")])]).unwrap();
        let short = random.facts(3);
        store.snapshot(&short).unwrap();
        assert_eq!(store.journal_len(), 3);
        let after = random.facts(2);
        store.append(&after).unwrap();
        drop(store);
        let (mut store, recovered) = backend.start();
        assert_eq!(recovered.facts, [short, after].concat());
        assert_eq!(text(&recovered)[&7], ["k=v"]);
        store.snapshot(&[]).unwrap();
        drop(store);
        let (store, recovered) = backend.start();
        assert_eq!((recovered.facts.len(), store.journal_len()), (0, 0));
    });
}

#[test]
fn components_are_kept_under_the_digest_that_they_have() {
    check(|backend| {
        let (store, _) = backend.start();
        let bytes = b"\0asm component";
        let digest = crate::components::digest_of(bytes);
        store.put_blob(&digest, bytes).unwrap();
        store.put_blob(&digest, bytes).unwrap();
        drop(store);
        let (store, _) = backend.start();
        assert_eq!(store.get_blob(&digest).unwrap(), bytes);
        let wrong = store.put_blob(&digest, b"other").unwrap_err();
        assert!(matches!(wrong, ComponentError::Mismatch { .. }), "{wrong}");
        for bad in ["", "sha256:", "sha256:../../../etc/passwd", &digest[7..]] {
            let error = store.get_blob(bad).unwrap_err();
            assert!(
                matches!(error, ComponentError::NotADigest { .. }),
                "{error}"
            );
        }
        store.remove_blob(&digest).unwrap();
        store.remove_blob(&digest).unwrap();
        let gone = store.get_blob(&digest).unwrap_err();
        assert!(matches!(gone, ComponentError::Unknown { .. }), "{gone}");
    });
}

#[test]
fn a_changed_component_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    let digest = crate::components::digest_of(b"abc");
    store.put_blob(&digest, b"abc").unwrap();
    let path = dir
        .path()
        .join("components")
        .join(format!("{}.wasm", &digest[7..]));
    std::fs::write(&path, b"abd").unwrap();
    let error = store.get_blob(&digest).unwrap_err().to_string();
    assert!(
        error.contains(&path.display().to_string()) && error.contains("is damaged"),
        "{error}"
    );
    // Put again, it is mended.
    store.put_blob(&digest, b"abc").unwrap();
    assert_eq!(store.get_blob(&digest).unwrap(), b"abc");
}
