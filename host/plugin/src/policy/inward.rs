//! From a policy's answers, which are untrusted, to the host's types.
//!
//! Only the shape is judged here: columns of equal length, texts and sections of a bounded size.
//! Whether a grant is right is the core's to say.

use std::borrow::Cow;

use proffer_model::policy as model;
use proffer_model::{Amount, Duration, Reason, Remedy};

use crate::bindings::policy::proffer::policy::model as wit;
use crate::bindings::policy::proffer::types::values;
use crate::log::printable;

/// Rows of one proposal's columns, whatever `grants-max` was: past it the policy is broken.
const PROPOSAL_ROWS_MAX: usize = 1_000_000;
/// Reclaims of one proposal.
const RECLAIMS_MAX: usize = 100_000;
/// What a policy carries to its successor, all sections together.
const CARRY_BYTES_MAX: usize = 1024 * 1024;
/// Sections that it carries.
const SECTIONS_MAX: usize = 64;
/// Longest text for people.
const TEXT_CHARACTERS_MAX: usize = 1_000;
/// Longest name or code.
const NAME_CHARACTERS_MAX: usize = 64;

pub(crate) fn feeds(feeds: wit::Feeds) -> model::Feeds {
    model::Feeds {
        tasks: feeds.contains(wit::Feeds::TASKS),
        filters: feeds.contains(wit::Feeds::FILTERS),
        demands: feeds.contains(wit::Feeds::DEMANDS),
    }
}

pub(crate) fn proposal(proposal: wit::Proposal) -> Result<model::Proposal, String> {
    if proposal.reclaims.len() > RECLAIMS_MAX || proposal.withdraw.len() > RECLAIMS_MAX {
        return Err(format!(
            "{} reclaims and {} withdrawals, more than {RECLAIMS_MAX}",
            proposal.reclaims.len(),
            proposal.withdraw.len()
        ));
    }
    Ok(model::Proposal {
        grants: grants(proposal.grants)?,
        reclaims: proposal.reclaims.into_iter().map(reclaim).collect(),
        withdraw: proposal.withdraw,
    })
}

fn grants(grants: wit::Grants) -> Result<model::Grants, String> {
    let rows = grants.agent.len();
    for (name, len) in [
        ("client", grants.client.len()),
        ("demand", grants.demand.len()),
        ("gang", grants.gang.len()),
        ("lease", grants.lease.len()),
        ("pieces", grants.pieces.len()),
    ] {
        if len != rows {
            return Err(format!(
                "the grants' column 'agent' has {rows} rows and '{name}' has {len}"
            ));
        }
    }
    let pieces: u64 = grants.pieces.iter().map(|&count| u64::from(count)).sum();
    for (name, len) in [
        ("terms", grants.terms.len()),
        ("kind", grants.kind.len()),
        ("amount", grants.amount.len()),
    ] {
        if len as u64 != pieces {
            return Err(format!(
                "the grants' column 'pieces' sums to {pieces} and '{name}' has {len} rows"
            ));
        }
    }
    if rows > PROPOSAL_ROWS_MAX || pieces > PROPOSAL_ROWS_MAX as u64 {
        return Err(format!(
            "{rows} grants of {pieces} pieces, more than {PROPOSAL_ROWS_MAX}"
        ));
    }
    Ok(model::Grants {
        agent: grants.agent,
        client: grants.client,
        demand: grants.demand,
        gang: grants.gang,
        lease: grants.lease,
        pieces: grants.pieces,
        terms: grants.terms,
        kind: grants.kind,
        amount: grants.amount,
    })
}

fn reclaim(row: wit::Reclaim) -> model::Reclaim {
    model::Reclaim {
        client: row.client,
        agent: row.agent,
        pieces: pieces(row.pieces),
        tasks: row.tasks,
        beneficiary: row.beneficiary,
        demand: row.demand,
        gang: row.gang,
        priority: row.priority,
        notice: Duration(row.notice),
        why: printable(&row.why, TEXT_CHARACTERS_MAX),
    }
}

fn pieces(rows: Vec<wit::Piece>) -> Vec<model::Piece> {
    rows.into_iter()
        .map(|piece| model::Piece {
            terms: piece.terms,
            kind: piece.kind,
            amount: Amount::from_milli(piece.amount),
        })
        .collect()
}

/// Findings, at most one for each agent that was asked about.
pub(crate) fn findings(
    rows: Vec<wit::Finding>,
    asked: usize,
) -> Result<Vec<model::Finding>, String> {
    if rows.len() > asked {
        return Err(format!("{} findings on {asked} agents", rows.len()));
    }
    let findings = rows.into_iter().map(|row| model::Finding {
        agent: row.agent,
        why: reason(row.why),
        short: pieces(row.short),
    });
    Ok(findings.collect())
}

pub(crate) fn places(rows: Vec<wit::Place>) -> Vec<model::Place> {
    rows.into_iter()
        .map(|row| model::Place {
            role: row.role,
            client: row.client,
            active: row.active,
            share_micro: row.share_micro,
            count: row.count,
        })
        .collect()
}

pub(crate) fn sections(rows: Vec<wit::Section>) -> Result<Vec<model::Section>, String> {
    let bytes: usize = rows.iter().map(|row| row.name.len() + row.data.len()).sum();
    if bytes > CARRY_BYTES_MAX || rows.len() > SECTIONS_MAX {
        return Err(format!(
            "{} sections of {bytes} bytes, more than {SECTIONS_MAX} or {CARRY_BYTES_MAX}",
            rows.len()
        ));
    }
    let sections = rows.into_iter().map(|row| model::Section {
        name: row.name,
        version: row.version,
        data: row.data,
    });
    Ok(sections.collect())
}

/// Names of the sections that were used, of those that were given.
pub(crate) fn used(names: Vec<String>, given: usize) -> Vec<String> {
    names
        .into_iter()
        .take(given)
        .map(|name| printable(&name, NAME_CHARACTERS_MAX))
        .collect()
}

fn reason(reason: values::Reason) -> Reason {
    Reason {
        code: Cow::Owned(printable(&reason.code, NAME_CHARACTERS_MAX)),
        text: printable(&reason.text, TEXT_CHARACTERS_MAX),
        remedy: match reason.remedy {
            values::Remedy::Retry => Remedy::Retry,
            values::Remedy::ChooseAnew => Remedy::ChooseAnew,
            values::Remedy::Mend => Remedy::Mend,
            values::Remedy::Denied => Remedy::Denied,
            values::Remedy::Unsupported => Remedy::Unsupported,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(rows: usize, pieces: Vec<u32>, cells: usize) -> wit::Grants {
        wit::Grants {
            agent: vec![0; rows],
            client: vec![0; rows],
            demand: vec![0; rows],
            gang: vec![0; rows],
            lease: vec![0; rows],
            pieces,
            terms: vec![0; cells],
            kind: vec![0; cells],
            amount: vec![0; cells],
        }
    }

    #[test]
    fn columns_of_unequal_length_are_refused_by_name() {
        assert!(grants(columns(2, vec![1, 2], 3)).is_ok());
        let mut uneven = columns(2, vec![1, 2], 3);
        uneven.lease.pop();
        let problem = grants(uneven).unwrap_err();
        assert!(problem.contains("'lease' has 1"), "{problem}");
        let problem = grants(columns(2, vec![1, u32::MAX], 3)).unwrap_err();
        assert!(problem.contains("sums to 4294967296"), "{problem}");
    }
}
