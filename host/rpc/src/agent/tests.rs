//! Messages there and back, and connections that go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration as Span;

use proffer_model::agent::{
    FromAgent, KnownLaunch, Launch, LaunchUpdate, Origin, Registration, ResolvedInput, SandboxFile,
    ToAgent,
};
use proffer_model::{
    AgentId, AgentInfo, Amount, Attribute, AttributeValue, Bundle, Check, Duration, Executor,
    FrameworkId, HttpProbe, Input, InputMarks, LaunchNumber, Marks, Mount, Probe, Purpose,
    Quantity, Range, Ranges, Reason, Remedy, Resources, RoleName, TaskId, TaskSpec, TaskState,
    TaskUpdate, Template, Terms, Timestamp, UpdateSource,
};
use tokio::sync::mpsc;

use super::*;
use crate::proto::agent::v0 as wire;
use crate::serve::Server;
use crate::{ListenAddress, PeerAddress, Tls, Token};

/// Longer than anything takes on a loaded machine.
const BOUND: Span = Span::from_secs(60);

fn ranges(begin: u64, end: u64) -> Ranges {
    Ranges::new([Range::new(begin, end).unwrap()])
}

fn bundle() -> Bundle {
    let mut other = BTreeMap::new();
    let items: BTreeSet<Arc<str>> = ["a".into(), "b".into()].into();
    other.insert("licenses".into(), Quantity::Items(items));
    other.insert("slots".into(), Quantity::Ranges(ranges(1, 4)));
    other.insert("tokens".into(), Quantity::Scalar(Amount::from_milli(1_500)));
    Bundle {
        cpus: Amount::from_milli(250),
        mem: Amount::from_units(64),
        disk: Amount::from_units(1),
        gpus: Amount::ONE,
        ports: ranges(31_000, 31_009),
        other,
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn template() -> Template {
    let check = |purpose, probe| Check {
        purpose,
        probe,
        grace: Duration(1),
        interval: Duration(2),
        timeout: Duration(3),
        failures: 4,
    };
    let page = HttpProbe {
        port: 1,
        path: text("/up"),
        tls: true,
    };
    Template {
        name: text("map"),
        executor: Executor::Wasm(input()),
        env: vec![(text("A"), text("1"))],
        inputs: vec![input()],
        checks: vec![
            check(Purpose::Health, Probe::Command(vec![text("true")])),
            check(Purpose::Readiness, Probe::Http(page)),
            check(Purpose::Health, Probe::Tcp(2)),
        ],
        grace: Duration(3_000),
        longest: Some(Duration(9)),
        group: text("g"),
        labels: vec![(text("l"), text("v"))],
        options: vec![(text("o"), text("v"))],
    }
}

fn input() -> Input {
    Input {
        source: text("task:a/b"),
        path: text("in/b"),
        digest: text("sha256:00"),
        marks: InputMarks {
            extract: true,
            executable: false,
            cache: true,
        },
    }
}

fn launch() -> Launch {
    let terms = Terms {
        reserved: vec![RoleName::new("eng").unwrap()],
        label: text("l"),
        volume: text("v"),
        disk: text("d"),
        marks: Marks {
            dynamic: true,
            shared: true,
            ..Marks::default()
        },
    };
    let mut resources = Resources::plain(bundle());
    resources.add_pile(&terms, &bundle());
    let task = TaskSpec {
        id: TaskId::new("t").unwrap(),
        template: template(),
        resources,
        args: vec![text("x")],
        env: vec![(text("B"), text("2"))],
        inputs: vec![input()],
        mounts: vec![Mount {
            volume: text("v"),
            path: text("p"),
            read_only: true,
        }],
        output: text("o"),
        priority: -3,
    };
    let file = SandboxFile {
        agent: AgentId(2),
        address: text("http://127.0.0.1:1"),
        launch: LaunchNumber(8),
        path: text("out"),
    };
    let from = [
        Origin::File(text("/f")),
        Origin::Http(text("http://h/")),
        Origin::Sandbox(file.clone()),
        Origin::Sandboxes(vec![(text("n"), file)]),
    ];
    Launch {
        number: LaunchNumber(7),
        framework: FrameworkId(3),
        framework_name: "jobs".into(),
        role: RoleName::star(),
        task: Arc::new(task),
        inputs: from
            .map(|from| ResolvedInput {
                path: text("p"),
                digest: String::new(),
                marks: InputMarks::default(),
                from,
            })
            .into(),
    }
}

fn update() -> TaskUpdate {
    TaskUpdate {
        task: TaskId::new("t").unwrap(),
        agent: Some(AgentId(2)),
        state: TaskState::Failed,
        sequence: 3,
        at: Timestamp(1_000),
        source: UpdateSource::Executor,
        why: Reason::new("exited", Remedy::Retry, "test"),
        exit: Some(-1),
        healthy: Some(false),
        ready: Some(true),
        address: text("1.2.3.4:5"),
        data: vec![0, 255],
    }
}

fn registration() -> Registration {
    let attribute = |name: &str, value| Attribute {
        name: text(name),
        value,
    };
    Registration {
        agent: Some(AgentId(2)),
        key: text("0123456789abcdef"),
        boot: text("boot-of-today"),
        info: Arc::new(AgentInfo {
            hostname: "node".into(),
            region: "".into(),
            zone: "z".into(),
            attributes: vec![
                attribute("rack", AttributeValue::Text(text("r1"))),
                attribute("load", AttributeValue::Scalar(Amount::from_milli(-5))),
                attribute("vlans", AttributeValue::Ranges(ranges(1, 9))),
            ],
        }),
        total: bundle(),
        special: Resources::pile(
            proffer_model::Terms {
                reserved: vec![RoleName::new("eng").unwrap()],
                ..proffer_model::Terms::default()
            },
            bundle(),
        ),
        data_address: text("http://127.0.0.1:1"),
        launches: vec![KnownLaunch {
            launch: LaunchNumber(7),
            framework: FrameworkId(3),
            task: TaskId::new("t").unwrap(),
            role: RoleName::star(),
            latest: TaskState::Running,
        }],
    }
}

#[test]
fn every_message_comes_back_as_it_was() {
    let to_agent = [
        ToAgent::Registered {
            agent: AgentId(0),
            heartbeat: Duration(1),
            timeout: Duration(2),
        },
        ToAgent::Refused { why: text("no") },
        ToAgent::Launch(vec![launch(), launch()]),
        ToAgent::Kill {
            framework: FrameworkId(1),
            launch: LaunchNumber(2),
            grace: Duration::ZERO,
        },
        ToAgent::Acknowledge {
            launch: LaunchNumber(2),
            sequence: 3,
        },
        ToAgent::RemoveFramework {
            framework: FrameworkId(1),
        },
        ToAgent::Heartbeat,
    ];
    for message in to_agent {
        let there = wire::ToAgent::from(&message);
        assert_eq!(ToAgent::try_from(there), Ok(message));
    }
    let from_agent = [
        FromAgent::Register(Box::new(registration())),
        FromAgent::Update(Box::new(LaunchUpdate {
            framework: FrameworkId(1),
            launch: LaunchNumber(2),
            update: update(),
            latest: TaskState::Gone,
        })),
        FromAgent::Heartbeat,
    ];
    for message in from_agent {
        let there = wire::FromAgent::from(&message);
        assert_eq!(FromAgent::try_from(there), Ok(message));
    }
    assert_eq!(
        launch_from_record(&launch_to_record(&launch())),
        Ok(launch())
    );
    assert_eq!(
        update_from_record(&update_to_record(&update())),
        Ok(update())
    );
    launch_from_record(b"\xff").unwrap_err();
}

#[test]
fn what_is_wrong_in_a_message_is_named() {
    let wrong = |field: &str, change: fn(&mut wire::Registration)| {
        let mut message = wire::Registration::from(&registration());
        change(&mut message);
        let error = Registration::try_from(message).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    };
    wrong("key", |message| message.key = text("short"));
    wrong("boot", |message| message.boot = "x".repeat(1_000));
    wrong("total", |message| message.total = None);
    wrong("cpus", |message| {
        message.total.get_or_insert_default().cpus = -1;
    });
    wrong("mem", |message| {
        message.total.get_or_insert_default().mem = i64::MAX;
    });
    wrong("gpus", |message| {
        message.total.get_or_insert_default().gpus = 500;
    });
    wrong("ranges", |message| {
        let ports = message
            .total
            .get_or_insert_default()
            .ports
            .get_or_insert_default();
        ports.ranges[0].begin = u64::MAX;
    });
    wrong("launches.task", |message| {
        message.launches[0].task = text("a/b")
    });
    wrong("launches.role", |message| {
        message.launches[0].role = text("")
    });
    wrong("launches.latest", |message| message.launches[0].latest = 99);
    wrong("hostname", |message| {
        message.info.get_or_insert_default().hostname.clear();
    });

    let mut long = wire::LaunchUpdate {
        framework: 1,
        launch: 2,
        update: Some((&update()).into()),
        latest: 3,
    };
    long.update.get_or_insert_default().data = vec![0; 64 * 1024 + 1];
    let error = LaunchUpdate::try_from(long).unwrap_err();
    assert_eq!(error.field, "update.data");
    assert_eq!(
        ToAgent::try_from(wire::ToAgent { message: None })
            .unwrap_err()
            .field,
        "message"
    );
}

/// A host's port with agents' connections, and what happens on them.
struct Host {
    token: Token,
    address: PeerAddress,
    events: mpsc::Receiver<AgentConnectionEvent>,
    shutdown: mpsc::Sender<()>,
}

impl Host {
    async fn start() -> Self {
        let token = Token::random().unwrap();
        let bound = ListenAddress::loopback().bind().await.unwrap();
        let address = bound.address().to_string().parse().unwrap();
        let (sender, events) = mpsc::channel(8);
        let (shutdown, mut stopped) = mpsc::channel::<()>(1);
        let server = Server::new(token.clone(), Tls::Off).agents(sender);
        tokio::spawn(server.serve(bound, async move {
            stopped.recv().await;
        }));
        Self {
            token,
            address,
            events,
            shutdown,
        }
    }

    async fn connect(&self) -> (HostSender, HostReceiver) {
        connect(&self.address, &self.token, &Tls::Off)
            .await
            .unwrap()
    }

    async fn event(&mut self) -> AgentConnectionEvent {
        let event = tokio::time::timeout(BOUND, self.events.recv()).await;
        event.unwrap().unwrap()
    }

    /// A registered connection.
    async fn registered(&mut self) -> (HostSender, HostReceiver, ToAgentSender) {
        let (to_host, from_host) = self.connect().await;
        to_host
            .send(FromAgent::Register(Box::new(registration())))
            .unwrap();
        let AgentConnectionEvent::Opened { to_agent, .. } = self.event().await else {
            panic!("opened comes first");
        };
        let message = self.event().await;
        assert!(matches!(
            message,
            AgentConnectionEvent::Message {
                message: FromAgent::Register(_),
                ..
            }
        ));
        (to_host, from_host, to_agent)
    }

    async fn closed(&mut self) -> String {
        match self.event().await {
            AgentConnectionEvent::Closed { why, .. } => why,
            event => panic!("{event:?}"),
        }
    }
}

async fn lost(from_host: &mut HostReceiver) -> HostConnectionLost {
    loop {
        let received = tokio::time::timeout(BOUND, from_host.receive()).await;
        if let Err(lost) = received.unwrap() {
            return lost;
        }
    }
}

#[tokio::test]
async fn messages_go_both_ways_until_the_agent_leaves() {
    let mut host = Host::start().await;
    let (to_host, mut from_host, to_agent) = host.registered().await;
    to_agent.send(ToAgent::Launch(vec![launch()])).unwrap();
    assert_eq!(
        from_host.receive().await,
        Ok(ToAgent::Launch(vec![launch()]))
    );
    to_host.send(FromAgent::Heartbeat).unwrap();
    assert!(matches!(
        host.event().await,
        AgentConnectionEvent::Message {
            message: FromAgent::Heartbeat,
            ..
        }
    ));
    drop((to_host, from_host));
    host.closed().await;
    assert_eq!(to_agent.send(ToAgent::Heartbeat), Err(NotSent::Closed));
}

#[tokio::test]
async fn an_agent_with_another_token_is_refused() {
    let host = Host::start().await;
    let other = Token::random().unwrap();
    let refused = connect(&host.address, &other, &Tls::Off).await;
    let error = refused.err().unwrap();
    assert!(
        matches!(error, crate::ConnectError::Unauthenticated { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_that_does_not_begin_with_a_registration_never_opens() {
    let mut host = Host::start().await;
    let (to_host, mut from_host) = host.connect().await;
    to_host.send(FromAgent::Heartbeat).unwrap();
    let why = lost(&mut from_host).await.to_string();
    assert!(why.contains("registration"), "{why}");
    host.events.try_recv().unwrap_err();
}

#[tokio::test]
async fn a_malformed_message_closes_the_connection_and_says_what_is_wrong() {
    let mut host = Host::start().await;
    let (to_host, mut from_host, _to_agent) = host.registered().await;
    let mut wrong = update();
    wrong.data = vec![0; 64 * 1024 + 1];
    let wrong = LaunchUpdate {
        framework: FrameworkId(1),
        launch: LaunchNumber(2),
        update: wrong,
        latest: TaskState::Failed,
    };
    to_host.send(FromAgent::Update(Box::new(wrong))).unwrap();
    let why = host.closed().await;
    assert!(why.contains("update.data"), "{why}");
    let told = lost(&mut from_host).await.to_string();
    assert!(told.contains("update.data"), "{told}");
}

#[tokio::test]
async fn an_agent_that_does_not_read_loses_its_connection() {
    let mut host = Host::start().await;
    let (_to_host, _from_host, to_agent) = host.registered().await;
    // Large, so that the network's own buffers fill as well.
    let message = ToAgent::Refused {
        why: "x".repeat(10_000),
    };
    let full = (0..100_000).find_map(|_| to_agent.send(message.clone()).err());
    assert_eq!(full, Some(NotSent::Overflow));
    let why = host.closed().await;
    assert!(why.contains("wait for the agent"), "{why}");
    assert_eq!(to_agent.send(ToAgent::Heartbeat), Err(NotSent::Closed));
}

#[tokio::test]
async fn the_host_closes_a_connection_by_letting_it_go_or_with_a_reason() {
    let mut host = Host::start().await;
    let (_to_host, mut from_host, to_agent) = host.registered().await;
    to_agent.close("another connection took its place");
    to_agent.close("too late");
    let why = lost(&mut from_host).await.to_string();
    assert!(why.contains("took its place"), "{why}");
    assert_eq!(host.closed().await, "another connection took its place");

    let (_to_host, mut from_host, to_agent) = host.registered().await;
    drop(to_agent);
    lost(&mut from_host).await;
    host.closed().await;
}

#[tokio::test]
async fn a_shutdown_closes_every_connection() {
    let mut host = Host::start().await;
    let (_to_host, mut from_host, _to_agent) = host.registered().await;
    host.shutdown.send(()).await.unwrap();
    assert!(host.closed().await.contains("shutting down"));
    lost(&mut from_host).await;
}
