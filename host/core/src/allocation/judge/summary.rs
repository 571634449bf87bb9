//! What a proposal comes to, without making offers of it: how two policies are compared.

use std::collections::{BTreeMap, BTreeSet};

use proffer_codec::codec_struct;
use proffer_model::policy::{NONE, Proposal};
use proffer_model::{AgentId, Bundle, Reason, RoleName};

use super::pieces::rows;
use crate::handles::ClientId;
use crate::machine::Core;
use crate::reclaims::{Key, WouldTake};

/// A proposal in short.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) roles: BTreeMap<RoleName, (u64, Bundle)>,
    pub(crate) grants: BTreeSet<((AgentId, ClientId), u32)>,
    pub(crate) demands: BTreeSet<u32>,
    pub(crate) reclaims: u64,
    pub(crate) takes: BTreeMap<Key, WouldTake>,
    /// Rows about what there is not.
    pub(crate) invalid: u64,
}

codec_struct!(Summary {
    roles,
    grants,
    demands,
    reclaims,
    takes,
    invalid
});

impl Core {
    /// On the ledger as the policy last saw it, as far as that is known.
    ///
    /// # Errors
    /// The columns do not fit.
    pub(crate) fn summary_of(&self, proposal: &Proposal) -> Result<Summary, Reason> {
        let mut summary = Summary {
            reclaims: proposal.reclaims.len() as u64,
            takes: self.reclaims_in(proposal),
            ..Summary::default()
        };
        for grant in rows(&proposal.grants)? {
            let shape = self
                .standing_demand(grant.demand)
                .map(|standing| &standing.demand.shape);
            let owner = self.handles.owner(grant.client);
            let free = self.feed.seen_free_of(grant.agent).or_else(|| {
                let agent = self.agents.get(&grant.agent);
                agent.map(|agent| agent.account.free())
            });
            let what = free.map(|free| self.materialize(&grant, free, shape));
            let (Some((_, role)), Some(Ok(what))) = (owner, what) else {
                summary.invalid += 1;
                continue;
            };
            let of_role = summary.roles.entry(role.clone()).or_default();
            of_role.0 += 1;
            of_role.1.add(&what.total());
            summary
                .grants
                .insert(((grant.agent, grant.client), grant.demand));
            if grant.demand != NONE {
                summary.demands.insert(grant.demand);
            }
        }
        Ok(summary)
    }
}
