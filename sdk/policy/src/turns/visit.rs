//! Giving out agents one after the other: at each, whoever comes next and can use it.

use super::Queue;
use crate::draft::{Draft, Served, Verdict};

/// Gives out the agents of a cycle, guarantees first if they are unmet. `arrange` puts the agents
/// that have not been visited into an order; `queue_at` says whose turn it is on an agent, for the
/// queues may be several. No two of them have a client in common.
pub(crate) fn give_out(
    draft: &mut Draft<'_>,
    queues: &mut [Queue],
    arrange: impl Fn(&mut Draft<'_>),
    queue_at: impl Fn(u32) -> usize,
) {
    let mut visit = Visit::default();
    arrange(draft);
    if draft.begins_with_guarantees() {
        let lacking = |queue: &Queue| queue.leaves_where(|client| draft.lacks(client));
        let mut lacking: Vec<Vec<u32>> = queues.iter().map(lacking).collect();
        while lacking.iter().any(|leaves| !leaves.is_empty())
            && let Some(agent) = draft.next_agent()
        {
            let at = queue_at(agent);
            if let (Some(queue), Some(leaves)) = (queues.get_mut(at), lacking.get_mut(at)) {
                visit.serve_guarantees(draft, queue, leaves);
            }
        }
        draft.begin_rest();
        arrange(draft);
    }
    while queues.iter().any(|queue| queue.leaves() > 0)
        && let Some(agent) = draft.next_agent()
    {
        if let Some(queue) = queues.get_mut(queue_at(agent)) {
            visit.serve_agent(draft, queue);
        }
    }
}

/// Who was served in a visit; kept over visits for their memory.
#[derive(Default)]
struct Visit {
    number: u32,
    served: Vec<u32>,
    /// Served whole rests: they move at the end of the visit.
    late: Vec<u32>,
}

impl Visit {
    /// Gives out one agent for guarantees alone: the roles that lack something, in their order.
    fn serve_guarantees(
        &mut self,
        draft: &mut Draft<'_>,
        queue: &mut Queue,
        leaves: &mut Vec<u32>,
    ) {
        self.late.clear();
        queue.sort(leaves);
        for &leaf in leaves.iter() {
            let client = queue.client(leaf);
            if draft.is_exhausted() {
                break;
            }
            if draft.lacks(client) && draft.serve_guarantee(client).is_ok() {
                queue.charge(leaf, draft.gained(), true);
                self.late.push(leaf);
            }
        }
        // From the back, so that those behind each are in order already.
        for leaf in self.late.iter().rev() {
            queue.settle(*leaf);
        }
        if !self.late.is_empty() {
            leaves.retain(|&leaf| draft.lacks(queue.client(leaf)));
        }
    }

    /// Gives out one agent. Whole rests are handed out in the order at the beginning of the visit,
    /// as Mesos does; units move their client to its new place at once, so that turns alternate.
    fn serve_agent(&mut self, draft: &mut Draft<'_>, queue: &mut Queue) {
        self.number += 1;
        self.served.clear();
        self.late.clear();
        while !draft.is_exhausted()
            && let Some(leaf) = queue.first(self.number)
        {
            let client = queue.client(leaf);
            // Whoever is alone needs no turns.
            let units = if queue.leaves() == 1 { u32::MAX } else { 0 };
            match draft.serve(client, units) {
                Ok(granted) => {
                    let first = !self.served.contains(&leaf);
                    queue.charge(leaf, draft.gained(), first);
                    if first {
                        self.served.push(leaf);
                    }
                    if granted == Served::Whole {
                        queue.pass_over(leaf, self.number);
                        self.late.push(leaf);
                    } else {
                        queue.settle(leaf);
                    }
                    if draft.wants(client).is_err() {
                        queue.remove(leaf);
                    }
                }
                Err(verdict) => {
                    queue.pass_over(leaf, self.number);
                    // A gang that does not fit is out of the cycle.
                    if verdict == Verdict::GangShort && draft.wants(client).is_err() {
                        queue.remove(leaf);
                    }
                }
            }
        }
        // From the back, so that those behind each are in order already.
        for leaf in self.late.iter().rev() {
            queue.settle(*leaf);
        }
    }
}
