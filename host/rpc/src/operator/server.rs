//! The host's side: wire in, plain values to the daemon, wire out.

use std::future::Future;

use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::wire::Wired;
use super::{Answer, COMPONENT_BYTES_MAX, Chunks, Operator, OperatorError};
use crate::proto::operator::v0 as wire;
use crate::proto::operator::v0::operator_service_server::{OperatorService, OperatorServiceServer};
use crate::transport::MESSAGE_MAX;

/// A component and what is said of it.
pub(super) const REQUEST_MAX: usize = COMPONENT_BYTES_MAX + 1024 * 1024;

pub(crate) fn operator_service<O: Operator>(
    operator: O,
) -> OperatorServiceServer<impl OperatorService> {
    OperatorServiceServer::new(Calls(operator))
        .max_decoding_message_size(REQUEST_MAX)
        .max_encoding_message_size(MESSAGE_MAX)
}

struct Calls<O>(O);

type ChunkStream =
    std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<wire::Chunk, Status>> + Send>>;

/// One call: decoded, done, encoded.
async fn call<Q: Wired, A: Wired, F: Future<Output = Answer<A>>>(
    request: Request<Q::Wire>,
    work: impl FnOnce(Q) -> F,
) -> Result<Response<A::Wire>, Status> {
    let query = Q::from_wire("request", request.into_inner())
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let answer = work(query).await.map_err(status)?;
    Ok(Response::new(answer.to_wire()))
}

async fn stream<Q: Wired, F: Future<Output = Answer<Chunks>>>(
    request: Request<Q::Wire>,
    work: impl FnOnce(Q) -> F,
) -> Result<Response<ChunkStream>, Status> {
    let query = Q::from_wire("request", request.into_inner())
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let chunks = work(query).await.map_err(status)?;
    let chunks = ReceiverStream::new(chunks).map(|chunk| match chunk {
        Ok(data) => Ok(wire::Chunk { data }),
        Err(error) => Err(status(error)),
    });
    Ok(Response::new(Box::pin(chunks)))
}

fn status(error: OperatorError) -> Status {
    match error {
        OperatorError::NotFound(text) => Status::not_found(text),
        OperatorError::Invalid(text) => Status::invalid_argument(text),
        OperatorError::Denied(text) => Status::permission_denied(text),
        OperatorError::Conflict(text) => Status::already_exists(text),
        OperatorError::Unsupported(text) => Status::unimplemented(text),
        OperatorError::Unavailable(text) => Status::unavailable(text),
        OperatorError::Internal(text) => Status::internal(text),
    }
}

macro_rules! calls {
    ($($method:ident($request:ident) -> $response:ident = $call:ident;)*) => {
        #[tonic::async_trait]
        impl<O: Operator> OperatorService for Calls<O> {
            $(async fn $method(
                &self,
                request: Request<wire::$request>,
            ) -> Result<Response<wire::$response>, Status> {
                call(request, |query| self.0.$call(query)).await
            })*

            type TaskLogsStream = ChunkStream;

            async fn task_logs(
                &self,
                request: Request<wire::TaskLogsRequest>,
            ) -> Result<Response<ChunkStream>, Status> {
                stream(request, |query| self.0.task_logs(query)).await
            }

            type FetchOutputStream = ChunkStream;

            async fn fetch_output(
                &self,
                request: Request<wire::FetchOutputRequest>,
            ) -> Result<Response<ChunkStream>, Status> {
                stream(request, |query| self.0.fetch_output(query)).await
            }
        }
    };
}

calls! {
    get_status(GetStatusRequest) -> Status = status;
    list_agents(ListAgentsRequest) -> ListAgentsResponse = agents;
    list_frameworks(ListFrameworksRequest) -> ListFrameworksResponse = frameworks;
    list_tasks(ListTasksRequest) -> ListTasksResponse = tasks;
    list_offers(ListOffersRequest) -> ListOffersResponse = offers;
    list_roles(ListRolesRequest) -> ListRolesResponse = roles;
    get_framework(GetFrameworkRequest) -> FrameworkDetail = framework;
    inspect_component(InspectComponentRequest) -> Plugin = inspect;
    add_framework(AddFrameworkRequest) -> AddFrameworkResponse = add_framework;
    upgrade_framework(UpgradeFrameworkRequest) -> UpgradeFrameworkResponse = upgrade_framework;
    skip_event(SkipEventRequest) -> Done = skip_event;
    plan_removal(PlanRemovalRequest) -> RemovalPlan = plan_removal;
    declare_agent_gone(DeclareAgentGoneRequest) -> Done = declare_agent_gone;
    remove_framework(RemoveFrameworkRequest) -> Done = remove_framework;
    resume_framework(ResumeFrameworkRequest) -> Done = resume_framework;
    kill_task(KillTaskRequest) -> Done = kill_task;
    request(FrameworkRequest) -> FrameworkResponse = request;
    get_policy(GetPolicyRequest) -> Policy = policy;
    swap_policy(SwapPolicyRequest) -> SwappedPolicy = swap_policy;
    cancel_policy_swap(CancelPolicySwapRequest) -> Done = cancel_policy_swap;
    promote_policy(PromotePolicyRequest) -> SwappedPolicy = promote_policy;
    roll_back_policy(RollBackPolicyRequest) -> SwappedPolicy = roll_back_policy;
    list_policy_history(ListPolicyHistoryRequest) -> ListPolicyHistoryResponse = policy_history;
    set_role(SetRoleRequest) -> Done = set_role;
    set_quota(SetQuotaRequest) -> Done = set_quota;
    set_role_policy(SetRolePolicyRequest) -> Done = set_role_policy;
    reserve(ReserveRequest) -> Done = reserve;
    explain(ExplainRequest) -> Explanation = explain;
    get_usage(GetUsageRequest) -> Usage = usage;
}
