//! The overlay against a plain map that is written to at once.

use super::*;

fn map(keys: &[&str]) -> Arc<StateMap> {
    Arc::new(StateMap::new(
        keys.iter()
            .map(|key| ((*key).to_owned(), Arc::from(key.as_bytes())))
            .collect(),
    ))
}

fn keys(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|(key, _)| key.as_str()).collect()
}

/// A small generator: what is checked is every mix of a few operations, not their spread.
fn mix(seed: &mut u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn a_step_reads_its_own_writes_and_commits_the_same() {
    let mut seed = 7;
    for _ in 0..300 {
        let mut committed = map(&["a", "b", "c", "d", "e"]);
        for _ in 0..4 {
            let mut plain = committed.entries().clone();
            let mut overlay = Overlay::new(Arc::clone(&committed), Access::Write, 10_000);
            for _ in 0..12 {
                let key = |n: u64| char::from(b'a' + u8::try_from(n % 7).unwrap()).to_string();
                let (one, two) = (key(mix(&mut seed)), key(mix(&mut seed)));
                match mix(&mut seed) % 3 {
                    0 => {
                        overlay.set(one.clone(), two.clone().into()).unwrap();
                        plain.insert(one, Arc::from(two.as_bytes()));
                    }
                    1 => {
                        overlay.delete(one.clone()).unwrap();
                        plain.remove(&one);
                    }
                    _ => {
                        let before = plain.len();
                        plain.retain(|key, _| !(*key >= one && *key < two));
                        let count = overlay.delete_range(one, two).unwrap();
                        assert_eq!(count as usize, before - plain.len());
                    }
                }
                let expected: Vec<&str> = plain.keys().map(String::as_str).collect();
                assert_eq!(keys(&overlay.range("", "", 99, false)), expected);
                let reversed: Vec<&str> = expected.iter().rev().copied().collect();
                assert_eq!(keys(&overlay.range("", "", 99, true)), reversed);
            }
            let bytes = overlay.bytes;
            let writes = overlay.finish();
            Arc::make_mut(&mut committed).apply(&writes);
            assert_eq!(*committed.entries(), plain);
            assert_eq!(committed.bytes(), bytes);
            assert_eq!(StateMap::new(plain).bytes(), bytes);
        }
    }
}

#[test]
fn pages_go_on_where_the_last_one_ended() {
    let mut overlay = Overlay::new(map(&["a", "b", "c", "d"]), Access::Write, 10_000);
    overlay.set("bb".to_owned(), vec![1]).unwrap();
    for backward in [false, true] {
        let mut seen = Vec::new();
        let (mut begin, mut end) = (String::new(), String::new());
        loop {
            let page = overlay.range(&begin, &end, 2, backward);
            seen.extend(page.entries.into_iter().map(|(key, _)| key));
            match page.next {
                Some(next) if backward => end = next,
                Some(next) => begin = next,
                None => break,
            }
        }
        if backward {
            seen.reverse();
        }
        assert_eq!(seen, ["a", "b", "bb", "c", "d"]);
    }
}

#[test]
fn limits_of_keys_values_steps_and_stores_hold() {
    let mut overlay = Overlay::new(map(&[]), Access::Write, 2 * 1024 * 1024);
    let long = "k".repeat(STATE_KEY_BYTES_MAX + 1);
    assert_eq!(overlay.set(long, vec![]), Err(StateError::KeyTooLong));
    let large = vec![0; STATE_VALUE_BYTES_MAX + 1];
    assert_eq!(
        overlay.set("k".to_owned(), large),
        Err(StateError::ValueTooLarge)
    );
    let fits = vec![0; STATE_VALUE_BYTES_MAX];
    for n in 0..3 {
        overlay.set(format!("{n}"), fits.clone()).unwrap();
    }
    assert_eq!(
        overlay.set("3".to_owned(), fits.clone()),
        Err(StateError::StepTooLarge)
    );
    let mut small = Overlay::new(map(&["a"]), Access::Write, 3);
    assert_eq!(
        small.set("b".to_owned(), vec![1]),
        Err(StateError::StoreFull)
    );
    small.set("a".to_owned(), vec![1]).unwrap();
    small.delete("a".to_owned()).unwrap();
    small.set("b".to_owned(), vec![1]).unwrap();
}

#[test]
fn start_may_read_and_not_write() {
    let mut overlay = Overlay::new(map(&["a"]), Access::Read, 100);
    assert!(overlay.get("a").is_some());
    assert_eq!(
        overlay.set("b".to_owned(), vec![]),
        Err(StateError::ReadOnly)
    );
    assert_eq!(overlay.delete("a".to_owned()), Err(StateError::ReadOnly));
}
