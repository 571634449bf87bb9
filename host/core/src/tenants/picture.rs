//! What a tenant's policy is shown: the subtree as if it were a pool of its own.
//!
//! Agents are those on which its clients hold something or the subtree was granted something; what
//! they have in all is just that, so that what is free is what was granted. Of other tenants, of the rest
//! of the pool and of terms and kinds that do not occur there is nothing in it. The roles around the
//! subtree come by name, without weights and quotas.

use std::collections::{BTreeMap, BTreeSet};

use proffer_model::policy::{self, Changes, ChangesPart, NONE};
use proffer_model::{AgentId, Amount, OfferId, Ranges, Resources, RoleName};

use super::Told;
use crate::agents::Agent;
use crate::feed::mask_of_client;
use crate::handles::ClientId;
use crate::machine::Core;

/// Kinds that every pool has, and every policy knows.
const KINDS_KNOWN: u32 = 5;

impl Core {
    /// All that the policy of a role is told before it decides about these offers, and its handles.
    pub(super) fn picture_of(
        &mut self,
        role: &RoleName,
        offers: &[(OfferId, AgentId)],
    ) -> (Vec<Changes>, Told) {
        let within = |own: &RoleName| own == role || own.is_strictly_below(role);
        let owners = self.handles.clients();
        let owners = owners.filter(|(_, (_, own))| within(own));
        let clients: BTreeSet<ClientId> = owners.map(|(client, _)| client).collect();
        let mut changes = Changes {
            part: ChangesPart::SnapshotLast,
            ..Changes::default()
        };
        for client in &clients {
            let row = self.client_row(*client);
            changes.clients.extend(row);
        }
        let granted = self.granted_in(offers);
        let agents = self.put_holdings(&mut changes, &clients, &granted);
        self.put_demands_within(&mut changes, &clients, &agents, offers);
        self.put_masks_within(&mut changes, &clients, &granted);
        self.put_filters_within(&mut changes, &clients, &agents);
        self.put_names_within(&mut changes, role);
        let told = Told {
            agents: agents.iter().map(|agent| agent.0).collect(),
            clients: clients.iter().map(|client| client.0).collect(),
            demands: changes
                .demands
                .iter()
                .map(|demand| (demand.handle, demand.client))
                .collect(),
        };
        (vec![changes], told)
    }

    /// What the offers hold of each client's, which is nobody's yet.
    fn granted_in(
        &self,
        offers: &[(OfferId, AgentId)],
    ) -> BTreeMap<(AgentId, ClientId), Resources> {
        let mut granted: BTreeMap<(AgentId, ClientId), Resources> = BTreeMap::new();
        for (id, agent) in offers {
            if let Some(open) = self.offers.get(id) {
                let held = granted.entry((*agent, open.client)).or_default();
                held.add(&open.offer.resources);
            }
        }
        granted
    }

    /// Agents, totals and cells.
    fn put_holdings(
        &mut self,
        changes: &mut Changes,
        clients: &BTreeSet<ClientId>,
        granted: &BTreeMap<(AgentId, ClientId), Resources>,
    ) -> BTreeSet<AgentId> {
        let mut seen = BTreeSet::new();
        let ids: Vec<AgentId> = self.agents.keys().copied().collect();
        for id in ids {
            let Some(agent) = self.agents.get(&id) else {
                continue;
            };
            let held = agent.account.held();
            let held = held.filter(|(client, _)| clients.contains(client));
            let held: Vec<(ClientId, Resources, Resources)> = held
                .map(|(client, held)| (client, held.offered.clone(), held.used.clone()))
                .collect();
            if held.is_empty() {
                continue;
            }
            seen.insert(id);
            let row = self.agent_row(id, agent);
            changes.agents.push(row);
            let mut total: BTreeMap<(u32, u32), Amount> = BTreeMap::new();
            for (client, offered, used) in held {
                let nothing = Resources::none();
                let free = granted.get(&(id, client)).unwrap_or(&nothing);
                let mut rows: BTreeMap<(u32, u32), (i64, i64)> = BTreeMap::new();
                for piece in self.handles.pieces(&offered) {
                    *total.entry((piece.terms, piece.kind)).or_default() += piece.amount;
                    rows.entry((piece.terms, piece.kind)).or_default().0 += piece.amount.milli();
                }
                for piece in self.handles.pieces(free) {
                    rows.entry((piece.terms, piece.kind)).or_default().0 -= piece.amount.milli();
                }
                for piece in self.handles.pieces(&used) {
                    *total.entry((piece.terms, piece.kind)).or_default() += piece.amount;
                    rows.entry((piece.terms, piece.kind)).or_default().1 += piece.amount.milli();
                }
                for ((terms, kind), (offered, used)) in rows {
                    let cells = &mut changes.cells;
                    cells.agent.push(id.0);
                    cells.client.push(client.0);
                    cells.terms.push(terms);
                    cells.kind.push(kind);
                    cells.offered.push(offered);
                    cells.used.push(used);
                    cells.kept.push(0);
                }
            }
            for ((terms, kind), amount) in total {
                changes.totals.agent.push(id.0);
                changes.totals.terms.push(terms);
                changes.totals.kind.push(kind);
                changes.totals.total.push(amount.milli());
            }
        }
        seen
    }

    /// Demands of these clients; what was granted is not on offer to any of them yet.
    fn put_demands_within(
        &mut self,
        changes: &mut Changes,
        clients: &BTreeSet<ClientId>,
        agents: &BTreeSet<AgentId>,
        offers: &[(OfferId, AgentId)],
    ) {
        let mut kept: BTreeMap<(ClientId, String), u32> = BTreeMap::new();
        for (id, _) in offers {
            if let Some(open) = self.offers.get(id) {
                let key = (open.client, open.offer.demand.clone());
                *kept.entry(key).or_default() += open.units;
            }
        }
        let owners = self.feed.demand_owners.iter();
        let owners: Vec<(u32, String)> = owners
            .map(|(handle, (_, key))| (*handle, key.clone()))
            .collect();
        for (handle, key) in owners {
            let Some(mut row) = self.demand_row(handle) else {
                continue;
            };
            if !clients.contains(&ClientId(row.client)) {
                continue;
            }
            let units = kept.get(&(ClientId(row.client), key)).copied();
            row.offered = row.offered.saturating_sub(units.unwrap_or_default());
            row.near
                .retain(|(agent, _)| agents.contains(&AgentId(*agent)));
            changes.demands.push(row);
        }
    }

    fn put_masks_within(
        &self,
        changes: &mut Changes,
        clients: &BTreeSet<ClientId>,
        granted: &BTreeMap<(AgentId, ClientId), Resources>,
    ) {
        // Only where something was granted is there anything to give.
        let mut ports: BTreeMap<AgentId, Ranges> = BTreeMap::new();
        for ((agent, _), what) in granted {
            let own = ports.entry(*agent).or_default();
            *own = own.union(&what.total().ports);
        }
        let mut rows = Vec::new();
        for demand in changes.demands.iter().filter(|demand| demand.mask != 0) {
            let Some(standing) = self.standing_demand(demand.handle) else {
                continue;
            };
            let fixed = &standing.demand.shape.fixed_ports;
            for (id, free) in &ports {
                let admits = |agent: &Agent| standing.constraints.admit(&agent.record.info);
                let agent = self.agents.get(id);
                let admits = agent.is_some_and(|agent| admits(agent)) && free.contains(fixed);
                rows.push((demand.mask, id.0, admits));
            }
        }
        for client in clients {
            let owner = self.handles.owner(*client);
            let constraints = owner.and_then(|(framework, role)| {
                self.frameworks.get(framework)?.constraints.get(role)
            });
            let Some(constraints) = constraints else {
                continue;
            };
            for id in ports.keys() {
                let admits = |agent: &Agent| constraints.admit(&agent.record.info);
                let agent = self.agents.get(id);
                let admits = agent.is_some_and(|agent| admits(agent));
                rows.push((mask_of_client(*client), id.0, admits));
            }
        }
        for (mask, agent, admits) in rows {
            changes.masks.mask.push(mask);
            changes.masks.agent.push(agent);
            changes.masks.admits.push(u8::from(admits));
        }
    }

    fn put_filters_within(
        &mut self,
        changes: &mut Changes,
        clients: &BTreeSet<ClientId>,
        agents: &BTreeSet<AgentId>,
    ) {
        for id in agents {
            let on_agent = self.filters.on(*id);
            let own = on_agent.filter(|filter| clients.contains(&filter.client));
            for filter in own.cloned().collect::<Vec<_>>() {
                let inside = self.is_inside(&filter);
                self.put_filter(changes, &filter, inside);
            }
        }
    }

    /// Roles, terms and kinds that the rows above are about, and those that they are about.
    fn put_names_within(&mut self, changes: &mut Changes, role: &RoleName) {
        let mut terms: BTreeSet<u32> = changes.totals.terms.iter().copied().collect();
        terms.extend(&changes.filters.terms);
        terms.insert(policy::TERMS_PLAIN);
        for handle in terms {
            let Some(found) = self.handles.terms.get(handle).cloned() else {
                continue;
            };
            let roles = &mut self.handles.roles;
            let reserved = found
                .reserved
                .iter()
                .map(|role| roles.handle(role))
                .collect();
            changes.terms.push(policy::Terms {
                handle,
                reserved,
                marks: policy::TermsMarks {
                    dynamic: found.marks.dynamic,
                    revocable: found.marks.revocable,
                    volume: !found.volume.is_empty(),
                    shared: found.marks.shared,
                    indivisible: found.marks.indivisible,
                },
            });
        }
        let all = self.handles.roles.all().map(|(name, _)| name.clone());
        let seen = |name: &RoleName| {
            name == role || name.is_strictly_below(role) || role.is_strictly_below(name)
        };
        let names: Vec<RoleName> = all.filter(seen).collect();
        for name in names {
            let handle = self.handles.roles.handle(&name);
            let mut row = self.handles.role_row(handle);
            if role.is_strictly_below(&name) {
                row.weight = Amount::ONE;
                row.quotas.clear();
            }
            changes.roles.push(row);
        }
        // Reservations below the subtree's own roles name roles that are in it; others are around it.
        let known: BTreeSet<u32> = changes.roles.iter().map(|row| row.handle).collect();
        for terms in &mut changes.terms {
            terms.reserved.retain(|role| known.contains(role));
        }
        let mut kinds: BTreeSet<u32> = (0..KINDS_KNOWN).collect();
        kinds.extend(&changes.totals.kind);
        kinds.extend(&changes.filters.kind);
        let demands = changes.demands.iter().flat_map(|demand| &demand.pieces);
        kinds.extend(demands.map(|piece| piece.kind));
        let quotas = changes.roles.iter().flat_map(|role| &role.quotas);
        kinds.extend(quotas.map(|quota| quota.kind));
        let least = changes
            .clients
            .iter()
            .flat_map(|client| client.least.iter().flatten());
        kinds.extend(least.flatten().map(|piece| piece.kind));
        kinds.remove(&NONE);
        let rows = self.handles.kinds.rows(0).into_iter();
        changes.kinds = rows.filter(|row| kinds.contains(&row.handle)).collect();
    }
}
