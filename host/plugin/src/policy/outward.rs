//! From the host's types to a policy's: changes, cycles, questions, sections. Columns are moved, not
//! copied.

use proffer_model::RevocableUse;
use proffer_model::policy as model;

use crate::bindings::policy::proffer::policy::model as wit;
use crate::framework::{reason, window};

pub(crate) fn changes(changes: model::Changes) -> wit::Changes {
    let model::Changes {
        part,
        removed,
        kinds,
        terms,
        agents,
        roles,
        clients,
        masks,
        totals,
        cells,
        demands,
        filters,
        tasks,
        reclaims,
        owed,
        rejected,
    } = changes;
    wit::Changes {
        part: match part {
            model::ChangesPart::Snapshot => wit::Part::Snapshot,
            model::ChangesPart::SnapshotLast => wit::Part::SnapshotLast,
            model::ChangesPart::Delta => wit::Part::Delta,
        },
        removed: all(removed, |row| wit::Removed {
            what: noun(row.what),
            handle: row.handle,
        }),
        kinds: all(kinds, |row| wit::Kind {
            handle: row.handle,
            name: row.name,
            counted: row.counted,
        }),
        terms: all(terms, |row| wit::Terms {
            handle: row.handle,
            reserved: row.reserved,
            marks: terms_marks(row.marks),
        }),
        agents: all(agents, agent),
        roles: all(roles, role),
        clients: all(clients, client),
        masks: wit::Masks {
            mask: masks.mask,
            agent: masks.agent,
            admits: masks.admits,
        },
        totals: wit_totals(totals),
        cells: wit_cells(cells),
        demands: all(demands, demand),
        filters: wit_filters(filters),
        tasks: wit_tasks(tasks),
        reclaims: all(reclaims, reclaimed),
        owed: all(owed, |row| wit::Owed {
            agent: row.agent,
            pieces: pieces(row.pieces),
            by: row.by.0,
        }),
        rejected: all(rejected, |row| wit::Rejected {
            index: row.index,
            why: reason(row.why),
        }),
    }
}

fn all<A, B>(rows: Vec<A>, convert: impl Fn(A) -> B) -> Vec<B> {
    rows.into_iter().map(convert).collect()
}

fn noun(noun: model::Noun) -> wit::Noun {
    match noun {
        model::Noun::Agent => wit::Noun::Agent,
        model::Noun::Role => wit::Noun::Role,
        model::Noun::Client => wit::Noun::Client,
        model::Noun::Terms => wit::Noun::Terms,
        model::Noun::Demand => wit::Noun::Demand,
        model::Noun::Filter => wit::Noun::Filter,
        model::Noun::Task => wit::Noun::Task,
        model::Noun::Reclaim => wit::Noun::Reclaim,
    }
}

fn terms_marks(marks: model::TermsMarks) -> wit::Marks {
    let mut flags = wit::Marks::empty();
    for (given, flag) in [
        (marks.dynamic, wit::Marks::DYNAMIC),
        (marks.revocable, wit::Marks::REVOCABLE),
        (marks.volume, wit::Marks::VOLUME),
        (marks.shared, wit::Marks::SHARED),
        (marks.indivisible, wit::Marks::INDIVISIBLE),
    ] {
        if given {
            flags |= flag;
        }
    }
    flags
}

fn agent(row: model::Agent) -> wit::Agent {
    let mut marks = wit::AgentMarks::empty();
    for (given, flag) in [
        (row.active, wit::AgentMarks::ACTIVE),
        (row.allowed, wit::AgentMarks::ALLOWED),
        (row.has_gpus, wit::AgentMarks::HAS_GPUS),
    ] {
        if given {
            marks |= flag;
        }
    }
    wit::Agent {
        handle: row.handle,
        name: row.name,
        region: row.region,
        zone: row.zone,
        marks,
        down: row.down.map(window),
    }
}

fn role(row: model::Role) -> wit::Role {
    wit::Role {
        handle: row.handle,
        name: row.name,
        parent: row.parent,
        weight: row.weight.milli(),
        delegated: row.delegated,
        quotas: all(row.quotas, |quota| wit::Quota {
            kind: quota.kind,
            guarantee: quota.guarantee.milli(),
            limit: quota.limit.map(|limit| limit.milli()),
        }),
    }
}

fn client(row: model::Client) -> wit::Client {
    let mut marks = wit::ClientMarks::empty();
    for (given, flag) in [
        (row.marks.known, wit::ClientMarks::KNOWN),
        (row.marks.active, wit::ClientMarks::ACTIVE),
        (row.marks.suppressed, wit::ClientMarks::SUPPRESSED),
        (row.marks.gpus, wit::ClientMarks::GPUS),
        (row.marks.revocable, wit::ClientMarks::REVOCABLE),
        (row.marks.shared, wit::ClientMarks::SHARED),
        (row.marks.refined, wit::ClientMarks::REFINED),
        (row.marks.region_aware, wit::ClientMarks::REGION_AWARE),
    ] {
        if given {
            marks |= flag;
        }
    }
    wit::Client {
        handle: row.handle,
        framework: row.framework,
        name: row.name,
        role: row.role,
        marks,
        mask: row.mask,
        least: row.least.map(|alternatives| all(alternatives, pieces)),
    }
}

fn demand(row: model::Demand) -> wit::Demand {
    wit::Demand {
        handle: row.handle,
        client: row.client,
        count: row.count,
        offered: row.offered,
        gang: row.gang,
        per_agent: row.per_agent,
        priority: row.priority,
        since: row.since.0,
        pieces: pieces(row.pieces),
        mask: row.mask,
        near: row.near,
        near_until: row.near_until.0,
        revocable: match row.revocable {
            RevocableUse::Never => wit::RevocableUse::Never,
            RevocableUse::Also => wit::RevocableUse::Also,
            RevocableUse::Only => wit::RevocableUse::Only,
        },
    }
}

fn wit_totals(totals: model::Totals) -> wit::Totals {
    wit::Totals {
        agent: totals.agent,
        terms: totals.terms,
        kind: totals.kind,
        total: totals.total,
    }
}

fn wit_cells(cells: model::Cells) -> wit::Cells {
    wit::Cells {
        agent: cells.agent,
        client: cells.client,
        terms: cells.terms,
        kind: cells.kind,
        offered: cells.offered,
        used: cells.used,
        kept: cells.kept,
    }
}

fn wit_filters(filters: model::Filters) -> wit::Filters {
    wit::Filters {
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

fn wit_tasks(tasks: model::Tasks) -> wit::Tasks {
    wit::Tasks {
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

fn reclaimed(row: model::Reclaimed) -> wit::Reclaimed {
    wit::Reclaimed {
        handle: row.handle,
        stage: match row.stage {
            model::Stage::Asked => wit::Stage::Asked,
            model::Stage::Accepted => wit::Stage::Accepted,
            model::Stage::Declined => wit::Stage::Declined,
            model::Stage::Enforcing => wit::Stage::Enforcing,
            model::Stage::Done => wit::Stage::Done,
            model::Stage::Withdrawn => wit::Stage::Withdrawn,
            model::Stage::Refused => wit::Stage::Refused,
        },
        until: row.until.0,
        reclaim: wit::Reclaim {
            client: row.reclaim.client,
            agent: row.reclaim.agent,
            pieces: pieces(row.reclaim.pieces),
            tasks: row.reclaim.tasks,
            beneficiary: row.reclaim.beneficiary,
            demand: row.reclaim.demand,
            gang: row.reclaim.gang,
            priority: row.reclaim.priority,
            notice: row.reclaim.notice.0,
            why: row.reclaim.why,
        },
    }
}

fn pieces(rows: Vec<model::Piece>) -> Vec<wit::Piece> {
    all(rows, |piece| wit::Piece {
        terms: piece.terms,
        kind: piece.kind,
        amount: piece.amount.milli(),
    })
}

pub(crate) fn cycle(cycle: model::Cycle) -> wit::Cycle {
    wit::Cycle {
        number: cycle.number,
        now: cycle.now.0,
        seed: cycle.seed,
        agents: cycle.agents,
        grants_max: cycle.grants_max,
    }
}

pub(crate) fn question(question: model::Question) -> wit::Question {
    wit::Question {
        client: question.client,
        demand: question.demand,
        agents: question.agents,
    }
}

pub(crate) fn sections(sections: Vec<model::Section>) -> Vec<wit::Section> {
    all(sections, |section| wit::Section {
        name: section.name,
        version: section.version,
        data: section.data,
    })
}
