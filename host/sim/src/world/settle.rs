//! After the storm: all demand is served, all tasks end, all queues drain, and everybody agrees on
//! what has happened.

use proffer_model::{FrameworkId, TaskState};

use crate::check::{Invariant, Violation};
use crate::scenario::MINUTE;

use super::client::Stage;
use super::{Checked, World};

/// Within so much simulated time after the last fault: long refusals, leases, time-outs and backoff
/// fit in it several times over.
const SETTLE_WITHIN: u64 = 20 * MINUTE;

pub(super) fn not_done(text: String) -> Violation {
    Violation {
        invariant: Invariant::Liveness,
        text,
    }
}

impl World {
    pub(super) fn is_settled(&self) -> Result<bool, Violation> {
        Ok(self.client.stage == Stage::Settled)
    }

    /// Looks how far the cluster has come, and goes on.
    pub(super) fn settle(&mut self) -> Checked {
        let missing = match self.client.stage {
            Stage::Serving => {
                // What tasks hold of a reservation is theirs until they end.
                let _held = self.undo()?;
                self.not_served()
            }
            Stage::Draining => {
                let left = self.undo()?.or(self.undo_policies()?);
                self.not_drained().or(left)
            }
            Stage::Storm | Stage::Settled => None,
        };
        match missing {
            Some(missing) => {
                let late = self.now > self.client.calm_since + SETTLE_WITHIN;
                self.check
                    .tally
                    .holds(Invariant::Liveness, !late, || missing)?;
                // Asked again until it was heard: requests may be refused while much waits.
                if self.client.stage == Stage::Draining && self.dice.client.one_in(20) {
                    return self.drain();
                }
                Ok(())
            }
            None if self.client.stage == Stage::Serving => {
                self.client.stage = Stage::Draining;
                self.drain()
            }
            None => {
                self.client.stage = Stage::Settled;
                Ok(())
            }
        }
    }

    /// What demand is not served yet.
    fn not_served(&self) -> Option<String> {
        let Some(core) = self.core() else {
            return Some("no host leads".to_owned());
        };
        for (agent, view) in core.agents(None).enumerate() {
            if !view.active {
                return Some(format!("agent {agent} is not connected"));
            }
        }
        for own in self.client.frameworks.iter().filter(|own| !own.removed) {
            let Some(id) = own.id else {
                return Some(format!("{} was not added", own.name));
            };
            let number = |key: &str| self.number_in(id, key);
            if number("left") > 0 {
                return Some(format!("{} has batch tasks left", own.name));
            }
            let services = core
                .tasks(Some(id), None)
                .filter(|task| task.state == TaskState::Running && task.template == "service")
                .count() as u64;
            if services < own.keep {
                return Some(format!(
                    "{} has {services} of {} services",
                    own.name, own.keep
                ));
            }
        }
        let mapreduce = self.client.frameworks.first().filter(|own| !own.removed);
        let mapreduce = mapreduce.and_then(|own| own.id);
        for job in &self.client.jobs {
            if !job.accepted {
                return Some(format!("{} was not accepted", job.name));
            }
            let state = mapreduce.and_then(|id| self.state_of(id));
            let record = state.and_then(|state| state.get(&format!("j/{}", job.name)));
            let record = record.map(|record| String::from_utf8_lossy(record).into_owned());
            if !record.is_some_and(|record| record.contains(r#""state":"succeeded""#)) {
                return Some(format!("{} has not succeeded", job.name));
            }
        }
        None
    }

    /// What has not come to rest yet.
    fn not_drained(&self) -> Option<String> {
        let Some(core) = self.core() else {
            return Some("no host leads".to_owned());
        };
        let pool = core.pool();
        if pool.tasks > 0 || !pool.used.is_empty() {
            return Some(format!(
                "{} tasks have not ended, {} is used",
                pool.tasks, pool.used
            ));
        }
        if let Some(launch) = self.check.durable.live().next() {
            return Some(format!("launch {} has not ended durably", launch.0));
        }
        for (agent, node) in self.agents.iter().enumerate() {
            if !node.is_over() && (!node.is_idle() || node.machine.any_runs()) {
                return Some(format!("agent {agent} has not come to rest"));
            }
        }
        for own in &self.client.frameworks {
            let view = core.framework_named(&own.name);
            match view {
                Some(_) if own.removed => return Some(format!("{} is not gone", own.name)),
                Some(view) if view.queued > 0 => {
                    return Some(format!("{} events wait for {}", view.queued, own.name));
                }
                _ => {}
            }
        }
        None
    }

    fn number_in(&self, framework: FrameworkId, key: &str) -> u64 {
        let state = self.state_of(framework);
        let value = state.and_then(|state| state.get(key));
        let text = value.map(|value| String::from_utf8_lossy(value).into_owned());
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// What must be so when all is at rest.
    pub(super) fn check_end(&mut self) -> Checked {
        self.host_recounts()?;
        let leaders = self.leaders();
        let acting = self.acting().and_then(|term| self.host_of(term.life));
        let Self { check, hosts, .. } = self;
        check.tally.holds(Invariant::Liveness, leaders == 1, || {
            format!("{leaders} hosts lead long after the last fault")
        })?;
        let Some(term) = acting.and_then(|host| hosts[host].term()) else {
            return Ok(());
        };
        let core = &term.core;
        for agent in core.agents(None) {
            let free = agent.offered.is_empty() && agent.used.is_empty();
            let whole = !free || agent.free == agent.total;
            check.tally.holds(Invariant::Conservation, whole, || {
                format!(
                    "all of {} is free, but only {} of {}",
                    agent.id, agent.free, agent.total
                )
            })?;
        }
        for (launch, framework, task, state, there) in check.durable.all() {
            if !there {
                continue;
            }
            check
                .tally
                .holds(Invariant::UpdatesDelivered, state.is_final(), || {
                    format!("launch {} is {} at the end", launch.0, state.name())
                })?;
            let told = check.told.last(framework, task);
            let same = told.is_some_and(TaskState::is_final);
            check.tally.holds(Invariant::UpdatesDelivered, same, || {
                format!("task {task} has ended and its framework was told {told:?}")
            })?;
        }
        for own in self.client.frameworks.iter().filter(|own| !own.removed) {
            let actor = own.id.and_then(|id| term.actors.get(&id));
            let state = actor.map(|actor| actor.state());
            let believes = state
                .into_iter()
                .flat_map(|state| state.range("t/".to_owned().."t0".to_owned()))
                .filter(|_| own.name.starts_with("restless"))
                .count();
            check
                .tally
                .holds(Invariant::UpdatesDelivered, believes == 0, || {
                    format!("{} believes that {believes} tasks run", own.name)
                })?;
        }
        Ok(())
    }
}
