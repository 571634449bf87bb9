//! The whole of a core as bytes, and back: where a replay may begin.
//!
//! Facts are what survives a restart; a checkpoint is everything else too (offers, filters, steps
//! under way, what the policy was told), so that the core that comes back does with the next event
//! exactly what this one would. It is not for keeping: it is in the form of this version of the
//! core, and only of this one.

use proffer_codec::{Codec, Input, InvalidBytes};

use crate::machine::Core;

impl Core {
    /// Everything, appended to `out`; between two events.
    pub fn checkpoint(&self, out: &mut Vec<u8>) {
        self.put(out);
    }

    /// How many records a checkpoint would hold: what its cost grows with.
    #[must_use]
    pub fn record_count(&self) -> usize {
        let frameworks = self.frameworks.values();
        let frameworks: usize = frameworks.map(|fw| fw.tasks.len() + fw.queue.len()).sum();
        self.agents.len() + self.offers.len() + self.filters.len() + frameworks
    }

    /// The core that a checkpoint was made of.
    ///
    /// # Errors
    /// The bytes are not a checkpoint of this version, or what they say breaks an invariant.
    pub fn from_checkpoint(bytes: &[u8]) -> Result<Self, InvalidBytes> {
        let mut input = Input::new(bytes);
        let core = Self::take(&mut input)?;
        input.finish()?;
        match core.check_invariants() {
            Ok(()) => Ok(core),
            Err(broken) => Err(input.refuse(broken.to_string())),
        }
    }
}
