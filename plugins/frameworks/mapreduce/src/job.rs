//! A job: what was asked for, and where it stands.

use proffer_model::{Amount, Bundle};
use proffer_sdk::framework::{AgentId, Shape, Timestamp};
use serde::{Deserialize, Serialize};

use crate::split::{Inputs, Slice};
use crate::task::{Kind, TaskRecord};

/// What the store keeps of a job, apart from inputs and tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Unique among the jobs that are remembered.
    pub name: String,
    /// Counts jobs; never used again.
    pub run: u32,
    /// Under which of the framework's roles.
    pub role: String,
    /// Bytes of a split; none: whole files.
    pub split: Option<u64>,
    /// How many map tasks that makes.
    pub maps: u32,
    /// How many reduce tasks, which is the number of partitions.
    pub reducers: u32,
    /// The map function.
    pub map: Function,
    /// The reduce function.
    pub reduce: Function,
    /// So many failures of one task, and the job is given up.
    pub failures_max: u32,
    /// When to start backup tasks; none: never.
    pub straggler: Option<Straggler>,
    /// When it was submitted.
    pub submitted: Timestamp,
    /// When its first task was launched.
    pub first_launch: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Where it stands.
    pub state: JobState,
    /// Why it failed, or empty.
    pub reason: String,
    /// Whose outputs were lost and when, so that a large loss is one record.
    pub lost: Vec<Lost>,
    /// What has been counted.
    pub counters: Counters,
    /// The demand as last stated, map and reduce.
    pub demand: [u32; 2],
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It maps or reduces.
    Running,
    /// All reduce tasks have finished.
    Succeeded,
    /// It was given up; the record's `reason` says why.
    Failed,
}

/// A map or reduce function and what one task of it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Source of the component, as an input's.
    pub component: String,
    /// Thousandths of a cpu.
    pub cpus: i64,
    /// Thousandths of a MiB.
    pub mem: i64,
    /// Thousandths of a MiB.
    pub disk: i64,
}

/// When a task is a straggler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Straggler {
    /// It has run so many times as long as the median of its phase.
    pub factor: u32,
    /// And at least so long, in ms.
    pub after_ms: u64,
}

/// Outputs that are no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Of all tasks on this agent; none: of the map tasks on every agent.
    pub agent: Option<AgentId>,
    /// Of attempts that ended until then.
    pub at: Timestamp,
}

/// What a job's report shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Attempts launched, backups included.
    pub launched: u32,
    /// Attempts that failed and count against the task.
    pub failed: u32,
    /// Tasks whose finished output was lost, so that they ran again.
    pub rerun: u32,
    /// Backup attempts launched.
    pub backups: u32,
    /// Tasks that were won by a backup.
    pub backups_won: u32,
}

/// A job as it is worked on.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its record.
    pub record: JobRecord,
    /// Its input files.
    pub inputs: Inputs,
    /// Map tasks, by index.
    pub maps: Vec<TaskRecord>,
    /// Reduce tasks, by partition.
    pub reduces: Vec<TaskRecord>,
    /// What has to be written.
    pub changed: Changed,
}

/// What of a job has changed since it was written.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// The record.
    pub record: bool,
    /// Tasks, perhaps several times.
    pub tasks: Vec<(Kind, usize)>,
    /// Ids of attempts to be ended.
    pub kills: Vec<String>,
}

impl JobRecord {
    /// `NAME.RUN`, the beginning of its tasks' ids, output names and demand keys.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}.{}", self.name, self.run)
    }

    /// The key of a phase's demand.
    #[must_use]
    pub fn demand_key(&self, kind: Kind) -> String {
        format!("{}.{}", self.prefix(), kind.phase())
    }

    /// The output name of a task.
    #[must_use]
    pub fn output(&self, kind: Kind, index: usize) -> String {
        format!("{}.{}{index}", self.prefix(), kind.letter())
    }

    /// The function of a phase.
    #[must_use]
    pub fn function(&self, kind: Kind) -> &Function {
        match kind {
            Kind::Map => &self.map,
            Kind::Reduce => &self.reduce,
        }
    }

    /// Notes that outputs are lost.
    pub fn lose(&mut self, lost: Lost) {
        // A later loss of the same agent covers the earlier one, and one of all agents all.
        self.lost
            .retain(|old| lost.agent.is_some() && old.agent != lost.agent);
        self.lost.push(lost);
    }
}

impl Function {
    /// What one task of it holds.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape {
            cpus: self.cpus,
            mem: self.mem,
            disk: self.disk,
            ..Shape::default()
        }
    }

    /// The same for people.
    #[must_use]
    pub fn resources(&self) -> String {
        Bundle {
            cpus: Amount::from_milli(self.cpus),
            mem: Amount::from_milli(self.mem),
            disk: Amount::from_milli(self.disk),
            ..Bundle::default()
        }
        .to_string()
    }
}

impl Job {
    /// The tasks of a phase.
    #[must_use]
    pub fn tasks(&self, kind: Kind) -> &[TaskRecord] {
        match kind {
            Kind::Map => &self.maps,
            Kind::Reduce => &self.reduces,
        }
    }

    /// One task, to be changed: it will be written.
    pub fn task_mut(&mut self, kind: Kind, index: usize) -> Option<&mut TaskRecord> {
        let task = match kind {
            Kind::Map => self.maps.get_mut(index),
            Kind::Reduce => self.reduces.get_mut(index),
        }?;
        self.changed.tasks.push((kind, index));
        Some(task)
    }

    /// Whether it still works.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.record.state == JobState::Running
    }

    /// Whether every map's output is there, so that reduce tasks may start.
    #[must_use]
    pub fn maps_done(&self) -> bool {
        self.maps.iter().all(TaskRecord::is_done)
    }

    /// The phases in which tasks may be launched now. Reduce tasks need all maps.
    #[must_use]
    pub fn open_phases(&self) -> &'static [Kind] {
        match (self.is_running(), self.maps_done()) {
            (false, _) => &[],
            (true, false) => &[Kind::Map],
            (true, true) => &[Kind::Reduce],
        }
    }

    /// The part of an input that a map task reads.
    #[must_use]
    pub fn slice(&self, index: usize) -> Option<Slice<'_>> {
        self.inputs.slice(self.record.split, index)
    }

    /// When something ends, for what must come after: a step's time may be before that of an earlier
    /// one, if another host goes on whose clock is behind.
    #[must_use]
    pub fn time_of_end(&self, now: Timestamp) -> Timestamp {
        let losses = self.record.lost.iter();
        losses.map(|lost| lost.at + 1).fold(now, Timestamp::max)
    }

    /// When outputs are found lost: not before any of them was written.
    #[must_use]
    pub fn time_of_loss(&self, now: Timestamp) -> Timestamp {
        let tasks = self.maps.iter().chain(&self.reduces);
        let ends = tasks.flat_map(|task| task.attempts.iter().filter_map(|attempt| attempt.ended));
        ends.fold(now, Timestamp::max)
    }

    /// Takes the outputs away that `lost` names, in memory; the record remembers it.
    pub fn apply_lost(&mut self, lost: Lost) -> u32 {
        let mut tasks = 0;
        for task in &mut self.maps {
            tasks += u32::from(task.lose_output(lost));
        }
        // What a reduce task could not read says nothing about what others have written.
        if lost.agent.is_some() {
            for task in &mut self.reduces {
                tasks += u32::from(task.lose_output(lost));
            }
        }
        tasks
    }
}
