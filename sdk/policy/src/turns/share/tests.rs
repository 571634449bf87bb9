//! Tests of the parent module.

use proffer_model::policy::{Agent, Changes, Kind, Totals};

use super::*;
use crate::random::Random;

/// A pool with these totals per kind.
fn measure(totals: &[i64]) -> Measure {
    let mut cluster = Cluster::default();
    let count = u32::try_from(totals.len()).unwrap();
    cluster.apply(&Changes {
        kinds: (0..count)
            .map(|handle| Kind {
                handle,
                name: format!("k{handle}"),
                counted: false,
            })
            .collect(),
        agents: vec![Agent {
            handle: 0,
            name: "a".to_owned(),
            region: String::new(),
            zone: String::new(),
            active: true,
            allowed: true,
            has_gpus: false,
            down: None,
        }],
        totals: Totals {
            agent: vec![0; totals.len()],
            terms: vec![0; totals.len()],
            kind: (0..count).collect(),
            total: totals.to_vec(),
        },
        ..Changes::default()
    });
    Measure::new(&cluster, &[])
}

/// The dominant share as a fraction, straightforwardly.
fn exact(totals: &[i64], held: &[i64], weight: i64) -> (u128, u128) {
    let mut largest = (0, 1);
    for (&held, &total) in held.iter().zip(totals) {
        let fraction = (
            held.unsigned_abs().into(),
            u128::from(total.unsigned_abs()) * u128::from(weight.unsigned_abs()),
        );
        if compare_fractions(fraction, largest).is_gt() {
            largest = fraction;
        }
    }
    largest
}

#[test]
fn shares_compare_as_their_fractions_do() {
    let mut random = Random::new(11);
    let mut ties = 0;
    for round in 0..20_000_u32 {
        let magnitude = 1_u64 << random.below(43);
        let mut amount = || i64::try_from(random.number() % magnitude).unwrap() + 1;
        let totals = [amount(), amount(), amount()];
        let measure = measure_of_round(round, totals);
        let totals = measure.1;
        let mut pick = |whole: bool| {
            let part = i64::from(random.below(5));
            let held = totals.map(|total| match whole {
                // Fractions that are equal in every kind, or nearly.
                true => total / 4 * part + i64::from(random.below(2)),
                false => i64::try_from(random.number() % (total.unsigned_abs() * 3)).unwrap(),
            });
            (
                held,
                [1_000, 1_000, 500, 3_000, 1, 7][random.below(6) as usize],
            )
        };
        let whole = round % 2 == 0;
        let ((held, weight), (others, other_weight)) = (pick(whole), pick(whole));
        let share = measure.0.share(&held, Weight::from_milli(weight));
        let other = measure.0.share(&others, Weight::from_milli(other_weight));
        let wanted = compare_fractions(
            exact(&totals, &held, weight),
            exact(&totals, &others, other_weight),
        );
        assert_eq!(
            share.compare(&other),
            wanted,
            "{totals:?}: {held:?}/{weight} and {others:?}/{other_weight}"
        );
        ties += u32::from(wanted.is_eq());
    }
    assert!(ties > 100, "the test must meet ties, met {ties}");
}

fn measure_of_round(round: u32, totals: [i64; 3]) -> (Measure, [i64; 3]) {
    // Every third pool has a common divisor, as pools of equal agents have.
    let totals = match round % 3 {
        0 => totals.map(|total| total.min(1 << 30) * 4_000),
        _ => totals,
    };
    (measure(&totals), totals)
}

#[test]
fn fractions_of_any_size_compare_exactly() {
    let huge = u128::MAX;
    assert_eq!(compare_fractions((1, 2), (2, 4)), Ordering::Equal);
    assert_eq!(compare_fractions((1, 3), (1, 2)), Ordering::Less);
    assert_eq!(
        compare_fractions((huge - 1, huge), (huge - 2, huge - 1)),
        Ordering::Greater
    );
    assert_eq!(compare_fractions((0, 5), (0, 9)), Ordering::Equal);
    assert_eq!(compare_fractions((7, 1), (huge, 2)), Ordering::Less);
}

#[test]
fn the_dominant_kind_is_the_one_with_the_largest_part() {
    let measure = measure(&[9_000, 18_000]);
    let share = measure.share(&[3_000, 1_000], Weight::ONE);
    assert_eq!(measure.micro(&share), 333_333);
    let share = measure.share(&[1_000, 12_000], Weight::from_milli(2_000));
    assert_eq!(measure.micro(&share), 333_333);
    assert_eq!(measure.micro(&Share::NOTHING), 0);
}
