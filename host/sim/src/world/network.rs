//! Connections of agents to the host: each direction is ordered, and that is all that is promised.
//! Messages are late, a break loses the tail of either direction, either end may hear of it long
//! after the other, and a new connection races the end of the old one.

use std::collections::VecDeque;

use proffer_agent::logic::Input;
use proffer_core::{ConnectionId, Event};
use proffer_model::agent::{FromAgent, ToAgent};

use super::{Checked, Occurrence, World, delay};

/// Longest time until an end hears of a break.
const HEAR_END_WITHIN: u64 = 3_000;

/// A connection attempt that nobody answers ends after this.
const CONNECT_WITHIN: u64 = 10_000;

/// A connection.
pub(super) struct Link {
    pub(super) agent: usize,
    /// The agent's process that made it.
    agent_life: u64,
    /// The host's process that took it.
    host_life: u64,
    up: VecDeque<FromAgent>,
    down: VecDeque<ToAgent>,
    /// When the last message of each direction arrives.
    up_last: u64,
    down_last: u64,
    /// The agent still speaks and listens.
    agent_open: bool,
    /// The host still speaks.
    host_open: bool,
}

/// Until when an agent hears or says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cut {
    pub(super) up: u64,
    pub(super) down: u64,
}

impl World {
    /// An agent's attempt to connect comes to its end.
    pub(super) fn connects(&mut self, agent: usize, life: u64, epoch: u64) {
        let node = &self.agents[agent];
        let Some(process) = node.process(life).filter(|process| process.epoch == epoch) else {
            return;
        };
        debug_assert!(process.link.is_none(), "one connection at a time");
        let cut = node.cut.up.max(node.cut.down);
        let refused = !self.calm && self.dice.network.one_in(20);
        let found = if cut <= self.now && !refused {
            self.find_leader()
        } else {
            None
        };
        let Some(host_life) = found else {
            let why = "the host does not answer".to_owned();
            let wait = if cut > self.now {
                CONNECT_WITHIN
            } else {
                delay(&mut self.dice.network, self.scenario.delays.network)
            };
            let input = Box::new(Input::Disconnected { why });
            if let Some(process) = self.agents[agent].process_mut(life) {
                process.epoch += 1;
            }
            return self.after(wait, Occurrence::AgentHears { agent, life, input });
        };
        self.links_made += 1;
        let link = self.links_made;
        self.links.insert(
            link,
            Link {
                agent,
                agent_life: life,
                host_life,
                up: VecDeque::new(),
                down: VecDeque::new(),
                up_last: 0,
                down_last: 0,
                agent_open: true,
                host_open: true,
            },
        );
        self.opened(host_life, ConnectionId(link));
        if let Some(process) = self.agents[agent].process_mut(life) {
            process.link = Some(link);
        }
        self.agent_input(agent, life, Input::Connected);
    }

    /// The term that an agent finds: it asks any host, which leads or says who does as far as it knows.
    fn find_leader(&mut self) -> Option<u64> {
        let asked = match self.hosts.len() {
            1 => 0,
            many => self.dice.network.index(many),
        };
        let process = self.hosts[asked].process.as_ref()?;
        if let Some(term) = &process.term {
            return Some(term.life);
        }
        let leader = process.candidate.as_ref()?.followed?;
        Some(self.hosts.get(leader)?.term()?.life)
    }

    pub(super) fn send_up(&mut self, link: u64, message: FromAgent) {
        let wait = delay(&mut self.dice.network, self.scenario.delays.network);
        let now = self.now;
        if let Some(own) = self.links.get_mut(&link).filter(|own| own.agent_open) {
            own.up.push_back(message);
            own.up_last = own.up_last.max(now + wait);
            let at = own.up_last;
            self.at(at, Occurrence::Up { link });
        }
    }

    pub(super) fn send_down(&mut self, connection: ConnectionId, message: ToAgent) {
        let wait = delay(&mut self.dice.network, self.scenario.delays.network);
        let (now, link) = (self.now, connection.0);
        if let Some(own) = self.links.get_mut(&link).filter(|own| own.host_open) {
            own.down.push_back(message);
            own.down_last = own.down_last.max(now + wait);
            let at = own.down_last;
            self.at(at, Occurrence::Down { link });
        }
    }

    /// The next message to the host arrives, if it was not lost with its connection.
    pub(super) fn deliver_up(&mut self, link: u64) -> Checked {
        let Some(own) = self.links.get_mut(&link) else {
            return Ok(());
        };
        let (agent, life) = (own.agent, own.host_life);
        let until = self.agents[agent].cut.up.max(self.stalled_until(life));
        if until > self.now {
            self.at(until, Occurrence::Up { link });
            return Ok(());
        }
        let Some(own) = self.links.get_mut(&link) else {
            return Ok(());
        };
        let Some(message) = own.up.pop_front() else {
            return Ok(());
        };
        let connection = ConnectionId(link);
        let event = match message {
            FromAgent::Register(registration) => Event::AgentRegistered {
                connection,
                registration,
            },
            FromAgent::Update(update) => Event::TaskUpdated { connection, update },
            FromAgent::Heartbeat => Event::AgentHeard { connection },
        };
        self.host_hears(life, event)
    }

    /// The next message to an agent arrives.
    pub(super) fn deliver_down(&mut self, link: u64) {
        let Some(own) = self.links.get_mut(&link) else {
            return;
        };
        let (agent, life) = (own.agent, own.agent_life);
        let until = self.agents[agent].cut.down;
        if until > self.now {
            return self.at(until, Occurrence::Down { link });
        }
        if let Some(message) = own.down.pop_front()
            && own.agent_open
        {
            self.agent_input(agent, life, Input::FromHost(message));
        }
    }

    /// The connection breaks between the two: each direction loses its tail, and each end hears of
    /// it in its own time.
    pub(super) fn break_link(&mut self, link: u64) {
        self.lose_tails(link);
        self.hears_end_later(link, |link| Occurrence::HostHearsEnd { link });
        self.hears_end_later(link, |link| Occurrence::AgentHearsEnd { link });
    }

    /// The agent's end is gone: the host hears of that, unless a whole machine went without a word.
    pub(super) fn agent_end_gone(&mut self, link: u64, silently: bool) {
        if let Some(own) = self.links.get_mut(&link) {
            own.agent_open = false;
            own.down.clear();
        }
        self.lose_tails(link);
        if !silently {
            self.hears_end_later(link, |link| Occurrence::HostHearsEnd { link });
        }
    }

    /// The host ends a connection, or its process is gone.
    pub(super) fn host_end_gone(&mut self, link: u64) {
        if let Some(own) = self.links.get_mut(&link) {
            own.host_open = false;
        }
        self.lose_tails(link);
        self.hears_end_later(link, |link| Occurrence::AgentHearsEnd { link });
        // The transport of a host that lives says of every connection that it ended.
        self.hears_end_later(link, |link| Occurrence::HostHearsEnd { link });
    }

    fn lose_tails(&mut self, link: u64) {
        let dice = &mut self.dice.network;
        if let Some(own) = self.links.get_mut(&link) {
            own.up.truncate(dice.index(own.up.len() + 1));
            own.down.truncate(dice.index(own.down.len() + 1));
        }
    }

    fn hears_end_later(&mut self, link: u64, what: impl FnOnce(u64) -> Occurrence) {
        let wait = delay(&mut self.dice.network, HEAR_END_WITHIN);
        let last = self
            .links
            .get(&link)
            .map_or(0, |own| own.up_last.max(own.down_last));
        self.at(last.max(self.now + wait), what(link));
    }

    pub(super) fn host_hears_end(&mut self, link: u64) -> Checked {
        let Some(life) = self.links.get(&link).map(|own| own.host_life) else {
            return Ok(());
        };
        let until = self.stalled_until(life);
        if until > self.now {
            self.at(until, Occurrence::HostHearsEnd { link });
            return Ok(());
        }
        if let Some(own) = self.links.get_mut(&link) {
            own.host_open = false;
            own.up.clear();
        }
        self.forget_link(link);
        let connection = ConnectionId(link);
        self.closed(life, connection);
        self.host_hears(life, Event::AgentDisconnected { connection })
    }

    pub(super) fn agent_hears_end(&mut self, link: u64) {
        let Some(own) = self.links.get_mut(&link) else {
            return;
        };
        let was_open = std::mem::replace(&mut own.agent_open, false);
        let (agent, life) = (own.agent, own.agent_life);
        own.down.clear();
        self.forget_link(link);
        let process = self.agents[agent].process_mut(life);
        if let Some(process) = process.filter(|process| was_open && process.link == Some(link)) {
            process.link = None;
            process.epoch += 1;
            let why = "the connection broke".to_owned();
            self.agent_input(agent, life, Input::Disconnected { why });
        }
    }

    /// Nothing of it is left to happen.
    fn forget_link(&mut self, link: u64) {
        let over = self
            .links
            .get(&link)
            .is_some_and(|own| !own.agent_open && !own.host_open && own.up.is_empty());
        if over {
            self.links.remove(&link);
        }
    }

    /// Links that stand, for faults to choose from.
    pub(super) fn open_links(&self) -> Vec<u64> {
        let open = self
            .links
            .iter()
            .filter(|(_, own)| own.agent_open && own.host_open);
        open.map(|(link, _)| *link).collect()
    }
}
