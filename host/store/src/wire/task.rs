//! Tasks and what became of them.

use proffer_model as model;

use super::basic::{Reason, Resources};
use super::{InvalidRecord, Wire, wire_enum, wire_struct};

wire_struct!(TaskSpec = model::TaskSpec {
    id: String,
    template: Template,
    resources: Resources,
    args: Vec<String>,
    env: Vec<(String, String)>,
    inputs: Vec<Input>,
    mounts: Vec<Mount>,
    output: String,
    priority: i32,
});

wire_struct!(Template = model::Template {
    name: String,
    executor: Executor,
    env: Vec<(String, String)>,
    inputs: Vec<Input>,
    checks: Vec<Check>,
    grace: u64,
    longest: Option<u64>,
    group: String,
    labels: Vec<(String, String)>,
    options: Vec<(String, String)>,
});

wire_enum!(Executor = model::Executor {
    Process(argv: Vec<String>),
    Shell(line: String),
    Wasm(component: Input),
    Container(container: Container),
});

wire_struct!(Container = model::Container {
    image: String,
    argv: Vec<String>,
});

wire_struct!(
    Input = model::Input {
        source: String,
        path: String,
        digest: String,
        marks: InputMarks,
    }
);

wire_struct!(
    InputMarks = model::InputMarks {
        extract: bool,
        executable: bool,
        cache: bool,
    }
);

wire_struct!(
    Mount = model::Mount {
        volume: String,
        path: String,
        read_only: bool,
    }
);

wire_struct!(
    Check = model::Check {
        purpose: Purpose,
        probe: Probe,
        grace: u64,
        interval: u64,
        timeout: u64,
        failures: u32,
    }
);

wire_enum!(Purpose = model::Purpose { Health, Readiness });

wire_enum!(Probe = model::Probe {
    Command(argv: Vec<String>),
    Http(page: HttpProbe),
    Tcp(port: u32),
});

wire_struct!(
    HttpProbe = model::HttpProbe {
        port: u32,
        path: String,
        tls: bool,
    }
);

wire_enum!(
    TaskState = model::TaskState {
        Staging,
        Starting,
        Running,
        Killing,
        Finished,
        Failed,
        Killed,
        Error,
        Dropped,
        Gone,
        Unreachable,
        GoneByOperator,
        Unknown,
    }
);

wire_struct!(TaskUpdate = model::TaskUpdate {
    task: String,
    agent: Option<u32>,
    state: TaskState,
    sequence: u64,
    at: u64,
    source: UpdateSource,
    why: Reason,
    exit: Option<i32>,
    healthy: Option<bool>,
    ready: Option<bool>,
    address: String,
    data: Vec<u8>,
});

wire_enum!(
    UpdateSource = model::UpdateSource {
        Host,
        Agent,
        Executor,
    }
);
