//! What each action is.

use std::sync::Arc;
use std::time::Duration;

use proffer_model::agent::{FromAgent, Launch};
use proffer_model::{FrameworkId, LaunchNumber};
use proffer_rpc::ConnectError;
use proffer_rpc::agent::connect_to_leader;
use tokio::sync::mpsc;

use super::{Connection, Event, Gathered, Shell, input_of_news};
use crate::agent::AgentError;
use crate::config::AgentConfig;
use crate::fetch::Looked;
use crate::logic::{Action, Input};
use crate::runners::Command;

/// From the first packet to an answer of the host's service.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

impl Shell {
    pub(super) fn perform(&mut self, action: Action) -> Result<(), AgentError> {
        match action {
            // Done before.
            Action::Persist(_) => {}
            Action::Connect => self.connect(),
            Action::Disconnect { why } => {
                tracing::info!(why, "the connection to the host is closed");
                self.connection = None;
                self.epoch += 1;
            }
            Action::Send(message) => self.send(message),
            Action::Prepare(launch) => {
                self.parts.files.set(launch.number, launch.framework, None);
                match launch.is_bare() {
                    true => self.gathered.bare.push(launch),
                    false => self.prepare(launch),
                }
            }
            Action::CancelPrepare(launch) => {
                if let Some(preparing) = self.preparing.remove(&launch) {
                    preparing.abort();
                }
            }
            Action::Start(launch) => {
                let framework = launch.framework;
                self.command(framework, Command::Start(launch));
            }
            Action::Stop {
                launch,
                framework,
                grace,
            } => self.command(framework, Command::Stop(launch, grace)),
            Action::Inquire {
                framework,
                launches,
            } => self.command(framework, Command::Inquire(launches)),
            Action::Publish { launch, finished } => {
                self.parts.components.remove(launch);
                if let Some(framework) = self.parts.files.end(launch, finished) {
                    self.command(framework, Command::Forget(launch));
                }
            }
            Action::RemoveSandbox { launch, framework } => {
                self.parts.files.remove(launch);
                self.gathered.remove.push((framework, launch));
            }
            Action::DismissRunner(framework) => {
                self.command(framework, Command::Dismiss);
                self.leaving.insert(framework, 0);
            }
            Action::Exit { why } => return Err(AgentError::Refused(why)),
        }
        Ok(())
    }

    fn connect(&mut self) {
        self.epoch += 1;
        let reader = read_host(self.epoch, self.parts.config.clone(), self.events.clone());
        self.connection = Some(Connection {
            reader: self.work.spawn(reader),
            to_host: None,
        });
    }

    fn send(&mut self, message: FromAgent) {
        let to_host = self.connection.as_ref();
        let Some(to_host) = to_host.and_then(|connection| connection.to_host.as_ref()) else {
            // It broke while this was on its way; the logic hears of that and says it again.
            return;
        };
        if let Err(lost) = to_host.send(message) {
            self.connection = None;
            self.epoch += 1;
            self.again.push_back(Input::Disconnected {
                why: lost.to_string(),
            });
        }
    }

    fn prepare(&mut self, launch: Arc<Launch>) {
        let number = launch.number;
        let preparer = self.parts.preparer.clone();
        let events = self.events.clone();
        let preparing = async move {
            let fetching = async {
                let input = Input::Fetching { launch: number };
                // An error means that the agent is ending.
                let _told = events.send(Event::Input(input)).await.is_ok();
            };
            let outcome = preparer.prepare(&launch, fetching).await;
            let outcome = outcome.map_err(|error| error.unprepared());
            let input = Input::Prepared {
                launch: number,
                outcome,
            };
            // An error means that the agent is ending.
            let _told = events.send(Event::Input(input)).await.is_ok();
        };
        let preparing = self.work.spawn_on(preparing, &self.parts.runtime);
        self.preparing.insert(number, preparing);
    }

    fn command(&mut self, framework: FrameworkId, command: Command) {
        let failed = self.parts.runners.command(framework, command);
        self.again.extend(failed.map(input_of_news));
    }

    /// Takes the directories of runners away whose frameworks are gone, unless a runner still runs in one, or
    /// it was tried so often.
    pub(super) fn take_away(&mut self, tries_max: u32) {
        let due = self.leaving.iter().filter(|(_, tries)| **tries < tries_max);
        let due: Vec<FrameworkId> = due.map(|(framework, _)| *framework).collect();
        for framework in due {
            match self.parts.sandboxes.retire(framework) {
                Ok(Some(retired)) => {
                    self.leaving.remove(&framework);
                    self.parts.runners.forget(framework);
                    let events = self.events.clone();
                    self.work.spawn_blocking(move || {
                        if let Err(error) = retired.remove() {
                            tracing::warn!(%framework, %error, "a runner's directory was not removed");
                            let stays = Event::DirectoryStays(framework);
                            // An error means that the agent is ending; its successor removes it.
                            let _told = events.blocking_send(stays).is_ok();
                        }
                    });
                }
                tried => {
                    if let Err(error) = tried {
                        tracing::warn!(%framework, %error, "a runner's directory stays");
                    }
                    let tries = self.leaving.entry(framework).or_default();
                    *tries = tries.saturating_add(1);
                }
            }
        }
    }

    /// Does what was gathered, off this loop.
    pub(super) fn perform_gathered(&mut self) {
        let Gathered {
            bare,
            fetch,
            remove,
        } = std::mem::take(&mut self.gathered);
        if !bare.is_empty() {
            self.look(bare);
        }
        for launch in fetch {
            self.prepare(launch);
        }
        if !remove.is_empty() {
            self.remove(remove);
        }
    }

    fn look(&mut self, bare: Vec<Arc<Launch>>) {
        let preparer = self.parts.preparer.clone();
        let events = self.events.clone();
        self.work.spawn(async move {
            let all = bare.clone();
            let looked = tokio::task::spawn_blocking(move || preparer.look(&bare)).await;
            let looked = looked.unwrap_or_else(|error| {
                tracing::error!(%error, "looking for components failed: a bug in the agent");
                Looked {
                    left: all,
                    ..Looked::default()
                }
            });
            // An error means that the agent is ending.
            let _told = events.send(Event::Looked(looked)).await.is_ok();
        });
    }

    /// Those that were killed meanwhile are not prepared any more.
    pub(super) fn on_looked(&mut self, looked: Looked) {
        let Looked { ready, left } = looked;
        for (launch, file) in ready {
            if self.parts.files.is_open(launch) {
                self.parts.components.set(launch, file);
                self.again.push_back(Input::Prepared {
                    launch,
                    outcome: Ok(()),
                });
            }
        }
        let files = &self.parts.files;
        let left = left.into_iter();
        let left = left.filter(|launch| files.is_open(launch.number));
        self.gathered.fetch.extend(left);
    }

    fn remove(&mut self, sandboxes: Vec<(FrameworkId, LaunchNumber)>) {
        let all = Arc::clone(&self.parts.sandboxes);
        self.work.spawn_blocking(move || {
            for (framework, launch) in sandboxes {
                if let Err(error) = all.remove(framework, launch) {
                    tracing::warn!(%launch, %error, "a sandbox was not removed");
                }
            }
        });
    }
}

/// Connects and passes on what the host says, until the connection ends. The logic knows when it has
/// heard nothing for too long.
async fn read_host(epoch: u64, config: AgentConfig, events: mpsc::Sender<Event>) {
    let hosts = [vec![config.host.clone()], config.other_hosts.clone()].concat();
    let connecting = connect_to_leader(&hosts, &config.token, &config.tls);
    let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
    let mut denied = false;
    let why = match connected {
        Err(_) => format!("{} did not answer in time", config.host),
        Ok(Err(error)) => {
            denied = matches!(error, ConnectError::Unauthenticated { .. });
            error.to_string()
        }
        Ok(Ok((to_host, mut from_host))) => {
            if events.send(Event::Connected(epoch, to_host)).await.is_err() {
                return;
            }
            loop {
                match from_host.receive().await {
                    Ok(message) => {
                        let input = Input::FromHost(message);
                        if events.send(Event::Link(epoch, input)).await.is_err() {
                            return;
                        }
                    }
                    Err(lost) => break lost.to_string(),
                }
            }
        }
    };
    // An error means that the agent is ending.
    let input = match denied {
        true => Input::Denied { why },
        false => Input::Disconnected { why },
    };
    let _told = events.send(Event::Link(epoch, input)).await.is_ok();
}
