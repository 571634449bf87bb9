//! What a policy answers, from the model's types to the contract's. Columns are moved.

use proffer_policy::model::policy as model;
use proffer_policy::model::{Reason, Remedy};

use super::bindings::proffer::policy::model as wit;
use super::bindings::proffer::types::values;

pub(super) fn feeds(feeds: model::Feeds) -> wit::Feeds {
    let mut flags = wit::Feeds::empty();
    flags.set(wit::Feeds::TASKS, feeds.tasks);
    flags.set(wit::Feeds::FILTERS, feeds.filters);
    flags.set(wit::Feeds::DEMANDS, feeds.demands);
    flags
}

pub(super) fn proposal(proposal: model::Proposal) -> wit::Proposal {
    let grants = proposal.grants;
    wit::Proposal {
        grants: wit::Grants {
            agent: grants.agent,
            client: grants.client,
            demand: grants.demand,
            gang: grants.gang,
            lease: grants.lease,
            pieces: grants.pieces,
            terms: grants.terms,
            kind: grants.kind,
            amount: grants.amount,
        },
        reclaims: proposal.reclaims.into_iter().map(reclaim).collect(),
        withdraw: proposal.withdraw,
    }
}

pub(super) fn finding(finding: model::Finding) -> wit::Finding {
    wit::Finding {
        agent: finding.agent,
        why: reason(finding.why),
        short: finding.short.into_iter().map(piece).collect(),
    }
}

pub(super) fn place(place: model::Place) -> wit::Place {
    wit::Place {
        role: place.role,
        client: place.client,
        active: place.active,
        share_micro: place.share_micro,
        count: place.count,
    }
}

pub(super) fn section(section: model::Section) -> wit::Section {
    wit::Section {
        name: section.name,
        version: section.version,
        data: section.data,
    }
}

fn reclaim(reclaim: model::Reclaim) -> wit::Reclaim {
    wit::Reclaim {
        client: reclaim.client,
        agent: reclaim.agent,
        pieces: reclaim.pieces.into_iter().map(piece).collect(),
        tasks: reclaim.tasks,
        beneficiary: reclaim.beneficiary,
        demand: reclaim.demand,
        gang: reclaim.gang,
        priority: reclaim.priority,
        notice: reclaim.notice.0,
        why: reclaim.why,
    }
}

fn piece(piece: model::Piece) -> wit::Piece {
    wit::Piece {
        terms: piece.terms,
        kind: piece.kind,
        amount: piece.amount.milli(),
    }
}

fn reason(reason: Reason) -> values::Reason {
    values::Reason {
        code: reason.code.into_owned(),
        text: reason.text,
        remedy: match reason.remedy {
            Remedy::Retry => values::Remedy::Retry,
            Remedy::ChooseAnew => values::Remedy::ChooseAnew,
            Remedy::Mend => values::Remedy::Mend,
            Remedy::Denied => values::Remedy::Denied,
            Remedy::Unsupported => values::Remedy::Unsupported,
        },
    }
}
