//! Plug-ins as a host runs them: native ones, whose calls take their time and fail now and then.

use proffer_core::{Blame, Event, PolicyIdentity, PolicySeat};
use proffer_mapreduce::MapReduce;
use proffer_model::fact::FrameworkRecord;
use proffer_model::framework::{Batch, Context};
use proffer_model::policy::{Changes, ChangesPart, Cycle, Feeds, NONE, Piece, Proposal};
use proffer_model::{Amount, FrameworkId, Reason, Remedy};
use proffer_policy::{Drf, Policy};

use crate::broken::{BROKEN, Broken};
use crate::dice::Dice;
use crate::framework::Actor;
use crate::plugins::{Life, Plugins, Steps};
use crate::restless::Restless;
use crate::workload::Decide;

use super::{Checked, Occurrence, World, delay};

/// The digest of the MapReduce framework's component, as far as the core is concerned. Later versions have
/// a number behind it.
pub(super) const MAPREDUCE: &str = "native:mapreduce";
/// One's that is nothing but a component.
pub(super) const STRANGER: &str = "component:stranger";
/// The other one's.
pub(super) const RESTLESS: &str = "native:restless";

impl World {
    pub(super) fn start_framework(&mut self, life_number: u64, record: &FrameworkRecord) {
        self.check.offers.framework_changed(record.framework);
        self.check.told.life_began(record.framework);
        let seed = self.scenario.core.seed;
        let Some(term) = self.term_mut(life_number) else {
            return;
        };
        let recovered = term.recovered.remove(&record.framework);
        let state = match term.actors.remove(&record.framework) {
            Some(actor) => actor.state().clone(),
            None => recovered.unwrap_or_default(),
        };
        let context = Context {
            name: record.name.to_string(),
            id: record.framework.to_string(),
            cluster: "sim".to_owned(),
            region: String::new(),
            version: "0".to_owned(),
            roles: record.roles.clone(),
            config: record.config.clone(),
            limits: Vec::new(),
        };
        let life = Box::new(Life {
            context,
            framework: record.framework,
            seed,
            state,
        });
        let plugins = self.plugins;
        let actor: Box<dyn Steps> = if record.digest == BROKEN {
            Box::new(Actor::new::<Broken>(*life))
        } else if record.digest.starts_with(MAPREDUCE) {
            let given = match plugins {
                Some(plugins) => plugins.mapreduce(life),
                None => Err(life),
            };
            given.unwrap_or_else(|life| Box::new(Actor::new::<MapReduce>(*life)))
        } else if record.digest.starts_with(STRANGER) {
            let given = match plugins {
                Some(plugins) => plugins.start_stranger(life),
                None => Err(life),
            };
            given.unwrap_or_else(|life| Box::new(Actor::new::<Broken>(*life)))
        } else {
            Box::new(Actor::new::<Restless>(*life))
        };
        if let Some(term) = self.term_mut(life_number) {
            term.actors.insert(record.framework, actor);
        }
    }

    /// The policy that is loaded.
    pub(super) fn new_policy(&self) -> Box<dyn Decide> {
        let given = self.plugins.and_then(Plugins::policy);
        given.unwrap_or_else(|| Box::new(NativeDrf::default()))
    }

    pub(super) fn run_step(
        &mut self,
        life: u64,
        framework: FrameworkId,
        attempt: u32,
        batch: Batch,
    ) -> Checked {
        let check = &mut self.check;
        check
            .told
            .called(framework, attempt, &batch, &mut check.tally)?;
        let step = batch.step;
        let dice = &mut self.dice.plugin;
        let wait = delay(dice, self.scenario.delays.step);
        let fails = !self.calm && dice.below(1_000) < self.scenario.faults.steps_fail;
        let ill = self.client.is_ill(framework);
        let forgets = dice.one_in(4);
        // Some failures are the machine's: they do not count against the framework.
        let blame = if !ill && dice.one_in(4) {
            Blame::Host
        } else {
            Blame::Framework
        };
        let Some(term) = self.term_mut(life) else {
            return Ok(());
        };
        let Some(actor) = term.actors.get_mut(&framework) else {
            return Ok(());
        };
        if forgets {
            actor.drop_instance();
        }
        let result = if fails || ill {
            actor.drop_instance();
            Err("it trapped".to_owned())
        } else {
            actor.step(batch)
        };
        let event = match result {
            Ok(committed) => Event::StepCompleted {
                framework,
                step,
                attempt,
                writes: committed.writes,
                answer: Box::new(committed.answer),
            },
            Err(text) => Event::StepFailed {
                blame,
                framework,
                step,
                attempt,
                fault: fault(text),
            },
        };
        let event = Box::new(event);
        self.after(wait, Occurrence::HostHears { life, event });
        Ok(())
    }

    pub(super) fn run_policy(
        &mut self,
        life: u64,
        seat: PolicySeat,
        changes: &[Changes],
        cycle: &Cycle,
    ) {
        let dice = &mut self.dice.plugin;
        let wait = delay(dice, self.scenario.delays.cycle);
        let odd = !self.calm
            && seat == PolicySeat::Loaded
            && dice.below(1_000) < self.scenario.faults.cycles_fail;
        let nonsense = odd.then(|| nonsense(dice));
        let trapped = odd && dice.one_in(2);
        let Some(term) = self.term_mut(life) else {
            return;
        };
        let policy = match seat {
            PolicySeat::Loaded => &mut term.loaded,
            PolicySeat::Fallback => &mut term.fallback,
        };
        let number = cycle.number;
        let decided = policy.decide(changes, cycle);
        let event = match decided.map(|proposal| nonsense.unwrap_or(proposal)) {
            Ok(proposal) if !trapped => Event::PolicyProposed {
                cycle: number,
                proposal: Box::new(proposal),
            },
            decided => Event::PolicyFailed {
                cycle: number,
                fault: fault(decided.err().unwrap_or_else(|| "it trapped".to_owned())),
            },
        };
        let event = Box::new(event);
        self.after(wait, Occurrence::HostHears { life, event });
    }
}

/// The reference policy: no configuration, nothing to refuse.
#[derive(Default)]
pub(super) struct NativeDrf(Drf);

impl Decide for NativeDrf {
    fn name(&self) -> String {
        "native drf".to_owned()
    }

    fn feeds(&self) -> Feeds {
        FEEDS
    }

    fn decide(&mut self, changes: &[Changes], cycle: &Cycle) -> Result<Proposal, String> {
        let begins = |changes: &Changes| changes.part != ChangesPart::Delta;
        if changes.first().is_some_and(begins) {
            self.0 = Drf::default();
        }
        for part in changes {
            self.0.apply(part);
        }
        Ok(self.0.decide(cycle))
    }
}

/// What every policy of a simulation is fed.
pub(crate) const FEEDS: Feeds = Feeds {
    tasks: true,
    filters: true,
    demands: true,
};

/// The event that says that a policy is there.
pub(super) fn policy_loaded() -> Event {
    Event::PolicyLoaded {
        identity: std::sync::Arc::new(PolicyIdentity {
            name: "drf".to_owned(),
            version: "0".to_owned(),
            digest: String::new(),
            config: String::new(),
        }),
        feeds: FEEDS,
    }
}

/// Grants at random, now and then right ones.
pub(super) fn nonsense(dice: &mut Dice) -> Proposal {
    let mut proposal = Proposal::default();
    let small = |dice: &mut Dice, n: u64| u32::try_from(dice.below(n)).unwrap_or(0);
    for _ in 0..dice.below(6) {
        let demand = if dice.one_in(2) { NONE } else { small(dice, 6) };
        let pieces: Vec<Piece> = (0..dice.below(4))
            .map(|_| Piece {
                terms: u32::from(dice.one_in(20)),
                kind: small(dice, 8),
                amount: Amount::from_milli(i64::from(small(dice, 4_000)) - 100),
            })
            .collect();
        proposal
            .grants
            .push(small(dice, 5), small(dice, 5), demand, &pieces);
    }
    if dice.one_in(30) {
        proposal.grants.lease.pop();
    }
    proposal
}

pub(super) fn fault(text: String) -> Reason {
    Reason::new("plugin-fault", Remedy::Mend, text)
}
