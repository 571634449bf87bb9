//! Random moments that a seed decides.

/// Numbers that a seed decides (`SplitMix64`).
pub(crate) struct Moments(u64);

impl Moments {
    /// From `PROFFER_FAULT_SEED`, or any; printed, so that a failure can be tried again.
    pub(crate) fn new() -> Self {
        let given = std::env::var("PROFFER_FAULT_SEED").ok();
        let seed = match given.map(|seed| seed.parse::<u64>()) {
            Some(seed) => seed.expect("PROFFER_FAULT_SEED is a number"),
            None => u64::from(std::process::id()),
        };
        println!("PROFFER_FAULT_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Puts things into an order.
    pub(crate) fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            things.swap(last, other);
        }
    }
}
