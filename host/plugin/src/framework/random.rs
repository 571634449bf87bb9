//! A framework's randomness: one stream per step, from the cluster's seed, the framework and the
//! step's number, so that a repeated step draws the same.

use proffer_model::{FrameworkId, StepNumber};

/// `SplitMix64`: not for secrets, which the contract does not promise.
#[derive(Clone, Debug)]
pub(crate) struct StepRandom {
    state: u64,
}

impl StepRandom {
    pub(crate) fn new(seed: u64, framework: FrameworkId, step: StepNumber) -> Self {
        // Each part goes through the mixer by itself: neighbours in any of them are far apart.
        let mut random = Self { state: seed };
        for part in [u64::from(framework.0), step.0] {
            random.state = random.next() ^ part;
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_draws_the_same_again_and_no_other_step_does() {
        let draw = |framework, step| {
            let mut random = StepRandom::new(5, FrameworkId(framework), StepNumber(step));
            [random.next(), random.next()]
        };
        assert_eq!(draw(1, 1), draw(1, 1));
        assert_ne!(draw(1, 1), draw(1, 2));
        assert_ne!(draw(1, 2), draw(2, 1));
    }
}
