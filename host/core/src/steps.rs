//! Frameworks' steps: batches out, answers in, failures and their ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proffer_model::fact::{Effect, Fact, FrameworkStanding, StepRecord};
use proffer_model::framework::{Answer, Batch, Cause, Event as Told, Fired, StateWrite};
use proffer_model::{
    AgentId, AgentInfo, Duration, FrameworkId, OfferId, Reason, Remedy, StepNumber, TaskUpdate,
    Timestamp, code,
};

use crate::action::Action;
use crate::agenda::Deadline;
use crate::book::Ending;
use crate::commands::StepRun;
use crate::config::{ALONE_FAILURES_MAX, backoff};
use crate::framework::{InFlight, Item};
use crate::machine::Core;

/// Text and bytes of one batch, roughly, before it is cut: the contract's 1 MiB.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// What a row costs besides its payload, roughly.
const ROW_BYTES: usize = 256;

impl Core {
    pub(crate) fn run_ready_steps(&mut self) {
        for framework in std::mem::take(&mut self.ready) {
            self.run_step(framework);
        }
    }

    /// Calls a framework if it is idle, may step, and has something to be told.
    fn run_step(&mut self, framework: FrameworkId) {
        let now = self.now;
        let Some(fw) = self.frameworks.get(&framework) else {
            return;
        };
        let waits = fw.supervision.retry_at.is_some_and(|at| at > now);
        if !fw.is_active() || fw.in_flight.is_some() || waits {
            return;
        }
        let items = self.take_items(framework);
        if items.is_empty() {
            return;
        }
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        fw.supervision.attempt = fw.supervision.attempt.wrapping_add(1);
        let attempt = fw.supervision.attempt;
        let step = StepNumber(fw.record.step.0 + 1);
        let kept: Vec<OfferId> = fw.kept.iter().copied().collect();
        let batch = self.batch(framework, step, &kept, &items);
        let delivered: BTreeSet<OfferId> = kept.into_iter().chain(offers_in(&items)).collect();
        for id in &delivered {
            if let Some(open) = self.offers.get_mut(id) {
                open.delivered = true;
            }
        }
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            fw.in_flight = Some(InFlight {
                step,
                attempt,
                items,
                delivered,
            });
        }
        self.emit(Action::RunStep {
            framework,
            attempt,
            batch: Box::new(batch),
        });
    }

    /// Takes what fits one batch from the queue; what died while waiting is dropped.
    fn take_items(&mut self, framework: FrameworkId) -> Vec<Item> {
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return Vec::new();
        };
        let rows_max = fw
            .supervision
            .rows_max
            .unwrap_or(self.config.batch_rows_max)
            .max(1);
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut gang = 0;
        while let Some(item) = fw.queue.front() {
            let item_gang = match item {
                Item::Offer(id) => self.offers.get(id).map_or(0, |open| open.offer.gang),
                _ => 0,
            };
            let same_gang = gang != 0 && item_gang == gang;
            // The life-cycle event comes alone.
            let begun = matches!(items.first(), Some(Item::Started(_)));
            if begun || !same_gang && (items.len() >= rows_max || bytes >= BATCH_BYTES_MAX) {
                break;
            }
            let Some(item) = fw.queue.pop_front() else {
                break;
            };
            let alive = match &item {
                Item::Offer(id) => self.offers.contains_key(id),
                Item::Timer(id, setting) => fw
                    .timers
                    .get(id)
                    .is_some_and(|timer| timer.setting == *setting),
                Item::Request(id) => self.requests.contains_key(id),
                Item::Durable(number) => fw.durable.contains_key(number),
                _ => true,
            };
            if !alive {
                continue;
            }
            bytes += ROW_BYTES
                + match &item {
                    Item::Update { update, .. } => update.data.len() + update.why.text.len(),
                    Item::Request(id) => self
                        .requests
                        .get(id)
                        .map_or(0, |waiting| waiting.request.body.len()),
                    _ => 0,
                };
            gang = item_gang;
            items.push(item);
        }
        items
    }

    /// Puts a batch together: neighbours of one kind merged, every agent named in it described.
    fn batch(
        &self,
        framework: FrameworkId,
        step: StepNumber,
        kept: &[OfferId],
        items: &[Item],
    ) -> Batch {
        let mut events: Vec<Told> = Vec::new();
        let kept_offers = kept
            .iter()
            .filter_map(|id| self.offers.get(id))
            .map(|open| open.offer.clone());
        merge(&mut events, Told::Offers(kept_offers.collect()));
        for item in items {
            if let Some(event) = self.told(framework, item) {
                merge(&mut events, event);
            }
        }
        let mut agents: BTreeMap<AgentId, Arc<AgentInfo>> = BTreeMap::new();
        for id in events.iter().flat_map(agents_named) {
            if let Some(agent) = self.agents.get(&id) {
                agents.insert(id, Arc::clone(&agent.record.info));
            }
        }
        Batch {
            step,
            now: self.now,
            agents: agents.into_iter().collect(),
            events,
        }
    }

    fn told(&self, framework: FrameworkId, item: &Item) -> Option<Told> {
        let fw = self.frameworks.get(&framework)?;
        Some(match item {
            Item::Started(cause) => Told::Started(cause.clone()),
            Item::Offer(id) => Told::Offers(vec![self.offers.get(id)?.offer.clone()]),
            Item::Rescinded(rescinded) => Told::Rescinded(vec![rescinded.clone()]),
            Item::Update { update, .. } => Told::Updates(vec![TaskUpdate::clone(update)]),
            Item::Durable(number) => fw.durable.get(number)?.clone(),
            Item::Told(event) => Told::clone(event),
            Item::Timer(id, _) => Told::Timers(vec![Fired {
                id: id.clone(),
                due: fw.timers.get(id)?.at,
            }]),
            Item::Request(id) => Told::Request(self.requests.get(id)?.request.clone()),
        })
    }

    /// A step answered: its writes and effects become one fact, then its effects happen.
    pub(crate) fn step_completed(
        &mut self,
        framework: FrameworkId,
        step: StepNumber,
        attempt: u32,
        writes: Vec<StateWrite>,
        answer: Answer,
    ) {
        let Some(in_flight) = self.take_in_flight(framework, step, attempt) else {
            return;
        };
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        fw.supervision.recover();
        fw.counters.steps += 1;
        fw.record.step = step;
        let mut effects = Vec::new();
        for item in &in_flight.items {
            self.take_item(framework, item, &mut effects);
        }
        let mut run = StepRun {
            framework,
            unsettled: in_flight.delivered,
            effects,
            launched: Vec::new(),
            killed: Vec::new(),
            finish: None,
        };
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            fw.kept.clear();
        }
        for command in answer.commands {
            self.run_command(&mut run, command);
        }
        for id in std::mem::take(&mut run.unsettled) {
            self.end_offer(id, &Ending::Declined(None));
        }
        self.bound_ended_tasks(framework, &mut run.effects);
        let effects = std::mem::take(&mut run.effects);
        if !effects.is_empty() || !writes.is_empty() {
            let record = StepRecord {
                framework,
                step,
                writes,
                effects,
            };
            self.facts.push(Fact::StepCommitted(Box::new(record)));
        }
        self.after_step(run);
        self.finish_removal(framework);
        self.ready.insert(framework);
    }

    /// What a committed step has been told is told for good.
    fn take_item(&mut self, framework: FrameworkId, item: &Item, effects: &mut Vec<Effect>) {
        match item {
            Item::Started(_) => self.apply_now(framework, Effect::Started, effects),
            Item::Timer(id, setting) => {
                let current = self
                    .frameworks
                    .get(&framework)
                    .and_then(|fw| fw.timers.get(id))
                    .is_some_and(|timer| timer.setting == *setting);
                if current {
                    self.apply_now(framework, Effect::TimerCleared { id: id.clone() }, effects);
                }
            }
            Item::Durable(number) => {
                self.apply_now(framework, Effect::EventTaken { number: *number }, effects);
            }
            Item::Update { launch, update } => {
                let effect = Effect::TaskAcknowledged {
                    task: update.task.clone(),
                    sequence: update.sequence,
                    state: update.state,
                    why: update.why.clone(),
                    exit: update.exit,
                    at: update.at,
                };
                self.apply_now(framework, effect, effects);
                let connection = update
                    .agent
                    .and_then(|id| self.agents.get(&id))
                    .and_then(|agent| agent.connection);
                if let Some(connection) = connection {
                    self.acknowledge(connection, *launch, update.sequence);
                }
            }
            Item::Offer(_) | Item::Rescinded(_) | Item::Told(_) | Item::Request(_) => {}
        }
    }

    /// Applies a durable effect and remembers it for the step's fact.
    pub(crate) fn apply_now(
        &mut self,
        framework: FrameworkId,
        effect: Effect,
        effects: &mut Vec<Effect>,
    ) {
        self.apply_effect(framework, &effect);
        effects.push(effect);
    }

    /// Applies a durable effect; live and in recovery alike.
    pub(crate) fn apply_effect(&mut self, framework: FrameworkId, effect: &Effect) {
        if let Effect::TimerSet { id, .. } | Effect::TimerCleared { id } = effect {
            self.unschedule_timer(framework, id);
        }
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            fw.apply(effect);
        }
        self.apply_task_effect(framework, effect);
        self.apply_demand_effect(framework, effect);
    }

    /// Queues what the host alone tells, durably. With `effects`, as part of a step's fact.
    pub(crate) fn queue_durable(
        &mut self,
        framework: FrameworkId,
        event: Told,
        effects: Option<&mut Vec<Effect>>,
    ) {
        let Some(fw) = self.frameworks.get(&framework) else {
            return;
        };
        let number = fw.durable_next;
        let effect = Effect::EventQueued { number, event };
        self.apply_effect(framework, &effect);
        match effects {
            Some(effects) => effects.push(effect),
            None => self.facts.push(Fact::Changed { framework, effect }),
        }
        self.enqueue(framework, Item::Durable(number));
    }

    /// A step failed: no trace, the same events again, halved.
    pub(crate) fn step_failed(
        &mut self,
        framework: FrameworkId,
        step: StepNumber,
        attempt: u32,
        fault: Reason,
    ) {
        let Some(in_flight) = self.take_in_flight(framework, step, attempt) else {
            return;
        };
        let failures_max = self.config.step_failures_max;
        self.forget_delivery(framework, &in_flight);
        let alone = self.is_indivisible(&in_flight.items);
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        fw.counters.steps_failed += 1;
        let supervision = &mut fw.supervision;
        supervision.failures += 1;
        supervision.last_fault = Some(fault.clone());
        supervision.rows_max = Some((in_flight.items.len() / 2).max(1));
        if alone {
            supervision.alone += 1;
            supervision.stuck += 1;
        }
        let doomed = alone && supervision.alone >= ALONE_FAILURES_MAX;
        // Halving is progress: only what cannot be halved counts towards quarantine.
        let exhausted = supervision.stuck >= failures_max;
        let retry_at = self.now + backoff(supervision.failures);
        supervision.retry_at = Some(retry_at);
        self.agenda.add(retry_at, Deadline::StepRetries(framework));
        self.note(Some(framework), fault.clone());
        let mut items = in_flight.items;
        if doomed {
            for item in std::mem::take(&mut items) {
                self.meet_fate(framework, item, &fault);
            }
        }
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            for item in items.into_iter().rev() {
                fw.queue.push_front(item);
            }
        }
        if exhausted {
            self.quarantine(framework, &fault);
        }
    }

    /// A failed step leaves no trace: its framework has not seen the offers that were new in it.
    fn forget_delivery(&mut self, framework: FrameworkId, in_flight: &InFlight) {
        let kept = self.frameworks.get(&framework).map(|fw| &fw.kept);
        for id in &in_flight.delivered {
            if kept.is_some_and(|kept| kept.contains(id)) {
                continue;
            }
            if let Some(open) = self.offers.get_mut(id) {
                open.delivered = false;
            }
        }
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            let seen_now: BTreeSet<u64> = offers_in(&in_flight.items).map(|id| id.0).collect();
            fw.queue.retain(
                |item| !matches!(item, Item::Rescinded(gone) if seen_now.contains(&gone.id)),
            );
        }
    }

    /// One event, or the offers of one gang.
    fn is_indivisible(&self, items: &[Item]) -> bool {
        let gang_of = |item: &Item| match item {
            Item::Offer(id) => self.offers.get(id).map_or(0, |open| open.offer.gang),
            _ => 0,
        };
        match items {
            [_] => true,
            [first, rest @ ..] => {
                let gang = gang_of(first);
                gang != 0 && rest.iter().all(|item| gang_of(item) == gang)
            }
            [] => false,
        }
    }

    /// The end of an event that fails alone: a request is answered 500, an offer returns, anything
    /// else is quarantine.
    fn meet_fate(&mut self, framework: FrameworkId, item: Item, fault: &Reason) {
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            fw.supervision.alone = 0;
        }
        match item {
            Item::Request(id) => {
                self.answer_request(id, 500, &format!("the framework failed: {}", fault.text))
            }
            Item::Offer(id) => self.end_offer(id, &Ending::Declined(None)),
            Item::Told(_) | Item::Rescinded(_) => {}
            item
            @ (Item::Started(_) | Item::Update { .. } | Item::Durable(_) | Item::Timer(..)) => {
                if let Some(fw) = self.frameworks.get_mut(&framework) {
                    fw.queue.push_front(item);
                }
                self.quarantine(framework, fault);
            }
        }
    }

    /// It steps no more; tasks and queue stay. The way out is an operator's resume.
    fn quarantine(&mut self, framework: FrameworkId, fault: &Reason) {
        let Some(fw) = self
            .frameworks
            .get_mut(&framework)
            .filter(|fw| fw.is_active())
        else {
            return;
        };
        fw.record.standing = FrameworkStanding::Quarantined(fault.clone());
        let (record, clients) = (fw.record.clone(), fw.clients.clone());
        self.facts.push(Fact::FrameworkSet(Box::new(record)));
        let why = Reason::new(
            code::FRAMEWORK_INACTIVE,
            Remedy::ChooseAnew,
            "the framework is in quarantine",
        );
        self.rescind_framework_offers(framework, &why);
        for client in clients.into_values() {
            self.drop_client_filters(client);
            self.feed.client_changed(client);
        }
        self.demands_changed(framework);
        self.refuse_requests(framework, "the framework is in quarantine");
        self.emit(Action::StopFramework { framework });
        let text = format!("quarantined: {}", fault.text);
        self.note(
            Some(framework),
            Reason {
                text,
                ..fault.clone()
            },
        );
    }

    /// The step that this answers, if it is the one in flight: late answers are nobody's.
    fn take_in_flight(
        &mut self,
        framework: FrameworkId,
        step: StepNumber,
        attempt: u32,
    ) -> Option<InFlight> {
        let fw = self.frameworks.get_mut(&framework)?;
        let current = fw
            .in_flight
            .as_ref()
            .is_some_and(|f| f.step == step && f.attempt == attempt);
        if !current {
            fw.counters.answers_stale += 1;
            return None;
        }
        fw.in_flight.take()
    }

    pub(crate) fn timer_fires(&mut self, framework: FrameworkId, id: String, at: Timestamp) {
        let Some(timer) = self
            .frameworks
            .get_mut(&framework)
            .and_then(|fw| fw.timers.get_mut(&id))
        else {
            return;
        };
        if timer.at != at || timer.fired {
            return;
        }
        timer.fired = true;
        let setting = timer.setting;
        self.enqueue(framework, Item::Timer(id, setting));
    }

    /// The life-cycle event of a framework that is about to run.
    pub(crate) fn start_framework(&mut self, framework: FrameworkId) {
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let cause = if fw.started {
            Cause::Resumed
        } else {
            Cause::First
        };
        fw.supervision.recover();
        fw.in_flight = None;
        fw.queue.retain(|item| !matches!(item, Item::Started(_)));
        fw.queue.push_front(Item::Started(cause));
        let record = Box::new(fw.record.clone());
        self.ready.insert(framework);
        self.emit(Action::StartFramework(record));
    }

    /// How long a failed framework waits, for views.
    pub(crate) fn retry_in(&self, framework: FrameworkId) -> Option<Duration> {
        let at = self.frameworks.get(&framework)?.supervision.retry_at?;
        (at > self.now).then(|| at.since(self.now))
    }
}

fn offers_in(items: &[Item]) -> impl Iterator<Item = OfferId> {
    items.iter().filter_map(|item| match item {
        Item::Offer(id) => Some(*id),
        _ => None,
    })
}

/// Appends an event, into the one before if both are lists of one kind.
fn merge(events: &mut Vec<Told>, event: Told) {
    match (events.last_mut(), event) {
        (_, Told::Offers(rows)) if rows.is_empty() => {}
        (Some(Told::Offers(all)), Told::Offers(rows)) => all.extend(rows),
        (Some(Told::Rescinded(all)), Told::Rescinded(rows)) => all.extend(rows),
        (Some(Told::Updates(all)), Told::Updates(rows)) => all.extend(rows),
        (Some(Told::OperationUpdates(all)), Told::OperationUpdates(rows)) => all.extend(rows),
        (Some(Told::AgentsChanged(all)), Told::AgentsChanged(rows)) => all.extend(rows),
        (Some(Told::Timers(all)), Told::Timers(rows)) => all.extend(rows),
        (Some(Told::Rejected(all)), Told::Rejected(rows)) => all.extend(rows),
        (_, event) => events.push(event),
    }
}

fn agents_named(event: &Told) -> Vec<AgentId> {
    match event {
        Told::Offers(rows) => rows.iter().map(|offer| offer.agent).collect(),
        Told::Updates(rows) => rows.iter().filter_map(|update| update.agent).collect(),
        Told::OperationUpdates(rows) => rows.iter().map(|update| update.agent).collect(),
        Told::AgentsChanged(rows) => rows.iter().map(|change| change.agent).collect(),
        Told::InverseOffers(rows) => rows.iter().map(|offer| offer.agent).collect(),
        Told::Holdings(holdings) => holdings.rows.iter().map(|row| row.agent).collect(),
        Told::Explained(explained) => explained.rows.iter().filter_map(|row| row.sample).collect(),
        _ => Vec::new(),
    }
}
