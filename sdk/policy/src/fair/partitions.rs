//! Fixed partitions: what clusters were before they were shared, as the baseline of comparisons.
//!
//! Setting `partitions`, a list: `ROLE:PARTS` gives a role that many parts of the agents, and
//! `ROLE=PREFIX` the agents whose names begin so. Agents that no prefix names are dealt by parts in
//! the order of their names, so that each partition has a mixture, and a machine added behind the
//! others moves none of them. Without the setting top-level roles with frameworks have parts by
//! their weights. A role below another that has a partition uses that one's.

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_model::policy::Changes;

use super::{Placement, take_list};
use crate::cluster::Cluster;
use crate::decision::Setting;
use crate::draft::{Draft, Fence};
use crate::turns::{Queue, Turns, give_out};

const PARTITIONS: &str = "partitions";
const EXAMPLE: &str = r#"["prod:3", "batch:1", "gpu=rack7-"]"#;
/// More parts than that of one role are a mistake; and sums of them stay small.
const PARTS_MAX: i64 = 1_000_000;

/// Each agent is one role's.
#[derive(Clone, Debug, Default)]
pub struct Partitioned {
    rules: Vec<Rule>,
    /// The rules are newer than the fence.
    stale: bool,
    fence: Arc<Fence>,
}

/// An entry of the setting.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    role: String,
    agents: Agents,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Agents {
    Parts(i64),
    Prefix(String),
}

impl Placement for Partitioned {
    const SETTINGS: &'static [&'static str] = &[PARTITIONS];

    fn configure(
        &mut self,
        mut settings: Vec<(String, Setting)>,
        _: &mut Turns,
    ) -> Result<(), String> {
        let texts = take_list(&mut settings, PARTITIONS, EXAMPLE)?;
        let rules = texts.iter().map(|text| read_rule(text));
        self.rules = rules.collect::<Result<_, _>>()?;
        self.stale = true;
        Ok(())
    }

    fn changed(&mut self, cluster: &Cluster, changes: &Changes, turns: &Turns) {
        let moved = self.stale
            || !changes.agents.is_empty()
            || !changes.roles.is_empty()
            || !changes.clients.is_empty()
            || !changes.removed.is_empty();
        if moved {
            self.stale = false;
            self.fence = Arc::new(self.partition(cluster, turns));
        }
    }

    fn fence(&self) -> Option<Arc<Fence>> {
        Some(Arc::clone(&self.fence))
    }

    fn place(&mut self, draft: &mut Draft<'_>, turns: &Turns) {
        // A queue for each partition: nobody else can use its agents.
        let mut parts: Vec<u32> = (draft.cluster().clients())
            .filter_map(|row| self.fence.part_of_client(row.client.handle))
            .collect();
        parts.sort_unstable();
        parts.dedup();
        let queue = |&part: &u32| {
            turns.queue_of(draft, |client| {
                self.fence.part_of_client(client) == Some(part)
            })
        };
        let mut queues: Vec<Queue> = parts.iter().map(queue).collect();
        let queue_at = |agent: u32| {
            let part = self.fence.part_of_agent(agent);
            let place = part.and_then(|part| parts.binary_search(&part).ok());
            place.unwrap_or(usize::MAX)
        };
        give_out(draft, &mut queues, |_| {}, queue_at);
    }
}

impl Partitioned {
    fn partition(&self, cluster: &Cluster, turns: &Turns) -> Fence {
        let roles: BTreeMap<&str, u32> = cluster
            .roles()
            .map(|role| (role.name.as_str(), role.handle))
            .collect();
        let parts = self.parts(cluster, turns, &roles);
        let mut agents: Vec<(&str, u32)> = cluster
            .agents()
            .map(|row| (row.agent.name.as_str(), row.agent.handle))
            .collect();
        agents.sort_unstable();
        let mut part_of_agent = vec![None; cluster.agents_bound()];
        let mut dealer = Dealer::new(parts);
        for (name, agent) in agents {
            let part = match self.named(name) {
                Some(role) => roles.get(role).copied(),
                None => dealer.deal(),
            };
            part_of_agent[agent as usize] = part;
        }
        let mut part_of_client = vec![None; cluster.clients_bound()];
        for row in cluster.clients() {
            let mut way = turns.way_up(row.client.role);
            part_of_client[row.client.handle as usize] = match self.rules.is_empty() {
                true => way.last(),
                false => way.find(|&role| {
                    let name = cluster.role(role).map_or("", |role| &role.name);
                    self.rules.iter().any(|rule| rule.role == name)
                }),
            };
        }
        Fence::new(part_of_agent, part_of_client)
    }

    /// Roles and their parts, by name.
    fn parts(
        &self,
        cluster: &Cluster,
        turns: &Turns,
        roles: &BTreeMap<&str, u32>,
    ) -> Vec<(u32, i64)> {
        let mut parts: BTreeMap<&str, (u32, i64)> = BTreeMap::new();
        if self.rules.is_empty() {
            let known = cluster.clients().filter(|row| row.client.marks.known);
            let top = known.filter_map(|row| turns.way_up(row.client.role).last());
            for role in top.filter_map(|role| cluster.role(role)) {
                let weight = role.weight.milli().clamp(1, PARTS_MAX);
                parts.insert(&role.name, (role.handle, weight));
            }
        }
        for rule in &self.rules {
            if let (Agents::Parts(count), Some(&role)) =
                (&rule.agents, roles.get(rule.role.as_str()))
            {
                parts.insert(&rule.role, (role, *count));
            }
        }
        parts.into_values().collect()
    }

    /// The role whose prefix an agent's name begins with.
    fn named(&self, name: &str) -> Option<&str> {
        let rule = self.rules.iter().find(|rule| match &rule.agents {
            Agents::Prefix(prefix) => name.starts_with(prefix),
            Agents::Parts(_) => false,
        });
        rule.map(|rule| rule.role.as_str())
    }
}

/// Deals agents to roles in a smooth rotation: each has its part of any stretch of them.
struct Dealer {
    parts: Vec<(u32, i64)>,
    credit: Vec<i64>,
}

impl Dealer {
    fn new(parts: Vec<(u32, i64)>) -> Self {
        Self {
            credit: vec![0; parts.len()],
            parts,
        }
    }

    fn deal(&mut self) -> Option<u32> {
        let whole: i64 = self.parts.iter().map(|(_, count)| count).sum();
        for (credit, (_, count)) in self.credit.iter_mut().zip(&self.parts) {
            *credit += count;
        }
        // Of equals the first.
        let richest = (0..self.credit.len())
            .rev()
            .max_by_key(|&at| self.credit[at])?;
        self.credit[richest] -= whole;
        self.parts.get(richest).map(|(role, _)| *role)
    }
}

fn read_rule(text: &str) -> Result<Rule, String> {
    let wrong = |why: String| {
        format!(
            "the setting '{PARTITIONS}': '{}': {why}",
            text.escape_debug()
        )
    };
    let (role, agents) = match (text.split_once('='), text.rsplit_once(':')) {
        (Some((role, prefix)), _) => (role, Agents::Prefix(prefix.to_owned())),
        (None, Some((role, parts))) => {
            let parts: i64 = parts
                .trim()
                .parse()
                .ok()
                .filter(|parts| (1..=PARTS_MAX).contains(parts))
                .ok_or_else(|| wrong(format!("wanted 1 to {PARTS_MAX} parts after the ':'")))?;
            (role, Agents::Parts(parts))
        }
        (None, None) => {
            return Err(wrong(
                "wanted ROLE:PARTS, or ROLE=PREFIX of agents' names".to_owned(),
            ));
        }
    };
    let role = role.trim();
    let empty = matches!(&agents, Agents::Prefix(prefix) if prefix.is_empty());
    if role.is_empty() || empty {
        return Err(wrong("wanted a role, and agents for it".to_owned()));
    }
    Ok(Rule {
        role: role.to_owned(),
        agents,
    })
}
