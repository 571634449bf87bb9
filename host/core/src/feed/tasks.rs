//! Tasks in a policy's picture: kept up only while some policy wants them.

use std::collections::{BTreeMap, BTreeSet};

use proffer_codec::codec_struct;
use proffer_model::policy::{Changes, ChangesPart, Noun};
use proffer_model::{FrameworkId, LaunchNumber, TaskId};

use super::{Feed, Handles};
use crate::machine::Core;

/// Rows of one part: a task of four pieces is a hundred bytes, and the contract bounds a part to 4 MiB.
pub(super) const TASKS_PER_PART: usize = 32_768;

/// Tasks that hold resources, by launch.
#[derive(Debug, Default)]
pub(crate) struct TaskFeed {
    /// Somebody is told of them.
    fed: bool,
    handles: BTreeMap<LaunchNumber, u32>,
    launches: BTreeMap<u32, LaunchNumber>,
    /// Not told yet.
    new: BTreeSet<LaunchNumber>,
    given: Handles,
}

codec_struct!(TaskFeed {
    fed,
    handles,
    launches,
    new,
    given
});

impl TaskFeed {
    fn add(&mut self, launch: LaunchNumber) {
        let handle = self.given.next();
        self.handles.insert(launch, handle);
        self.launches.insert(handle, launch);
        self.new.insert(launch);
    }

    pub(super) fn is_fed(&self) -> bool {
        self.fed
    }

    /// It was told that these are gone.
    pub(super) fn give_back(&mut self, handle: u32) {
        self.given.give_back(handle);
    }
}

impl Feed {
    /// A task holds resources.
    pub(crate) fn task_holds(&mut self, launch: LaunchNumber) {
        if self.tasks.fed {
            self.tasks.add(launch);
        }
    }

    /// A task holds nothing any more.
    pub(crate) fn task_holds_no_more(&mut self, launch: LaunchNumber) {
        let Some(handle) = self.tasks.handles.remove(&launch) else {
            return;
        };
        self.tasks.launches.remove(&handle);
        if self.tasks.new.remove(&launch) {
            self.tasks.give_back(handle);
        } else {
            self.forget(Noun::Task, handle);
        }
    }

    /// By the launches that are known to policies.
    pub(crate) fn fed_tasks(&self) -> Option<impl Iterator<Item = LaunchNumber>> {
        let fed = self.tasks.fed;
        fed.then(|| self.tasks.handles.keys().copied())
    }
}

impl Core {
    /// Whose task a policy means.
    pub(crate) fn task_of_handle(&self, handle: u32) -> Option<&(FrameworkId, TaskId)> {
        self.launches.get(self.feed.tasks.launches.get(&handle)?)
    }

    /// Everything is to be told of tasks; whether that is more than one part.
    pub(super) fn all_tasks_are_new(&mut self) -> bool {
        let tasks = self.frameworks.values().flat_map(|fw| fw.tasks.values());
        let holding = tasks.filter(|task| task.holds).map(|task| task.launch);
        let feed = &mut self.feed.tasks;
        feed.fed = true;
        for launch in holding {
            if !feed.handles.contains_key(&launch) {
                feed.add(launch);
            }
        }
        feed.new = feed.handles.keys().copied().collect();
        feed.new.len() > TASKS_PER_PART
    }

    /// Parts of tasks, until what is left is within one.
    pub(super) fn task_parts(&mut self, part: ChangesPart, left: usize) -> Vec<Changes> {
        let mut parts = Vec::new();
        while self.feed.tasks.new.len() > left {
            let mut changes = Changes {
                part,
                ..Changes::default()
            };
            self.put_tasks(&mut changes);
            self.put_names(&mut changes);
            parts.push(changes);
        }
        parts
    }

    /// As many as one part holds.
    pub(super) fn put_tasks(&mut self, changes: &mut Changes) {
        for _ in 0..TASKS_PER_PART {
            let Some(launch) = self.feed.tasks.new.pop_first() else {
                return;
            };
            self.put_task(changes, launch);
        }
    }

    fn put_task(&mut self, changes: &mut Changes, launch: LaunchNumber) {
        let Some(&handle) = self.feed.tasks.handles.get(&launch) else {
            return;
        };
        let found = self.launches.get(&launch);
        let task = found.and_then(|(framework, id)| self.task(*framework, id));
        let Some(task) = task else { return };
        let spec = std::sync::Arc::clone(&task.spec);
        let rows = &mut changes.tasks;
        rows.handle.push(handle);
        rows.client.push(task.client.0);
        rows.agent.push(task.agent.0);
        rows.priority.push(spec.priority);
        rows.started.push(task.launched_at.0);
        let grace = u32::try_from(spec.template.grace.0);
        rows.grace.push(grace.unwrap_or(u32::MAX));
        let mut pieces = 0;
        self.handles.each_piece(&spec.resources, |piece| {
            pieces += 1;
            rows.terms.push(piece.terms);
            rows.kind.push(piece.kind);
            rows.amount.push(piece.amount.milli());
        });
        rows.pieces.push(pieces);
    }

    /// Once no policy wants them, nothing is kept of them.
    pub(super) fn forget_unwanted_tasks(&mut self) {
        if self.feed.tasks.fed && !self.wants_tasks() {
            self.feed.tasks = TaskFeed::default();
            self.feed.removed.retain(|gone| gone.what != Noun::Task);
        }
    }
}
