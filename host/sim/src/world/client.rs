//! Operators: they add frameworks, submit jobs, ask, kill, change weights, resume what is in
//! quarantine; and they try again when nobody answers.

use std::collections::BTreeMap;

use proffer_core::{Event, NewFramework, Reply, Ticket};
use proffer_model::fact::{FrameworkOptions, FrameworkStanding, ReservationFate};
use proffer_model::{Amount, FrameworkId, RoleName};

use crate::check::Invariant;
use crate::restless::Wishes;

use super::plugins::{MAPREDUCE, RESTLESS, STRANGER, policy_loaded};
use super::{Checked, Occurrence, World};

/// Whoever waits for so long asks again.
const PATIENCE: u64 = 45_000;

/// Splits of one job's file, and its partitions.
pub(super) const MAPS: u64 = 5;
const REDUCERS: u64 = 2;

/// All operators.
#[derive(Default)]
pub(super) struct Client {
    pub(super) frameworks: Vec<Wanted>,
    pub(super) jobs: Vec<Job>,
    tickets: u64,
    /// And which term was asked.
    waiting: BTreeMap<Ticket, (u64, Errand)>,
    /// Frameworks that fail every step until then.
    ill: BTreeMap<FrameworkId, u64>,
    /// An agent that operators gave up.
    pub(super) given_up: Option<usize>,
    pub(super) stage: Stage,
    pub(super) calm_since: u64,
    now: u64,
}

/// A framework that is to be there.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) digest: &'static str,
    config: String,
    role: &'static str,
    pub(super) id: Option<FrameworkId>,
    pub(super) keep: u64,
    asked_at: Option<u64>,
    pub(super) removed: bool,
    removal_asked: bool,
}

/// A job of the MapReduce framework.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) name: String,
    at: u64,
    pub(super) accepted: bool,
    asked_at: Option<u64>,
}

/// What a reply is to.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    Add(usize),
    Submit(usize),
    /// Of which framework, to which component.
    Upgrade(usize, String),
    /// To which component; a trial's beginning is no record.
    Swap(String),
    /// A role's own, or none.
    RolePolicy(RoleName, Option<String>),
    Other,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Storm,
    /// Faults have stopped: demand is to be served.
    Serving,
    /// All was served: services are to end.
    Draining,
    Settled,
}

impl Client {
    pub(super) fn is_ill(&self, framework: FrameworkId) -> bool {
        self.ill
            .get(&framework)
            .is_some_and(|until| *until > self.now)
    }

    pub(super) fn make_ill(&mut self, choice: usize, until: u64) {
        let ids: Vec<FrameworkId> = self.frameworks.iter().filter_map(|own| own.id).collect();
        if let Some(id) = ids.get(choice % ids.len().max(1)) {
            self.ill.insert(*id, until);
        }
    }

    /// Nobody answers any more who was asked in this term.
    pub(super) fn host_died(&mut self, life: u64) {
        self.waiting.retain(|_, (asked, _)| *asked != life);
        for own in &mut self.frameworks {
            own.asked_at = None;
        }
        for job in &mut self.jobs {
            job.asked_at = None;
        }
    }

    pub(super) fn calm_begins(&mut self, now: u64) {
        self.ill.clear();
        self.stage = Stage::Serving;
        self.calm_since = now;
    }
}

impl World {
    fn plan(&mut self) {
        let dice = &mut self.dice.client;
        let wanted = |name: String, digest, config, role, keep| Wanted {
            name,
            digest,
            config,
            role,
            id: None,
            keep,
            asked_at: None,
            removed: false,
            removal_asked: false,
        };
        if self.scenario.jobs > 0 {
            let name = "mapreduce".to_owned();
            let own = wanted(name, MAPREDUCE, String::new(), "batch", 0);
            self.client.frameworks.push(own);
        }
        for number in 0..self.scenario.restless {
            let wishes = Wishes {
                batch: dice.between(5, 25),
                keep: dice.below(3),
                hoard: dice.pick(&[3, 20, 40]).copied().unwrap_or(3),
            };
            let name = format!("restless-{number}");
            let role = ["service", "batch", "*"][dice.index(3)];
            // Below one that may have a policy of its own, some of them.
            let role = match role {
                "service" if self.scenario.policies && number % 2 == 0 => "service/web",
                role => role,
            };
            let own = wanted(name, RESTLESS, wishes.to_config(), role, wishes.keep);
            self.client.frameworks.push(own);
        }
        if let Some(config) = self.plugins.and_then(|plugins| plugins.stranger()) {
            let own = wanted("stranger".to_owned(), STRANGER, config, "*", 0);
            self.client.frameworks.push(own);
        }
        for number in 0..self.scenario.jobs {
            self.client.jobs.push(Job {
                name: format!("job-{number}"),
                at: dice.below(self.scenario.stormy),
                accepted: false,
                asked_at: None,
            });
        }
    }

    /// Once in a while somebody wants something.
    pub(super) fn client_acts(&mut self) -> Checked {
        self.client.now = self.now;
        if self.client.frameworks.is_empty() {
            self.plan();
        }
        let pause = if self.calm {
            500
        } else {
            self.dice.client.between(100, 2_000)
        };
        self.after(pause, Occurrence::ClientActs);
        if self.acting().is_none() {
            return Ok(());
        }
        self.look_for_removed();
        self.add_frameworks()?;
        self.submit_jobs()?;
        self.resume_frameworks()?;
        if self.calm {
            return self.settle();
        }
        self.do_something()
    }

    pub(super) fn ask(&mut self, errand: Errand, event: impl FnOnce(Ticket) -> Event) -> Checked {
        let lives: Vec<u64> = self.terms_now().collect();
        match self.dice.client.pick(&lives).copied() {
            Some(life) => self.ask_term(life, errand, event),
            None => Ok(()),
        }
    }

    /// Asks the host that is in this term.
    pub(super) fn ask_term(
        &mut self,
        life: u64,
        errand: Errand,
        event: impl FnOnce(Ticket) -> Event,
    ) -> Checked {
        self.client.tickets += 1;
        let ticket = Ticket(self.client.tickets);
        self.client.waiting.insert(ticket, (life, errand));
        self.host_hears(life, event(ticket))
    }

    fn is_due(&self, asked_at: Option<u64>) -> bool {
        asked_at.is_none_or(|at| self.now >= at + PATIENCE)
    }

    /// A removal stands once it was begun, also if its answer was lost.
    fn look_for_removed(&mut self) {
        let acting = self.acting().and_then(|term| self.host_of(term.life));
        let Self { client, hosts, .. } = self;
        let Some(term) = acting.and_then(|host| hosts[host].term()) else {
            return;
        };
        let core = &term.core;
        for own in &mut client.frameworks {
            let standing = core.framework_named(&own.name).map(|view| view.standing);
            let stays = matches!(
                standing,
                Some(FrameworkStanding::Active | FrameworkStanding::Quarantined(_))
            );
            own.removed = own.removal_asked && !stays;
        }
    }

    fn add_frameworks(&mut self) -> Checked {
        for index in 0..self.client.frameworks.len() {
            let own = self.client.frameworks[index].clone();
            if own.id.is_some() || own.removed || !self.is_due(own.asked_at) {
                continue;
            }
            self.client.frameworks[index].asked_at = Some(self.now);
            let framework = Box::new(NewFramework {
                name: own.name.as_str().into(),
                version: "1".to_owned(),
                digest: own.digest.to_owned(),
                roles: RoleName::new(own.role).into_iter().collect(),
                config: own.config,
                gpus: false,
                options: FrameworkOptions::default(),
            });
            self.ask(Errand::Add(index), |ticket| Event::FrameworkAdded {
                ticket,
                framework,
            })?;
        }
        Ok(())
    }

    fn submit_jobs(&mut self) -> Checked {
        for index in 0..self.client.jobs.len() {
            let job = self.client.jobs[index].clone();
            if job.accepted || job.at > self.now || !self.is_due(job.asked_at) {
                continue;
            }
            self.client.jobs[index].asked_at = Some(self.now);
            let body = format!(
                r#"{{"name":"{}","inputs":[{{"source":"file:/in/a","size":{}}}],"split":100,
                "reducers":{REDUCERS},"failures_max":100,"map":{{"component":"file:/wc.wasm"}},
                "reduce":{{"component":"file:/wc.wasm","mem":128}}}}"#,
                job.name,
                MAPS * 100,
            );
            self.request(Errand::Submit(index), "mapreduce", "POST", "/jobs", body)?;
        }
        Ok(())
    }

    fn request(
        &mut self,
        errand: Errand,
        framework: &str,
        method: &str,
        path: &str,
        body: String,
    ) -> Checked {
        self.ask(errand, |ticket| Event::RequestArrived {
            ticket,
            framework: framework.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: body.into_bytes(),
            principal: "somebody".to_owned(),
        })
    }

    fn resume_frameworks(&mut self) -> Checked {
        let Some(core) = self.core() else {
            return Ok(());
        };
        let quarantined: Vec<(FrameworkId, String)> = core
            .frameworks(None, &core.sums())
            .filter(|fw| matches!(fw.standing, FrameworkStanding::Quarantined(_)))
            .map(|fw| (fw.id, fw.name.to_string()))
            .collect();
        for (id, name) in quarantined {
            if !self.client.is_ill(id) {
                self.ask(Errand::Other, |ticket| Event::FrameworkResumeAsked {
                    ticket,
                    name,
                })?;
            }
        }
        Ok(())
    }

    /// Whatever operators do to a cluster that runs.
    fn do_something(&mut self) -> Checked {
        let choice = self.dice.client.below(24);
        if self.scenario.policies && self.dice.policies.one_in(3) {
            return self.operate_policies();
        }
        if self.scenario.operators && self.dice.client.one_in(3) {
            return self.operate();
        }
        let index = self.dice.client.index(self.client.frameworks.len());
        let name = self.client.frameworks[index].name.clone();
        match choice {
            0 => self.request(Errand::Other, &name, "GET", "/jobs", String::new()),
            1 => self.request(Errand::Other, &name, "GET", "/poison", String::new()),
            2 => {
                let units = i64::try_from(self.dice.client.between(1, 4)).unwrap_or(1);
                let Ok(role) = RoleName::new(self.client.frameworks[index].role) else {
                    return Ok(());
                };
                self.ask(Errand::Other, |ticket| Event::RoleSet {
                    ticket,
                    role,
                    weight: Amount::from_units(units),
                })
            }
            3 => self.kill_some_task(),
            4 if self.scenario.loaded_policy && !self.scenario.policies => {
                match self.acting().map(|term| term.life) {
                    Some(life) => self.host_hears(life, policy_loaded()),
                    None => Ok(()),
                }
            }
            5 if self.scenario.removal && index > 0 && self.now > self.scenario.stormy / 2 => {
                let fates = [
                    ReservationFate::Keep,
                    ReservationFate::Release,
                    ReservationFate::Wipe,
                ];
                let reservations = fates[self.dice.client.index(fates.len())];
                self.client.frameworks[index].removal_asked = true;
                self.ask(Errand::Other, |ticket| Event::FrameworkRemovalAsked {
                    ticket,
                    name,
                    reservations,
                })
            }
            _ => Ok(()),
        }
    }

    fn kill_some_task(&mut self) -> Checked {
        let Some(core) = self.core() else {
            return Ok(());
        };
        let tasks: Vec<(String, String)> = core
            .tasks(None, None)
            .filter(|task| !task.state.is_final())
            .map(|task| (task.framework.to_string(), task.id.to_string()))
            .collect();
        let Some((framework, task)) = self.dice.client.pick(&tasks).cloned() else {
            return Ok(());
        };
        self.ask(Errand::Other, |ticket| Event::TaskKillAsked {
            ticket,
            framework,
            task,
            grace: None,
        })
    }

    /// An answer, to whoever still waits for it.
    pub(super) fn client_told(&mut self, ticket: Ticket, reply: &Reply) -> Checked {
        let Some((_, errand)) = self.client.waiting.remove(&ticket) else {
            return Ok(());
        };
        match (errand, reply) {
            (Errand::Add(index), Reply::Added(id)) => {
                self.client.frameworks[index].id = Some(*id);
            }
            // It was added before, and the answer lost.
            (Errand::Add(index), _) => {
                let name = self.client.frameworks[index].name.clone();
                let known = self.core().and_then(|core| core.framework_named(&name));
                self.client.frameworks[index].id = known.map(|known| known.id);
                self.client.frameworks[index].asked_at = None;
            }
            (Errand::Submit(index), Reply::Response(response)) => {
                self.client.jobs[index].asked_at = None;
                if matches!(response.status, 201 | 409) {
                    return self.job_accepted(index);
                }
            }
            (Errand::Submit(index), _) => self.client.jobs[index].asked_at = None,
            (Errand::Upgrade(index, digest), Reply::Done) => {
                return self.upgraded(index, &digest);
            }
            (Errand::Swap(digest), Reply::Done) => return self.was_put_in(&digest),
            (Errand::RolePolicy(role, digest), Reply::Done) => {
                return self.role_has_policy(&role, digest.as_deref());
            }
            _ => {}
        }
        Ok(())
    }

    /// The framework has the job, it says: then so has the store.
    fn job_accepted(&mut self, index: usize) -> Checked {
        self.client.jobs[index].accepted = true;
        let key = format!("j/{}", self.client.jobs[index].name);
        let states = self.log.states();
        let there = states.values().any(|state| state.contains_key(&key));
        self.check.tally.holds(Invariant::RepliesLast, there, || {
            format!("{key} was accepted and is not durable")
        })
    }

    /// Services are not wanted any more.
    pub(super) fn drain(&mut self) -> Checked {
        for own in self.client.frameworks.clone() {
            if own.digest == RESTLESS && !own.removed {
                self.request(Errand::Other, &own.name, "POST", "/drain", String::new())?;
            }
        }
        Ok(())
    }
}
