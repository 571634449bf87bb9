//! Which agents satisfy a set of constraints, a bit each.

/// A set of agent handles.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mask {
    words: Vec<u64>,
}

impl Mask {
    pub(crate) fn admits(&self, agent: u32) -> bool {
        let word = self.words.get(agent as usize / 64).copied().unwrap_or(0);
        word >> (agent % 64) & 1 == 1
    }

    pub(crate) fn set(&mut self, agent: u32, admits: bool) {
        let index = agent as usize / 64;
        if index >= self.words.len() {
            if !admits {
                return;
            }
            self.words.resize(index + 1, 0);
        }
        let bit = 1_u64 << (agent % 64);
        if admits {
            self.words[index] |= bit;
        } else {
            self.words[index] &= !bit;
        }
    }
}
