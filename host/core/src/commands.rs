//! What a framework's answer asks for, command by command. Accept is in [`crate::accept`].

use std::collections::BTreeSet;

use proffer_model::fact::{Effect, FrameworkStanding};
use proffer_model::framework::{
    Command, Decline, Due, Event as Told, Finish, Holding, Holdings, Kill, Reconcile, Reconciled,
    Rejection, Response, Timer,
};
use proffer_model::{
    Duration, FrameworkId, LaunchNumber, OfferId, Reason, Remedy, RoleName, TaskId, TaskState, code,
};

use crate::action::{Action, Reply};
use crate::agenda::Deadline;
use crate::book::Ending;
use crate::framework::Item;
use crate::machine::Core;
use crate::tasks::host_update;

/// Ids of timers, demands and tokens, in bytes: they become part of facts.
pub(crate) const ID_LEN_MAX: usize = 255;

/// Tasks that one explicit reconciliation may name, and such that may wait for their answers: with
/// each task's update a row, this bounds the queue.
const RECONCILE_TASKS_MAX: usize = 10_000;
const RECONCILES_MAX: usize = 16;
/// Rejections that may wait for a framework. A step is told 1,024 and may cause 4,096: a framework
/// that never learns would fill the store.
const REJECTIONS_MAX: usize = 16_384;
/// Rows of one answer's event: 64 KiB of the batch's 1 MiB.
pub(crate) const ANSWER_ROWS_MAX: usize = 256;

/// A step's commands being done.
#[derive(Debug)]
pub(crate) struct StepRun {
    pub(crate) framework: FrameworkId,
    /// Offers of the batch that no command has named yet.
    pub(crate) unsettled: BTreeSet<OfferId>,
    pub(crate) effects: Vec<Effect>,
    /// Groups to be sent to their agents once the step's fact is out.
    pub(crate) launched: Vec<LaunchNumber>,
    /// Tasks to be killed then.
    pub(crate) killed: Vec<TaskId>,
    /// Whether the framework is to end then.
    pub(crate) finish: Option<Finish>,
}

/// A question is refused while the answer to the one before waits.
pub(crate) fn unanswered(command: &str) -> Reason {
    let text = format!("the answer to the {command} before this one waits to be taken");
    Reason::new(code::LIMIT, Remedy::Retry, text)
}

/// Cuts an answer's rows into events, and says which is the last. No rows are one empty event.
pub(crate) fn chunks<T>(rows: Vec<T>) -> impl Iterator<Item = (Vec<T>, bool)> {
    let mut rows = rows.into_iter();
    let mut done = false;
    std::iter::from_fn(move || {
        if std::mem::replace(&mut done, rows.len() <= ANSWER_ROWS_MAX) {
            return None;
        }
        let chunk: Vec<T> = rows.by_ref().take(ANSWER_ROWS_MAX).collect();
        Some((chunk, done))
    })
}

impl Core {
    pub(crate) fn run_command(&mut self, run: &mut StepRun, command: Command) {
        match command {
            Command::Accept(accept) => self.accept(run, accept),
            Command::Decline(decline) => self.decline(run, decline),
            Command::Keep(offers) => self.keep(run, offers),
            Command::Kill(kill) => self.kill(run, kill),
            Command::Reconcile(reconcile) => self.reconcile(run, reconcile),
            Command::Suppress(roles) => self.change_roles(run, roles, RoleChange::Suppress),
            Command::Revive(roles) => self.change_roles(run, roles, RoleChange::Revive),
            Command::SetDemand(demand) => self.set_demand(run, *demand),
            Command::ClearDemand(keys) => self.clear_demands(run, keys),
            Command::SetTimer(timer) => self.set_timer(run, timer),
            Command::CancelTimer(id) => {
                let known = self
                    .frameworks
                    .get(&run.framework)
                    .is_some_and(|fw| fw.timers.contains_key(&id));
                if known {
                    self.apply_now(run.framework, Effect::TimerCleared { id }, &mut run.effects);
                }
            }
            Command::Respond(response) => self.respond(run, response),
            Command::ListHoldings(token) => self.list_holdings(run, token),
            Command::Explain(question) => self.explain_demands(run, &question),
            Command::Finish(finish) => run.finish = Some(finish),
            Command::Malformed(rejection) => self.reject(run, rejection),
            Command::AnswerInverse(answer) => {
                // What is not open any more changes nothing: no error.
                self.answer_inverse(run.framework, &answer);
            }
            Command::SetAvailability(availability) => {
                self.unsupported(run, "set-availability", availability.group)
            }
            Command::Publish(publication) => {
                self.unsupported(
                    run,
                    "publish",
                    publication.topics.first().cloned().unwrap_or_default(),
                );
            }
            Command::Message(message) => self.unsupported(run, "message", message.task.to_string()),
        }
    }

    pub(crate) fn reject(&mut self, run: &mut StepRun, rejection: Rejection) {
        self.counters_mut(run.framework).commands_rejected += 1;
        self.queue_durable(
            run.framework,
            Told::Rejected(vec![rejection]),
            Some(&mut run.effects),
        );
    }

    pub(crate) fn reject_with(
        &mut self,
        run: &mut StepRun,
        command: &str,
        subject: impl Into<String>,
        why: Reason,
    ) {
        let rejection = Rejection {
            token: String::new(),
            command: command.to_owned(),
            subject: subject.into(),
            why,
        };
        self.reject(run, rejection);
    }

    /// Whether a framework has let so many rejections wait that it is not to make more.
    pub(crate) fn is_unteachable(&self, framework: FrameworkId) -> bool {
        let fw = self.frameworks.get(&framework);
        fw.is_some_and(|fw| fw.rejections_waiting > REJECTIONS_MAX)
    }

    fn unsupported(&mut self, run: &mut StepRun, command: &str, subject: String) {
        let why = Reason::new(
            code::UNSUPPORTED,
            Remedy::Unsupported,
            format!("this host does not do {command} yet"),
        );
        self.reject_with(run, command, subject, why);
    }

    fn decline(&mut self, run: &mut StepRun, decline: Decline) {
        for id in decline.offers {
            // What is not outstanding any more changes nothing: no error.
            if run.unsettled.remove(&id) {
                self.end_offer(id, &Ending::Declined(decline.refuse));
            }
        }
    }

    fn keep(&mut self, run: &mut StepRun, offers: Vec<OfferId>) {
        let Some(fw) = self.frameworks.get_mut(&run.framework) else {
            return;
        };
        let kept = offers
            .into_iter()
            .filter(|id| run.unsettled.remove(id) && self.offers.contains_key(id));
        fw.kept.extend(kept);
    }

    fn kill(&mut self, run: &mut StepRun, kill: Kill) {
        let id = match TaskId::new(kill.task) {
            Ok(id) => id,
            Err(error) => {
                let why = Reason::new(code::INVALID, Remedy::Mend, error.to_string());
                return self.reject_with(run, "kill", error.text, why);
            }
        };
        let Some(task) = self.task(run.framework, &id) else {
            let why = Reason::new(
                code::RECONCILIATION,
                Remedy::ChooseAnew,
                "the host knows no such task",
            );
            let update = host_update(id, None, TaskState::Unknown, why, self.now);
            return self.queue_durable(
                run.framework,
                Told::Updates(vec![update]),
                Some(&mut run.effects),
            );
        };
        let group = task.group;
        for (member, grace) in self.group_members(run.framework, group) {
            let grace = kill.grace.unwrap_or(grace);
            self.apply_now(
                run.framework,
                Effect::TaskKillAsked {
                    task: member.clone(),
                    grace,
                },
                &mut run.effects,
            );
            run.killed.push(member);
        }
    }

    /// Live tasks of a group, with the grace that their templates give.
    pub(crate) fn group_members(
        &self,
        framework: FrameworkId,
        group: LaunchNumber,
    ) -> Vec<(TaskId, Duration)> {
        self.launches
            .range(group..)
            .map_while(|(_, (owner, id))| {
                let task = self.task(*owner, id)?;
                (*owner == framework && task.group == group).then_some(task)
            })
            .filter(|task| !task.latest.is_final())
            .map(|task| (task.spec.id.clone(), task.spec.template.grace))
            .collect()
    }

    fn reconcile(&mut self, run: &mut StepRun, reconcile: Reconcile) {
        let (framework, now) = (run.framework, self.now);
        let mut malformed = Vec::new();
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let waiting = fw.asked.reconciles;
        let too_much = reconcile.tasks.is_empty() && waiting > 0
            || reconcile.tasks.len() > RECONCILE_TASKS_MAX
            || waiting >= RECONCILES_MAX;
        if too_much {
            let text = format!(
                "at most {RECONCILES_MAX} reconciliations of at most {RECONCILE_TASKS_MAX} tasks may wait for their answers, or one of everything"
            );
            let why = Reason::new(code::LIMIT, Remedy::Retry, text);
            return self.reject_with(run, "reconcile", reconcile.token, why);
        }
        fw.asked.reconciles += 1;
        let fw = &*fw;
        let mut updates = Vec::new();
        let mut silent = Vec::new();
        if reconcile.tasks.is_empty() {
            updates.extend(
                fw.live_tasks()
                    .map(|task| task.restated(code::RECONCILIATION, "where the task stands", now)),
            );
        }
        for id in reconcile.tasks {
            let id = match TaskId::new(id) {
                Ok(id) => id,
                Err(error) => {
                    malformed.push(error);
                    continue;
                }
            };
            match fw.tasks.get(&id) {
                None => {
                    let why = Reason::new(
                        code::RECONCILIATION,
                        Remedy::ChooseAnew,
                        "the host knows no such task",
                    );
                    updates.push(host_update(id, None, TaskState::Unknown, why, now));
                }
                // Its agent may still return and say better.
                Some(task)
                    if !task.seen
                        && !self
                            .agents
                            .get(&task.agent)
                            .is_some_and(|agent| agent.is_active()) =>
                {
                    silent.push(id);
                }
                Some(task) => {
                    updates.push(task.restated(code::RECONCILIATION, "where the task stands", now))
                }
            }
        }
        for error in malformed {
            let why = Reason::new(code::INVALID, Remedy::Mend, error.to_string());
            self.reject_with(run, "reconcile", error.text, why);
        }
        let answered = u32::try_from(updates.len()).unwrap_or(u32::MAX);
        for update in updates {
            self.enqueue(framework, Item::Told(Box::new(Told::Updates(vec![update]))));
        }
        let end = Reconciled {
            token: reconcile.token,
            answered,
            silent,
        };
        self.enqueue(framework, Item::Told(Box::new(Told::Reconciled(end))));
    }

    fn change_roles(&mut self, run: &mut StepRun, roles: Vec<RoleName>, change: RoleChange) {
        let Some(fw) = self.frameworks.get(&run.framework) else {
            return;
        };
        let own: Vec<RoleName> = fw.clients.keys().cloned().collect();
        let (roles, strange): (Vec<_>, Vec<_>) = if roles.is_empty() {
            (own, Vec::new())
        } else {
            roles.into_iter().partition(|role| own.contains(role))
        };
        let command = match change {
            RoleChange::Suppress => "suppress",
            RoleChange::Revive => "revive",
        };
        for role in strange {
            let why = Reason::new(
                code::ROLE_DENIED,
                Remedy::Denied,
                "the framework does not have this role",
            );
            self.reject_with(run, command, role.to_string(), why);
        }
        if roles.is_empty() {
            return;
        }
        let clients: Vec<_> = roles
            .iter()
            .filter_map(|role| self.handles.find_client(run.framework, role))
            .collect();
        let effect = match change {
            RoleChange::Suppress => Effect::Suppressed { roles },
            RoleChange::Revive => Effect::Revived { roles },
        };
        self.apply_now(run.framework, effect, &mut run.effects);
        for client in clients {
            self.feed.client_changed(client);
            if matches!(change, RoleChange::Revive) {
                self.drop_inverse_refusals(run.framework);
                self.release_client_filters(client);
                self.everything_wanted();
            }
        }
        self.demands_changed(run.framework);
    }

    fn set_timer(&mut self, run: &mut StepRun, timer: Timer) {
        let Some(fw) = self.frameworks.get(&run.framework) else {
            return;
        };
        let too_many =
            fw.timers.len() >= self.config.timers_max && !fw.timers.contains_key(&timer.id);
        if timer.id.is_empty() || timer.id.len() > ID_LEN_MAX || too_many {
            let text = if too_many {
                "too many timers"
            } else {
                "a timer's id is 1 to 255 bytes"
            };
            let why = Reason::new(code::LIMIT, Remedy::Denied, text);
            return self.reject_with(
                run,
                "set-timer",
                timer.id.chars().take(64).collect::<String>(),
                why,
            );
        }
        let at = match timer.due {
            Due::At(at) => at,
            Due::After(after) => self.now + after,
        };
        let effect = Effect::TimerSet {
            id: timer.id,
            due: timer.due,
            at,
        };
        self.apply_now(run.framework, effect, &mut run.effects);
    }

    /// A timer that is set anew or goes leaves no deadline behind.
    pub(crate) fn unschedule_timer(&mut self, framework: FrameworkId, id: &str) {
        let timer = self
            .frameworks
            .get(&framework)
            .and_then(|fw| fw.timers.get(id));
        if let Some(at) = timer.filter(|timer| !timer.fired).map(|timer| timer.at) {
            self.agenda
                .remove(at, Deadline::TimerFires(framework, id.to_owned()));
        }
    }

    /// A timer's deadline, live and in recovery alike.
    pub(crate) fn schedule_timer(&mut self, framework: FrameworkId, effect: &Effect) {
        if let Effect::TimerSet { id, at, .. } = effect {
            self.agenda
                .add(*at, Deadline::TimerFires(framework, id.clone()));
        }
    }

    fn respond(&mut self, run: &mut StepRun, mut response: Response) {
        let id = response.request;
        let subject = id.0.to_string();
        if self
            .requests
            .get(&id)
            .is_none_or(|waiting| waiting.framework != run.framework)
        {
            // Answered or given up by now: changes nothing, no error.
            return;
        }
        if !(200..=599).contains(&response.status) {
            let why = Reason::new(
                code::INVALID,
                Remedy::Mend,
                format!("{} is no HTTP status", response.status),
            );
            self.reject_with(run, "respond", subject, why);
            return self.answer_request(id, 500, "the framework answered with an invalid status");
        }
        if !response.topics.is_empty() {
            let why = Reason::new(
                code::UNSUPPORTED,
                Remedy::Unsupported,
                "this host keeps no responses open yet",
            );
            self.reject_with(run, "respond", subject, why);
            response.topics.clear();
        }
        if let Some(waiting) = self.close_request(id) {
            let reply = Reply::Response(Box::new(response));
            self.emit_durable(Action::Reply {
                ticket: waiting.ticket,
                reply,
            });
        }
    }

    fn list_holdings(&mut self, run: &mut StepRun, token: String) {
        let framework = run.framework;
        let mut rows = Vec::new();
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            if std::mem::replace(&mut fw.asked.holdings, true) {
                let why = unanswered("list-holdings");
                return self.reject_with(run, "list-holdings", token, why);
            }
            for (id, agent) in self.agents.iter() {
                for (role, client) in &fw.clients {
                    let used = agent.account.held_by(*client).map(|held| &held.used);
                    if let Some(used) = used.filter(|used| !used.is_empty()) {
                        rows.push(Holding {
                            agent: *id,
                            role: role.clone(),
                            resources: used.clone(),
                            in_use: true,
                        });
                    }
                }
            }
        }
        for (rows, last) in chunks(rows) {
            let token = token.clone();
            let holdings = Told::Holdings(Holdings { token, rows, last });
            self.enqueue(framework, Item::Told(Box::new(holdings)));
        }
    }

    /// Marks a framework as being removed: its tasks end, by themselves or killed, then it goes.
    pub(crate) fn begin_removal(&mut self, framework: FrameworkId, why: Reason, tasks: Tasks) {
        if tasks == Tasks::Kill {
            self.kill_all(framework);
        }
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        if matches!(fw.record.standing, FrameworkStanding::Removing(_)) {
            return;
        }
        fw.record.standing = FrameworkStanding::Removing(why);
        let (record, clients) = (fw.record.clone(), fw.clients.clone());
        self.facts
            .push(proffer_model::fact::Fact::FrameworkSet(Box::new(record)));
        let why = Reason::new(
            code::FRAMEWORK_REMOVED,
            Remedy::Denied,
            "the framework is being removed",
        );
        self.rescind_framework_offers(framework, &why);
        for client in clients.into_values() {
            self.drop_client_filters(client);
            self.feed.client_changed(client);
        }
        self.demands_changed(framework);
        self.refuse_requests(framework, "the framework is being removed");
        self.give_up_upgrade(framework);
        self.emit(Action::StopFramework { framework });
        self.removing.insert(framework);
        self.finish_removal(framework);
    }

    fn kill_all(&mut self, framework: FrameworkId) {
        let live: Vec<(TaskId, Duration)> = self
            .frameworks
            .get(&framework)
            .map(|fw| {
                fw.live_tasks()
                    .map(|task| (task.spec.id.clone(), task.spec.template.grace))
                    .collect()
            })
            .unwrap_or_default();
        for (task, grace) in live {
            let effect = Effect::TaskKillAsked {
                task: task.clone(),
                grace,
            };
            self.apply_effect(framework, &effect);
            self.facts
                .push(proffer_model::fact::Fact::Changed { framework, effect });
            self.send_kill(framework, &task);
        }
    }
}

/// What becomes of the tasks of a framework that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tasks {
    Kill,
    /// They run to their end.
    Leave,
}

#[derive(Clone, Copy)]
enum RoleChange {
    Suppress,
    Revive,
}
