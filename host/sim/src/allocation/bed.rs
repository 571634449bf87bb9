//! A core with agents and frameworks, and its shell.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use proffer_core::{
    Action, Allocation, ConnectionId, Core, CoreConfig, Event, NewFramework, Outbox,
    PolicyIdentity, PolicySeat, Ticket,
};
use proffer_model::agent::Registration;
use proffer_model::framework::{Answer, Batch, Command, Decline, Event as Told};
use proffer_model::policy::{Changes, Cycle};
use proffer_model::{
    AgentInfo, FrameworkId, Offer, OfferId, Reason, Remedy, Resources, RoleName, Timestamp,
};

use super::{CpuClock, Size, traffic};
use crate::workload::Decide;

/// Of Mesos's benchmark.
const TOTAL: &str = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";
/// Of Mesos's allocator.
const INTERVAL: proffer_model::Duration = proffer_model::Duration::from_secs(1);
/// Nobody's life is at stake, and no lease ends.
const NEVER: proffer_model::Duration = proffer_model::Duration(100 * 365 * 86_400_000);

/// What went wrong: the work is not what it should be, and its time means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildBedError {
    /// Offers of a cycle, and how many there should be.
    #[error("a cycle made {made} offers to {frameworks} frameworks; wanted {wanted}")]
    Offers {
        /// Offers.
        made: usize,
        /// To so many.
        frameworks: usize,
        /// Offers wanted.
        wanted: usize,
    },
    /// The policy's words.
    #[error("the policy failed: {0}")]
    Policy(String),
    /// Of a framework.
    #[error("'{0}' is no role")]
    Role(String),
}

/// One round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Everything given back.
    pub recover: Duration,
    /// What has changed, written for the policy.
    pub feed: Duration,
    /// The policy's `apply` and `decide`, and with a component what crosses its boundary.
    pub policy: Duration,
    /// Grants judged, offers made, copied into the frameworks' batches.
    pub judge: Duration,
    /// Offers.
    pub offers: usize,
    /// Of the offers: agents, frameworks and resources in the order in which they were made.
    pub hash: u64,
    /// To the policy and back.
    pub bytes: (usize, usize),
}

impl Round {
    /// The cycle: everything but the giving back.
    #[must_use]
    pub fn cycle(&self) -> Duration {
        self.feed + self.policy + self.judge
    }
}

/// A framework's step that waits: its number, attempt, and offers.
#[derive(Debug)]
struct Waiting {
    step: proffer_model::StepNumber,
    attempt: u32,
    offers: Vec<Offer>,
}

/// A core, and what a shell keeps for it.
#[derive(Debug)]
pub struct Bed {
    size: Size,
    clock: CpuClock,
    core: Core,
    now: u64,
    queue: VecDeque<Event>,
    waiting: BTreeMap<FrameworkId, Waiting>,
    fault: Option<String>,
    /// Of the round at hand.
    round: Round,
}

impl Bed {
    /// Cycles once a second, as Mesos's. Everything is on offer then.
    ///
    /// # Errors
    /// It is not.
    pub fn new(
        size: Size,
        decider: &mut dyn Decide,
        clock: CpuClock,
    ) -> Result<Self, BuildBedError> {
        Self::with(size, Allocation::Interval(INTERVAL), decider, clock)
    }

    /// A cycle whenever something comes free, as Proffer's.
    ///
    /// # Errors
    /// Not everything is on offer.
    pub fn on_events(
        size: Size,
        decider: &mut dyn Decide,
        clock: CpuClock,
    ) -> Result<Self, BuildBedError> {
        let allocation = Allocation::Events {
            reoffer: INTERVAL,
            sweep: NEVER,
        };
        Self::with(size, allocation, decider, clock)
    }

    fn with(
        size: Size,
        allocation: Allocation,
        decider: &mut dyn Decide,
        clock: CpuClock,
    ) -> Result<Self, BuildBedError> {
        let config = CoreConfig {
            allocation,
            lease: NEVER,
            heartbeat: NEVER,
            agent_timeout: NEVER,
            frameworks_max: size.frameworks as usize,
            ..CoreConfig::default()
        };
        let mut bed = Self {
            size,
            clock,
            core: Core::new(config, Timestamp(1)),
            now: 1,
            queue: VecDeque::new(),
            waiting: BTreeMap::new(),
            fault: None,
            round: Round::default(),
        };
        bed.queue.push_back(Event::PolicyLoaded {
            identity: Arc::new(PolicyIdentity {
                name: decider.name(),
                version: String::new(),
                digest: String::new(),
                config: String::new(),
            }),
            feeds: decider.feeds(),
        });
        for number in 0..size.frameworks {
            let event = framework(number, size.own_roles)?;
            bed.queue.push_back(event);
            bed.settle(decider);
        }
        for number in 0..size.agents {
            bed.queue.push_back(registration(number));
        }
        bed.settle(decider);
        bed.step_all(|_| true);
        bed.settle(decider);
        bed.now += INTERVAL.0;
        bed.queue.push_back(Event::Ticked);
        bed.settle(decider);
        Ok(bed)
    }

    /// Gives everything back, and runs a cycle.
    ///
    /// # Errors
    /// Not every agent is on offer then, or the policy failed.
    pub fn round(&mut self, decider: &mut dyn Decide) -> Result<Round, BuildBedError> {
        self.round = Round::default();
        let begun = (self.clock)();
        self.step_all(|_| true);
        self.settle(decider);
        let recover = (self.clock)() - begun;
        self.round = Round {
            recover,
            ..Round::default()
        };
        self.now += INTERVAL.0;
        self.queue.push_back(Event::Ticked);
        self.settle(decider);
        self.check()?;
        self.round.hash = self.hash();
        Ok(self.round)
    }

    /// One offer is given back, by another framework each time, and made to somebody else: answers
    /// the time of both and the cycle between them.
    ///
    /// # Errors
    /// It was made to nobody, or the policy failed.
    pub(super) fn one_comes_free(
        &mut self,
        decider: &mut dyn Decide,
    ) -> Result<Duration, BuildBedError> {
        // What others gave back is theirs to have again.
        self.now += 2 * INTERVAL.0;
        self.queue.push_back(Event::Ticked);
        self.settle(decider);
        let mut rich = self.waiting.iter();
        let giver = rich.find(|(_, waiting)| waiting.offers.len() > 1);
        let Some((giver, given)) = giver.map(|(giver, waiting)| (*giver, waiting.offers[0].id))
        else {
            return Err(self.wrong());
        };
        let granted = self.core.policy().grants;
        let begun = (self.clock)();
        self.step_giving(giver, |offer| offer.id == given);
        self.settle(decider);
        let time = (self.clock)() - begun;
        match (self.core.policy().grants - granted, self.fault.take()) {
            (_, Some(fault)) => Err(BuildBedError::Policy(fault)),
            (1, None) => Ok(time),
            _ => Err(self.wrong()),
        }
    }

    /// Answers all steps that wait, giving back the offers that are named.
    fn step_all(&mut self, gives: impl Fn(&Offer) -> bool) {
        let frameworks: Vec<FrameworkId> = self.waiting.keys().copied().collect();
        for framework in frameworks {
            self.step_giving(framework, &gives);
        }
    }

    /// What is not given back is kept, and comes again with the next step.
    fn step_giving(&mut self, framework: FrameworkId, gives: impl Fn(&Offer) -> bool) {
        let Some(waiting) = self.waiting.remove(&framework) else {
            return;
        };
        let ids = |given: bool| -> Vec<OfferId> {
            let offers = waiting.offers.iter();
            offers
                .filter(|offer| gives(offer) == given)
                .map(|offer| offer.id)
                .collect()
        };
        let (given, kept) = (ids(true), ids(false));
        let mut commands = Vec::new();
        if !given.is_empty() {
            commands.push(Command::Decline(Decline {
                offers: given,
                refuse: Some(proffer_model::Duration::ZERO),
                why: String::new(),
            }));
        }
        if !kept.is_empty() {
            commands.push(Command::Keep(kept));
        }
        self.queue.push_back(Event::StepCompleted {
            framework,
            step: waiting.step,
            attempt: waiting.attempt,
            writes: Vec::new(),
            answer: Box::new(Answer { commands }),
        });
    }

    fn settle(&mut self, decider: &mut dyn Decide) {
        while let Some(event) = self.queue.pop_front() {
            let judges = matches!(event, Event::PolicyProposed { .. });
            let begun = (self.clock)();
            let mut out = Outbox::new();
            self.core.handle(Timestamp(self.now), event, &mut out);
            let mut asked = None;
            for action in out.drain() {
                match action {
                    Action::Persist { seq, .. } => self.queue.push_back(Event::Persisted(seq)),
                    Action::RunStep {
                        framework,
                        attempt,
                        batch,
                    } => self.step_begins(framework, attempt, *batch),
                    Action::RunPolicy {
                        seat,
                        changes,
                        cycle,
                    } => asked = Some((seat, changes, cycle)),
                    _ => {}
                }
            }
            let time = (self.clock)() - begun;
            match judges {
                true => self.round.judge += time,
                false => self.round.feed += time,
            }
            if let Some((seat, changes, cycle)) = asked {
                self.ask(seat, &changes, &cycle, decider);
            }
        }
    }

    fn step_begins(&mut self, framework: FrameworkId, attempt: u32, batch: Batch) {
        let mut offers = Vec::new();
        for event in batch.events {
            if let Told::Offers(rows) = event {
                offers.extend(rows);
            }
        }
        let step = batch.step;
        let waiting = Waiting {
            step,
            attempt,
            offers,
        };
        self.waiting.insert(framework, waiting);
    }

    fn ask(
        &mut self,
        seat: PolicySeat,
        changes: &[Changes],
        cycle: &Cycle,
        decider: &mut dyn Decide,
    ) {
        let to = changes.iter().map(traffic::of_changes).sum::<usize>();
        let begun = (self.clock)();
        let answer = match seat {
            PolicySeat::Loaded => decider.decide(changes, cycle),
            PolicySeat::Fallback => Err("it was left out".to_owned()),
        };
        self.round.policy += (self.clock)() - begun;
        let cycle = cycle.number;
        self.queue.push_back(match answer {
            Ok(proposal) => {
                self.round.bytes.0 += to;
                self.round.bytes.1 += traffic::of_proposal(&proposal);
                Event::PolicyProposed {
                    cycle,
                    proposal: Box::new(proposal),
                }
            }
            Err(fault) => {
                self.fault = Some(fault.clone());
                Event::PolicyFailed {
                    cycle,
                    fault: Reason::new("plugin-fault", Remedy::Mend, fault),
                }
            }
        });
    }

    /// Exactly one offer of each agent, to all frameworks alike.
    fn check(&mut self) -> Result<(), BuildBedError> {
        if let Some(fault) = self.fault.take() {
            return Err(BuildBedError::Policy(fault));
        }
        let counts: Vec<usize> = self
            .waiting
            .values()
            .map(|waiting| waiting.offers.len())
            .filter(|count| *count > 0)
            .collect();
        self.round.offers = counts.iter().sum();
        let least = counts.iter().min().copied().unwrap_or(0);
        let most = counts.iter().max().copied().unwrap_or(0);
        let all = self.round.offers == self.size.agents as usize
            && counts.len() == self.size.frameworks.min(self.size.agents) as usize;
        match all && most - least <= 1 {
            true => Ok(()),
            false => Err(self.wrong()),
        }
    }

    fn wrong(&self) -> BuildBedError {
        let offers = self.waiting.values().map(|waiting| waiting.offers.len());
        BuildBedError::Offers {
            made: offers.clone().sum(),
            frameworks: offers.filter(|count| *count > 0).count(),
            wanted: self.size.agents as usize,
        }
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (framework, waiting) in &self.waiting {
            for offer in &waiting.offers {
                (framework.0, offer.agent.0, offer.resources.to_string()).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

fn framework(number: u32, own_roles: bool) -> Result<Event, BuildBedError> {
    let role = if own_roles {
        format!("role{number}")
    } else {
        "*".to_owned()
    };
    let role = RoleName::new(role.clone()).map_err(|_| BuildBedError::Role(role))?;
    Ok(Event::FrameworkAdded {
        ticket: Ticket(u64::from(number)),
        framework: Box::new(NewFramework {
            name: format!("framework{number}").into(),
            version: String::new(),
            digest: String::new(),
            roles: vec![role],
            config: String::new(),
            gpus: false,
            options: proffer_model::fact::FrameworkOptions::default(),
        }),
    })
}

fn registration(number: u32) -> Event {
    Event::AgentRegistered {
        connection: ConnectionId(u64::from(number)),
        registration: Box::new(Registration {
            agent: None,
            key: format!("key {number}"),
            boot: String::new(),
            info: Arc::new(AgentInfo {
                hostname: format!("agent{number}").into(),
                region: "".into(),
                zone: "".into(),
                attributes: Vec::new(),
            }),
            total: TOTAL.parse().unwrap_or_default(),
            special: Resources::none(),
            data_address: String::new(),
            launches: Vec::new(),
        }),
    }
}
