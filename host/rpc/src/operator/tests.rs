//! Both sides over a real connection: every call, every kind of failure, bytes in streams.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proffer_model::{
    AgentId, AgentInfo, Amount, Bundle, Duration, FrameworkId, LaunchNumber, OfferId, Reason,
    Remedy, Resources, RoleName, TaskId, TaskState, Timestamp, code,
};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::serve::Server;
use crate::{ListenAddress, PeerAddress, Tls, Token};

/// Answers with fixed values and remembers what it was asked. Names that begin with `bad-` fail in
/// the way that the rest of the name says.
#[derive(Clone, Default)]
struct Fake {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn note(&self, query: impl std::fmt::Debug) {
        self.asked.lock().unwrap().push(format!("{query:?}"));
    }
}

fn fail(name: &str) -> Answer<()> {
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

fn bundle(text: &str) -> Bundle {
    text.parse().unwrap()
}

fn reason() -> Reason {
    Reason::new(code::NO_FIT, Remedy::Retry, "too little is free")
}

fn counts() -> OfferCounts {
    OfferCounts {
        made: 5,
        accepted: 4,
        declined: 3,
        expired: 2,
        rescinded: 1,
    }
}

fn status() -> Status {
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
        pool: bundle("cpus:4;mem:100;ports:[1-3];tokens:2"),
        used: bundle("cpus:0.5"),
        offered: Bundle::default(),
        cycles: 6,
        offers: counts(),
    }
}

fn agent() -> Agent {
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
    }
}

fn framework() -> Framework {
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

fn task() -> Task {
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

fn offer() -> Offer {
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

fn role() -> Role {
    Role {
        name: RoleName::new("eng").unwrap(),
        weight: Amount::from_milli(2_500),
        frameworks: vec!["mapreduce".into()],
        used: bundle("cpus:1"),
        share_milli: 12,
    }
}

fn detail() -> FrameworkDetail {
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
    }
}

fn plugin() -> Plugin {
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

fn policy() -> Policy {
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
    }
}

fn explanation() -> Explanation {
    Explanation {
        sentences: vec!["It is so.".into()],
        reasons: vec![ReasonCount {
            subject: "map".into(),
            why: reason(),
            agents: 2,
            sample: Some(AgentId(1)),
            short: Resources::plain(bundle("cpus:1")),
        }],
    }
}

fn usage() -> Usage {
    Usage {
        times: vec![Timestamp(1), Timestamp(2)],
        frameworks: vec![FrameworkUsage {
            framework: "mapreduce".into(),
            share_milli: vec![0, 500],
        }],
    }
}

fn paged<T>(row: T) -> Paged<T> {
    Paged {
        rows: vec![row],
        next: "more".into(),
    }
}

async fn chunks(path: &str) -> Chunks {
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

struct Running {
    client: OperatorClient,
    address: PeerAddress,
    fake: Fake,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

const TOKEN: &str = "0123456789abcdef";

async fn start() -> Running {
    let fake = Fake::default();
    let bound = ListenAddress::loopback().bind().await.unwrap();
    let address: PeerAddress = bound.address().to_string().parse().unwrap();
    let token = Token::parse(TOKEN).unwrap();
    let server = Server::new(token.clone(), Tls::Off).operators(fake.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let stopped = async move { drop(stopped.await) };
        server.serve(bound, stopped).await.unwrap();
    });
    let client = OperatorClient::connect(&address, &token, &Tls::Off)
        .await
        .unwrap();
    Running {
        client,
        address,
        fake,
        stop,
        serving,
    }
}

impl Running {
    fn asked(&self) -> String {
        self.fake.asked.lock().unwrap().pop().unwrap_or_default()
    }

    async fn end(self) {
        drop(self.client);
        drop(self.stop);
        self.serving.await.unwrap();
    }
}

#[tokio::test]
async fn every_list_crosses_whole_with_its_filters() {
    let run = start().await;
    let page = Page {
        size: 3,
        token: "t".into(),
    };
    let query = AgentQuery { page: page.clone() };
    assert_eq!(
        run.client.agents(query.clone()).await.unwrap(),
        paged(agent())
    );
    assert_eq!(run.asked(), format!("{query:?}"));
    let query = FrameworkQuery { page: page.clone() };
    assert_eq!(
        run.client.frameworks(query.clone()).await.unwrap(),
        paged(framework())
    );
    assert_eq!(run.asked(), format!("{query:?}"));
    let query = TaskQuery {
        page: page.clone(),
        framework: "f".into(),
        agent: "a".into(),
        states: vec![TaskState::Running, TaskState::Finished],
    };
    assert_eq!(
        run.client.tasks(query.clone()).await.unwrap(),
        paged(task())
    );
    assert_eq!(run.asked(), format!("{query:?}"));
    let query = OfferQuery {
        page: page.clone(),
        framework: "f".into(),
    };
    assert_eq!(
        run.client.offers(query.clone()).await.unwrap(),
        paged(offer())
    );
    assert_eq!(run.asked(), format!("{query:?}"));
    let query = RoleQuery { page };
    assert_eq!(
        run.client.roles(query.clone()).await.unwrap(),
        paged(role())
    );
    assert_eq!(run.asked(), format!("{query:?}"));
    run.end().await;
}

#[tokio::test]
async fn every_single_answer_crosses_whole() {
    let run = start().await;
    let client = &run.client;
    assert_eq!(client.status(StatusQuery {}).await.unwrap(), status());
    assert_eq!(client.policy(PolicyQuery {}).await.unwrap(), policy());
    let name = FrameworkName { name: "f".into() };
    assert_eq!(client.framework(name).await.unwrap(), detail());
    let since = UsageQuery {
        since: Timestamp(4),
    };
    assert_eq!(client.usage(since).await.unwrap(), usage());
    let task = TaskName {
        framework: "f".into(),
        task: "t".into(),
    };
    for subject in [
        Subject::Framework("f".into()),
        Subject::Task(task),
        Subject::Agent("a".into()),
    ] {
        assert_eq!(
            client.explain(subject.clone()).await.unwrap(),
            explanation()
        );
        assert_eq!(run.asked(), format!("{subject:?}"));
    }
    let kill = KillTask {
        framework: "f".into(),
        task: "t".into(),
        grace: Some(Duration(0)),
    };
    client.kill_task(kill.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{kill:?}"));
    let role = SetRole {
        name: RoleName::star(),
        weight: Amount::from_milli(1_500),
    };
    client.set_role(role.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{role:?}"));
    let request = FrameworkRequest {
        framework: "f".into(),
        method: "POST".into(),
        path: "/jobs".into(),
        query: "a=b".into(),
        headers: vec![("accept".into(), "*/*".into())],
        body: Bytes::from_static(b"\0\xFF"),
        principal: "me".into(),
    };
    let response = client.request(request.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{request:?}"));
    assert_eq!((response.status, response.body), (418, request.body));
    assert_eq!(response.headers, request.headers);
    run.end().await;
}

#[tokio::test]
async fn failures_keep_their_kind_and_text() {
    let run = start().await;
    for kind in [
        "not-found",
        "invalid",
        "denied",
        "conflict",
        "unsupported",
        "internal",
    ] {
        let name = format!("bad-{kind}");
        let expected = fail(&name).unwrap_err();
        let error = run
            .client
            .framework(FrameworkName { name: name.clone() })
            .await
            .unwrap_err();
        assert_eq!(error, expected);
        let logs = TaskLogs {
            framework: name,
            task: "t".into(),
            stream: LogStream::Stderr,
            follow: true,
        };
        assert_eq!(run.client.task_logs(logs).await.unwrap_err(), expected);
    }
    let name = "bad-unavailable".to_owned();
    let error = run
        .client
        .framework(FrameworkName { name })
        .await
        .unwrap_err();
    assert!(matches!(error, OperatorError::Unavailable(_)), "{error}");
    run.end().await;
}

#[tokio::test]
async fn a_wrong_token_is_denied_on_every_call() {
    let run = start().await;
    let other = Token::parse("fedcba9876543210").unwrap();
    let client = OperatorClient::connect(&run.address, &other, &Tls::Off)
        .await
        .unwrap();
    let error = client.status(StatusQuery {}).await.unwrap_err();
    assert!(matches!(error, OperatorError::Denied(_)), "{error}");
    assert!(error.to_string().contains("the file `token`"), "{error}");
    drop(client);
    run.end().await;
}

#[tokio::test]
async fn components_up_to_the_limit_arrive_and_larger_ones_are_not_sent() {
    let run = start().await;
    let component = Bytes::from(vec![7; COMPONENT_BYTES_MAX]);
    let inspected = run.client.inspect(InspectComponent {
        component: component.clone(),
    });
    assert_eq!(inspected.await.unwrap(), plugin());
    assert_eq!(run.asked(), COMPONENT_BYTES_MAX.to_string());
    let add = AddFramework {
        name: "n".into(),
        component: Bytes::from_static(b"\0asm"),
        roles: vec![RoleName::star()],
        config: "{}".into(),
        approved: vec!["proffer:framework/state".into()],
    };
    let added = run.client.add_framework(add.clone()).await.unwrap();
    assert_eq!((added.id, added.name.as_str()), (FrameworkId(3), "n"));
    assert_eq!(run.asked(), format!("{add:?}"));
    let component = Bytes::from(vec![7; COMPONENT_BYTES_MAX + 1]);
    let error = run
        .client
        .inspect(InspectComponent { component })
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("more than the 32 MiB"),
        "{error}"
    );
    assert_eq!(run.asked(), "");
    run.end().await;
}

#[tokio::test]
async fn streams_end_whole_or_with_the_reason() {
    let run = start().await;
    let fetch = |path: &str| FetchOutput {
        framework: "f".into(),
        task: "t".into(),
        path: path.into(),
    };
    let whole = run
        .client
        .fetch_output(fetch("x"))
        .await
        .unwrap()
        .all(20_000)
        .await
        .unwrap();
    let expected: Vec<u8> = (0..20_u8).flat_map(|n| vec![n; 1_000]).collect();
    assert_eq!(whole, expected);
    let error = run
        .client
        .fetch_output(fetch("x"))
        .await
        .unwrap()
        .all(19_999)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("larger than 19999 bytes"),
        "{error}"
    );
    let mut stream = run.client.fetch_output(fetch("broken")).await.unwrap();
    let mut received = 0;
    let error = loop {
        match stream.next().await {
            Ok(Some(chunk)) => received += chunk.len(),
            Ok(None) => panic!("it ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert_eq!(received, 10_000);
    assert!(error.to_string().contains("the agent went away"), "{error}");
    drop(stream);
    run.end().await;
}

#[tokio::test]
async fn malformed_messages_are_refused_by_field() {
    use super::wire::Wired;
    use crate::proto::operator::v0 as wire;
    let error = Subject::from_wire("", wire::ExplainRequest { subject: None }).unwrap_err();
    assert_eq!(error.to_string(), "message field 'subject': it is missing");
    let logs = wire::TaskLogsRequest::default();
    let error = TaskLogs::from_wire("", logs).unwrap_err();
    assert_eq!(error.field, "stream");
    let role = wire::SetRoleRequest {
        name: "a//b".into(),
        weight: 1,
    };
    assert_eq!(SetRole::from_wire("", role).unwrap_err().field, "name");
    let role = wire::SetRoleRequest {
        name: "a".into(),
        weight: -1,
    };
    assert_eq!(SetRole::from_wire("", role).unwrap_err().field, "weight");
    // A page that is not given is the first.
    let all = AgentQuery::from_wire("", wire::ListAgentsRequest { page: None }).unwrap();
    assert_eq!(all, AgentQuery::default());
}
