//! What facts say of tasks, applied live and in recovery alike, and what the host decides itself.

use std::sync::Arc;

use proffer_model::fact::{Effect, Fact};
use proffer_model::framework::Event as Told;
use proffer_model::{FrameworkId, Reason, TaskId, TaskState};

use crate::machine::Core;
use crate::tasks::{Task, host_update};

impl Core {
    /// The host itself decides a task's state, durably, and tells its framework.
    pub(crate) fn decide_task(
        &mut self,
        framework: FrameworkId,
        id: &TaskId,
        state: TaskState,
        why: Reason,
    ) {
        let now = self.now;
        let Some(task) = self
            .frameworks
            .get(&framework)
            .and_then(|f| f.tasks.get(id))
        else {
            return;
        };
        if task.state.is_final() {
            return;
        }
        let update = host_update(id.clone(), Some(task.agent), state, why.clone(), now);
        let effect = Effect::TaskDecided {
            task: id.clone(),
            state,
            why,
            at: now,
        };
        self.apply_task_effect(framework, &effect);
        self.facts.push(Fact::Changed { framework, effect });
        self.queue_durable(framework, Told::Updates(vec![update]), None);
    }

    /// Applies what a fact says of a task; live and in recovery alike.
    pub(crate) fn apply_task_effect(&mut self, framework: FrameworkId, effect: &Effect) {
        match effect {
            Effect::TaskLaunched(record) => {
                let client = self.client_of(framework, &record.role);
                self.launches
                    .insert(record.launch, (framework, record.task.id.clone()));
                if let Some(agent) = self.agents.get_mut(&record.agent) {
                    agent.launches.insert(record.launch);
                }
                if let Some(fw) = self.frameworks.get_mut(&framework) {
                    fw.tasks
                        .insert(record.task.id.clone(), Arc::new(Task::new(record, client)));
                    self.feed.task_holds(record.launch);
                }
            }
            Effect::TaskAcknowledged {
                task: id,
                sequence,
                state,
                why,
                exit,
                at,
            } => {
                let Some(fw) = self.frameworks.get_mut(&framework) else {
                    return;
                };
                let Some(task) = fw.tasks.get_mut(id).map(Arc::make_mut) else {
                    return;
                };
                task.acknowledged = task.acknowledged.max(*sequence);
                task.queued = task.queued.max(*sequence);
                task.seen = true;
                if *state == TaskState::Running && task.running_at.is_none() {
                    task.running_at = Some(*at);
                }
                if task.state == TaskState::Unreachable && !state.is_final() {
                    // Told before its agent went away, taken after: what the host said since stands.
                    return;
                }
                let first = task.told(*state, why, *exit, *at);
                if first && task.queued == task.acknowledged {
                    task.queued_state = *state;
                }
                if first && state.is_final() {
                    self.task_ended(framework, id);
                }
                // Live, the agent's newest word was heard with the update and may be newer.
                if self.replaying || state.is_final() {
                    self.task_heard_latest(framework, id, *state);
                }
            }
            Effect::TaskDecided {
                task: id,
                state,
                why,
                at,
            } => {
                let Some(fw) = self.frameworks.get_mut(&framework) else {
                    return;
                };
                let Some(task) = fw.tasks.get_mut(id).map(Arc::make_mut) else {
                    return;
                };
                let first = task.told(*state, why, None, *at);
                if first {
                    task.queued_state = *state;
                }
                if first && state.is_final() {
                    self.task_ended(framework, id);
                    self.task_heard_latest(framework, id, *state);
                }
            }
            Effect::TaskForgotten { task: id } => self.forget_task(framework, id),
            Effect::OutputBound(output) => self.apply_output(framework, output),
            _ => {}
        }
    }

    /// Its framework knows its end.
    fn task_ended(&mut self, framework: FrameworkId, id: &TaskId) {
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let Some(task) = fw.tasks.get(id) else { return };
        let (agent, launch) = (task.agent, task.launch);
        fw.ended.push_back(id.clone());
        if let Some(agent) = self.agents.get_mut(&agent) {
            agent.launches.remove(&launch);
        }
    }

    fn forget_task(&mut self, framework: FrameworkId, id: &TaskId) {
        self.release_task(framework, id);
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        if let Some(task) = fw.tasks.remove(id) {
            self.launches.remove(&task.launch);
            if let Some(agent) = self.agents.get_mut(&task.agent) {
                agent.launches.remove(&task.launch);
            }
        }
        if fw.ended.front() == Some(id) {
            fw.ended.pop_front();
        } else {
            fw.ended.retain(|ended| ended != id);
        }
    }

    /// Drops the oldest ended tasks beyond the limit.
    pub(crate) fn bound_ended_tasks(&mut self, framework: FrameworkId, effects: &mut Vec<Effect>) {
        let max = self.config.ended_tasks_max;
        loop {
            let Some(fw) = self.frameworks.get(&framework) else {
                return;
            };
            if fw.ended.len() <= max {
                return;
            }
            let Some(oldest) = fw.ended.front().cloned() else {
                return;
            };
            let effect = Effect::TaskForgotten { task: oldest };
            self.apply_task_effect(framework, &effect);
            effects.push(effect);
        }
    }
}
