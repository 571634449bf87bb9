//! Whose turn it is: the order of roles and frameworks that policies share which differ in where
//! they place, not in whom they serve.
//!
//! The order is Mesos's: shares over weights in a tree of roles, then the number of allocations so
//! far, then the path. What was proposed counts as allocated unless it comes back as rejected.

mod carry;
mod counts;
mod share;
mod tree;
mod visit;

use proffer_model::policy::{Changes, ChangesPart, Grants, NONE, Place, Section};

use crate::cluster::Cluster;
use crate::decision::Setting;
use crate::draft::Draft;

use counts::{Counts, Ranks};
use share::Measure;
pub use share::compare_fractions;
pub(crate) use tree::Queue;
pub(crate) use visit::give_out;

/// The setting that says which kinds count in no share.
pub(crate) const FAIR_EXCLUDE: &str = "fair-exclude";

/// The fair order, kept over cycles.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
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

/// Takes the kinds that are to count in no share out of the settings.
///
/// # Errors
/// The setting is no list.
pub(crate) fn take_excluded(settings: &mut Vec<(String, Setting)>) -> Result<Vec<String>, String> {
    let Some(position) = settings.iter().position(|(name, _)| name == FAIR_EXCLUDE) else {
        return Ok(Vec::new());
    };
    match settings.remove(position).1 {
        Setting::List(list) => Ok(list),
        Setting::Text(_) | Setting::Flag(_) => {
            Err("the setting 'fair-exclude' is a list of kinds, as in [\"gpus\"]".to_owned())
        }
    }
}

impl Turns {
    /// Kinds that count in no share.
    pub(crate) fn exclude(&mut self, excluded: Vec<String>) {
        self.excluded = excluded;
    }

    /// Priorities of roles among their siblings, by name: before all shares, highest first; 0 for
    /// those that are not named.
    pub(crate) fn set_priorities(&mut self, priorities: Vec<(String, i64)>) {
        self.ranks.set_priorities(priorities);
    }

    /// Whether a role's clients come before another's whatever they hold: where their ways down the
    /// tree part, its side has the higher priority.
    pub(crate) fn outranks(&self, role: u32, other: u32) -> bool {
        self.ranks.outranks(role, other)
    }

    /// A role and those around it, from within.
    pub(crate) fn way_up(&self, role: u32) -> impl Iterator<Item = u32> {
        self.ranks.way_up(role)
    }

    /// The cluster has changed.
    pub(crate) fn changed(&mut self, cluster: &Cluster, changes: &Changes) {
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

    /// Who wants something in this cycle, in order.
    pub(crate) fn queue(&self, draft: &Draft<'_>) -> Queue {
        self.queue_of(draft, |_| true)
    }

    /// The same of some clients; what the others hold counts for their roles all the same.
    pub(crate) fn queue_of(&self, draft: &Draft<'_>, of: impl Fn(u32) -> bool) -> Queue {
        let cluster = draft.cluster();
        let measure = Measure::new(cluster, &self.excluded);
        Queue::new(cluster, measure, (&self.counts, &self.ranks), |client| {
            of(client) && draft.wants(client).is_ok()
        })
    }

    /// Who still wants something, in order.
    pub(crate) fn clients_in_order(&self, draft: &Draft<'_>) -> Vec<u32> {
        let queue = self.queue(draft);
        let mut leaves = queue.leaves_where(|_| true);
        queue.sort(&mut leaves);
        leaves.into_iter().map(|leaf| queue.client(leaf)).collect()
    }

    /// Remembers what was granted. Ends the visit of the agent at hand.
    pub(crate) fn note_proposed(&mut self, draft: &mut Draft<'_>) {
        let rows = first_rows(draft.rows());
        self.proposed = with_times(rows, draft.times());
    }

    /// Roles and clients in order, for people.
    pub(crate) fn places(&self, cluster: &Cluster) -> Vec<Place> {
        let measure = Measure::new(cluster, &self.excluded);
        let known = |client: u32| {
            cluster
                .client(client)
                .is_some_and(|row| row.client.marks.known)
        };
        let mut queue = Queue::new(cluster, measure, (&self.counts, &self.ranks), known);
        let mut places: Vec<Place> = queue
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

    /// What a successor can start from.
    pub(crate) fn carry(&self, cluster: &Cluster) -> Vec<Section> {
        vec![carry::write(cluster, &self.counts)]
    }

    /// A predecessor's memory.
    ///
    /// # Errors
    /// Nothing could be used.
    pub(crate) fn adopt(
        &mut self,
        cluster: &Cluster,
        sections: &[Section],
    ) -> Result<Vec<String>, String> {
        self.ranks.refresh(cluster);
        carry::read(cluster, &mut self.counts, sections)
    }

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
