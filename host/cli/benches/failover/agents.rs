//! Agents that are only there to be registered, many on one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proffer_model::agent::{FromAgent, KnownLaunch, Registration, ToAgent};
use proffer_model::{AgentId, FrameworkId, LaunchNumber, RoleName, TaskState};
use proffer_rpc::agent::HostChannel;
use proffer_rpc::{PeerAddress, Tls, Token};

use crate::facts::{info, task_id, total};

/// Agents on one connection. They find the leader again whenever they lose it.
pub(crate) struct Group {
    pub(crate) hosts: Vec<PeerAddress>,
    pub(crate) token: Token,
    pub(crate) registrations: Vec<Registration>,
    pub(crate) connected: Arc<AtomicUsize>,
}

impl Group {
    pub(crate) async fn run(self) {
        loop {
            let found = HostChannel::to_leader(&self.hosts, &self.token, &Tls::Off).await;
            if let Ok(channel) = found {
                let mut agents = tokio::task::JoinSet::new();
                for registration in &self.registrations {
                    let connected = Arc::clone(&self.connected);
                    agents.spawn(agent(channel.clone(), registration.clone(), connected));
                }
                while agents.join_next().await.is_some() {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One agent on one stream, until that ends.
async fn agent(channel: HostChannel, registration: Registration, connected: Arc<AtomicUsize>) {
    let Ok((to_host, mut from_host)) = channel.connect().await else {
        return;
    };
    if to_host
        .send(FromAgent::Register(Box::new(registration)))
        .is_err()
    {
        return;
    }
    connected.fetch_add(1, Ordering::Relaxed);
    let mut was_heard = false;
    loop {
        match from_host.receive().await {
            Ok(ToAgent::Heartbeat) if to_host.send(FromAgent::Heartbeat).is_err() => break,
            Ok(_) => was_heard = true,
            Err(_) if was_heard => break,
            Err(why) => {
                eprintln!("an agent was sent away: {why}");
                break;
            }
        }
    }
    connected.fetch_sub(1, Ordering::Relaxed);
}

/// What an agent says of itself.
pub(crate) fn registration(agent: usize, agents: usize, tasks: usize) -> Registration {
    let launches = (agent..tasks).step_by(agents).map(|task| KnownLaunch {
        launch: LaunchNumber(task as u64 + 1),
        framework: FrameworkId(1),
        task: task_id(task),
        role: RoleName::star(),
        latest: TaskState::Running,
    });
    Registration {
        agent: Some(AgentId(agent as u32)),
        key: format!("agent-key-{agent}"),
        boot: "the-first-boot".to_owned(),
        info: info(agent),
        total: total(),
        special: proffer_model::Resources::none(),
        data_address: "http://127.0.0.1:1".to_owned(),
        launches: launches.collect(),
    }
}
