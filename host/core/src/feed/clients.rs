//! Clients, and where they may be at all.

use std::collections::BTreeSet;

use proffer_model::AgentId;
use proffer_model::policy::{self, Changes, Piece};

use super::mask_of_client;
use crate::handles::ClientId;
use crate::machine::Core;

impl Core {
    pub(super) fn put_clients(&mut self, changes: &mut Changes) {
        for client in std::mem::take(&mut self.feed.clients) {
            let row = self.client_row(client);
            changes.clients.extend(row);
        }
    }

    pub(crate) fn client_row(&mut self, client: ClientId) -> Option<policy::Client> {
        let (framework, role) = self.handles.owner(client).cloned()?;
        let role_handle = self.handles.roles.handle(&role);
        let least = self.least_of(client);
        let fw = self.frameworks.get(&framework);
        let expected = || {
            let mut names = self.expected.iter();
            let found = names.find(|(_, id)| **id == framework);
            found.map_or_else(|| framework.to_string(), |(name, _)| name.to_string())
        };
        let options = fw.map(|fw| &fw.options);
        let is_constrained = fw.is_some_and(|fw| fw.constraints.contains_key(&role));
        Some(policy::Client {
            handle: client.0,
            framework: framework.0,
            name: fw.map_or_else(expected, |fw| fw.record.name.to_string()),
            role: role_handle,
            marks: policy::ClientMarks {
                known: fw.is_some(),
                active: fw.is_some_and(|fw| fw.takes_offers() && fw.clients.contains_key(&role)),
                suppressed: fw.is_some_and(|fw| fw.suppressed.contains(&role)),
                gpus: fw.is_some_and(|fw| fw.record.gpus),
                revocable: options.is_some_and(|options| options.revocable),
                shared: options.is_some_and(|options| options.shared),
                refined: options.is_some_and(|options| options.refined),
                region_aware: options.is_some_and(|options| options.region_aware),
            },
            mask: if is_constrained {
                mask_of_client(client)
            } else {
                0
            },
            least,
        })
    }

    /// The smallest amounts worth an offer to a client, if it has its own.
    fn least_of(&mut self, client: ClientId) -> Option<Vec<Vec<Piece>>> {
        let (framework, role) = self.handles.owner(client)?;
        let rules = &self.frameworks.get(framework)?.options.rules;
        let least = rules
            .iter()
            .find(|rules| rules.role == *role)?
            .least
            .as_ref()?;
        let kinds = &mut self.handles.kinds;
        let mut pieces = |bundle: &proffer_model::Bundle| {
            let mut pieces = Vec::new();
            kinds.each_amount(bundle, |kind, amount| {
                pieces.push(Piece {
                    terms: policy::NONE,
                    kind,
                    amount,
                });
            });
            pieces
        };
        Some(least.iter().map(&mut pieces).collect())
    }

    /// Which agents clients' constraints admit: all of them for a client whose constraints are new,
    /// new and changed agents for the others.
    pub(super) fn put_client_masks(&mut self, changes: &mut Changes) {
        let dirty = std::mem::take(&mut self.feed.client_masks);
        for client in self.feed.constrained.clone() {
            let owner = self.handles.owner(client);
            let constraints = owner.and_then(|(framework, role)| {
                self.frameworks.get(framework)?.constraints.get(role)
            });
            let Some(constraints) = constraints else {
                continue;
            };
            let agents: BTreeSet<AgentId> = if dirty.contains(&client) {
                self.agents.keys().copied().collect()
            } else {
                self.feed.mask_agents.clone()
            };
            for id in agents {
                if let Some(agent) = self.agents.get(&id) {
                    changes.masks.mask.push(mask_of_client(client));
                    changes.masks.agent.push(id.0);
                    let admits = constraints.admit(&agent.record.info);
                    changes.masks.admits.push(u8::from(admits));
                }
            }
        }
    }
}
