//! All randomness of a simulation: seeded streams, one per purpose, so that one more throw in one
//! place changes nothing in another.

/// A stream of random numbers (SplitMix64): the same on every machine.
#[derive(Clone, Debug)]
pub struct Dice(u64);

/// The odd constant of SplitMix64.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Dice {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for a purpose. This one goes on as if nothing was asked of it.
    #[must_use]
    pub fn stream(&self, purpose: &str) -> Self {
        // FNV-1a: any number that differs between purposes.
        let name = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        let mut own = Self(self.0 ^ name);
        own.throw();
        own
    }

    /// The next number.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.throw() % bound.max(1)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// An index below `len`; `len` is not 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// One of these, if there are any.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() {
            return None;
        }
        let index = self.index(all.len());
        all.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn streams_are_their_own_and_the_same_again() {
        let dice = Dice::new(7);
        let (mut one, mut other) = (dice.stream("network"), dice.stream("disk"));
        let first: Vec<u64> = (0..4).map(|_| one.throw()).collect();
        let second: Vec<u64> = (0..4).map(|_| other.throw()).collect();
        assert_ne!(first, second);
        let mut again = dice.stream("network");
        assert_eq!(first, (0..4).map(|_| again.throw()).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_stay_in_their_bounds() {
        let mut dice = Dice::new(1);
        assert!((0..1_000).all(|_| dice.between(3, 5) >= 3 && dice.between(3, 5) <= 5));
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.pick::<u8>(&[]), None);
    }
}
