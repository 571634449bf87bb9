//! The vocabulary between host and framework, in the host's types: a step's batch of events in, an
//! answer of commands out. `wit/framework` is the same in WIT, with the promises of each.

use std::sync::Arc;

use crate::{
    AgentId, AgentInfo, Constraint, Demand, Duration, Offer, OfferId, Reason, RequestId, Resources,
    RoleName, StepNumber, TaskId, TaskSpec, TaskUpdate, Timestamp, Window,
};

/// What a new instance is told before its first step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The framework's name, unique in the cluster.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The cluster's id.
    pub cluster: String,
    /// The host's region, or empty.
    pub region: String,
    /// The host's version.
    pub version: String,
    /// The roles that it may use.
    pub roles: Vec<RoleName>,
    /// Its configuration, as the operator gave it.
    pub config: String,
    /// Its limits by documented names.
    pub limits: Vec<(String, u64)>,
}

/// The input of one step. Self-contained: every agent that it names is in `agents`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Which step: the same number again if the last try failed.
    pub step: StepNumber,
    /// The step's time.
    pub now: Timestamp,
    /// Agents named in it, once each, by id.
    pub agents: Vec<(AgentId, Arc<AgentInfo>)>,
    /// In the core's order.
    pub events: Vec<Event>,
}

/// What a framework is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// First of all, and after every restart of the framework's life.
    Started(Cause),
    /// The configuration before the change; comes alone.
    ConfigChanged(String),
    /// Offers, kept ones included.
    Offers(Vec<Offer>),
    /// Offers that are gone.
    Rescinded(Vec<Rescinded>),
    /// What is to be given back.
    InverseOffers(Vec<InverseOffer>),
    /// Inverse offers that are off.
    InverseRescinded(Vec<Rescinded>),
    /// What became of tasks.
    Updates(Vec<TaskUpdate>),
    /// What became of operations other than launches.
    OperationUpdates(Vec<OperationUpdate>),
    /// Agents where the framework has tasks changed their standing.
    AgentsChanged(Vec<AgentChange>),
    /// Bytes from tasks.
    Messages(Vec<Message>),
    /// Timers that fired.
    Timers(Vec<Fired>),
    /// An operator's request.
    Request(Request),
    /// Nobody waits for this request's open response any more.
    RequestClosed(RequestId),
    /// Commands that were not done.
    Rejected(Vec<Rejection>),
    /// The end of a reconcile.
    Reconciled(Reconciled),
    /// Answer to list-holdings.
    Holdings(Holdings),
    /// Answer to explain.
    Explained(Explained),
}

/// Why a framework starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The first time.
    First,
    /// After a restart of the host or the end of a quarantine.
    Resumed,
    /// After an upgrade from this version.
    Upgraded(String),
}

/// An offer or inverse offer that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescinded {
    /// Its id.
    pub id: u64,
    /// Why.
    pub why: Reason,
}

/// What is to be given back, why, and by when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InverseOffer {
    /// The host's, never reused.
    pub id: u64,
    /// Where.
    pub agent: AgentId,
    /// What.
    pub resources: Resources,
    /// Tasks that hold it.
    pub tasks: Vec<TaskId>,
    /// Why.
    pub why: Reason,
    /// Of the reclaim.
    pub priority: i32,
    /// By when.
    pub by: Timestamp,
    /// What happens then.
    pub then: Consequence,
    /// The agent's planned downtime, if that is the cause.
    pub down: Option<Window>,
}

/// What the host does when an inverse offer's time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Nothing: it is a request.
    Nothing,
    /// Tasks end, least harm first, until enough is back.
    KillUntilCovered,
    /// All tasks there end.
    KillAllOnAgent,
}

/// What became of an operation other than a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationUpdate {
    /// The author's token.
    pub token: String,
    /// Where.
    pub agent: AgentId,
    /// How it ended.
    pub state: OperationState,
    /// Why.
    pub why: Reason,
    /// What it made.
    pub resources: Resources,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// Done.
    Done,
    /// Tried and failed.
    Failed,
    /// Never tried.
    Dropped,
    /// Its agent cannot be reached.
    Unreachable,
    /// Its agent is gone.
    Gone,
    /// The host knows nothing of it.
    Unknown,
}

/// An agent's new standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentChange {
    /// Which.
    pub agent: AgentId,
    /// What it is now.
    pub standing: Standing,
    /// Since when.
    pub since: Timestamp,
}

/// Where an agent stands with the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its connection broke; it will probably be back.
    Disconnected,
    /// It has not been heard of for so long that its tasks are in doubt.
    Unreachable,
    /// It will not be back.
    Gone,
    /// It is back.
    Returned,
}

/// Bytes between a framework and a task; best effort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The task.
    pub task: TaskId,
    /// The bytes.
    pub data: Vec<u8>,
}

/// A timer that fired: once, however late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The author's id.
    pub id: String,
    /// When it was due.
    pub due: Timestamp,
}

/// An operator's request, HTTP-like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// To respond to.
    pub id: RequestId,
    /// `GET`, `POST`, …
    pub method: String,
    /// As sent, encoded; begins with a slash.
    pub path: String,
    /// As sent, without the question mark.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most 1 MiB.
    pub body: Vec<u8>,
    /// Who asks.
    pub principal: String,
    /// Past it the host has answered 504.
    pub deadline: Timestamp,
}

/// A command that was not done. Tasks and operations are told by updates instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The command's token, if it has one.
    pub token: String,
    /// The command's name in the contract.
    pub command: String,
    /// The id in it.
    pub subject: String,
    /// Why.
    pub why: Reason,
}

/// The end of a reconcile: its updates came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// The author's token.
    pub token: String,
    /// How many tasks were answered.
    pub answered: u32,
    /// Tasks whose agent may still return: nothing is said of them yet.
    pub silent: Vec<TaskId>,
}

/// Answer to list-holdings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// The author's token.
    pub token: String,
    /// What is held.
    pub rows: Vec<Holding>,
    /// Whether more follow.
    pub last: bool,
}

/// Something held at an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Where.
    pub agent: AgentId,
    /// Under which role.
    pub role: RoleName,
    /// What.
    pub resources: Resources,
    /// By tasks.
    pub in_use: bool,
}

/// Answer to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The author's token.
    pub token: String,
    /// Why, grouped.
    pub rows: Vec<Explanation>,
    /// Whether more follow.
    pub last: bool,
}

/// One reason for so many agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The demand.
    pub demand: String,
    /// Why.
    pub why: Reason,
    /// For how many agents.
    pub agents: u32,
    /// One of them.
    pub sample: Option<AgentId>,
    /// What is missing there.
    pub short: Resources,
}

/// The output of one step. Templates are already put into their tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Done in order, each by itself.
    pub commands: Vec<Command>,
}

/// What a framework asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Use offers.
    Accept(Accept),
    /// Give offers back.
    Decline(Decline),
    /// Decide later: they come again in every batch until they expire.
    Keep(Vec<OfferId>),
    /// Answer an inverse offer.
    AnswerInverse(InverseAnswer),
    /// End a task.
    Kill(Kill),
    /// Tell again what became of tasks.
    Reconcile(Reconcile),
    /// No offers under these roles; empty: all.
    Suppress(Vec<RoleName>),
    /// Offers again under these roles, and their filters go; empty: all.
    Revive(Vec<RoleName>),
    /// Say what could be used.
    SetDemand(Box<Demand>),
    /// Take demands back.
    ClearDemand(Vec<String>),
    /// Be called later.
    SetTimer(Timer),
    /// Not to be called after all.
    CancelTimer(String),
    /// How many of a group may be down.
    SetAvailability(Availability),
    /// Answer a request.
    Respond(Response),
    /// To those who listen to open responses.
    Publish(Publication),
    /// Bytes to a task.
    Message(Message),
    /// List what is held; the token.
    ListHoldings(String),
    /// Ask why there are no offers.
    Explain(ExplainDemands),
    /// The framework is done.
    Finish(Finish),
    /// A command that was malformed where it crossed the boundary; nothing of it is done.
    Malformed(Rejection),
}

/// Use offers of one or several agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// One per agent and role.
    pub parts: Vec<Part>,
    /// All parts and operations, or nothing.
    pub whole: bool,
    /// Filter for what is left over; none: 5 s.
    pub refuse: Option<Duration>,
}

/// Offers of one agent and role, and what to do with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Only without offers: for what is ours and idle there.
    pub agent: Option<AgentId>,
    /// The offers; their resources are pooled.
    pub offers: Vec<OfferId>,
    /// Each sees the effects of those before it.
    pub operations: Vec<Operation>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The author's token for its update, or empty.
    pub token: String,
    /// What to do.
    pub act: Act,
}

/// What to do with the resources of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Each task by itself.
    Launch(Vec<TaskSpec>),
    /// All tasks or none, on one agent.
    LaunchGroup(Vec<TaskSpec>),
    /// Reserve.
    Reserve(Reserve),
    /// Let a reservation go.
    Unreserve(Resources),
    /// Make a volume.
    CreateVolume(CreateVolume),
    /// Destroy a volume, by id.
    DestroyVolume(String),
    /// An operation that was malformed where it crossed the boundary.
    Malformed(Vec<MalformedTask>, Reason),
}

/// A task whose description could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedTask {
    /// Its id as far as it can be told back.
    pub id: String,
    /// What is wrong.
    pub why: Reason,
}

/// Reserve resources to a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// What.
    pub resources: Resources,
    /// To whom.
    pub role: RoleName,
    /// The author's label.
    pub label: String,
}

/// Make a volume of reserved disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateVolume {
    /// The author's id, unique in the framework.
    pub id: String,
    /// Of what.
    pub take: Resources,
    /// Whether several may hold it at once.
    pub shared: bool,
}

/// Give offers back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decline {
    /// Which.
    pub offers: Vec<OfferId>,
    /// For how long not to be offered the same; none: 5 s.
    pub refuse: Option<Duration>,
    /// For people.
    pub why: String,
}

/// Answer to an inverse offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InverseAnswer {
    /// Which.
    pub id: u64,
    /// Whether it will be given back.
    pub accept: bool,
    /// Which tasks will end for it.
    pub tasks: Vec<TaskId>,
    /// When; after `by` it asks for more time.
    pub at: Option<Timestamp>,
    /// Declined: not to be asked again for so long.
    pub refuse: Duration,
    /// For people.
    pub why: String,
}

/// End a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Which; not yet checked to be a task id.
    pub task: String,
    /// Between TERM and KILL; none: the template's. May only shorten one that runs.
    pub grace: Option<Duration>,
    /// For people.
    pub why: String,
}

/// Tell again what became of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconcile {
    /// The author's.
    pub token: String,
    /// None: all that have not ended.
    pub tasks: Vec<String>,
}

/// Be called later. Same id: replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The author's, 1–255 bytes.
    pub id: String,
    /// When.
    pub due: Due,
}

/// When a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// By the wall clock.
    At(Timestamp),
    /// After so long, by the monotonic clock.
    After(Duration),
}

/// How many tasks of a group may be down at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// The templates' group.
    pub group: String,
    /// At most so many.
    pub down_max: u32,
    /// For at most so long each.
    pub down_for: Duration,
}

/// Answer to a request. With topics it stays open for what is published from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// To which.
    pub request: RequestId,
    /// HTTP status, 200–599.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// At most 8 MiB in all responses of a step.
    pub body: Vec<u8>,
    /// Empty: the response is complete.
    pub topics: Vec<String>,
}

/// Bytes to those who listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Once to each listener of any of them.
    pub topics: Vec<String>,
    /// The bytes.
    pub data: Vec<u8>,
    /// And their responses end.
    pub close: bool,
}

/// Ask why there are no offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainDemands {
    /// The author's.
    pub token: String,
    /// Keys; none: all.
    pub demands: Vec<String>,
}

/// The framework is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// For people.
    pub text: String,
    /// End what still runs.
    pub kill_tasks: bool,
    /// Let reservations go.
    pub release: bool,
}

/// A write through the `state` interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateWrite {
    /// Key and value.
    Set(String, Arc<[u8]>),
    /// Key.
    Delete(String),
    /// From `begin` up to and without `end`; empty `end`: no bound.
    DeleteRange(String, String),
}

/// A metric written in a step; counts once with it.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricWrite {
    /// The author's name: letters, digits, `_`.
    pub name: String,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// What to do.
    pub value: MetricValue,
}

/// What a metric write does.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// Add to a counter.
    Count(u64),
    /// Set a gauge.
    Gauge(f64),
    /// Observe in a histogram.
    Observe(f64),
}

/// How many constraints a demand may have in all groups together: each costs a test per agent.
pub const CONSTRAINTS_MAX: usize = 64;

/// Counts the constraints of all groups.
#[must_use]
pub fn constraint_count(groups: &[Vec<Constraint>]) -> usize {
    groups.iter().map(Vec::len).sum()
}
