//! What the host says: launches, kills, acknowledgements.

use std::sync::Arc;

use proffer_model::agent::{Launch, ToAgent};
use proffer_model::{
    Duration, FrameworkId, LaunchNumber, Reason, Remedy, TaskState, Timestamp, code,
};

use super::launch::{LaunchState, News, Phase, Stop};
use super::{Action, LAUNCHES_MAX, Logic, Outbox, Record, StopCause, check};

impl Logic {
    pub(super) fn on_message(&mut self, now: Timestamp, message: ToAgent, outbox: &mut Outbox) {
        self.heard(now);
        match message {
            ToAgent::Registered {
                agent,
                heartbeat,
                timeout,
            } => self.on_registered(now, agent, (heartbeat, timeout), outbox),
            ToAgent::Refused { why } => self.on_refused(why, outbox),
            ToAgent::Launch(launches) => self.on_launch(now, launches, outbox),
            ToAgent::Kill {
                framework,
                launch,
                grace,
            } => self.on_kill(now, framework, launch, grace, outbox),
            ToAgent::Acknowledge { launch, sequence } => {
                self.acknowledge(now, launch, sequence, outbox);
            }
            ToAgent::RemoveFramework { framework } => {
                self.on_framework_removed(now, framework, outbox);
            }
            ToAgent::Heartbeat => {}
        }
    }

    fn on_launch(&mut self, now: Timestamp, launches: Vec<Launch>, outbox: &mut Outbox) {
        let (known, new): (Vec<_>, Vec<_>) = launches
            .into_iter()
            .partition(|launch| self.is_known(launch.number));
        self.counters.launches_repeated += known.len() as u64;
        let new: Vec<Arc<Launch>> = new.into_iter().map(Arc::new).collect();
        if new.is_empty() {
            return;
        }
        let group: Arc<[LaunchNumber]> = new.iter().map(|launch| launch.number).collect();
        let is_full = self.launches.len() + new.len() > LAUNCHES_MAX;
        outbox.push(Action::Persist(Record::Launched(new.clone())));
        self.counters.launches += new.len() as u64;
        for launch in &new {
            let state = LaunchState::new(Arc::clone(launch), Arc::clone(&group));
            self.launches.insert(launch.number, state);
            self.active += 1;
        }
        let refused = new.iter().find_map(|launch| {
            let problem = check::problem_of(launch, &self.settings.total);
            problem.map(|why| (launch.number, why))
        });
        if let Some((number, why)) = refused {
            self.counters.launches_refused += 1;
            return self.end(now, number, News::by_agent(TaskState::Error, why), outbox);
        }
        if is_full {
            let why = Reason::new(
                code::LIMIT,
                Remedy::Retry,
                format!("the agent remembers {LAUNCHES_MAX} launches already"),
            );
            let Some(first) = new.first() else { return };
            return self.end(
                now,
                first.number,
                News::by_agent(TaskState::Dropped, why),
                outbox,
            );
        }
        for launch in new {
            outbox.push(Action::Prepare(launch));
        }
    }

    /// Whether this number was taken before: then it is never run again.
    fn is_known(&self, number: LaunchNumber) -> bool {
        self.launches.contains_key(&number)
            || self.forgotten.contains(&number)
            || number <= self.forgotten_up_to
    }

    fn on_kill(
        &mut self,
        now: Timestamp,
        framework: FrameworkId,
        number: LaunchNumber,
        grace: Duration,
        outbox: &mut Outbox,
    ) {
        match self.launches.get(&number) {
            Some(state) if state.launch.framework == framework => {
                self.stop(now, number, StopCause::Asked, grace, outbox);
            }
            // The host repeats a kill until it knows how the launch ended; what is not here it will
            // send again, launch first.
            _ => tracing::debug!(launch = %number, "a kill of a launch that is not here"),
        }
    }

    /// Ends a launch, wherever it stands. Repeats are harmless; the grace may only get shorter, and
    /// the first cause stays.
    pub(super) fn stop(
        &mut self,
        now: Timestamp,
        number: LaunchNumber,
        cause: StopCause,
        grace: Duration,
        outbox: &mut Outbox,
    ) {
        let Some(state) = self.launches.get_mut(&number) else {
            return;
        };
        let phase = state.phase;
        match phase {
            Phase::Ended { .. } => {}
            Phase::Preparing | Phase::Prepared => {
                if phase == Phase::Preparing {
                    outbox.push(Action::CancelPrepare(number));
                }
                let news = stopped_before_start(cause);
                self.end(now, number, news, outbox);
            }
            Phase::Handed | Phase::Running => {
                let by = now + grace;
                let earlier = state.stop;
                if earlier.is_some_and(|stop| stop.by <= by) {
                    return;
                }
                let stop = Stop {
                    cause: earlier.map_or(cause, |stop| stop.cause),
                    by,
                };
                state.stop = Some(stop);
                let framework = state.launch.framework;
                outbox.push(Action::Persist(Record::Stopping {
                    launch: number,
                    cause: stop.cause,
                    by,
                }));
                outbox.push(Action::Stop {
                    launch: number,
                    framework,
                    grace,
                });
                if earlier.is_none() {
                    let news = News::by_agent(TaskState::Killing, reason_of(stop.cause));
                    self.tell(now, number, news, outbox);
                }
            }
        }
    }

    fn on_framework_removed(
        &mut self,
        now: Timestamp,
        framework: FrameworkId,
        outbox: &mut Outbox,
    ) {
        // Said again: what it comes to is told once, at the end.
        self.removed.remove(&framework);
        let of_framework = self.launches.values();
        let (ended, active): (Vec<_>, Vec<_>) = of_framework
            .filter(|state| state.launch.framework == framework)
            .map(|state| (state.launch.number, state.launch.task.template.grace, state))
            .partition(|(_, _, state)| state.has_ended());
        let ended: Vec<LaunchNumber> = ended.iter().map(|(number, ..)| *number).collect();
        let active: Vec<(LaunchNumber, Duration)> = active
            .iter()
            .map(|(number, grace, _)| (*number, *grace))
            .collect();
        // Nobody is left to tell how they ended.
        for number in ended {
            self.forget(number, outbox);
        }
        for (number, grace) in active {
            self.stop(now, number, StopCause::FrameworkRemoved, grace, outbox);
        }
        self.removed.insert(framework);
        self.dismiss_if_forgotten(framework, outbox);
    }

    /// Nothing of a removed framework is left: neither is its runner to be.
    pub(super) fn dismiss_if_forgotten(&mut self, framework: FrameworkId, outbox: &mut Outbox) {
        let mut launches = self.launches.values();
        if self.removed.contains(&framework)
            && !launches.any(|state| state.launch.framework == framework)
        {
            self.removed.remove(&framework);
            outbox.push(Action::DismissRunner(framework));
        }
    }
}

/// Why it is being ended, for updates.
pub(super) fn reason_of(cause: StopCause) -> Reason {
    match cause {
        StopCause::Asked => Reason::new(code::KILLED, Remedy::Retry, "the kill was asked for"),
        StopCause::TooLong => Reason::new(
            code::TOO_LONG,
            Remedy::Mend,
            "it ran longer than its template allows",
        ),
        StopCause::Group => Reason::new(
            code::GROUP_FAILED,
            Remedy::Retry,
            "another task of its group ended badly",
        ),
        StopCause::FrameworkRemoved => Reason::new(
            code::FRAMEWORK_REMOVED,
            Remedy::Denied,
            "its framework was removed",
        ),
    }
}

fn stopped_before_start(cause: StopCause) -> News {
    match cause {
        StopCause::Asked => News::by_agent(
            TaskState::Killed,
            Reason::new(
                code::KILLED_DURING_LAUNCH,
                Remedy::Retry,
                "it was killed before it ran",
            ),
        ),
        StopCause::Group | StopCause::FrameworkRemoved | StopCause::TooLong => {
            News::by_agent(TaskState::Dropped, reason_of(cause))
        }
    }
}
