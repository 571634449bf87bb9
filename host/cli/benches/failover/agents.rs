//! Agents that are only there to be registered, many on one connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proffer_model::agent::{FromAgent, KnownLaunch, Registration, ToAgent};
use proffer_model::{AgentId, FrameworkId, LaunchNumber, RoleName, TaskState};
use proffer_rpc::agent::{HostChannel, HostReceiver, HostSender};
use proffer_rpc::{PeerAddress, Tls, Token};

use crate::facts::{Detail, info, task_id, total};

/// Between two streams of an agent, as between the first tries of a real one.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Between two looks for the leader.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How the agents fare.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Streams on which an agent has registered, and which are open.
    pub(crate) open: AtomicUsize,
    /// Streams that the host ended before it said a word.
    pub(crate) sent_away: AtomicUsize,
    /// Why the first of them was.
    pub(crate) first: OnceLock<String>,
}

/// Agents on one connection. They find the leader again whenever they lose it.
pub(crate) struct Group {
    pub(crate) hosts: Vec<PeerAddress>,
    pub(crate) token: Token,
    pub(crate) registrations: Vec<Registration>,
    pub(crate) tally: Arc<Tally>,
}

impl Group {
    pub(crate) async fn run(self) {
        loop {
            let found = HostChannel::to_leader(&self.hosts, &self.token, &Tls::Off).await;
            if let Ok(channel) = found {
                let mut agents = tokio::task::JoinSet::new();
                for registration in &self.registrations {
                    let tally = Arc::clone(&self.tally);
                    agents.spawn(agent(channel.clone(), registration.clone(), tally));
                }
                while agents.join_next().await.is_some() {}
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// One agent, on one stream after the other, until nobody takes one on this connection.
async fn agent(channel: HostChannel, registration: Registration, tally: Arc<Tally>) {
    while let Ok((to_host, from_host)) = channel.connect().await {
        let register = FromAgent::Register(Box::new(registration.clone()));
        if to_host.send(register).is_ok() {
            tally.open.fetch_add(1, Ordering::Relaxed);
            stream(to_host, from_host, &tally).await;
            tally.open.fetch_sub(1, Ordering::Relaxed);
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// One stream to its end.
async fn stream(to_host: HostSender, mut from_host: HostReceiver, tally: &Tally) {
    let mut was_heard = false;
    loop {
        match from_host.receive().await {
            Ok(ToAgent::Heartbeat) if to_host.send(FromAgent::Heartbeat).is_err() => return,
            Ok(_) => was_heard = true,
            Err(_) if was_heard => return,
            Err(why) => {
                tally.sent_away.fetch_add(1, Ordering::Relaxed);
                tally.first.get_or_init(|| why.to_string());
                return;
            }
        }
    }
}

/// What an agent says of itself.
pub(crate) fn registration(
    agent: usize,
    (agents, tasks): (usize, usize),
    detail: Detail,
) -> Registration {
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
        info: info(agent, detail),
        total: total(detail),
        special: proffer_model::Resources::none(),
        data_address: "http://127.0.0.1:1".to_owned(),
        launches: launches.collect(),
    }
}
