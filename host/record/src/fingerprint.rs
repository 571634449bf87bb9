//! Which form values are in: recordings of another form are refused, not misread.

use std::sync::OnceLock;

use proffer_codec::{Codec, Input};
use proffer_core::{Action, Core, Event};

/// Values of each kind: enough to meet every variant of every type several times.
const EVENTS: usize = 1_000;
const ACTIONS: usize = 500;
const CORES: usize = 40;

/// A hash over the bytes of made-up values. A field, variant or type that is added, goes, or changes
/// its place makes another, by itself: nobody has to remember to raise a number.
pub(crate) fn fingerprint() -> u32 {
    static FINGERPRINT: OnceLock<u32> = OnceLock::new();
    *FINGERPRINT.get_or_init(|| {
        let mut input = Input::made_up(1);
        let mut out = Vec::new();
        put::<Event>(EVENTS, &mut input, &mut out);
        put::<Action>(ACTIONS, &mut input, &mut out);
        put::<Core>(CORES, &mut input, &mut out);
        crc32fast::hash(&out)
    })
}

fn put<T: Codec>(count: usize, input: &mut Input<'_>, out: &mut Vec<u8>) {
    for _ in 0..count {
        // What cannot be made up is left out, in the same way every time.
        if let Ok(value) = T::take(input) {
            value.put(out);
        }
    }
}
