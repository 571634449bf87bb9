//! The stored form of facts.

use proffer_model::fact::{Fact, StepRecord};
use proffer_model::framework::StateWrite;
use proffer_model::{FrameworkId, StepNumber};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::random::Random;
use super::{decode, encode};

proptest! {
    #[test]
    fn facts_come_back_as_they_were(seed: u64) {
        let mut random = Random::new(seed);
        for fact in random.facts(20) {
            prop_assert_eq!(decode(&encode(&fact).unwrap()).unwrap(), fact);
        }
    }

    #[test]
    fn altered_bytes_are_refused_or_read_but_never_panic(seed: u64, at: usize, bit in 0_u8..8) {
        let mut random = Random::new(seed);
        for fact in random.facts(5) {
            let mut bytes = encode(&fact).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(other) = decode(&bytes) {
                prop_assert_ne!(other, fact);
            }
            decode(&bytes[..at]).unwrap_err();
        }
    }
}

#[test]
fn round_trips_reach_every_variant_of_every_type() {
    let mut random = Random::new(1);
    // The rarest variant is one of 60 in three levels of choices.
    for _ in 0..200_000 {
        let fact = random.fact();
        assert_eq!(decode(&encode(&fact).unwrap()).unwrap(), fact);
    }
    for name in [
        "Fact", "Effect", "Event", "Executor", "Probe", "Quantity", "Due",
    ] {
        assert!(random.seen.contains_key(name), "{name} was never made");
    }
    for (name, (variants, made)) in &random.seen {
        let missing: Vec<_> = (0..variants.len())
            .filter(|index| !made.contains(index))
            .map(|index| variants[index])
            .collect();
        assert!(missing.is_empty(), "{name}: {missing:?} were never made");
    }
}

#[test]
fn encoding_of_this_format_is_fixed() {
    let mut hash = Sha256::new();
    let mut random = Random::new(7);
    for fact in random.facts(2_000) {
        hash.update(encode(&fact).unwrap());
    }
    assert_eq!(
        hex::encode(hash.finalize()),
        "3cd76e87668542e8b9ae449756061e97d7014ea6a72ab67c96292b448b157f70",
        "the stored form of facts has changed: raise FORMAT, keep the old types for reading, and \
         only then change this digest"
    );
}

#[test]
fn a_step_is_stored_without_its_writes() {
    let step = |writes| {
        Fact::StepCommitted(Box::new(StepRecord {
            framework: FrameworkId(3),
            step: StepNumber(9),
            writes,
            effects: Vec::new(),
        }))
    };
    let value: Vec<u8> = vec![0xAB; 10_000];
    let bytes = encode(&step(vec![StateWrite::Set("k".into(), value.into())])).unwrap();
    assert!(bytes.len() < 10, "{} bytes", bytes.len());
    assert_eq!(decode(&bytes).unwrap(), step(Vec::new()));
}

#[test]
fn values_that_break_the_model_are_refused_by_name() {
    let fact = Fact::RoleSet {
        role: proffer_model::RoleName::new("eng").unwrap(),
        weight: proffer_model::Amount::ONE,
    };
    let mut bytes = encode(&fact).unwrap();
    let at = bytes.windows(3).position(|w| w == b"eng").unwrap();
    bytes[at] = b'/';
    let error = decode(&bytes).unwrap_err().to_string();
    assert_eq!(
        error,
        "holds '/ng' is not a role name: it has an empty component"
    );
    bytes[at] = b'e';
    bytes.push(0);
    assert_eq!(
        decode(&bytes).unwrap_err().to_string(),
        "holds 1 bytes after the fact's end"
    );
}
