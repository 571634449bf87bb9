//! Agents, offers, demand.

use proffer_model as model;

use super::basic::{Bundle, Ranges, Resources};
use super::{InvalidRecord, Wire, wire_enum, wire_struct};

wire_struct!(
    AgentRecord = model::fact::AgentRecord {
        agent: u32,
        key: String,
        boot: String,
        info: AgentInfo,
        total: Bundle,
        data_address: String,
    }
);

wire_struct!(AgentInfo = model::AgentInfo {
    hostname: String,
    region: String,
    zone: String,
    attributes: Vec<Attribute>,
});

wire_struct!(
    Attribute = model::Attribute {
        name: String,
        value: AttributeValue,
    }
);

wire_enum!(AttributeValue = model::AttributeValue {
    Text(text: String),
    Scalar(amount: i64),
    Ranges(ranges: Ranges),
});

wire_struct!(Window = model::Window {
    start: u64,
    length: Option<u64>,
});

wire_struct!(Offer = model::Offer {
    id: u64,
    agent: u32,
    role: String,
    resources: Resources,
    expires: u64,
    demand: String,
    gang: u32,
    down: Option<Window>,
});

wire_struct!(Demand = model::Demand {
    key: String,
    role: String,
    shape: Shape,
    count: u32,
    gang: u32,
    per_agent: u32,
    priority: i32,
    until: Option<u64>,
    constraints: Vec<Vec<Constraint>>,
    near: Vec<Near>,
    near_for: u64,
});

wire_struct!(
    Shape = model::Shape {
        resources: Resources,
        ports: u32,
        fixed_ports: Ranges,
        label: String,
        volume: String,
        revocable: RevocableUse,
    }
);

wire_enum!(RevocableUse = model::RevocableUse { Never, Also, Only });

wire_struct!(Constraint = model::Constraint {
    attribute: String,
    test: ConstraintTest,
    values: Vec<String>,
});

wire_enum!(
    ConstraintTest = model::ConstraintTest {
        Exists,
        NotExists,
        Equals,
        NotEquals,
        Matches,
        NotMatches,
    }
);

wire_struct!(
    Near = model::Near {
        attribute: String,
        value: String,
        count: u32,
    }
);
