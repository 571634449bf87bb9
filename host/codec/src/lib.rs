//! Values to bytes and back: how the core's inputs, actions and state are recorded.
//!
//! A value is written from where it is, without a copy of another type in between: recording happens
//! beside the offer loop, many thousand times a second. Each type is listed once, by the names of its
//! fields or variants ([`codec_struct!`], [`codec_enum!`]); the lists take values apart in full, so
//! that a field or variant that is added does not compile until it is recorded.
//!
//! The form is that of one version of the model: numbers are variable-length, lists are a length
//! and their items, alternatives their place in the list. Nothing in it says what it is. Whoever
//! keeps bytes keeps beside them a fingerprint of the form (see [`Input::made_up`]).
//!
//! What it is not: the store's form of facts, which must be readable by later versions.
//!
//! # Invariants
//! - What is taken is equal to what was put, and nothing is left over.
//! - Bytes that were not put by [`Codec::put`] are refused or read as some value; they never panic,
//!   and take no more memory than a small multiple of their length.

mod basic;
mod input;
mod macros;
mod model;

pub use input::{Input, InvalidBytes};

/// A value with a form in bytes.
pub trait Codec: Sized {
    /// Appends its form.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes one from the input's front.
    ///
    /// # Errors
    /// What the bytes hold that is no such value, and where.
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes>;

    /// Appends the forms of several, in order. Overridden where a whole slice is cheaper.
    fn put_all(items: &[Self], out: &mut Vec<u8>) {
        for item in items {
            item.put(out);
        }
    }

    /// Takes so many.
    ///
    /// # Errors
    /// As [`Codec::take`].
    fn take_all(count: usize, input: &mut Input<'_>) -> Result<Vec<Self>, InvalidBytes> {
        // An item may be larger in memory than in bytes: room grows as items come.
        let mut items = Vec::with_capacity(count.min(1_024));
        for _ in 0..count {
            items.push(Self::take(input)?);
        }
        Ok(items)
    }
}

/// The whole of some bytes as one value.
///
/// # Errors
/// As [`Codec::take`], and bytes after the value's end.
pub fn read<T: Codec>(bytes: &[u8]) -> Result<T, InvalidBytes> {
    let mut input = Input::new(bytes);
    let value = T::take(&mut input)?;
    input.finish()?;
    Ok(value)
}

/// A value's form.
pub fn written<T: Codec>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.put(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proffer_model::fact::Fact;
    use proffer_model::policy::Changes;

    fn facts_and_changes(seed: u64) -> (Vec<Fact>, Vec<Changes>) {
        let mut input = Input::made_up(seed);
        let mut facts = Vec::new();
        let mut changes = Vec::new();
        for _ in 0..200 {
            facts.push(Fact::take(&mut input).unwrap());
            changes.push(Changes::take(&mut input).unwrap());
        }
        (facts, changes)
    }

    #[test]
    fn what_is_put_is_taken() {
        for seed in 0..50 {
            let value = facts_and_changes(seed);
            assert_eq!(
                read::<(Vec<Fact>, Vec<Changes>)>(&written(&value)),
                Ok(value)
            );
        }
    }

    #[test]
    fn forms_that_end_early_are_refused_at_every_byte() {
        let mut input = Input::made_up(3);
        for _ in 0..30 {
            let fact = Fact::take(&mut input).unwrap();
            let bytes = written(&fact);
            for end in 0..bytes.len() {
                read::<Fact>(&bytes[..end]).unwrap_err();
            }
        }
    }

    #[test]
    fn altered_forms_never_panic() {
        let mut input = Input::made_up(4);
        for _ in 0..100 {
            let changes = Changes::take(&mut input).unwrap();
            let bytes = written(&changes);
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << (at % 8);
                if let Ok(other) = read::<Changes>(&altered) {
                    assert_ne!(other, changes);
                }
            }
        }
    }

    #[test]
    fn lengths_past_the_end_take_no_memory() {
        let bytes = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0];
        let error = read::<Vec<u64>>(&bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "byte 5: a list of 4294967295 items in 1 bytes"
        );
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let error = read::<u64>(&[7, 7]).unwrap_err();
        assert_eq!(error.to_string(), "byte 1: 1 bytes after the end");
    }
}
