//! Strict priority: a role's clients come before those of its siblings with lower priority whatever
//! they hold, and what they still lack would be taken back from those.
//!
//! Setting `priorities`, a list of `ROLE:NUMBER`; a role that is not named has 0. Numbers compare
//! siblings, as weights do, and equals share fairly. Reclaims are proposed for what the cycle could
//! not grant: of lower roles only, what may be taken back at any time first, never what a guarantee
//! covers, and of a framework the tasks that it gave the lowest priority, of those the newest. Gangs and
//! whole agents are not reclaimed for.

use std::collections::BTreeMap;

use proffer_model::policy::{Changes, NONE, Noun, Reclaim};
use proffer_model::{Duration, Timestamp};

use super::{Placement, take_list};
use crate::cluster::Cluster;
use crate::decision::Setting;
use crate::draft::Draft;
use crate::turns::{Turns, give_out};

const PRIORITIES: &str = "priorities";
const EXAMPLE: &str = r#"["prod:100", "batch:-10"]"#;
/// Reclaims of one cycle: taking back is slow, and what comes free by itself meanwhile needs none.
const RECLAIMS_MAX: usize = 64;
/// Agents that are looked at for one unit: enough to find a cheap one in a large pool.
const AGENTS_MAX: usize = 1_000;
/// How much time whoever is taken from has; and so long a demand's reclaims count as on their way.
const NOTICE: Duration = Duration(30_000);

/// Strict priority between roles.
#[derive(Clone, Debug, Default)]
pub struct StrictPriority {
    set: bool,
    /// By demand: how many units are on their way, and until when that is believed.
    asked: BTreeMap<u32, (u32, Timestamp)>,
    /// Of which [`Cluster::generation`].
    generation: u64,
}

impl Placement for StrictPriority {
    const SETTINGS: &'static [&'static str] = &[PRIORITIES];

    fn configure(
        &mut self,
        mut settings: Vec<(String, Setting)>,
        turns: &mut Turns,
    ) -> Result<(), String> {
        let texts = take_list(&mut settings, PRIORITIES, EXAMPLE)?;
        let mut priorities: Vec<(String, i64)> = Vec::new();
        for text in &texts {
            let (role, priority) = read_priority(text)?;
            if priorities.iter().any(|(other, _)| *other == role) {
                return Err(format!(
                    "the setting '{PRIORITIES}' names '{}' twice",
                    role.escape_debug()
                ));
            }
            priorities.push((role, priority));
        }
        self.set = !priorities.is_empty();
        turns.set_priorities(priorities);
        Ok(())
    }

    /// To say whom it would end.
    fn wants_tasks(&self) -> bool {
        self.set
    }

    fn changed(&mut self, cluster: &Cluster, changes: &Changes, _: &Turns) {
        if self.generation != cluster.generation() {
            self.generation = cluster.generation();
            self.asked.clear();
        }
        let gone = changes.removed.iter();
        for gone in gone.filter(|gone| gone.what == Noun::Demand) {
            self.asked.remove(&gone.handle);
        }
    }

    fn place(&mut self, draft: &mut Draft<'_>, turns: &Turns) {
        let mut queue = [turns.queue(draft)];
        give_out(draft, &mut queue, |_| {}, |_| 0);
        if self.set && draft.honours_demand() {
            self.reclaim(draft, turns);
        }
    }
}

impl StrictPriority {
    /// Says from whom would be taken back what is still wanted, for the first in order first.
    fn reclaim(&mut self, draft: &mut Draft<'_>, turns: &Turns) {
        draft.leave();
        let cluster = draft.cluster();
        // One unit per agent and cycle: what it took there is not in the cluster yet.
        let mut used = vec![false; cluster.agents_bound()];
        let mut reclaims = 0;
        for client in turns.clients_in_order(draft) {
            let Some(row) = cluster.client(client) else {
                continue;
            };
            for &demand in row.demands() {
                let wanted = cluster.demand(demand).filter(|demand| demand.gang <= 1);
                if wanted.is_none_or(|demand| demand.pieces.is_empty()) {
                    continue;
                }
                let mut left = self.not_asked(draft, demand);
                while left > 0 && reclaims < RECLAIMS_MAX {
                    let Some(found) = cheapest(draft, turns, (client, demand), &used) else {
                        break;
                    };
                    if let Some(used) = used.get_mut(found[0].agent as usize) {
                        *used = true;
                    }
                    reclaims += found.len();
                    draft.propose_reclaims(demand, found);
                    self.note_asked(draft.now(), demand);
                    left -= 1;
                }
            }
        }
    }

    /// Units of a demand that are neither granted nor on their way.
    fn not_asked(&self, draft: &Draft<'_>, demand: u32) -> u32 {
        let left = draft.left_of(demand);
        match self.asked.get(&demand) {
            Some(&(units, until)) if draft.now() < until => left.saturating_sub(units),
            _ => left,
        }
    }

    fn note_asked(&mut self, now: Timestamp, demand: u32) {
        let asked = self.asked.entry(demand).or_default();
        let units = if now < asked.1 { asked.0 } else { 0 };
        *asked = (units.saturating_add(1), now + NOTICE);
    }
}

/// What would be taken back for one unit: where only revocable resources go if there is such an
/// agent, else from the fewest clients; never nothing.
fn cheapest(
    draft: &Draft<'_>,
    turns: &Turns,
    (client, demand): (u32, u32),
    used: &[bool],
) -> Option<Vec<Reclaim>> {
    let cluster = draft.cluster();
    let role = |client: u32| cluster.client(client).map_or(NONE, |row| row.client.role);
    let own = role(client);
    let revocable = |terms: u32| {
        let terms = cluster.terms(terms);
        terms.is_some_and(|terms| terms.marks.revocable)
    };
    let mut best: Option<((bool, usize), Vec<Reclaim>)> = None;
    let unused = |agent: &&u32| !used.get(**agent as usize).copied().unwrap_or(true);
    for &agent in draft.all_agents().iter().filter(unused).take(AGENTS_MAX) {
        let lower = |other: u32| turns.outranks(own, role(other));
        let Some(found) = draft.reclaims_for((client, demand), agent, lower) else {
            continue;
        };
        if found.is_empty() {
            continue;
        }
        let pieces = found.iter().flat_map(|reclaim| &reclaim.pieces);
        let harm = pieces.clone().any(|piece| !revocable(piece.terms));
        let cost = (harm, found.len());
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, found));
        }
        if cost == (false, 1) {
            break;
        }
    }
    let name = cluster.role(own).map_or("", |role| &role.name);
    let told = |reclaim: Reclaim| {
        let from = cluster
            .role(role(reclaim.client))
            .map_or("", |role| &role.name);
        let pieces = reclaim.pieces.iter();
        let wanted = pieces.map(|piece| (piece.terms, piece.kind, piece.amount.milli()));
        Reclaim {
            tasks: cluster.tasks_to_end((reclaim.agent, reclaim.client), wanted),
            notice: NOTICE,
            why: format!("{name} has priority over {from}"),
            ..reclaim
        }
    };
    best.map(|(_, found)| found.into_iter().map(told).collect())
}

fn read_priority(text: &str) -> Result<(String, i64), String> {
    let read = text.rsplit_once(':').and_then(|(role, number)| {
        let number: i64 = number.trim().parse().ok()?;
        let role = role.trim();
        (!role.is_empty()).then(|| (role.to_owned(), number))
    });
    read.ok_or_else(|| {
        format!(
            "the setting '{PRIORITIES}': '{}': wanted ROLE:NUMBER, as in {EXAMPLE}",
            text.escape_debug()
        )
    })
}
