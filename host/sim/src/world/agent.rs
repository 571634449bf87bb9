//! An agent's process: its logic, its journal, and its loop, as the agent's shell runs them.

use std::collections::VecDeque;
use std::sync::Arc;

use proffer_agent::journal;
use proffer_agent::logic::{
    Action, Identity, Input, Logic, Outbox, Record, Recovered, Settings, Unprepared,
};
use proffer_model::agent::{Launch, Origin, SandboxFile};
use proffer_model::{AgentInfo, Bundle, FrameworkId, Reason, Remedy, Timestamp, code};

use crate::check::{Checked, Invariant, Violation};

use super::client::MAPS;
use super::machine::{Command, Machine};
use super::network::Cut;
use super::{Occurrence, World, clock, delay, jump, unclock};

/// Old sandboxes are looked for so often.
const CLEAN_EVERY: u64 = 30_000;

/// Inputs that share one sync.
const BATCH_MAX: usize = 16;

/// An agent's machine and process.
pub(super) struct AgentNode {
    name: String,
    pub(super) total: Bundle,
    key: String,
    lives: u64,
    process: Option<Process>,
    disk: Disk,
    pub(super) machine: Machine,
    pub(super) cut: Cut,
    /// A supervisor starts it again by itself.
    starts_again: bool,
}

/// What the journal's file holds.
#[derive(Debug, Default)]
struct Disk {
    synced: Vec<u8>,
    /// Written, not synced: a crash keeps any part of its beginning.
    tail: Vec<u8>,
    /// A whole new file, not yet in the place of the old one.
    draft: Option<Vec<u8>>,
}

/// The process.
pub(super) struct Process {
    life: u64,
    offset: i64,
    logic: Logic,
    inputs: VecDeque<Input>,
    /// Actions that wait for the journal.
    waiting: Option<Vec<Action>>,
    ticks: u64,
    due: Option<Timestamp>,
    /// Counts connections and attempts.
    pub(super) epoch: u64,
    pub(super) link: Option<u64>,
    /// When the last news of runners, and the last command to them, arrive.
    pub(super) news_last: u64,
    pub(super) commands_last: u64,
}

impl AgentNode {
    pub(super) fn new(seed: u64, agent: usize, total: &str) -> Self {
        Self {
            name: format!("a{agent}"),
            total: total.parse().unwrap_or_default(),
            key: format!("{seed:x}-{agent}"),
            lives: 0,
            process: None,
            disk: Disk::default(),
            machine: Machine::default(),
            cut: Cut::default(),
            starts_again: true,
        }
    }

    pub(super) fn process(&self, life: u64) -> Option<&Process> {
        self.process.as_ref().filter(|process| process.life == life)
    }

    pub(super) fn process_mut(&mut self, life: u64) -> Option<&mut Process> {
        self.process.as_mut().filter(|process| process.life == life)
    }

    pub(super) fn life(&self) -> Option<u64> {
        self.process.as_ref().map(|process| process.life)
    }

    /// Registered, nothing runs, nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            process.logic.is_registered()
                && process.logic.active() == 0
                && process.waiting.is_none()
                && process.inputs.is_empty()
        })
    }

    /// Nobody starts it again.
    pub(super) fn ends_for_good(&mut self) {
        self.starts_again = false;
    }

    /// It does not run, and never will again.
    pub(super) fn is_over(&self) -> bool {
        self.process.is_none() && !self.starts_again
    }

    fn identity(&self, recovered: &Recovered) -> Identity {
        let boot = format!("boot {}", self.machine.boot);
        match recovered.identity() {
            Some(known) => Identity {
                boot,
                ..known.clone()
            },
            None => Identity {
                agent: None,
                key: self.key.clone(),
                boot,
            },
        }
    }
}

impl Disk {
    /// What a reader finds after a crash: any part of what was not synced is there or not.
    fn crash(&mut self, kept: usize) {
        self.tail.truncate(kept);
        self.synced.append(&mut self.tail);
        self.draft = None;
    }

    fn sync(&mut self) {
        if let Some(draft) = self.draft.take() {
            self.synced = draft;
            self.tail.clear();
        } else {
            self.synced.append(&mut self.tail);
        }
    }
}

impl World {
    pub(super) fn agent_starts(&mut self, agent: usize) -> Checked {
        let (timings, cleaning) = (self.scenario.timings, self.scenario.cleaning);
        let offset = jump(&mut self.dice.machine);
        let node = &mut self.agents[agent];
        if node.process.is_some() {
            return Ok(());
        }
        let damaged = |text: String| Violation {
            invariant: Invariant::RecoveryTrue,
            text: format!("an agent's journal cannot be read: {text}"),
        };
        let (records, whole) =
            journal::decode(&node.disk.synced).map_err(|error| damaged(error.to_string()))?;
        node.disk.synced.truncate(whole);
        let mut recovered = Recovered::default();
        for record in records {
            recovered.apply(record);
        }
        let settings = Settings {
            info: Arc::new(AgentInfo {
                hostname: node.name.as_str().into(),
                region: "".into(),
                zone: "".into(),
                attributes: Vec::new(),
            }),
            total: node.total.clone(),
            data_address: format!("http://{}:1", node.name),
            timings,
            cleaning,
        };
        node.lives += 1;
        let life = node.lives;
        let identity = node.identity(&recovered);
        let mut out = Outbox::default();
        let now = clock(self.now, offset);
        let logic = Logic::recover(now, settings, identity, recovered, &mut out);
        self.check.tally.count(Invariant::RecoveryTrue);
        node.process = Some(Process {
            life,
            offset,
            logic,
            inputs: VecDeque::new(),
            waiting: None,
            ticks: 0,
            due: None,
            epoch: 0,
            link: None,
            news_last: 0,
            commands_last: 0,
        });
        self.after(CLEAN_EVERY, Occurrence::AgentCleans { agent, life });
        self.agent_writes(agent, out.take());
        self.agent_goes_on(agent);
        Ok(())
    }

    /// The process dies; with its machine, runners and tasks die too, and nobody is told.
    pub(super) fn agent_dies(&mut self, agent: usize, with_machine: bool) {
        let node = &mut self.agents[agent];
        if with_machine {
            node.machine.crash();
        }
        let Some(process) = node.process.take() else {
            return;
        };
        let kept = self.dice.disk.index(node.disk.tail.len() + 1);
        node.disk.crash(kept);
        if let Some(link) = process.link {
            self.agent_end_gone(link, with_machine);
        }
        if self.agents[agent].starts_again {
            let away = 50 + delay(&mut self.dice.machine, 20_000);
            self.after(away, Occurrence::AgentStarts { agent });
        }
    }

    pub(super) fn agent_input(&mut self, agent: usize, life: u64, input: Input) {
        if let Some(process) = self.agents[agent].process_mut(life) {
            process.inputs.push_back(input);
            self.agent_goes_on(agent);
        }
    }

    pub(super) fn agent_ticks(&mut self, agent: usize, life: u64, tick: u64) {
        let process = self.agents[agent].process_mut(life);
        if let Some(process) = process.filter(|process| process.ticks == tick) {
            process.due = None;
            self.agent_input(agent, life, Input::Tick);
        }
    }

    pub(super) fn agent_cleans(&mut self, agent: usize, life: u64) {
        if self.agents[agent].life() == Some(life) {
            self.after(CLEAN_EVERY, Occurrence::AgentCleans { agent, life });
            let disk_is_low = !self.calm && self.dice.disk.one_in(20);
            self.agent_input(agent, life, Input::Clean { disk_is_low });
        }
    }

    /// What was written is durable: what waited for that happens.
    pub(super) fn agent_synced(&mut self, agent: usize, life: u64) {
        let node = &mut self.agents[agent];
        let Some(process) = node.process.as_mut().filter(|own| own.life == life) else {
            return;
        };
        node.disk.sync();
        let actions = process.waiting.take().unwrap_or_default();
        self.agent_performs(agent, actions);
        self.agent_goes_on(agent);
    }

    /// Handles what has come, unless the journal is being written.
    fn agent_goes_on(&mut self, agent: usize) {
        loop {
            let now = self.now;
            let Some(process) = self.agents[agent].process.as_mut() else {
                return;
            };
            if process.waiting.is_some() {
                return;
            }
            let mut out = Outbox::default();
            let time = clock(now, process.offset);
            let batch = process.inputs.len().min(BATCH_MAX);
            for input in process.inputs.drain(..batch) {
                process.logic.handle(time, input, &mut out);
            }
            let due = process.logic.next_due();
            if due != process.due {
                process.due = due;
                process.ticks += 1;
                if let Some(due) = due {
                    let (life, tick) = (process.life, process.ticks);
                    let at = unclock(due, process.offset).max(now + 1);
                    self.at(at, Occurrence::AgentTicks { agent, life, tick });
                }
            }
            let actions = out.take();
            if batch == 0 && actions.is_empty() {
                return;
            }
            self.agent_writes(agent, actions);
        }
    }

    /// Records first, with one sync if any action needs one; then every action may be performed.
    fn agent_writes(&mut self, agent: usize, actions: Vec<Action>) {
        let compact_at = self.scenario.compact_at;
        self.note(|| format!("   a{agent} {actions:?}"));
        let node = &mut self.agents[agent];
        let Some(process) = node.process.as_mut() else {
            return;
        };
        let records: Vec<Record> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Persist(record) => Some(record.clone()),
                _ => None,
            })
            .collect();
        let needs_durable = actions.iter().any(Action::needs_durable);
        let is_synced = node.disk.tail.is_empty() && node.disk.draft.is_none();
        if records.is_empty() && (is_synced || !needs_durable) {
            return self.agent_performs(agent, actions);
        }
        if node.disk.synced.len() >= compact_at {
            // What the logic knows includes these records.
            let all = journal::encode(&process.logic.compacted());
            node.disk.draft = Some(all.unwrap_or_default());
        } else {
            let content = journal::encode(&records);
            node.disk.tail.extend(content.unwrap_or_default());
            if !needs_durable {
                return self.agent_performs(agent, actions);
            }
        }
        process.waiting = Some(actions);
        let life = process.life;
        let wait = delay(&mut self.dice.disk, self.scenario.delays.sync);
        self.after(wait, Occurrence::AgentSynced { agent, life });
    }

    fn agent_performs(&mut self, agent: usize, actions: Vec<Action>) {
        for action in actions {
            self.agent_performs_one(agent, action);
        }
    }

    fn agent_performs_one(&mut self, agent: usize, action: Action) {
        let node = &mut self.agents[agent];
        let Some(process) = node.process.as_mut() else {
            return;
        };
        let life = process.life;
        match action {
            // Done before.
            Action::Persist(_) => {}
            Action::Connect => {
                process.epoch += 1;
                let epoch = process.epoch;
                if let Some(link) = process.link.take() {
                    self.agent_end_gone(link, false);
                }
                let wait = delay(&mut self.dice.network, self.scenario.delays.network);
                self.after(wait, Occurrence::Connects { agent, life, epoch });
            }
            Action::Disconnect { .. } => {
                process.epoch += 1;
                if let Some(link) = process.link.take() {
                    self.agent_end_gone(link, false);
                }
            }
            Action::Send(message) => {
                if let Some(link) = process.link {
                    self.send_up(link, message);
                }
            }
            Action::Prepare(launch) => self.prepare(agent, &launch),
            // A preparation that is not needed any more is told all the same: the worst case.
            Action::CancelPrepare(_) => {}
            Action::Start(launch) => {
                let framework = launch.framework;
                self.command(agent, framework, Command::Start(launch));
            }
            Action::Stop {
                launch,
                framework,
                grace,
            } => self.command(agent, framework, Command::Stop(launch, grace)),
            Action::Inquire {
                framework,
                launches,
            } => self.command(agent, framework, Command::Inquire(launches)),
            Action::Publish { launch, finished } => {
                node.machine.publish(launch, finished);
                if let Some(framework) = node.machine.owner(launch) {
                    self.command(agent, framework, Command::Forget(launch));
                }
            }
            Action::RemoveSandbox { launch, .. } => node.machine.remove_sandbox(launch),
            Action::DismissRunner(framework) => {
                self.command(agent, framework, Command::Dismiss);
            }
            Action::Exit { .. } => {
                node.starts_again = false;
                self.agent_dies(agent, false);
            }
        }
    }

    /// Commands to one agent's runners arrive in order.
    fn command(&mut self, agent: usize, framework: FrameworkId, command: Command) {
        let wait = delay(&mut self.dice.machine, 40);
        let now = self.now;
        let Some(process) = self.agents[agent].process.as_mut() else {
            return;
        };
        // A moment apart: what happens in one instant has no order.
        process.commands_last = (process.commands_last + 1).max(now + wait);
        let (at, life) = (process.commands_last, process.life);
        self.at(
            at,
            Occurrence::Runner {
                agent,
                life,
                framework,
                command: Box::new(command),
            },
        );
    }

    /// Makes a sandbox and fetches what goes into it; each source is there or not.
    fn prepare(&mut self, agent: usize, launch: &Launch) {
        let wait = 2 + delay(&mut self.dice.machine, 2_000);
        let number = launch.number;
        self.check_inputs(launch);
        let outcome = self.fetch(launch);
        let Some(life) = self.agents[agent].life() else {
            return;
        };
        self.agents[agent].machine.make_sandbox(number);
        if !launch.inputs.is_empty() {
            let input = Box::new(Input::Fetching { launch: number });
            self.after(1, Occurrence::AgentHears { agent, life, input });
        }
        let input = Box::new(Input::Prepared {
            launch: number,
            outcome,
        });
        self.after(wait, Occurrence::AgentHears { agent, life, input });
    }

    /// A reducer gets a part of every map, or it is not launched at all.
    fn check_inputs(&mut self, launch: &Launch) {
        if launch.task.template.name != "reduce" {
            return;
        }
        for input in &launch.inputs {
            if let Origin::Sandboxes(files) = &input.from {
                let whole = files.len() as u64 == MAPS;
                let held = self.check.tally.holds(Invariant::InputsWhole, whole, || {
                    let parts = files.len();
                    format!("{} is to reduce {parts} of {MAPS} parts", launch.task.id)
                });
                self.broken = self.broken.take().or(held.err());
            }
        }
    }

    fn fetch(&mut self, launch: &Launch) -> Result<(), Unprepared> {
        let mut lost = Vec::new();
        let mut why = None;
        for input in &launch.inputs {
            let files: Vec<(&str, &SandboxFile)> = match &input.from {
                Origin::File(_) | Origin::Http(_) => Vec::new(),
                Origin::Sandbox(file) => vec![("", file)],
                Origin::Sandboxes(files) => {
                    files.iter().map(|(name, file)| (&**name, file)).collect()
                }
            };
            for (name, file) in files {
                let there = self.agents.iter().any(|node| {
                    format!("http://{}:1", node.name) == file.address
                        && node.process.is_some()
                        && node.cut.up <= self.now
                        && node.machine.serves(file.launch)
                });
                if there {
                    continue;
                }
                let text = format!("{}: launch {} is not served", input.path, file.launch);
                why = Some(Reason::new(code::INPUT_LOST, Remedy::ChooseAnew, text));
                if !name.is_empty() {
                    lost.push(name.to_owned());
                }
            }
        }
        if let Some(why) = why {
            return Err(Unprepared { why, lost });
        }
        if !self.calm && self.dice.machine.one_in(60) {
            let text = "the file could not be read";
            return Err(Reason::new(code::INPUT_FAILED, Remedy::Retry, text).into());
        }
        Ok(())
    }
}
