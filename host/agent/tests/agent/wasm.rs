//! Wasm tasks: what they can reach, and what they cannot.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use proffer_build::{BuildError, BuildOptions};
use proffer_model::agent::{Launch, LaunchUpdate, Origin};
use proffer_model::{AgentId, Executor, Input, InputMarks, TaskState, code};

use super::stage::{AgentProcess, Host, Registered, input, launch, with};

/// The guest that misbehaves to order; none where nothing compiles WebAssembly.
pub(crate) fn component() -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let options = BuildOptions {
        target_dir: Some(repository.join("target/guests")),
        ..BuildOptions::default()
    };
    let guest = [repository.join("tests/guests/task")];
    match proffer_build::build(&guest, &options, &mut |line: &str| println!("{line}")) {
        Ok(built) => built.into_iter().next().map(|built| built.path),
        Err(BuildError::Toolchain(missing)) => {
            let required = std::env::var("PROFFER_REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!required, "{missing}");
            println!("SKIPPED: {missing}");
            None
        }
        Err(error) => panic!("the guest does not build: {error:?}"),
    }
}

/// A component of this name.
pub(crate) fn executor() -> Executor {
    Executor::Wasm(Input {
        source: String::new(),
        path: "task.wasm".to_owned(),
        digest: String::new(),
        marks: InputMarks::default(),
    })
}

struct Stage {
    host: Host,
    agent: Registered,
    process: AgentProcess,
    next: u64,
}

impl Stage {
    async fn new(component: &Path) -> Self {
        let mut host = Host::start().await;
        let process = host.agent("a");
        let files = host.dir.path().join("files");
        std::fs::copy(component, files.join("task.wasm")).unwrap();
        std::fs::write(files.join("text"), "input").unwrap();
        let agent = host.registered(AgentId(1)).await;
        Self {
            host,
            agent,
            process,
            next: 1,
        }
    }

    fn launch(&self, number: u64, args: &[&str]) -> Launch {
        let source = |name: &str| {
            let path = self.host.dir.path().join("files").join(name);
            Origin::File(path.to_str().unwrap().to_owned())
        };
        let mut launch = launch(number, executor());
        launch.inputs = vec![
            input("task.wasm", source("task.wasm")),
            input("in/text", source("text")),
            input("top", source("text")),
        ];
        with(launch, |task| {
            task.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        })
    }

    /// Runs the task with these arguments: its end and its output.
    async fn run(&mut self, args: &[&str]) -> (LaunchUpdate, String) {
        let number = self.next;
        self.next += 1;
        self.agent.launch(self.launch(number, args));
        let (_, last) = self.host.end_of(&self.agent, number).await;
        let stdout = std::fs::read_to_string(self.process.work(number).join("stdout"));
        (last, stdout.unwrap_or_default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_reaches_its_sandbox_and_nothing_else() {
    let Some(component) = component() else { return };
    let mut stage = Stage::new(&component).await;
    let (last, stdout) = stage.run(&["read", "in/text"]).await;
    assert_eq!(
        (last.update.exit, stdout.as_str()),
        (Some(0), "input"),
        "{last:?}"
    );
    let (last, stdout) = stage.run(&["read", "top"]).await;
    assert_eq!(
        (last.update.exit, stdout.as_str()),
        (Some(0), "input"),
        "{last:?}"
    );
    let (last, _) = stage.run(&["write", "out", "written"]).await;
    assert_eq!(last.update.state, TaskState::Finished, "{last:?}");
    let own = last.launch.0;
    let out = std::fs::read_to_string(stage.process.work(own).join("out")).unwrap();
    assert_eq!(out, "written");
    for args in [
        &["write", "in/text", "x"][..],
        &["write", "in/new", "x"],
        &["write", "top", "x"],
        &["write", "./in/../in/text", "x"],
        &["write", "../inputs/in/text", "x"],
        &["write", "../escaped", "x"],
        &["write", "/tmp/proffer-escaped", "x"],
        &["read", "../component.wasm"],
        &["read", "../../../run/lock"],
        &["read", "/etc/passwd"],
        &["read", "in/../../component.wasm"],
        &["read", "/proc/self/environ"],
        &["connect", "127.0.0.1:1"],
    ] {
        let (last, stdout) = stage.run(args).await;
        assert_eq!(last.update.exit, Some(1), "{args:?}: {last:?} {stdout}");
        assert!(stdout.starts_with("refused"), "{args:?}: {stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_components_exit_status_arrives_as_it_is() {
    let Some(component) = component() else { return };
    let mut stage = Stage::new(&component).await;
    for (status, state) in [
        (0, TaskState::Finished),
        (7, TaskState::Failed),
        (255, TaskState::Failed),
    ] {
        let (last, _) = stage.run(&["exit", &status.to_string()]).await;
        assert_eq!(last.update.exit, Some(status), "{last:?}");
        assert_eq!(last.update.state, state, "{last:?}");
    }
}

/// An input whose server waits until `before` has been done: by then the sandbox is there.
fn held_input(before: impl FnOnce() + Send + 'static) -> (Origin, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4_096];
        assert!(stream.read(&mut request).unwrap() > 0);
        before();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").unwrap();
    });
    (Origin::Http(url), server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symbolic_link_leads_a_component_nowhere() {
    let Some(component) = component() else { return };
    let mut stage = Stage::new(&component).await;
    let targets = [
        ("/etc/passwd", 1),
        ("../component.wasm", 1),
        ("../inputs/in/text", 1),
        ("inside", 0),
    ];
    for (index, (target, exit)) in targets.into_iter().enumerate() {
        let number = index as u64 + 1;
        let work = stage.process.work(number);
        let (held, server) = held_input(move || {
            std::fs::write(work.join("inside"), "").unwrap();
            std::os::unix::fs::symlink(target, work.join("link")).unwrap();
        });
        let mut launched = stage.launch(number, &["read", "link"]);
        launched.inputs.push(input("held/x", held));
        stage.agent.launch(launched);
        let (_, last) = stage.host.end_of(&stage.agent, number).await;
        assert_eq!(last.update.exit, Some(exit), "{target}: {last:?}");
        server.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_spins_is_killed_at_once() {
    let Some(component) = component() else { return };
    let mut stage = Stage::new(&component).await;
    stage.agent.launch(stage.launch(1, &["spin"]));
    stage.host.until(&stage.agent, 1, TaskState::Running).await;
    stage.agent.kill(1, 100_000);
    let last = stage
        .host
        .until_final(&stage.agent, 1, TaskState::Killed)
        .await;
    assert_eq!(last.update.why.code, code::KILLED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_wants_too_much_memory_ends_with_that_reason() {
    let Some(component) = component() else { return };
    let mut stage = Stage::new(&component).await;
    let (last, _) = stage.run(&["memory"]).await;
    assert_eq!(last.update.state, TaskState::Failed);
    assert_eq!(last.update.why.code, code::OUT_OF_MEMORY, "{last:?}");
    assert!(last.update.why.text.contains("64 MiB"), "{last:?}");
}
