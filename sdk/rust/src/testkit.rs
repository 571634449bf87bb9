//! A scripted host for tests: native, without any Wasm, everything at once and in order. [`Kit`] is
//! for frameworks, [`PolicyKit`] for allocation policies.
//!
//! ```
//! use proffer_sdk::framework::{Context, Framework, Host, Offer, Shape, Step, TaskState, Template};
//! use proffer_sdk::testkit::Kit;
//!
//! struct Once;
//!
//! impl Framework for Once {
//!     fn start(_: &Context, _: &mut Host<'_>) -> Result<Self, String> {
//!         Ok(Once)
//!     }
//!     fn offers(&mut self, step: &mut Step<'_>, offers: Vec<Offer>) -> Result<(), String> {
//!         let shape: Shape = "cpus:1;mem:32".parse()?;
//!         let template = step.template(Template::shell("hello", "echo hello"));
//!         for offer in offers {
//!             if let Some(piles) = offer.room().take(&shape) {
//!                 let id = format!("hello-{}", offer.id);
//!                 step.launch([offer.id], [template.task(id, piles)]);
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut kit = Kit::<Once>::new();
//! kit.add_agent("agent1", "cpus:4;mem:1024");
//! kit.start();
//! kit.offer("agent1", "cpus:4;mem:1024");
//! assert_eq!(kit.running(), ["hello-1"]);
//! kit.update("hello-1", TaskState::Finished);
//! assert!(kit.running().is_empty());
//! ```
//!
//! The kit keeps the contract's promises: a step's state and metrics are undone if it fails, offers
//! that no command names are declined, timers fire once. And it insists on the framework's part: an
//! answer that names an offer which is not its own, a template that is not there, more than was
//! offered or a task id twice is a [`Violation`]. [`Kit::new`] drops the instance after every step,
//! since a real host may: what the framework did not write to its state is lost.
//!
//! What it is not: a cluster. Nothing runs by itself; tests say what becomes of tasks.

mod check;
mod memory;
mod policy;
mod pool;

use std::collections::BTreeMap;

use proffer_model::state::{Access, StateEntries};

use crate::framework::guest::{start_with, step_with};
use crate::framework::{
    AgentChange, AgentId, Answer, Batch, Cause, Command, Context, Demand, Due, Event, Fired,
    Framework, Offer, OfferId, Pile, Reason, Remedy, Request, Response, Source, Standing,
    TaskState, Timestamp, Update, is_final,
};
use crate::log::Level;

pub use check::Violation;
pub use policy::{Granted, PolicyKit};
pub use pool::Launched;

use memory::Memory;
use pool::Pool;

/// How long an offer of the kit stands, as on a host that is set up by default.
const LEASE_MS: u64 = 60_000;

/// How long a request of the kit waits.
const REQUEST_MS: u64 = 30_000;

/// A host for one framework; see the [module](self).
pub struct Kit<F> {
    context: Context,
    instance: Option<F>,
    drop_instances: bool,
    memory: Memory,
    pool: Pool,
    now: Timestamp,
    steps: u64,
    requests: u64,
    open: Vec<u64>,
    responses: BTreeMap<u64, Response>,
    demands: BTreeMap<String, Demand>,
    timers: BTreeMap<String, Timestamp>,
    lines: Vec<(Level, String)>,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The commands, in order.
    pub commands: Vec<Command>,
    /// Offers that no command named: the host has declined them.
    pub unsettled: Vec<OfferId>,
}

impl<F: Framework> Default for Kit<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Framework> Kit<F> {
    /// A host without agents, in the year 2026. The framework has the role `test`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            context: Context {
                name: "framework".to_owned(),
                id: "framework-1".to_owned(),
                cluster: "testkit".to_owned(),
                region: String::new(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                roles: vec!["test".to_owned()],
                config: String::new(),
                limits: memory::limits(),
            },
            instance: None,
            drop_instances: true,
            memory: Memory::default(),
            pool: Pool::default(),
            now: 1_780_000_000_000,
            steps: 0,
            requests: 0,
            open: Vec::new(),
            responses: BTreeMap::new(),
            demands: BTreeMap::new(),
            timers: BTreeMap::new(),
            lines: Vec::new(),
        }
    }

    /// With these roles.
    #[must_use]
    pub fn with_roles(mut self, roles: &[&str]) -> Self {
        self.context.roles = roles.iter().map(|role| (*role).to_owned()).collect();
        self
    }

    /// With this configuration.
    #[must_use]
    pub fn with_config(mut self, config: impl Into<String>) -> Self {
        self.context.config = config.into();
        self
    }

    /// Keeps the instance from step to step, as a host does when nothing is in its way.
    #[must_use]
    pub fn keeping_instances(mut self) -> Self {
        self.drop_instances = false;
        self
    }

    /// The first event of the framework's life. Panics as [`step`](Self::step) does.
    pub fn start(&mut self) -> Outcome {
        self.step(vec![Event::Started(Cause::First)])
    }

    /// Gives one batch of events, and does the answer's commands as far as a kit does.
    ///
    /// # Panics
    /// The step fails or its answer breaks the contract.
    pub fn step(&mut self, events: Vec<Event>) -> Outcome {
        match self.try_step(events) {
            Ok(outcome) => outcome,
            Err(problem) => panic!("{problem}"),
        }
    }

    /// Gives one batch of events. A step that fails leaves no trace, but its log lines.
    ///
    /// # Errors
    /// The framework's own error, or how its answer breaks the contract.
    pub fn try_step(&mut self, events: Vec<Event>) -> Result<Outcome, Violation> {
        let offers = self.pool.offers_of(&events);
        let batch = Batch {
            step: self.steps + 1,
            now: self.now,
            agents: self.pool.agents_of(&events),
            events,
        };
        let (answer, lines) = {
            let (context, instance, memory) = (&self.context, &mut self.instance, &mut self.memory);
            crate::log::native::collect(|| call(instance, context, memory, batch))
        };
        self.lines.extend(lines);
        let checked = answer.map_err(Violation::Failed).and_then(|answer| {
            check::check(&answer, &offers, &self.pool, &self.context, &self.open)?;
            Ok(answer)
        });
        if self.drop_instances || checked.is_err() {
            self.instance = None;
        }
        match checked {
            Err(violation) => Err(violation),
            Ok(answer) => {
                self.memory.commit();
                self.steps += 1;
                Ok(self.perform(answer, &offers))
            }
        }
    }

    fn perform(&mut self, answer: Answer, offers: &[Offer]) -> Outcome {
        let mut left: Vec<&Offer> = offers.iter().collect();
        for command in &answer.commands {
            match command {
                Command::Accept(accept) => {
                    for part in &accept.parts {
                        left.retain(|offer| !part.offers.contains(&offer.id));
                        self.pool.accept(part, offers, &answer.templates);
                    }
                }
                Command::Decline(decline) => {
                    left.retain(|offer| !decline.offers.contains(&offer.id));
                }
                Command::Keep(ids) => left.retain(|offer| !ids.contains(&offer.id)),
                Command::Kill(kill) => self.pool.kill(&kill.task),
                Command::SetDemand(demand) => {
                    if demand.count == 0 {
                        self.demands.remove(&demand.key);
                    } else {
                        self.demands.insert(demand.key.clone(), demand.clone());
                    }
                }
                Command::ClearDemand(keys) => {
                    self.demands.retain(|key, _| !keys.contains(key));
                }
                Command::SetTimer(timer) => {
                    let due = match timer.due {
                        Due::At(at) => at,
                        Due::After(after) => self.now.saturating_add(after),
                    };
                    self.timers.insert(timer.id.clone(), due);
                }
                Command::CancelTimer(id) => {
                    self.timers.remove(id);
                }
                Command::Respond(response) => {
                    self.open.retain(|id| *id != response.request);
                    self.responses.insert(response.request, response.clone());
                }
                _ => {}
            }
        }
        let unsettled = left.into_iter().map(|offer| offer.id).collect();
        Outcome {
            commands: answer.commands,
            unsettled,
        }
    }

    // ---- Agents and offers ----------------------------------------------------------------------

    /// Adds an agent with these resources, in the operators' text form.
    ///
    /// # Panics
    /// The text is not resources.
    pub fn add_agent(&mut self, hostname: &str, resources: &str) -> AgentId {
        match resources.parse() {
            Ok(pile) => self.pool.add_agent(hostname, pile),
            Err(error) => panic!("{error}"),
        }
    }

    /// Offers these resources of an agent under the first role, in a step of its own.
    ///
    /// # Panics
    /// As [`step`](Self::step) does; or the agent is not known, or the text is not resources.
    pub fn offer(&mut self, hostname: &str, resources: &str) -> Outcome {
        let pile: Pile = match resources.parse() {
            Ok(pile) => pile,
            Err(error) => panic!("{error}"),
        };
        let agent = self.pool.id_of(hostname);
        let offer = self.new_offer(agent, vec![pile], String::new());
        self.step(vec![Event::Offers(vec![offer])])
    }

    /// Offers everything that is free on every agent, in one step: whole agents, as often as there is
    /// demand for them. Without demand nothing is offered, and there is no step.
    pub fn offer_all(&mut self) -> Option<Outcome> {
        if self.demands.is_empty() {
            return None;
        }
        let key = self.demands.keys().next().cloned().unwrap_or_default();
        let mut offers = Vec::new();
        for (agent, free) in self.pool.free() {
            offers.push(self.new_offer(agent, free, key.clone()));
        }
        if offers.is_empty() {
            return None;
        }
        Some(self.step(vec![Event::Offers(offers)]))
    }

    /// An offer, to be put into a batch by hand.
    pub fn new_offer(&mut self, agent: AgentId, piles: Vec<Pile>, demand: String) -> Offer {
        Offer {
            id: self.pool.next_offer(),
            agent,
            role: self.context.roles.first().cloned().unwrap_or_default(),
            piles,
            expires: self.now + LEASE_MS,
            demand,
            gang: 0,
            down: None,
        }
    }

    /// An agent is gone for good: its tasks are `gone`, and its standing is told, in one step.
    ///
    /// # Panics
    /// As [`step`](Self::step) does; or the agent is not known.
    pub fn lose_agent(&mut self, hostname: &str) -> Outcome {
        let agent = self.pool.id_of(hostname);
        let why = reason("agent-lost", "its agent was lost", Remedy::ChooseAnew);
        let updates: Vec<Update> = self
            .pool
            .tasks_on(agent)
            .into_iter()
            .map(|task| {
                let mut update = self.new_update(&task, TaskState::Gone);
                update.why = why.clone();
                update.source = Source::Host;
                update
            })
            .collect();
        for update in &updates {
            self.pool.end(&update.task, update.state);
        }
        self.pool.lose(agent);
        let change = AgentChange {
            agent,
            standing: Standing::Gone,
            since: self.now,
        };
        let mut events = vec![Event::AgentsChanged(vec![change])];
        if !updates.is_empty() {
            events.insert(0, Event::Updates(updates));
        }
        self.step(events)
    }

    // ---- Tasks ----------------------------------------------------------------------------------

    /// Says what became of a task, in a step of its own.
    ///
    /// # Panics
    /// As [`step`](Self::step) does; or the task was never launched.
    pub fn update(&mut self, task: &str, state: TaskState) -> Outcome {
        let update = self.new_update(task, state);
        self.send(update)
    }

    /// Says that a task failed for this reason, in a step of its own.
    ///
    /// # Panics
    /// As [`update`](Self::update) does.
    pub fn fail(&mut self, task: &str, code: &str, text: &str) -> Outcome {
        let mut update = self.new_update(task, TaskState::Failed);
        update.why = reason(code, text, Remedy::Retry);
        self.send(update)
    }

    /// Gives an update in a step of its own, and frees what an ended task held.
    ///
    /// # Panics
    /// As [`step`](Self::step) does.
    pub fn send(&mut self, update: Update) -> Outcome {
        if is_final(update.state) {
            self.pool.end(&update.task, update.state);
        }
        self.step(vec![Event::Updates(vec![update])])
    }

    /// An update of a launched task, to be changed and sent by hand.
    ///
    /// # Panics
    /// The task was never launched.
    pub fn new_update(&mut self, task: &str, state: TaskState) -> Update {
        let (agent, sequence) = self.pool.next_sequence(task);
        Update {
            task: task.to_owned(),
            agent: Some(agent),
            state,
            sequence,
            at: self.now,
            source: Source::Executor,
            why: reason("", "", Remedy::Retry),
            exit: (state == TaskState::Finished).then_some(0),
            healthy: None,
            ready: None,
            address: String::new(),
            data: Vec::new(),
        }
    }

    /// The ids of the tasks that have been launched and have not ended, sorted.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        self.pool.running()
    }

    /// The ids of those that the framework has asked to end, and that have not, sorted.
    #[must_use]
    pub fn to_be_killed(&self) -> Vec<String> {
        self.pool.to_be_killed()
    }

    /// A task as it was launched.
    #[must_use]
    pub fn task(&self, id: &str) -> Option<&Launched> {
        self.pool.task(id)
    }

    // ---- Requests, time, and what can be looked at ------------------------------------------------

    /// Sends a request in a step of its own and returns the response.
    ///
    /// # Panics
    /// As [`step`](Self::step) does; or the step does not answer (see [`response`](Self::response)).
    pub fn request(&mut self, method: &str, target: &str, body: &[u8]) -> Response {
        let request = self.new_request(method, target, body);
        let id = request.id;
        self.step(vec![Event::Request(request)]);
        match self.responses.remove(&id) {
            Some(response) => response,
            None => panic!("{method} {target} was not answered in its step"),
        }
    }

    /// A request, to be put into a batch by hand.
    pub fn new_request(&mut self, method: &str, target: &str, body: &[u8]) -> Request {
        self.requests += 1;
        self.open.push(self.requests);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Request {
            id: self.requests,
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Vec::new(),
            body: body.to_vec(),
            principal: "operator".to_owned(),
            deadline: self.now + REQUEST_MS,
        }
    }

    /// Takes the response to a request out of the kit.
    pub fn response(&mut self, request: u64) -> Option<Response> {
        self.responses.remove(&request)
    }

    /// Lets time pass and fires the timers that are due then, in one step; none: no step.
    pub fn advance(&mut self, milliseconds: u64) -> Option<Outcome> {
        self.now += milliseconds;
        let now = self.now;
        let mut fired: Vec<Fired> = Vec::new();
        self.timers.retain(|id, due| {
            let waits = *due > now;
            if !waits {
                fired.push(Fired {
                    id: id.clone(),
                    due: *due,
                });
            }
            waits
        });
        fired.sort_by(|a, b| (a.due, &a.id).cmp(&(b.due, &b.id)));
        if fired.is_empty() {
            return None;
        }
        Some(self.step(vec![Event::Timers(fired)]))
    }

    /// The kit's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The demand that stands under a key.
    #[must_use]
    pub fn demand(&self, key: &str) -> Option<&Demand> {
        self.demands.get(key)
    }

    /// The keys of all demands that stand.
    #[must_use]
    pub fn demands(&self) -> Vec<&str> {
        self.demands.keys().map(String::as_str).collect()
    }

    /// The framework's state, as committed.
    #[must_use]
    pub fn state(&self) -> &StateEntries {
        self.memory.state()
    }

    /// A counter or gauge, all labels together; 0 if nothing was written.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        self.memory.metric(name)
    }

    /// Everything that was logged, failed steps included.
    #[must_use]
    pub fn log_lines(&self) -> &[(Level, String)] {
        &self.lines
    }
}

fn call<F: Framework>(
    instance: &mut Option<F>,
    context: &Context,
    memory: &mut Memory,
    batch: Batch,
) -> Result<Answer, String> {
    if instance.is_none() {
        memory.begin(batch.step, Access::Read);
        start_with(instance, context, memory)?;
    }
    memory.begin(batch.step, Access::Write);
    step_with(instance, batch, memory)
}

fn reason(code: &str, text: &str, remedy: Remedy) -> Reason {
    Reason {
        code: code.to_owned(),
        text: text.to_owned(),
        remedy,
    }
}

#[cfg(test)]
mod tests;
