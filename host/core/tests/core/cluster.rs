//! A shell for the core that a test drives by hand: time in milliseconds, agents and frameworks by
//! name, a store that says "persisted" at once or when told, and policies that run at once.
//!
//! After every event the invariants are recounted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proffer_core::{
    Action, ConnectionId, Core, CoreConfig, Event, Outbox, PolicyIdentity, PolicySeat, Reply, Seq,
    Ticket,
};
use proffer_model::agent::{Registration, ToAgent};
use proffer_model::fact::{Fact, PolicyRecord};
use proffer_model::framework::Batch;
use proffer_model::policy::{Changes, ChangesPart, Cycle, Feeds, Proposal};
use proffer_model::{FrameworkId, Reason, Timestamp};
use proffer_policy::{Drf, Policy};

/// Time at which clusters begin: a round number, so that instants are easy to read.
pub(crate) const START: u64 = 1_000_000;
/// Events that one settling may take: more is a loop without end.
const EVENTS_MAX: usize = 100_000;
/// Events from one checkpoint to the next: prime, so that it meets every kind of event.
const CHECKPOINT_EVERY: u64 = 7;

pub(crate) const ALL_FEEDS: Feeds = Feeds {
    tasks: true,
    filters: true,
    demands: true,
};

/// Who answers cycles of a seat.
pub(crate) enum Decider {
    /// The reference policy.
    Drf(Box<Drf>),
    /// A test's own, from changes and cycle to a proposal or a fault.
    Script(Box<Script>),
    /// The test, by hand: cycles wait in [`Cluster::cycles`].
    Hand,
}

pub(crate) type Script = dyn FnMut(&[Changes], &Cycle) -> Result<Proposal, Reason>;

/// Whose answers may come late: each one's come in their order.
#[derive(Clone, Copy)]
enum Late {
    Deciders,
    Candidate,
}

/// A step that waits for its answer.
pub(crate) struct Step {
    pub(crate) attempt: u32,
    pub(crate) batch: Batch,
}

/// An agent as the test plays it.
pub(crate) struct Machine {
    pub(crate) connection: ConnectionId,
    pub(crate) registration: Registration,
    /// Messages that it was sent and the test has not looked at.
    pub(crate) inbox: Vec<ToAgent>,
}

pub(crate) struct Cluster {
    pub(crate) core: Core,
    pub(crate) config: CoreConfig,
    pub(crate) now: u64,
    /// Whether the store says "persisted" by itself.
    pub(crate) prompt_store: bool,
    /// Facts by number, as they were issued.
    pub(crate) facts: Vec<Vec<Fact>>,
    /// What the core was made of.
    pub(crate) base: Vec<Fact>,
    pub(crate) persisted: usize,
    pub(crate) fallback: Decider,
    pub(crate) loaded: Decider,
    /// A policy that is about to be put in, and what it was fed.
    pub(crate) candidate: Decider,
    pub(crate) candidate_fed: Vec<Changes>,
    /// A role's own policy, made anew for each turn if it is the reference policy.
    pub(crate) tenant: Decider,
    /// What was asked of roles' policies, natively or not, and turns that the test answers by hand.
    pub(crate) turns: Vec<(u64, bool, Vec<Changes>)>,
    /// Whether it says by itself that it has its snapshot.
    pub(crate) prompt_candidate: bool,
    /// What policies have answered and the core has not heard, if it is not to hear it at once: of those
    /// that decide, and of the one that is about to be put in.
    pub(crate) late: Option<[VecDeque<Event>; 2]>,
    /// Policies of before that are to be loaded again.
    pub(crate) to_load: Vec<PolicyRecord>,
    pub(crate) machines: BTreeMap<String, Machine>,
    pub(crate) steps: BTreeMap<FrameworkId, Step>,
    pub(crate) cycles: VecDeque<(PolicySeat, Vec<Changes>, Cycle)>,
    /// Cycles asked for, by anybody.
    pub(crate) cycles_asked: u64,
    pub(crate) replies: BTreeMap<Ticket, Reply>,
    pub(crate) notes: Vec<String>,
    pub(crate) lifecycle: Vec<String>,
    pub(crate) closed: Vec<ConnectionId>,
    /// The live core's durable state at each number of facts, if that is to be kept.
    pub(crate) keep_snapshots: bool,
    pub(crate) snapshots: Vec<Vec<String>>,
    /// All actions in words, for tests of sameness.
    pub(crate) trace: Option<Vec<String>>,
    wake: Option<Timestamp>,
    pub(crate) tickets: u64,
    pub(crate) connections: u64,
    queue: VecDeque<Event>,
    handled: u64,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::with(CoreConfig::default())
    }

    pub(crate) fn with(config: CoreConfig) -> Self {
        let core = Core::new(config.clone(), Timestamp(START));
        Self::around(core, config, START)
    }

    pub(crate) fn around(core: Core, config: CoreConfig, now: u64) -> Self {
        let mut fallback = Drf::default();
        fallback.configure("").unwrap();
        Self {
            core,
            config,
            now,
            prompt_store: true,
            facts: Vec::new(),
            base: Vec::new(),
            persisted: 0,
            fallback: Decider::Drf(Box::new(fallback)),
            loaded: Decider::Hand,
            candidate: Decider::Hand,
            candidate_fed: Vec::new(),
            tenant: Decider::Hand,
            turns: Vec::new(),
            prompt_candidate: true,
            late: None,
            to_load: Vec::new(),
            machines: BTreeMap::new(),
            steps: BTreeMap::new(),
            cycles: VecDeque::new(),
            cycles_asked: 0,
            replies: BTreeMap::new(),
            notes: Vec::new(),
            lifecycle: Vec::new(),
            closed: Vec::new(),
            keep_snapshots: false,
            snapshots: Vec::new(),
            trace: None,
            wake: Some(Timestamp(now)),
            tickets: 0,
            connections: 0,
            queue: VecDeque::new(),
            handled: 0,
        }
    }

    /// A restarted cluster goes on with numbers that the one before did not use.
    pub(crate) fn carry(&mut self, before: &mut Self) {
        self.tickets = before.tickets;
        self.connections = before.connections;
        self.trace = before.trace.take();
        self.keep_snapshots = before.keep_snapshots;
    }

    // ---- Time and events ------------------------------------------------------------------------

    /// One event and all that follows at once.
    pub(crate) fn event(&mut self, event: Event) {
        self.queue.push_back(event);
        let mut handled = 0;
        while let Some(event) = self.next_event() {
            let mut out = Outbox::new();
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{} {event:?}", self.now));
            }
            self.core.handle(Timestamp(self.now), event, &mut out);
            self.check();
            self.go_through_a_checkpoint();
            let actions: Vec<Action> = out.drain().collect();
            for action in actions {
                self.perform(action);
            }
            handled += 1;
            assert!(handled < EVENTS_MAX, "a loop without end at {}", self.now);
        }
    }

    /// What is queued, then what is due now.
    fn next_event(&mut self) -> Option<Event> {
        self.queue.pop_front().or_else(|| {
            let due = self.wake.is_some_and(|at| at.0 <= self.now);
            due.then(|| {
                self.wake = None;
                Event::Ticked
            })
        })
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        if let Err(broken) = self.core.check_invariants() {
            panic!("at {}: {broken}", self.now);
        }
    }

    /// Now and then the test goes on with a core that was written down and read again: whatever is
    /// not in a checkpoint shows as a test that fails.
    fn go_through_a_checkpoint(&mut self) {
        self.handled += 1;
        if !self.handled.is_multiple_of(CHECKPOINT_EVERY) {
            return;
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        self.core.checkpoint(&mut before);
        self.core = Core::from_checkpoint(&before).unwrap();
        self.core.checkpoint(&mut after);
        assert_eq!(before, after, "a checkpoint of a checkpoint is another");
    }

    /// Lets time pass, waking the core whenever it wants to be woken; agents stay alive.
    pub(crate) fn advance(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(at) = self.wake.filter(|at| at.0 <= end) {
            self.now = self.now.max(at.0);
            self.hear_all();
            self.event(Event::Ticked);
        }
        self.now = end;
        self.event(Event::Ticked);
    }

    /// Every connected agent gives a sign of life.
    pub(crate) fn hear_all(&mut self) {
        let connections: Vec<ConnectionId> = self.machines.values().map(|m| m.connection).collect();
        for connection in connections {
            self.queue.push_back(Event::AgentHeard { connection });
        }
    }

    fn perform(&mut self, action: Action) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("  {action:?}"));
        }
        match action {
            Action::Persist { seq, facts } => {
                self.facts.push(facts);
                if self.keep_snapshots {
                    self.snapshots.push(super::restart::comparable(
                        self.core.snapshot().into_facts(),
                    ));
                }
                assert_eq!(
                    seq,
                    Seq(self.facts.len() as u64),
                    "facts are counted from 1"
                );
                if self.prompt_store {
                    self.persisted = self.facts.len();
                    self.queue.push_back(Event::Persisted(seq));
                }
            }
            Action::Send {
                connection,
                message,
            } => {
                let machine = self
                    .machines
                    .values_mut()
                    .find(|m| m.connection == connection);
                if let Some(machine) = machine
                    && *message != ToAgent::Heartbeat
                {
                    machine.inbox.push(*message);
                }
            }
            Action::Close { connection } => self.closed.push(connection),
            Action::StartFramework(record) => {
                self.steps.remove(&record.framework);
                self.lifecycle
                    .push(format!("start {} {}", record.name, record.version));
            }
            Action::StopFramework { framework } => {
                self.steps.remove(&framework);
                self.lifecycle.push(format!("stop {framework}"));
            }
            Action::RunStep {
                framework,
                attempt,
                batch,
            } => {
                let step = Step {
                    attempt,
                    batch: *batch,
                };
                let before = self.steps.insert(framework, step);
                assert!(before.is_none(), "one step of a framework at a time");
            }
            Action::RunPolicy {
                seat,
                changes,
                cycle,
            } => self.run_policy(seat, changes, cycle),
            Action::FeedCandidate {
                candidate,
                changes,
                cycle,
            } => self.feed(candidate, &changes, cycle.as_ref()),
            Action::SwitchPolicy { candidate } => {
                self.lifecycle.push(format!("switch to {candidate}"));
                if candidate != 0 {
                    self.loaded = std::mem::replace(&mut self.candidate, Decider::Hand);
                }
            }
            Action::DropCandidate { candidate } => {
                self.lifecycle.push(format!("drop {candidate}"));
            }
            Action::LoadPolicy(record) => {
                self.lifecycle.push(format!("load {}", record.digest));
                self.to_load.push(*record);
            }
            Action::CarryPolicy => self.lifecycle.push("carry".to_owned()),
            Action::RunTenant {
                tenant,
                turn,
                changes,
                cycle,
            } => self.run_tenant(tenant, turn, changes, &cycle),
            Action::DropTenant { tenant } => {
                self.lifecycle.push(format!("drop tenant {tenant}"));
            }
            Action::Reply { ticket, reply } => {
                let before = self.replies.insert(ticket, reply);
                assert!(before.is_none(), "{ticket:?} is answered once");
            }
            Action::Wake(at) => self.wake = Some(at),
            Action::Note { why, .. } => self.notes.push(why.to_string()),
        }
    }

    fn run_policy(&mut self, seat: PolicySeat, changes: Vec<Changes>, cycle: Cycle) {
        self.cycles_asked += 1;
        let decider = match seat {
            PolicySeat::Loaded => &mut self.loaded,
            PolicySeat::Fallback => &mut self.fallback,
        };
        let number = cycle.number;
        let answer = match decider {
            Decider::Drf(drf) => {
                for part in &changes {
                    drf.apply(part);
                }
                Ok(drf.decide(&cycle))
            }
            Decider::Script(script) => script(&changes, &cycle),
            Decider::Hand => {
                self.cycles.push_back((seat, changes, cycle));
                return;
            }
        };
        self.hear(Late::Deciders, answered(number, answer));
    }

    /// At once, or when the test says so.
    fn hear(&mut self, who: Late, event: Event) {
        match &mut self.late {
            Some(late) => late[who as usize].push_back(event),
            None => self.queue.push_back(event),
        }
    }

    fn run_tenant(&mut self, tenant: Option<u64>, turn: u64, changes: Vec<Changes>, cycle: &Cycle) {
        let natively = |changes: &[Changes]| {
            let mut drf = Drf::default();
            drf.configure("").unwrap();
            for part in changes {
                drf.apply(part);
            }
            Ok(drf.decide(cycle))
        };
        let answer = match (tenant, &mut self.tenant) {
            (None, _) | (_, Decider::Drf(_)) => Some(natively(&changes)),
            (_, Decider::Script(script)) => Some(script(&changes, cycle)),
            (_, Decider::Hand) => None,
        };
        self.turns.push((turn, tenant.is_none(), changes));
        let answered = answer.map(|answer| match answer {
            Ok(proposal) => Event::TenantProposed {
                turn,
                proposal: Box::new(proposal),
            },
            Err(fault) => Event::TenantFailed { turn, fault },
        });
        if let Some(answered) = answered {
            self.hear(Late::Deciders, answered);
        }
    }

    /// A candidate takes what it is fed in at once, and says so unless the test does.
    fn feed(&mut self, candidate: u64, changes: &[Changes], cycle: Option<&Cycle>) {
        if let Decider::Drf(drf) = &mut self.candidate {
            for part in changes {
                drf.apply(part);
            }
        }
        let proposed = match (&mut self.candidate, cycle) {
            (Decider::Drf(drf), Some(cycle)) => Some(Ok(drf.decide(cycle))),
            (Decider::Script(script), Some(cycle)) => Some(script(changes, cycle)),
            _ => None,
        };
        match (proposed, cycle) {
            (Some(Ok(proposal)), Some(cycle)) => {
                let proposed = Event::CandidateProposed {
                    candidate,
                    cycle: cycle.number,
                    proposal: Box::new(proposal),
                };
                self.hear(Late::Candidate, proposed);
            }
            (Some(Err(fault)), _) => {
                let failed = Event::CandidateFailed { candidate, fault };
                self.hear(Late::Candidate, failed);
            }
            _ => {}
        }
        self.candidate_fed.extend_from_slice(changes);
        let begins = |part: &Changes| part.part == ChangesPart::SnapshotLast;
        if self.prompt_candidate && changes.iter().any(begins) {
            self.hear(Late::Candidate, Event::CandidateReady { candidate });
        }
    }

    /// Answers the cycle that waits by hand.
    pub(crate) fn propose(&mut self, proposal: Proposal) {
        let (_, _, cycle) = self.cycles.pop_front().expect("a cycle waits");
        self.event(answered(cycle.number, Ok(proposal)));
    }

    /// Loads a policy that is fed everything.
    pub(crate) fn load_policy(&mut self, decider: Decider) {
        self.load_policy_fed(decider, ALL_FEEDS);
    }

    pub(crate) fn load_policy_fed(&mut self, decider: Decider, feeds: Feeds) {
        self.loaded = decider;
        let identity = Arc::new(PolicyIdentity {
            name: "test".to_owned(),
            version: "1".to_owned(),
            digest: String::new(),
            config: String::new(),
        });
        self.event(Event::PolicyLoaded { identity, feeds });
    }

    /// The store has written everything that it was given.
    pub(crate) fn persist_all(&mut self) {
        self.persist(self.facts.len());
    }

    pub(crate) fn persist(&mut self, upto: usize) {
        self.persisted = self.persisted.max(upto);
        self.event(Event::Persisted(Seq(upto as u64)));
    }
}

fn answered(cycle: u64, answer: Result<Proposal, Reason>) -> Event {
    match answer {
        Ok(proposal) => Event::PolicyProposed {
            cycle,
            proposal: Box::new(proposal),
        },
        Err(fault) => Event::PolicyFailed { cycle, fault },
    }
}
