//! Worst fit: empty agents first, unit by unit.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::Placement;
use crate::draft::{Draft, Verdict};
use crate::gauge::Gauge;
use crate::turns::{Queue, Turns, give_out};

/// In one cycle so many units are spread one by one; what is beyond goes in fair turns, a sixteenth
/// of an agent each, so that a cycle of a million units ends in time.
const SINGLE_UNITS_MAX: u32 = 20_000;

/// The emptiest agent first, which may be another one after every unit.
#[derive(Clone, Debug, Default)]
pub struct EmptiestFirst;

impl Placement for EmptiestFirst {
    fn place(&mut self, draft: &mut Draft<'_>, turns: &Turns) {
        let gauge = Gauge::new(draft.cluster());
        let mut queue = turns.queue(draft);
        if draft.honours_demand() {
            return Levelling::new(draft, &gauge).spread(draft, &mut queue);
        }
        // Whole agents cannot be levelled.
        let emptiest_first = |draft: &mut Draft<'_>| {
            draft.arrange(|draft, agent| Reverse(gauge.free(draft, agent)));
        };
        give_out(draft, &mut [queue], emptiest_first, |_| 0);
    }
}

/// The agents by how empty they are, while units are placed.
struct Levelling<'a> {
    gauge: &'a Gauge,
    /// What is free, the place in the draft's order, the agent.
    agents: BinaryHeap<(i64, Reverse<usize>, u32)>,
    visits: u32,
    /// (agent, leaf): later turns there are of one allocation.
    served: BTreeSet<(u32, u32)>,
}

impl<'a> Levelling<'a> {
    fn new(draft: &Draft<'_>, gauge: &'a Gauge) -> Self {
        let agents = draft.agents().iter().enumerate();
        let agents =
            agents.map(|(place, &agent)| (gauge.free(draft, agent), Reverse(place), agent));
        Self {
            gauge,
            agents: agents.collect(),
            visits: 0,
            served: BTreeSet::new(),
        }
    }

    fn spread(mut self, draft: &mut Draft<'_>, queue: &mut Queue) {
        while queue.leaves() > 0
            && let Some((_, place, agent)) = self.agents.pop()
        {
            if !draft.go_to(agent) {
                return;
            }
            self.visits += 1;
            if self.serve_one(draft, queue, agent) && !draft.is_exhausted() {
                let free = self.gauge.free(draft, agent);
                self.agents.push((free, place, agent));
            }
        }
    }

    /// One turn for the first who can use the agent; false if nobody can, now or later.
    fn serve_one(&mut self, draft: &mut Draft<'_>, queue: &mut Queue, agent: u32) -> bool {
        // In a full pool most agents are, and everybody would be tried in vain on each of them.
        if draft.is_exhausted() {
            return false;
        }
        let units = u32::from(self.visits <= SINGLE_UNITS_MAX);
        while let Some(leaf) = queue.first(self.visits) {
            let client = queue.client(leaf);
            let served = draft.serve(client, units);
            if served.is_ok() {
                let first = self.served.insert((agent, leaf));
                queue.charge(leaf, draft.gained(), first);
                queue.settle(leaf);
                if draft.wants(client).is_err() {
                    queue.remove(leaf);
                }
                return true;
            }
            queue.pass_over(leaf, self.visits);
            if served == Err(Verdict::GangShort) && draft.wants(client).is_err() {
                queue.remove(leaf);
            }
        }
        false
    }
}
