//! The machine under scripted inputs: every action, in order, nothing left over.

mod groups;
mod kills;
mod recovering;
mod updates;

use std::fmt::Write as _;
use std::sync::Arc;

use proffer_model::agent::{FromAgent, Launch, Origin, ResolvedInput, ToAgent};
use proffer_model::{
    AgentId, AgentInfo, Duration, Executor, FrameworkId, InputMarks, LaunchNumber, Resources,
    RoleName, TaskId, TaskSpec, Template, Timestamp,
};

use super::{
    Action, Cleaning, End, Found, Identity, Input, Logic, Outbox, Outcome, Record, Recovered,
    Settings, Timings,
};

/// Milliseconds that make outputs easy to read.
const TIMINGS: Timings = Timings {
    resend_first: Duration(10_000),
    resend_max: Duration(600_000),
    reconnect_first: Duration(1_000),
    reconnect_max: Duration(8_000),
    register_within: Duration(15_000),
};

struct Script {
    logic: Logic,
    now: Timestamp,
    outbox: Outbox,
    /// Everything that was to be durable, in order.
    records: Vec<Record>,
}

fn settings() -> Settings {
    Settings {
        info: Arc::new(AgentInfo {
            hostname: "node".into(),
            region: "".into(),
            zone: "".into(),
            attributes: Vec::new(),
        }),
        total: "cpus:4;mem:1024".parse().unwrap(),
        data_address: "http://127.0.0.1:1".to_owned(),
        timings: TIMINGS,
        cleaning: Cleaning {
            keep_for: Duration(1_000_000),
            keep_max: 3,
        },
    }
}

fn identity(boot: &str) -> Identity {
    Identity {
        agent: None,
        key: "key-of-the-test".to_owned(),
        boot: boot.to_owned(),
    }
}

impl Script {
    /// A new agent, not connected.
    fn new() -> Self {
        Self::from_records(Vec::new(), "boot-1", 0).0
    }

    /// An agent that finds these records, and what it does first.
    fn from_records(records: Vec<Record>, boot: &str, now: u64) -> (Self, String) {
        let mut recovered = Recovered::default();
        for record in &records {
            recovered.apply(record.clone());
        }
        let identity = match recovered.identity() {
            Some(known) => Identity {
                boot: boot.to_owned(),
                ..known.clone()
            },
            None => identity(boot),
        };
        let mut outbox = Outbox::default();
        let now = Timestamp(now);
        let logic = Logic::recover(now, settings(), identity, recovered, &mut outbox);
        let mut script = Self {
            logic,
            now,
            outbox,
            records,
        };
        let first = script.drain();
        (script, first)
    }

    /// A new agent, registered at time 0.
    fn registered() -> Self {
        let mut script = Self::new();
        script.register();
        script
    }

    fn register(&mut self) -> String {
        let mut out = self.give(Input::Tick);
        if out.is_empty() {
            // The attempt waits its random time.
            self.now = self.logic.next_due().unwrap();
            out = self.give(Input::Tick);
        }
        assert_eq!(out, "connect\n");
        out = self.give(Input::Connected);
        out += &self.give(Input::FromHost(ToAgent::Registered {
            agent: AgentId(9),
            heartbeat: Duration(1_000_000),
            timeout: Duration(10_000_000),
        }));
        out
    }

    fn at(&mut self, now: u64) -> &mut Self {
        self.now = Timestamp(now);
        self
    }

    /// Gives one input; all that comes of it, a line each.
    fn give(&mut self, input: Input) -> String {
        self.logic.handle(self.now, input, &mut self.outbox);
        self.drain()
    }

    fn drain(&mut self) -> String {
        let mut lines = String::new();
        while let Some(action) = self.outbox.pop() {
            if let Action::Persist(record) = &action {
                self.records.push(record.clone());
            }
            writeln!(lines, "{}", show(&action)).unwrap();
        }
        lines
    }

    fn launch(&mut self, launches: Vec<Launch>) -> String {
        self.give(Input::FromHost(ToAgent::Launch(launches)))
    }

    fn fetching(&mut self, launch: u64) -> String {
        self.give(Input::Fetching {
            launch: LaunchNumber(launch),
        })
    }

    fn prepared(&mut self, launch: u64) -> String {
        self.give(Input::Prepared {
            launch: LaunchNumber(launch),
            outcome: Ok(()),
        })
    }

    fn found(&mut self, launch: u64, found: Found) -> String {
        self.give(Input::Runner {
            launch: LaunchNumber(launch),
            found,
        })
    }

    fn exited(&mut self, launch: u64, status: i32) -> String {
        self.ended(launch, Outcome::Exited(status), false)
    }

    fn ended(&mut self, launch: u64, outcome: Outcome, stopped: bool) -> String {
        let end = End {
            outcome,
            stopped,
            data: Vec::new(),
        };
        self.found(launch, Found::Ended(end))
    }

    fn acknowledge(&mut self, launch: u64, sequence: u64) -> String {
        self.give(Input::FromHost(ToAgent::Acknowledge {
            launch: LaunchNumber(launch),
            sequence,
        }))
    }

    fn kill(&mut self, launch: u64, grace: u64) -> String {
        self.give(Input::FromHost(ToAgent::Kill {
            framework: FrameworkId(1),
            launch: LaunchNumber(launch),
            grace: Duration(grace),
        }))
    }

    /// Launches a task and brings it to run, all acknowledged.
    fn running(&mut self, number: u64) {
        self.launch(vec![task(number)]);
        self.prepared(number);
        self.found(number, Found::Running);
        self.acknowledge(number, 1);
    }
}

fn task(number: u64) -> Launch {
    let task = TaskSpec {
        id: TaskId::new(format!("t{number}")).unwrap(),
        template: Template {
            name: String::new(),
            executor: Executor::Shell("true".to_owned()),
            env: Vec::new(),
            inputs: Vec::new(),
            checks: Vec::new(),
            grace: Duration(3_000),
            longest: None,
            group: String::new(),
            labels: Vec::new(),
            options: Vec::new(),
        },
        resources: Resources::plain("cpus:1".parse().unwrap()),
        args: Vec::new(),
        env: Vec::new(),
        inputs: Vec::new(),
        mounts: Vec::new(),
        output: String::new(),
        priority: 0,
    };
    Launch {
        number: LaunchNumber(number),
        framework: FrameworkId(1),
        framework_name: "f".into(),
        role: RoleName::star(),
        task: Arc::new(task),
        inputs: Vec::new(),
    }
}

fn task_with_input(number: u64, path: &str) -> Launch {
    let mut launch = task(number);
    launch.inputs.push(ResolvedInput {
        path: path.to_owned(),
        digest: String::new(),
        marks: InputMarks::default(),
        from: Origin::File("/x".to_owned()),
    });
    launch
}

fn show(action: &Action) -> String {
    match action {
        Action::Persist(record) => format!("  durable: {}", show_record(record)),
        Action::Connect => "connect".to_owned(),
        Action::Disconnect { why } => format!("disconnect: {why}"),
        Action::Send(FromAgent::Register(registration)) => {
            let known = registration.launches.iter();
            let known: Vec<String> = known
                .map(|known| format!("{}={}", known.launch.0, known.latest.name()))
                .collect();
            let agent = registration.agent.map_or(0, |agent| agent.0);
            format!("say: register {agent} [{}]", known.join(" "))
        }
        Action::Send(FromAgent::Update(update)) => format!(
            "say: {} #{} {} (latest {})",
            update.launch.0,
            update.update.sequence,
            update.update.state.name(),
            update.latest.name()
        ),
        Action::Send(FromAgent::Heartbeat) => "say: alive".to_owned(),
        Action::Prepare(launch) => format!("prepare {}", launch.number.0),
        Action::CancelPrepare(launch) => format!("cancel {}", launch.0),
        Action::Start(launch) => format!("start {}", launch.number.0),
        Action::Stop { launch, grace, .. } => format!("stop {} within {}", launch.0, grace.0),
        Action::Inquire { launches, .. } => {
            let numbers: Vec<String> = launches.iter().map(|launch| launch.0.to_string()).collect();
            format!("inquire {}", numbers.join(" "))
        }
        Action::Publish { launch, finished } => format!("publish {} {finished}", launch.0),
        Action::RemoveSandbox { launch, .. } => format!("remove {}", launch.0),
        Action::DismissRunner(framework) => format!("dismiss {framework}"),
        Action::Exit { why } => format!("exit: {why}"),
    }
}

fn show_record(record: &Record) -> String {
    match record {
        Record::Identity(identity) => format!("identity {}", identity.boot),
        Record::Launched(launches) => {
            let numbers = launches.iter().map(|launch| launch.number.0.to_string());
            format!("launched {}", numbers.collect::<Vec<_>>().join(" "))
        }
        Record::Started(launch) => format!("started {}", launch.0),
        Record::Stopping { launch, cause, by } => {
            format!("stopping {} {cause:?} by {}", launch.0, by.0)
        }
        Record::Updated { launch, update } => format!(
            "{} #{} {} {} exit {:?}",
            launch.0,
            update.sequence,
            update.state.name(),
            update.why.code,
            update.exit
        ),
        Record::Acknowledged { launch, sequence } => format!("{} #{sequence} told", launch.0),
        Record::Forgotten(launch) => format!("forgotten {}", launch.0),
        Record::ForgottenUpTo(launch) => format!("forgotten up to {}", launch.0),
    }
}
