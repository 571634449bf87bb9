//! What operators ask of a host, as plain values at both ends.
//!
//! The daemon implements [`Operator`] and gives it to [`crate::serve::Server::operators`]; tools use
//! [`OperatorClient`]. Both speak the types of this module: neither sees a wire type. What an answer
//! means is said in `proto/operator.proto`, which is written for those who use other languages.
//!
//! Lists come in pages ([`Page`], [`Paged`]); a host never builds an answer in proportion to its
//! cluster.

mod client;
mod cluster;
mod frameworks;
mod page;
mod policies;
mod reasons;
mod server;
mod tasks;
#[cfg(test)]
mod tests;
mod wire;

use std::future::Future;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use client::{OperatorClient, Stream};
pub use cluster::{
    Agent, AgentQuery, AgentState, DeclareAgentGone, FrameworkUsage, Offer, OfferCounts,
    OfferQuery, Reserve, Role, RolePolicy, RoleQuery, SetQuota, SetRole, SetRolePolicy, Status,
    StatusQuery, Usage, UsageQuery,
};
pub use frameworks::{
    AddFramework, AddedFramework, DemandRow, FailingEvent, Framework, FrameworkDetail,
    FrameworkName, FrameworkQuery, FrameworkRequest, FrameworkResponse, FrameworkState,
    InspectComponent, Left, LeftBehind, Limit, PlanRemoval, Plugin, RemovalPlan, RemoveFramework,
    ReservationFate, ResumeFramework, SkipEvent, SkippedEvent, UpgradeFramework, UpgradeOutcome,
    UpgradedFramework,
};
pub use page::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, Page, Paged};
pub use policies::{
    CancelPolicySwap, Policy, PolicyCanary, PolicyCause, PolicyHistoryQuery, PolicyQuery,
    PolicyRecord, PolicyTrial, PromotePolicy, RollBackPolicy, SwapPolicy, SwappedPolicy, TrialRole,
};
pub use reasons::{Explanation, ReasonCount, Subject, TaskName};
pub use tasks::{FetchOutput, KillTask, LogStream, Task, TaskLogs, TaskQuery};

pub(crate) use server::operator_service;

/// The largest component that an operator may send: a framework is under one MiB in Rust and about
/// ten in languages that bring their runtime.
pub const COMPONENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Chunks that wait between whoever reads a file and the network.
pub const CHUNKS_AHEAD: usize = 8;

/// Why an operator's call failed. The text says what, where, and what may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What was given is malformed.
    #[error("{0}")]
    Invalid(String),
    /// It was not approved, or the token is wrong.
    #[error("{0}")]
    Denied(String),
    /// It exists already, or something is in the way.
    #[error("{0}")]
    Conflict(String),
    /// This host does not do that.
    #[error("{0}")]
    Unsupported(String),
    /// Somebody who would have to answer does not, now.
    #[error("{0}")]
    Unavailable(String),
    /// The host's own fault.
    #[error("{0}")]
    Internal(String),
}

/// Bytes on their way to a caller, in chunks of at most 64 KiB or so. An error ends them; so does the
/// sender's end.
pub type Chunks = mpsc::Receiver<Result<Bytes, OperatorError>>;

/// What a call comes back with.
pub type Answer<T> = Result<T, OperatorError>;

/// The host, as operators see it. Implementors write `async fn`.
pub trait Operator: Send + Sync + 'static {
    /// How things stand.
    fn status(&self, query: StatusQuery) -> impl Future<Output = Answer<Status>> + Send;
    /// Agents, by id.
    fn agents(&self, query: AgentQuery) -> impl Future<Output = Answer<Paged<Agent>>> + Send;
    /// Frameworks, by name.
    fn frameworks(
        &self,
        query: FrameworkQuery,
    ) -> impl Future<Output = Answer<Paged<Framework>>> + Send;
    /// Tasks, running and ended, by framework and id.
    fn tasks(&self, query: TaskQuery) -> impl Future<Output = Answer<Paged<Task>>> + Send;
    /// Offers outstanding, by id.
    fn offers(&self, query: OfferQuery) -> impl Future<Output = Answer<Paged<Offer>>> + Send;
    /// Roles, by name.
    fn roles(&self, query: RoleQuery) -> impl Future<Output = Answer<Paged<Role>>> + Send;
    /// One framework in full.
    fn framework(
        &self,
        name: FrameworkName,
    ) -> impl Future<Output = Answer<FrameworkDetail>> + Send;
    /// What a component is and asks for.
    fn inspect(&self, component: InspectComponent) -> impl Future<Output = Answer<Plugin>> + Send;
    /// Adds a framework, if all that it imports was approved.
    fn add_framework(
        &self,
        framework: AddFramework,
    ) -> impl Future<Output = Answer<AddedFramework>> + Send;
    /// Lets a framework go on as another version, if all that it imports was approved.
    fn upgrade_framework(
        &self,
        upgrade: UpgradeFramework,
    ) -> impl Future<Output = Answer<UpgradedFramework>> + Send;
    /// Passes over the event that a quarantined framework fails at.
    fn skip_event(&self, which: SkipEvent) -> impl Future<Output = Answer<()>> + Send;
    /// What a removal would end.
    fn plan_removal(&self, which: PlanRemoval) -> impl Future<Output = Answer<RemovalPlan>> + Send;
    /// Says that an agent will not be back.
    fn declare_agent_gone(
        &self,
        which: DeclareAgentGone,
    ) -> impl Future<Output = Answer<()>> + Send;
    /// Kills a framework's tasks and lets it go.
    fn remove_framework(&self, which: RemoveFramework) -> impl Future<Output = Answer<()>> + Send;
    /// Lets a quarantined framework try again.
    fn resume_framework(&self, which: ResumeFramework) -> impl Future<Output = Answer<()>> + Send;
    /// Ends a task.
    fn kill_task(&self, which: KillTask) -> impl Future<Output = Answer<()>> + Send;
    /// What a task wrote.
    fn task_logs(&self, which: TaskLogs) -> impl Future<Output = Answer<Chunks>> + Send;
    /// A file of a task's sandbox.
    fn fetch_output(&self, which: FetchOutput) -> impl Future<Output = Answer<Chunks>> + Send;
    /// To a framework's own interface.
    fn request(
        &self,
        request: FrameworkRequest,
    ) -> impl Future<Output = Answer<FrameworkResponse>> + Send;
    /// Which policy decides, and how it does.
    fn policy(&self, query: PolicyQuery) -> impl Future<Output = Answer<Policy>> + Send;
    /// Puts another policy in, beside the one that runs until it has caught up.
    fn swap_policy(&self, swap: SwapPolicy) -> impl Future<Output = Answer<SwappedPolicy>> + Send;
    /// Drops the policy that is being put in, or tried.
    fn cancel_policy_swap(
        &self,
        cancel: CancelPolicySwap,
    ) -> impl Future<Output = Answer<()>> + Send;
    /// The canary takes the seat.
    fn promote_policy(
        &self,
        promote: PromotePolicy,
    ) -> impl Future<Output = Answer<SwappedPolicy>> + Send;
    /// Goes back to the policy before the last swap, or drops the canary.
    fn roll_back_policy(
        &self,
        back: RollBackPolicy,
    ) -> impl Future<Output = Answer<SwappedPolicy>> + Send;
    /// Policies that were put in, oldest first.
    fn policy_history(
        &self,
        query: PolicyHistoryQuery,
    ) -> impl Future<Output = Answer<Paged<PolicyRecord>>> + Send;
    /// Sets a role's weight.
    fn set_role(&self, role: SetRole) -> impl Future<Output = Answer<()>> + Send;
    /// Sets a role's quota.
    fn set_quota(&self, quota: SetQuota) -> impl Future<Output = Answer<()>> + Send;
    /// Gives a role a policy of its own, or takes it away.
    fn set_role_policy(&self, set: SetRolePolicy) -> impl Future<Output = Answer<()>> + Send;
    /// Reserves what is free on an agent, or lets it go.
    fn reserve(&self, reserve: Reserve) -> impl Future<Output = Answer<()>> + Send;
    /// Why something is as it is.
    fn explain(&self, subject: Subject) -> impl Future<Output = Answer<Explanation>> + Send;
    /// Who used how much of the pool, over time.
    fn usage(&self, query: UsageQuery) -> impl Future<Output = Answer<Usage>> + Send;
}
