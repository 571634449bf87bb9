//! A scripted host, agents as processes of their own, and launches.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proffer_model::agent::{
    FromAgent, Launch, LaunchUpdate, Origin, Registration, ResolvedInput, ToAgent,
};
use proffer_model::{
    AgentId, Executor, FrameworkId, InputMarks, LaunchNumber, Resources, RoleName, TaskId,
    TaskSpec, TaskState, Template,
};
use proffer_rpc::agent::{AgentConnectionEvent, ToAgentSender};
use proffer_rpc::serve::Server;
use proffer_rpc::{ListenAddress, Tls, Token};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Longer than anything takes on a loaded machine; a test that waits so long has failed.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// The framework of all launches here.
pub(crate) const FRAMEWORK: FrameworkId = FrameworkId(1);

/// A host that does as the test says.
pub(crate) struct Host {
    pub(crate) dir: TempDir,
    pub(crate) token: Token,
    address: String,
    events: mpsc::Receiver<AgentConnectionEvent>,
}

/// One agent's connection.
pub(crate) struct Registered {
    pub(crate) registration: Registration,
    pub(crate) to_agent: ToAgentSender,
}

/// An agent's process; killed with KILL when dropped.
pub(crate) struct AgentProcess {
    child: Child,
    pub(crate) data: PathBuf,
}

impl Host {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::read_or_create(&dir.path().join("token")).unwrap();
        let bound = ListenAddress::loopback().bind().await.unwrap();
        let address = bound.address().to_string();
        let (sender, events) = mpsc::channel(64);
        let server = Server::new(token.clone(), Tls::Off).agents(sender);
        tokio::spawn(server.serve(bound, std::future::pending()));
        Self {
            dir,
            token,
            address,
            events,
        }
    }

    /// Starts an agent with a data directory of this name.
    pub(crate) fn agent(&self, name: &str) -> AgentProcess {
        self.agent_with(name, &[])
    }

    /// The same, with further arguments.
    pub(crate) fn agent_with(&self, name: &str, args: &[&str]) -> AgentProcess {
        let data = self.dir.path().join(name);
        let files = self.dir.path().join("files");
        std::fs::create_dir_all(&files).unwrap();
        let log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.dir.path().join(format!("{name}.log")))
            .unwrap();
        // A shell leaves it a descriptor, as careless starters do: no task is to see it.
        let child = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" \"$@\" 7</dev/null"])
            .arg(example())
            .arg(&data)
            .arg(&self.address)
            .arg(self.dir.path().join("token"))
            .arg(files)
            .args(args)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        AgentProcess { child, data }
    }

    async fn event(&mut self) -> AgentConnectionEvent {
        let event = tokio::time::timeout(BOUND, self.events.recv()).await;
        event.expect("an agent says something").unwrap()
    }

    /// The next registration, answered.
    pub(crate) async fn registered(&mut self, agent: AgentId) -> Registered {
        let mut opened = None;
        loop {
            match self.event().await {
                AgentConnectionEvent::Opened { to_agent, .. } => opened = Some(to_agent),
                AgentConnectionEvent::Message {
                    message: FromAgent::Register(registration),
                    ..
                } => {
                    let to_agent = opened.expect("opened comes first");
                    let answer = ToAgent::Registered {
                        agent,
                        heartbeat: proffer_model::Duration(100),
                        timeout: proffer_model::Duration(10_000),
                    };
                    to_agent.send(answer).unwrap();
                    tokio::spawn(beat(to_agent.clone()));
                    return Registered {
                        registration: *registration,
                        to_agent,
                    };
                }
                AgentConnectionEvent::Message { .. } | AgentConnectionEvent::Closed { .. } => {}
            }
        }
    }

    /// The next update of any agent; not acknowledged.
    pub(crate) async fn update(&mut self) -> LaunchUpdate {
        loop {
            if let AgentConnectionEvent::Message {
                message: FromAgent::Update(update),
                ..
            } = self.event().await
            {
                return *update;
            }
        }
    }

    /// Acknowledges updates of a launch until it has ended; its states in order, and the last update.
    /// Updates that were sent again count once.
    pub(crate) async fn end_of(
        &mut self,
        agent: &Registered,
        launch: u64,
    ) -> (Vec<TaskState>, LaunchUpdate) {
        let mut states = Vec::new();
        let mut last = 0;
        loop {
            let update = self.update().await;
            agent.acknowledge(&update);
            if update.launch.0 != launch || update.update.sequence == last {
                continue;
            }
            assert_eq!(update.update.sequence, last + 1, "{update:?}");
            last += 1;
            states.push(update.update.state);
            if update.update.state.is_final() {
                return (states, update);
            }
        }
    }

    /// Waits for a launch's end, which must be this.
    pub(crate) async fn until_final(
        &mut self,
        agent: &Registered,
        launch: u64,
        state: TaskState,
    ) -> LaunchUpdate {
        loop {
            let update = self.update().await;
            agent.acknowledge(&update);
            if update.launch.0 == launch && update.update.state.is_final() {
                assert_eq!(update.update.state, state, "{update:?}");
                return update;
            }
        }
    }

    /// Waits for this state of a launch, acknowledging what comes.
    pub(crate) async fn until(&mut self, agent: &Registered, launch: u64, state: TaskState) {
        loop {
            let update = self.update().await;
            agent.acknowledge(&update);
            if update.launch.0 == launch && update.update.state == state {
                return;
            }
            assert!(!update.update.state.is_final(), "{update:?}");
        }
    }
}

/// The host's heartbeats, until the connection ends.
async fn beat(to_agent: ToAgentSender) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        if to_agent.send(ToAgent::Heartbeat).is_err() {
            return;
        }
    }
}

impl Registered {
    pub(crate) fn launch(&self, launch: Launch) {
        self.to_agent.send(ToAgent::Launch(vec![launch])).unwrap();
    }

    pub(crate) fn kill(&self, launch: u64, grace_ms: u64) {
        let kill = ToAgent::Kill {
            framework: FRAMEWORK,
            launch: LaunchNumber(launch),
            grace: proffer_model::Duration(grace_ms),
        };
        self.to_agent.send(kill).unwrap();
    }

    pub(crate) fn acknowledge(&self, update: &LaunchUpdate) {
        let acknowledge = ToAgent::Acknowledge {
            launch: update.launch,
            sequence: update.update.sequence,
        };
        // A connection that is over by now is another test step's business.
        let _sent = self.to_agent.send(acknowledge).is_ok();
    }
}

impl AgentProcess {
    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it in order.
    pub(crate) async fn interrupt(mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let ended = || self.child.try_wait().unwrap().is_some();
        wait_until("the agent has ended", ended).await;
    }

    pub(crate) fn work(&self, launch: u64) -> PathBuf {
        work(&self.data, launch)
    }

    /// The directory of a component that began without one.
    pub(crate) fn late_work(&self, launch: u64) -> PathBuf {
        runner(&self.data).join(format!("run/work/launch-{launch}"))
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// A launch's own directory below an agent's.
pub(crate) fn work(data: &Path, launch: u64) -> PathBuf {
    runner(data).join(format!("tasks/launch-{launch}/work"))
}

/// The runner's directory below an agent's.
pub(crate) fn runner(data: &Path) -> PathBuf {
    data.join("runners/framework-1")
}

/// Waits until a condition holds; looks again at every change of the clock that can matter.
pub(crate) async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < BOUND, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether there is a process of this number, be it one whose exit status nobody took.
pub(crate) fn exists(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}

/// The example program beside this test's own.
fn example() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap();
    let program = program.join("examples/agent_process");
    assert!(
        program.exists(),
        "run: cargo build -p proffer-agent --example agent_process"
    );
    program
}

/// A shell line as a launch.
pub(crate) fn shell(number: u64, line: &str) -> Launch {
    launch(number, Executor::Shell(line.to_owned()))
}

pub(crate) fn launch(number: u64, executor: Executor) -> Launch {
    let task = TaskSpec {
        id: TaskId::new(format!("task-{number}")).unwrap(),
        template: Template {
            name: "test".to_owned(),
            executor,
            env: Vec::new(),
            inputs: Vec::new(),
            checks: Vec::new(),
            grace: proffer_model::Duration(200),
            longest: None,
            group: String::new(),
            labels: Vec::new(),
            options: Vec::new(),
        },
        resources: Resources::plain("cpus:0.1;mem:64".parse().unwrap()),
        args: Vec::new(),
        env: Vec::new(),
        inputs: Vec::new(),
        mounts: Vec::new(),
        output: String::new(),
        priority: 0,
    };
    Launch {
        number: LaunchNumber(number),
        framework: FRAMEWORK,
        framework_name: "tester".into(),
        role: RoleName::star(),
        task: Arc::new(task),
        inputs: Vec::new(),
    }
}

/// Changes a launch's task.
pub(crate) fn with(mut launch: Launch, change: impl FnOnce(&mut TaskSpec)) -> Launch {
    change(Arc::make_mut(&mut launch.task));
    launch
}

pub(crate) fn input(path: &str, from: Origin) -> ResolvedInput {
    ResolvedInput {
        path: path.to_owned(),
        digest: String::new(),
        marks: InputMarks::default(),
        from,
    }
}
