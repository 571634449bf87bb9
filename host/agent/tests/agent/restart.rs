//! Agents that die and come back.

use std::collections::BTreeMap;

use proffer_model::agent::ToAgent;
use proffer_model::{AgentId, FrameworkId, LaunchNumber, TaskState, TaskUpdate, code};

use super::stage::{AgentProcess, Host, runner, shell, wait_until, work};

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_while_the_agent_is_dead_is_told_after_its_restart() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(5)).await;
    agent.launch(shell(1, "while [ ! -e go ]; do sleep 0.05; done; exit 7"));
    host.until(&agent, 1, TaskState::Running).await;
    let data = process.data.clone();
    process.kill();
    let log = runner(&data).join("run/status");
    let written = || std::fs::metadata(&log).unwrap().len();
    let before = written();
    std::fs::write(work(&data, 1).join("go"), "").unwrap();
    wait_until("the runner notes the exit", || written() > before).await;

    let _process = host.agent("a");
    let agent = host.registered(AgentId(5)).await;
    assert_eq!(agent.registration.agent, Some(AgentId(5)));
    let known: Vec<_> = agent
        .registration
        .launches
        .iter()
        .map(|known| known.launch)
        .collect();
    assert_eq!(known, [LaunchNumber(1)]);
    let update = loop {
        let update = host.update().await;
        agent.acknowledge(&update);
        if update.update.state != TaskState::Running {
            break update;
        }
    };
    assert_eq!(update.update.state, TaskState::Failed);
    assert_eq!(update.update.exit, Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_on_while_its_agent_restarts_and_can_be_killed_after() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(5)).await;
    agent.launch(shell(1, "echo $$ > pid; exec sleep 1000"));
    host.until(&agent, 1, TaskState::Running).await;
    let pid = process.work(1).join("pid");
    let written = || std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'));
    wait_until("it runs", written).await;
    let running = format!("/proc/{}", std::fs::read_to_string(&pid).unwrap().trim());
    process.kill();
    let _process = host.agent("a");
    let agent = host.registered(AgentId(5)).await;
    assert!(std::path::Path::new(&running).exists());
    agent.kill(1, 1_000);
    host.until_final(&agent, 1, TaskState::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_number_runs_once_however_often_it_is_sent() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(5)).await;
    let once = || shell(1, "echo run >> runs");
    agent.launch(once());
    agent.launch(once());
    host.end_of(&agent, 1).await;
    agent.launch(once());
    process.kill();
    let process = host.agent("a");
    let agent = host.registered(AgentId(5)).await;
    agent.launch(once());
    agent.launch(shell(2, "true"));
    host.end_of(&agent, 2).await;
    let runs = std::fs::read_to_string(process.work(1).join("runs")).unwrap();
    assert_eq!(runs, "run\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_runner_was_killed_is_reported_lost_and_runs_no_more() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(5)).await;
    agent.launch(shell(1, "echo $$ $PPID > pids; exec sleep 1000"));
    host.until(&agent, 1, TaskState::Running).await;
    let pids = process.work(1).join("pids");
    let written = || std::fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n'));
    wait_until("it runs", written).await;
    let pids = std::fs::read_to_string(&pids).unwrap();
    let mut pids = pids
        .split_ascii_whitespace()
        .map(|pid| pid.parse::<i32>().unwrap());
    let (task, runner) = (pids.next().unwrap(), pids.next().unwrap());
    let runner = rustix::process::Pid::from_raw(runner).unwrap();
    rustix::process::kill_process(runner, rustix::process::Signal::KILL).unwrap();
    let last = host.until_final(&agent, 1, TaskState::Failed).await;
    assert_eq!(last.update.why.code, proffer_model::code::RUNNER_LOST);
    let gone = || {
        std::fs::read_to_string(format!("/proc/{task}/stat"))
            .map_or(true, |stat| stat.contains(") Z "))
    };
    wait_until("the process is gone", gone).await;
}

/// Ends the runner with KILL; it must be there.
fn kill_runner(process: &AgentProcess) {
    // It has its directory as its working directory, and so has no process of a task.
    let own = runner(&process.data).canonicalize().unwrap();
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
        let cwd = std::fs::read_link(entry.path().join("cwd")).ok()?;
        (cwd == own).then_some(pid)
    });
    let pids: Vec<i32> = pids.collect();
    assert_eq!(pids.len(), 1, "{pids:?}");
    let pid = rustix::process::Pid::from_raw(pids[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn launches_after_a_runners_death_run_in_a_new_one_and_the_loss_is_told_once() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(5)).await;
    for round in 0..10 {
        let (long, short) = (round * 2 + 1, round * 2 + 2);
        agent.launch(shell(long, "exec sleep 1000"));
        host.until(&agent, long, TaskState::Running).await;
        kill_runner(&process);
        // At once: the agent need not know yet.
        agent.launch(shell(short, "true"));
        let mut ends = BTreeMap::new();
        while ends.len() < 2 {
            let update = host.update().await;
            agent.acknowledge(&update);
            let TaskUpdate {
                state,
                why,
                sequence,
                ..
            } = update.update;
            if state.is_final() {
                let end = (state, why.code.into_owned());
                let told = ends.insert(update.launch.0, (sequence, end.clone()));
                // What is sent again, because the acknowledgement was on its way, is the same.
                assert!(told.is_none_or(|told| told == (sequence, end)));
            }
        }
        let ends: Vec<_> = ends.into_values().map(|(_, end)| end).collect();
        let lost = (TaskState::Failed, code::RUNNER_LOST.to_owned());
        let ran = (TaskState::Finished, code::EXITED.to_owned());
        assert_eq!(ends, [lost, ran]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_whose_runner_cannot_be_started_is_dropped_and_not_to_blame() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(5)).await;
    agent.launch(shell(1, "true"));
    host.until_final(&agent, 1, TaskState::Finished).await;
    kill_runner(&process);
    // Another has the runner's directory, and does not let it go.
    let lock = std::fs::File::open(runner(&process.data).join("run/lock")).unwrap();
    lock.lock().unwrap();
    agent.launch(shell(2, "true"));
    let update = host.until_final(&agent, 2, TaskState::Dropped).await;
    assert_eq!(update.update.why.code, code::RUNNER_LOST);
    drop(lock);
    agent.launch(shell(3, "true"));
    host.until_final(&agent, 3, TaskState::Finished).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runners_directory_goes_with_its_framework_and_no_other() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(5)).await;
    agent.launch(shell(1, "true"));
    host.until_final(&agent, 1, TaskState::Finished).await;
    let mut of_other = shell(2, "exec sleep 1000");
    of_other.framework = FrameworkId(2);
    agent.launch(of_other);
    host.until(&agent, 2, TaskState::Running).await;
    assert!(runner(&process.data).exists());
    let framework = super::stage::FRAMEWORK;
    let remove = ToAgent::RemoveFramework { framework };
    agent.to_agent.send(remove).unwrap();
    let runners = process.data.join("runners");
    let left = || {
        let names = std::fs::read_dir(&runners).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    wait_until("only the other's is left", || left() == ["framework-2"]).await;
    agent
        .to_agent
        .send(ToAgent::RemoveFramework {
            framework: FrameworkId(2),
        })
        .unwrap();
    let last = host.until_final(&agent, 2, TaskState::Killed).await;
    assert_eq!(last.update.why.code, code::FRAMEWORK_REMOVED);
    // Its end was told, and its sandbox has not expired.
    assert_eq!(left(), ["framework-2"]);
    agent
        .to_agent
        .send(ToAgent::RemoveFramework {
            framework: FrameworkId(2),
        })
        .unwrap();
    wait_until("nothing is left", || left().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_sandboxes_go_when_disk_is_low() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(5)).await;
    for number in 1..=4 {
        agent.launch(shell(number, "echo done"));
        host.end_of(&agent, number).await;
    }
    let data = process.data.clone();
    // The last acknowledgement is journalled before this is answered.
    agent.launch(shell(5, "true"));
    host.until(&agent, 5, TaskState::Running).await;
    process.kill();
    let _process = host.agent_with("a", &["--disk-is-low"]);
    host.registered(AgentId(5)).await;
    wait_until("the oldest is gone", || !work(&data, 1).exists()).await;
    for number in 2..=5 {
        assert!(work(&data, number).exists(), "{number}");
    }
}
