//! Fragmentation gradient descent ("Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
//! Fragmentation Gradient Descent", USENIX ATC '23), for amounts.
//!
//! What is free of the scarce kind on an agent counts as lost for a demand that does not fit there.
//! Over the demands that this pool has seen, each as often as it was asked for, that is the agent's
//! fragmentation; a unit goes where it grows least. Of agents where it grows alike the fullest is
//! taken.
//!
//! Setting `kind`: the scarce kind. Without it: `gpus`, or `gpu`, or else `cpus`, the first that the
//! pool has.

mod gradient;
mod seen;

use proffer_model::policy::Changes;

use super::Placement;
use crate::cluster::Cluster;
use crate::decision::Setting;
use crate::draft::{Draft, Served};
use crate::gauge::Gauge;
use crate::turns::{Queue, Turns, give_out};

use gradient::Gradient;
use seen::Seen;

const KIND: &str = "kind";
/// Tried in this order.
const SCARCE: [&str; 3] = ["gpus", "gpu", "cpus"];
/// In how many turns what a client wants is placed while others wait: every turn looks at all agents.
const TURNS: u32 = 8;

/// Where fragmentation grows least.
#[derive(Clone, Debug, Default)]
pub struct LeastFragmenting {
    kind: Option<String>,
    seen: Seen,
}

impl Placement for LeastFragmenting {
    const SETTINGS: &'static [&'static str] = &[KIND];

    fn configure(
        &mut self,
        mut settings: Vec<(String, Setting)>,
        _: &mut Turns,
    ) -> Result<(), String> {
        self.kind = match settings.pop() {
            None => None,
            Some((_, Setting::Text(kind))) if !kind.is_empty() => Some(kind),
            Some(_) => {
                return Err(format!(
                    "the setting '{KIND}' is the name of a kind, as in \"gpus\""
                ));
            }
        };
        Ok(())
    }

    fn changed(&mut self, cluster: &Cluster, changes: &Changes, _: &Turns) {
        self.seen.add(cluster, changes);
    }

    fn place(&mut self, draft: &mut Draft<'_>, turns: &Turns) {
        let cluster = draft.cluster();
        let gauge = Gauge::new(cluster);
        let gradient = Gradient::new(self.scarce(cluster), &self.seen);
        let mut queue = turns.queue(draft);
        if draft.honours_demand() {
            let descent = Descent {
                gradient: &gradient,
                gauge: &gauge,
                dead: vec![false; cluster.demands_bound()],
            };
            return descent.descend(draft, &mut queue);
        }
        // Whole agents: those that are most fragmented first, for nothing of them is left.
        let order = |draft: &mut Draft<'_>| {
            draft.arrange(|draft, agent| (-gradient.lost(draft, agent), gauge.free(draft, agent)));
        };
        give_out(draft, &mut [queue], order, |_| 0);
    }
}

impl LeastFragmenting {
    fn scarce(&self, cluster: &Cluster) -> u32 {
        let handle = |name: &str| {
            let kind = cluster.kinds().find(|kind| kind.name == name)?;
            (cluster.total(kind.handle) > 0).then_some(kind.handle)
        };
        let first = || SCARCE.iter().find_map(|name| handle(name));
        let kind = self.kind.as_deref().map_or_else(first, handle);
        kind.unwrap_or(proffer_model::policy::NONE)
    }
}

/// One cycle.
struct Descent<'a> {
    gradient: &'a Gradient,
    gauge: &'a Gauge,
    /// By demand: it fits nowhere any more.
    dead: Vec<bool>,
}

impl Descent<'_> {
    fn descend(mut self, draft: &mut Draft<'_>, queue: &mut Queue) {
        // One visit for all: whoever cannot be placed now cannot be placed later.
        while let Some(leaf) = queue.first(1) {
            let client = queue.client(leaf);
            let alone = queue.leaves() == 1;
            let mut placed = false;
            let demands = draft.cluster().client(client).map(|row| row.demands());
            for &demand in demands.unwrap_or_default() {
                if self.place(draft, (client, demand), alone, &mut |draft| {
                    queue.charge(leaf, draft.gained(), !placed);
                    placed = true;
                }) {
                    break;
                }
            }
            if placed {
                queue.settle(leaf);
            }
            if !placed || draft.wants(client).is_err() {
                queue.remove(leaf);
            }
        }
    }

    /// A turn's worth of one demand, unit by unit where fragmentation grows least; false if not one
    /// could be placed.
    fn place(
        &mut self,
        draft: &mut Draft<'_>,
        (client, demand): (u32, u32),
        alone: bool,
        served: &mut dyn FnMut(&Draft<'_>),
    ) -> bool {
        let left = draft.left_of(demand);
        let known = draft.cluster().demand(demand);
        let dead = self.dead.get(demand as usize).copied().unwrap_or(true);
        let Some(wanted) = known.filter(|_| left > 0 && !dead) else {
            return false;
        };
        let shape = self.gradient.shape(wanted);
        let mut turn = if alone { left } else { left.div_ceil(TURNS) };
        if wanted.gang > 1 {
            // Placed over the agents in this order, at once.
            turn = 1;
            draft.arrange(|draft, agent| self.cost(draft, agent, &shape));
        }
        let mut agents = self.candidates(draft, &shape);
        let mut any = false;
        // Of the costs only that of the agent at hand changes.
        while turn > 0
            && let Some((_, agent)) = agents.pop_first()
        {
            if !draft.go_to(agent) {
                return any;
            }
            match draft.serve_demand_of(client, demand, 1) {
                Ok(granted) => {
                    any = true;
                    served(draft);
                    turn -= match granted {
                        Served::Units(units) => units.min(turn),
                        Served::Whole | Served::Gang(_) => 1,
                    };
                    agents.insert((self.cost(draft, agent, &shape), agent));
                }
                Err(_) if draft.left_of(demand) == 0 => break,
                Err(_) => {}
            }
        }
        if !any && let Some(dead) = self.dead.get_mut(demand as usize) {
            *dead = true;
        }
        any
    }

    fn candidates(
        &self,
        draft: &Draft<'_>,
        shape: &[(u32, i64)],
    ) -> std::collections::BTreeSet<(Cost, u32)> {
        let fits = |agent: &u32| {
            let mut pieces = shape.iter();
            pieces.all(|&(kind, amount)| draft.free_on(*agent, kind) >= amount)
        };
        let agents = draft.agents().iter().copied().filter(fits);
        agents
            .map(|agent| (self.cost(draft, agent, shape), agent))
            .collect()
    }

    fn cost(&self, draft: &Draft<'_>, agent: u32, shape: &[(u32, i64)]) -> Cost {
        let growth = self.gradient.growth(draft, agent, shape);
        (growth, self.gauge.free(draft, agent))
    }
}

/// By how much fragmentation grows, then what is free: the lowest is the best.
type Cost = (i64, i64);
