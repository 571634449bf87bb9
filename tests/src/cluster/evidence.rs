//! What really ran: the host's records of tasks, against what is in the agents' sandboxes.

use std::collections::BTreeMap;
use std::fs;

use proffer_model::TaskState;
use proffer_rpc::operator::{Task, TaskQuery};
use serde_json::Value;

use super::Cluster;

/// More than any job here has.
const TASKS_MAX: usize = 10_000;

/// What was found, for a test's report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Launches that the host has on record.
    pub launches: usize,
    /// Of these, tasks that ran to a good end.
    pub finished: usize,
    /// Tasks that the framework asked for once more, because an attempt failed or an output was lost.
    pub asked_again: u64,
}

impl Cluster {
    /// Checks that no task is lost and that none ran twice without the framework having asked.
    ///
    /// - Every task that the host knows has an end, and the framework has asked for it.
    /// - A launch has a sandbox on one agent at most.
    /// - A program that ran to its end wrote its one line there once: a number was not run twice.
    /// - A map or reduce function has finished as often as once more than the framework asked for it
    ///   again, at most.
    ///
    /// # Panics
    /// If one of these does not hold.
    pub fn assert_nothing_lost_or_doubled(&self) -> Evidence {
        let job = self.job(TASKS_MAX).expect("the framework answers");
        let attempts = attempts(&job);
        // The last kills are still on their way when a job has ended.
        let mut tasks = Vec::new();
        self.wait_for("all tasks have ended", |cluster| {
            tasks = cluster.tasks();
            !tasks.is_empty() && tasks.iter().all(|task| task.state.is_final())
        });
        let lines = self.lines_by_launch();
        let mut evidence = Evidence {
            launches: tasks.len(),
            ..Evidence::default()
        };
        let mut finished: BTreeMap<&str, u64> = BTreeMap::new();
        for task in &tasks {
            let found = lines.get(&task.launch.0).map_or(&[][..], Vec::as_slice);
            assert!(found.len() <= 1, "{} is on two agents", task.launch);
            let runs = found.first().copied().unwrap_or(0);
            assert!(runs <= 1, "{} ran {runs} times: {task:?}", task.launch);
            let (function, attempt) = split(task.id.as_str());
            let asked = attempts.get(function).copied().unwrap_or(0);
            assert!(attempt < asked, "nobody asked for {task:?}");
            if task.state == TaskState::Finished {
                assert_eq!(runs, 1, "it finished and left no word of it: {task:?}");
                evidence.finished += 1;
                *finished.entry(function).or_default() += 1;
            }
        }
        for (function, asked) in attempts {
            let ended = finished.get(function.as_str()).copied().unwrap_or(0);
            assert!(
                (1..=asked).contains(&ended),
                "{function}: {ended} of {asked}"
            );
            evidence.asked_again += asked - 1;
        }
        evidence
    }

    fn tasks(&self) -> Vec<Task> {
        let Some(client) = self.client() else {
            return Vec::new();
        };
        let mut tasks = Vec::new();
        let mut query = TaskQuery::default();
        loop {
            let Ok(page) = self.runtime.block_on(client.tasks(query.clone())) else {
                return Vec::new();
            };
            tasks.extend(page.rows);
            if page.next.is_empty() {
                return tasks;
            }
            query.page.token = page.next;
        }
    }

    /// For each launch that has a sandbox: how many lines its program has written, on each agent.
    fn lines_by_launch(&self) -> BTreeMap<u64, Vec<usize>> {
        let mut lines: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for number in 0..self.agents.len() {
            for runner in fs::read_dir(self.runners(number))
                .into_iter()
                .flatten()
                .flatten()
            {
                let tasks = fs::read_dir(runner.path().join("tasks"));
                for sandbox in tasks.into_iter().flatten().flatten() {
                    let name = sandbox.file_name().to_string_lossy().into_owned();
                    let launch = name.rsplit_once('-').map(|(_, number)| number.parse());
                    let Some(Ok(launch)) = launch else { continue };
                    let stdout = fs::read_to_string(sandbox.path().join("work/stdout"));
                    let written = stdout.map_or(0, |text| text.lines().count());
                    lines.entry(launch).or_default().push(written);
                }
            }
        }
        lines
    }
}

/// How many attempts the framework has made of each function: those of `count.1.m3` are `count.1.m3.a0`
/// and so on. It remembers the last ones.
fn attempts(job: &Value) -> BTreeMap<String, u64> {
    let mut attempts: BTreeMap<String, u64> = BTreeMap::new();
    for task in job["tasks"].as_array().expect("tasks") {
        for attempt in task["attempts"].as_array().expect("attempts") {
            let (function, number) = split(attempt["task"].as_str().expect("an id"));
            let made = attempts.entry(function.to_owned()).or_default();
            *made = (*made).max(number + 1);
        }
    }
    attempts
}

/// `count.1.m3.a0` as the function and the attempt's number.
fn split(id: &str) -> (&str, u64) {
    let (function, number) = id.rsplit_once(".a").expect("an attempt");
    (function, number.parse().expect("a number"))
}
