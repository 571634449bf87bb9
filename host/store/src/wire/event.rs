//! Events that wait for a framework's next step.

use proffer_model as model;
use proffer_model::framework;

use super::agent::{Offer, Window};
use super::basic::{Reason, Resources};
use super::task::TaskUpdate;
use super::{InvalidRecord, Wire, wire_enum, wire_struct};

wire_enum!(Event = framework::Event {
    Started(cause: Cause),
    ConfigChanged(before: String),
    Offers(rows: Vec<Offer>),
    Rescinded(rows: Vec<Rescinded>),
    InverseOffers(rows: Vec<InverseOffer>),
    InverseRescinded(rows: Vec<Rescinded>),
    Updates(rows: Vec<TaskUpdate>),
    OperationUpdates(rows: Vec<OperationUpdate>),
    AgentsChanged(rows: Vec<AgentChange>),
    Messages(rows: Vec<Message>),
    Timers(rows: Vec<Fired>),
    Request(request: Request),
    RequestClosed(request: u64),
    Rejected(rows: Vec<Rejection>),
    Reconciled(reconciled: Reconciled),
    Holdings(holdings: Holdings),
    Explained(explained: Explained),
});

wire_enum!(Cause = framework::Cause {
    First,
    Resumed,
    Upgraded(from: String),
});

wire_struct!(
    Rescinded = framework::Rescinded {
        id: u64,
        why: Reason,
    }
);

wire_struct!(InverseOffer = framework::InverseOffer {
    id: u64,
    agent: u32,
    resources: Resources,
    tasks: Vec<String>,
    why: Reason,
    priority: i32,
    by: u64,
    then: Consequence,
    down: Option<Window>,
});

wire_enum!(
    Consequence = framework::Consequence {
        Nothing,
        KillUntilCovered,
        KillAllOnAgent,
    }
);

wire_struct!(
    OperationUpdate = framework::OperationUpdate {
        token: String,
        agent: u32,
        state: OperationState,
        why: Reason,
        resources: Resources,
    }
);

wire_enum!(
    OperationState = framework::OperationState {
        Done,
        Failed,
        Dropped,
        Unreachable,
        Gone,
        Unknown,
    }
);

wire_struct!(
    AgentChange = framework::AgentChange {
        agent: u32,
        standing: Standing,
        since: u64,
    }
);

wire_enum!(
    Standing = framework::Standing {
        Disconnected,
        Unreachable,
        Gone,
        Returned,
    }
);

wire_struct!(Message = framework::Message {
    task: String,
    data: Vec<u8>,
});

wire_struct!(
    Fired = framework::Fired {
        id: String,
        due: u64,
    }
);

wire_struct!(Request = framework::Request {
    id: u64,
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    principal: String,
    deadline: u64,
});

wire_struct!(
    Rejection = framework::Rejection {
        token: String,
        command: String,
        subject: String,
        why: Reason,
    }
);

wire_struct!(Reconciled = framework::Reconciled {
    token: String,
    answered: u32,
    silent: Vec<String>,
});

wire_struct!(Holdings = framework::Holdings {
    token: String,
    rows: Vec<Holding>,
    last: bool,
});

wire_struct!(
    Holding = framework::Holding {
        agent: u32,
        role: String,
        resources: Resources,
        in_use: bool,
    }
);

wire_struct!(Explained = framework::Explained {
    token: String,
    rows: Vec<Explanation>,
    last: bool,
});

wire_struct!(Explanation = framework::Explanation {
    demand: String,
    why: Reason,
    agents: u32,
    sample: Option<u32>,
    short: Resources,
});

wire_enum!(Due = model::framework::Due {
    At(at: u64),
    After(span: u64),
});
