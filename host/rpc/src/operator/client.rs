//! A tool's side: plain values in, a call with a deadline, plain values out.

use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Request, Streaming};

use super::server::REQUEST_MAX;
use super::wire::Wired;
use super::{
    AddFramework, AddedFramework, Agent, AgentQuery, Answer, COMPONENT_BYTES_MAX, CancelPolicySwap,
    DeclareAgentGone, Explanation, FetchOutput, Framework, FrameworkDetail, FrameworkName,
    FrameworkQuery, FrameworkRequest, FrameworkResponse, InspectComponent, KillTask, Offer,
    OfferQuery, OperatorError, Paged, PlanRemoval, Plugin, Policy, PolicyHistoryQuery, PolicyQuery,
    PolicyRecord, PromotePolicy, RemovalPlan, RemoveFramework, Reserve, ResumeFramework, Role,
    RoleQuery, RollBackPolicy, SetQuota, SetRole, SetRolePolicy, SkipEvent, Status, StatusQuery,
    Subject, SwapPolicy, SwappedPolicy, Task, TaskLogs, TaskQuery, UpgradeFramework,
    UpgradedFramework, Usage, UsageQuery,
};
use crate::leader::find;
use crate::proto::operator::v0 as wire;
use crate::proto::operator::v0::operator_service_client::OperatorServiceClient;
use crate::token::Token;
use crate::transport::{
    self, Candidate, ConnectError, MESSAGE_MAX, PeerAddress, Tls, TokenChannel,
};

/// What the host answers from its own memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Longer than any sensible lease: by then somebody leads, or nobody will.
const LEADER_WITHIN: Duration = Duration::from_secs(30);

/// A framework answers within the host's own limit (30 s by default), which shall be the one that
/// is met.
const REQUEST_WITHIN: Duration = Duration::from_secs(90);

/// A component is compiled first, and a large one takes long on a small machine.
const COMPILE_WITHIN: Duration = Duration::from_secs(180);

/// A connection to a host, for operators. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OperatorClient {
    client: OperatorServiceClient<TokenChannel>,
}

/// Bytes on their way here.
#[derive(Debug)]
pub struct Stream(Streaming<wire::Chunk>);

impl Stream {
    /// The next piece; none at the end. Waits as long as the other side has more to say.
    ///
    /// # Errors
    /// If the file cannot be read to its end.
    pub async fn next(&mut self) -> Answer<Option<Bytes>> {
        match self.0.message().await {
            Ok(chunk) => Ok(chunk.map(|chunk| chunk.data)),
            Err(status) => Err(error(&status)),
        }
    }

    /// All of it, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// If the file is larger or cannot be read to its end.
    pub async fn all(mut self, limit: usize) -> Answer<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.next().await? {
            if whole.len() + chunk.len() > limit {
                return Err(OperatorError::Invalid(format!(
                    "the file is larger than {limit} bytes"
                )));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }
}

macro_rules! calls {
    ($($(#[$doc:meta])* $visibility:vis fn $name:ident($query:ty) -> $answer:ty = $method:ident within $within:ident;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// As the host says, or if it cannot be reached in time.
            $visibility async fn $name(&self, query: $query) -> Answer<$answer> {
                let mut request = Request::new(query.to_wire());
                request.set_timeout($within);
                // The host's deadline is a courtesy; this one holds when the host is stuck.
                let call = self.client.clone();
                let answered = tokio::time::timeout($within, async move {
                    let mut call = call;
                    call.$method(request).await
                });
                let answer = answered.await.map_err(|_| late())?.map_err(|status| error(&status))?;
                Wired::from_wire("answer", answer.into_inner())
                    .map_err(|error| OperatorError::Internal(format!("the host's answer: {error}")))
            }
        )*
    };
}

impl OperatorClient {
    /// Connects to a host.
    ///
    /// # Errors
    /// If it cannot be reached now.
    pub async fn connect(
        address: &PeerAddress,
        token: &Token,
        tls: &Tls,
    ) -> Result<Self, ConnectError> {
        Self::connect_as(&address.into(), token, tls).await
    }

    async fn connect_as(to: &Candidate, token: &Token, tls: &Tls) -> Result<Self, ConnectError> {
        let channel = transport::connect(to, token, tls).await?;
        let client = OperatorServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(REQUEST_MAX);
        Ok(Self { client })
    }

    /// Connects to the host that leads, of several that may; gives up after a while if nobody does.
    ///
    /// # Errors
    /// As [`Self::connect`], or that nobody leads.
    pub async fn connect_to_leader(
        hosts: &[PeerAddress],
        token: &Token,
        tls: &Tls,
    ) -> Result<Self, ConnectError> {
        let finding = find(hosts, |candidate| async move {
            let client = Self::connect_as(&candidate, token, tls).await?;
            let mut request = Request::new(wire::GetStatusRequest {});
            request.set_timeout(ANSWER_WITHIN);
            match client.client.clone().get_status(request).await {
                // What else is wrong, the call itself will say.
                Ok(_) => Ok(client),
                Err(status) => match transport::failure(&candidate.address, &status) {
                    failed @ (ConnectError::NotLeader { .. }
                    | ConnectError::Unauthenticated { .. }) => Err(failed),
                    failed if hosts.len() > 1 => Err(failed),
                    _ => Ok(client),
                },
            }
        });
        tokio::time::timeout(LEADER_WITHIN, finding)
            .await
            .unwrap_or_else(|_| {
                let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
                Err(ConnectError::NotLeader {
                    address: names.join(","),
                    leader: String::new(),
                })
            })
    }

    calls! {
        /// How things stand.
        pub fn status(StatusQuery) -> Status = get_status within ANSWER_WITHIN;
        /// Agents, by id.
        pub fn agents(AgentQuery) -> Paged<Agent> = list_agents within ANSWER_WITHIN;
        /// Frameworks, by name.
        pub fn frameworks(FrameworkQuery) -> Paged<Framework> = list_frameworks within ANSWER_WITHIN;
        /// Tasks, by framework and id.
        pub fn tasks(TaskQuery) -> Paged<Task> = list_tasks within ANSWER_WITHIN;
        /// Offers outstanding, by id.
        pub fn offers(OfferQuery) -> Paged<Offer> = list_offers within ANSWER_WITHIN;
        /// Roles, by name.
        pub fn roles(RoleQuery) -> Paged<Role> = list_roles within ANSWER_WITHIN;
        /// One framework in full.
        pub fn framework(FrameworkName) -> FrameworkDetail = get_framework within ANSWER_WITHIN;
        /// Kills a framework's tasks and lets it go.
        pub fn remove_framework(RemoveFramework) -> () = remove_framework within ANSWER_WITHIN;
        /// Passes over the event that a quarantined framework fails at.
        pub fn skip_event(SkipEvent) -> () = skip_event within ANSWER_WITHIN;
        /// What a removal would end.
        pub fn plan_removal(PlanRemoval) -> RemovalPlan = plan_removal within ANSWER_WITHIN;
        /// Says that an agent will not be back.
        pub fn declare_agent_gone(DeclareAgentGone) -> () = declare_agent_gone within ANSWER_WITHIN;
        /// Lets a quarantined framework try again.
        pub fn resume_framework(ResumeFramework) -> () = resume_framework within ANSWER_WITHIN;
        /// Ends a task.
        pub fn kill_task(KillTask) -> () = kill_task within ANSWER_WITHIN;
        /// To a framework's own interface.
        pub fn request(FrameworkRequest) -> FrameworkResponse = request within REQUEST_WITHIN;
        /// Which policy decides, and how it does.
        pub fn policy(PolicyQuery) -> Policy = get_policy within ANSWER_WITHIN;
        /// Drops the policy that is being put in, or tried.
        pub fn cancel_policy_swap(CancelPolicySwap) -> () = cancel_policy_swap within ANSWER_WITHIN;
        /// The canary takes the seat. The answer comes when it decides.
        pub fn promote_policy(PromotePolicy) -> SwappedPolicy = promote_policy within ANSWER_WITHIN;
        /// Goes back to the policy before the last swap, or drops the canary. The answer comes when it decides.
        pub fn roll_back_policy(RollBackPolicy) -> SwappedPolicy = roll_back_policy within COMPILE_WITHIN;
        /// Policies that were put in, oldest first.
        pub fn policy_history(PolicyHistoryQuery) -> Paged<PolicyRecord> = list_policy_history within ANSWER_WITHIN;
        /// Sets a role's weight.
        pub fn set_role(SetRole) -> () = set_role within ANSWER_WITHIN;
        /// Sets a role's quota.
        pub fn set_quota(SetQuota) -> () = set_quota within ANSWER_WITHIN;
        /// Reserves what is free on an agent, or lets it go.
        pub fn reserve(Reserve) -> () = reserve within ANSWER_WITHIN;
        /// Why something is as it is.
        pub fn explain(Subject) -> Explanation = explain within ANSWER_WITHIN;
        /// Who used how much of the pool, over time.
        pub fn usage(UsageQuery) -> Usage = get_usage within ANSWER_WITHIN;
    }

    /// What a component is and asks for.
    ///
    /// # Errors
    /// As the host says; if the component is too large it is not sent.
    pub async fn inspect(&self, query: InspectComponent) -> Answer<Plugin> {
        check_size(&query.component)?;
        self.inspect_sent(query).await
    }

    /// Adds a framework.
    ///
    /// # Errors
    /// As the host says; if the component is too large it is not sent.
    pub async fn add_framework(&self, query: AddFramework) -> Answer<AddedFramework> {
        check_size(&query.component)?;
        self.add_sent(query).await
    }

    /// Lets a framework go on as another version of its component. The answer comes when that version
    /// has taken its first step.
    ///
    /// # Errors
    /// As the host says, and then the version before goes on; if the component is too large it is not
    /// sent.
    pub async fn upgrade_framework(&self, query: UpgradeFramework) -> Answer<UpgradedFramework> {
        check_size(&query.component)?;
        self.upgrade_sent(query).await
    }

    /// Puts another policy in. The answer comes when it decides.
    ///
    /// # Errors
    /// As the host says, and then the policy before goes on; if the component is too large it is not
    /// sent.
    pub async fn swap_policy(&self, query: SwapPolicy) -> Answer<SwappedPolicy> {
        check_size(&query.component)?;
        self.swap_sent(query).await
    }

    /// Gives a role a policy of its own, or takes it away.
    ///
    /// # Errors
    /// As the host says; if the component is too large it is not sent.
    pub async fn set_role_policy(&self, query: SetRolePolicy) -> Answer<()> {
        check_size(&query.component)?;
        self.role_policy_sent(query).await
    }

    calls! {
        /// [`Self::set_role_policy`], its size checked.
        fn role_policy_sent(SetRolePolicy) -> () = set_role_policy within COMPILE_WITHIN;
        /// [`Self::swap_policy`], its size checked.
        fn swap_sent(SwapPolicy) -> SwappedPolicy = swap_policy within COMPILE_WITHIN;
        /// [`Self::upgrade_framework`], its size checked.
        fn upgrade_sent(UpgradeFramework) -> UpgradedFramework = upgrade_framework within COMPILE_WITHIN;
        /// [`Self::inspect`], its size checked.
        fn inspect_sent(InspectComponent) -> Plugin = inspect_component within COMPILE_WITHIN;
        /// [`Self::add_framework`], its size checked.
        fn add_sent(AddFramework) -> AddedFramework = add_framework within COMPILE_WITHIN;
    }

    /// What a task wrote.
    ///
    /// # Errors
    /// As the host says.
    pub async fn task_logs(&self, query: TaskLogs) -> Answer<Stream> {
        let mut client = self.client.clone();
        let opened = client.task_logs(query.to_wire());
        let opened = tokio::time::timeout(ANSWER_WITHIN, opened).await;
        open(opened.map_err(|_| late())?)
    }

    /// A file of a task's sandbox.
    ///
    /// # Errors
    /// As the host says.
    pub async fn fetch_output(&self, query: FetchOutput) -> Answer<Stream> {
        let mut client = self.client.clone();
        let opened = client.fetch_output(query.to_wire());
        let opened = tokio::time::timeout(ANSWER_WITHIN, opened).await;
        open(opened.map_err(|_| late())?)
    }
}

fn open(opened: Result<tonic::Response<Streaming<wire::Chunk>>, tonic::Status>) -> Answer<Stream> {
    match opened {
        Ok(response) => Ok(Stream(response.into_inner())),
        Err(status) => Err(error(&status)),
    }
}

fn check_size(component: &Bytes) -> Answer<()> {
    if component.len() <= COMPONENT_BYTES_MAX {
        return Ok(());
    }
    Err(OperatorError::Invalid(format!(
        "the component has {} bytes, more than the {} MiB that a host takes; build it for release \
         and strip it",
        component.len(),
        COMPONENT_BYTES_MAX / (1024 * 1024)
    )))
}

fn late() -> OperatorError {
    OperatorError::Unavailable(
        "the host did not answer in time; see its log, and try again".to_owned(),
    )
}

fn error(status: &tonic::Status) -> OperatorError {
    let text = status.message().to_owned();
    match status.code() {
        Code::NotFound => OperatorError::NotFound(text),
        Code::InvalidArgument | Code::OutOfRange => OperatorError::Invalid(text),
        Code::PermissionDenied => OperatorError::Denied(text),
        Code::Unauthenticated => OperatorError::Denied(format!(
            "the host refused the token: {text}; use the file `token` of its data directory"
        )),
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => {
            OperatorError::Conflict(text)
        }
        // What answers there speaks HTTP, and no gRPC.
        Code::Unimplemented if text.contains("grpc-status header missing") => {
            OperatorError::Unavailable(format!(
                "no host answers at that port ({text}); give the one that `proffer up` calls host"
            ))
        }
        Code::Unimplemented => OperatorError::Unsupported(text),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
            OperatorError::Unavailable(format!("the host does not answer: {text}"))
        }
        _ => OperatorError::Internal(text),
    }
}
