//! Agents and frameworks as a test plays them, and what it may look at.

use std::sync::Arc;

use proffer_core::{Blame, ConnectionId, Event, NewFramework, Reply, Ticket};
use proffer_model::agent::{KnownLaunch, Registration};
use proffer_model::fact::{FrameworkOptions, FrameworkStanding, ReservationFate};
use proffer_model::framework::{Answer, Command, Event as Told};
use proffer_model::{
    AgentId, AgentInfo, FrameworkId, LaunchNumber, Reason, Remedy, Resources, RoleName, TaskState,
};

use super::cluster::{Cluster, Machine};

impl Cluster {
    // ---- Agents ---------------------------------------------------------------------------------

    pub(crate) fn agent(&mut self, name: &str, resources: &str) -> AgentId {
        self.agent_with(name, resources, |_| {})
    }

    pub(crate) fn agent_with(
        &mut self,
        name: &str,
        resources: &str,
        change: impl FnOnce(&mut Registration),
    ) -> AgentId {
        let mut registration = Registration {
            agent: None,
            key: format!("key of {name}"),
            boot: "boot 1".to_owned(),
            info: Arc::new(AgentInfo {
                hostname: name.into(),
                region: "".into(),
                zone: "".into(),
                attributes: Vec::new(),
            }),
            total: resources.parse().unwrap(),
            special: Resources::none(),
            data_address: format!("http://{name}:1"),
            launches: Vec::new(),
        };
        change(&mut registration);
        self.register(name, registration);
        self.agent_id(name)
    }

    /// (Re)registers on a new connection.
    pub(crate) fn register(&mut self, name: &str, registration: Registration) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let machine = Machine {
            connection,
            registration: registration.clone(),
            inbox: Vec::new(),
        };
        self.machines.insert(name.to_owned(), machine);
        self.event(Event::AgentRegistered {
            connection,
            registration: Box::new(registration),
        });
    }

    /// Comes back with these launches: (number, framework, task, latest).
    pub(crate) fn reconnect(&mut self, name: &str, launches: &[(u64, &str, &str, TaskState)]) {
        self.reconnect_with(name, launches, |_| {});
    }

    pub(crate) fn reconnect_with(
        &mut self,
        name: &str,
        launches: &[(u64, &str, &str, TaskState)],
        change: impl FnOnce(&mut Registration),
    ) {
        let mut registration = self.machines[name].registration.clone();
        registration.launches = launches
            .iter()
            .map(|(launch, framework, task, latest)| KnownLaunch {
                launch: LaunchNumber(*launch),
                framework: self.framework_id(framework),
                task: super::words::task_id(task),
                role: RoleName::star(),
                latest: *latest,
            })
            .collect();
        change(&mut registration);
        self.register(name, registration);
    }

    pub(crate) fn disconnect(&mut self, name: &str) {
        let connection = self.machines[name].connection;
        self.event(Event::AgentDisconnected { connection });
    }

    pub(crate) fn agent_id(&self, name: &str) -> AgentId {
        let found = self
            .core
            .agents(None)
            .find(|agent| &*agent.info.hostname == name);
        found.expect("the agent is known").id
    }

    /// What an agent was told since the last look, in words.
    pub(crate) fn inbox(&mut self, name: &str) -> Vec<String> {
        let machine = self.machines.get_mut(name).unwrap();
        let messages = std::mem::take(&mut machine.inbox);
        messages.iter().map(super::words::message).collect()
    }

    // ---- Frameworks -----------------------------------------------------------------------------

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Adds a framework under one role; it has taken its first event.
    pub(crate) fn framework(&mut self, name: &str, role: &str) -> FrameworkId {
        let id = self.add(name, role);
        self.answer(name, vec![]);
        id
    }

    /// Adds a framework whose first step waits.
    pub(crate) fn add(&mut self, name: &str, role: &str) -> FrameworkId {
        let ticket = self.ticket();
        self.event(Event::FrameworkAdded {
            ticket,
            framework: Box::new(NewFramework {
                name: name.into(),
                version: "1".to_owned(),
                digest: "sha256:0".to_owned(),
                roles: vec![RoleName::new(role).unwrap()],
                config: String::new(),
                gpus: false,
                options: FrameworkOptions::default(),
            }),
        });
        self.framework_id(name)
    }

    pub(crate) fn framework_id(&self, name: &str) -> FrameworkId {
        self.core
            .framework_named(name)
            .map_or(FrameworkId(9_999), |fw| fw.id)
    }

    pub(crate) fn standing(&self, name: &str) -> FrameworkStanding {
        self.core.framework_named(name).unwrap().standing
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.remove_with(name, ReservationFate::Keep);
    }

    /// With what is to become of its reservations.
    pub(crate) fn remove_with(&mut self, name: &str, reservations: ReservationFate) -> Ticket {
        let ticket = self.ticket();
        let name = name.to_owned();
        self.event(Event::FrameworkRemovalAsked {
            ticket,
            name,
            reservations,
        });
        ticket
    }

    /// The step that a framework is in, in words: what it was told.
    #[track_caller]
    pub(crate) fn told(&self, name: &str) -> Vec<String> {
        match self.steps.get(&self.framework_id(name)) {
            Some(step) => super::words::events(&step.batch.events),
            None => Vec::new(),
        }
    }

    /// The events of the step that a framework is in.
    #[track_caller]
    pub(crate) fn batch(&self, name: &str) -> &[Told] {
        let step = self.steps.get(&self.framework_id(name));
        &step.expect("the framework is in a step").batch.events
    }

    /// The step ends with these commands; answers what it had been told.
    #[track_caller]
    pub(crate) fn answer(&mut self, name: &str, commands: Vec<Command>) -> Vec<String> {
        let told = self.told(name);
        let framework = self.framework_id(name);
        let step = self
            .steps
            .remove(&framework)
            .expect("the framework is in a step");
        self.event(Event::StepCompleted {
            framework,
            step: step.batch.step,
            attempt: step.attempt,
            writes: Vec::new(),
            answer: Box::new(Answer { commands }),
        });
        told
    }

    /// Wakes an idle framework by a request and has it answer with these commands.
    #[track_caller]
    pub(crate) fn command(&mut self, name: &str, commands: Vec<Command>) {
        if !self.steps.contains_key(&self.framework_id(name)) {
            self.request(name, "/poke");
        }
        self.answer(name, commands);
    }

    /// The step fails; answers what it had been told.
    #[track_caller]
    pub(crate) fn fail(&mut self, name: &str) -> Vec<String> {
        self.fail_by(Blame::Framework, name)
    }

    /// The same, and whose fault it is.
    #[track_caller]
    pub(crate) fn fail_by(&mut self, blame: Blame, name: &str) -> Vec<String> {
        let told = self.told(name);
        let framework = self.framework_id(name);
        let step = self
            .steps
            .remove(&framework)
            .expect("the framework is in a step");
        self.event(Event::StepFailed {
            blame,
            framework,
            step: step.batch.step,
            attempt: step.attempt,
            fault: Reason::new("trap", Remedy::Mend, "it trapped"),
        });
        told
    }

    pub(crate) fn request(&mut self, name: &str, path: &str) -> Ticket {
        let ticket = self.ticket();
        self.event(Event::RequestArrived {
            ticket,
            framework: name.to_owned(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            principal: "test".to_owned(),
        });
        ticket
    }

    /// The status that a request was answered with.
    pub(crate) fn status(&self, ticket: Ticket) -> Option<u16> {
        match self.replies.get(&ticket)? {
            Reply::Response(response) => Some(response.status),
            _ => None,
        }
    }

    // ---- What stands ----------------------------------------------------------------------------

    /// Open offers, in words.
    pub(crate) fn offers(&self) -> Vec<String> {
        let offers = self.core.offers(None);
        offers
            .map(|offer| {
                let host = self
                    .core
                    .agents(None)
                    .find(|a| a.id == offer.agent)
                    .unwrap();
                format!(
                    "{} {} {}",
                    offer.framework, host.info.hostname, offer.resources
                )
            })
            .collect()
    }

    /// Ids of open offers.
    pub(crate) fn offer_ids(&self) -> Vec<u64> {
        self.core.offers(None).map(|offer| offer.id.0).collect()
    }

    pub(crate) fn free(&self, name: &str) -> String {
        let id = self.agent_id(name);
        let found = self.core.agents(None).find(|agent| agent.id == id);
        found.unwrap().free.to_string()
    }

    pub(crate) fn state(&self, framework: &str, task: &str) -> TaskState {
        self.core
            .task_named(framework, task)
            .expect("the task is known")
            .state
    }

    pub(crate) fn launch_of(&self, framework: &str, task: &str) -> u64 {
        self.core
            .task_named(framework, task)
            .expect("the task is known")
            .launch
            .0
    }
}
