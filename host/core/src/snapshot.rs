//! The fewest facts that say what a core knows.
//!
//! A million tasks are two million facts, which take seconds to make, and the loop has none to spare:
//! it only takes hold of the tasks, which stand still from then on (whoever changes one changes a copy),
//! and the facts are made of them by whoever writes them.

use std::sync::Arc;

use proffer_model::fact::{Effect, Fact, FrameworkOptions, LaunchRecord, ReservationFate};
use proffer_model::framework::Standing;
use proffer_model::{FrameworkId, TaskState};

use crate::framework::Framework;
use crate::machine::Core;
use crate::tasks::Task;

/// Facts, some of them still to be made.
#[derive(Debug)]
pub struct Snapshot(Vec<Part>);

#[derive(Debug)]
enum Part {
    Facts(Vec<Fact>),
    Tasks {
        framework: FrameworkId,
        /// In their order: the oldest are forgotten first, the first to finish keeps its name.
        ended: Vec<Arc<Task>>,
        live: Vec<Arc<Task>>,
    },
}

impl Snapshot {
    /// The facts, in the order in which they must be replayed.
    #[must_use]
    pub fn into_facts(self) -> Vec<Fact> {
        let mut facts = Vec::with_capacity(self.0.iter().map(Part::facts_usual).sum());
        for part in self.0 {
            match part {
                Part::Facts(part) => facts.extend(part),
                Part::Tasks {
                    framework,
                    ended,
                    mut live,
                } => {
                    live.sort_unstable_by_key(|task| task.launch);
                    for task in ended.iter().chain(&live) {
                        task_effects(task, |effect| {
                            facts.push(Fact::Changed { framework, effect });
                        });
                    }
                }
            }
        }
        facts
    }
}

impl Part {
    fn facts_usual(&self) -> usize {
        match self {
            Self::Facts(facts) => facts.len(),
            Self::Tasks { ended, live, .. } => facts_of_tasks(ended.len(), live.len()),
        }
    }
}

/// How many facts so many tasks come to, unless kills were asked for. An ended one ran before.
fn facts_of_tasks(ended: usize, live: usize) -> usize {
    3 * ended + 2 * live
}

impl Core {
    /// The fewest facts that [`Core::recover`] needs to get here.
    ///
    /// Only what is durable is in them, so a snapshot may replace all facts up to the last that is
    /// persisted; call it when nothing is held back ([`Core::held_effects`] is 0).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut facts = vec![Fact::IdsReserved {
            offers_below: self.ids.below,
            requests_below: self.ids.requests_below,
        }];
        facts.extend(
            self.handles
                .roles
                .weighted()
                .map(|(role, weight)| Fact::RoleSet {
                    role: role.clone(),
                    weight,
                }),
        );
        facts.push(Fact::HostAlive { at: self.alive_at });
        let gone = self.gone.records.values();
        facts.extend(gone.map(|record| Fact::AgentGone(Box::new(record.clone()))));
        for (id, agent) in self.agents.iter() {
            facts.push(Fact::AgentSet(Box::new(agent.record.clone())));
            if agent.standing == Standing::Unreachable {
                facts.push(Fact::AgentUnreachable {
                    agent: *id,
                    since: agent.since,
                });
            }
        }
        let shaped = self.agents.values().filter(|agent| agent.is_shaped());
        facts.extend(shaped.map(|agent| Fact::AgentShaped(Box::new(agent.shape()))));
        let quotas = self.handles.roles.with_quota();
        facts.extend(quotas.map(|(role, quotas)| Fact::QuotaSet {
            role: role.clone(),
            quotas: quotas.to_vec(),
        }));
        facts.extend(self.allowed.as_ref().map(|agents| Fact::AgentsAllowed {
            agents: Some(agents.iter().copied().collect()),
        }));
        facts.extend(self.policy_facts());
        facts.extend(self.role_policy_facts());
        let mut parts = Vec::new();
        for (framework, fw) in &self.frameworks {
            facts.push(Fact::FrameworkSet(Box::new(fw.record.clone())));
            if fw.options != FrameworkOptions::default() {
                facts.push(Fact::FrameworkShaped {
                    framework: *framework,
                    options: Box::new(fw.options.clone()),
                });
            }
            if fw.reservations != ReservationFate::Keep {
                facts.push(Fact::ReservationsDecided {
                    framework: *framework,
                    fate: fw.reservations,
                });
            }
            let changed = |effect| Fact::Changed {
                framework: *framework,
                effect,
            };
            facts.extend(effects_before_tasks(fw).into_iter().map(changed));
            parts.push(Part::Facts(std::mem::take(&mut facts)));
            let ended = fw.ended.iter().filter_map(|id| fw.tasks.get(id));
            parts.push(Part::Tasks {
                framework: *framework,
                ended: ended.map(Arc::clone).collect(),
                live: fw.shared_live_tasks().map(Arc::clone).collect(),
            });
            let outputs = fw.outputs.by_age();
            let bound = outputs.map(|output| Effect::OutputBound(Box::new(output.clone())));
            facts.extend(bound.map(changed));
        }
        if self.next_framework > 1 {
            let last = FrameworkId(self.next_framework - 1);
            if !self.frameworks.contains_key(&last) {
                facts.push(Fact::FrameworkRemoved { framework: last });
            }
        }
        parts.push(Part::Facts(facts));
        Snapshot(parts)
    }

    /// About how many facts that comes to: those of agents and tasks, which are most of it.
    #[must_use]
    pub fn snapshot_len(&self) -> usize {
        let tasks = self.frameworks.values().map(|fw| {
            let ended = fw.ended.len();
            facts_of_tasks(ended, fw.tasks.len().saturating_sub(ended))
        });
        self.agents.len() + tasks.sum::<usize>()
    }
}

/// All that is a framework's own but its tasks and outputs.
fn effects_before_tasks(fw: &Framework) -> Vec<Effect> {
    let mut effects = Vec::new();
    if fw.started {
        effects.push(Effect::Started);
    }
    if let Some(record) = &fw.last_upgrade {
        effects.push(Effect::UpgradeTried(Box::new(record.clone())));
    }
    if fw.blamed.is_some() {
        effects.push(Effect::EventBlamed {
            event: fw.blamed.clone(),
        });
    }
    let skipped = fw.skipped.iter();
    effects.extend(skipped.map(|event| Effect::EventSkipped(Box::new(event.clone()))));
    if !fw.suppressed.is_empty() {
        effects.push(Effect::Suppressed {
            roles: fw.suppressed.iter().cloned().collect(),
        });
    }
    for (number, event) in &fw.durable {
        effects.push(Effect::EventQueued {
            number: *number,
            event: event.clone(),
        });
    }
    for (id, timer) in &fw.timers {
        effects.push(Effect::TimerSet {
            id: id.clone(),
            due: timer.due,
            at: timer.at,
        });
    }
    for standing in fw.demands.values() {
        effects.push(Effect::DemandSet {
            demand: Box::new(standing.demand.clone()),
            since: standing.since,
        });
    }
    effects
}

fn task_effects(task: &Task, mut push: impl FnMut(Effect)) {
    let id = task.spec.id.clone();
    push(Effect::TaskLaunched(Box::new(LaunchRecord {
        launch: task.launch,
        agent: task.agent,
        role: task.role.clone(),
        task: Arc::clone(&task.spec),
        group: task.group,
        at: task.launched_at,
    })));
    if let Some(grace) = task.kill {
        push(Effect::TaskKillAsked {
            task: id.clone(),
            grace,
        });
    }
    if task.acknowledged > 0 {
        let ran = task.state != TaskState::Starting && task.state != TaskState::Staging;
        let running_at = task.running_at.filter(|_| ran);
        if let Some(at) = running_at {
            push(Effect::TaskAcknowledged {
                task: id.clone(),
                sequence: task.acknowledged,
                state: TaskState::Running,
                why: task.why.clone(),
                exit: None,
                at,
            });
        }
        // One that runs has said so above.
        if running_at.is_none() || task.state != TaskState::Running || task.exit.is_some() {
            push(Effect::TaskAcknowledged {
                task: id,
                sequence: task.acknowledged,
                state: task.state,
                why: task.why.clone(),
                exit: task.exit,
                at: task.ended_at.unwrap_or(task.launched_at),
            });
        }
    } else if task.state != TaskState::Staging {
        push(Effect::TaskDecided {
            task: id,
            state: task.state,
            why: task.why.clone(),
            at: task.ended_at.unwrap_or(task.launched_at),
        });
    }
}
