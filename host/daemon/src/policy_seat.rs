//! Who decides: the loaded policy, a component on a thread of its own, and the native fallback.
//!
//! One task does what cycles need, in order. A policy that is about to be put in is fed by a task of
//! its own ([`Candidates`]), so that its snapshot makes nobody wait.

use std::sync::Arc;

use proffer_core::{Action, Event, PolicyIdentity, PolicySeat};
use proffer_model::fact::PolicyRecord;
use proffer_model::policy::{
    Changes, ChangesPart, Cycle, Feeds, Finding, Proposal, Question, Section,
};
use proffer_model::{Reason, Remedy};
use proffer_plugin::{Kind, LoadedPlugin, PluginFault, PluginHost, PolicyHandle, PolicyLimits};
use proffer_policy::{Drf, Policy};
use proffer_store::Components;
use tokio::sync::{mpsc, oneshot};

use crate::candidate::{Candidates, Handover};
use crate::handle::{Input, LoopHandle};
use crate::host::chain;
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
    Explain(Question, oneshot::Sender<Result<Vec<Finding>, Reason>>),
}

/// Asks whoever decides. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    work: mpsc::Sender<Work>,
}

impl Asker {
    /// Why these agents are not granted, after the cycle that is under way.
    pub(crate) async fn explain(&self, question: Question) -> Result<Vec<Finding>, Reason> {
        let (send, receive) = oneshot::channel();
        let gone = || fault("the host is shutting down");
        let asked = self.work.send(Work::Explain(question, send)).await;
        asked.map_err(|_| gone())?;
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

/// A policy component and its configuration.
#[derive(Clone, Debug)]
pub(crate) struct LoadedPolicy {
    pub(crate) plugin: LoadedPlugin,
    pub(crate) identity: Arc<PolicyIdentity>,
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
    instance: Option<PolicyHandle>,
    /// Why there is no instance, if one was to take the seat.
    broken: Option<Reason>,
    fallback: Drf,
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
            fallback: Drf::default(),
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
        let (components, digest) = (self.components.clone(), record.digest.clone());
        let read = tokio::task::spawn_blocking(move || components.get(&digest)).await;
        let unfit = |text: String| {
            let text = format!(
                "{} {} cannot be loaded: {text}",
                record.name, record.version
            );
            Reason::new("policy-unavailable", Remedy::Mend, text)
        };
        let bytes = match read {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(unfit(chain(&error))),
            Err(bug) => return Err(unfit(bug.to_string())),
        };
        let plugin = self.plugins.load(bytes, Kind::Policy).await;
        let plugin = plugin.map_err(|error| unfit(chain(&error)))?;
        let policy = LoadedPolicy::new(plugin, &record.config);
        let (_, feeds) = spawn(&self.plugins, &policy)
            .await
            .map_err(|fault| unfit(fault.to_string()))?;
        Ok((policy, feeds))
    }
}

impl LoadedPolicy {
    pub(crate) fn new(plugin: LoadedPlugin, config: &str) -> Self {
        let identity = PolicyIdentity {
            name: plugin.name().to_owned(),
            version: plugin.version().to_owned(),
            digest: plugin.digest().to_owned(),
            config: config.to_owned(),
        };
        Self {
            plugin,
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
            Work::Explain(question, answer) => {
                let found = self.explain(question).await;
                // Whoever asked does not wait any more.
                let _gone = answer.send(found).is_err();
                None
            }
        }
    }

    async fn decide(&mut self, ask: Ask) -> Result<Proposal, Reason> {
        match ask.seat {
            PolicySeat::Fallback => self.decide_natively(ask).await,
            PolicySeat::Loaded => self.decide_in_component(ask).await,
        }
    }

    /// On a thread of its own: a decision takes milliseconds, which the loop's messages would wait.
    async fn decide_natively(&mut self, ask: Ask) -> Result<Proposal, Reason> {
        let begins = begins(&ask.changes);
        let mut fallback = std::mem::take(&mut self.fallback);
        let carried = self.carried.clone();
        let decided = tokio::task::spawn_blocking(move || {
            if begins {
                fallback = Drf::default();
            }
            for changes in &ask.changes {
                fallback.apply(changes);
            }
            if begins && !carried.is_empty() {
                // What it cannot read is a cold start.
                let _cold = fallback.adopt(&carried).is_err();
            }
            let proposal = fallback.decide(&ask.cycle);
            (fallback, proposal)
        });
        // What it knew is lost only with a bug of ours; the core then feeds a snapshot.
        let (fallback, proposal) = decided.await.map_err(|bug| fault(bug.to_string()))?;
        self.fallback = fallback;
        Ok(proposal)
    }

    async fn decide_in_component(&mut self, ask: Ask) -> Result<Proposal, Reason> {
        let Ask {
            mut changes, cycle, ..
        } = ask;
        if begins(&changes) {
            self.instance = None;
            let instance = self.new_instance().await?;
            let applied = instance.apply(std::mem::take(&mut changes)).await;
            applied.map_err(|problem| fault(problem.to_string()))?;
            adopt(&instance, &self.carried).await?;
            self.instance = Some(instance);
        }
        let Some(instance) = &self.instance else {
            let broken = self.broken.clone();
            return Err(broken.unwrap_or_else(|| fault("there is no instance of the policy")));
        };
        let outcome = instance.cycle(changes, cycle).await;
        match outcome.result {
            Ok(proposal) => Ok(proposal),
            Err(problem) => {
                self.instance = None;
                Err(fault(problem.to_string()))
            }
        }
    }

    async fn new_instance(&self) -> Result<PolicyHandle, Reason> {
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
                    Ok(instance) => match adopt(&instance, &self.carried).await {
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

    async fn explain(&mut self, question: Question) -> Result<Vec<Finding>, Reason> {
        let Some(instance) = &self.instance else {
            // Whoever was asked last knows the cluster.
            return Ok(self.fallback.explain(&question));
        };
        match instance.explain(question).await {
            Ok(found) => Ok(found),
            Err(problem) => {
                let why = fault(problem.to_string());
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
                Err(problem) => {
                    tracing::warn!(%problem, "the policy does not say what a successor should know");
                    return None;
                }
            },
            // One that failed was asked before.
            None if self.loaded.is_some() => return None,
            None => self.fallback.carry(),
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

/// A policy that does not want what is carried starts cold; one that traps on it has failed.
pub(crate) async fn adopt(instance: &PolicyHandle, carried: &[Section]) -> Result<(), Reason> {
    if carried.is_empty() {
        return Ok(());
    }
    match instance.adopt(carried.to_vec()).await {
        Ok(used) => {
            tracing::debug!(
                used = used.join(","),
                "a policy went on with what was carried"
            );
            Ok(())
        }
        Err(PluginFault::Refused { .. }) => Ok(()),
        Err(problem) => Err(fault(problem.to_string())),
    }
}

fn begins(changes: &[Changes]) -> bool {
    let first = changes.first();
    first.is_some_and(|first| first.part != ChangesPart::Delta)
}

/// Makes and configures an instance.
pub(crate) async fn spawn(
    host: &PluginHost,
    loaded: &LoadedPolicy,
) -> Result<(PolicyHandle, Feeds), PluginFault> {
    let limits = PolicyLimits::asked_by(loaded.plugin.manifest());
    host.spawn_policy(loaded.plugin.clone(), limits, &loaded.identity.config)
        .await
}

pub(crate) fn fault(text: impl Into<String>) -> Reason {
    Reason::new("plugin-fault", Remedy::Mend, text)
}
