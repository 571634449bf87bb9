//! A host's process: a core that leads, its plug-ins and its store's queue, as the daemon's loop runs
//! them. Alone it leads from the start; of several it does in terms (`election.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_core::{Action, ConnectionId, Core, Event, Outbox, Reply, Seq, Ticket};
use proffer_model::fact::Fact;
use proffer_model::{Duration, FrameworkId, Timestamp};
use proffer_store::leadership::Fence;
use proffer_store::{FrameworkStates, JournalLimit};

use crate::check::Invariant;
use crate::framework::StateEntries;
use crate::plugins::Steps;
use crate::workload::Decide;

use super::election::{Candidate, Standby};
use super::log::{Job, Write};
use super::plugins::NativeDrf;
use super::policies::Shell;
use super::{Checked, Occurrence, RECOUNT_EVERY, World, clock, delay, jump, unclock};

/// A host's machine, and its process, if it runs.
#[derive(Default)]
pub(super) struct HostNode {
    pub(super) lives: u64,
    pub(super) process: Option<Process>,
    /// Nothing is handled before this.
    pub(super) stalled_until: u64,
    /// Nothing comes from etcd or reaches it before this.
    pub(super) cut_until: u64,
}

/// The process.
pub(super) struct Process {
    pub(super) life: u64,
    /// Of the clock on the wall.
    pub(super) offset: i64,
    /// Its part in finding a leader; none: it is alone.
    pub(super) candidate: Option<Candidate>,
    /// It follows.
    pub(super) standby: Option<Standby>,
    /// It leads.
    pub(super) term: Option<Term>,
}

/// A time of leading.
pub(super) struct Term {
    /// Of all terms of all hosts there is one with this number.
    pub(super) life: u64,
    fence: Option<Fence>,
    pub(super) core: Core,
    wakes: u64,
    /// Facts that wait for the store, and the last of their numbers.
    facts: Vec<Fact>,
    facts_seq: Seq,
    writing: Option<Write>,
    /// Of the head that this term wrote last.
    head: u64,
    journal_len: u64,
    journal_limit: JournalLimit,
    began: u64,
    pub(super) connections: BTreeMap<ConnectionId, ()>,
    pub(super) actors: BTreeMap<FrameworkId, Box<dyn Steps>>,
    pub(super) recovered: FrameworkStates,
    pub(super) policies: Shell,
    pub(super) loaded: Box<dyn Decide>,
    pub(super) fallback: Box<dyn Decide>,
}

impl World {
    /// Which host is in this term.
    pub(super) fn host_of(&self, life: u64) -> Option<usize> {
        self.hosts
            .iter()
            .position(|host| host.term().is_some_and(|term| term.life == life))
    }

    pub(super) fn term_mut(&mut self, life: u64) -> Option<&mut Term> {
        let terms = self.hosts.iter_mut().filter_map(HostNode::term_mut);
        let mut own = terms.filter(|term| term.life == life);
        own.next()
    }

    /// The term of the host that acts, if any does.
    pub(super) fn acting(&self) -> Option<&Term> {
        let mut hosts = 0..self.hosts.len();
        let acts = |host: &usize| self.hosts[*host].term().is_some() && self.authority_holds(*host);
        self.hosts[hosts.find(acts)?].term()
    }

    /// The terms of hosts that believe to be in one.
    pub(super) fn terms_now(&self) -> impl Iterator<Item = u64> {
        self.hosts
            .iter()
            .filter_map(HostNode::term)
            .map(|term| term.life)
    }

    /// The core of the host that acts.
    pub(super) fn core(&self) -> Option<&Core> {
        self.acting().map(|term| &term.core)
    }

    /// A framework's state, as the actor of the host that acts has it.
    pub(super) fn state_of(&self, framework: FrameworkId) -> Option<&StateEntries> {
        let actor = self.acting()?.actors.get(&framework)?;
        Some(actor.state())
    }

    /// Until when the host of a term stands still.
    pub(super) fn stalled_until(&self, life: u64) -> u64 {
        let host = self.host_of(life);
        host.map_or(0, |host| self.hosts[host].stalled_until)
    }

    pub(super) fn opened(&mut self, life: u64, connection: ConnectionId) {
        if let Some(term) = self.term_mut(life) {
            term.connections.insert(connection, ());
        }
    }

    pub(super) fn closed(&mut self, life: u64, connection: ConnectionId) {
        if let Some(term) = self.term_mut(life) {
            term.connections.remove(&connection);
        }
    }

    /// The time that a host's clock on the wall shows.
    pub(super) fn host_now(&self, host: usize) -> Timestamp {
        let process = self.hosts[host].process.as_ref();
        clock(self.now, process.map_or(0, |process| process.offset))
    }

    pub(super) fn host_starts(&mut self, host: usize) -> Checked {
        if self.hosts[host].process.is_some() {
            return Ok(());
        }
        let offset = jump(&mut self.dice.machine);
        let node = &mut self.hosts[host];
        node.lives += 1;
        node.process = Some(Process {
            life: node.lives,
            offset,
            candidate: None,
            standby: None,
            term: None,
        });
        let standby = self.load(host)?;
        if self.hosts.len() > 1 {
            return self.host_joins(host, standby);
        }
        self.term_begins(host, standby, None)
    }

    /// Goes on where all that is committed ends.
    pub(super) fn term_begins(
        &mut self,
        host: usize,
        standby: Standby,
        fence: Option<Fence>,
    ) -> Checked {
        let now = self.host_now(host);
        self.check.tally.count(Invariant::RecoveryTrue);
        self.terms += 1;
        let life = self.terms;
        let core = standby.replica.lead(now);
        let journal_max = self.scenario.journal_max;
        let term = Term {
            life,
            fence,
            journal_limit: JournalLimit::new(journal_max, core.snapshot_len() as u64),
            core,
            wakes: 0,
            facts: Vec::new(),
            facts_seq: Seq(0),
            writing: None,
            head: self.log.head(),
            journal_len: self.log.len(),
            began: self.now,
            connections: BTreeMap::new(),
            actors: BTreeMap::new(),
            recovered: self.log.states(),
            policies: Shell::default(),
            loaded: self.new_policy(),
            fallback: Box::new(NativeDrf::default()),
        };
        if let Some(process) = self.hosts[host].process.as_mut() {
            process.term = Some(term);
        }
        self.check.told.host_began();
        self.check.offers.host_began();
        self.check.policies.host_began();
        self.host_recounts()?;
        self.load_policies(host, life)?;
        self.host_hears(life, Event::Ticked)
    }

    /// The process dies: what is not durable is lost, and a write under way to its own disk may be
    /// either.
    pub(super) fn host_dies(&mut self, host: usize) -> Checked {
        let Some(process) = self.hosts[host].process.take() else {
            return Ok(());
        };
        self.hosts[host].stalled_until = 0;
        if let Some(mut term) = process.term {
            // What was on its way to etcd is still.
            let own_disk = process.candidate.is_none();
            if let Some(write) = term.writing.take_if(|_| own_disk)
                && write.after == self.log.head()
                && self.dice.disk.one_in(2)
            {
                self.commit(&write)?;
            }
            self.term_is_over(term);
        }
        let away = 50 + delay(&mut self.dice.machine, 10_000);
        self.after(away, Occurrence::HostStarts { host });
        Ok(())
    }

    /// Nobody hears of it any more.
    pub(super) fn term_is_over(&mut self, term: Term) {
        for connection in term.connections.into_keys() {
            self.host_end_gone(connection.0);
        }
        self.client.host_died(term.life);
    }

    /// A write is done.
    pub(super) fn commit(&mut self, write: &Write) -> Checked {
        let Self { log, check, .. } = self;
        if let Job::Append(facts, _) = &*write.job {
            for fact in facts {
                check.told.persisted(fact);
            }
        }
        log.commit(write);
        match &*write.job {
            Job::Append(facts, _) => check.durable.commit(facts, &mut check.tally),
            Job::Snapshot(facts) => check.durable.compare_snapshot(facts, &mut check.tally),
        }
    }

    /// The disk of a host that is alone has taken what was written.
    pub(super) fn disk_written(&mut self, life: u64) -> Checked {
        let write = self
            .term_mut(life)
            .and_then(|term| term.writing.as_ref().cloned());
        let Some(write) = write else {
            return Ok(());
        };
        self.commit(&write)?;
        self.host_stored(life, write.after)
    }

    /// A term hears that its write is done.
    pub(super) fn host_stored(&mut self, life: u64, after: u64) -> Checked {
        let until = self.stalled_until(life);
        if until > self.now {
            self.at(until, Occurrence::Stored { life, after });
            return Ok(());
        }
        let Some(term) = self.term_mut(life) else {
            return Ok(());
        };
        let Some(write) = term.writing.take_if(|write| write.after == after) else {
            return Ok(());
        };
        term.head = after + 1;
        if let Job::Append(_, seq) = &*write.job {
            self.host_hears(life, Event::Persisted(*seq))?;
        }
        self.give_store_work(life);
        Ok(())
    }

    /// The write under way, if it is still that one.
    pub(super) fn writing(&self, life: u64, after: u64) -> Option<Write> {
        let term = self.hosts[self.host_of(life)?].term()?;
        let write = term.writing.as_ref()?;
        (write.after == after).then(|| write.clone())
    }

    pub(super) fn host_wakes(&mut self, life: u64, wake: u64) -> Checked {
        let term = self.term_mut(life);
        if term.is_some_and(|term| term.wakes == wake) {
            return self.host_hears(life, Event::Ticked);
        }
        Ok(())
    }

    /// An event for this term; one for another is lost with it.
    pub(super) fn host_hears(&mut self, life: u64, event: Event) -> Checked {
        let Some(host) = self.host_of(life) else {
            return Ok(());
        };
        let until = self.hosts[host].stalled_until;
        if until > self.now {
            let event = Box::new(event);
            self.at(until, Occurrence::HostHears { life, event });
            return Ok(());
        }
        self.handle(host, life, event)
    }

    fn handle(&mut self, host: usize, life: u64, event: Event) -> Checked {
        let now = self.host_now(host);
        let holds = self.authority_holds(host);
        let Some(term) = self.hosts[host].term_mut() else {
            return Ok(());
        };
        let time = (now + term.core.ahead_of(now)).max(term.core.now());
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
                    .answered(*framework, answer, &term.core, time);
                Some(*framework)
            }
            _ => None,
        };
        let registered = matches!(event, Event::AgentRegistered { .. });
        let before = self.check.policies.before(&event, &term.core);
        let mut out = Outbox::new();
        term.core.handle(now, event, &mut out);
        // Asked after the core, as the daemon's loop does: no effect leaves.
        if !holds {
            return self.deposed(host);
        }
        if let Some(framework) = committed {
            self.check.told.committed(framework);
        }
        let actions: Vec<Action> = out.drain().collect();
        for action in actions {
            self.perform(host, life, action)?;
        }
        self.give_store_work(life);
        if registered || self.events.is_multiple_of(RECOUNT_EVERY) {
            self.host_recounts()?;
        }
        let lease = self.scenario.core.lease;
        let Self { check, hosts, .. } = self;
        let Some(term) = hosts[host].term() else {
            return Ok(());
        };
        let (core, tally) = (&term.core, &mut check.tally);
        check.policies.look(&before, core, lease, tally)?;
        check.offers.look(core, time, tally)
    }

    pub(super) fn host_recounts(&mut self) -> Checked {
        let Some(host) = self.acting().and_then(|term| self.host_of(term.life)) else {
            return Ok(());
        };
        let Self { check, hosts, .. } = self;
        match hosts[host].term() {
            Some(term) => check.recount(&term.core, term.pending()),
            None => Ok(()),
        }
    }

    fn perform(&mut self, host: usize, life: u64, action: Action) -> Checked {
        self.note(|| format!("   h{host} {action:?}"));
        self.check_leads(host)?;
        let now = self.now;
        let Some(process) = self.hosts[host].process.as_mut() else {
            return Ok(());
        };
        let offset = process.offset;
        let Some(term) = process.term.as_mut() else {
            return Ok(());
        };
        match action {
            Action::Persist { seq, facts } => {
                self.hash ^= facts.len() as u64;
                term.facts.extend(facts);
                term.facts_seq = seq;
            }
            Action::Send {
                connection,
                message,
            } => {
                self.check.durable.sent(&message, &mut self.check.tally)?;
                if term.connections.contains_key(&connection) {
                    self.send_down(connection, *message);
                }
            }
            Action::Close { connection } => {
                if term.connections.remove(&connection).is_some() {
                    self.host_end_gone(connection.0);
                }
            }
            Action::StartFramework(record) => self.start_framework(life, &record),
            Action::StopFramework { framework } => {
                self.check.offers.framework_changed(framework);
                if let Some(actor) = term.actors.get_mut(&framework) {
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
                term.wakes += 1;
                let wake = term.wakes;
                let at = unclock(at, offset).max(now);
                self.at(at, Occurrence::HostWakes { life, wake });
            }
            action @ (Action::FeedCandidate { .. }
            | Action::SwitchPolicy { .. }
            | Action::DropCandidate { .. }
            | Action::LoadPolicy(_)
            | Action::RunTenant { .. }
            | Action::DropTenant { .. }
            | Action::CarryPolicy) => return self.perform_for_policies(life, action),
            Action::Note { .. } => {}
        }
        Ok(())
    }

    /// What leaves a host leaves it while the store knows it as the leader, and nobody else.
    fn check_leads(&mut self, host: usize) -> Checked {
        let fence = self.hosts[host].term().and_then(|term| term.fence);
        let Some(fence) = fence else {
            return Ok(());
        };
        let leads = self.etcd.leads();
        let alone = leads == Some(fence);
        self.check.tally.holds(Invariant::OneLeader, alone, || {
            format!("host {host} acts under {fence:?}, and the store's leader is {leads:?}")
        })
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

    fn give_store_work(&mut self, life: u64) {
        let now = self.now;
        let Some(term) = self.term_mut(life) else {
            return;
        };
        if term.writing.is_some() {
            return;
        }
        let led_for = Duration(now - term.began);
        let due = term.journal_limit.is_due(term.journal_len, led_for);
        let job = if !term.facts.is_empty() {
            let facts = std::mem::take(&mut term.facts);
            term.journal_len += facts.len() as u64;
            Job::Append(facts, term.facts_seq)
        } else if due && term.core.held_effects() == 0 {
            let facts = term.core.snapshot().into_facts();
            term.journal_len = facts.len() as u64;
            term.journal_limit.replaced(term.journal_len);
            Job::Snapshot(facts)
        } else {
            return;
        };
        let write = Write {
            fence: term.fence,
            after: term.head,
            job: Arc::new(job),
        };
        term.writing = Some(write.clone());
        if write.fence.is_some() {
            return self.write_to_etcd(life, write);
        }
        let wait = 1 + delay(&mut self.dice.disk, self.scenario.delays.commit);
        self.after(wait, Occurrence::DiskWritten { life });
    }
}

impl Term {
    /// Facts that are not durable, as far as the host knows.
    fn pending(&self) -> impl Iterator<Item = &Fact> + Clone {
        let writing = match self.writing.as_ref().map(|write| &*write.job) {
            Some(Job::Append(facts, _)) => &facts[..],
            Some(Job::Snapshot(_)) | None => &[],
        };
        writing.iter().chain(&self.facts)
    }
}

impl HostNode {
    pub(super) fn term(&self) -> Option<&Term> {
        self.process.as_ref()?.term.as_ref()
    }

    pub(super) fn term_mut(&mut self) -> Option<&mut Term> {
        self.process.as_mut()?.term.as_mut()
    }
}
