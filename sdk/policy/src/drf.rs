//! Dominant resource fairness over roles and frameworks: who holds the smallest part of what it
//! holds most of comes next.
//!
//! The order is Mesos's (shares over weights in a tree of roles, then the number of allocations so
//! far, then the path); what is granted is what was demanded, a turn's worth at a time, unless the
//! pool's rules say that demand is not looked at: then each agent goes whole to the first who can
//! take it, as in Mesos.

mod carry;
mod counts;
mod share;
mod tree;

use proffer_model::policy::{Changes, ChangesPart, Grants, NONE, Place, Section};

use crate::cluster::Cluster;
use crate::decision::{Decision, Modelled, Setting, refuse_unknown};
use crate::draft::{Draft, Served, Verdict};

use counts::{Counts, Ranks};
use share::Measure;
pub use share::compare_fractions;
use tree::Tree;

/// The reference policy: natively the host's last fallback, as a component the default.
pub type Drf = Modelled<DominantShare>;

/// The decision of [`Drf`].
#[derive(Clone, Debug, Default)]
pub struct DominantShare {
    /// Kinds that count in no share.
    excluded: Vec<String>,
    counts: Counts,
    ranks: Ranks,
    /// Grants of the last proposal, by row.
    proposed: Vec<Proposed>,
}

/// A grant of the last proposal.
#[derive(Clone, Copy, Debug)]
struct Proposed {
    agent: u32,
    client: u32,
    /// As how many allocations it counts.
    times: u32,
}

impl Decision for DominantShare {
    fn configure(&mut self, settings: Vec<(String, Setting)>) -> Result<(), String> {
        let mut excluded = Vec::new();
        refuse_unknown(&settings, &["fair-exclude"])?;
        for (_, setting) in settings {
            let Setting::List(list) = setting else {
                return Err(
                    "the setting 'fair-exclude' is a list of kinds, as in [\"gpus\"]".to_owned(),
                );
            };
            excluded = list;
        }
        self.excluded = excluded;
        Ok(())
    }

    fn changed(&mut self, cluster: &Cluster, changes: &Changes) {
        let restructured = self.ranks.refresh(cluster);
        let mut proposed = std::mem::take(&mut self.proposed);
        for rejected in &changes.rejected {
            if let Some(row) = proposed.get_mut(rejected.index as usize) {
                row.times = 0;
            }
        }
        for row in &proposed {
            for _ in 0..row.times {
                self.counts.add(cluster, &self.ranks, row.client);
            }
        }
        // Use that an agent reports is an allocation too, unless it is of what was just granted.
        let granted = |agent, client| {
            proposed
                .iter()
                .any(|row| (row.agent, row.client) == (agent, client))
        };
        if changes.part == ChangesPart::Delta {
            for &(agent, client) in cluster.reported() {
                if !granted(agent, client) {
                    self.counts.add(cluster, &self.ranks, client);
                }
            }
        }
        if restructured {
            self.counts.forget_absent(cluster, &self.ranks);
        }
    }

    fn decide(&mut self, draft: &mut Draft<'_>) {
        let cluster = draft.cluster();
        let measure = Measure::new(cluster, &self.excluded);
        let tables = (&self.counts, &self.ranks);
        let mut tree = Tree::new(cluster, measure, tables, |client| {
            draft.wants(client).is_ok()
        });
        let mut visit = Visit::default();
        if draft.begins_with_guarantees() {
            let mut leaves = tree.leaves_where(|client| draft.lacks(client));
            while !leaves.is_empty()
                && let Some(_agent) = draft.next_agent()
            {
                visit.serve_guarantees(draft, &mut tree, &mut leaves);
            }
            draft.begin_rest();
        }
        while tree.leaves() > 0
            && let Some(_agent) = draft.next_agent()
        {
            visit.serve_agent(draft, &mut tree);
        }
        let rows = first_rows(draft.rows());
        self.proposed = with_times(rows, draft.times());
    }

    fn places(&self, cluster: &Cluster) -> Vec<Place> {
        let measure = Measure::new(cluster, &self.excluded);
        let known = |client: u32| {
            cluster
                .client(client)
                .is_some_and(|row| row.client.marks.known)
        };
        let tree = Tree::new(cluster, measure, (&self.counts, &self.ranks), known);
        let mut places: Vec<Place> = tree
            .standings()
            .into_iter()
            .map(|standing| Place {
                role: standing.role,
                client: standing.client,
                active: cluster
                    .client(standing.client)
                    .is_some_and(|row| row.client.marks.active && !row.client.marks.suppressed),
                share_micro: standing.share_micro,
                count: standing.count,
            })
            .collect();
        self.mark_active_roles(&mut places);
        places
    }

    fn carry(&self, cluster: &Cluster) -> Vec<Section> {
        vec![carry::write(cluster, &self.counts)]
    }

    fn adopt(&mut self, cluster: &Cluster, sections: &[Section]) -> Result<Vec<String>, String> {
        self.ranks.refresh(cluster);
        carry::read(cluster, &mut self.counts, sections)
    }
}

impl DominantShare {
    /// A role takes part if somebody in or below it does.
    fn mark_active_roles(&self, places: &mut [Place]) {
        let mut active: Vec<u32> = places
            .iter()
            .filter(|place| place.active)
            .flat_map(|place| self.ranks.way_up(place.role))
            .collect();
        active.sort_unstable();
        for place in places.iter_mut().filter(|place| place.client == NONE) {
            place.active = active.binary_search(&place.role).is_ok();
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
    fn serve_guarantees(&mut self, draft: &mut Draft<'_>, tree: &mut Tree, leaves: &mut Vec<u32>) {
        self.late.clear();
        tree.sort(leaves);
        for &leaf in leaves.iter() {
            let client = tree.client(leaf);
            if draft.is_exhausted() {
                break;
            }
            if draft.lacks(client) && draft.serve_guarantee(client).is_ok() {
                tree.charge(leaf, draft.gained(), true);
                self.late.push(leaf);
            }
        }
        // From the back, so that those behind each are in order already.
        for leaf in self.late.iter().rev() {
            tree.settle(*leaf);
        }
        if !self.late.is_empty() {
            leaves.retain(|&leaf| draft.lacks(tree.client(leaf)));
        }
    }

    /// Gives out one agent. Whole rests are handed out in the order at the beginning of the visit,
    /// as Mesos does; units move their client to its new place at once, so that turns alternate.
    fn serve_agent(&mut self, draft: &mut Draft<'_>, tree: &mut Tree) {
        self.number += 1;
        self.served.clear();
        self.late.clear();
        while !draft.is_exhausted()
            && let Some(leaf) = tree.first(self.number)
        {
            let client = tree.client(leaf);
            // Whoever is alone needs no turns.
            let units = if tree.leaves() == 1 { u32::MAX } else { 0 };
            match draft.serve(client, units) {
                Ok(granted) => {
                    let first = !self.served.contains(&leaf);
                    tree.charge(leaf, draft.gained(), first);
                    if first {
                        self.served.push(leaf);
                    }
                    if granted == Served::Whole {
                        tree.pass_over(leaf, self.number);
                        self.late.push(leaf);
                    } else {
                        tree.settle(leaf);
                    }
                    if draft.wants(client).is_err() {
                        tree.remove(leaf);
                    }
                }
                Err(verdict) => {
                    tree.pass_over(leaf, self.number);
                    // A gang that does not fit is out of the cycle.
                    if verdict == Verdict::GangShort && draft.wants(client).is_err() {
                        tree.remove(leaf);
                    }
                }
            }
        }
        // From the back, so that those behind each are in order already.
        for leaf in self.late.iter().rev() {
            tree.settle(*leaf);
        }
    }
}

/// With how often each row's client was served in it.
fn with_times(rows: Vec<(u32, u32)>, times: &[u32]) -> Vec<Proposed> {
    rows.into_iter()
        .zip(times)
        .map(|((agent, client), &times)| Proposed {
            agent,
            client,
            times: if client == NONE { 0 } else { times },
        })
        .collect()
}

/// By row of the proposal: the agent, and the client if it is its first row on that agent, [`NONE`] otherwise, for
/// several demands met on one agent are one allocation.
fn first_rows(grants: &Grants) -> Vec<(u32, u32)> {
    let mut seen: Vec<u32> = Vec::new();
    let mut agent_at_hand = NONE;
    let rows = grants.agent.iter().zip(&grants.client);
    rows.map(|(&agent, &client)| {
        // Rows of one agent stand together but for gangs, whose members count one by one.
        if agent != agent_at_hand {
            seen.clear();
            agent_at_hand = agent;
        }
        if seen.contains(&client) {
            return (agent, NONE);
        }
        seen.push(client);
        (agent, client)
    })
    .collect()
}
