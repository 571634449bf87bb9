//! What the policy has not been told yet, and how it is told: absolute values, in columns.

use std::collections::{BTreeMap, BTreeSet};

use proffer_codec::codec_struct;
use proffer_model::policy::{self, Changes, ChangesPart, Feeds, Noun, Rejected, Removed};
use proffer_model::{AgentId, Amount, FrameworkId, Resources};

mod cells;
mod clients;
mod rows;
mod tasks;

pub(crate) use cells::Known;
use cells::{DirtyCell, DirtyCells};
use tasks::{TASKS_PER_PART, TaskFeed};

use crate::account::Account;
use crate::framework::StandingDemand;
use crate::handles::ClientId;
use crate::machine::Core;

/// Rows of one part of a snapshot; the contract bounds a part to 4 MiB, a cell row is 44 bytes.
const SNAPSHOT_AGENTS_PER_PART: usize = 4_096;

/// Removals that wait to be told. While nobody wants anything no cycle takes them, so past this the
/// policy gets a snapshot instead, which needs none.
const REMOVED_MAX: usize = 65_536;

/// Handles of things that come and go: given again, lowest first, so that what is kept by handle is as
/// large as what stands and not as all that ever did.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    given: u32,
    free: BTreeSet<u32>,
}

codec_struct!(Handles { given, free });

impl Handles {
    fn next(&mut self) -> u32 {
        if let Some(handle) = self.free.pop_first() {
            return handle;
        }
        let handle = self.given;
        self.given = self.given.saturating_add(1);
        handle
    }

    /// Nobody knows it any more.
    fn give_back(&mut self, handle: u32) {
        self.free.insert(handle);
    }
}

/// Everything that changed since the policy's last apply.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// Counts applies: a filter remembers in which it was made, so that a grant that is wrong only
    /// now can be told from one that was wrong by what the policy knew. For everything else the
    /// sets below say what has changed since.
    pub(crate) generation: u64,
    pub(crate) agents: BTreeSet<AgentId>,
    pub(crate) roles: BTreeSet<u32>,
    pub(crate) clients: BTreeSet<ClientId>,
    pub(crate) cells: DirtyCells,
    pub(crate) demands: BTreeSet<u32>,
    pub(crate) masks_dirty: BTreeSet<u32>,
    /// Agents whose places in the masks of the other demands are to be told.
    mask_agents: BTreeSet<AgentId>,
    /// Agents on which somebody's holding changed, by id: which of their items are free has changed too.
    changed_agents: Vec<AgentId>,
    pub(crate) filters: BTreeSet<u32>,
    pub(crate) removed: Vec<Removed>,
    pub(crate) rejected: Vec<Rejected>,
    /// Whose demand a handle is.
    pub(crate) demand_owners: BTreeMap<u32, (FrameworkId, String)>,
    /// Demands of active frameworks with units that are not on offer.
    pub(crate) wanting: BTreeSet<u32>,
    /// Clients whose constraints are to be told anew, and all that have any.
    client_masks: BTreeSet<ClientId>,
    constrained: BTreeSet<ClientId>,
    /// Demands that not every agent will do for.
    pub(crate) masked: BTreeSet<u32>,
    demands_given: Handles,
    tasks: TaskFeed,
    kinds_told: u32,
    terms_told: u32,
    roles_told: u32,
    /// Free resources as the policy last saw them, where they have changed since.
    seen_free: BTreeMap<AgentId, Resources>,
    /// What clients held that may be neither theirs nor the agent's any more.
    vanishing: BTreeMap<(AgentId, ClientId), Resources>,
    /// Totals that are to be stated as gone.
    retotalled: BTreeMap<AgentId, Resources>,
}

codec_struct!(Feed {
    generation,
    agents,
    roles,
    clients,
    cells,
    demands,
    masks_dirty,
    client_masks,
    constrained,
    mask_agents,
    changed_agents,
    filters,
    removed,
    rejected,
    demand_owners,
    wanting,
    masked,
    demands_given,
    tasks,
    kinds_told,
    terms_told,
    roles_told,
    seen_free,
    vanishing,
    retotalled
});

impl Feed {
    pub(crate) fn next_demand_handle(&mut self) -> u32 {
        self.demands_given.next()
    }

    /// Remembers what was free before the first change since the last apply.
    pub(crate) fn note_free(&mut self, agent: AgentId, free: &Resources) {
        self.seen_free.entry(agent).or_insert_with(|| free.clone());
    }

    pub(crate) fn retotal(&mut self, agent: AgentId, before: &Resources) {
        self.agents.insert(agent);
        self.retotalled
            .entry(agent)
            .or_insert_with(|| before.clone());
    }

    pub(crate) fn client_changed(&mut self, client: ClientId) {
        self.clients.insert(client);
    }

    /// Changes what a client holds on an agent, remembering what the policy was told of it.
    pub(crate) fn change<T>(
        &mut self,
        (agent, client): (AgentId, ClientId),
        account: &mut Account,
        change: impl FnOnce(&mut Account) -> T,
    ) -> T {
        let Some(held) = account.held_by(client) else {
            self.cells.add(agent, client, Known::Nothing);
            let done = change(account);
            account.note_since(client, self.generation);
            return done;
        };
        if !held.is_new_in(self.generation) {
            self.cells.add(agent, client, Known::Something);
        }
        if !account.deficit().is_empty() {
            // Some of it may be in no total when it comes back, and is to be told as gone.
            let held = held.offered.plus(&held.used);
            self.note_vanishing((agent, client), &held);
        }
        change(account)
    }

    /// Something that a client holds may be in no total when its cells are told next.
    pub(crate) fn note_vanishing(&mut self, cell: (AgentId, ClientId), held: &Resources) {
        self.vanishing.entry(cell).or_default().add(held);
    }

    /// Where a client may be has changed.
    pub(crate) fn masks_changed(&mut self, client: ClientId) {
        self.client_masks.insert(client);
        self.constrained.insert(client);
    }

    pub(crate) fn forget_agent(&mut self, agent: AgentId) {
        self.agents.remove(&agent);
        self.seen_free.remove(&agent);
        self.retotalled.remove(&agent);
        self.changed_agents.retain(|other| *other != agent);
        self.mask_agents.remove(&agent);
        self.cells.all.retain(|cell| cell.agent != agent);
        self.vanishing.retain(|(other, _), _| *other != agent);
        self.forget(Noun::Agent, agent.0);
    }

    /// What was free at the last apply, where it has changed since.
    pub(crate) fn seen_free_of(&self, agent: AgentId) -> Option<&Resources> {
        self.seen_free.get(&agent)
    }

    /// All of it, for who judges two proposals by it.
    pub(crate) fn seen_free_all(&self) -> BTreeMap<AgentId, Resources> {
        self.seen_free.clone()
    }

    /// As the policies saw it, whatever a proposal that was judged meanwhile has taken.
    pub(crate) fn see_as_before(&mut self, mut seen: BTreeMap<AgentId, Resources>) {
        for (agent, free) in std::mem::take(&mut self.seen_free) {
            seen.entry(agent).or_insert(free);
        }
        self.seen_free = seen;
    }

    pub(crate) fn take_seen_free(&mut self) -> BTreeMap<AgentId, Resources> {
        std::mem::take(&mut self.seen_free)
    }

    pub(crate) fn forget_client(&mut self, client: ClientId) {
        self.clients.remove(&client);
        self.client_masks.remove(&client);
        self.constrained.remove(&client);
        self.forget(Noun::Client, client.0);
        self.cells.all.retain(|cell| cell.client != client);
        self.vanishing.retain(|(_, owner), _| *owner != client);
    }

    pub(crate) fn forget_demand(&mut self, handle: u32) {
        self.demands.remove(&handle);
        self.wanting.remove(&handle);
        self.masks_dirty.remove(&handle);
        self.masked.remove(&handle);
        self.demand_owners.remove(&handle);
        self.forget(Noun::Demand, handle);
    }

    /// Something is to be told as gone.
    pub(crate) fn forget(&mut self, what: Noun, handle: u32) {
        self.removed.push(Removed { what, handle });
    }

    /// Whether so much waits to be told as gone that a snapshot is cheaper.
    pub(crate) fn is_overfull(&self) -> bool {
        self.removed.len() > REMOVED_MAX
    }

    /// What is to be told as gone; it counts as told, so the handles of demands and tasks are free again.
    pub(crate) fn take_removed(&mut self) -> Vec<Removed> {
        let removed = std::mem::take(&mut self.removed);
        for gone in &removed {
            match gone.what {
                Noun::Demand => self.demands_given.give_back(gone.handle),
                Noun::Task => self.tasks.give_back(gone.handle),
                _ => {}
            }
        }
        removed
    }
}

impl Core {
    /// All that changed, for a policy that has seen the rest.
    pub(crate) fn take_delta(&mut self, feeds: Feeds) -> Vec<Changes> {
        let mut changes = Changes {
            part: ChangesPart::Delta,
            ..Changes::default()
        };
        self.put_all(&mut changes, feeds);
        let mut parts = vec![changes];
        if feeds.tasks {
            parts.extend(self.task_parts(ChangesPart::Delta, 0));
        }
        parts
    }

    /// Everything, for a new instance.
    pub(crate) fn take_snapshot(&mut self, feeds: Feeds) -> Vec<Changes> {
        self.feed.kinds_told = 0;
        self.feed.terms_told = 0;
        self.feed.roles_told = 0;
        // What is gone is not in the snapshot: that tells it.
        self.feed.take_removed();
        self.feed.rejected.clear();
        self.feed.retotalled.clear();
        self.feed.vanishing.clear();
        self.feed.clients = self.handles.clients().map(|(client, _)| client).collect();
        self.feed.demands = self.feed.demand_owners.keys().copied().collect();
        self.feed.masks_dirty = self.feed.demands.clone();
        self.feed.client_masks = self.feed.constrained.clone();
        self.feed.filters = self.filters.all().map(|filter| filter.handle).collect();
        let many_tasks = feeds.tasks && self.all_tasks_are_new();
        let agents: Vec<AgentId> = self.agents.keys().copied().collect();
        let mut parts = Vec::new();
        let mut chunks = agents.chunks(SNAPSHOT_AGENTS_PER_PART).peekable();
        while let Some(chunk) = chunks.next() {
            self.feed.agents = chunk.iter().copied().collect();
            self.feed.cells.all = chunk
                .iter()
                .filter_map(|id| self.agents.get(id).map(|agent| (id, agent)))
                .flat_map(|(id, agent)| {
                    agent.account.held().map(|(client, _)| DirtyCell {
                        agent: *id,
                        client,
                        known: Known::Nothing,
                    })
                })
                .collect();
            if chunks.peek().is_some() || many_tasks {
                let mut changes = Changes {
                    part: ChangesPart::Snapshot,
                    ..Changes::default()
                };
                self.put_agents(&mut changes);
                self.put_clients(&mut changes);
                self.put_cells(&mut changes);
                self.put_names(&mut changes);
                parts.push(changes);
            }
        }
        if many_tasks {
            // Whose they are and where is told by now.
            parts.extend(self.task_parts(ChangesPart::Snapshot, TASKS_PER_PART));
        }
        let mut last = Changes {
            part: ChangesPart::SnapshotLast,
            ..Changes::default()
        };
        self.put_all(&mut last, feeds);
        parts.push(last);
        parts
    }

    fn put_all(&mut self, changes: &mut Changes, feeds: Feeds) {
        self.forget_unwanted_tasks();
        changes.removed = self.feed.take_removed();
        if self.feed.tasks.is_fed() && !feeds.tasks {
            changes.removed.retain(|gone| gone.what != Noun::Task);
        }
        changes.rejected = std::mem::take(&mut self.feed.rejected);
        self.put_agents(changes);
        self.put_clients(changes);
        self.put_cells(changes);
        self.put_client_masks(changes);
        if feeds.demands {
            self.put_demands(changes);
        }
        if feeds.filters {
            self.put_filters(changes);
        }
        if feeds.tasks {
            self.put_tasks(changes);
        }
        self.feed.changed_agents.clear();
        self.feed.demands.clear();
        self.feed.masks_dirty.clear();
        self.feed.mask_agents.clear();
        self.feed.filters.clear();
        // Names last: the rows above may have met new kinds and terms. The reader applies kinds first.
        self.put_names(changes);
        self.feed.seen_free.clear();
        self.feed.generation += 1;
    }

    fn put_names(&mut self, changes: &mut Changes) {
        for handle in self.feed.terms_told..self.handles.terms.len() {
            let Some(terms) = self.handles.terms.get(handle).cloned() else {
                continue;
            };
            let reserved = terms
                .reserved
                .iter()
                .map(|role| self.handles.roles.handle(role))
                .collect();
            changes.terms.push(policy::Terms {
                handle,
                reserved,
                marks: policy::TermsMarks {
                    dynamic: terms.marks.dynamic,
                    revocable: terms.marks.revocable,
                    volume: !terms.volume.is_empty(),
                    shared: terms.marks.shared,
                    indivisible: terms.marks.indivisible,
                },
            });
        }
        self.feed.terms_told = self.handles.terms.len();
        let mut roles = std::mem::take(&mut self.feed.roles);
        roles.extend(self.feed.roles_told..self.handles.roles.len());
        for handle in roles {
            let mut row = self.handles.role_row(handle);
            row.delegated = self.is_delegated(&row.name);
            changes.roles.push(row);
        }
        self.feed.roles_told = self.handles.roles.len();
        // After all that may have met a new kind; the reader applies kinds first.
        changes.kinds = self.handles.kinds.rows(self.feed.kinds_told);
        self.feed.kinds_told = self.handles.kinds.len();
    }

    fn put_agents(&mut self, changes: &mut Changes) {
        for id in std::mem::take(&mut self.feed.agents) {
            let Some(agent) = self.agents.get(&id) else {
                continue;
            };
            changes.agents.push(self.agent_row(id, agent));
            let total = agent.account.total().clone();
            let mut rows: BTreeMap<(u32, u32), Amount> = BTreeMap::new();
            if let Some(before) = self.feed.retotalled.remove(&id) {
                rows.extend(
                    self.handles
                        .pieces(&before)
                        .into_iter()
                        .map(|p| ((p.terms, p.kind), Amount::ZERO)),
                );
            }
            rows.extend(
                self.handles
                    .pieces(&total)
                    .into_iter()
                    .map(|p| ((p.terms, p.kind), p.amount)),
            );
            for ((terms, kind), total) in rows {
                changes.totals.agent.push(id.0);
                changes.totals.terms.push(terms);
                changes.totals.kind.push(kind);
                changes.totals.total.push(total.milli());
            }
            self.feed.mask_agents.insert(id);
        }
    }

    pub(crate) fn standing_demand(&self, handle: u32) -> Option<&StandingDemand> {
        let (framework, key) = self.feed.demand_owners.get(&handle)?;
        self.frameworks.get(framework)?.demands.get(key)
    }

    fn put_demands(&mut self, changes: &mut Changes) {
        let dirty = std::mem::take(&mut self.feed.masks_dirty);
        let newcomers = std::mem::take(&mut self.feed.mask_agents);
        if !newcomers.is_empty() {
            let near = |handle: &&u32| {
                self.standing_demand(**handle)
                    .is_some_and(|s| !s.demand.near.is_empty())
            };
            self.feed.demands.extend(
                self.feed
                    .demand_owners
                    .keys()
                    .filter(near)
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
        let changed = self.feed.changed_agents.iter().copied();
        let touched: BTreeSet<AgentId> = newcomers.iter().copied().chain(changed).collect();
        for handle in &self.feed.masked {
            let wants_fixed = self
                .standing_demand(*handle)
                .is_some_and(|standing| !standing.demand.shape.fixed_ports.is_empty());
            if dirty.contains(handle) {
                self.put_mask(changes, *handle, self.agents.keys());
            } else if wants_fixed {
                self.put_mask(changes, *handle, touched.iter());
            } else {
                self.put_mask(changes, *handle, newcomers.iter());
            }
        }
        self.feed.demands.extend(dirty);
        for handle in std::mem::take(&mut self.feed.demands) {
            let row = self.demand_row(handle);
            changes.demands.extend(row);
        }
    }

    /// Which of these agents a demand's constraints admit, and have its fixed ports free: a policy
    /// sees how many ports are free, not which.
    fn put_mask<'a>(
        &self,
        changes: &mut Changes,
        handle: u32,
        agents: impl Iterator<Item = &'a AgentId>,
    ) {
        let Some(standing) = self
            .standing_demand(handle)
            .filter(|standing| !is_everywhere(standing))
        else {
            return;
        };
        for id in agents {
            let Some(agent) = self.agents.get(id) else {
                continue;
            };
            changes.masks.mask.push(mask_of(handle));
            changes.masks.agent.push(id.0);
            let fixed = &standing.demand.shape.fixed_ports;
            let has_ports = fixed.is_empty() || agent.account.free().total().ports.contains(fixed);
            let admits = has_ports && standing.constraints.admit(&agent.record.info);
            changes.masks.admits.push(u8::from(admits));
        }
    }

    fn put_filters(&mut self, changes: &mut Changes) {
        for id in &self.feed.changed_agents {
            let on_agent = self.filters.on(*id).map(|filter| filter.handle);
            self.feed.filters.extend(on_agent);
        }
        for handle in std::mem::take(&mut self.feed.filters) {
            let Some(filter) = self.filters.get(handle).cloned() else {
                continue;
            };
            let inside = self.is_inside(&filter);
            self.filters.set_inside(handle, inside);
            self.put_filter(changes, &filter, inside);
        }
    }
}

/// Whether no agent is out of the question for a demand.
pub(crate) fn is_everywhere(standing: &StandingDemand) -> bool {
    standing.constraints.is_empty() && standing.demand.shape.fixed_ports.is_empty()
}

/// Masks belong to demands and clients in turn; mask 0 admits everybody.
fn mask_of(demand: u32) -> u32 {
    demand.saturating_mul(2).saturating_add(1)
}

pub(crate) fn mask_of_client(client: ClientId) -> u32 {
    client.0.saturating_mul(2).saturating_add(2)
}
