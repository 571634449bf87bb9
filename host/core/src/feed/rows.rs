//! Single rows of what policies are told.

use proffer_model::policy::{self, Changes, NONE, Piece};
use proffer_model::{AgentId, Bundle, Timestamp};

use super::{is_everywhere, mask_of};
use crate::agents::Agent;
use crate::constraint::{Found, text_of};
use crate::filters::{Filter, counted_is_inside};
use crate::machine::Core;

impl Core {
    pub(crate) fn agent_row(&self, id: AgentId, agent: &Agent) -> policy::Agent {
        policy::Agent {
            handle: id.0,
            name: format!("{}/{id}", agent.record.info.hostname),
            region: agent.record.info.region.to_string(),
            zone: agent.record.info.zone.to_string(),
            active: agent.is_active() && !agent.deactivated,
            allowed: self.is_allowed(id),
            has_gpus: agent.has_gpus(),
            down: agent.down,
        }
    }

    pub(crate) fn demand_row(&mut self, handle: u32) -> Option<policy::Demand> {
        let (framework, _) = self.feed.demand_owners.get(&handle)?;
        let framework = *framework;
        let standing = self.standing_demand(handle)?;
        let (demand, since, offered) = (standing.demand.clone(), standing.since, standing.offered);
        let mask = if is_everywhere(standing) {
            0
        } else {
            mask_of(handle)
        };
        let client = self.handles.find_client(framework, &demand.role)?;
        let near = self.near_agents(&demand);
        let pieces = demand
            .shape
            .amounts()
            .into_iter()
            .map(|(kind, amount)| Piece {
                terms: NONE,
                kind: self.handles.kinds.handle(&kind, false),
                amount,
            })
            .collect();
        let near_until = if near.is_empty() {
            Timestamp(0)
        } else {
            since + demand.near_for
        };
        Some(policy::Demand {
            handle,
            client: client.0,
            count: demand.count,
            offered,
            gang: demand.gang,
            per_agent: demand.per_agent,
            priority: demand.priority,
            since,
            pieces,
            mask,
            near,
            near_until,
            revocable: demand.shape.revocable,
        })
    }

    fn near_agents(&self, demand: &proffer_model::Demand) -> Vec<(u32, u32)> {
        let mut near = Vec::new();
        for place in &demand.near {
            for (id, agent) in self.agents.iter() {
                if text_of(&agent.record.info, &place.attribute) == Found::Text(&place.value) {
                    near.push((id.0, place.count));
                }
            }
        }
        near
    }

    /// Whether all counted items that are free there and the client may have are among the refused.
    pub(crate) fn is_inside(&self, filter: &Filter) -> bool {
        self.agents.get(&filter.agent).is_some_and(|agent| {
            let free = agent.account.free();
            let nothing = Bundle::default();
            let mut may = free
                .piles()
                .filter(|(terms, _)| self.may_have(filter.client, terms));
            may.all(|(terms, free)| {
                let refused = filter.refused.get(terms).unwrap_or(&nothing);
                counted_is_inside(refused, free)
            })
        })
    }

    pub(crate) fn put_filter(&mut self, changes: &mut Changes, filter: &Filter, inside: bool) {
        let pieces = self.handles.pieces(&filter.refused);
        let columns = &mut changes.filters;
        columns.handle.push(filter.handle);
        columns.client.push(filter.client.0);
        columns.agent.push(filter.agent.0);
        columns.inside.push(u8::from(inside));
        columns
            .pieces
            .push(u32::try_from(pieces.len()).unwrap_or(u32::MAX));
        for piece in pieces {
            columns.terms.push(piece.terms);
            columns.kind.push(piece.kind);
            columns.amount.push(piece.amount.milli());
        }
    }
}
