//! Frameworks' steps: called with what waits, answered with commands that become one fact.

use std::collections::BTreeSet;

use proffer_model::fact::{Effect, Fact, StepRecord};
use proffer_model::framework::{Answer, Cause, Event as Told, StateWrite};
use proffer_model::{FrameworkId, OfferId, Reason, Remedy, StepNumber, Timestamp, code};

use crate::action::Action;
use crate::batches::offers_in;
use crate::book::Ending;
use crate::commands::StepRun;
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
        if !fw.may_step() || fw.in_flight.is_some() || waits {
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
        // The life-cycle event comes alone: offers that were kept wait for the step after it.
        let kept: Vec<OfferId> = match items.first() {
            Some(Item::Started(_)) => Vec::new(),
            _ => fw.kept.iter().copied().collect(),
        };
        let batch = self.batch(framework, step, &kept, &items);
        let delivered: BTreeSet<OfferId> = kept.into_iter().chain(offers_in(&items)).collect();
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
            let open = match item {
                Item::Offer(id) => self.offers.get(id),
                _ => None,
            };
            let item_gang = open.map_or(0, |open| open.offer.gang);
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
                Item::Offer(_) => open.is_some(),
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
        self.trial_succeeded(framework);
        let mut effects = Vec::new();
        for item in &in_flight.items {
            self.take_item(framework, item, &mut effects);
        }
        let rejected_before = self.counters_mut(framework).commands_rejected;
        let mut run = StepRun {
            framework,
            unsettled: in_flight.delivered,
            effects,
            launched: Vec::new(),
            killed: Vec::new(),
            finish: None,
        };
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            // Nearly always all of them: they came in this batch, and are kept anew or not.
            fw.kept = fw.kept.difference(&run.unsettled).copied().collect();
        }
        for command in answer.commands {
            self.run_command(&mut run, command);
        }
        for id in std::mem::take(&mut run.unsettled) {
            self.end_offer(id, &Ending::Declined(None));
        }
        self.bound_ended_tasks(framework, &mut run.effects);
        let mut effects = std::mem::take(&mut run.effects);
        if !effects.is_empty() || !writes.is_empty() {
            let at = self.now;
            self.apply_now(framework, Effect::TimeTold { at }, &mut effects);
            let record = StepRecord {
                framework,
                step,
                writes,
                effects,
            };
            self.facts.push(Fact::StepCommitted(Box::new(record)));
        }
        self.after_step(run);
        let rejected = self.counters_mut(framework).commands_rejected > rejected_before;
        if rejected && self.is_unteachable(framework) {
            let text = "its commands are rejected faster than it takes the rejections";
            let why = Reason::new(code::LIMIT, Remedy::Mend, text);
            self.quarantine(framework, &why, None);
        }
        self.finish_removal(framework);
        self.begin_trial(framework);
        self.ready.insert(framework);
    }

    /// What a committed step has been told is told for good.
    pub(crate) fn take_item(
        &mut self,
        framework: FrameworkId,
        item: &Item,
        effects: &mut Vec<Effect>,
    ) {
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
            Item::Told(event) => self.answer_taken(framework, event),
            Item::Offer(_) | Item::Rescinded(_) | Item::Request(_) => {}
        }
    }

    /// An answer to one of a framework's questions will not come again.
    pub(crate) fn answer_taken(&mut self, framework: FrameworkId, event: &Told) {
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            fw.asked.answered(event);
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
        match effect {
            Effect::TimerSet { id, .. } | Effect::TimerCleared { id } => {
                self.unschedule_timer(framework, id);
            }
            Effect::TimeTold { at } => self.alive_at = self.alive_at.max(*at),
            _ => {}
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

    /// The step that this answers, if it is the one in flight: late answers are nobody's.
    pub(crate) fn take_in_flight(
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
}
