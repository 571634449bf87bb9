//! Tasks that run, end, and are ended.

use proffer_model::agent::ToAgent;
use proffer_model::{AgentId, Duration, FrameworkId, TaskState, code};

use super::stage::{Host, exists, launch, shell, wait_until, with};

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_status_of_a_shell_arrives_in_an_update() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(3)).await;
    assert_eq!(agent.registration.agent, None);
    agent.launch(shell(
        1,
        "echo to-stdout; echo to-stderr >&2; printf seven > result; exit 7",
    ));
    let (states, last) = host.end_of(&agent, 1).await;
    assert_eq!(states, [TaskState::Running, TaskState::Failed]);
    assert_eq!(last.update.exit, Some(7));
    assert_eq!(last.update.why.code, code::EXITED);
    assert_eq!(last.update.agent, Some(AgentId(3)));
    assert_eq!(last.update.data, b"seven");
    let read = |name: &str| std::fs::read_to_string(process.work(1).join(name)).unwrap();
    assert_eq!(read("stdout"), "to-stdout\n");
    assert_eq!(read("stderr"), "to-stderr\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_environment_reach_a_process() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let argv = [
        "/bin/sh",
        "-c",
        "echo $0 $1 $WORD $PROFFER_TASK; pwd",
        "zero",
    ];
    let argv = argv.map(str::to_owned).to_vec();
    let launched = launch(1, proffer_model::Executor::Process(argv));
    agent.launch(with(launched, |task| {
        task.args = vec!["one".to_owned()];
        task.template.env = vec![("WORD".to_owned(), "template".to_owned())];
        task.env = vec![("WORD".to_owned(), "task".to_owned())];
    }));
    let (_, last) = host.end_of(&agent, 1).await;
    assert_eq!(last.update.state, TaskState::Finished, "{last:?}");
    let stdout = std::fs::read_to_string(process.work(1).join("stdout")).unwrap();
    let (words, directory) = stdout.split_once('\n').unwrap();
    assert_eq!(words, "zero one task task-1");
    assert!(
        directory.trim_end().ends_with("tasks/launch-1/work"),
        "{directory}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_has_three_descriptors_whatever_its_agent_has() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    agent.launch(shell(1, "echo /proc/$$/fd/*; readlink /proc/$$/fd/0"));
    host.until_final(&agent, 1, TaskState::Finished).await;
    let stdout = std::fs::read_to_string(process.work(1).join("stdout")).unwrap();
    let (descriptors, input) = stdout.split_once('\n').unwrap();
    let descriptors = descriptors.split(' ').map(|path| path.rsplit_once('/'));
    let descriptors: Vec<&str> = descriptors.map(|path| path.unwrap().1).collect();
    // The last is the shell's own, of the directory that it lists.
    assert_eq!(descriptors.get(..3), Some(&["0", "1", "2"][..]), "{stdout}");
    assert!(!descriptors.contains(&"7"), "{stdout}");
    assert!(descriptors.len() <= 4, "{stdout}");
    assert_eq!(input, "/dev/null\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_ends_a_shell_and_its_children_that_ignore_term() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let line = "trap '' TERM; sleep 1000 & echo $! > child; while :; do sleep 1; done";
    agent.launch(shell(1, line));
    host.until(&agent, 1, TaskState::Running).await;
    let child = process.work(1).join("child");
    let written = || std::fs::read_to_string(&child).is_ok_and(|text| text.ends_with('\n'));
    wait_until("the child is there", written).await;
    agent.kill(1, 100_000);
    host.until(&agent, 1, TaskState::Killing).await;
    // Only earlier: a repeat with less grace counts, one with more does not.
    agent.kill(1, 100);
    agent.kill(1, 100_000);
    let update = loop {
        let update = host.update().await;
        agent.acknowledge(&update);
        if update.update.state != TaskState::Killing {
            break update;
        }
    };
    assert_eq!(update.update.state, TaskState::Killed);
    assert_eq!(update.update.why.code, code::KILLED);
    let pid = std::fs::read_to_string(&child).unwrap();
    wait_until("the child is gone", || !exists(&pid)).await;
}

/// Leaves a process in a session of its own and writes down its number; `how` comes before `setsid`.
fn leave(how: &str) -> String {
    format!(
        "{how} setsid sh -c 'echo $$ > draft; mv draft left; exec sleep 1000' & \
         while [ ! -e left ]; do sleep 0.01; done"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_leaves_in_another_session_ends_with_it_and_not_with_another() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let left_by = |launch| std::fs::read_to_string(process.work(launch).join("left"));
    agent.launch(shell(1, &format!("({}); exec sleep 1000", leave(""))));
    host.until(&agent, 1, TaskState::Running).await;
    wait_until("the first has left one", || left_by(1).is_ok()).await;
    agent.launch(shell(2, &leave("")));
    host.until_final(&agent, 2, TaskState::Finished).await;
    let left = left_by(2).unwrap();
    wait_until("what the second left ends with it", || !exists(&left)).await;
    let left = left_by(1).unwrap();
    assert!(exists(&left), "the first still runs");
    agent.kill(1, 1_000);
    host.until_final(&agent, 1, TaskState::Killed).await;
    wait_until("what the first left ends with it", || !exists(&left)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_hides_ends_when_it_is_killed_or_when_no_older_task_runs() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let left_by = |launch| std::fs::read_to_string(process.work(launch).join("left"));
    let hidden = leave("env -i PATH=$PATH");
    agent.launch(shell(1, &format!("{hidden}; exec sleep 1000")));
    host.until(&agent, 1, TaskState::Running).await;
    agent.launch(shell(2, &format!("({hidden})")));
    host.until_final(&agent, 2, TaskState::Finished).await;
    let left = left_by(2).unwrap();
    assert!(exists(&left), "it may be the first's, which runs");
    wait_until("the first has left one", || left_by(1).is_ok()).await;
    let left_by_first = left_by(1).unwrap();
    agent.kill(1, 1_000);
    host.until_final(&agent, 1, TaskState::Killed).await;
    wait_until("both have ended", || {
        !exists(&left) && !exists(&left_by_first)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_runs_longer_than_it_said_fails_as_too_long() {
    let mut host = Host::start().await;
    let _process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    agent.launch(with(shell(1, "exec sleep 1000"), |task| {
        task.template.longest = Some(Duration(50));
    }));
    let (states, last) = host.end_of(&agent, 1).await;
    assert_eq!(
        states,
        [TaskState::Running, TaskState::Killing, TaskState::Failed]
    );
    assert_eq!(last.update.why.code, code::TOO_LONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failing_member_ends_its_group() {
    let mut host = Host::start().await;
    let _process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let group = vec![shell(1, "exec sleep 1000"), shell(2, "exit 1")];
    agent.to_agent.send(ToAgent::Launch(group)).unwrap();
    let (_, last) = host.end_of(&agent, 1).await;
    assert_eq!(last.update.state, TaskState::Killed);
    assert_eq!(last.update.why.code, code::GROUP_FAILED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_a_failed_launch_that_names_it() {
    let mut host = Host::start().await;
    let _process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let argv = vec!["/no/such/program".to_owned()];
    agent.launch(launch(1, proffer_model::Executor::Process(argv)));
    let (states, last) = host.end_of(&agent, 1).await;
    assert_eq!(states, [TaskState::Failed]);
    assert_eq!(last.update.why.code, code::LAUNCH_FAILED);
    assert!(last.update.why.text.contains("/no/such/program"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_supported_is_an_error_that_says_so() {
    let mut host = Host::start().await;
    let _process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    agent.launch(with(shell(1, "true"), |task| {
        task.template.options = vec![("colour".to_owned(), "red".to_owned())];
    }));
    let (states, last) = host.end_of(&agent, 1).await;
    assert_eq!(states, [TaskState::Error]);
    assert_eq!(last.update.why.code, code::UNSUPPORTED);
    assert!(last.update.why.text.contains("colour"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_do_not_run_as_root_and_see_no_other_sandbox() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    agent.launch(shell(1, "id -u; ls ../../../.. && exit 1; exit 0"));
    let (_, last) = host.end_of(&agent, 1).await;
    let own = rustix::process::geteuid();
    if own.is_root() {
        let stdout = std::fs::read_to_string(process.work(1).join("stdout")).unwrap();
        assert_ne!(stdout.trim(), "0");
        assert_eq!(last.update.state, TaskState::Finished, "{stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frameworks_tasks_run_as_users_of_their_own_and_cannot_end_each_others() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can run tasks as other users");
        assert!(std::env::var_os("PROFFER_REQUIRE_ALL").is_none());
        return;
    }
    let mut host = Host::start().await;
    let process = host.agent_with("a", &["--task-user", "700000-700009"]);
    let agent = host.registered(AgentId(1)).await;
    agent.launch(shell(1, "id -u; id -G; echo $$ > pid; exec sleep 1000"));
    host.until(&agent, 1, TaskState::Running).await;
    let pid = process.work(1).join("pid");
    let written = || std::fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n'));
    wait_until("the first task says its pid", written).await;
    let pid = std::fs::read_to_string(&pid).unwrap();
    let line = format!(
        "id -u; grep NoNewPrivs /proc/self/status; kill -9 {}",
        pid.trim()
    );
    let mut other = shell(2, &line);
    other.framework = FrameworkId(2);
    agent.launch(other);
    let (_, last) = host.end_of(&agent, 2).await;
    assert_eq!(
        last.update.state,
        TaskState::Failed,
        "it was not allowed to"
    );
    let read = |path: &str| std::fs::read_to_string(process.data.join(path)).unwrap();
    let first = read("runners/framework-1/tasks/launch-1/work/stdout");
    assert_eq!(first, "700001\n700001\n");
    let second = read("runners/framework-2/tasks/launch-2/work/stdout");
    assert_eq!(second, "700002\nNoNewPrivs:\t1\n");
    agent.kill(1, 0);
    host.until_final(&agent, 1, TaskState::Killed).await;
}
