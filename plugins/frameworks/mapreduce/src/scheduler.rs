//! The framework itself: events to jobs, jobs to the state.

use std::collections::BTreeMap;

use proffer_sdk::framework::{
    AgentChange, Cause, Context, Fired, Framework, Host, Offer, Request, Standing, Step, Timestamp,
    Update, is_final,
};

use crate::job::{Job, JobRecord, JobState, Lost};
use crate::task::{Kind, TaskName};
use crate::{api, placing, progress, store, straggler};

/// Ended jobs that are remembered; the oldest are forgotten. Enough for a day of people's jobs, and
/// some MiB of state at most.
const ENDED_JOBS_MAX: usize = 100;

/// Attempts ended in one step for their job: half of the commands that the contract allows.
const KILLS_MAX: usize = 2_000;

/// The timer of what is to be ended after that.
const KILLS_TIMER: &str = "kills";

/// The timer of the next straggler.
const STRAGGLER_TIMER: &str = "straggler";

/// The MapReduce framework. All of it is a cache of the state.
pub struct MapReduce {
    pub(crate) roles: Vec<String>,
    /// Running jobs, by run: the oldest is served first.
    pub(crate) running: BTreeMap<u32, Job>,
    /// Ended jobs that are remembered, by name.
    pub(crate) ended: BTreeMap<String, JobRecord>,
    /// Attempts to be ended at the end of the step.
    pub(crate) kills: Vec<String>,
    /// When the straggler timer is set to, as far as this instance knows.
    timer: Option<Timestamp>,
    /// The demand before this step, all jobs together.
    demand: u64,
}

impl Framework for MapReduce {
    fn start(context: &Context, host: &mut Host<'_>) -> Result<Self, String> {
        let mut framework = Self {
            roles: context.roles.clone(),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            kills: Vec::new(),
            timer: None,
            demand: 0,
        };
        for (name, record) in store::read_records(&mut host.state())? {
            if record.ended.is_some() {
                framework.ended.insert(name, record);
            } else {
                let job = store::read_job(&mut host.state(), record)?;
                framework.running.insert(job.record.run, job);
            }
        }
        framework.demand = framework.demand_stated();
        Ok(framework)
    }

    fn started(&mut self, step: &mut Step<'_>, _: Cause) -> Result<(), String> {
        if self.demand == 0 {
            step.suppress([]);
        }
        Ok(())
    }

    fn offers(&mut self, step: &mut Step<'_>, offers: Vec<Offer>) -> Result<(), String> {
        placing::place(self.running.values_mut(), offers, step);
        Ok(())
    }

    fn updates(&mut self, step: &mut Step<'_>, updates: Vec<Update>) -> Result<(), String> {
        for update in &updates {
            self.take_update(update, step);
        }
        Ok(())
    }

    fn agents_changed(
        &mut self,
        step: &mut Step<'_>,
        changes: Vec<AgentChange>,
    ) -> Result<(), String> {
        for change in changes {
            match change.standing {
                // What is there cannot be fetched, now or ever: it is made again.
                Standing::Unreachable | Standing::Gone => self.lose_agent(&change, step)?,
                Standing::Disconnected | Standing::Returned => {}
            }
        }
        Ok(())
    }

    fn timers(&mut self, step: &mut Step<'_>, fired: Vec<Fired>) -> Result<(), String> {
        for timer in fired {
            if timer.id == KILLS_TIMER {
                let (ids, more) = store::take_kills(&mut step.state(), KILLS_MAX)?;
                self.kills.extend(ids);
                if more {
                    step.set_timer_after(KILLS_TIMER, 0);
                }
            } else {
                // A straggler is due; the end of the step demands room for its backup.
                self.timer = None;
            }
        }
        Ok(())
    }

    fn request(&mut self, step: &mut Step<'_>, request: Request) -> Result<(), String> {
        let response = api::answer(self, &request, step)?;
        step.respond(response);
        Ok(())
    }

    fn end(&mut self, step: &mut Step<'_>) -> Result<(), String> {
        for job in self.running.values_mut() {
            placing::restate_demand(job, step);
            self.kills.append(&mut job.changed.kills);
            store::write_changes(&mut step.state(), job)?;
        }
        let ended: Vec<u32> = self
            .running
            .values()
            .filter(|job| !job.is_running())
            .map(|job| job.record.run)
            .collect();
        for run in ended {
            if let Some(job) = self.running.remove(&run) {
                self.ended.insert(job.record.name.clone(), job.record);
            }
        }
        self.end_attempts(step)?;
        self.forget_oldest(step)?;
        self.ask_for_offers(step);
        self.set_straggler_timer(step);
        Ok(())
    }
}

impl MapReduce {
    fn take_update(&mut self, update: &Update, step: &mut Step<'_>) {
        let name = TaskName::parse(&update.task);
        let job = name.and_then(|name| {
            let job = self.running.get_mut(&name.run)?;
            (job.record.name == name.job).then_some((job, name))
        });
        match job {
            Some((job, name)) => progress::take_update(job, name, update, step),
            // A task of a job that was deleted or has ended, and that was not told yet.
            None if !is_final(update.state) => step.kill(&update.task, "its job has ended"),
            None => {}
        }
    }

    fn lose_agent(&mut self, change: &AgentChange, step: &mut Step<'_>) -> Result<(), String> {
        let now = step.now();
        for job in self.running.values_mut() {
            progress::lose_agent(job, change.agent, now);
        }
        let succeeded = |record: &&mut JobRecord| record.state == JobState::Succeeded;
        for record in self.ended.values_mut().filter(succeeded) {
            record.lose(Lost {
                agent: Some(change.agent),
                at: now,
            });
            store::write_record(&mut step.state(), record)?;
        }
        Ok(())
    }

    /// Ends attempts that are not needed any more, as many as a step may, and the rest later.
    fn end_attempts(&mut self, step: &mut Step<'_>) -> Result<(), String> {
        for (index, id) in std::mem::take(&mut self.kills).into_iter().enumerate() {
            if index < KILLS_MAX {
                step.kill(id, "its job has ended");
                continue;
            }
            store::put_kill_off(&mut step.state(), &id)?;
            if index == KILLS_MAX {
                step.set_timer_after(KILLS_TIMER, 0);
            }
        }
        Ok(())
    }

    /// Forgets the oldest ended jobs, when there are too many.
    fn forget_oldest(&mut self, step: &mut Step<'_>) -> Result<(), String> {
        while self.ended.len() > ENDED_JOBS_MAX {
            let oldest = self
                .ended
                .values()
                .min_by_key(|record| (record.ended, record.run))
                .map(|record| record.name.clone());
            let Some(record) = oldest.and_then(|name| self.ended.remove(&name)) else {
                break;
            };
            store::delete(&mut step.state(), &record)?;
        }
        Ok(())
    }

    /// No offers while nothing is demanded; at once, and without old filters, when something is.
    fn ask_for_offers(&mut self, step: &mut Step<'_>) {
        let demand = self.demand_stated();
        match (self.demand, demand) {
            (0, 1..) => step.revive([]),
            (1.., 0) => step.suppress([]),
            (_, _) => {}
        }
        self.demand = demand;
    }

    fn demand_stated(&self) -> u64 {
        self.running
            .values()
            .flat_map(|job| job.record.demand)
            .map(u64::from)
            .sum()
    }

    /// Wants to be called when the next task becomes a straggler.
    fn set_straggler_timer(&mut self, step: &mut Step<'_>) {
        let now = step.now();
        let mut next: Option<Timestamp> = None;
        for job in self.running.values() {
            for kind in [Kind::Map, Kind::Reduce] {
                let due = straggler::candidates(job, kind)
                    .into_iter()
                    .map(|candidate| candidate.due)
                    .filter(|due| *due > now)
                    .min();
                next = match (next, due) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
        if next == self.timer {
            return;
        }
        self.timer = next;
        match next {
            Some(due) => step.set_timer_at(STRAGGLER_TIMER, due),
            None => step.cancel_timer(STRAGGLER_TIMER),
        }
    }
}
