//! Accept: offers become tasks, in plan and deed apart, so that all-or-nothing is easy.

use std::collections::BTreeSet;
use std::sync::Arc;

use proffer_model::fact::{Effect, LaunchRecord};
use proffer_model::framework::{
    Accept, Act, Event as Told, OperationState, OperationUpdate, Part, Reserve,
};
use proffer_model::{
    AgentId, Amount, Duration, Executor, LaunchNumber, OfferId, Quantity, Reason, Remedy,
    Resources, RoleName, Source, TaskId, TaskSpec, TaskState, code,
};

use crate::account::Part as AccountPart;
use crate::book::Ending;
use crate::commands::StepRun;
use crate::event::ReservationChange;
use crate::handles::ClientId;
use crate::machine::Core;
use crate::reservations::{Conversion, conversion_for};
use crate::tasks::host_update;

/// What will become of one part.
#[derive(Debug)]
struct Plan {
    place: Option<Place>,
    /// Offers named that are really ours, whatever becomes of the part.
    offers: Vec<OfferId>,
    /// Groups of tasks to launch; a task by itself is a group of one.
    groups: Vec<Vec<TaskSpec>>,
    /// Tasks that will not run, and why.
    failed: Vec<(TaskId, TaskState, Reason)>,
    /// Things that cannot be told by a task's update: the subject, and why.
    rejected: Vec<(String, Reason)>,
    /// What becomes something else, with the operation's token; done before anything is launched.
    conversions: Vec<(String, Conversion)>,
    /// Operations that are not done: token and why.
    undone: Vec<(String, Reason)>,
    left: Resources,
}

/// Where a part's offers are.
#[derive(Clone, Debug)]
struct Place {
    agent: AgentId,
    role: RoleName,
    client: ClientId,
}

impl Plan {
    fn is_clean(&self) -> bool {
        self.place.is_some()
            && self.failed.is_empty()
            && self.rejected.is_empty()
            && self.undone.is_empty()
    }
}

impl Core {
    pub(crate) fn accept(&mut self, run: &mut StepRun, accept: Accept) {
        let mut named = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let plans: Vec<Plan> = accept
            .parts
            .into_iter()
            .map(|part| self.plan(run, part, &mut named, &mut ids))
            .collect();
        if accept.whole && !plans.iter().all(Plan::is_clean) {
            for plan in plans {
                self.undo(run, plan);
            }
            return;
        }
        for plan in plans {
            self.perform(run, plan, accept.refuse);
        }
    }

    /// What a part would do. Changes nothing.
    fn plan(
        &self,
        run: &StepRun,
        part: Part,
        named: &mut BTreeSet<OfferId>,
        ids: &mut BTreeSet<TaskId>,
    ) -> Plan {
        let mut plan = Plan {
            place: None,
            offers: Vec::new(),
            groups: Vec::new(),
            failed: Vec::new(),
            rejected: Vec::new(),
            conversions: Vec::new(),
            undone: Vec::new(),
            left: Resources::none(),
        };
        let fault = self.pool_offers(run, &part, named, &mut plan);
        for operation in part.operations {
            match operation.act {
                Act::Launch(tasks) => {
                    for task in tasks {
                        self.plan_group(run, vec![task], fault.as_ref(), ids, &mut plan);
                    }
                }
                Act::LaunchGroup(tasks) => {
                    self.plan_group(run, tasks, fault.as_ref(), ids, &mut plan)
                }
                Act::Malformed(tasks, why) => {
                    for task in tasks {
                        match TaskId::new(task.id.clone()) {
                            Ok(id) if self.task(run.framework, &id).is_none() => {
                                plan.failed.push((id, TaskState::Error, task.why));
                            }
                            _ => plan.rejected.push((task.id, task.why)),
                        }
                    }
                    plan.undone.push((operation.token, why));
                }
                Act::Reserve(reserve) => {
                    let resources = reserved_form(&reserve);
                    let change = ReservationChange::Reserve;
                    plan_conversion(
                        operation.token,
                        &resources,
                        change,
                        fault.as_ref(),
                        &mut plan,
                    );
                }
                Act::Unreserve(resources) => {
                    let change = ReservationChange::Unreserve;
                    plan_conversion(
                        operation.token,
                        &resources,
                        change,
                        fault.as_ref(),
                        &mut plan,
                    );
                }
                Act::CreateVolume(_) | Act::DestroyVolume(_) => {
                    let text = "this host does no volumes yet";
                    plan.undone.push((
                        operation.token,
                        Reason::new(code::UNSUPPORTED, Remedy::Unsupported, text),
                    ));
                }
            }
        }
        plan
    }

    /// Pools a part's offers; answers what is wrong with them.
    fn pool_offers(
        &self,
        run: &StepRun,
        part: &Part,
        named: &mut BTreeSet<OfferId>,
        plan: &mut Plan,
    ) -> Option<Reason> {
        let mut problem = part
            .offers
            .is_empty()
            .then(|| "it names no offer".to_owned());
        for id in &part.offers {
            let open = self.offers.get(id).filter(|_| run.unsettled.contains(id));
            let Some(open) = open else {
                problem = Some(format!("{id} is not outstanding"));
                continue;
            };
            if !named.insert(*id) {
                problem = Some(format!("{id} is named twice"));
                continue;
            }
            plan.offers.push(*id);
            let place = Place {
                agent: open.offer.agent,
                role: open.offer.role.clone(),
                client: open.client,
            };
            let elsewhere = plan
                .place
                .as_ref()
                .is_some_and(|p| p.agent != place.agent || p.role != place.role);
            if elsewhere {
                problem = Some("its offers are of different agents or roles".to_owned());
            }
            plan.place.get_or_insert(place);
            plan.left.add(&open.offer.resources);
        }
        let problem = problem?;
        plan.place = None;
        Some(Reason::new(
            code::INVALID_OFFERS,
            Remedy::ChooseAnew,
            problem,
        ))
    }

    fn tasks_limit(&self) -> Reason {
        let text = format!(
            "the framework has {} tasks that have not ended, and may have no more",
            self.config.tasks_max
        );
        Reason::new(code::LIMIT, Remedy::Retry, text)
    }

    /// Tasks that run together or not at all.
    fn plan_group(
        &self,
        run: &StepRun,
        tasks: Vec<TaskSpec>,
        fault: Option<&Reason>,
        ids: &mut BTreeSet<TaskId>,
        plan: &mut Plan,
    ) {
        let kept = self
            .frameworks
            .get(&run.framework)
            .map_or(0, |fw| fw.tasks.len().saturating_sub(fw.ended.len()));
        let mut left = plan.left.clone();
        let mut problems: Vec<Option<(TaskState, Reason)>> = Vec::new();
        let mut group_failed = tasks.is_empty();
        for task in &tasks {
            if self.task(run.framework, &task.id).is_some() || !ids.insert(task.id.clone()) {
                let text = "the task id is in use: the host still remembers a task of this id";
                let why = Reason::new(code::DUPLICATE_TASK, Remedy::ChooseAnew, text);
                plan.rejected.push((task.id.to_string(), why));
                problems.push(None);
                group_failed = true;
                continue;
            }
            let full = kept + ids.len() > self.config.tasks_max;
            let problem = match fault {
                Some(fault) => Some((TaskState::Dropped, fault.clone())),
                None if full => Some((TaskState::Dropped, self.tasks_limit())),
                None => problem_of(task)
                    .map(|why| (TaskState::Error, why))
                    .or_else(|| {
                        let short = left.take(&task.resources).err()?;
                        let text = format!("the offers do not hold the task: {short}");
                        Some((
                            TaskState::Error,
                            Reason::new(code::INSUFFICIENT_RESOURCES, Remedy::ChooseAnew, text),
                        ))
                    }),
            };
            group_failed |= problem.is_some();
            problems.push(problem.or_else(|| Some((TaskState::Dropped, group_reason()))));
        }
        if !group_failed {
            plan.left = left;
            plan.groups.push(tasks);
            return;
        }
        for (task, problem) in tasks.into_iter().zip(problems) {
            if let Some((state, why)) = problem {
                plan.failed.push((task.id, state, why));
            }
        }
    }

    /// Does what was planned.
    fn perform(&mut self, run: &mut StepRun, mut plan: Plan, refuse: Option<Duration>) {
        let groups = std::mem::take(&mut plan.groups);
        let place = plan.place.clone();
        let left = std::mem::take(&mut plan.left);
        let conversions = std::mem::take(&mut plan.conversions);
        let launches = !groups.is_empty() || !conversions.is_empty();
        self.tell_undone(run, &plan);
        let Some(place) = place.filter(|_| launches) else {
            // Nothing of it runs: the offers go back, without a filter if they were invalid.
            let refuse = if plan.place.is_some() {
                refuse
            } else {
                Some(Duration::ZERO)
            };
            return self.give_back(run, plan.offers, refuse);
        };
        for id in plan.offers {
            run.unsettled.remove(&id);
            self.close_offer(id);
            self.counters_mut(run.framework).offers_accepted += 1;
        }
        for (token, made) in conversions {
            self.convert_offered(run, &place, token, made);
        }
        for group in groups {
            self.launch_group(run, &place, group);
        }
        let (agent, client) = (place.agent, place.client);
        self.with_account(agent, client, |account| account.withdraw(client, &left));
        if !left.is_empty() {
            self.refuse(agent, client, left, refuse);
            self.agent_has_more(agent);
        }
    }

    fn convert_offered(
        &mut self,
        run: &mut StepRun,
        place: &Place,
        token: String,
        made: Conversion,
    ) {
        self.convert_held(place.agent, place.client, AccountPart::Offered, &made);
        let update = OperationUpdate {
            token,
            agent: place.agent,
            state: OperationState::Done,
            why: Reason::new(code::OFFERABLE, Remedy::Retry, "done"),
            resources: made.to.clone(),
        };
        let effect = Effect::Converted {
            agent: place.agent,
            from: made.from,
            to: made.to,
        };
        self.apply_now(run.framework, effect, &mut run.effects);
        self.queue_durable(
            run.framework,
            Told::OperationUpdates(vec![update]),
            Some(&mut run.effects),
        );
    }

    fn launch_group(&mut self, run: &mut StepRun, place: &Place, group: Vec<TaskSpec>) {
        let mut first = None;
        for task in group {
            let launch = LaunchNumber(self.next_id());
            let group = *first.get_or_insert(launch);
            let client = place.client;
            self.with_account(place.agent, client, |account| {
                account.use_offered(client, &task.resources)
            });
            let record = LaunchRecord {
                launch,
                agent: place.agent,
                role: place.role.clone(),
                task: Arc::new(task),
                group,
                at: self.now,
            };
            self.counters_mut(run.framework).tasks_launched += 1;
            self.apply_now(
                run.framework,
                Effect::TaskLaunched(Box::new(record)),
                &mut run.effects,
            );
        }
        run.launched.extend(first);
    }

    /// Nothing of a whole accept is done.
    fn undo(&mut self, run: &mut StepRun, mut plan: Plan) {
        for (token, _) in std::mem::take(&mut plan.conversions) {
            plan.undone.push((token, group_reason()));
        }
        for group in std::mem::take(&mut plan.groups) {
            plan.failed.extend(
                group
                    .into_iter()
                    .map(|task| (task.id, TaskState::Dropped, group_reason())),
            );
        }
        self.tell_undone(run, &plan);
        self.give_back(run, plan.offers, Some(Duration::ZERO));
    }

    fn give_back(&mut self, run: &mut StepRun, offers: Vec<OfferId>, refuse: Option<Duration>) {
        for id in offers {
            run.unsettled.remove(&id);
            self.end_offer(id, &Ending::Declined(refuse));
        }
    }

    fn tell_undone(&mut self, run: &mut StepRun, plan: &Plan) {
        for (id, state, why) in &plan.failed {
            let agent = plan.place.as_ref().map(|place| place.agent);
            let update = host_update(id.clone(), agent, *state, why.clone(), self.now);
            self.queue_durable(
                run.framework,
                Told::Updates(vec![update]),
                Some(&mut run.effects),
            );
        }
        for (subject, why) in &plan.rejected {
            self.reject_with(run, "accept", subject.clone(), why.clone());
        }
        for (token, why) in &plan.undone {
            let Some(agent) = plan.place.as_ref().map(|place| place.agent) else {
                self.reject_with(run, "accept", token.clone(), why.clone());
                continue;
            };
            let update = OperationUpdate {
                token: token.clone(),
                agent,
                state: OperationState::Failed,
                why: why.clone(),
                resources: Resources::none(),
            };
            self.queue_durable(
                run.framework,
                Told::OperationUpdates(vec![update]),
                Some(&mut run.effects),
            );
        }
    }
}

/// What is to be reserved, in the form that it will have.
fn reserved_form(reserve: &Reserve) -> Resources {
    let mut resources = Resources::none();
    for (terms, bundle) in reserve.resources.piles() {
        let mut reserved = terms.clone();
        reserved.reserved.push(reserve.role.clone());
        reserved.label.clone_from(&reserve.label);
        reserved.marks.dynamic = true;
        resources.add_pile(&reserved, bundle);
    }
    resources
}

fn plan_conversion(
    token: String,
    resources: &Resources,
    change: ReservationChange,
    fault: Option<&Reason>,
    plan: &mut Plan,
) {
    let Some(place) = plan.place.as_ref().filter(|_| fault.is_none()) else {
        let why = fault.cloned().unwrap_or_else(group_reason);
        return plan.undone.push((token, why));
    };
    let made = match unsound(resources) {
        Some(problem) => Err(problem.to_owned()),
        None => conversion_for(resources, change, &place.role, &plan.left),
    };
    let made = made.and_then(|made| {
        plan.left
            .take(&made.from)
            .map_err(|short| format!("the offers do not hold it: {short}"))?;
        plan.left.add(&made.to);
        Ok(made)
    });
    match made {
        Ok(made) => plan.conversions.push((token, made)),
        Err(problem) => {
            let why = Reason::new(code::INVALID, Remedy::Mend, problem);
            plan.undone.push((token, why));
        }
    }
}

fn group_reason() -> Reason {
    Reason::new(
        code::GROUP_FAILED,
        Remedy::ChooseAnew,
        "another part of the same command failed",
    )
}

/// What no amounts may be, whatever they are amounts of: the ledger's arithmetic relies on it.
pub(crate) fn unsound(resources: &Resources) -> Option<&'static str> {
    let range = Amount::ZERO..=Amount::MAX_INPUT;
    for (_, bundle) in resources.piles() {
        let known = [bundle.cpus, bundle.mem, bundle.disk, bundle.gpus];
        let others = bundle.other.values().map(Quantity::amount);
        if !known
            .into_iter()
            .chain(others)
            .all(|amount| range.contains(&amount))
        {
            return Some("an amount is negative or beyond measure");
        }
        if bundle.other.values().any(Quantity::is_empty) {
            return Some("a kind is named of which nothing is wanted");
        }
    }
    None
}

/// What is wrong with a task by itself.
fn problem_of(task: &TaskSpec) -> Option<Reason> {
    let invalid = |text: &str| Some(Reason::new(code::INVALID, Remedy::Mend, text));
    let unsupported = |text: &str| Some(Reason::new(code::UNSUPPORTED, Remedy::Unsupported, text));
    if let Some(problem) = unsound(&task.resources) {
        return invalid(problem);
    }
    let total = task.resources.total();
    if total.is_empty() {
        return invalid("the task asks for no resources");
    }
    if !total.gpus.is_whole() {
        return invalid("gpus are whole");
    }
    let revocable = task
        .resources
        .piles()
        .filter(|(terms, _)| terms.marks.revocable)
        .count();
    if revocable != 0 && revocable != task.resources.piles().count() {
        return invalid("revocable and other resources do not mix in one task");
    }
    if task.output.contains('/') || task.output.len() > TaskId::LEN_MAX {
        return invalid("an output's name has no slash and at most 255 bytes");
    }
    match &task.template.executor {
        Executor::Process(argv) if argv.is_empty() && task.args.is_empty() => {
            return invalid("a process needs a program");
        }
        Executor::Shell(line) if line.trim().is_empty() => {
            return invalid("the shell line is empty");
        }
        Executor::Container(_) => return unsupported("this host runs no containers yet"),
        Executor::Process(_) | Executor::Shell(_) | Executor::Wasm(_) => {}
    }
    if !task.template.checks.is_empty() {
        return unsupported("this host does no health checks yet");
    }
    if !task.mounts.is_empty() {
        return unsupported("this host has no volumes yet");
    }
    if let Some((name, _)) = task.template.options.first() {
        return unsupported(&format!("this host does not know the option '{name}'"));
    }
    inputs_of(task).find_map(|input| match Source::parse(&input.source) {
        Ok(Source::Asset(_)) => unsupported("this host has no packages yet: asset: cannot be had"),
        Ok(Source::Output(glob, _)) if globset::Glob::new(glob).is_err() => {
            invalid("output: the glob is malformed")
        }
        Ok(_) => None,
        Err(problem) => Some(Reason::new(
            code::INVALID,
            Remedy::Mend,
            format!("'{}': {problem}", input.source),
        )),
    })
}

/// All of a task's inputs; a Wasm task's component first.
pub(crate) fn inputs_of(task: &TaskSpec) -> impl Iterator<Item = &proffer_model::Input> {
    let component = match &task.template.executor {
        Executor::Wasm(component) => Some(component),
        _ => None,
    };
    component
        .into_iter()
        .chain(&task.template.inputs)
        .chain(&task.inputs)
}
