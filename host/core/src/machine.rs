//! The machine itself: one `handle`, one `match`, and the gate that holds effects back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proffer_codec::codec_struct;
use proffer_model::agent::ToAgent;
use proffer_model::fact::Fact;
use proffer_model::{
    AgentId, Bundle, Duration, FrameworkId, LaunchNumber, OfferId, Reason, RequestId, RoleName,
    TaskId, Timestamp,
};

use crate::action::{Action, Outbox, Seq};
use crate::agenda::{Agenda, Deadline};
use crate::agents::Agent;
use crate::allocation::AllocationState;
use crate::book::{Ending, OpenOffer};
use crate::config::{Allocation, CoreConfig, ID_BLOCK};
use crate::downtime::AgentsAwaited;
use crate::event::{Blame, ConnectionId, Event, Ticket};
use crate::feed::Feed;
use crate::filters::Filters;
use crate::framework::{Framework, Item};
use crate::handles::{ClientId, Handles};
use crate::inverse::Inverses;
use crate::numbered::Numbered;
use crate::operators::Waiting;
use crate::pace::Pace;
use crate::presence::GoneAgents;
use crate::view::Counters;

/// The state machine. See the crate's documentation.
#[derive(Debug)]
pub struct Core {
    pub(crate) config: CoreConfig,
    /// The time of the event being handled; never falls.
    pub(crate) now: Timestamp,
    /// How that follows from the host's clock.
    pub(crate) pace: Pace,
    pub(crate) agenda: Agenda,
    pub(crate) handles: Handles,
    pub(crate) agents: Numbered<AgentId, Box<Agent>>,
    pub(crate) connections: BTreeMap<ConnectionId, AgentId>,
    pub(crate) agent_keys: BTreeMap<String, AgentId>,
    pub(crate) gone: GoneAgents,
    pub(crate) next_agent: u32,
    pub(crate) frameworks: BTreeMap<FrameworkId, Box<Framework>>,
    pub(crate) names: BTreeMap<Arc<str>, FrameworkId>,
    pub(crate) next_framework: u32,
    pub(crate) launches: BTreeMap<LaunchNumber, (FrameworkId, TaskId)>,
    pub(crate) offers: Numbered<OfferId, Box<OpenOffer>>,
    pub(crate) filters: Filters,
    pub(crate) requests: BTreeMap<RequestId, Waiting>,
    pub(crate) tickets: BTreeMap<Ticket, RequestId>,
    pub(crate) ids: Ids,
    pub(crate) feed: Feed,
    pub(crate) allocation: AllocationState,
    /// The only agents that are offered; none: all.
    pub(crate) allowed: Option<BTreeSet<AgentId>>,
    /// What is asked back of whom.
    pub(crate) inverses: Inverses,
    /// Ids of frameworks whose use was reported before they were added.
    pub(crate) expected: BTreeMap<Arc<str>, FrameworkId>,
    /// Frameworks that go when their tasks have ended.
    pub(crate) removing: BTreeSet<FrameworkId>,
    /// When the host last said durably that it runs.
    pub(crate) alive_at: Timestamp,
    /// Agents that a host that goes on waits for.
    pub(crate) awaiting: Option<AgentsAwaited>,
    /// It was made from facts: its own first ones say so.
    pub(crate) recovered: bool,
    /// Facts are being replayed: agents are taken to be there.
    pub(crate) replaying: bool,
    /// Frameworks that may have a step to run.
    pub(crate) ready: BTreeSet<FrameworkId>,
    /// Facts of the event being handled.
    pub(crate) facts: Vec<Fact>,
    pub(crate) gate: Gate,
    /// Counters of frameworks that are gone land here, so that nothing is counted into the void.
    pub(crate) orphan_counters: Counters,
}

codec_struct!(Core {
    config,
    now,
    pace,
    agenda,
    handles,
    agents,
    connections,
    agent_keys,
    gone,
    next_agent,
    frameworks,
    names,
    next_framework,
    launches,
    offers,
    filters,
    requests,
    tickets,
    ids,
    feed,
    allocation,
    allowed,
    inverses,
    expected,
    removing,
    alive_at,
    awaiting,
    recovered,
    replaying,
    ready,
    facts,
    gate,
    orphan_counters
});

/// Numbers that are never used twice. Reserved durably in blocks.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// Offers and launches share one sequence.
    pub(crate) next: u64,
    pub(crate) below: u64,
    pub(crate) next_request: u64,
    pub(crate) requests_below: u64,
}

codec_struct!(Ids {
    next,
    below,
    next_request,
    requests_below
});

/// Effects wait here for the facts that they depend on.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Of the event being handled; true: waits for facts.
    actions: Vec<(bool, Action)>,
    issued: Seq,
    persisted: Seq,
    held: VecDeque<(Seq, Action)>,
    woken_at: Option<Timestamp>,
}

codec_struct!(Gate {
    actions,
    issued,
    persisted,
    held,
    woken_at
});

impl Gate {
    /// Connections whose answer to a registration is held back.
    pub(crate) fn connections_waiting(&self) -> BTreeSet<ConnectionId> {
        let held = self.held.iter().filter_map(|(_, action)| match action {
            Action::Send {
                connection,
                message,
            } if matches!(**message, ToAgent::Registered { .. }) => Some(*connection),
            _ => None,
        });
        held.collect()
    }
}

impl Core {
    /// A core that knows nothing yet. To go on after a restart, see [`Core::recover`].
    #[must_use]
    pub fn new(config: CoreConfig, now: Timestamp) -> Self {
        let mut core = Self {
            config,
            now,
            pace: Pace::new(now, now),
            agenda: Agenda::default(),
            handles: Handles::default(),
            agents: Numbered::default(),
            connections: BTreeMap::new(),
            agent_keys: BTreeMap::new(),
            gone: GoneAgents::default(),
            next_agent: 0,
            frameworks: BTreeMap::new(),
            names: BTreeMap::new(),
            next_framework: 1,
            launches: BTreeMap::new(),
            offers: Numbered::default(),
            filters: Filters::default(),
            requests: BTreeMap::new(),
            tickets: BTreeMap::new(),
            ids: Ids {
                next: 1,
                below: 1,
                next_request: 1,
                requests_below: 1,
            },
            feed: Feed::default(),
            allocation: AllocationState::default(),
            allowed: None,
            inverses: Inverses::default(),
            expected: BTreeMap::new(),
            removing: BTreeSet::new(),
            alive_at: now,
            awaiting: None,
            recovered: false,
            replaying: false,
            ready: BTreeSet::new(),
            facts: Vec::new(),
            gate: Gate::default(),
            orphan_counters: Counters::default(),
        };
        core.agenda
            .add(now + core.config.heartbeat, Deadline::HeartbeatRound);
        match core.config.allocation {
            Allocation::Interval(interval) => core.agenda.add(now + interval, Deadline::CycleDue),
            Allocation::Events { sweep, .. } => core.agenda.add(now + sweep, Deadline::CycleDue),
        }
        core
    }

    /// Handles one event and leaves what is to be done in `out`, in order.
    ///
    /// `clock` is what the host's clock shows; a time before the last event's counts as that. A host
    /// whose clock is behind what facts have told begins at their time and lets its clock catch up.
    pub fn handle(&mut self, clock: Timestamp, event: Event, out: &mut Outbox) {
        self.now = self.now.max(self.pace.time(clock));
        self.fire_due();
        self.dispatch(event);
        if self.has_resumed() {
            self.run_ready_steps();
            self.run_wanted_cycle();
            self.run_tenants();
        }
        self.flush(out);
    }

    /// The last facts that were to be made durable, and the last that are.
    #[must_use]
    pub fn durable_up_to(&self) -> (Seq, Seq) {
        (self.gate.issued, self.gate.persisted)
    }

    /// A host that goes on calls nobody before it is durable that it does: the ids that it will show
    /// are spent then, also if it dies at once.
    fn has_resumed(&self) -> bool {
        !self.recovered || self.gate.persisted >= Seq(1)
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::AgentRegistered {
                connection,
                registration,
            } => self.agent_registered(connection, *registration),
            Event::AgentDisconnected { connection } => self.agent_disconnected(connection),
            Event::AgentHeard { connection } => {
                self.heard(connection);
            }
            Event::TaskUpdated { connection, update } => self.task_updated(connection, *update),
            Event::FrameworkAdded { ticket, framework } => self.framework_added(ticket, *framework),
            Event::FrameworkRemovalAsked {
                ticket,
                name,
                reservations,
            } => {
                self.framework_removal_asked(ticket, &name, reservations);
            }
            Event::FrameworkUpgradeAsked { ticket, upgrade } => {
                self.framework_upgrade_asked(ticket, *upgrade);
            }
            Event::EventSkipAsked {
                ticket,
                name,
                event,
            } => self.event_skip_asked(ticket, &name, &event),
            Event::AgentGoneAsked { ticket, agent } => self.agent_gone_asked(ticket, &agent),
            Event::FrameworkResumeAsked { ticket, name } => {
                self.framework_resume_asked(ticket, &name)
            }
            Event::StepCompleted {
                framework,
                step,
                attempt,
                writes,
                answer,
            } => {
                self.step_completed(framework, step, attempt, writes, *answer);
            }
            Event::StepFailed {
                blame,
                framework,
                step,
                attempt,
                fault,
            } => match blame {
                Blame::Framework => self.step_failed(framework, step, attempt, fault),
                Blame::Host => self.step_prevented(framework, step, attempt, fault),
            },
            event @ Event::RequestArrived { .. } => self.request_arrived(event),
            Event::TicketDropped { ticket } => self.ticket_dropped(ticket),
            Event::PolicyLoaded { identity, feeds } => self.policy_loaded(identity, feeds),
            Event::PolicyUnavailable { fault } => self.policy_unavailable(&fault),
            Event::PolicySwapAsked { ticket, swap } => self.policy_swap_asked(ticket, *swap),
            Event::CandidateReady { candidate } => self.candidate_ready(candidate),
            Event::CandidateFailed { candidate, fault } => self.candidate_failed(candidate, fault),
            Event::CandidateProposed {
                candidate,
                cycle,
                proposal,
            } => self.candidate_proposed(candidate, cycle, &proposal),
            Event::SwapCancelAsked { ticket } => self.swap_cancel_asked(ticket),
            Event::CanaryEndAsked { ticket, end } => self.canary_end_asked(ticket, *end),
            Event::RolePolicyAsked { ticket, role, set } => {
                self.role_policy_asked(ticket, &role, *set);
            }
            Event::TenantLoaded { role, tenant } => self.tenant_loaded(&role, tenant),
            Event::TenantUnavailable { role, fault } => self.tenant_unavailable(&role, fault),
            Event::TenantProposed { turn, proposal } => self.tenant_proposed(turn, &proposal),
            Event::TenantFailed { turn, fault } => self.tenant_failed(turn, fault),
            Event::PolicyCarried { sections } => self.policy_carried_over(sections),
            Event::PolicyProposed { cycle, proposal } => self.policy_proposed(cycle, &proposal),
            Event::PolicyFailed { cycle, fault } => self.policy_failed(cycle, fault),
            Event::TaskKillAsked {
                ticket,
                framework,
                task,
                grace,
            } => {
                self.task_kill_asked(ticket, &framework, &task, grace);
            }
            Event::RoleSet {
                ticket,
                role,
                weight,
            } => self.role_set(ticket, &role, weight),
            Event::QuotaSet {
                ticket,
                role,
                quotas,
                weight,
                force,
            } => self.quota_set(ticket, &role, (quotas, weight), force),
            Event::ReservationAsked {
                ticket,
                agent,
                resources,
                change,
            } => self.reservation_asked(ticket, agent, &resources, change),
            Event::AgentChangeAsked {
                ticket,
                agent,
                change,
            } => self.agent_change_asked(ticket, agent, change),
            Event::AgentsAllowed { ticket, agents } => self.agents_allowed(ticket, agents),
            Event::FrameworkChangeAsked {
                ticket,
                name,
                change,
            } => self.framework_change_asked(ticket, &name, *change),
            Event::Played { ticket, play } => self.played(ticket, *play),
            Event::Persisted(seq) => self.gate.persisted = self.gate.persisted.max(seq),
            // A shell that is a moment early is told the time again.
            Event::Ticked => self.gate.woken_at = None,
        }
    }

    fn fire_due(&mut self) {
        while let Some((at, deadline)) = self.agenda.pop_due(self.now) {
            self.fire(at, deadline);
        }
    }

    fn fire(&mut self, at: Timestamp, deadline: Deadline) {
        #[cfg(feature = "planted")]
        if crate::planted::Planted::LeaseIgnored.is_planted()
            && matches!(deadline, Deadline::OfferExpires(_))
        {
            return;
        }
        match deadline {
            Deadline::OfferExpires(id) => self.end_offer(id, &Ending::Expired),
            Deadline::FilterEnds(handle) => self.filter_ends(handle),
            Deadline::FilterEndsAfterCycle(handle) => self.filter_ends_after_cycle(handle),
            Deadline::DemandWaits => self.demand_waits_no_longer(),
            Deadline::CycleDue => self.cycle_due(at),
            Deadline::TimerFires(framework, id) => self.timer_fires(framework, id, at),
            Deadline::DemandEnds(framework, key) => self.demand_ends(framework, &key),
            Deadline::StepRetries(framework) => {
                self.ready.insert(framework);
            }
            Deadline::PolicyRetries => self.policy_retries(),
            Deadline::RequestEnds(request) => self.request_ends(request),
            Deadline::AgentUnreachable(agent) => self.agent_unreachable(agent),
            Deadline::AgentGone(agent) => self.agent_gone_due(agent),
            Deadline::BrakeLoosens => self.give_up_agents(),
            Deadline::AgentsBack => self.agents_are_back(),
            Deadline::HeartbeatRound => self.heartbeat_round(),
            Deadline::TrialEnds(candidate) => self.trial_ends(candidate),
        }
    }

    /// An effect that depends on no fact.
    pub(crate) fn emit(&mut self, action: Action) {
        self.gate.actions.push((false, action));
    }

    /// An effect that waits until all facts so far are durable.
    pub(crate) fn emit_durable(&mut self, action: Action) {
        #[cfg(feature = "planted")]
        if crate::planted::Planted::EffectBeforeFact.is_planted() {
            return self.emit(action);
        }
        self.gate.actions.push((true, action));
    }

    pub(crate) fn note(&mut self, framework: Option<FrameworkId>, why: Reason) {
        self.emit(Action::Note { framework, why });
    }

    fn flush(&mut self, out: &mut Outbox) {
        if !self.facts.is_empty() {
            self.gate.issued.0 += 1;
            out.push(Action::Persist {
                seq: self.gate.issued,
                facts: std::mem::take(&mut self.facts),
            });
        }
        let (issued, persisted) = (self.gate.issued, self.gate.persisted);
        while self
            .gate
            .held
            .front()
            .is_some_and(|(seq, _)| *seq <= persisted)
        {
            if let Some((_, action)) = self.gate.held.pop_front() {
                out.push(action);
            }
        }
        for (waits, action) in std::mem::take(&mut self.gate.actions) {
            if waits && issued > persisted {
                self.gate.held.push_back((issued, action));
            } else {
                out.push(action);
            }
        }
        let next = self.agenda.next();
        if next != self.gate.woken_at {
            self.gate.woken_at = next;
            if let Some(at) = next {
                out.push(Action::Wake(self.pace.clock(at)));
            }
        }
    }

    /// Effects that wait for facts to become durable.
    #[must_use]
    pub fn held_effects(&self) -> usize {
        self.gate.held.len()
    }

    /// A number that no offer or launch ever had.
    pub(crate) fn next_id(&mut self) -> u64 {
        let id = self.ids.next;
        self.ids.next += 1;
        self.reserve_ids();
        id
    }

    pub(crate) fn next_request_id(&mut self) -> RequestId {
        let id = self.ids.next_request;
        self.ids.next_request += 1;
        self.reserve_ids();
        RequestId(id)
    }

    pub(crate) fn reserve_ids(&mut self) {
        if self.ids.next < self.ids.below && self.ids.next_request < self.ids.requests_below {
            return;
        }
        self.ids.below = self.ids.next + ID_BLOCK;
        self.ids.requests_below = self.ids.next_request + ID_BLOCK;
        self.facts.push(Fact::IdsReserved {
            offers_below: self.ids.below,
            requests_below: self.ids.requests_below,
        });
    }

    pub(crate) fn counters_mut(&mut self, framework: FrameworkId) -> &mut Counters {
        match self.frameworks.get_mut(&framework) {
            Some(fw) => &mut fw.counters,
            None => &mut self.orphan_counters,
        }
    }

    /// The framework's number under a role, new if it is.
    pub(crate) fn client_of(&mut self, framework: FrameworkId, role: &RoleName) -> ClientId {
        let client = self.handles.client(framework, role);
        if let Some(fw) = self.frameworks.get_mut(&framework)
            && fw.clients.insert(role.clone(), client).is_none()
        {
            self.feed.clients.insert(client);
        }
        client
    }

    /// Puts something into a framework's queue.
    pub(crate) fn enqueue(&mut self, framework: FrameworkId, item: Item) {
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            fw.queue.push_back(item);
            self.ready.insert(framework);
        }
    }

    /// The pool's plain total and what of it is not free.
    #[must_use]
    pub fn pool_total(&self) -> Bundle {
        let mut total = Bundle::default();
        for agent in self.agents.values() {
            total.add(&agent.account.total().total());
        }
        total
    }

    /// How long offers stand.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.config.lease
    }
}
