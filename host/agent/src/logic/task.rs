//! A launch's way from its sandbox to its end.

use std::sync::Arc;

use proffer_model::{LaunchNumber, Reason, Remedy, TaskState, Timestamp, UpdateSource, code};

use super::host::reason_of;
use super::launch::{Due, End, Found, News, Outcome, Phase, Unprepared};
use super::{Action, Logic, Outbox, Record, StopCause};

impl Logic {
    /// What is here already is no news: only a launch that has to wait is said to be starting, and once.
    pub(super) fn on_fetching(
        &mut self,
        now: Timestamp,
        number: LaunchNumber,
        outbox: &mut Outbox,
    ) {
        let state = self.launches.get(&number);
        if state.is_some_and(|state| {
            state.phase == Phase::Preparing && state.latest == TaskState::Staging
        }) {
            let why = Reason::new("preparing", Remedy::Retry, "its inputs are being fetched");
            let news = News::by_agent(TaskState::Starting, why);
            self.tell(now, number, news, outbox);
        }
    }

    pub(super) fn on_prepared(
        &mut self,
        now: Timestamp,
        number: LaunchNumber,
        outcome: Result<(), Unprepared>,
        outbox: &mut Outbox,
    ) {
        let Some(state) = self.launches.get_mut(&number) else {
            return;
        };
        // Anything else is a cancelled preparation that was done all the same.
        if state.phase != Phase::Preparing {
            return;
        }
        if let Err(unprepared) = outcome {
            return self.end(now, number, News::unprepared(unprepared), outbox);
        }
        state.phase = Phase::Prepared;
        let group = Arc::clone(&state.group);
        // One may be prepared once more, after it never reached its runner: others run already then.
        let waits = |number: &LaunchNumber| {
            let state = self.launches.get(number);
            state.is_some_and(|state| state.phase == Phase::Preparing)
        };
        if !group.iter().any(waits) {
            for number in group.iter() {
                self.start(*number, outbox);
            }
        }
    }

    fn start(&mut self, number: LaunchNumber, outbox: &mut Outbox) {
        let state = self.launches.get_mut(&number);
        if let Some(state) = state.filter(|state| state.phase == Phase::Prepared) {
            state.phase = Phase::Handed;
            outbox.push(Action::Persist(Record::Started(number)));
            outbox.push(Action::Start(Arc::clone(&state.launch)));
        }
    }

    pub(super) fn on_found(
        &mut self,
        now: Timestamp,
        number: LaunchNumber,
        found: Found,
        outbox: &mut Outbox,
    ) {
        let Some(state) = self.launches.get_mut(&number) else {
            return;
        };
        let (phase, stop) = (state.phase, state.stop);
        if !matches!(phase, Phase::Handed | Phase::Running) {
            return;
        }
        match found {
            Found::Running if phase == Phase::Handed => {
                state.phase = Phase::Running;
                if let Some(longest) = state.launch.task.template.longest {
                    let at = now + longest;
                    state.too_long_at = Some(at);
                    self.dues.insert((at, number, Due::TooLong));
                }
                if stop.is_none() {
                    let why = Reason::new("running", Remedy::Retry, "it was started");
                    let news = News::by_runner(TaskState::Running, why);
                    self.tell(now, number, news, outbox);
                }
            }
            Found::Running => {}
            Found::Ended(end) => {
                let stop = stop.filter(|_| end.stopped).map(|stop| stop.cause);
                let news = news_of(end, stop, phase);
                self.end(now, number, news, outbox);
            }
            // The runner never heard of it, so it may start; unless it was to end anyway. What an agent before
            // this one had ready for it may be gone.
            Found::NeverStarted if phase == Phase::Handed && stop.is_none() => {
                state.phase = Phase::Preparing;
                outbox.push(Action::Prepare(Arc::clone(&state.launch)));
            }
            Found::NeverStarted | Found::NoRunner(_)
                if phase == Phase::Handed && stop.is_some() =>
            {
                let why = Reason::new(
                    code::KILLED_DURING_LAUNCH,
                    Remedy::Retry,
                    "it was killed before it ran",
                );
                self.end(now, number, News::by_agent(TaskState::Killed, why), outbox);
            }
            // The launch is not to blame: it never ran, and may elsewhere.
            Found::NoRunner(problem) => {
                let text = format!("its runner cannot be started: {problem}");
                let why = Reason::new(code::RUNNER_LOST, Remedy::ChooseAnew, text);
                self.end(now, number, News::by_agent(TaskState::Dropped, why), outbox);
            }
            Found::NeverStarted | Found::Lost => {
                let why = Reason::new(
                    code::RUNNER_LOST,
                    Remedy::Retry,
                    "its runner died, and its exit status with it",
                );
                self.end(now, number, News::by_agent(TaskState::Failed, why), outbox);
            }
        }
    }

    pub(super) fn stop_too_long(
        &mut self,
        now: Timestamp,
        number: LaunchNumber,
        outbox: &mut Outbox,
    ) {
        let Some(state) = self.launches.get_mut(&number) else {
            return;
        };
        state.too_long_at = None;
        let grace = state.launch.task.template.grace;
        self.stop(now, number, StopCause::TooLong, grace, outbox);
    }

    /// Ends a launch; if it ended badly, its group ends with it.
    pub(super) fn end(
        &mut self,
        now: Timestamp,
        number: LaunchNumber,
        news: News,
        outbox: &mut Outbox,
    ) {
        let badly = news.state != TaskState::Finished;
        self.tell(now, number, news, outbox);
        let Some(state) = self.launches.get(&number) else {
            return;
        };
        let group = Arc::clone(&state.group);
        if !badly || group.len() < 2 {
            return;
        }
        for other in group.iter().filter(|other| **other != number) {
            let Some(state) = self.launches.get(other) else {
                continue;
            };
            match state.phase {
                Phase::Ended { .. } => {}
                Phase::Preparing | Phase::Prepared => {
                    if state.phase == Phase::Preparing {
                        outbox.push(Action::CancelPrepare(*other));
                    }
                    let news = News::by_agent(TaskState::Dropped, reason_of(StopCause::Group));
                    self.tell(now, *other, news, outbox);
                }
                Phase::Handed | Phase::Running => {
                    let grace = state.launch.task.template.grace;
                    self.stop(now, *other, StopCause::Group, grace, outbox);
                }
            }
        }
    }
}

/// What an end means. A stop counts only if it came before the end.
fn news_of(end: End, stop: Option<StopCause>, phase: Phase) -> News {
    let End {
        outcome,
        stopped: _,
        data,
    } = end;
    let exit = match outcome {
        Outcome::Exited(status) => Some(status),
        _ => None,
    };
    let (state, why) = match stop {
        None => by_itself(outcome),
        Some(StopCause::TooLong) => (TaskState::Failed, reason_of(StopCause::TooLong)),
        Some(StopCause::Asked) if phase == Phase::Handed => (
            TaskState::Killed,
            Reason::new(
                code::KILLED_DURING_LAUNCH,
                Remedy::Retry,
                "it was killed as it started",
            ),
        ),
        Some(cause) => (TaskState::Killed, reason_of(cause)),
    };
    News {
        state,
        source: UpdateSource::Executor,
        why,
        exit: exit.filter(|_| stop.is_none()),
        data,
    }
}

fn by_itself(outcome: Outcome) -> (TaskState, Reason) {
    let failed = |code, remedy, text: String| (TaskState::Failed, Reason::new(code, remedy, text));
    match outcome {
        Outcome::Exited(0) => {
            let why = Reason::new(code::EXITED, Remedy::Retry, "it exited with status 0");
            (TaskState::Finished, why)
        }
        Outcome::Exited(status) => failed(
            code::EXITED,
            Remedy::Retry,
            format!("it exited with status {status}"),
        ),
        Outcome::Signalled(signal) => failed(
            code::EXITED,
            Remedy::Retry,
            format!("it was ended by signal {signal}"),
        ),
        Outcome::OutOfMemory(text) => failed(code::OUT_OF_MEMORY, Remedy::Mend, text),
        Outcome::Broke(text) => failed(code::EXITED, Remedy::Mend, text),
        Outcome::NotStarted(text) => failed(code::LAUNCH_FAILED, Remedy::Mend, text),
    }
}
