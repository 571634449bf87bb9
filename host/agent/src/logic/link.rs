//! The connection to the host: registering, heartbeats, and coming back after it broke.

use proffer_model::agent::{FromAgent, KnownLaunch, Registration};
use proffer_model::{AgentId, Duration, Timestamp};

use super::launch::Phase;
use super::{Action, Logic, Outbox, Record};

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// There is none; the next attempt comes.
    Waiting { until: Timestamp, attempt: u32 },
    /// An attempt is under way; the shell bounds it.
    Connecting { attempt: u32 },
    /// Connected; the host has not answered the registration.
    Registering { until: Timestamp, attempt: u32 },
    /// Registered.
    Online {
        heartbeat: Duration,
        timeout: Duration,
        heard: Timestamp,
        said: Timestamp,
    },
    /// The host refused this agent.
    Refused,
}

impl Link {
    pub(super) fn is_online(self) -> bool {
        matches!(self, Self::Online { .. })
    }

    pub(super) fn due(self) -> Option<Timestamp> {
        match self {
            Self::Waiting { until, .. } | Self::Registering { until, .. } => Some(until),
            Self::Connecting { .. } | Self::Refused => None,
            Self::Online {
                heartbeat,
                timeout,
                heard,
                said,
            } => Some((said + heartbeat).min(heard + timeout)),
        }
    }
}

impl Logic {
    pub(super) fn on_connected(&mut self, now: Timestamp, outbox: &mut Outbox) {
        let Link::Connecting { attempt } = self.link else {
            return;
        };
        self.counters.connections += 1;
        self.link = Link::Registering {
            until: now + self.settings.timings.register_within,
            attempt,
        };
        outbox.push(Action::Send(FromAgent::Register(Box::new(
            self.registration(),
        ))));
    }

    pub(super) fn on_disconnected(&mut self, now: Timestamp, why: &str) {
        let attempt = match self.link {
            Link::Connecting { attempt } | Link::Registering { attempt, .. } => attempt + 1,
            Link::Online { .. } => 0,
            // Nothing was connected: a message that crossed our own closing.
            Link::Waiting { .. } | Link::Refused => return,
        };
        tracing::info!(why, attempt, "no connection to the host");
        self.wait_to_connect(now, attempt);
    }

    /// Disconnected updates are in flight no more; they go again after the next registration.
    fn wait_to_connect(&mut self, now: Timestamp, attempt: u32) {
        let timings = self.settings.timings;
        let longest = timings
            .reconnect_first
            .0
            .saturating_mul(1_u64.checked_shl(attempt.min(32)).unwrap_or(u64::MAX))
            .min(timings.reconnect_max.0);
        // Between half and all of it: agents that lost one host do not come back in one instant.
        let half = longest / 2;
        let wait = half + self.random_below(longest - half + 1);
        self.link = Link::Waiting {
            until: now + Duration(wait),
            attempt,
        };
        for (number, state) in &mut self.launches {
            if let Some(in_flight) = state.stream.in_flight.take() {
                let due = (in_flight.at, *number, super::Due::Resend);
                self.dues.remove(&due);
            }
        }
    }

    pub(super) fn link_tick(&mut self, now: Timestamp, outbox: &mut Outbox) {
        match self.link {
            Link::Waiting { until, attempt } if until <= now => {
                self.link = Link::Connecting { attempt };
                outbox.push(Action::Connect);
            }
            Link::Registering { until, attempt } if until <= now => {
                outbox.push(Action::Disconnect {
                    why: "the host did not answer the registration".to_owned(),
                });
                self.wait_to_connect(now, attempt + 1);
            }
            Link::Online { timeout, heard, .. } if heard + timeout <= now => {
                outbox.push(Action::Disconnect {
                    why: format!("nothing was heard of the host for {timeout}"),
                });
                self.wait_to_connect(now, 0);
            }
            Link::Online {
                heartbeat, said, ..
            } if said + heartbeat <= now => self.say(now, FromAgent::Heartbeat, outbox),
            _ => {}
        }
    }

    /// The host answered the registration: what waits goes out.
    pub(super) fn on_registered(
        &mut self,
        now: Timestamp,
        agent: AgentId,
        beat: (Duration, Duration),
        outbox: &mut Outbox,
    ) {
        if !matches!(self.link, Link::Registering { .. }) {
            return;
        }
        if self.identity.agent != Some(agent) {
            self.identity.agent = Some(agent);
            outbox.push(Action::Persist(Record::Identity(self.identity.clone())));
        }
        tracing::info!(agent = %agent, "registered");
        let (heartbeat, timeout) = beat;
        self.link = Link::Online {
            heartbeat,
            timeout,
            heard: now,
            said: now,
        };
        let numbers: Vec<_> = self.launches.keys().copied().collect();
        for number in numbers {
            self.send_front(now, number, outbox);
        }
    }

    /// The host counts neither on this agent nor on its tasks, so they end: their resources may be
    /// somebody else's by now.
    pub(super) fn on_refused(&mut self, why: String, outbox: &mut Outbox) {
        self.link = Link::Refused;
        for state in self.launches.values() {
            if matches!(state.phase, Phase::Handed | Phase::Running) {
                outbox.push(Action::Stop {
                    launch: state.launch.number,
                    framework: state.launch.framework,
                    grace: state.launch.task.template.grace,
                });
            }
        }
        outbox.push(Action::Exit { why });
    }

    pub(super) fn heard(&mut self, now: Timestamp) {
        if let Link::Online { heard, .. } = &mut self.link {
            *heard = now;
        }
    }

    pub(super) fn say(&mut self, now: Timestamp, message: FromAgent, outbox: &mut Outbox) {
        if let Link::Online { said, .. } = &mut self.link {
            *said = now;
        }
        outbox.push(Action::Send(message));
    }

    fn registration(&self) -> Registration {
        let known = self.launches.values().filter(|state| !state.is_settled());
        Registration {
            agent: self.identity.agent,
            key: self.identity.key.clone(),
            boot: self.identity.boot.clone(),
            info: std::sync::Arc::clone(&self.settings.info),
            total: self.settings.total.clone(),
            special: proffer_model::Resources::none(),
            data_address: self.settings.data_address.clone(),
            launches: known
                .map(|state| KnownLaunch {
                    launch: state.launch.number,
                    framework: state.launch.framework,
                    task: state.launch.task.id.clone(),
                    role: state.launch.role.clone(),
                    latest: state.latest,
                })
                .collect(),
        }
    }

    /// The next of a stream of numbers that the seed decides (`SplitMix64`).
    fn random_below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}
