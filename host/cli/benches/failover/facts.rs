//! What a store is filled with: agents, and a framework with its tasks, all running.

use std::sync::Arc;

use anyhow::bail;
use proffer_model::fact::{
    AgentRecord, Effect, Fact, FrameworkRecord, FrameworkStanding, LaunchRecord, StepRecord,
};
use proffer_model::framework::StateWrite;
use proffer_model::{
    AgentId, AgentInfo, Attribute, AttributeValue, Executor, FrameworkId, LaunchNumber, Reason,
    Remedy, Resources, RoleName, StepNumber, TaskId, TaskSpec, TaskState, Template, Timestamp,
};
use proffer_store::Store;
use proffer_store::etcd::{Cluster, Election, EtcdAddress, EtcdStore, Follower, Role};

use crate::{FACTS_PER_COMMIT, LEASE};

/// The framework wants one task more, for which no agent is large enough: so the policy is asked.
const NOOP_CONFIG: &str = r#"{"tasks":1,"shape":"cpus:1000","argv":[]}"#;

/// How much is said of agents and tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What failing over needs.
    Plain,
    /// Agents have four attributes, tasks three scalars and a port, and the framework holds each of its tasks in its state.
    Full,
}

pub(crate) fn total(detail: Detail) -> proffer_model::Bundle {
    let text = match detail {
        Detail::Plain => "cpus:64;mem:262144",
        Detail::Full => "cpus:64;mem:262144;disk:1000000;ports:[31000-32000]",
    };
    text.parse().expect("resources")
}

pub(crate) fn info(agent: usize, detail: Detail) -> Arc<AgentInfo> {
    Arc::new(AgentInfo {
        hostname: format!("node-{agent:06}").into(),
        region: "".into(),
        zone: "".into(),
        attributes: match detail {
            Detail::Plain => Vec::new(),
            Detail::Full => attributes(),
        },
    })
}

fn attributes() -> Vec<Attribute> {
    let text = |name: &str, value: &str| Attribute {
        name: name.to_owned(),
        value: AttributeValue::Text(value.to_owned()),
    };
    vec![
        text("rack", "rack-17"),
        text("os", "debian-13"),
        text("generation", "5"),
        text("disk", "nvme"),
    ]
}

pub(crate) fn task_id(task: usize) -> TaskId {
    TaskId::new(format!("service-with-a-usual-name.replica-{task:07}").as_str())
        .expect("a word is a task id")
}

pub(crate) async fn fill_etcd(store: &str, agents: usize, tasks: usize) -> anyhow::Result<()> {
    let address: EtcdAddress = store.parse()?;
    let cluster = Cluster::open(address, tokio::runtime::Handle::current()).await?;
    let election = Election::start(&cluster, LEASE, "filling".to_owned())?;
    let mut role = election.role();
    let leads = role
        .wait_for(|role| matches!(role, Role::Leading(_)))
        .await?
        .clone();
    let Role::Leading(fence) = leads else {
        bail!("it does not lead");
    };
    let (follower, recovered) = Follower::load(cluster).await?;
    let authority = election.authority();
    let mut store = EtcdStore::lead(follower, recovered.states, fence, authority).await?;
    tokio::task::spawn_blocking(move || fill(&mut store, agents, tasks, None)).await??;
    election.resign().await;
    Ok(())
}

/// Agents, a framework of this component, and its tasks, all running. Without one it is quarantined, and
/// there is no more detail than failing over needs.
pub(crate) fn fill(
    store: &mut dyn Store,
    agents: usize,
    tasks: usize,
    component: Option<String>,
) -> anyhow::Result<()> {
    let detail = match component {
        None => Detail::Plain,
        Some(_) => Detail::Full,
    };
    let mut facts = vec![Fact::IdsReserved {
        offers_below: tasks as u64 + 1_000,
        requests_below: 1_000,
    }];
    for agent in 0..agents {
        facts.push(Fact::AgentSet(Box::new(AgentRecord {
            agent: AgentId(agent as u32),
            key: format!("agent-key-{agent}"),
            boot: "the-first-boot".to_owned(),
            info: info(agent, detail),
            total: total(detail),
            data_address: "http://127.0.0.1:1".to_owned(),
        })));
    }
    facts.push(Fact::FrameworkSet(Box::new(FrameworkRecord {
        framework: FrameworkId(1),
        name: "services".into(),
        version: "1".to_owned(),
        standing: match component {
            Some(_) => FrameworkStanding::Active,
            None => {
                let why = Reason::new("bench", Remedy::Mend, "not run");
                FrameworkStanding::Quarantined(why)
            }
        },
        digest: component.unwrap_or_else(|| format!("sha256:{}", "0".repeat(64))),
        roles: vec![RoleName::star()],
        config: NOOP_CONFIG.to_owned(),
        gpus: false,
        step: StepNumber(0),
    })));
    let template = template();
    for task in 0..tasks {
        facts.push(launched(task, agents, &template, detail));
        if facts.len() >= FACTS_PER_COMMIT {
            store.append(&facts)?;
            facts.clear();
        }
    }
    Ok(store.append(&facts)?)
}

fn template() -> Template {
    Template {
        name: "service".into(),
        executor: Executor::Process(vec!["bin/serve".into()]),
        env: Vec::new(),
        inputs: Vec::new(),
        checks: Vec::new(),
        grace: proffer_model::Duration::from_secs(5),
        longest: None,
        group: String::new(),
        labels: Vec::new(),
        options: Vec::new(),
    }
}

fn launched(task: usize, agents: usize, template: &Template, detail: Detail) -> Fact {
    let resources = match detail {
        Detail::Plain => "cpus:0.1;mem:16".to_owned(),
        Detail::Full => {
            let port = 31_000 + task / agents;
            format!("cpus:0.1;mem:16;disk:8;ports:[{port}-{port}]")
        }
    };
    let spec = TaskSpec {
        id: task_id(task),
        template: template.clone(),
        resources: Resources::plain(resources.parse().expect("resources")),
        args: Vec::new(),
        env: Vec::new(),
        inputs: Vec::new(),
        mounts: Vec::new(),
        output: String::new(),
        priority: 0,
    };
    let launch = LaunchNumber(task as u64 + 1);
    let at = Timestamp(1_700_000_000_000);
    let record = LaunchRecord {
        launch,
        agent: AgentId((task % agents) as u32),
        role: RoleName::star(),
        task: Arc::new(spec),
        group: launch,
        at,
    };
    let acknowledged = Effect::TaskAcknowledged {
        task: task_id(task),
        sequence: 1,
        state: TaskState::Running,
        why: Reason::new("running", Remedy::Retry, ""),
        exit: None,
        at,
    };
    Fact::StepCommitted(Box::new(StepRecord {
        framework: FrameworkId(1),
        step: StepNumber(task as u64 + 1),
        writes: match detail {
            Detail::Plain => Vec::new(),
            Detail::Full => vec![held(task, agents)],
        },
        effects: vec![Effect::TaskLaunched(Box::new(record)), acknowledged],
    }))
}

/// What a framework keeps of a task.
fn held(task: usize, agents: usize) -> StateWrite {
    let value = format!(
        "{{\"agent\":{},\"state\":\"running\",\"tries\":0}}",
        task % agents
    );
    let key = format!("task/{}", task_id(task).as_str());
    StateWrite::Set(key, value.into_bytes().into())
}
