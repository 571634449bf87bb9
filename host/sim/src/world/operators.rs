//! What operators do to a cluster that runs, beside tasks and jobs: other versions of frameworks, quota,
//! reservations, agents that will not be back. When the storm is over they take it back.

use proffer_core::{Event, FrameworkUpgrade, ReservationChange};
use proffer_model::{AgentId, Amount, Bundle, KindQuota, Marks, Resources, RoleName, Terms};

use crate::broken::BROKEN;
use crate::check::{Invariant, Violation};

use super::client::Errand;
use super::network::Cut;
use super::{Checked, World};

/// Roles that are given quota and reservations.
const ROLES: [&str; 2] = ["service", "batch"];

/// What is reserved at once: little enough that everything else still fits.
const RESERVED: &str = "cpus:0.5;mem:200";

/// An agent that is given up while it lives stays away for so long: longer than it takes to notice.
const AWAY: u64 = 90_000;

impl World {
    /// One of these, now and then.
    pub(super) fn operate(&mut self) -> Checked {
        match self.dice.client.below(8) {
            0 | 1 => self.upgrade(),
            2 | 3 => self.set_quota(),
            4 | 5 => self.reserve(),
            6 => self.give_up_agent(),
            _ => self.say_gone(),
        }
    }

    /// To another version, or to one that does not start.
    fn upgrade(&mut self) -> Checked {
        let index = self.dice.client.index(self.client.frameworks.len());
        let own = &self.client.frameworks[index];
        let (name, digest) = (own.name.clone(), own.digest);
        let version = self.dice.client.between(1, 4);
        let digest = match version {
            1 => BROKEN.to_owned(),
            version => format!("{digest}-{version}"),
        };
        let errand = Errand::Upgrade(index, digest.clone());
        self.ask(errand, |ticket| Event::FrameworkUpgradeAsked {
            ticket,
            upgrade: Box::new(FrameworkUpgrade {
                name,
                version: version.to_string(),
                digest,
                config: None,
            }),
        })
    }

    fn set_quota(&mut self) -> Checked {
        let dice = &mut self.dice.client;
        let units = |number: u64| Amount::from_units(i64::try_from(number).unwrap_or(0));
        let guarantee = units(dice.below(3));
        let limit = dice
            .one_in(2)
            .then(|| guarantee + units(dice.between(1, 4)));
        let quota = KindQuota {
            kind: "cpus".to_owned(),
            guarantee,
            limit,
        };
        let force = dice.one_in(2);
        let role = ROLES[dice.index(ROLES.len())];
        self.ask_quota(role, vec![quota], force)
    }

    fn ask_quota(&mut self, role: &str, quotas: Vec<KindQuota>, force: bool) -> Checked {
        let Ok(role) = RoleName::new(role) else {
            return Ok(());
        };
        self.ask(Errand::Other, |ticket| Event::QuotaSet {
            weight: None,
            ticket,
            role,
            quotas,
            force,
        })
    }

    fn reserve(&mut self) -> Checked {
        let ids: Vec<AgentId> = match self.core() {
            Some(core) => core.agents(None).map(|agent| agent.id).collect(),
            None => return Ok(()),
        };
        let dice = &mut self.dice.client;
        let role = RoleName::new(ROLES[dice.index(ROLES.len())]);
        let (Some(agent), Ok(role)) = (dice.pick(&ids).copied(), role) else {
            return Ok(());
        };
        let terms = Terms {
            reserved: vec![role],
            marks: Marks {
                dynamic: true,
                ..Marks::default()
            },
            ..Terms::default()
        };
        let bundle: Bundle = RESERVED.parse().unwrap_or_default();
        let mut resources = Resources::none();
        resources.add_pile(&terms, &bundle);
        self.ask_reservation(agent, resources, ReservationChange::Reserve)
    }

    fn ask_reservation(
        &mut self,
        agent: AgentId,
        resources: Resources,
        change: ReservationChange,
    ) -> Checked {
        self.ask(Errand::Other, |ticket| Event::ReservationAsked {
            ticket,
            agent,
            resources,
            change,
        })
    }

    /// One agent of a run will not be back: its machine is gone, or it is only thought to be.
    fn give_up_agent(&mut self) -> Checked {
        if !self.scenario.gives_up || self.client.given_up.is_some() {
            return Ok(());
        }
        // The first stays: somebody must be there for what is left.
        let agent = self.dice.client.index(self.agents.len());
        if agent == 0 {
            return Ok(());
        }
        self.client.given_up = Some(agent);
        if self.dice.client.one_in(2) {
            self.agents[agent].ends_for_good();
            self.agent_dies(agent, true);
        } else {
            let until = self.now + AWAY;
            self.agents[agent].cut = Cut {
                up: until,
                down: until,
            };
        }
        Ok(())
    }

    /// An operator says of the agent that was given up that it is gone. A host believes it of one that
    /// it does not hear.
    pub(super) fn say_gone(&mut self) -> Checked {
        let Some(agent) = self.client.given_up else {
            return Ok(());
        };
        let agent = format!("a{agent}");
        let known = self.core().and_then(|core| core.agent_named(&agent));
        if known.is_none_or(|known| known.active) {
            return Ok(());
        }
        self.ask(Errand::Other, |ticket| Event::AgentGoneAsked {
            ticket,
            agent,
        })
    }

    /// Takes back what operators did; what is left of it.
    pub(super) fn undo(&mut self) -> Result<Option<String>, Violation> {
        self.say_gone()?;
        let Some(core) = self.core() else {
            return Ok(Some("no host leads".to_owned()));
        };
        let limited = core
            .role_views()
            .into_iter()
            .find(|view| !view.quotas.is_empty());
        if let Some(view) = limited {
            self.ask_quota(view.name.as_str(), Vec::new(), false)?;
            return Ok(Some(format!("{} has a quota", view.name)));
        }
        let mut left = None;
        let mut free = Vec::new();
        for agent in core.agents(None) {
            for (terms, bundle) in agent.total.piles() {
                if terms.reserved.is_empty() {
                    continue;
                }
                left = Some(format!("{bundle} of {} is reserved", agent.id));
                let mut pile = Resources::none();
                pile.add_pile(terms, bundle);
                if agent.free.contains(&pile) {
                    free.push((agent.id, pile));
                }
            }
        }
        for (agent, pile) in free {
            self.ask_reservation(agent, pile, ReservationChange::Unreserve)?;
        }
        Ok(left)
    }

    /// An upgrade was said to have succeeded: then the store has that version.
    pub(super) fn upgraded(&mut self, index: usize, digest: &str) -> Checked {
        let Some(id) = self.client.frameworks[index].id else {
            return Ok(());
        };
        let check = &mut self.check;
        let durable = check.durable.has_version(id, digest);
        check.tally.holds(Invariant::RepliesLast, durable, || {
            format!("{id} was said to be {digest}, which is not durable")
        })
    }
}
