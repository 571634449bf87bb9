//! Failed steps: the same events again, halved, down to the one that fails alone, and its fate.

use std::collections::BTreeSet;

use proffer_model::{Duration, FrameworkId, Reason, StepNumber};

use crate::agenda::Deadline;
use crate::batches::offers_in;
use crate::book::Ending;
use crate::config::{ALONE_FAILURES_MAX, backoff};
use crate::framework::{InFlight, Item};
use crate::machine::Core;

impl Core {
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
        if self
            .frameworks
            .get(&framework)
            .is_some_and(|fw| fw.is_on_trial())
        {
            // What it was given is the life-cycle event alone, and the version before needs none.
            self.counters_mut(framework).steps_failed += 1;
            return self.trial_failed(framework, &fault);
        }
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
        let blamed = match &items[..] {
            [item] if item.must_be_taken() => Some(self.describe(framework, item)),
            _ => None,
        };
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
            self.quarantine(framework, &fault, blamed);
        }
        self.begin_trial(framework);
    }

    /// A step failed through no fault of the framework's: the same events again, as often as it takes.
    pub(crate) fn step_prevented(
        &mut self,
        framework: FrameworkId,
        step: StepNumber,
        attempt: u32,
        fault: Reason,
    ) {
        let Some(in_flight) = self.take_in_flight(framework, step, attempt) else {
            return;
        };
        let fw = self.frameworks.get(&framework);
        if fw.is_some_and(|fw| fw.is_on_trial()) {
            // Whoever is to blame: the version before can go on meanwhile.
            self.counters_mut(framework).steps_failed += 1;
            return self.trial_failed(framework, &fault);
        }
        self.forget_delivery(framework, &in_flight);
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        fw.counters.steps_failed += 1;
        let supervision = &mut fw.supervision;
        supervision.prevented = supervision.prevented.saturating_add(1);
        supervision.last_fault = Some(fault.clone());
        let retry_at = self.now + backoff(supervision.prevented);
        supervision.retry_at = Some(retry_at);
        for item in in_flight.items.into_iter().rev() {
            fw.queue.push_front(item);
        }
        self.agenda.add(retry_at, Deadline::StepRetries(framework));
        self.note(Some(framework), fault);
        self.begin_trial(framework);
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
            Item::Told(event) => self.answer_taken(framework, &event),
            Item::Rescinded(_) => {}
            // Those that must be taken.
            item
            @ (Item::Started(_) | Item::Update { .. } | Item::Durable(_) | Item::Timer(..)) => {
                let blamed = self.describe(framework, &item);
                if let Some(fw) = self.frameworks.get_mut(&framework) {
                    fw.queue.push_front(item);
                }
                self.quarantine(framework, fault, Some(blamed));
            }
        }
    }

    /// How long a failed framework waits, for views.
    pub(crate) fn retry_in(&self, framework: FrameworkId) -> Option<Duration> {
        let at = self.frameworks.get(&framework)?.supervision.retry_at?;
        (at > self.now).then(|| at.since(self.now))
    }
}
