//! Both sides over a real connection: every call, every kind of failure, bytes in streams.

mod fake;

use bytes::Bytes;
use proffer_model::{Amount, Duration, FrameworkId, RoleName, TaskState, Timestamp};
use tokio::sync::oneshot;

use self::fake::{
    Fake, agent, detail, explanation, fail, framework, offer, paged, plan, plugin, policy,
    policy_record, role, status, swapped, task, usage,
};
use super::*;
use crate::serve::Server;
use crate::{ListenAddress, PeerAddress, Tls, Token};

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
    let query = PolicyHistoryQuery { page: page.clone() };
    let history = run.client.policy_history(query.clone()).await.unwrap();
    assert_eq!(history, paged(policy_record()));
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
    let swap = SwapPolicy {
        component: Bytes::from_static(b"c"),
        config: "{}".into(),
        by: "ann".into(),
        why: "better".into(),
        guards: vec!["max-wait<10s".into()],
        shadow: Some(Duration(7)),
        dry_run: true,
        canary: vec!["eng".into()],
        canary_for: Some(Duration(8)),
    };
    assert_eq!(client.swap_policy(swap.clone()).await.unwrap(), swapped());
    assert_eq!(run.asked(), format!("{swap:?}"));
    let cancel = CancelPolicySwap {};
    client.cancel_policy_swap(cancel.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{cancel:?}"));
    let promote = PromotePolicy {
        by: "ann".into(),
        why: "good".into(),
    };
    let promoted = client.promote_policy(promote.clone()).await.unwrap();
    assert_eq!(promoted, swapped());
    assert_eq!(run.asked(), format!("{promote:?}"));
    let back = RollBackPolicy {
        by: "ann".into(),
        why: "worse".into(),
    };
    let rolled = client.roll_back_policy(back.clone()).await.unwrap();
    assert_eq!(rolled, swapped());
    assert_eq!(run.asked(), format!("{back:?}"));
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
        Subject::Role("eng".into()),
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
    let upgrade = UpgradeFramework {
        name: "f".into(),
        component: Bytes::from_static(b"\0asm"),
        config: Some(String::new()),
        approved: vec!["proffer:framework/state".into()],
    };
    let upgraded = client.upgrade_framework(upgrade.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{upgrade:?}"));
    assert_eq!(upgraded.version, "0.2");
    let skip = SkipEvent {
        name: "f".into(),
        event: "timer:x".into(),
    };
    client.skip_event(skip.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{skip:?}"));
    let plan_of = PlanRemoval {
        name: "f".into(),
        reservations: ReservationFate::Wipe,
    };
    assert_eq!(client.plan_removal(plan_of.clone()).await.unwrap(), plan());
    assert_eq!(run.asked(), format!("{plan_of:?}"));
    let remove = RemoveFramework {
        name: "f".into(),
        reservations: ReservationFate::Release,
    };
    client.remove_framework(remove.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{remove:?}"));
    let gone = DeclareAgentGone { agent: "a".into() };
    client.declare_agent_gone(gone.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{gone:?}"));
    let role = SetRole {
        name: RoleName::star(),
        weight: Amount::from_milli(1_500),
    };
    client.set_role(role.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{role:?}"));
    let policy = SetRolePolicy {
        name: RoleName::star(),
        component: Bytes::from_static(b"c"),
        config: "{}".into(),
        by: "ann".into(),
        why: "ours".into(),
        guards: vec!["max-wait<10s".into()],
    };
    client.set_role_policy(policy.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{policy:?}"));
    let quota = SetQuota {
        name: RoleName::star(),
        quotas: vec![proffer_model::KindQuota {
            kind: "cpus".into(),
            guarantee: Amount::ONE,
            limit: Some(Amount::ZERO),
        }],
        force: true,
        weight: Some(Amount::ONE),
    };
    client.set_quota(quota.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{quota:?}"));
    let reserve = Reserve {
        agent: proffer_model::AgentId(3),
        resources: proffer_model::Resources::plain("cpus:1".parse().unwrap()),
        unreserve: true,
    };
    client.reserve(reserve.clone()).await.unwrap();
    assert_eq!(run.asked(), format!("{reserve:?}"));
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
