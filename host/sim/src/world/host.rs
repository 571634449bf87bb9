//! A host's process: the core, its plug-ins and its store's queue, as the daemon's loop runs them.

use std::collections::BTreeMap;

use proffer_core::{
    Action, Blame, ConnectionId, Core, Event, Outbox, PolicyIdentity, PolicySeat, Reply, Seq,
    Ticket,
};
use proffer_mapreduce::MapReduce;
use proffer_model::fact::{Fact, FrameworkRecord};
use proffer_model::framework::{Batch, Context};
use proffer_model::policy::{Changes, ChangesPart, Cycle, Feeds, NONE, Piece, Proposal};
use proffer_model::{Amount, FrameworkId, Reason, Remedy, Timestamp};
use proffer_policy::{Drf, Policy};
use proffer_store::{FrameworkStates, JournalLimit, Memory, Recovered, Store};

use crate::check::{Invariant, Violation};
use crate::dice::Dice;
use crate::framework::{Actor, StateEntries};
use crate::restless::Restless;

use super::{Checked, Occurrence, RECOUNT_EVERY, World, clock, delay, jump, unclock};

/// The digest of the MapReduce framework's component, as far as the core is concerned.
pub(super) const MAPREDUCE: &str = "native:mapreduce";
/// The other one's.
pub(super) const RESTLESS: &str = "native:restless";

/// The host's machine: what is durable, and the process, if it runs.
pub(super) struct HostNode {
    lives: u64,
    process: Option<Process>,
    store: Memory,
    /// Nothing is handled before this.
    pub(super) stalled_until: u64,
}

/// The process.
struct Process {
    life: u64,
    offset: i64,
    core: Core,
    wakes: u64,
    /// Facts that wait for the store, and the last of their numbers.
    facts: Vec<Fact>,
    facts_seq: Seq,
    writing: Option<Job>,
    journal_len: u64,
    journal_limit: JournalLimit,
    connections: BTreeMap<ConnectionId, ()>,
    actors: BTreeMap<FrameworkId, Actor>,
    recovered: FrameworkStates,
    loaded: Drf,
    fallback: Drf,
    handled: u64,
}

enum Job {
    Append(Vec<Fact>, Seq),
    Snapshot(Vec<Fact>),
}

impl HostNode {
    pub(super) fn new() -> Self {
        Self {
            lives: 0,
            process: None,
            store: Memory::default(),
            stalled_until: 0,
        }
    }

    pub(super) fn life(&self) -> Option<u64> {
        self.process.as_ref().map(|process| process.life)
    }

    pub(super) fn core(&self) -> Option<&Core> {
        self.process.as_ref().map(|process| &process.core)
    }

    pub(super) fn opened(&mut self, connection: ConnectionId) {
        if let Some(process) = &mut self.process {
            process.connections.insert(connection, ());
        }
    }

    pub(super) fn closed(&mut self, connection: ConnectionId) {
        if let Some(process) = &mut self.process {
            process.connections.remove(&connection);
        }
    }

    /// A framework's state, as its actor has it.
    pub(super) fn state_of(&self, framework: FrameworkId) -> Option<&StateEntries> {
        let actor = self.process.as_ref()?.actors.get(&framework)?;
        Some(actor.state())
    }

    /// A framework's state, as the store has it.
    pub(super) fn durable_states(&self) -> FrameworkStates {
        self.store.recovered().states
    }
}

impl World {
    /// The time that the host's clock shows.
    pub(super) fn host_now(&self) -> Timestamp {
        let offset = self
            .host
            .process
            .as_ref()
            .map_or(0, |process| process.offset);
        clock(self.now, offset)
    }

    pub(super) fn host_starts(&mut self) -> Checked {
        if self.host.process.is_some() {
            return Ok(());
        }
        let Recovered { facts, states } = self.host.store.recovered();
        let journal_len = facts.len() as u64;
        let offset = jump(&mut self.dice.machine);
        let now = clock(self.now, offset);
        let recovered = Core::recover(self.scenario.core.clone(), facts, now);
        let core = match recovered {
            Ok(core) => core,
            Err(error) => {
                return Err(Violation {
                    invariant: Invariant::RecoveryTrue,
                    text: error.to_string(),
                });
            }
        };
        self.check.tally.count(Invariant::RecoveryTrue);
        self.host.lives += 1;
        self.host.process = Some(Process {
            life: self.host.lives,
            offset,
            core,
            wakes: 0,
            facts: Vec::new(),
            facts_seq: Seq(0),
            writing: None,
            journal_len,
            journal_limit: JournalLimit::new(self.scenario.journal_max),
            connections: BTreeMap::new(),
            actors: BTreeMap::new(),
            recovered: states,
            loaded: Drf::default(),
            fallback: Drf::default(),
            handled: 0,
        });
        self.check.told.host_began();
        self.check.offers.host_began();
        self.host_recounts()?;
        let life = self.host.lives;
        if self.scenario.loaded_policy {
            self.host_hears(life, policy_loaded())?;
        }
        self.host_hears(life, Event::Ticked)
    }

    /// The process dies: what is not durable is lost, and a write under way may be either.
    pub(super) fn host_dies(&mut self) -> Checked {
        let Some(process) = self.host.process.take() else {
            return Ok(());
        };
        if let Some(job) = process.writing
            && self.dice.disk.one_in(2)
        {
            self.commit(job)?;
        }
        for connection in process.connections.into_keys() {
            self.host_end_gone(connection.0);
        }
        self.client.host_died();
        self.host.stalled_until = 0;
        let away = 50 + delay(&mut self.dice.machine, 10_000);
        self.after(away, Occurrence::HostStarts);
        Ok(())
    }

    fn commit(&mut self, job: Job) -> Checked {
        let Self { host, check, .. } = self;
        match &job {
            Job::Append(facts, _) => {
                for fact in facts {
                    check.told.persisted(fact);
                }
                let stored = host.store.append(facts).is_ok();
                debug_assert!(stored, "memory does not fail");
                check.durable.commit(facts, &mut check.tally)
            }
            Job::Snapshot(facts) => {
                let stored = host.store.snapshot(facts).is_ok();
                debug_assert!(stored, "memory does not fail");
                check.durable.compare_snapshot(facts, &mut check.tally)
            }
        }
    }

    pub(super) fn host_stored(&mut self, life: u64) -> Checked {
        let process = self.host.process.as_mut();
        let Some(process) = process.filter(|process| process.life == life) else {
            return Ok(());
        };
        let Some(job) = process.writing.take() else {
            return Ok(());
        };
        let seq = match &job {
            Job::Append(_, seq) => Some(*seq),
            Job::Snapshot(_) => None,
        };
        self.commit(job)?;
        if let Some(seq) = seq {
            self.host_hears(life, Event::Persisted(seq))?;
        }
        self.give_store_work();
        Ok(())
    }

    pub(super) fn host_wakes(&mut self, life: u64, wake: u64) -> Checked {
        let process = self.host.process.as_ref();
        if process.is_some_and(|process| process.wakes == wake) {
            return self.host_hears(life, Event::Ticked);
        }
        Ok(())
    }

    /// An event for this process; one for another is lost with it.
    pub(super) fn host_hears(&mut self, life: u64, event: Event) -> Checked {
        if self.host.life() != Some(life) {
            return Ok(());
        }
        if self.host.stalled_until > self.now {
            let until = self.host.stalled_until;
            let event = Box::new(event);
            self.at(until, Occurrence::HostHears { life, event });
            return Ok(());
        }
        self.handle(event)
    }

    fn handle(&mut self, event: Event) -> Checked {
        let now = self.host_now();
        let Some(process) = self.host.process.as_mut() else {
            return Ok(());
        };
        process.handled += 1;
        let committed = match &event {
            Event::StepCompleted {
                framework,
                step,
                attempt,
                answer,
                ..
            } if self.check.told.is_current(*framework, *step, *attempt) => {
                self.check
                    .offers
                    .answered(*framework, answer, &process.core, now);
                Some(*framework)
            }
            _ => None,
        };
        let registered = matches!(event, Event::AgentRegistered { .. });
        let mut out = Outbox::new();
        process.core.handle(now, event, &mut out);
        if let Some(framework) = committed {
            self.check.told.committed(framework);
        }
        let actions: Vec<Action> = out.drain().collect();
        for action in actions {
            self.perform(action)?;
        }
        self.give_store_work();
        if registered || self.events.is_multiple_of(RECOUNT_EVERY) {
            self.host_recounts()?;
        }
        let Some(process) = self.host.process.as_ref() else {
            return Ok(());
        };
        let check = &mut self.check;
        check.offers.look(&process.core, now, &mut check.tally)
    }

    pub(super) fn host_recounts(&mut self) -> Checked {
        match &self.host.process {
            Some(process) => self.check.recount(&process.core),
            None => Ok(()),
        }
    }

    fn perform(&mut self, action: Action) -> Checked {
        self.note(|| format!("   {action:?}"));
        let now = self.now;
        let Some(process) = self.host.process.as_mut() else {
            return Ok(());
        };
        let life = process.life;
        match action {
            Action::Persist { seq, facts } => {
                self.hash ^= facts.len() as u64;
                process.facts.extend(facts);
                process.facts_seq = seq;
            }
            Action::Send {
                connection,
                message,
            } => {
                self.check.durable.sent(&message, &mut self.check.tally)?;
                if process.connections.contains_key(&connection) {
                    self.send_down(connection, *message);
                }
            }
            Action::Close { connection } => {
                if process.connections.remove(&connection).is_some() {
                    self.host_end_gone(connection.0);
                }
            }
            Action::StartFramework(record) => self.start_framework(&record),
            Action::StopFramework { framework } => {
                self.check.offers.framework_changed(framework);
                if let Some(actor) = process.actors.get_mut(&framework) {
                    actor.drop_instance();
                }
            }
            Action::RunStep {
                framework,
                attempt,
                batch,
            } => return self.run_step(life, framework, attempt, *batch),
            Action::RunPolicy {
                seat,
                changes,
                cycle,
            } => self.run_policy(life, seat, &changes, &cycle),
            Action::Reply { ticket, reply } => return self.replied(ticket, &reply),
            Action::Wake(at) => {
                process.wakes += 1;
                let wake = process.wakes;
                let at = unclock(at, process.offset).max(now);
                self.at(at, Occurrence::HostWakes { life, wake });
            }
            // Nobody swaps policies here, and a policy's memory is not looked at.
            Action::FeedCandidate { .. }
            | Action::SwitchPolicy { .. }
            | Action::DropCandidate { .. }
            | Action::LoadPolicy(_)
            | Action::CarryPolicy
            | Action::Note { .. } => {}
        }
        Ok(())
    }

    fn replied(&mut self, ticket: Ticket, reply: &Reply) -> Checked {
        if let Reply::Added(framework) = reply {
            let durable = self.check.durable.has_framework(*framework);
            self.check
                .tally
                .holds(Invariant::EffectsAfterFacts, durable, || {
                    format!("{framework} was said to be added, which is not durable")
                })?;
        }
        self.client_told(ticket, reply)
    }

    fn give_store_work(&mut self) {
        let Some(process) = self.host.process.as_mut() else {
            return;
        };
        if process.writing.is_some() {
            return;
        }
        let job = if !process.facts.is_empty() {
            let facts = std::mem::take(&mut process.facts);
            process.journal_len += facts.len() as u64;
            Job::Append(facts, process.facts_seq)
        } else if process.journal_limit.is_reached(process.journal_len)
            && process.core.held_effects() == 0
        {
            let facts = process.core.snapshot();
            process.journal_len = facts.len() as u64;
            process.journal_limit.replaced(process.journal_len);
            Job::Snapshot(facts)
        } else {
            return;
        };
        process.writing = Some(job);
        let life = process.life;
        let wait = 1 + delay(&mut self.dice.disk, self.scenario.delays.commit);
        self.after(wait, Occurrence::Stored { life });
    }

    fn start_framework(&mut self, record: &FrameworkRecord) {
        self.check.offers.framework_changed(record.framework);
        self.check.told.life_began(record.framework);
        let seed = self.scenario.core.seed;
        let Some(process) = self.host.process.as_mut() else {
            return;
        };
        let recovered = process.recovered.remove(&record.framework);
        let state = match process.actors.remove(&record.framework) {
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
        let actor = if record.digest == MAPREDUCE {
            Actor::new::<MapReduce>(context, record.framework, seed, state)
        } else {
            Actor::new::<Restless>(context, record.framework, seed, state)
        };
        process.actors.insert(record.framework, actor);
    }

    fn run_step(
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
        let Some(process) = self.host.process.as_mut() else {
            return Ok(());
        };
        let Some(actor) = process.actors.get_mut(&framework) else {
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

    fn run_policy(&mut self, life: u64, seat: PolicySeat, changes: &[Changes], cycle: &Cycle) {
        let dice = &mut self.dice.plugin;
        let wait = delay(dice, self.scenario.delays.cycle);
        let odd = !self.calm
            && seat == PolicySeat::Loaded
            && dice.below(1_000) < self.scenario.faults.cycles_fail;
        let Some(process) = self.host.process.as_mut() else {
            return;
        };
        let policy = match seat {
            PolicySeat::Loaded => &mut process.loaded,
            PolicySeat::Fallback => &mut process.fallback,
        };
        let begins = |changes: &Changes| changes.part != ChangesPart::Delta;
        if changes.first().is_some_and(begins) {
            *policy = Drf::default();
        }
        for part in changes {
            policy.apply(part);
        }
        let number = cycle.number;
        let event = if odd && dice.one_in(2) {
            Event::PolicyFailed {
                cycle: number,
                fault: fault("it trapped".to_owned()),
            }
        } else {
            let proposal = if odd {
                nonsense(dice)
            } else {
                policy.decide(cycle)
            };
            Event::PolicyProposed {
                cycle: number,
                proposal: Box::new(proposal),
            }
        };
        let event = Box::new(event);
        self.after(wait, Occurrence::HostHears { life, event });
    }
}

/// The event that says that a policy is there.
pub(super) fn policy_loaded() -> Event {
    Event::PolicyLoaded {
        identity: std::sync::Arc::new(PolicyIdentity {
            name: "drf".to_owned(),
            version: "0".to_owned(),
            digest: String::new(),
            config: String::new(),
        }),
        feeds: Feeds {
            tasks: false,
            filters: true,
            demands: true,
        },
    }
}

/// Grants at random, now and then right ones.
fn nonsense(dice: &mut Dice) -> Proposal {
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

fn fault(text: String) -> Reason {
    Reason::new("plugin-fault", Remedy::Mend, text)
}
