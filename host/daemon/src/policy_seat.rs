//! Who decides: the loaded policy, mostly a component on a thread of its own, and the native fallback.
//!
//! One task does what cycles need, in order. A policy that is about to be put in is fed by a task of
//! its own ([`Candidates`]), so that its snapshot makes nobody wait.

use std::sync::Arc;

use proffer_core::{Action, Asked, Event, PolicyIdentity, PolicySeat};
use proffer_model::fact::PolicyRecord;
use proffer_model::policy::{
    Changes, ChangesPart, Cycle, Feeds, Finding, Proposal, Question, Section,
};
use proffer_model::{Reason, Remedy, with_causes};
use proffer_plugin::{Kind, LoadedPlugin, PluginHost};
use proffer_store::Components;
use tokio::sync::{mpsc, oneshot};

use crate::candidate::{Candidates, Handover};
use crate::handle::{Input, LoopHandle};
use crate::instance::{Instance, NativeInstance, spawn};
use crate::tenants::Tenants;

/// Work that may wait: the core has one cycle under way at a time, and seldom asks for more.
const WORK_WAITING_MAX: usize = 16;

/// One cycle to be decided.
#[derive(Debug)]
struct Ask {
    seat: PolicySeat,
    changes: Vec<Changes>,
    cycle: Cycle,
}

/// What the policies' task does, in order.
#[derive(Debug)]
enum Work {
    Cycle(Box<Ask>),
    /// Another policy takes the seat; none: the native one.
    Switch(Option<Handover>),
    /// A policy of before takes the seat, with the next snapshot.
    Install(LoadedPolicy),
    Carry,
    /// Why somebody is not granted something.
    Explain(PolicySeat, Question, Answer),
}

/// Where findings go.
pub(crate) type Answer = oneshot::Sender<Result<Vec<Finding>, Reason>>;

/// Asks whoever decides. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    work: mpsc::Sender<Work>,
    candidates: Candidates,
    tenants: Tenants,
}

impl Asker {
    /// Why these agents are not granted, after the cycle that is under way.
    pub(crate) async fn explain(
        &self,
        asked: Asked,
        question: Question,
    ) -> Result<Vec<Finding>, Reason> {
        let (send, receive) = oneshot::channel();
        let gone = || fault("the policy is not there any more");
        match asked {
            Asked::Seat(seat) => {
                let sent = self.work.send(Work::Explain(seat, question, send)).await;
                sent.map_err(|_| gone())?;
            }
            Asked::Canary(number) => self.candidates.explain(number, question, send),
            Asked::Tenant(number) => self.tenants.explain(number, question, send),
        }
        receive.await.map_err(|_| gone())?
    }
}

/// The loop's end of the policies' task.
#[derive(Debug)]
pub(crate) struct PolicySeats {
    work: mpsc::Sender<Work>,
    candidates: Candidates,
    tenants: Tenants,
    loader: Loader,
    handle: LoopHandle,
}

/// A policy and its configuration.
#[derive(Clone, Debug)]
pub(crate) struct LoadedPolicy {
    pub(crate) code: Code,
    pub(crate) identity: Arc<PolicyIdentity>,
}

/// What runs.
#[derive(Clone, Debug)]
pub(crate) enum Code {
    Component(LoadedPlugin),
    /// The native policy; without a configuration it needs no loading.
    Native,
}

/// Loads policies that were put in before.
#[derive(Clone, Debug)]
pub(crate) struct Loader {
    pub(crate) plugins: PluginHost,
    pub(crate) components: Components,
}

struct Seats {
    host: PluginHost,
    loaded: Option<LoadedPolicy>,
    /// None after a fault: the next snapshot goes to a new instance.
    instance: Option<Instance>,
    /// Why there is no instance, if one was to take the seat.
    broken: Option<Reason>,
    fallback: NativeInstance,
    /// What the last policy that was asked said that a successor should know.
    carried: Vec<Section>,
    handle: LoopHandle,
}

impl PolicySeats {
    /// Starts the policies' task. The loaded policy is configured by the first cycle that it is
    /// asked in; [`Event::PolicyLoaded`] has been sent by whoever checked its configuration.
    pub(crate) fn start(
        loader: Loader,
        loaded: Option<LoadedPolicy>,
        carried: Vec<Section>,
        handle: LoopHandle,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (work, mut queue) = mpsc::channel::<Work>(WORK_WAITING_MAX);
        let mut seats = Seats {
            host: loader.plugins.clone(),
            loaded,
            instance: None,
            broken: None,
            fallback: NativeInstance::default(),
            carried,
            handle: handle.clone(),
        };
        let task = tokio::spawn(async move {
            while let Some(work) = queue.recv().await {
                let event = seats.work(work).await;
                let Some(event) = event else { continue };
                if seats.handle.send(Input::Event(event)).await.is_err() {
                    return;
                }
            }
        });
        let seats = Self {
            work,
            candidates: Candidates::new(handle.clone()),
            tenants: Tenants::new(loader.clone(), handle.clone()),
            loader,
            handle,
        };
        (seats, task)
    }

    pub(crate) fn asker(&self) -> Asker {
        Asker {
            work: self.work.clone(),
            candidates: self.candidates.clone(),
            tenants: self.tenants.clone(),
        }
    }

    /// Where operators leave policies that are to be put in.
    pub(crate) fn candidates(&self) -> Candidates {
        self.candidates.clone()
    }

    /// Where operators leave policies of roles.
    pub(crate) fn tenants(&self) -> Tenants {
        self.tenants.clone()
    }

    /// Does what the core asks of policies; gives back what is for others.
    pub(crate) fn perform(&self, action: Action) -> Option<Action> {
        match action {
            Action::RunPolicy {
                seat,
                changes,
                cycle,
            } => self.give(Work::Cycle(Box::new(Ask {
                seat,
                changes,
                cycle,
            }))),
            Action::FeedCandidate {
                candidate,
                changes,
                cycle,
            } => self.candidates.feed(candidate, changes, cycle),
            // Before the next cycle.
            Action::SwitchPolicy { candidate } => {
                self.give(Work::Switch(self.candidates.hand_over(candidate)));
            }
            Action::DropCandidate { candidate } => self.candidates.forget(candidate),
            Action::RunTenant {
                tenant,
                turn,
                changes,
                cycle,
            } => self.tenants.run(tenant, turn, changes, cycle),
            Action::DropTenant { tenant } => self.tenants.forget(tenant),
            Action::LoadPolicy(record) => self.load(*record),
            Action::CarryPolicy => self.give(Work::Carry),
            other => return Some(other),
        }
        None
    }

    /// Loads a policy that was put in before, beside whatever goes on.
    fn load(&self, record: PolicyRecord) {
        let (loader, work, handle) = (self.loader.clone(), self.work.clone(), self.handle.clone());
        // Ends with the load; if the host ends first, nobody misses it.
        tokio::spawn(async move {
            let event = match loader.load(&record).await {
                Ok((policy, feeds)) => {
                    let identity = Arc::clone(&policy.identity);
                    if work.send(Work::Install(policy)).await.is_err() {
                        return;
                    }
                    Event::PolicyLoaded { identity, feeds }
                }
                Err(fault) => Event::PolicyUnavailable { fault },
            };
            let _gone = handle.send(Input::Event(event)).await.is_err();
        });
    }

    fn give(&self, work: Work) {
        if self.work.try_send(work).is_err() {
            tracing::error!("more was asked of the policies than a core asks for: a bug");
        }
    }
}

impl Loader {
    /// A policy of before, by what is kept of it, configured once to see that it still can be.
    pub(crate) async fn load(
        &self,
        record: &PolicyRecord,
    ) -> Result<(LoadedPolicy, Feeds), Reason> {
        if record.digest.is_empty() {
            let policy = LoadedPolicy::native(&record.config);
            let spawned = spawn(&self.plugins, &policy).await;
            let (_, feeds) = spawned.map_err(|refused| unfit(record, refused.to_string()))?;
            return Ok((policy, feeds));
        }
        let (components, digest) = (self.components.clone(), record.digest.clone());
        let read = tokio::task::spawn_blocking(move || components.get(&digest)).await;
        let unfit = |text: String| unfit(record, text);
        let bytes = match read {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(unfit(with_causes(&error))),
            Err(bug) => return Err(unfit(bug.to_string())),
        };
        let plugin = self.plugins.load(bytes, Kind::Policy).await;
        let plugin = plugin.map_err(|error| unfit(with_causes(&error)))?;
        let policy = LoadedPolicy::new(plugin, &record.config);
        let (_, feeds) = spawn(&self.plugins, &policy)
            .await
            .map_err(|fault| unfit(fault.to_string()))?;
        Ok((policy, feeds))
    }
}

fn unfit(record: &PolicyRecord, text: String) -> Reason {
    let text = format!(
        "{} {} cannot be loaded: {text}",
        record.name, record.version
    );
    Reason::new("policy-unavailable", Remedy::Mend, text)
}

impl LoadedPolicy {
    pub(crate) fn native(config: &str) -> Self {
        let identity = PolicyIdentity {
            config: config.to_owned(),
            ..PolicyIdentity::native()
        };
        Self {
            code: Code::Native,
            identity: Arc::new(identity),
        }
    }

    pub(crate) fn new(plugin: LoadedPlugin, config: &str) -> Self {
        let identity = PolicyIdentity {
            name: plugin.name().to_owned(),
            version: plugin.version().to_owned(),
            digest: plugin.digest().to_owned(),
            config: config.to_owned(),
        };
        Self {
            code: Code::Component(plugin),
            identity: Arc::new(identity),
        }
    }
}

impl Seats {
    async fn work(&mut self, work: Work) -> Option<Event> {
        match work {
            Work::Cycle(ask) => {
                let cycle = ask.cycle.number;
                Some(match self.decide(*ask).await {
                    Ok(proposal) => Event::PolicyProposed {
                        cycle,
                        proposal: Box::new(proposal),
                    },
                    Err(fault) => Event::PolicyFailed { cycle, fault },
                })
            }
            Work::Switch(handover) => self.switch(handover).await,
            Work::Install(policy) => {
                self.loaded = Some(policy);
                self.instance = None;
                None
            }
            Work::Carry => self.carry().await,
            Work::Explain(seat, question, answer) => {
                let found = self.explain(seat, question).await;
                // Whoever asked does not wait any more.
                let _gone = answer.send(found).is_err();
                None
            }
        }
    }

    async fn decide(&mut self, ask: Ask) -> Result<Proposal, Reason> {
        match ask.seat {
            PolicySeat::Fallback => self.decide_natively(ask).await,
            PolicySeat::Loaded => self.decide_in_instance(ask).await,
        }
    }

    async fn decide_natively(&mut self, ask: Ask) -> Result<Proposal, Reason> {
        let Ask {
            mut changes, cycle, ..
        } = ask;
        if begins(&changes) {
            self.fallback = NativeInstance::default();
            self.fallback.apply(std::mem::take(&mut changes)).await?;
            if !self.carried.is_empty() {
                self.fallback.adopt(self.carried.clone()).await?;
            }
        }
        self.fallback.cycle(changes, cycle).await
    }

    async fn decide_in_instance(&mut self, ask: Ask) -> Result<Proposal, Reason> {
        let Ask {
            mut changes, cycle, ..
        } = ask;
        if begins(&changes) {
            self.instance = None;
            let instance = self.new_instance().await?;
            instance.apply(std::mem::take(&mut changes)).await?;
            instance.adopt(&self.carried).await?;
            self.instance = Some(instance);
        }
        let Some(instance) = &self.instance else {
            let broken = self.broken.clone();
            return Err(broken.unwrap_or_else(|| fault("there is no instance of the policy")));
        };
        let decided = instance.cycle(changes, cycle).await;
        if decided.is_err() {
            self.instance = None;
        }
        decided
    }

    async fn new_instance(&self) -> Result<Instance, Reason> {
        let Some(loaded) = &self.loaded else {
            return Err(fault("no policy is loaded"));
        };
        let spawned = spawn(&self.host, loaded).await;
        spawned
            .map(|(instance, _)| instance)
            .map_err(|problem| fault(problem.to_string()))
    }

    /// What the one before carries goes over; its instance is taken apart beside the first cycle.
    async fn switch(&mut self, handover: Option<Handover>) -> Option<Event> {
        let event = self.carry().await;
        let before = self.instance.take();
        self.broken = None;
        match handover {
            None => self.loaded = None,
            Some(handover) => {
                self.loaded = Some(handover.policy.clone());
                match handover.instance().await {
                    Err(why) => self.broken = Some(why),
                    Ok(instance) => match instance.adopt(&self.carried).await {
                        Err(why) => self.broken = Some(why),
                        Ok(()) => self.instance = Some(instance),
                    },
                }
            }
        }
        // It gives its memory back, which takes milliseconds.
        drop(tokio::task::spawn_blocking(move || drop(before)));
        event
    }

    async fn explain(
        &mut self,
        seat: PolicySeat,
        question: Question,
    ) -> Result<Vec<Finding>, Reason> {
        if seat == PolicySeat::Fallback {
            return self.fallback.explain(question).await;
        }
        let Some(instance) = &self.instance else {
            // It has not been asked yet, and knows nobody.
            return Ok(Vec::new());
        };
        match instance.explain(question).await {
            Ok(found) => Ok(found),
            Err(why) => {
                // Its instance is gone: the next cycle says so.
                self.broken = Some(why.clone());
                self.instance = None;
                Err(why)
            }
        }
    }

    /// Asks whoever decides what a successor should know.
    async fn carry(&mut self) -> Option<Event> {
        let carried = match &self.instance {
            Some(instance) => match instance.carry().await {
                Ok(sections) => sections,
                Err(why) => {
                    tracing::warn!(
                        why = why.text,
                        "the policy does not say what a successor should know"
                    );
                    return None;
                }
            },
            // One that failed was asked before.
            None if self.loaded.is_some() => return None,
            None => self.fallback.carry().await.ok()?,
        };
        // What it does not know of stays for whoever does.
        let said = |section: &Section| carried.iter().any(|own| own.name == section.name);
        self.carried.retain(|section| !said(section));
        self.carried.extend(carried);
        Some(Event::PolicyCarried {
            sections: self.carried.clone(),
        })
    }
}

fn begins(changes: &[Changes]) -> bool {
    let first = changes.first();
    first.is_some_and(|first| first.part != ChangesPart::Delta)
}

pub(crate) fn fault(text: impl Into<String>) -> Reason {
    Reason::new("plugin-fault", Remedy::Mend, text)
}
