//! The model's values: who is what, resources, tasks, demand.

mod framework;
mod opaque;
mod policy;

use proffer_model::agent;
use proffer_model::fact;
use proffer_model::{
    AgentId, AgentInfo, Attribute, AttributeValue, Check, Constraint, ConstraintTest, Container,
    Demand, Duration, Executor, FrameworkId, HttpProbe, Input as TaskInput, InputMarks,
    LaunchNumber, Marks, Mount, Near, Offer, OfferId, Probe, Purpose, Quantity, Reason, Remedy,
    RequestId, RevocableUse, Shape, StepNumber, TaskSpec, TaskState, TaskUpdate, Template, Terms,
    Timestamp, UpdateSource, Window,
};

use crate::{codec_enum, codec_newtype, codec_struct};

codec_newtype!(
    AgentId,
    FrameworkId,
    OfferId,
    LaunchNumber,
    StepNumber,
    RequestId,
    Timestamp,
    Duration,
);

codec_struct!(agent::LaunchUpdate {
    framework,
    launch,
    update,
    latest
});
codec_struct!(agent::Registration {
    agent,
    key,
    boot,
    info,
    total,
    special,
    data_address,
    launches
});
codec_struct!(agent::KnownLaunch {
    launch,
    framework,
    task,
    role,
    latest
});
codec_enum!(agent::ToAgent {
    Registered { agent, heartbeat, timeout }, Refused { why }, Launch(a),
    Kill { framework, launch, grace }, Acknowledge { launch, sequence },
    RemoveFramework { framework }, Heartbeat,
});
codec_struct!(agent::Launch {
    number,
    framework,
    framework_name,
    role,
    task,
    inputs
});
codec_struct!(agent::ResolvedInput {
    path,
    digest,
    marks,
    from
});
codec_enum!(agent::Origin { File(a), Http(a), Sandbox(a), Sandboxes(a) });
codec_struct!(agent::SandboxFile {
    agent,
    address,
    launch,
    path
});
codec_struct!(Demand {
    key,
    role,
    shape,
    count,
    gang,
    per_agent,
    priority,
    until,
    constraints,
    near,
    near_for
});
codec_struct!(Shape {
    resources,
    ports,
    fixed_ports,
    label,
    volume,
    revocable
});
codec_enum!(RevocableUse { Never, Also, Only });
codec_struct!(Constraint {
    attribute,
    test,
    values
});
codec_enum!(ConstraintTest {
    Exists,
    NotExists,
    Equals,
    NotEquals,
    Matches,
    NotMatches
});
codec_struct!(Near {
    attribute,
    value,
    count
});
codec_struct!(AgentInfo {
    hostname,
    region,
    zone,
    attributes
});
codec_struct!(Attribute { name, value });
codec_enum!(AttributeValue { Text(a), Scalar(a), Ranges(a) });
codec_struct!(Window { start, length });
codec_struct!(Offer {
    id,
    agent,
    role,
    resources,
    expires,
    demand,
    gang,
    down
});
codec_struct!(Reason { code, text, remedy });
codec_enum!(Remedy {
    Retry,
    ChooseAnew,
    Mend,
    Denied,
    Unsupported
});
codec_enum!(Quantity { Scalar(a), Ranges(a), Items(a) });
codec_struct!(Terms {
    reserved,
    label,
    volume,
    disk,
    marks
});
codec_struct!(Marks {
    dynamic,
    revocable,
    shared,
    indivisible
});
codec_struct!(TaskSpec {
    id,
    template,
    resources,
    args,
    env,
    inputs,
    mounts,
    output,
    priority
});
codec_struct!(Template {
    name,
    executor,
    env,
    inputs,
    checks,
    grace,
    longest,
    group,
    labels,
    options
});
codec_enum!(Executor { Process(a), Shell(a), Wasm(a), Container(a) });
codec_struct!(Container { image, argv });
codec_struct!(TaskInput {
    source,
    path,
    digest,
    marks
});
codec_struct!(InputMarks {
    extract,
    executable,
    cache
});
codec_struct!(Mount {
    volume,
    path,
    read_only
});
codec_struct!(Check {
    purpose,
    probe,
    grace,
    interval,
    timeout,
    failures
});
codec_enum!(Purpose { Health, Readiness });
codec_enum!(Probe { Command(a), Http(a), Tcp(a) });
codec_struct!(HttpProbe { port, path, tls });
codec_enum!(TaskState {
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
});
codec_struct!(TaskUpdate {
    task,
    agent,
    state,
    sequence,
    at,
    source,
    why,
    exit,
    healthy,
    ready,
    address,
    data
});
codec_enum!(UpdateSource {
    Host,
    Agent,
    Executor
});
codec_enum!(fact::Fact {
    IdsReserved { offers_below, requests_below }, AgentSet(a), AgentGone(a), FrameworkSet(a),
    FrameworkRemoved { framework }, StepCommitted(a), Changed { framework, effect },
    RoleSet { role, weight }, AgentUnreachable { agent, since }, AgentReturned { agent },
    HostAlive { at }, HostResumed { at, away }, QuotaSet { role, quotas }, AgentShaped(a),
    AgentsAllowed { agents }, FrameworkShaped { framework, options }, PolicySet(a),
    PolicyCarried { sections }, ReservationsDecided { framework, fate },
    RolePolicySet { role, policy },
});
codec_enum!(fact::ReservationFate {
    Keep,
    Release,
    Wipe
});
codec_struct!(fact::PolicyRecord {
    number,
    name,
    version,
    digest,
    config,
    by,
    at,
    cause,
    why,
    guards,
    before
});
codec_struct!(fact::WaitGuard { wait, below });
codec_enum!(fact::GuardedWait { Longest, P99 });
codec_enum!(fact::PolicyCause {
    Settings, Swapped, RolledBack, Failed(a), Canary { roles }, CanaryEnded(a),
});
codec_struct!(proffer_model::KindQuota {
    kind,
    guarantee,
    limit
});
codec_struct!(fact::AgentShape {
    agent,
    special,
    total,
    deactivated,
    down
});
codec_struct!(fact::FrameworkOptions {
    active,
    revocable,
    shared,
    refined,
    region_aware,
    rules
});
codec_struct!(fact::RoleRules {
    role,
    least,
    constraints
});
codec_struct!(fact::GoneRecord {
    agent,
    key,
    hostname,
    at,
    why
});
codec_struct!(fact::AgentRecord {
    agent,
    key,
    boot,
    info,
    total,
    data_address
});
codec_struct!(fact::FrameworkRecord {
    framework,
    name,
    version,
    digest,
    roles,
    config,
    gpus,
    standing,
    step
});
codec_enum!(fact::FrameworkStanding { Active, Quarantined(a), Removing(a) });
codec_struct!(fact::StepRecord {
    framework,
    step,
    writes,
    effects
});
codec_enum!(fact::Effect {
    Started, TaskLaunched(a), TaskAcknowledged { task, sequence, state, why, exit, at },
    TaskDecided { task, state, why, at }, TaskForgotten { task }, TaskKillAsked { task, grace },
    DemandSet { demand, since }, DemandCleared { key }, Suppressed { roles }, Revived { roles },
    TimerSet { id, due, at }, TimerCleared { id }, EventQueued { number, event },
    EventTaken { number }, UpgradeTried(a), EventBlamed { event }, EventSkipped(a), Converted { agent, from, to },
    OutputBound(a), TimeTold { at },
});
codec_struct!(fact::OutputRecord {
    name,
    task,
    launch,
    agent,
    suspect
});
codec_struct!(fact::UpgradeRecord {
    from,
    version,
    digest,
    at,
    refused
});
codec_struct!(fact::BlamedEvent { id, what });
codec_struct!(fact::SkippedEvent { id, what, at });
codec_struct!(fact::LaunchRecord {
    launch,
    agent,
    role,
    task,
    group,
    at
});
