//! Of a proposal what is for the clients of some roles: a policy that decides within a domain is asked
//! about everybody, so that it sees what others compete for, and only its own part counts.

use proffer_model::policy::{Grants, Proposal};
use proffer_model::{AgentId, Reason, RoleName};

use super::pieces::rows;
use crate::handles::ClientId;
use crate::machine::Core;

/// The part of a proposal that counts.
#[derive(Debug, Default)]
pub(crate) struct Within {
    pub(crate) proposal: Proposal,
    /// Which row of the whole each row is.
    rows: Vec<u32>,
    /// What is for others.
    pub(crate) strays: Vec<Stray>,
}

/// A grant that is for others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stray {
    /// Its row in the whole.
    pub(crate) index: u32,
    pub(crate) agent: AgentId,
    pub(crate) client: ClientId,
}

impl Within {
    /// Which row of the whole this row is.
    pub(crate) fn row(&self, index: u32) -> u32 {
        self.rows.get(index as usize).copied().unwrap_or(index)
    }

    /// Whom a row is for, and where.
    pub(crate) fn pair(&self, index: u32) -> Option<(AgentId, ClientId)> {
        let grants = &self.proposal.grants;
        let agent = grants.agent.get(index as usize)?;
        let client = grants.client.get(index as usize)?;
        Some((AgentId(*agent), ClientId(*client)))
    }
}

impl Core {
    /// The part for roles of which `decides` says so; a client that nobody knows is in every part.
    ///
    /// # Errors
    /// The columns do not fit.
    pub(crate) fn within(
        &self,
        proposal: &Proposal,
        decides: impl Fn(&RoleName) -> bool,
    ) -> Result<Within, Reason> {
        let mut within = Within::default();
        let mut gangs = 0;
        let mut gang_before = 0;
        for grant in rows(&proposal.grants)? {
            if grant.gang != 0 && grant.gang != gang_before {
                // Numbered anew: two gangs of one number may have become neighbours.
                gangs += 1;
            }
            gang_before = grant.gang;
            let owner = self.handles.owner(grant.client);
            if owner.is_some_and(|(_, role)| !decides(role)) {
                within.strays.push(Stray {
                    index: grant.index,
                    agent: grant.agent,
                    client: grant.client,
                });
                continue;
            }
            within.rows.push(grant.index);
            let Grants {
                agent,
                client,
                demand,
                gang,
                lease,
                pieces,
                terms,
                kind,
                amount,
            } = &mut within.proposal.grants;
            agent.push(grant.agent.0);
            client.push(grant.client.0);
            demand.push(grant.demand);
            gang.push(if grant.gang == 0 { 0 } else { gangs });
            lease.push(u32::try_from(grant.lease.0).unwrap_or(u32::MAX));
            pieces.push(u32::try_from(grant.pieces.terms.len()).unwrap_or(u32::MAX));
            terms.extend_from_slice(grant.pieces.terms);
            kind.extend_from_slice(grant.pieces.kind);
            amount.extend_from_slice(grant.pieces.amount);
        }
        Ok(within)
    }
}
