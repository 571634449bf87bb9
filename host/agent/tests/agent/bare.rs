//! Components that name no inputs: nothing is made for them before they want it.

use std::path::Path;

use proffer_model::agent::{Launch, LaunchUpdate, Origin};
use proffer_model::{AgentId, InputMarks, LaunchNumber, TaskState, code};
use proffer_rpc::Tls;
use proffer_rpc::data::{DataClient, FetchError, FetchFile};

use super::stage::{AgentProcess, Host, Registered, input, launch, runner, with};
use super::wasm::{component, executor};

struct Stage {
    host: Host,
    agent: Registered,
    process: AgentProcess,
}

/// A component that its agent keeps.
fn bare(host: &Host, number: u64, args: &[&str]) -> Launch {
    let path = host.dir.path().join("files/task.wasm");
    let source = Origin::File(path.to_str().unwrap().to_owned());
    let mut launch = launch(number, executor());
    launch.inputs = vec![input("task.wasm", source)];
    launch.inputs[0].marks = InputMarks {
        cache: true,
        ..InputMarks::default()
    };
    with(launch, |task| {
        task.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    })
}

impl Stage {
    /// An agent that keeps the component: launch 1 has brought it.
    async fn new(component: &Path) -> Self {
        let mut host = Host::start().await;
        let process = host.agent("a");
        std::fs::copy(component, host.dir.path().join("files/task.wasm")).unwrap();
        let agent = host.registered(AgentId(1)).await;
        agent.launch(bare(&host, 1, &["nothing"]));
        let (states, _) = host.end_of(&agent, 1).await;
        assert_eq!(states.first(), Some(&TaskState::Starting));
        Self {
            host,
            agent,
            process,
        }
    }

    async fn run(&mut self, number: u64, args: &[&str]) -> (Vec<TaskState>, LaunchUpdate) {
        self.agent.launch(bare(&self.host, number, args));
        self.host.end_of(&self.agent, number).await
    }

    async fn fetch(&self, launch: u64, path: &str) -> Result<String, FetchError> {
        let address = self.agent.registration.data_address.parse().unwrap();
        let client = DataClient::new(self.host.token.clone(), Tls::Off);
        let file = FetchFile {
            launch: LaunchNumber(launch),
            path: path.to_owned(),
            offset: 0,
        };
        let mut fetched = client.fetch(&address, &file).await?;
        let mut all = Vec::new();
        while let Some(bytes) = fetched.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(String::from_utf8(all).unwrap())
    }

    /// What is there of a launch, of both kinds of directory.
    fn directories(&self, launch: u64) -> (bool, bool) {
        let made = self.process.work(launch).exists();
        (made, self.process.late_work(launch).exists())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_touches_no_file_leaves_none_and_its_logs_are_empty() {
    let Some(component) = component() else { return };
    let mut stage = Stage::new(&component).await;
    let (states, _) = stage.run(2, &["nothing"]).await;
    assert_eq!(states, [TaskState::Running, TaskState::Finished]);
    assert_eq!(stage.directories(2), (false, false));
    for log in ["stdout", "stderr"] {
        assert_eq!(stage.fetch(2, log).await.unwrap(), "", "{log}");
    }
    stage.fetch(2, "other").await.unwrap_err();
    stage.fetch(3, "stdout").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_component_writes_is_there_and_goes_with_its_sandbox() {
    let Some(component) = component() else { return };
    let mut stage = Stage::new(&component).await;
    stage.run(2, &["echo", "words"]).await;
    assert!(stage.fetch(2, "stdout").await.unwrap().contains("words\n"));
    let stderr = stage.fetch(2, "stderr").await.unwrap();
    assert_eq!(stderr, "to the error stream\n");
    stage.run(3, &["write", "out", "written"]).await;
    assert_eq!(stage.fetch(3, "out").await.unwrap(), "written");
    let (_, last) = stage.run(4, &["write", "result", "told"]).await;
    assert_eq!(last.update.data, b"told");
    for launch in 2..=4 {
        assert_eq!(stage.directories(launch), (false, true), "{launch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_component_reaches_its_late_directory_and_nothing_else() {
    let Some(component) = component() else { return };
    let mut stage = Stage::new(&component).await;
    stage.run(2, &["write", "secret", "of another"]).await;
    let refused = [
        &["read", "../launch-2/secret"][..],
        &["write", "../escaped", "x"],
        &["read", "../../lock"],
        &["read", "../../../kept"],
        &["write", "/tmp/proffer-escaped", "x"],
        &["read", "/etc/passwd"],
        &["read", "/proc/self/environ"],
        &["connect", "127.0.0.1:1"],
    ];
    for (number, args) in (3..).zip(refused) {
        let (_, last) = stage.run(number, args).await;
        assert_eq!(last.update.exit, Some(1), "{args:?}: {last:?}");
        let stdout = stage.fetch(number, "stdout").await.unwrap();
        assert!(stdout.starts_with("refused"), "{args:?}: {stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_place_of_a_late_directory_is_not_followed() {
    let Some(component) = component() else { return };
    let mut stage = Stage::new(&component).await;
    let outside = stage.host.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("stdout"), "not the task's").unwrap();
    // As another task of the same user might.
    std::os::unix::fs::symlink(&outside, stage.process.late_work(2)).unwrap();
    stage.run(2, &["nothing"]).await;
    stage.fetch(2, "stdout").await.unwrap_err();
    std::os::unix::fs::symlink(&outside, stage.process.late_work(3)).unwrap();
    let (_, last) = stage.run(3, &["write", "new", "x"]).await;
    assert_eq!(last.update.why.code, code::EXITED, "{last:?}");
    assert_eq!(last.update.state, TaskState::Failed);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_finds_its_bare_components_again() {
    let Some(component) = component() else { return };
    let mut stage = Stage::new(&component).await;
    stage.run(2, &["echo", "before"]).await;
    stage.agent.launch(bare(&stage.host, 3, &["spin"]));
    stage.host.until(&stage.agent, 3, TaskState::Running).await;
    stage.process.kill();
    stage.process = stage.host.agent("a");
    stage.agent = stage.host.registered(AgentId(1)).await;
    assert!(stage.fetch(2, "stdout").await.unwrap().contains("before"));
    stage.agent.kill(3, 0);
    stage
        .host
        .until_final(&stage.agent, 3, TaskState::Killed)
        .await;
    // The component is fetched once more, and then kept once more; what was kept before is gone.
    let (states, _) = stage.run(4, &["nothing"]).await;
    assert_eq!(states.first(), Some(&TaskState::Starting));
    let (states, _) = stage.run(5, &["nothing"]).await;
    assert_eq!(states, [TaskState::Running, TaskState::Finished]);
    let kept = runner(&stage.process.data).join("kept");
    assert_eq!(std::fs::read_dir(kept).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_changed_is_not_the_one_that_was_kept() {
    let Some(component) = component() else { return };
    let mut stage = Stage::new(&component).await;
    let path = stage.host.dir.path().join("files/task.wasm");
    std::fs::write(&path, "no component").unwrap();
    let (_, last) = stage.run(2, &["nothing"]).await;
    assert_eq!(last.update.why.code, code::LAUNCH_FAILED, "{last:?}");
    std::fs::copy(&component, &path).unwrap();
    let (_, last) = stage.run(3, &["nothing"]).await;
    assert_eq!(last.update.state, TaskState::Finished, "{last:?}");
}
