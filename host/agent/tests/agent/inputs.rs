//! Inputs: from files, from the web, read-only, checked.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use proffer_model::agent::{Launch, Origin};
use proffer_model::{AgentId, Executor, TaskState, code};

use super::stage::{Host, input, launch, shell};

/// `abc`'s, as everybody knows it.
const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn with_input(mut launch: Launch, path: &str, from: Origin) -> Launch {
    launch.inputs.push(input(path, from));
    launch
}

#[tokio::test(flavor = "multi_thread")]
async fn file_inputs_are_copied_read_only_under_their_path() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let source = host.dir.path().join("files/text");
    std::fs::write(&source, "abc").unwrap();
    let source = source.to_str().unwrap().to_owned();
    let line =
        "cat in/text top > out; echo no >> in/text && exit 1; echo no > in/new && exit 2; exit 0";
    let mut launched = with_input(shell(1, line), "in/text", Origin::File(source.clone()));
    launched.inputs[0].digest = ABC.to_owned();
    agent.launch(with_input(launched, "top", Origin::File(source.clone())));
    let (states, last) = host.end_of(&agent, 1).await;
    // Without root, agent and task are one user, and only modes protect inputs.
    assert_eq!(
        states,
        [TaskState::Starting, TaskState::Running, TaskState::Finished],
        "{last:?}"
    );
    let out = std::fs::read_to_string(process.work(1).join("out")).unwrap();
    assert_eq!(out, "abcabc");
    assert_eq!(std::fs::read_to_string(&source).unwrap(), "abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executable_input_can_be_the_program() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let source = host.dir.path().join("files/tool");
    std::fs::write(&source, "#!/bin/sh\necho ran $1\n").unwrap();
    let argv = vec!["tool".to_owned(), "well".to_owned()];
    let from = Origin::File(source.to_str().unwrap().to_owned());
    let mut launched = with_input(launch(1, Executor::Process(argv)), "tool", from);
    launched.inputs[0].marks.executable = true;
    agent.launch(launched);
    let (_, last) = host.end_of(&agent, 1).await;
    assert_eq!(last.update.state, TaskState::Finished, "{last:?}");
    let stdout = std::fs::read_to_string(process.work(1).join("stdout")).unwrap();
    assert_eq!(stdout, "ran well\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_fails_with_its_reason() {
    let mut host = Host::start().await;
    let _process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let files = host.dir.path().join("files");
    std::fs::write(files.join("text"), "abc").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", files.join("out")).unwrap();
    let below = |name: &str| Origin::File(files.join(name).to_str().unwrap().to_owned());
    let elsewhere = Origin::File("/etc/passwd".to_owned());
    let cases = [
        (elsewhere, "", code::INPUT_FAILED, "--files"),
        (below("../token"), "", code::INPUT_FAILED, "token"),
        (below("out"), "", code::INPUT_FAILED, "out"),
        (below("missing"), "", code::INPUT_LOST, "missing"),
        (below("text"), "sha256:00", code::INPUT_FAILED, "64 hex"),
        (
            below("text"),
            &format!("sha256:{}", "0".repeat(64)),
            code::INPUT_FAILED,
            "ba7816bf",
        ),
    ];
    for (index, (from, digest, code, part)) in cases.into_iter().enumerate() {
        let number = index as u64 + 1;
        let mut launched = with_input(shell(number, "true"), "in", from);
        launched.inputs[0].digest = digest.to_owned();
        agent.launch(launched);
        let (states, last) = host.end_of(&agent, number).await;
        assert_eq!(states, [TaskState::Starting, TaskState::Failed]);
        assert_eq!(last.update.why.code, code, "{last:?}");
        assert!(last.update.why.text.contains(part), "{last:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_come_from_web_servers_too() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for answer in [
            "200 OK\r\ncontent-length: 3\r\n\r\nabc",
            "404 Not Found\r\ncontent-length: 0\r\n\r\n",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4_096];
            assert!(stream.read(&mut request).unwrap() > 0);
            write!(stream, "HTTP/1.1 {answer}").unwrap();
        }
    });
    let page = Origin::Http(format!("{url}/page"));
    agent.launch(with_input(shell(1, "cat page > out"), "page", page.clone()));
    let (_, last) = host.end_of(&agent, 1).await;
    assert_eq!(last.update.state, TaskState::Finished, "{last:?}");
    let out = std::fs::read_to_string(process.work(1).join("out")).unwrap();
    assert_eq!(out, "abc");
    agent.launch(with_input(shell(2, "true"), "page", page));
    let (_, last) = host.end_of(&agent, 2).await;
    assert_eq!(last.update.why.code, code::INPUT_LOST, "{last:?}");
    server.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_input_is_one_file_until_its_source_changes() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let source = host.dir.path().join("files/text");
    let mut inodes = Vec::new();
    for (number, content) in [(1, "abc"), (2, "abc"), (3, "abcd"), (4, "abcd")] {
        if number % 2 == 1 {
            std::fs::write(&source, content).unwrap();
        }
        let from = Origin::File(source.to_str().unwrap().to_owned());
        let mut launched = with_input(shell(number, "cat in/text"), "in/text", from);
        launched.inputs[0].marks.cache = true;
        agent.launch(launched);
        host.end_of(&agent, number).await;
        let work = process.work(number);
        assert_eq!(
            std::fs::read_to_string(work.join("stdout")).unwrap(),
            content
        );
        let metadata = std::fs::metadata(work.join("in/text")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o444);
        inodes.push(metadata.ino());
    }
    assert_eq!((inodes[0], inodes[2]), (inodes[1], inodes[3]));
    assert_ne!(inodes[1], inodes[2]);
}

/// A server that begins to answer each call and then falls silent.
fn stalling_server() -> (TcpListener, Origin) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, Origin::Http(format!("http://{address}/file")))
}

/// Takes the next call, answers the first bytes, and waits until whoever called goes away.
fn stall(listener: &TcpListener, began: impl FnOnce()) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut call = [0; 1_000];
    assert!(stream.read(&mut call).unwrap() > 0);
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
    stream.write_all(head).unwrap();
    began();
    // Sooner than the agent's own patience with a silent server.
    let soon = std::time::Duration::from_secs(20);
    stream.set_read_timeout(Some(soon)).unwrap();
    // A reset is an end as well.
    let left = stream.read(&mut call);
    let timed_out = left.as_ref().is_err_and(|error| {
        matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        )
    });
    assert!(!timed_out, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_ends_with_the_kill_of_its_task_and_with_its_agent() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let (listener, from) = stalling_server();
    agent.launch(with_input(shell(1, "true"), "file", from.clone()));
    let (began, wait) = tokio::sync::oneshot::channel();
    let stalled = std::thread::spawn(move || {
        stall(&listener, || began.send(()).unwrap());
        listener
    });
    wait.await.unwrap();
    agent.kill(1, 0);
    host.until_final(&agent, 1, TaskState::Killed).await;
    let listener = tokio::task::spawn_blocking(|| stalled.join().unwrap());
    let listener = listener.await.unwrap();

    agent.launch(with_input(shell(2, "true"), "file", from));
    let (began, wait) = tokio::sync::oneshot::channel();
    let stalled = std::thread::spawn(move || stall(&listener, || began.send(()).unwrap()));
    wait.await.unwrap();
    process.interrupt().await;
    let stalled = tokio::task::spawn_blocking(|| stalled.join().unwrap());
    stalled.await.unwrap();
}
