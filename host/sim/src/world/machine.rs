//! An agent's machine: runners and tasks, which outlive the agent's process, and sandboxes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_agent::logic::{End, Found, Outcome};
use proffer_model::agent::Launch;
use proffer_model::{Bundle, Duration, Executor, FrameworkId, LaunchNumber};

use crate::check::{Checked, Start};

use super::{Occurrence, World, delay};

/// The signal of a stop.
const TERM: i32 = 15;

/// What an agent wants of a runner.
#[derive(Debug)]
pub(super) enum Command {
    Start(Arc<Launch>),
    Stop(LaunchNumber, Duration),
    Inquire(Vec<LaunchNumber>),
    Forget(LaunchNumber),
    Dismiss,
}

/// The machine, without the agent's process.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// Counts its boots.
    pub(super) boot: u64,
    runners: BTreeMap<FrameworkId, Runner>,
    /// Status files: tasks that were started and not forgotten.
    tasks: BTreeMap<LaunchNumber, Task>,
    /// Sandboxes, and whether each is served.
    sandboxes: BTreeMap<LaunchNumber, bool>,
}

/// A framework's runner.
#[derive(Debug, Default)]
struct Runner {
    runs: bool,
    /// The agent's process that is attached, or was last: commands of those before are dropped.
    attached: u64,
}

#[derive(Debug)]
struct Task {
    framework: FrameworkId,
    holds: Bundle,
    status: Status,
    /// Grows with each stop that counts: the earlier end is off then.
    stops: u64,
    /// When it ends.
    until: u64,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Status {
    Running,
    Ended(End),
    /// It ran in a runner that died.
    Lost,
}

impl Machine {
    /// Everything that runs ends, and the next boot is another.
    pub(super) fn crash(&mut self) {
        self.boot += 1;
        let all: Vec<FrameworkId> = self.runners.keys().copied().collect();
        for framework in all {
            self.runner_dies(framework);
        }
    }

    /// A runner dies, and its tasks with it.
    fn runner_dies(&mut self, framework: FrameworkId) -> Vec<LaunchNumber> {
        if let Some(runner) = self.runners.get_mut(&framework) {
            runner.runs = false;
        }
        let own = self
            .tasks
            .iter_mut()
            .filter(|(_, task)| task.framework == framework && task.status == Status::Running);
        own.map(|(launch, task)| {
            task.status = Status::Lost;
            *launch
        })
        .collect()
    }

    pub(super) fn make_sandbox(&mut self, launch: LaunchNumber) {
        self.sandboxes.insert(launch, false);
    }

    pub(super) fn publish(&mut self, launch: LaunchNumber, finished: bool) {
        if let Some(serves) = self.sandboxes.get_mut(&launch) {
            *serves = finished;
        }
    }

    pub(super) fn remove_sandbox(&mut self, launch: LaunchNumber) {
        self.sandboxes.remove(&launch);
    }

    pub(super) fn serves(&self, launch: LaunchNumber) -> bool {
        self.sandboxes.get(&launch).copied().unwrap_or(false)
    }

    /// Runners that run, for faults to choose from.
    pub(super) fn running(&self) -> Vec<FrameworkId> {
        let runs = self.runners.iter().filter(|(_, runner)| runner.runs);
        runs.map(|(framework, _)| *framework).collect()
    }

    /// Whose a task is that has a status file.
    pub(super) fn owner(&self, launch: LaunchNumber) -> Option<FrameworkId> {
        self.tasks.get(&launch).map(|task| task.framework)
    }

    /// Whether any task runs.
    pub(super) fn any_runs(&self) -> bool {
        let mut tasks = self.tasks.values();
        tasks.any(|task| task.status == Status::Running)
    }

    fn found(&self, launch: LaunchNumber) -> Found {
        match self.tasks.get(&launch).map(|task| &task.status) {
            None => Found::NeverStarted,
            Some(Status::Running) => Found::Running,
            Some(Status::Ended(end)) => Found::Ended(end.clone()),
            Some(Status::Lost) => Found::Lost,
        }
    }
}

impl World {
    /// A command reaches a framework's runner.
    pub(super) fn runner_told(
        &mut self,
        agent: usize,
        life: u64,
        framework: FrameworkId,
        command: Command,
    ) -> Checked {
        let alive = self.agents[agent].life() == Some(life);
        let runners = &mut self.agents[agent].machine.runners;
        let runner = runners.entry(framework).or_default();
        // What a dead process had written still arrives, until its successor has attached.
        let late = !alive && (runner.attached != life || !runner.runs);
        if late {
            return Ok(());
        }
        match command {
            Command::Start(launch) => {
                runner.attached = life;
                runner.runs = true;
                self.start_task(agent, life, &launch)
            }
            Command::Stop(launch, grace) => {
                if runner.runs {
                    self.stop_task(agent, launch, grace);
                }
                Ok(())
            }
            Command::Inquire(launches) => {
                runner.attached = life;
                for launch in launches {
                    let found = self.agents[agent].machine.found(launch);
                    self.news(agent, life, launch, found);
                }
                Ok(())
            }
            Command::Forget(launch) => {
                let tasks = &mut self.agents[agent].machine.tasks;
                if tasks
                    .get(&launch)
                    .is_some_and(|task| task.status != Status::Running)
                {
                    tasks.remove(&launch);
                }
                Ok(())
            }
            Command::Dismiss => {
                let machine = &self.agents[agent].machine;
                let busy = machine
                    .tasks
                    .values()
                    .any(|task| task.framework == framework && task.status == Status::Running);
                if !busy {
                    self.agents[agent].machine.runner_dies(framework);
                }
                Ok(())
            }
        }
    }

    fn start_task(&mut self, agent: usize, life: u64, launch: &Launch) -> Checked {
        let number = launch.number;
        let known = self.agents[agent].machine.tasks.contains_key(&number);
        if !known {
            let (runs_for, outcome) = self.fate(launch);
            let until = self.now + runs_for;
            let machine = &self.agents[agent].machine;
            let running = machine.tasks.values();
            let running = running.filter(|task| task.status == Status::Running);
            let others: Vec<&Bundle> = running.map(|task| &task.holds).collect();
            let holds = launch.task.resources.total();
            let start = Start {
                machine: agent,
                launch: number,
                holds: &holds,
                total: &self.agents[agent].total,
                others: &others,
                books_may_differ: self.scenario.removal,
            };
            let check = &mut self.check;
            check.machines.started(&start, &mut check.tally)?;
            let task = Task {
                framework: launch.framework,
                holds,
                status: Status::Running,
                stops: 0,
                until,
                outcome,
            };
            self.agents[agent].machine.tasks.insert(number, task);
            let ends = Occurrence::TaskEnds {
                agent,
                launch: number,
                stop: 0,
            };
            self.at(until, ends);
        }
        let found = self.agents[agent].machine.found(number);
        self.news(agent, life, number, found);
        Ok(())
    }

    /// How long a task runs by itself, and how it ends.
    fn fate(&mut self, launch: &Launch) -> (u64, Outcome) {
        let dice = &mut self.dice.machine;
        let runs_for = match &launch.task.template.executor {
            Executor::Shell(line) => {
                let number = line.strip_prefix("run ").map(str::parse);
                number.and_then(Result::ok).unwrap_or(1)
            }
            _ => 100 + delay(dice, 20_000),
        };
        let fails = !self.calm && dice.below(1_000) < self.scenario.faults.tasks_fail;
        if !fails {
            return (runs_for, Outcome::Exited(0));
        }
        let outcome = match dice.below(3) {
            0 => Outcome::Exited(1),
            1 => Outcome::Signalled(11),
            _ => Outcome::OutOfMemory("it wanted more".to_owned()),
        };
        (dice.below(runs_for.min(10_000)), outcome)
    }

    /// TERM now, KILL after the grace: most end at once, some fight.
    fn stop_task(&mut self, agent: usize, launch: LaunchNumber, grace: Duration) {
        let wait = if self.dice.machine.one_in(4) {
            grace.0
        } else {
            self.dice.machine.below(50).min(grace.0)
        };
        let until = self.now + wait;
        let Some(task) = self.agents[agent].machine.tasks.get_mut(&launch) else {
            return;
        };
        if task.status == Status::Running && until < task.until {
            task.stops += 1;
            task.until = until;
            task.outcome = Outcome::Signalled(TERM);
            let stop = task.stops;
            self.at(
                until,
                Occurrence::TaskEnds {
                    agent,
                    launch,
                    stop,
                },
            );
        }
    }

    pub(super) fn task_ends(&mut self, agent: usize, launch: LaunchNumber, stop: u64) {
        let Some(task) = self.agents[agent].machine.tasks.get_mut(&launch) else {
            return;
        };
        if task.status != Status::Running || task.stops != stop {
            return;
        }
        task.status = Status::Ended(End {
            outcome: task.outcome.clone(),
            stopped: stop > 0,
            data: Vec::new(),
        });
        let framework = task.framework;
        self.tell_attached(agent, framework, [launch]);
    }

    /// A runner dies by itself.
    pub(super) fn runner_dies(&mut self, agent: usize, framework: FrameworkId) {
        let lost = self.agents[agent].machine.runner_dies(framework);
        self.tell_attached(agent, framework, lost);
    }

    /// The agent that is attached to the runner hears what became of its tasks.
    fn tell_attached(
        &mut self,
        agent: usize,
        framework: FrameworkId,
        launches: impl IntoIterator<Item = LaunchNumber>,
    ) {
        let runner = self.agents[agent].machine.runners.get(&framework);
        let attached = runner.map(|runner| runner.attached);
        let Some(life) = attached.filter(|life| self.agents[agent].life() == Some(*life)) else {
            return;
        };
        for launch in launches {
            let found = self.agents[agent].machine.found(launch);
            self.news(agent, life, launch, found);
        }
    }

    /// News of one machine's runners arrive in order.
    fn news(&mut self, agent: usize, life: u64, launch: LaunchNumber, found: Found) {
        let wait = delay(&mut self.dice.machine, 40);
        let now = self.now;
        let Some(process) = self.agents[agent].process_mut(life) else {
            return;
        };
        process.news_last = (process.news_last + 1).max(now + wait);
        let at = process.news_last;
        let found = Box::new(found);
        self.at(
            at,
            Occurrence::News {
                agent,
                life,
                launch,
                found,
            },
        );
    }
}
