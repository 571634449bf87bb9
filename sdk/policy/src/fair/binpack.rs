//! Best fit: full agents first.

use super::Placement;
use crate::draft::Draft;
use crate::gauge::Gauge;
use crate::turns::{Turns, give_out};

/// The fullest agents first: whoever comes next takes the fullest that it fits on.
#[derive(Clone, Debug, Default)]
pub struct FullestFirst;

impl Placement for FullestFirst {
    fn place(&mut self, draft: &mut Draft<'_>, turns: &Turns) {
        let gauge = Gauge::new(draft.cluster());
        let mut queue = [turns.queue(draft)];
        let fullest_first =
            |draft: &mut Draft<'_>| draft.arrange(|draft, agent| gauge.free(draft, agent));
        give_out(draft, &mut queue, fullest_first, |_| 0);
    }
}
