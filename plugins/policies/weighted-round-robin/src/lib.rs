//! Weighted round robin: frameworks take turns, as many as their role's weight says.
//!
//! A first policy. It says only whose turn it is. What is free, what was demanded, who may have
//! what, quota, filters, and the answers to *why not* come with [`Modelled`].

use std::collections::{BTreeMap, BTreeSet};

use proffer_sdk::policy::model::policy::{Changes, Place};
use proffer_sdk::policy::{Cluster, Decision, Draft, Modelled};

/// What a turn costs a framework of weight one; thousandths, as weights are.
const TURN: u64 = 1_000_000;

/// How much each client has had: its turns over its weight. Whoever has had least is next.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    had: BTreeMap<u32, u64>,
}

/// The policy.
pub type WeightedRoundRobin = Modelled<RoundRobin>;

impl Decision for RoundRobin {
    fn changed(&mut self, cluster: &Cluster, _: &Changes) {
        self.had
            .retain(|&client, _| cluster.client(client).is_some());
        // Newcomers begin beside those who have had least, or they would have the pool to themselves.
        let least = self.had.values().min().copied().unwrap_or(0);
        for row in cluster.clients() {
            self.had.entry(row.client.handle).or_insert(least);
        }
    }

    fn decide(&mut self, draft: &mut Draft<'_>) {
        let cluster = draft.cluster();
        let waits = |&(client, _): &(&u32, &u64)| draft.wants(*client).is_ok();
        let waiting = self.had.iter().filter(waits);
        let mut queue: BTreeSet<(u64, u32)> =
            waiting.map(|(&client, &had)| (had, client)).collect();
        while !queue.is_empty() && draft.next_agent().is_some() {
            let mut passed = Vec::new();
            while !draft.is_exhausted()
                && let Some((had, client)) = queue.pop_first()
            {
                if draft.serve(client, 0).is_err() {
                    // Nothing for it on this agent; its turn stands.
                    passed.push((had, client));
                    continue;
                }
                let had = had + (TURN / weight(cluster, client)).max(1);
                self.had.insert(client, had);
                if draft.wants(client).is_ok() {
                    queue.insert((had, client));
                }
            }
            queue.extend(passed);
        }
    }

    fn places(&self, cluster: &Cluster) -> Vec<Place> {
        let mut order: Vec<(u64, u32)> = self
            .had
            .iter()
            .map(|(&client, &had)| (had, client))
            .collect();
        order.sort_unstable();
        let place = |(had, client)| {
            let client = &cluster.client(client)?.client;
            Some(Place {
                role: client.role,
                client: client.handle,
                active: client.marks.active && !client.marks.suppressed,
                share_micro: had,
                count: 0,
            })
        };
        order.into_iter().filter_map(place).collect()
    }
}

/// Of the client's role, in thousandths.
fn weight(cluster: &Cluster, client: u32) -> u64 {
    let role = cluster
        .client(client)
        .and_then(|row| cluster.role(row.client.role));
    role.map_or(1_000, |role| role.weight.milli().max(1).unsigned_abs())
}

proffer_sdk::export_policy!(WeightedRoundRobin);
