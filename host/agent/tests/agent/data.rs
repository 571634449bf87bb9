//! Outputs that go from agent to agent.

use proffer_model::agent::{Origin, SandboxFile};
use proffer_model::{AgentId, Input, InputMarks, LaunchNumber, TaskState, code};
use proffer_rpc::data::{DataClient, FetchError, FetchFile, FetchRefused};
use proffer_rpc::{Tls, Token};

use super::stage::{Host, input, shell, wait_until, with};

fn file(address: &str, launch: u64, path: &str) -> SandboxFile {
    SandboxFile {
        agent: AgentId(1),
        address: address.to_owned(),
        launch: LaunchNumber(launch),
        path: path.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_reads_what_tasks_of_other_agents_wrote() {
    let mut host = Host::start().await;
    let _first = host.agent("a");
    let one = host.registered(AgentId(1)).await;
    let second = host.agent("b");
    let two = host.registered(AgentId(2)).await;
    let (first_data, second_data) = (
        one.registration.data_address.clone(),
        two.registration.data_address.clone(),
    );
    assert_ne!(first_data, second_data);
    one.launch(shell(1, "mkdir -p part; printf one > part/0"));
    host.end_of(&one, 1).await;
    two.launch(shell(2, "mkdir -p part; head -c 300000 /dev/zero > part/0"));
    host.end_of(&two, 2).await;

    let mut reduce = shell(3, "cat only parts/map-1; wc -c < parts/map-2; ls parts");
    let from = |data: &str, launch| file(data, launch, "part/0");
    reduce
        .inputs
        .push(input("only", Origin::Sandbox(from(&first_data, 1))));
    let several = vec![
        ("map-1".to_owned(), from(&first_data, 1)),
        ("map-2".to_owned(), from(&second_data, 2)),
    ];
    reduce
        .inputs
        .push(input("parts", Origin::Sandboxes(several)));
    two.launch(reduce);
    let (_, last) = host.end_of(&two, 3).await;
    assert_eq!(last.update.state, TaskState::Finished, "{last:?}");
    let out = std::fs::read_to_string(second.work(3).join("stdout")).unwrap();
    assert_eq!(out, "oneone300000\nmap-1\nmap-2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_gone_is_a_lost_input() {
    let mut host = Host::start().await;
    let first = host.agent("a");
    let one = host.registered(AgentId(1)).await;
    let _second = host.agent("b");
    let two = host.registered(AgentId(2)).await;
    let data = one.registration.data_address.clone();
    one.launch(shell(1, "printf one > part"));
    host.end_of(&one, 1).await;
    first.kill();
    for (number, launch, path) in [(2, 1, "part"), (3, 9, "part")] {
        let mut reading = shell(number, "true");
        let from = Origin::Sandbox(file(&data, launch, path));
        reading.inputs.push(input("in", from));
        two.launch(reading);
        let (_, last) = host.end_of(&two, number).await;
        assert_eq!(last.update.state, TaskState::Failed);
        assert_eq!(last.update.why.code, code::INPUT_LOST, "{last:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_lost_outputs_are_named_and_only_those() {
    let mut host = Host::start().await;
    let first = host.agent("a");
    let one = host.registered(AgentId(1)).await;
    let _second = host.agent("b");
    let two = host.registered(AgentId(2)).await;
    let (away, here) = (
        one.registration.data_address.clone(),
        two.registration.data_address.clone(),
    );
    for (agent, number) in [(&one, 1), (&two, 2)] {
        agent.launch(shell(number, "printf one > part"));
        host.end_of(agent, number).await;
    }
    first.kill();
    let several = vec![
        ("job.m0".to_owned(), file(&away, 1, "part")),
        ("job.m1".to_owned(), file(&here, 2, "part")),
        ("job.m2".to_owned(), file(&away, 7, "part")),
        ("job.m3".to_owned(), file(&here, 9, "part")),
    ];
    let mut reading = with(shell(3, "true"), |task| {
        let source = |source: &str, path: &str| Input {
            source: source.to_owned(),
            path: path.to_owned(),
            digest: String::new(),
            marks: InputMarks::default(),
        };
        task.inputs = vec![
            source("output:job.m*/part", "parts"),
            source("task:job.m4.a0/part", "single"),
        ];
    });
    reading.inputs = vec![
        input("parts", Origin::Sandboxes(several)),
        input("single", Origin::Sandbox(file(&away, 5, "part"))),
    ];
    two.launch(reading);
    let (_, last) = host.end_of(&two, 3).await;
    assert_eq!(last.update.why.code, code::INPUT_LOST, "{last:?}");
    let named = String::from_utf8(last.update.data).unwrap();
    assert_eq!(named, "job.m0\njob.m2\njob.m3\njob.m4.a0\n");
    let text = last.update.why.text;
    assert!(text.ends_with("(and 3 more)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_files_of_sandboxes_are_served_and_only_with_the_token() {
    let mut host = Host::start().await;
    let process = host.agent("a");
    let agent = host.registered(AgentId(1)).await;
    let line = "echo log; ln -s /etc/passwd link; ln -s ../inputs inputs; mkfifo pipe; mkdir dir; echo x > file; \
                while [ ! -e go ]; do sleep 0.05; done";
    agent.launch(shell(1, line));
    host.until(&agent, 1, TaskState::Running).await;
    wait_until("all is there", || process.work(1).join("file").exists()).await;
    let address = agent.registration.data_address.parse().unwrap();
    let client = DataClient::new(host.token.clone(), Tls::Off);
    let ask = async |path: &str, offset| {
        let file = FetchFile {
            launch: LaunchNumber(1),
            path: path.to_owned(),
            offset,
        };
        let mut fetched = client.fetch(&address, &file).await?;
        let mut all = Vec::new();
        while let Some(bytes) = fetched.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok::<_, FetchError>(String::from_utf8(all).unwrap())
    };
    let refusal = async |path: &str| match ask(path, 0).await {
        Err(FetchError::Refused { why, .. }) => why,
        other => panic!("{path}: {other:?}"),
    };
    // While it runs, its logs are all that there is to see.
    assert_eq!(ask("stdout", 0).await.unwrap(), "log\n");
    assert_eq!(ask("stdout", 2).await.unwrap(), "g\n");
    assert_eq!(ask("stdout", 9).await.unwrap(), "");
    assert!(matches!(refusal("file").await, FetchRefused::NotYet(_)));
    std::fs::write(process.work(1).join("go"), "").unwrap();
    host.until_final(&agent, 1, TaskState::Finished).await;
    assert_eq!(ask("file", 0).await.unwrap(), "x\n");
    for path in [
        "link",
        "pipe",
        "dir",
        "../work/file",
        "/etc/passwd",
        "inputs/x",
        "",
        ".",
    ] {
        let why = refusal(path).await;
        assert!(matches!(why, FetchRefused::Invalid(_)), "{path}: {why:?}");
    }
    assert!(matches!(refusal("none").await, FetchRefused::Lost(_)));
    let stranger = DataClient::new(Token::random().unwrap(), Tls::Off);
    let file = FetchFile {
        launch: LaunchNumber(1),
        path: "file".to_owned(),
        offset: 0,
    };
    let refused = stranger.fetch(&address, &file).await.unwrap_err();
    assert!(
        refused.to_string().contains("refused the token"),
        "{refused}"
    );
}
