//! The overlay against a plain map that is written to at once.

use super::*;

fn map(keys: &[&str]) -> Arc<StateMap> {
    Arc::new(StateMap::new(
        keys.iter()
            .map(|key| ((*key).to_owned(), Arc::from(key.as_bytes())))
            .collect(),
    ))
}

fn delete_range(overlay: &mut Overlay, begin: &str, end: &str) -> Result<u32, StateError> {
    let go_on = || Ok::<_, std::convert::Infallible>(());
    let Ok(count) = overlay.delete_range(begin.to_owned(), end.to_owned(), go_on);
    count
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
                        let count = delete_range(&mut overlay, &one, &two).unwrap();
                        assert_eq!(count as usize, before - plain.len());
                    }
                }
                let expected: Vec<&str> = plain.keys().map(String::as_str).collect();
                assert_eq!(keys(&overlay.range("", "", 99, false)), expected);
                let reversed: Vec<&str> = expected.iter().rev().copied().collect();
                assert_eq!(keys(&overlay.range("", "", 99, true)), reversed);
            }
            let mut reached = None;
            for (begin, end) in &overlay.gone {
                assert!(reached.is_none_or(|reached: &String| reached < begin));
                reached = Some(end);
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
fn a_limit_of_zero_is_none() {
    let mut overlay = Overlay::new(map(&["a", "b"]), Access::Write, 10_000);
    overlay.set("c".to_owned(), vec![1]).unwrap();
    let page = overlay.range("", "", 0, false);
    assert_eq!((keys(&page), &page.next), (vec!["a", "b", "c"], &None));
    let page = overlay.range("", "", 0, true);
    assert_eq!((keys(&page), &page.next), (vec!["c", "b", "a"], &None));
}

#[test]
fn an_empty_key_is_refused_and_an_empty_bound_is_none() {
    let mut overlay = Overlay::new(map(&["a"]), Access::Write, 10_000);
    let empty = String::new;
    assert_eq!(overlay.set(empty(), vec![]), Err(StateError::KeyTooLong));
    assert_eq!(overlay.delete(empty()), Err(StateError::KeyTooLong));
    assert_eq!(overlay.get(""), None);
    assert_eq!(delete_range(&mut overlay, "", ""), Ok(1));
}

/// Whatever a step deletes, and however often, it does not add up: ranges are merged, charged for,
/// and passed at once.
#[test]
fn deleted_ranges_are_few_and_charged_for() {
    let names: Vec<String> = (0..40_000).map(|n| format!("{n:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut overlay = Overlay::new(map(&names), Access::Write, 10_000_000);
    let mut deleted = 0;
    let refused = loop {
        // Every second one, so that no two touch.
        let Some([begin, end]) = names.get(2 * deleted..2 * deleted + 2) else {
            panic!("the step was never full");
        };
        match delete_range(&mut overlay, begin, end) {
            Ok(count) => assert_eq!(count, 1),
            Err(refused) => break refused,
        }
        deleted += 1;
    };
    assert_eq!(refused, StateError::StepTooLarge);
    assert!(deleted <= 16_384, "{deleted}");
    let mut overlay = Overlay::new(map(&names), Access::Write, 10_000_000);
    for window in names.windows(2).take(10_000) {
        delete_range(&mut overlay, window[0], window[1]).unwrap();
    }
    assert_eq!(overlay.gone.len(), 1);
    assert_eq!(delete_range(&mut overlay, "", ""), Ok(30_000));
    let charged = overlay.step_bytes();
    for _ in 0..100_000 {
        assert_eq!(delete_range(&mut overlay, "", ""), Ok(0));
    }
    assert_eq!(overlay.step_bytes(), charged);
    assert_eq!(
        overlay.finish(),
        [StateWrite::DeleteRange(String::new(), String::new())]
    );
}

#[test]
fn a_long_count_is_given_up_when_its_time_is_over_and_nothing_has_changed() {
    let names: Vec<String> = (0..5_000).map(|n| format!("{n:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut overlay = Overlay::new(map(&names), Access::Write, 10_000_000);
    let mut asked = 0;
    let stopped = overlay.delete_range(String::new(), String::new(), || {
        asked += 1;
        if asked == 3 { Err("over") } else { Ok(()) }
    });
    assert_eq!(stopped, Err("over"));
    assert_eq!(overlay.range("", "", 0, false).entries.len(), 5_000);
    assert_eq!(overlay.finish(), []);
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
