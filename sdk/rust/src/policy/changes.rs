//! What the host says to a policy, from the contract's types to the model's.
//!
//! Columns are moved, not copied; only what has names is converted row by row.

use proffer_policy::model::policy as model;
use proffer_policy::model::{Amount, Duration, Reason, Remedy, RevocableUse, Timestamp, Window};

use super::bindings::proffer::policy::model as wit;
use super::bindings::proffer::types::values;

pub(super) fn changes(changes: wit::Changes) -> model::Changes {
    model::Changes {
        part: match changes.part {
            wit::Part::Snapshot => model::ChangesPart::Snapshot,
            wit::Part::SnapshotLast => model::ChangesPart::SnapshotLast,
            wit::Part::Delta => model::ChangesPart::Delta,
        },
        removed: list(changes.removed, removed),
        kinds: list(changes.kinds, |kind| model::Kind {
            handle: kind.handle,
            name: kind.name,
            counted: kind.counted,
        }),
        terms: list(changes.terms, terms),
        agents: list(changes.agents, agent),
        roles: list(changes.roles, role),
        clients: list(changes.clients, client),
        masks: model::Masks {
            mask: changes.masks.mask,
            agent: changes.masks.agent,
            admits: changes.masks.admits,
        },
        totals: model::Totals {
            agent: changes.totals.agent,
            terms: changes.totals.terms,
            kind: changes.totals.kind,
            total: changes.totals.total,
        },
        cells: model::Cells {
            agent: changes.cells.agent,
            client: changes.cells.client,
            terms: changes.cells.terms,
            kind: changes.cells.kind,
            offered: changes.cells.offered,
            used: changes.cells.used,
            kept: changes.cells.kept,
        },
        demands: list(changes.demands, demand),
        filters: filters(changes.filters),
        tasks: tasks(changes.tasks),
        reclaims: list(changes.reclaims, reclaimed),
        owed: list(changes.owed, |owed| model::Owed {
            agent: owed.agent,
            pieces: pieces(owed.pieces),
            by: Timestamp(owed.by),
        }),
        rejected: list(changes.rejected, |rejected| model::Rejected {
            index: rejected.index,
            why: reason(rejected.why),
        }),
    }
}

pub(super) fn cycle(cycle: wit::Cycle) -> model::Cycle {
    model::Cycle {
        number: cycle.number,
        now: Timestamp(cycle.now),
        seed: cycle.seed,
        agents: cycle.agents,
        grants_max: cycle.grants_max,
    }
}

pub(super) fn question(question: wit::Question) -> model::Question {
    model::Question {
        client: question.client,
        demand: question.demand,
        agents: question.agents,
    }
}

pub(super) fn section(section: wit::Section) -> model::Section {
    model::Section {
        name: section.name,
        version: section.version,
        data: section.data,
    }
}

fn list<From, To>(rows: Vec<From>, row: impl Fn(From) -> To) -> Vec<To> {
    rows.into_iter().map(row).collect()
}

fn removed(removed: wit::Removed) -> model::Removed {
    model::Removed {
        what: match removed.what {
            wit::Noun::Agent => model::Noun::Agent,
            wit::Noun::Role => model::Noun::Role,
            wit::Noun::Client => model::Noun::Client,
            wit::Noun::Terms => model::Noun::Terms,
            wit::Noun::Demand => model::Noun::Demand,
            wit::Noun::Filter => model::Noun::Filter,
            wit::Noun::Task => model::Noun::Task,
            wit::Noun::Reclaim => model::Noun::Reclaim,
        },
        handle: removed.handle,
    }
}

fn terms(terms: wit::Terms) -> model::Terms {
    let has = |mark| terms.marks.contains(mark);
    model::Terms {
        handle: terms.handle,
        marks: model::TermsMarks {
            dynamic: has(wit::Marks::DYNAMIC),
            revocable: has(wit::Marks::REVOCABLE),
            volume: has(wit::Marks::VOLUME),
            shared: has(wit::Marks::SHARED),
            indivisible: has(wit::Marks::INDIVISIBLE),
        },
        reserved: terms.reserved,
    }
}

fn agent(agent: wit::Agent) -> model::Agent {
    let has = |mark| agent.marks.contains(mark);
    model::Agent {
        handle: agent.handle,
        active: has(wit::AgentMarks::ACTIVE),
        allowed: has(wit::AgentMarks::ALLOWED),
        has_gpus: has(wit::AgentMarks::HAS_GPUS),
        name: agent.name,
        region: agent.region,
        zone: agent.zone,
        down: agent.down.map(|window| Window {
            start: Timestamp(window.start),
            length: window.length.map(Duration),
        }),
    }
}

fn role(role: wit::Role) -> model::Role {
    model::Role {
        handle: role.handle,
        name: role.name,
        parent: role.parent,
        weight: Amount::from_milli(role.weight),
        delegated: role.delegated,
        quotas: list(role.quotas, |quota| model::Quota {
            kind: quota.kind,
            guarantee: Amount::from_milli(quota.guarantee),
            limit: quota.limit.map(Amount::from_milli),
        }),
    }
}

fn client(client: wit::Client) -> model::Client {
    let has = |mark| client.marks.contains(mark);
    model::Client {
        handle: client.handle,
        framework: client.framework,
        role: client.role,
        marks: model::ClientMarks {
            known: has(wit::ClientMarks::KNOWN),
            active: has(wit::ClientMarks::ACTIVE),
            suppressed: has(wit::ClientMarks::SUPPRESSED),
            gpus: has(wit::ClientMarks::GPUS),
            revocable: has(wit::ClientMarks::REVOCABLE),
            shared: has(wit::ClientMarks::SHARED),
            refined: has(wit::ClientMarks::REFINED),
            region_aware: has(wit::ClientMarks::REGION_AWARE),
        },
        mask: client.mask,
        name: client.name,
        least: client.least.map(|alternatives| list(alternatives, pieces)),
    }
}

fn demand(demand: wit::Demand) -> model::Demand {
    model::Demand {
        handle: demand.handle,
        client: demand.client,
        count: demand.count,
        offered: demand.offered,
        gang: demand.gang,
        per_agent: demand.per_agent,
        priority: demand.priority,
        since: Timestamp(demand.since),
        pieces: pieces(demand.pieces),
        mask: demand.mask,
        near: demand.near,
        near_until: Timestamp(demand.near_until),
        revocable: match demand.revocable {
            wit::RevocableUse::Never => RevocableUse::Never,
            wit::RevocableUse::Also => RevocableUse::Also,
            wit::RevocableUse::Only => RevocableUse::Only,
        },
    }
}

fn filters(filters: wit::Filters) -> model::Filters {
    model::Filters {
        handle: filters.handle,
        client: filters.client,
        agent: filters.agent,
        inside: filters.inside,
        pieces: filters.pieces,
        terms: filters.terms,
        kind: filters.kind,
        amount: filters.amount,
    }
}

fn tasks(tasks: wit::Tasks) -> model::Tasks {
    model::Tasks {
        handle: tasks.handle,
        client: tasks.client,
        agent: tasks.agent,
        priority: tasks.priority,
        started: tasks.started,
        grace: tasks.grace,
        pieces: tasks.pieces,
        terms: tasks.terms,
        kind: tasks.kind,
        amount: tasks.amount,
    }
}

fn reclaimed(reclaimed: wit::Reclaimed) -> model::Reclaimed {
    let reclaim = reclaimed.reclaim;
    model::Reclaimed {
        handle: reclaimed.handle,
        stage: match reclaimed.stage {
            wit::Stage::Asked => model::Stage::Asked,
            wit::Stage::Accepted => model::Stage::Accepted,
            wit::Stage::Declined => model::Stage::Declined,
            wit::Stage::Enforcing => model::Stage::Enforcing,
            wit::Stage::Done => model::Stage::Done,
            wit::Stage::Withdrawn => model::Stage::Withdrawn,
            wit::Stage::Refused => model::Stage::Refused,
        },
        until: Timestamp(reclaimed.until),
        reclaim: model::Reclaim {
            client: reclaim.client,
            agent: reclaim.agent,
            pieces: pieces(reclaim.pieces),
            tasks: reclaim.tasks,
            beneficiary: reclaim.beneficiary,
            demand: reclaim.demand,
            gang: reclaim.gang,
            priority: reclaim.priority,
            notice: Duration(reclaim.notice),
            why: reclaim.why,
        },
    }
}

fn pieces(pieces: Vec<wit::Piece>) -> Vec<model::Piece> {
    list(pieces, |piece| model::Piece {
        terms: piece.terms,
        kind: piece.kind,
        amount: Amount::from_milli(piece.amount),
    })
}

fn reason(reason: values::Reason) -> Reason {
    Reason {
        code: reason.code.into(),
        text: reason.text,
        remedy: match reason.remedy {
            values::Remedy::Retry => Remedy::Retry,
            values::Remedy::ChooseAnew => Remedy::ChooseAnew,
            values::Remedy::Mend => Remedy::Mend,
            values::Remedy::Denied => Remedy::Denied,
            values::Remedy::Unsupported => Remedy::Unsupported,
        },
    }
}
