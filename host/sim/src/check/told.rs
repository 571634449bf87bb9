//! What frameworks were told of their tasks: by steps that were committed, and by durable ones.

use std::collections::BTreeMap;

use proffer_model::fact::Fact;
use proffer_model::framework::{Batch, Event};
use proffer_model::{FrameworkId, StepNumber, TaskId, TaskState, TaskUpdate, Timestamp};

use super::{Checked, Invariant, Tally};

type Key = (FrameworkId, TaskId);

/// What frameworks were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// By the steps that this host's core has committed.
    live: BTreeMap<Key, Heard>,
    /// By steps whose facts are durable.
    durable: BTreeMap<Key, Heard>,
    /// Steps under way, and what they are told.
    in_flight: BTreeMap<FrameworkId, Call>,
    /// Committed steps whose facts are not durable.
    pending: BTreeMap<(FrameworkId, StepNumber), Call>,
    /// The latest time of a committed step, and of a durable one.
    times: BTreeMap<FrameworkId, Timestamp>,
    durable_times: BTreeMap<FrameworkId, Timestamp>,
}

/// A step under way.
#[derive(Debug)]
struct Call {
    step: StepNumber,
    attempt: u32,
    now: Timestamp,
    heard: Vec<(Key, Heard)>,
}

/// The last that was told of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    sequence: u64,
    last: Option<TaskState>,
}

impl Told {
    /// A host begins anew: what was not durable is told again.
    pub(crate) fn host_began(&mut self) {
        self.live = self.durable.clone();
        self.times = self.durable_times.clone();
        self.in_flight.clear();
        self.pending.clear();
    }

    /// A framework is called.
    pub(crate) fn called(
        &mut self,
        framework: FrameworkId,
        attempt: u32,
        batch: &Batch,
        tally: &mut Tally,
    ) -> Checked {
        let before = self.times.get(&framework).copied().unwrap_or_default();
        tally.holds(Invariant::TimeNeverFalls, batch.now >= before, || {
            format!("{framework} is told {} after a step at {before}", batch.now)
        })?;
        let mut heard: BTreeMap<Key, Heard> = BTreeMap::new();
        let updates = batch.events.iter().filter_map(|event| match event {
            Event::Updates(rows) => Some(rows),
            _ => None,
        });
        for update in updates.flatten() {
            let key = (framework, update.task.clone());
            let before = heard.get(&key).or_else(|| self.live.get(&key)).copied();
            let now = check_update(before, update, tally)?;
            heard.insert(key, now);
        }
        let call = Call {
            step: batch.step,
            attempt,
            now: batch.now,
            heard: heard.into_iter().collect(),
        };
        self.in_flight.insert(framework, call);
        Ok(())
    }

    /// A framework's new life answers no calls of its old one.
    pub(crate) fn life_began(&mut self, framework: FrameworkId) {
        self.in_flight.remove(&framework);
    }

    /// Whether this answers the step that is under way.
    pub(crate) fn is_current(
        &self,
        framework: FrameworkId,
        step: StepNumber,
        attempt: u32,
    ) -> bool {
        self.in_flight
            .get(&framework)
            .is_some_and(|call| call.step == step && call.attempt == attempt)
    }

    /// The step that is under way was committed.
    pub(crate) fn committed(&mut self, framework: FrameworkId) {
        if let Some(call) = self.in_flight.remove(&framework) {
            self.live.extend(call.heard.iter().cloned());
            self.times.insert(framework, call.now);
            self.pending.insert((framework, call.step), call);
        }
    }

    /// A fact is durable.
    pub(crate) fn persisted(&mut self, fact: &Fact) {
        match fact {
            Fact::StepCommitted(record) => {
                let key = (record.framework, record.step);
                if let Some(call) = self.pending.remove(&key) {
                    self.durable_times.insert(record.framework, call.now);
                    self.durable.extend(call.heard);
                }
            }
            Fact::FrameworkRemoved { framework } => {
                for map in [&mut self.live, &mut self.durable] {
                    map.retain(|(owner, _), _| owner != framework);
                }
            }
            _ => {}
        }
    }

    /// The last state that a framework was durably told.
    pub(crate) fn last(&self, framework: FrameworkId, task: &TaskId) -> Option<TaskState> {
        self.durable.get(&(framework, task.clone()))?.last
    }
}

/// An agent's update is the next of its task; nothing but the same comes after an end.
fn check_update(
    before: Option<Heard>,
    update: &TaskUpdate,
    tally: &mut Tally,
) -> Result<Heard, super::Violation> {
    let before = before.unwrap_or(Heard {
        sequence: 0,
        last: None,
    });
    let from_agent = update.sequence > 0;
    tally.holds(
        Invariant::UpdatesInOrder,
        !from_agent || update.sequence == before.sequence + 1,
        || {
            format!(
                "task {} is told its update {} after {}",
                update.task, update.sequence, before.sequence
            )
        },
    )?;
    if update.state == TaskState::Unknown {
        // The answer to a question, and the truth: the host keeps nothing of what never ran.
        return Ok(before);
    }
    let ended = before.last.filter(|state| state.is_final());
    tally.holds(
        Invariant::FinalIsFinal,
        ended.is_none_or(|state| state == update.state && !from_agent),
        || {
            format!(
                "task {} was {} and is told to be {}",
                update.task,
                ended.map_or("", TaskState::name),
                update.state.name()
            )
        },
    )?;
    Ok(Heard {
        sequence: before.sequence.max(update.sequence),
        last: Some(update.state),
    })
}
