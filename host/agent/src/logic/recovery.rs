//! The machine from its records: after a restart of the agent, or of the whole machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proffer_model::{
    FrameworkId, LaunchNumber, Reason, Remedy, TaskState, TaskUpdate, Timestamp, code,
};

use super::launch::{LaunchState, News, Phase, Stop};
use super::link::Link;
use super::{Action, Counters, Identity, Logic, Outbox, Record, Settings, StopCause};

/// What the journal holds, record after record.
#[derive(Debug, Default)]
pub struct Recovered {
    identity: Option<Identity>,
    launches: BTreeMap<LaunchNumber, LaunchState>,
    forgotten: BTreeSet<LaunchNumber>,
    forgotten_up_to: LaunchNumber,
}

impl Recovered {
    /// Who the agent was, if it ran before.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Takes one record into account. Records about launches that are not there are left alone: they
    /// are of launches forgotten since.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Identity(identity) => self.identity = Some(identity),
            Record::Launched(launches) => {
                let group: Arc<[_]> = launches.iter().map(|launch| launch.number).collect();
                for launch in launches {
                    let number = launch.number;
                    let state = LaunchState::new(launch, Arc::clone(&group));
                    self.launches.insert(number, state);
                }
            }
            Record::Started(number) => {
                if let Some(state) = self.launches.get_mut(&number) {
                    state.phase = Phase::Handed;
                }
            }
            Record::Stopping { launch, cause, by } => {
                if let Some(state) = self.launches.get_mut(&launch) {
                    state.stop = Some(Stop { cause, by });
                }
            }
            Record::Updated { launch, update } => self.apply_update(launch, update),
            Record::Acknowledged { launch, sequence } => {
                if let Some(state) = self.launches.get_mut(&launch) {
                    let pending = &mut state.stream.pending;
                    pending.retain(|update| update.sequence != sequence);
                }
            }
            Record::Forgotten(number) => {
                self.launches.remove(&number);
                self.forgotten.insert(number);
            }
            Record::ForgottenUpTo(number) => {
                self.forgotten = self.forgotten.split_off(&LaunchNumber(number.0 + 1));
                self.forgotten_up_to = number;
            }
        }
    }

    fn apply_update(&mut self, launch: LaunchNumber, update: Arc<TaskUpdate>) {
        let Some(state) = self.launches.get_mut(&launch) else {
            return;
        };
        state.stream.last = update.sequence;
        state.latest = update.state;
        if update.state == TaskState::Running {
            state.phase = Phase::Running;
        }
        if update.state.is_final() {
            state.phase = Phase::Ended { at: update.at };
        }
        state.stream.pending.push_back(update);
    }
}

impl LaunchState {
    /// What makes this state out of a new one. One update stands for all that were acknowledged.
    fn records(&self, number: LaunchNumber) -> Vec<Record> {
        let mut records = Vec::new();
        if !matches!(self.phase, Phase::Preparing | Phase::Prepared) {
            records.push(Record::Started(number));
        }
        if let Some(Stop { cause, by }) = self.stop {
            records.push(Record::Stopping {
                launch: number,
                cause,
                by,
            });
        }
        let acknowledged = self.stream.last - self.stream.pending.len() as u64;
        if acknowledged > 0 {
            let told = |state| Record::Updated {
                launch: number,
                update: Arc::new(self.told(state, acknowledged)),
            };
            // The first says that it ran, the second where it stands; both are of one sequence and go
            // with its acknowledgement.
            if self.phase == Phase::Running {
                records.push(told(TaskState::Running));
            }
            if self.stream.pending.is_empty() {
                records.push(told(self.latest));
            } else if self.phase != Phase::Running {
                records.push(told(TaskState::Starting));
            }
            records.push(Record::Acknowledged {
                launch: number,
                sequence: acknowledged,
            });
        }
        records.extend(self.stream.pending.iter().map(|update| Record::Updated {
            launch: number,
            update: Arc::clone(update),
        }));
        records
    }

    /// Stands for all updates that the host has: their last state and sequence are what counts.
    fn told(&self, state: TaskState, sequence: u64) -> TaskUpdate {
        let at = match self.phase {
            Phase::Ended { at } => at,
            _ => Timestamp::default(),
        };
        TaskUpdate {
            task: self.launch.task.id.clone(),
            agent: None,
            state,
            sequence,
            at,
            source: proffer_model::UpdateSource::Agent,
            why: Reason::new("told", Remedy::Retry, ""),
            exit: None,
            healthy: None,
            ready: None,
            address: String::new(),
            data: Vec::new(),
        }
    }
}

impl Logic {
    /// The records that make the same again, without what is past.
    #[must_use]
    pub fn compacted(&self) -> Vec<Record> {
        let mut records = vec![Record::Identity(self.identity.clone())];
        if self.forgotten_up_to > LaunchNumber(0) {
            records.push(Record::ForgottenUpTo(self.forgotten_up_to));
        }
        records.extend(self.forgotten.iter().copied().map(Record::Forgotten));
        let mut grouped = BTreeSet::new();
        for (number, state) in &self.launches {
            if grouped.contains(number) {
                continue;
            }
            // A group stays one record as long as any of it is remembered.
            let members = state.group.iter();
            let members = members.filter_map(|number| self.launches.get(number));
            let members: Vec<_> = members.map(|state| Arc::clone(&state.launch)).collect();
            grouped.extend(members.iter().map(|launch| launch.number));
            records.push(Record::Launched(members));
        }
        for (number, state) in &self.launches {
            records.extend(state.records(*number));
        }
        records
    }

    /// The machine as its records say, under this boot. What it wants done first is in the outbox.
    pub fn recover(
        now: Timestamp,
        settings: Settings,
        identity: Identity,
        recovered: Recovered,
        outbox: &mut Outbox,
    ) -> Self {
        let before = recovered.identity.as_ref();
        let rebooted = before.is_some_and(|before| before.boot != identity.boot);
        if before != Some(&identity) {
            outbox.push(Action::Persist(Record::Identity(identity.clone())));
        }
        let random = seed_of(&identity.key);
        let runs = |state: &&LaunchState| !state.has_ended();
        let active = recovered.launches.values().filter(runs).count();
        let mut logic = Self {
            active,
            settings,
            identity,
            link: Link::Waiting {
                until: now,
                attempt: 0,
            },
            launches: recovered.launches,
            forgotten: recovered.forgotten,
            forgotten_up_to: recovered.forgotten_up_to,
            // The host says it again of each that it is told of.
            removed: BTreeSet::new(),
            dues: BTreeSet::new(),
            counters: Counters::default(),
            random,
        };
        if rebooted {
            logic.report_rebooted(now, outbox);
        } else {
            logic.take_up(now, outbox);
        }
        logic
    }

    /// Another boot: nothing that ran runs any more.
    fn report_rebooted(&mut self, now: Timestamp, outbox: &mut Outbox) {
        let active: Vec<LaunchNumber> = self.active_numbers().collect();
        for number in active {
            let why = Reason::new(
                code::AGENT_LOST,
                Remedy::Retry,
                "the agent's machine was restarted",
            );
            self.tell(now, number, News::by_agent(TaskState::Gone, why), outbox);
        }
    }

    /// The same boot: what was not handed to a runner begins anew, of the rest runners know.
    fn take_up(&mut self, now: Timestamp, outbox: &mut Outbox) {
        let active: Vec<LaunchNumber> = self.active_numbers().collect();
        let mut inquire: BTreeMap<FrameworkId, Vec<LaunchNumber>> = BTreeMap::new();
        for number in active {
            let Some(state) = self.launches.get_mut(&number) else {
                continue;
            };
            if matches!(state.phase, Phase::Preparing | Phase::Prepared) {
                state.phase = Phase::Preparing;
                outbox.push(Action::Prepare(Arc::clone(&state.launch)));
                continue;
            }
            let framework = state.launch.framework;
            inquire.entry(framework).or_default().push(number);
            if state.phase == Phase::Running
                && let Some(longest) = state.launch.task.template.longest
            {
                // Counted anew from here: the task gains at most what it had already run.
                let at = now + longest;
                state.too_long_at = Some(at);
                self.dues.insert((at, number, super::launch::Due::TooLong));
            }
        }
        for (framework, launches) in inquire {
            outbox.push(Action::Inquire {
                framework,
                launches,
            });
        }
        self.end_broken_groups(now, outbox);
        for state in self.launches.values().filter(|state| !state.has_ended()) {
            if let Some(stop) = state.stop {
                outbox.push(Action::Stop {
                    launch: state.launch.number,
                    framework: state.launch.framework,
                    grace: stop.by.since(now),
                });
            }
        }
    }

    /// A crash may have come between a member's bad end and that of its group.
    fn end_broken_groups(&mut self, now: Timestamp, outbox: &mut Outbox) {
        let ended_badly = |number: &LaunchNumber| {
            let state = self.launches.get(number);
            state.is_some_and(|state| state.has_ended() && state.latest != TaskState::Finished)
        };
        let broken = self.launches.values().filter(|state| {
            !state.has_ended() && state.stop.is_none() && state.group.iter().any(ended_badly)
        });
        let broken: Vec<_> = broken
            .map(|state| (state.launch.number, state.launch.task.template.grace))
            .collect();
        for (number, grace) in broken {
            self.stop(now, number, StopCause::Group, grace, outbox);
        }
    }

    fn active_numbers(&self) -> impl Iterator<Item = LaunchNumber> + '_ {
        let launches = self.launches.iter();
        launches
            .filter(|(_, state)| !state.has_ended())
            .map(|(number, _)| *number)
    }
}

/// Any number that differs between agents (FNV-1a).
fn seed_of(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
