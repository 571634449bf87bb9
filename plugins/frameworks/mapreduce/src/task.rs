//! A map or reduce task of a job: its attempts, and what follows from them.

use proffer_sdk::framework::{AgentId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::job::Lost;

/// The two phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Reads a split, writes partitions.
    Map,
    /// Reads one partition of every map, writes a part of the result.
    Reduce,
}

/// Attempts kept per task: the story of a task that fails as often as a job allows by default, with
/// room for backups, and a record that stays well below 1 KiB.
const ATTEMPTS_KEPT_MAX: usize = 6;

/// Text kept of a failure's reason.
const REASON_CHARACTERS_MAX: usize = 160;

/// A task's record. One that was never launched is the default, and is not stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// How many attempts there have been: the next one's number.
    #[serde(rename = "n")]
    pub launched: u32,
    /// How many of them failed by their own fault.
    #[serde(rename = "f", default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// How often its inputs were lost.
    #[serde(rename = "o", default, skip_serializing_if = "is_zero")]
    pub losses: u32,
    /// The last attempts, oldest first.
    #[serde(rename = "a")]
    pub attempts: Vec<Attempt>,
}

/// One launch of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number within the task.
    #[serde(rename = "n")]
    pub number: u32,
    /// Where.
    #[serde(rename = "g")]
    pub agent: AgentId,
    /// That agent's hostname.
    #[serde(rename = "h")]
    pub host: String,
    /// When it was launched.
    #[serde(rename = "l")]
    pub launched: Timestamp,
    /// When it began to run.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Timestamp>,
    /// When it ended.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Where it stands.
    #[serde(rename = "s")]
    pub state: AttemptState,
    /// Started because another one took too long.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Why it ended, or empty.
    #[serde(rename = "w", default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptState {
    /// Launched.
    Staging,
    /// The agent fetches its inputs.
    Starting,
    /// It runs.
    Running,
    /// Its agent cannot be reached; it may run.
    Unreachable,
    /// Done, and its output is there.
    Finished,
    /// Done, and its output was lost since.
    #[serde(rename = "outputlost")]
    OutputLost,
    /// It failed.
    Failed,
    /// It was ended, or never ran, or went with its agent.
    Gone,
}

impl Kind {
    /// The word for the phase.
    #[must_use]
    pub fn phase(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Reduce => "reduce",
        }
    }

    /// The letter in task ids and state keys.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Map => 'm',
            Self::Reduce => 'r',
        }
    }
}

impl AttemptState {
    /// The word for it in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Unreachable => "unreachable",
            Self::Finished => "finished",
            Self::OutputLost => "output-lost",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }

    /// Whether it may still finish.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(
            self,
            Self::Staging | Self::Starting | Self::Running | Self::Unreachable
        )
    }
}

impl Attempt {
    /// How long it has run, or ran: from the beginning of its run, or from its launch if nobody told.
    #[must_use]
    pub fn runtime(&self, now: Timestamp) -> u64 {
        let begin = self.running.unwrap_or(self.launched);
        self.ended.unwrap_or(now).saturating_sub(begin)
    }

    /// Ends it.
    pub fn end(&mut self, state: AttemptState, at: Timestamp, why: &str) {
        self.state = state;
        self.ended = Some(at);
        self.why = why.chars().take(REASON_CHARACTERS_MAX).collect();
    }
}

impl TaskRecord {
    /// Whether its output is there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.winner().is_some()
    }

    /// The attempt whose output is there.
    #[must_use]
    pub fn winner(&self) -> Option<&Attempt> {
        self.attempts
            .iter()
            .find(|attempt| attempt.state == AttemptState::Finished)
    }

    /// Attempts that may still finish.
    pub fn active(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts
            .iter()
            .filter(|attempt| attempt.state.is_active())
    }

    /// Whether it must be launched: nothing is done, and nothing runs that can be heard of.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.is_done()
            && self
                .active()
                .all(|attempt| attempt.state == AttemptState::Unreachable)
    }

    /// Adds an attempt, and returns its number.
    pub fn launch(&mut self, agent: AgentId, host: &str, now: Timestamp, backup: bool) -> u32 {
        let number = self.launched;
        self.launched += 1;
        self.attempts.push(Attempt {
            number,
            agent,
            host: host.to_owned(),
            launched: now,
            running: None,
            ended: None,
            state: AttemptState::Staging,
            backup,
            why: String::new(),
        });
        while self.attempts.len() > ATTEMPTS_KEPT_MAX {
            let oldest = self
                .attempts
                .iter()
                .position(|old| !old.state.is_active() && old.state != AttemptState::Finished);
            match oldest {
                Some(index) => self.attempts.remove(index),
                // All of them run: there are never so many at once.
                None => break,
            };
        }
        number
    }

    /// An attempt by its number, if it is still kept.
    pub fn attempt_mut(&mut self, number: u32) -> Option<&mut Attempt> {
        self.attempts
            .iter_mut()
            .find(|attempt| attempt.number == number)
    }

    /// Takes its output away if `lost` names it.
    pub fn lose_output(&mut self, lost: Lost) -> bool {
        let mut was_there = false;
        for attempt in &mut self.attempts {
            let named = lost.agent.is_none_or(|agent| agent == attempt.agent)
                && attempt.ended.is_some_and(|ended| ended <= lost.at);
            if named && attempt.state == AttemptState::Finished {
                attempt.state = AttemptState::OutputLost;
                was_there = true;
            }
        }
        was_there
    }

    /// When an attempt last failed on this agent.
    #[must_use]
    pub fn failed_on(&self, agent: AgentId) -> Option<Timestamp> {
        self.attempts
            .iter()
            .filter(|attempt| attempt.agent == agent && attempt.state == AttemptState::Failed)
            .filter_map(|attempt| attempt.ended)
            .max()
    }
}

/// A task's id: `NAME.RUN.mI.aN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskName<'a> {
    /// The job's name.
    pub job: &'a str,
    /// The job's run.
    pub run: u32,
    /// The phase.
    pub kind: Kind,
    /// The task's index in it.
    pub index: usize,
    /// The attempt.
    pub attempt: u32,
}

impl<'a> TaskName<'a> {
    /// Reads an id; none if it is not of this form.
    #[must_use]
    pub fn parse(id: &'a str) -> Option<Self> {
        let (output, attempt) = id.rsplit_once(".a")?;
        let (job, run, kind, index) = parse_output(output)?;
        Some(Self {
            job,
            run,
            kind,
            index,
            attempt: attempt.parse().ok()?,
        })
    }
}

/// Reads an output name, `NAME.RUN.mI`.
#[must_use]
pub fn parse_output(name: &str) -> Option<(&str, u32, Kind, usize)> {
    let (prefix, task) = name.rsplit_once('.')?;
    let (job, run) = prefix.rsplit_once('.')?;
    let (kind, index) = if let Some(index) = task.strip_prefix('m') {
        (Kind::Map, index)
    } else {
        (Kind::Reduce, task.strip_prefix('r')?)
    };
    Some((job, run.parse().ok()?, kind, index.parse().ok()?))
}

/// By reference, as serde calls it.
fn is_zero(number: &u32) -> bool {
    *number == 0
}
