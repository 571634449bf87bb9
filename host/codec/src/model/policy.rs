//! The vocabulary between host and policies.

use proffer_model::policy;

use crate::{codec_enum, codec_struct};

codec_struct!(policy::Feeds {
    tasks,
    filters,
    demands
});
codec_struct!(policy::Piece {
    terms,
    kind,
    amount
});
codec_struct!(policy::Kind {
    handle,
    name,
    counted
});
codec_struct!(policy::Terms {
    handle,
    reserved,
    marks
});
codec_struct!(policy::TermsMarks {
    dynamic,
    revocable,
    volume,
    shared,
    indivisible
});
codec_struct!(policy::Agent {
    handle,
    name,
    region,
    zone,
    active,
    allowed,
    has_gpus,
    down
});
codec_struct!(policy::Role {
    handle,
    name,
    parent,
    weight,
    delegated,
    quotas
});
codec_struct!(policy::Quota {
    kind,
    guarantee,
    limit
});
codec_struct!(policy::Client {
    handle,
    framework,
    name,
    role,
    marks,
    mask,
    least
});
codec_struct!(policy::ClientMarks {
    known,
    active,
    suppressed,
    gpus,
    revocable,
    shared,
    refined,
    region_aware
});
codec_struct!(policy::Demand {
    handle,
    client,
    count,
    offered,
    gang,
    per_agent,
    priority,
    since,
    pieces,
    mask,
    near,
    near_until,
    revocable
});
codec_enum!(policy::Stage {
    Asked,
    Accepted,
    Declined,
    Enforcing,
    Done,
    Withdrawn,
    Refused
});
codec_struct!(policy::Reclaimed {
    handle,
    stage,
    until,
    reclaim
});
codec_struct!(policy::Owed { agent, pieces, by });
codec_struct!(policy::Rejected { index, why });
codec_enum!(policy::Noun {
    Agent,
    Role,
    Client,
    Terms,
    Demand,
    Filter,
    Task,
    Reclaim
});
codec_struct!(policy::Removed { what, handle });
codec_struct!(policy::Changes {
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
    rejected
});
codec_enum!(policy::ChangesPart {
    Snapshot,
    SnapshotLast,
    Delta
});
codec_struct!(policy::Masks {
    mask,
    agent,
    admits
});
codec_struct!(policy::Totals {
    agent,
    terms,
    kind,
    total
});
codec_struct!(policy::Cells {
    agent,
    client,
    terms,
    kind,
    offered,
    used,
    kept
});
codec_struct!(policy::Filters {
    handle,
    client,
    agent,
    inside,
    pieces,
    terms,
    kind,
    amount
});
codec_struct!(policy::Tasks {
    handle,
    client,
    agent,
    priority,
    started,
    grace,
    pieces,
    terms,
    kind,
    amount
});
codec_struct!(policy::Cycle {
    number,
    now,
    seed,
    agents,
    grants_max
});
codec_struct!(policy::Proposal {
    grants,
    reclaims,
    withdraw
});
codec_struct!(policy::Grants {
    agent,
    client,
    demand,
    gang,
    lease,
    pieces,
    terms,
    kind,
    amount
});
codec_struct!(policy::Reclaim {
    client,
    agent,
    pieces,
    tasks,
    beneficiary,
    demand,
    gang,
    priority,
    notice,
    why
});
codec_struct!(policy::Section {
    name,
    version,
    data
});
