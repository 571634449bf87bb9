//! One step: what the methods of a framework see and do.

use crate::framework::answer::AnswerBuilder;
use crate::framework::{
    Accept, Agent, AgentId, Answer, Availability, Command, Decline, Demand, Due, Duration, Explain,
    Finish, Host, InverseAnswer, Kill, Message, OfferId, Publication, Reconcile, Response, State,
    Task, Template, TemplateIndex, Timer, Timestamp,
};

/// The step that a framework's methods work in: its time and agents, the host's functions, and the
/// answer as it grows. Commands are done in the order in which they are added here.
pub struct Step<'a> {
    number: u64,
    now: Timestamp,
    agents: Vec<Agent>,
    host: Host<'a>,
    answer: AnswerBuilder,
}

impl<'a> Step<'a> {
    pub(crate) fn new(number: u64, now: Timestamp, agents: Vec<Agent>, host: Host<'a>) -> Self {
        Self {
            number,
            now,
            agents,
            host,
            answer: AnswerBuilder::default(),
        }
    }

    pub(crate) fn into_answer(self) -> Answer {
        self.answer.finish()
    }

    /// Counts the framework's committed steps; the same again if the last try failed.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The step's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Every agent that an event of this batch names, by id.
    #[must_use]
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// One of them.
    #[must_use]
    pub fn agent(&self, id: AgentId) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.id == id)
    }

    /// Metrics and randomness.
    pub fn host(&mut self) -> &mut Host<'a> {
        &mut self.host
    }

    /// The framework's durable memory.
    pub fn state(&mut self) -> State<'_> {
        self.host.state()
    }

    /// What tasks share. The same template twice is one.
    pub fn template(&mut self, template: Template) -> TemplateIndex {
        self.answer.template(template)
    }

    /// Launches tasks on offers of one agent and role, each task by itself. What is left of the
    /// offers is filtered for 5 s; [`accept`](Self::accept) leaves the choice.
    pub fn launch(
        &mut self,
        offers: impl IntoIterator<Item = OfferId>,
        tasks: impl IntoIterator<Item = Task>,
    ) {
        self.accept(Accept::launch(offers, tasks));
    }

    /// Uses offers.
    pub fn accept(&mut self, accept: Accept) {
        self.command(Command::Accept(accept));
    }

    /// Gives offers back, not to be offered the same for `refuse` (none: 5 s).
    pub fn decline(
        &mut self,
        offers: impl IntoIterator<Item = OfferId>,
        refuse: Option<Duration>,
        why: impl Into<String>,
    ) {
        self.command(Command::Decline(Decline {
            offers: offers.into_iter().collect(),
            refuse,
            why: why.into(),
        }));
    }

    /// Decides about offers later: they come again in every batch until they expire.
    pub fn keep(&mut self, offers: impl IntoIterator<Item = OfferId>) {
        self.command(Command::Keep(offers.into_iter().collect()));
    }

    /// Answers an inverse offer.
    pub fn answer_inverse(&mut self, answer: InverseAnswer) {
        self.command(Command::AnswerInverse(answer));
    }

    /// Ends a task, with its template's grace.
    pub fn kill(&mut self, task: impl Into<String>, why: impl Into<String>) {
        self.command(Command::Kill(Kill {
            task: task.into(),
            grace: None,
            why: why.into(),
        }));
    }

    /// Ends a task, with so much grace.
    pub fn kill_within(
        &mut self,
        task: impl Into<String>,
        grace: Duration,
        why: impl Into<String>,
    ) {
        self.command(Command::Kill(Kill {
            task: task.into(),
            grace: Some(grace),
            why: why.into(),
        }));
    }

    /// Asks what became of tasks (none: of all that have not ended).
    pub fn reconcile(&mut self, token: impl Into<String>, tasks: impl IntoIterator<Item = String>) {
        self.command(Command::Reconcile(Reconcile {
            token: token.into(),
            tasks: tasks.into_iter().collect(),
        }));
    }

    /// Wants no offers under these roles (none: under all).
    pub fn suppress(&mut self, roles: impl IntoIterator<Item = String>) {
        self.command(Command::Suppress(roles.into_iter().collect()));
    }

    /// Wants offers again under these roles (none: under all), and drops their filters.
    pub fn revive(&mut self, roles: impl IntoIterator<Item = String>) {
        self.command(Command::Revive(roles.into_iter().collect()));
    }

    /// Says what could be used, in place of what was said under the same key.
    pub fn set_demand(&mut self, demand: Demand) {
        self.command(Command::SetDemand(demand));
    }

    /// Takes a demand back.
    pub fn clear_demand(&mut self, key: impl Into<String>) {
        self.command(Command::ClearDemand(vec![key.into()]));
    }

    /// Wants to be called after so long; a timer of the same id is replaced. 0: in the next step.
    pub fn set_timer_after(&mut self, id: impl Into<String>, after: Duration) {
        self.command(Command::SetTimer(Timer {
            id: id.into(),
            due: Due::After(after),
        }));
    }

    /// Wants to be called at this time; a timer of the same id is replaced.
    pub fn set_timer_at(&mut self, id: impl Into<String>, at: Timestamp) {
        self.command(Command::SetTimer(Timer {
            id: id.into(),
            due: Due::At(at),
        }));
    }

    /// Does not want to be called after all.
    pub fn cancel_timer(&mut self, id: impl Into<String>) {
        self.command(Command::CancelTimer(id.into()));
    }

    /// Says how many tasks of a group may be down at once.
    pub fn set_availability(&mut self, availability: Availability) {
        self.command(Command::SetAvailability(availability));
    }

    /// Answers a request. [`Request`](crate::framework::Request) has constructors.
    pub fn respond(&mut self, response: Response) {
        self.command(Command::Respond(response));
    }

    /// To those who listen under a topic.
    pub fn publish(&mut self, topic: impl Into<String>, data: impl Into<Vec<u8>>) {
        self.command(Command::Publish(Publication {
            topics: vec![topic.into()],
            data: data.into(),
            close: false,
        }));
    }

    /// Bytes to a task; best effort.
    pub fn message(&mut self, task: impl Into<String>, data: impl Into<Vec<u8>>) {
        self.command(Command::Message(Message {
            task: task.into(),
            data: data.into(),
        }));
    }

    /// Asks for all that is held.
    pub fn list_holdings(&mut self, token: impl Into<String>) {
        self.command(Command::ListHoldings(token.into()));
    }

    /// Asks why there are no offers for these demands (none: for all).
    pub fn explain(&mut self, token: impl Into<String>, demands: impl IntoIterator<Item = String>) {
        self.command(Command::Explain(Explain {
            token: token.into(),
            demands: demands.into_iter().collect(),
        }));
    }

    /// The framework is done.
    pub fn finish(&mut self, finish: Finish) {
        self.command(Command::Finish(finish));
    }

    /// Any command, as the contract has it.
    pub fn command(&mut self, command: Command) {
        self.answer.command(command);
    }
}
