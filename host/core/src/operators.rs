//! What operators ask for: frameworks added and removed, requests passed on, kills, weights.

use std::sync::Arc;

use proffer_codec::codec_struct;
use proffer_model::fact::{
    Effect, Fact, FrameworkOptions, FrameworkRecord, FrameworkStanding, ReservationFate,
};
use proffer_model::framework::{Request, Response};
use proffer_model::{
    Amount, Duration, FrameworkId, Reason, Remedy, RequestId, RoleName, StepNumber, TaskId,
    Timestamp, code,
};

use crate::action::{Action, Reply};
use crate::agenda::Deadline;
use crate::commands::{StepRun, Tasks};
use crate::event::{Event, NewFramework, Ticket};
use crate::framework::{Framework, Item};
use crate::handles::ClientId;
use crate::machine::Core;
use crate::options::compile;
use crate::tasks::Task;

/// Longest name of a framework: it names directories and store keys.
const NAME_LEN_MAX: usize = 64;
/// Roles that one framework may have: each is a client of the policy.
const ROLES_MAX: usize = 64;

/// A request that waits for its framework.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) framework: FrameworkId,
    pub(crate) ticket: Ticket,
    pub(crate) request: Request,
}

codec_struct!(Waiting {
    framework,
    ticket,
    request
});

impl Core {
    pub(crate) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.emit_durable(Action::Reply { ticket, reply });
    }

    fn refuse_ticket(
        &mut self,
        ticket: Ticket,
        code: &'static str,
        remedy: Remedy,
        text: impl Into<String>,
    ) {
        self.reply(ticket, Reply::Refused(Reason::new(code, remedy, text)));
    }

    pub(crate) fn framework_added(&mut self, ticket: Ticket, new: NewFramework) {
        let checked = self
            .check_framework(&new)
            .and_then(|()| compile(&new.options).map(|_| ()));
        if let Err(why) = checked {
            return self.reply(ticket, Reply::Refused(why));
        }
        let framework = self.expected.remove(&new.name).unwrap_or_else(|| {
            let framework = FrameworkId(self.next_framework);
            self.next_framework = self.next_framework.saturating_add(1);
            framework
        });
        let record = FrameworkRecord {
            framework,
            name: Arc::clone(&new.name),
            version: new.version,
            digest: new.digest,
            roles: new.roles,
            config: new.config,
            gpus: new.gpus,
            standing: FrameworkStanding::Active,
            step: StepNumber(0),
        };
        let wanted = std::mem::take(&mut self.allocation.wanted);
        self.insert_framework(record.clone());
        self.facts.push(Fact::FrameworkSet(Box::new(record)));
        if !new.options.active {
            self.allocation.wanted = wanted;
        }
        if new.options != FrameworkOptions::default()
            && self.put_options(framework, new.options.clone()).is_ok()
        {
            self.facts.push(Fact::FrameworkShaped {
                framework,
                options: Box::new(new.options),
            });
        }
        self.start_framework(framework);
        self.reply(ticket, Reply::Added(framework));
    }

    fn check_framework(&self, new: &NewFramework) -> Result<(), Reason> {
        let name_ok = !new.name.is_empty()
            && new.name.len() <= NAME_LEN_MAX
            && new
                .name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !new.name.starts_with(['.', '-']);
        if !name_ok {
            let text = format!(
                "a framework's name is 1 to {NAME_LEN_MAX} letters, digits, '-', '_' and '.'"
            );
            return Err(Reason::new(code::INVALID, Remedy::Mend, text));
        }
        if self.names.contains_key(&new.name) {
            let text = format!("there is a framework named {} already", new.name);
            return Err(Reason::new(code::INVALID, Remedy::ChooseAnew, text));
        }
        if self.frameworks.len() >= self.config.frameworks_max {
            let text = format!(
                "there are {} frameworks, as many as this host has room for; remove one",
                self.frameworks.len()
            );
            return Err(Reason::new(code::LIMIT, Remedy::Retry, text));
        }
        if new.roles.len() > ROLES_MAX {
            return Err(Reason::new(
                code::INVALID,
                Remedy::Mend,
                format!("a framework has at most {ROLES_MAX} roles"),
            ));
        }
        self.roles_refused(&new.roles)
    }

    /// Puts a framework's record in place; live and in recovery alike.
    pub(crate) fn insert_framework(&mut self, record: FrameworkRecord) {
        let framework = record.framework;
        let roles = record.roles.clone();
        self.names.insert(Arc::clone(&record.name), framework);
        let new = Framework::new(record);
        self.frameworks.insert(framework, Box::new(new));
        for role in roles {
            let client = self.client_of(framework, &role);
            self.feed.client_changed(client);
        }
        // What was reported of it before it was added counts from now on.
        let reported: Vec<ClientId> = self.handles.clients_of(framework).collect();
        for client in reported {
            self.feed.client_changed(client);
        }
        self.everything_wanted();
    }

    pub(crate) fn find_framework(&self, name: &str) -> Result<FrameworkId, Reason> {
        self.names.get(name).copied().ok_or_else(|| {
            Reason::new(
                code::UNKNOWN,
                Remedy::ChooseAnew,
                format!("there is no framework named '{name}'"),
            )
        })
    }

    pub(crate) fn framework_removal_asked(
        &mut self,
        ticket: Ticket,
        name: &str,
        fate: ReservationFate,
    ) {
        let found = self.find_framework(name).and_then(|framework| {
            let refused = self.release_refused(framework, fate);
            refused.map_or(Ok(framework), Err)
        });
        match found {
            Ok(framework) => {
                let why = Reason::new(code::OPERATOR, Remedy::Denied, "an operator removed it");
                self.decide_fate(framework, fate);
                self.begin_removal(framework, why, Tasks::Kill);
                self.reply(ticket, Reply::Done);
            }
            Err(why) => self.reply(ticket, Reply::Refused(why)),
        }
    }

    /// A framework that is being removed goes when none of its tasks can be running on a connected
    /// agent. An agent that comes back later is told that the framework is gone.
    pub(crate) fn finish_removal(&mut self, framework: FrameworkId) {
        let Some(fw) = self.frameworks.get(&framework) else {
            return;
        };
        let removing = matches!(fw.record.standing, FrameworkStanding::Removing(_));
        if !removing {
            return;
        }
        let runs = |task: &Task| {
            !task.latest.is_final()
                && self
                    .agents
                    .get(&task.agent)
                    .is_some_and(|agent| agent.is_active())
        };
        // Looks on from where it stopped: thousands of tasks that end one by one cost one round.
        let from = fw.removal_waits_for.clone();
        let later = from.and_then(|from| fw.tasks.range(from..).find(|(_, task)| runs(task)));
        let running = later.or_else(|| fw.tasks.iter().find(|(_, task)| runs(task)));
        if let Some(waits_for) = running.map(|(id, _)| id.clone()) {
            if let Some(fw) = self.frameworks.get_mut(&framework) {
                fw.removal_waits_for = Some(waits_for);
            }
            return;
        }
        let presumed = fw
            .tasks
            .values()
            .filter(|task| !task.latest.is_final())
            .count();
        let roles = fw.record.roles.clone();
        if presumed > 0 {
            let text = format!(
                "removed with {presumed} tasks on agents that are away: presumed to end, told so when they return"
            );
            let why = Reason::new(code::FRAMEWORK_REMOVED, Remedy::Denied, text);
            self.note(Some(framework), why);
        }
        let agents: Vec<_> = self
            .agents
            .values()
            .filter_map(|agent| agent.connection)
            .collect();
        let goes = self.to_be_released(framework);
        self.remove_framework(framework);
        self.facts.push(Fact::FrameworkRemoved { framework });
        self.release(goes, &roles);
        for connection in agents {
            let message = Box::new(proffer_model::agent::ToAgent::RemoveFramework { framework });
            self.emit_durable(Action::Send {
                connection,
                message,
            });
        }
    }

    /// Something ended, or an agent came or went: frameworks may be free to go.
    pub(crate) fn finish_removals(&mut self) {
        for framework in self.removing.clone() {
            self.finish_removal(framework);
        }
    }

    /// Takes a framework out; live and in recovery alike.
    pub(crate) fn remove_framework(&mut self, framework: FrameworkId) {
        let tasks: Vec<TaskId> = self
            .frameworks
            .get(&framework)
            .map(|fw| fw.tasks.keys().cloned().collect())
            .unwrap_or_default();
        for task in tasks {
            self.apply_task_effect(framework, &Effect::TaskForgotten { task });
        }
        self.release_reported(framework);
        self.forget_inverses(|(_, owner)| *owner == framework);
        let Some(fw) = self.frameworks.remove(&framework) else {
            return;
        };
        self.names.remove(&fw.record.name);
        self.removing.remove(&framework);
        for (id, timer) in fw.timers {
            self.agenda
                .remove(timer.at, Deadline::TimerFires(framework, id));
        }
        for standing in fw.demands.into_values() {
            self.feed.forget_demand(standing.handle);
        }
        let clients: Vec<ClientId> = self.handles.clients_of(framework).collect();
        for client in clients {
            self.drop_client_filters(client);
            self.feed.forget_client(client);
            self.handles.remove_client(client);
        }
    }

    /// What agents reported of it, beside tasks, comes free.
    fn release_reported(&mut self, framework: FrameworkId) {
        let clients: Vec<ClientId> = self.handles.clients_of(framework).collect();
        let mut freed = Vec::new();
        for (id, agent) in self.agents.iter_mut() {
            for client in &clients {
                if let Some(what) = agent.reported.remove(client) {
                    freed.push((*id, *client, what));
                }
            }
        }
        for (id, client, what) in freed {
            self.with_account(id, client, |account| account.release(client, &what));
            self.agent_has_more(id);
        }
    }

    pub(crate) fn request_arrived(&mut self, event: Event) {
        let Event::RequestArrived {
            ticket,
            framework,
            method,
            path,
            query,
            headers,
            body,
            principal,
        } = event
        else {
            return;
        };
        let id = match self.find_framework(&framework) {
            Ok(id) => id,
            Err(why) => return self.reply(ticket, Reply::Refused(why)),
        };
        let waiting_max = self.config.requests_waiting_max;
        let Some(fw) = self.frameworks.get_mut(&id) else {
            return;
        };
        if !fw.is_active() {
            let reply = plain_response(RequestId(0), 503, "the framework does not run");
            return self.reply(ticket, reply);
        }
        if fw.requests_waiting >= waiting_max {
            fw.counters.requests_refused += 1;
            let mut response = response(
                RequestId(0),
                429,
                "too many requests wait for the framework",
            );
            response
                .headers
                .push(("retry-after".to_owned(), "1".to_owned()));
            return self.reply(ticket, Reply::Response(Box::new(response)));
        }
        fw.requests_waiting += 1;
        fw.counters.requests += 1;
        let request = self.next_request_id();
        let deadline = self.now + self.config.request_timeout;
        self.agenda.add(deadline, Deadline::RequestEnds(request));
        self.tickets.insert(ticket, request);
        let told = Request {
            id: request,
            method,
            path,
            query,
            headers,
            body,
            principal,
            deadline,
        };
        self.requests.insert(
            request,
            Waiting {
                framework: id,
                ticket,
                request: told,
            },
        );
        self.enqueue(id, Item::Request(request));
    }

    /// Takes a request off the waiting list.
    pub(crate) fn close_request(&mut self, request: RequestId) -> Option<Waiting> {
        let waiting = self.requests.remove(&request)?;
        self.tickets.remove(&waiting.ticket);
        self.agenda
            .remove(waiting.request.deadline, Deadline::RequestEnds(request));
        if let Some(fw) = self.frameworks.get_mut(&waiting.framework) {
            fw.requests_waiting = fw.requests_waiting.saturating_sub(1);
        }
        Some(waiting)
    }

    /// The host's own answer to a request.
    pub(crate) fn answer_request(&mut self, request: RequestId, status: u16, text: &str) {
        if let Some(waiting) = self.close_request(request) {
            self.reply(waiting.ticket, plain_response(request, status, text));
        }
    }

    pub(crate) fn request_ends(&mut self, request: RequestId) {
        self.answer_request(request, 504, "the framework did not answer in time");
    }

    pub(crate) fn ticket_dropped(&mut self, ticket: Ticket) {
        if let Some(request) = self.tickets.get(&ticket).copied() {
            self.close_request(request);
        }
    }

    /// Everybody who waits for the framework is told that it does not run.
    pub(crate) fn refuse_requests(&mut self, framework: FrameworkId, text: &str) {
        let waiting: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, waiting)| waiting.framework == framework)
            .map(|(request, _)| *request)
            .collect();
        for request in waiting {
            self.answer_request(request, 503, text);
        }
    }

    pub(crate) fn task_kill_asked(
        &mut self,
        ticket: Ticket,
        framework: &str,
        task: &str,
        grace: Option<Duration>,
    ) {
        let framework_id = match self.find_framework(framework) {
            Ok(id) => id,
            Err(why) => return self.reply(ticket, Reply::Refused(why)),
        };
        let found = TaskId::new(task)
            .ok()
            .and_then(|id| self.task(framework_id, &id));
        let Some(found) = found else {
            let text = format!("{framework} has no task '{task}'");
            return self.refuse_ticket(ticket, code::UNKNOWN, Remedy::ChooseAnew, text);
        };
        let group = found.group;
        for (member, default) in self.group_members(framework_id, group) {
            let effect = Effect::TaskKillAsked {
                task: member.clone(),
                grace: grace.unwrap_or(default),
            };
            self.apply_effect(framework_id, &effect);
            self.facts.push(Fact::Changed {
                framework: framework_id,
                effect,
            });
            self.send_kill(framework_id, &member);
        }
        self.reply(ticket, Reply::Done);
    }

    pub(crate) fn role_set(&mut self, ticket: Ticket, role: &RoleName, weight: Amount) {
        if !weight_is_valid(weight) {
            return self.reply(ticket, Reply::Refused(no_weight()));
        }
        self.put_weight(role, weight);
        self.reply(ticket, Reply::Done);
    }

    pub(crate) fn put_weight(&mut self, role: &RoleName, weight: Amount) {
        let handle = self.handles.roles.set_weight(role, weight);
        self.feed.roles.insert(handle);
        self.facts.push(Fact::RoleSet {
            role: role.clone(),
            weight,
        });
        let concerns = |(_, own): (_, &(FrameworkId, RoleName))| {
            own.1 == *role || own.1.is_strictly_below(role)
        };
        if self.config.rescinds && self.handles.clients().any(concerns) {
            // Offers made under the old weights go, so that the new ones apply.
            let why = Reason::new(
                code::OPERATOR,
                Remedy::ChooseAnew,
                "a role's weight changed",
            );
            let frameworks: Vec<FrameworkId> = self.frameworks.keys().copied().collect();
            for framework in frameworks {
                self.rescind_framework_offers(framework, &why);
            }
        }
        self.everything_wanted_in_events();
    }

    /// What a finished step asked for beyond its fact.
    pub(crate) fn after_step(&mut self, run: StepRun) {
        for group in &run.launched {
            // With the kills of its members that were asked for meanwhile.
            self.send_launches(run.framework, *group);
        }
        for task in run.killed {
            let group = self.task(run.framework, &task).map(|task| task.group);
            if group.is_none_or(|group| !run.launched.contains(&group)) {
                self.send_kill(run.framework, &task);
            }
        }
        if let Some(finish) = run.finish {
            let why = Reason::new("finished", Remedy::Denied, finish.text);
            let tasks = if finish.kill_tasks {
                Tasks::Kill
            } else {
                Tasks::Leave
            };
            if finish.release {
                self.wipe_if_possible(run.framework);
            }
            self.begin_removal(run.framework, why, tasks);
        }
    }

    /// The time of the last event. It never falls, over a change of host neither; whatever the core
    /// shows of times is to be held against it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How far the core's time is ahead of a clock of this host that shows this: it was taken over from a
    /// host whose clock was ahead, and is let catch up.
    #[must_use]
    pub fn ahead_of(&self, clock: Timestamp) -> Duration {
        self.pace.ahead(clock)
    }
}

/// Said of a weight that is none.
pub(crate) fn no_weight() -> Reason {
    Reason::new(code::INVALID, Remedy::Mend, "a weight is more than 0")
}

/// Whether a role may weigh so much against its siblings: more than nothing.
#[must_use]
pub fn weight_is_valid(weight: Amount) -> bool {
    weight > Amount::ZERO && weight <= Amount::MAX_INPUT
}

fn response(request: RequestId, status: u16, text: &str) -> Response {
    Response {
        request,
        status,
        headers: vec![(
            "content-type".to_owned(),
            "text/plain; charset=utf-8".to_owned(),
        )],
        body: format!("{text}\n").into_bytes(),
        topics: Vec::new(),
    }
}

fn plain_response(request: RequestId, status: u16, text: &str) -> Reply {
    Reply::Response(Box::new(response(request, status, text)))
}
