//! How many bytes go to a policy and come back in a cycle: columns, rows and texts as the component
//! model lays them out, natively not copied at all.

use proffer_model::policy::{Changes, Proposal};

/// A record of handles, marks and pointers to its texts and lists: the mean of the contract's.
const RECORD: usize = 48;

/// Of what is told.
pub(super) fn of_changes(changes: &Changes) -> usize {
    let cells = changes.cells.agent.len() * (4 * 4 + 3 * 8);
    let totals = changes.totals.agent.len() * (3 * 4 + 8);
    let masks = changes.masks.mask.len() * (2 * 4 + 1);
    let filters = &changes.filters;
    let filters = filters.handle.len() * (4 * 4 + 1) + filters.terms.len() * (2 * 4 + 8);
    let names = changes.agents.iter().map(|row| row.name.len());
    let names = names.chain(changes.clients.iter().map(|row| row.name.len()));
    let names: usize = names
        .chain(changes.roles.iter().map(|row| row.name.len()))
        .sum();
    let reasons = changes.rejected.iter();
    let reasons: usize = reasons.map(|row| row.why.text.len() + RECORD).sum();
    let records = changes.agents.len()
        + changes.clients.len()
        + changes.roles.len()
        + changes.demands.len()
        + changes.terms.len()
        + changes.kinds.len()
        + changes.removed.len();
    cells + totals + masks + filters + names + reasons + records * RECORD
}

/// Of what is proposed.
pub(super) fn of_proposal(proposal: &Proposal) -> usize {
    let grants = &proposal.grants;
    grants.agent.len() * (6 * 4) + grants.terms.len() * (2 * 4 + 8)
}
