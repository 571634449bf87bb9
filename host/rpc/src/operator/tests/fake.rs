//! A host that answers fixed values.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proffer_model::{
    AgentId, AgentInfo, Amount, Bundle, Duration, FrameworkId, LaunchNumber, OfferId, Reason,
    Remedy, Resources, RoleName, TaskId, TaskState, Timestamp, code,
};
use tokio::sync::mpsc;

use crate::operator::{
    AddFramework, AddedFramework, Agent, AgentQuery, AgentState, Answer, CHUNKS_AHEAD,
    CancelPolicySwap, Chunks, DeclareAgentGone, DemandRow, Explanation, FailingEvent, FetchOutput,
    Framework, FrameworkDetail, FrameworkName, FrameworkQuery, FrameworkRequest, FrameworkResponse,
    FrameworkState, FrameworkUsage, InspectComponent, KillTask, Left, LeftBehind, Limit, Offer,
    OfferCounts, OfferQuery, Operator, OperatorError, Paged, PlanRemoval, Plugin, Policy,
    PolicyCanary, PolicyCause, PolicyHistoryQuery, PolicyQuery, PolicyRecord, PolicyTrial,
    PromotePolicy, ReasonCount, RemovalPlan, RemoveFramework, Reserve, ResumeFramework, Role,
    RolePolicy, RoleQuery, RollBackPolicy, SetQuota, SetRole, SetRolePolicy, SkipEvent,
    SkippedEvent, Status, StatusQuery, Subject, SwapPolicy, SwappedPolicy, Task, TaskLogs,
    TaskQuery, TrialRole, UpgradeFramework, UpgradeOutcome, UpgradedFramework, Usage, UsageQuery,
};

/// Answers with fixed values and remembers what it was asked. Names that begin with `bad-` fail in
/// the way that the rest of the name says.
#[derive(Clone, Default)]
pub(super) struct Fake {
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn note(&self, query: impl std::fmt::Debug) {
        self.asked.lock().unwrap().push(format!("{query:?}"));
    }
}

pub(super) fn fail(name: &str) -> Answer<()> {
    let text = "what, where and the mend".to_owned();
    match name {
        "bad-not-found" => Err(OperatorError::NotFound(text)),
        "bad-invalid" => Err(OperatorError::Invalid(text)),
        "bad-denied" => Err(OperatorError::Denied(text)),
        "bad-conflict" => Err(OperatorError::Conflict(text)),
        "bad-unsupported" => Err(OperatorError::Unsupported(text)),
        "bad-unavailable" => Err(OperatorError::Unavailable(text)),
        "bad-internal" => Err(OperatorError::Internal(text)),
        _ => Ok(()),
    }
}

pub(super) fn bundle(text: &str) -> Bundle {
    text.parse().unwrap()
}

pub(super) fn reason() -> Reason {
    Reason::new(code::NO_FIT, Remedy::Retry, "too little is free")
}

pub(super) fn counts() -> OfferCounts {
    OfferCounts {
        made: 5,
        accepted: 4,
        declined: 3,
        expired: 2,
        rescinded: 1,
    }
}

pub(super) fn status() -> Status {
    Status {
        version: "0.1".into(),
        contract: "0.1.0-dev.1".into(),
        cluster: "c".into(),
        started: Timestamp(1),
        now: Timestamp(2),
        http_address: "127.0.0.1:8".into(),
        agents: 3,
        agents_active: 2,
        frameworks: 1,
        tasks_active: 4,
        tasks_ended: 5,
        pool: Bundle {
            // Of many agents: more than one of them may have.
            mem: Amount::MAX_INPUT + Amount::MAX_INPUT,
            ..bundle("cpus:4;ports:[1-3];tokens:2")
        },
        used: bundle("cpus:0.5"),
        offered: Bundle::default(),
        cycles: 6,
        offers: counts(),
    }
}

pub(super) fn agent() -> Agent {
    Agent {
        id: AgentId(7),
        state: AgentState::Unreachable,
        since: Some(Timestamp(9)),
        info: AgentInfo {
            hostname: "node".into(),
            region: "".into(),
            zone: "z".into(),
            attributes: Vec::new(),
        },
        total: bundle("cpus:4"),
        used: bundle("cpus:1"),
        offered: bundle("cpus:2"),
        tasks: 3,
        data_address: "http://h:1".into(),
        gone_at: Some(Timestamp(11)),
    }
}

pub(super) fn framework() -> Framework {
    Framework {
        id: FrameworkId(2),
        name: "mapreduce".into(),
        version: "0.1".into(),
        digest: "sha256:x".into(),
        roles: vec![RoleName::star(), RoleName::new("eng/a").unwrap()],
        state: FrameworkState::Quarantined,
        why: Some(reason()),
        tasks_active: 1,
        tasks_ended: 2,
        used: bundle("mem:7"),
        share_milli: 300,
        offers: counts(),
    }
}

pub(super) fn task() -> Task {
    Task {
        framework: "mapreduce".into(),
        id: TaskId::new("job.m1").unwrap(),
        name: "map".into(),
        state: TaskState::GoneByOperator,
        why: Some(reason()),
        exit: Some(-9),
        agent: AgentId(1),
        hostname: "node".into(),
        role: RoleName::star(),
        resources: Resources::plain(bundle("cpus:1")),
        launch: LaunchNumber(8),
        launched: Timestamp(1),
        started: None,
        ended: Some(Timestamp(3)),
    }
}

pub(super) fn offer() -> Offer {
    Offer {
        id: OfferId(1 << 40),
        framework: "mapreduce".into(),
        role: RoleName::star(),
        agent: AgentId(1),
        hostname: "node".into(),
        resources: Resources::plain(bundle("cpus:1;ports:[1-2]")),
        expires: Timestamp(5),
        demand: "map".into(),
    }
}

pub(super) fn role() -> Role {
    Role {
        name: RoleName::new("eng").unwrap(),
        weight: Amount::from_milli(2_500),
        frameworks: vec!["mapreduce".into()],
        used: bundle("cpus:1"),
        share_milli: 12,
        quotas: vec![proffer_model::KindQuota {
            kind: "cpus".into(),
            guarantee: Amount::ONE,
            limit: Some(Amount::ZERO),
        }],
        reserved: bundle("mem:64"),
        policy: Some(RolePolicy {
            name: "rr".into(),
            version: "1".into(),
            digest: "sha256:z".into(),
            config: "{}".into(),
            by: "ann".into(),
            at: Timestamp(40),
            why: "ours".into(),
            fallback: true,
            last_fault: Some(reason()),
            turns: 41,
            native_turns: 42,
            granted: 43,
            offers: 44,
            stale: 45,
            failures: 46,
            guards: vec!["max-wait<10s".into()],
            waiting: 47,
            longest_wait: Duration(48),
            p99_wait: Duration(49),
        }),
    }
}

pub(super) fn detail() -> FrameworkDetail {
    FrameworkDetail {
        framework: framework(),
        config: "{}".into(),
        steps: 10,
        steps_failed: 1,
        last_fault: Some(reason()),
        demands: vec![DemandRow {
            key: "map".into(),
            role: RoleName::star(),
            shape: Resources::plain(bundle("cpus:1")),
            count: 4,
            since: Timestamp(2),
        }],
        suppressed: vec!["*".into()],
        limits: vec!["memory-mib=64".into()],
        failing: Some(FailingEvent {
            id: "update:t:1".into(),
            what: "update 1 of task t".into(),
        }),
        upgrading: "0.2".into(),
        last_upgrade: Some(UpgradeOutcome {
            from: "0.1".into(),
            version: "0.2".into(),
            digest: "sha256:y".into(),
            at: Timestamp(4),
            refused: Some(reason()),
        }),
        skipped: vec![SkippedEvent {
            id: "timer:x".into(),
            what: "timer x".into(),
            at: Timestamp(5),
        }],
    }
}

pub(super) fn plan() -> RemovalPlan {
    RemovalPlan {
        tasks_active: 3,
        tasks_away: 1,
        tasks: vec![task()],
        kept: 4,
        released: 5,
        wiped: 6,
        left: vec![LeftBehind {
            agent: AgentId(7),
            hostname: "h".into(),
            resources: Resources::plain(bundle("cpus:1")),
            shared_role: true,
            becomes: Left::Kept,
        }],
        refused: "because".into(),
    }
}

pub(super) fn plugin() -> Plugin {
    Plugin {
        name: "mapreduce".into(),
        version: "0.1".into(),
        world: "framework".into(),
        contract: "0.1.0-dev.1".into(),
        description: "d".into(),
        digest: "sha256:x".into(),
        size: 9,
        roles: vec!["*".into()],
        imports: vec!["proffer:framework/state".into()],
        limits: vec![Limit {
            name: "memory-mib".into(),
            value: 64,
        }],
        config_schema: "{}".into(),
    }
}

pub(super) fn policy() -> Policy {
    Policy {
        name: "drf".into(),
        version: "0.1".into(),
        digest: String::new(),
        fallback: true,
        config: "{}".into(),
        cycles: 1,
        grants: 2,
        rejected: 3,
        stale: 4,
        failures: 5,
        last_fault: None,
        number: 7,
        swapping: "binpack 2".into(),
        probation: 8,
        before: Some(6),
        swapped: 9,
        taken_back: 10,
        guards: vec!["max-wait<10s".into()],
        waiting: 11,
        longest_wait: Duration(12),
        p99_wait: Duration(13),
        trial: Some(PolicyTrial {
            candidate: "binpack 2".into(),
            until: Timestamp(14),
            ended: true,
            fault: Some(reason()),
            cycles: 15,
            alike: 16,
            wanting: 17,
            served: 18,
            would_serve: 19,
            reclaims: 20,
            would_reclaim: 21,
            invalid: 22,
            would_be_invalid: 23,
            roles: vec![TrialRole {
                role: "eng".into(),
                grants: 24,
                would_grant: 25,
                amounts: bundle("cpus:1"),
                would_amounts: bundle("cpus:2"),
                share_milli: 50,
                would_share_milli: 51,
            }],
            longest_wait: Duration(52),
            would_wait: Duration(53),
            take_back: vec!["cpus:3 from a for b, in 1 proposals".into()],
            would_take_back: vec!["cpus:4 from a for b, in 1 proposals".into()],
        }),
        canary: Some(PolicyCanary {
            name: "spread".into(),
            version: "3".into(),
            digest: "sha256:y".into(),
            roles: vec!["eng".into(), "ops".into()],
            since: Timestamp(26),
            until: Some(Timestamp(27)),
            promotes: true,
            cycles: 28,
            grants: 29,
            stale: 30,
            outside: 31,
            left_to_it: 32,
            waiting: 33,
            longest_wait: Duration(34),
            p99_wait: Duration(35),
            guards: vec!["max-wait<7s".into()],
        }),
        would_take_back: vec!["cpus:2 from a for b, in 1 proposals".into()],
    }
}

pub(super) fn policy_record() -> PolicyRecord {
    PolicyRecord {
        number: 7,
        name: "drf".into(),
        version: "0.1".into(),
        digest: "sha256:x".into(),
        config: "{}".into(),
        by: "ann".into(),
        at: Timestamp(8),
        cause: PolicyCause::Failed,
        why: "better".into(),
        fault: Some(reason()),
        before: Some(6),
        guards: vec!["p99-wait<1s".into()],
        roles: vec!["eng/web".into()],
        would_take_back: vec!["cpus:1 from a for b, in 1 proposals".into()],
    }
}

pub(super) fn swapped() -> SwappedPolicy {
    SwappedPolicy {
        from: PolicyRecord {
            number: 6,
            cause: PolicyCause::RolledBack,
            fault: None,
            before: None,
            ..policy_record()
        },
        record: Some(policy_record()),
    }
}

pub(super) fn explanation() -> Explanation {
    Explanation {
        sentences: vec!["It is so.".into()],
        reasons: vec![ReasonCount {
            subject: "map".into(),
            why: reason(),
            agents: 2,
            sample: Some(AgentId(1)),
            short: Resources::plain(bundle("cpus:1")),
            policy: "drf 1".into(),
        }],
    }
}

pub(super) fn usage() -> Usage {
    Usage {
        times: vec![Timestamp(1), Timestamp(2)],
        frameworks: vec![FrameworkUsage {
            framework: "mapreduce".into(),
            share_milli: vec![0, 500],
        }],
    }
}

pub(super) fn paged<T>(row: T) -> Paged<T> {
    Paged {
        rows: vec![row],
        next: "more".into(),
    }
}

pub(super) async fn chunks(path: &str) -> Chunks {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let broken = path == "broken";
    tokio::spawn(async move {
        for n in 0..20_u8 {
            let chunk = match (n, broken) {
                (10, true) => Err(OperatorError::Unavailable("the agent went away".into())),
                _ => Ok(Bytes::from(vec![n; 1_000])),
            };
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    chunks
}

impl Operator for Fake {
    async fn status(&self, _: StatusQuery) -> Answer<Status> {
        Ok(status())
    }
    async fn agents(&self, query: AgentQuery) -> Answer<Paged<Agent>> {
        self.note(query);
        Ok(paged(agent()))
    }
    async fn frameworks(&self, query: FrameworkQuery) -> Answer<Paged<Framework>> {
        self.note(query);
        Ok(paged(framework()))
    }
    async fn tasks(&self, query: TaskQuery) -> Answer<Paged<Task>> {
        self.note(query);
        Ok(paged(task()))
    }
    async fn offers(&self, query: OfferQuery) -> Answer<Paged<Offer>> {
        self.note(query);
        Ok(paged(offer()))
    }
    async fn roles(&self, query: RoleQuery) -> Answer<Paged<Role>> {
        self.note(query);
        Ok(paged(role()))
    }
    async fn framework(&self, name: FrameworkName) -> Answer<FrameworkDetail> {
        fail(&name.name)?;
        Ok(detail())
    }
    async fn inspect(&self, component: InspectComponent) -> Answer<Plugin> {
        self.note(component.component.len());
        Ok(plugin())
    }
    async fn add_framework(&self, framework: AddFramework) -> Answer<AddedFramework> {
        self.note(&framework);
        Ok(AddedFramework {
            id: FrameworkId(3),
            name: framework.name,
            digest: "sha256:x".into(),
        })
    }
    async fn upgrade_framework(&self, upgrade: UpgradeFramework) -> Answer<UpgradedFramework> {
        self.note(&upgrade);
        Ok(UpgradedFramework {
            from: "0.1".into(),
            version: "0.2".into(),
            digest: "sha256:y".into(),
        })
    }
    async fn skip_event(&self, which: SkipEvent) -> Answer<()> {
        self.note(which);
        Ok(())
    }
    async fn plan_removal(&self, which: PlanRemoval) -> Answer<RemovalPlan> {
        self.note(which);
        Ok(plan())
    }
    async fn declare_agent_gone(&self, which: DeclareAgentGone) -> Answer<()> {
        self.note(which);
        Ok(())
    }
    async fn remove_framework(&self, which: RemoveFramework) -> Answer<()> {
        self.note(which);
        Ok(())
    }
    async fn resume_framework(&self, which: ResumeFramework) -> Answer<()> {
        self.note(which);
        Ok(())
    }
    async fn kill_task(&self, which: KillTask) -> Answer<()> {
        self.note(which);
        Ok(())
    }
    async fn task_logs(&self, which: TaskLogs) -> Answer<Chunks> {
        fail(&which.framework)?;
        self.note(which);
        Ok(chunks("").await)
    }
    async fn fetch_output(&self, which: FetchOutput) -> Answer<Chunks> {
        Ok(chunks(&which.path).await)
    }
    async fn request(&self, request: FrameworkRequest) -> Answer<FrameworkResponse> {
        self.note(&request);
        Ok(FrameworkResponse {
            status: 418,
            headers: request.headers,
            body: request.body,
        })
    }
    async fn policy(&self, _: PolicyQuery) -> Answer<Policy> {
        Ok(policy())
    }
    async fn swap_policy(&self, swap: SwapPolicy) -> Answer<SwappedPolicy> {
        fail(&swap.why)?;
        self.note(swap);
        Ok(swapped())
    }
    async fn cancel_policy_swap(&self, cancel: CancelPolicySwap) -> Answer<()> {
        self.note(cancel);
        Ok(())
    }
    async fn promote_policy(&self, promote: PromotePolicy) -> Answer<SwappedPolicy> {
        self.note(promote);
        Ok(swapped())
    }
    async fn roll_back_policy(&self, back: RollBackPolicy) -> Answer<SwappedPolicy> {
        self.note(back);
        Ok(swapped())
    }
    async fn policy_history(&self, query: PolicyHistoryQuery) -> Answer<Paged<PolicyRecord>> {
        self.note(query);
        Ok(paged(policy_record()))
    }
    async fn set_role_policy(&self, set: SetRolePolicy) -> Answer<()> {
        self.note(set);
        Ok(())
    }
    async fn set_quota(&self, quota: SetQuota) -> Answer<()> {
        self.note(quota);
        Ok(())
    }
    async fn reserve(&self, reserve: Reserve) -> Answer<()> {
        self.note(reserve);
        Ok(())
    }
    async fn set_role(&self, role: SetRole) -> Answer<()> {
        self.note(role);
        Ok(())
    }
    async fn explain(&self, subject: Subject) -> Answer<Explanation> {
        self.note(subject);
        Ok(explanation())
    }
    async fn usage(&self, query: UsageQuery) -> Answer<Usage> {
        self.note(query);
        Ok(usage())
    }
}
