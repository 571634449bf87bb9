//! A framework's randomness: one stream per step, from the cluster's seed, the framework and the
//! step's number, so that a repeated step draws the same.

use crate::{FrameworkId, StepNumber};

/// The most random bytes of one call; more are not given.
const BYTES_MAX: usize = 64 * 1024;

/// `SplitMix64`: not for secrets, which the contract does not promise.
#[derive(Clone, Debug)]
pub struct StepRandom {
    state: u64,
}

impl StepRandom {
    /// A step's stream, from its beginning.
    #[must_use]
    pub fn new(seed: u64, framework: FrameworkId, step: StepNumber) -> Self {
        // Each part goes through the mixer by itself: neighbours in any of them are far apart.
        let mut random = Self { state: seed };
        for part in [u64::from(framework.0), step.0] {
            random.state = random.draw() ^ part;
        }
        random
    }

    /// 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// So many random bytes, at most 64 KiB.
    pub fn bytes(&mut self, count: u32) -> Vec<u8> {
        let count = usize::try_from(count).map_or(BYTES_MAX, |count| count.min(BYTES_MAX));
        let mut bytes = Vec::with_capacity(count + size_of::<u64>());
        while bytes.len() < count {
            bytes.extend(self.draw().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_draws_the_same_again_and_no_other_step_does() {
        let draw = |framework, step| {
            let mut random = StepRandom::new(5, FrameworkId(framework), StepNumber(step));
            [random.draw(), random.draw()]
        };
        assert_eq!(draw(1, 1), draw(1, 1));
        assert_ne!(draw(1, 1), draw(1, 2));
        assert_ne!(draw(1, 2), draw(2, 1));
    }

    #[test]
    fn bytes_are_those_of_the_stream_and_no_more_than_64_kib() {
        let mut random = StepRandom::new(5, FrameworkId(1), StepNumber(1));
        let mut bytes = random.clone();
        let drawn = [random.draw(), random.draw()]
            .map(u64::to_le_bytes)
            .concat();
        assert_eq!(bytes.bytes(13), drawn[..13]);
        assert_eq!(random.bytes(u32::MAX).len(), 64 * 1024);
    }
}
