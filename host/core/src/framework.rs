//! What the core keeps of a framework, and how durable effects change it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proffer_codec::{Codec, Input, InvalidBytes, codec_enum, codec_struct};
use proffer_model::fact::{
    BlamedEvent, Effect, FrameworkOptions, FrameworkRecord, FrameworkStanding, ReservationFate,
    SkippedEvent, UpgradeRecord,
};
use proffer_model::framework::{AgentChange, Cause, Due, Event, Rescinded};
use proffer_model::{
    AgentId, Demand, LaunchNumber, OfferId, RequestId, RoleName, StepNumber, TaskId, TaskUpdate,
    Timestamp,
};

use crate::constraint::Constraints;
use crate::handles::ClientId;
use crate::options::RoleConstraints;
use crate::outputs::Outputs;
use crate::quarantine::SKIPPED_MAX;
use crate::tasks::Task;
use crate::upgrades::Upgrade;
use crate::view::Counters;

/// A framework and everything of it.
#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) record: FrameworkRecord,
    pub(crate) clients: BTreeMap<RoleName, ClientId>,
    /// Waits for a step, in order.
    pub(crate) queue: VecDeque<Item>,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) supervision: Supervision,
    /// Shared with snapshots that are being made of them: changed by [`Arc::make_mut`].
    pub(crate) tasks: BTreeMap<TaskId, Arc<Task>>,
    /// Ended and acknowledged, oldest first; forgotten from the front.
    pub(crate) ended: VecDeque<TaskId>,
    /// Sandboxes by the name that they were published under.
    pub(crate) outputs: Outputs,
    pub(crate) demands: BTreeMap<String, StandingDemand>,
    pub(crate) suppressed: BTreeSet<RoleName>,
    pub(crate) timers: BTreeMap<String, TimerRecord>,
    timers_set: u64,
    /// Told by the host alone, until a step has taken them.
    pub(crate) durable: BTreeMap<u64, Event>,
    pub(crate) durable_next: u64,
    /// Offers that are out to it.
    pub(crate) offers: BTreeSet<OfferId>,
    /// Offers that it decided to keep: they come in every batch.
    pub(crate) kept: BTreeSet<OfferId>,
    pub(crate) counters: Counters,
    /// Requests that wait for it.
    pub(crate) requests_waiting: usize,
    /// A running task that its removal waits for, as last looked.
    pub(crate) removal_waits_for: Option<TaskId>,
    /// Whether the life-cycle event was ever taken.
    pub(crate) started: bool,
    /// Its questions whose answers it has not taken yet.
    pub(crate) asked: Asked,
    /// Rejections in [`Framework::durable`].
    pub(crate) rejections_waiting: usize,
    /// A version of its component that is to be tried.
    pub(crate) upgrade: Option<Upgrade>,
    /// What came of the last one.
    pub(crate) last_upgrade: Option<UpgradeRecord>,
    /// The event that keeps it in quarantine.
    pub(crate) blamed: Option<BlamedEvent>,
    /// Events that operators had passed over, oldest first.
    pub(crate) skipped: VecDeque<SkippedEvent>,
    /// What became of agents while it was in quarantine: of each the newest.
    pub(crate) changes_missed: BTreeMap<AgentId, AgentChange>,
    /// What it takes, and where.
    pub(crate) options: FrameworkOptions,
    /// The same, compiled.
    pub(crate) constraints: RoleConstraints,
    /// Of roles that it has left while it held something.
    pub(crate) lapsed: BTreeSet<ClientId>,
    /// What becomes of its roles' reservations when it is removed.
    pub(crate) reservations: ReservationFate,
}

/// A framework's questions whose answers wait for it: an answer costs the host more than its
/// question costs the framework, so only so many may be out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) reconciles: usize,
    pub(crate) holdings: bool,
    pub(crate) explains: bool,
}

codec_struct!(Asked {
    reconciles,
    holdings,
    explains
});

impl Asked {
    /// The last row of an answer was taken, or given up.
    pub(crate) fn answered(&mut self, event: &Event) {
        match event {
            Event::Reconciled(_) => self.reconciles = self.reconciles.saturating_sub(1),
            Event::Holdings(holdings) if holdings.last => self.holdings = false,
            Event::Explained(explained) if explained.last => self.explains = false,
            _ => {}
        }
    }
}

codec_struct!(Framework {
    record,
    clients,
    queue,
    in_flight,
    supervision,
    tasks,
    ended,
    outputs,
    demands,
    suppressed,
    timers,
    timers_set,
    durable,
    durable_next,
    offers,
    kept,
    counters,
    requests_waiting,
    removal_waits_for,
    started,
    asked,
    rejections_waiting,
    upgrade,
    last_upgrade,
    blamed,
    skipped,
    changes_missed,
    options,
    constraints,
    lapsed,
    reservations
});

/// Something that a step is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Started(Cause),
    Offer(OfferId),
    Rescinded(Rescinded),
    /// An agent's update: the agent keeps it until a step has taken it.
    Update {
        launch: LaunchNumber,
        update: Box<TaskUpdate>,
    },
    /// The host's own word: [`Framework::durable`] keeps it.
    Durable(u64),
    /// An answer that a restart of the host may lose; one row.
    Told(Box<Event>),
    /// Which setting of the timer: one that was replaced meanwhile is dead.
    Timer(String, u64),
    Request(RequestId),
}

codec_enum!(Item {
    Started(a), Offer(a), Rescinded(a), Update { launch, update }, Durable(a), Told(a),
    Timer(a, b), Request(a),
});
impl Item {
    /// Whether it cannot be dropped without lying to the framework.
    pub(crate) fn must_be_taken(&self) -> bool {
        matches!(
            self,
            Self::Started(_) | Self::Update { .. } | Self::Durable(_) | Self::Timer(..)
        )
    }
}

/// A step that has been called and has not answered.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) step: StepNumber,
    pub(crate) attempt: u32,
    /// What it was given, for the case that it fails.
    pub(crate) items: Vec<Item>,
    /// Offers that it must settle.
    pub(crate) delivered: BTreeSet<OfferId>,
}

codec_struct!(InFlight {
    step,
    attempt,
    items,
    delivered
});

/// How a framework fares with its steps.
#[derive(Debug, Default)]
pub(crate) struct Supervision {
    /// Since the last committed step.
    pub(crate) failures: u32,
    /// Steps since the last committed one that failed through no fault of the framework's.
    pub(crate) prevented: u32,
    /// Failures of the item (or gang) that is alone in its batch.
    pub(crate) alone: u32,
    /// Since the last committed step, with batches that could not be halved.
    pub(crate) stuck: u32,
    /// Rows of the next batch at most, after a failure.
    pub(crate) rows_max: Option<usize>,
    /// No step before this.
    pub(crate) retry_at: Option<Timestamp>,
    /// Fences answers: grows with every call.
    pub(crate) attempt: u32,
    pub(crate) last_fault: Option<proffer_model::Reason>,
}

codec_struct!(Supervision {
    failures,
    prevented,
    alone,
    stuck,
    rows_max,
    retry_at,
    attempt,
    last_fault
});

impl Supervision {
    /// A step was committed, or a new life begins.
    pub(crate) fn recover(&mut self) {
        self.failures = 0;
        self.prevented = 0;
        self.alone = 0;
        self.stuck = 0;
        self.rows_max = None;
        self.retry_at = None;
    }
}

/// A demand and its standing with the policy.
#[derive(Debug)]
pub(crate) struct StandingDemand {
    pub(crate) demand: Demand,
    pub(crate) since: Timestamp,
    pub(crate) constraints: Constraints,
    /// Number for the policy.
    pub(crate) handle: u32,
    /// Units on offer now.
    pub(crate) offered: u32,
}

/// Constraints are compiled again from the demand.
impl Codec for StandingDemand {
    fn put(&self, out: &mut Vec<u8>) {
        let Self {
            demand,
            since,
            constraints: _,
            handle,
            offered,
        } = self;
        demand.put(out);
        since.put(out);
        handle.put(out);
        offered.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let demand = Demand::take(input)?;
        let constraints =
            Constraints::new(&demand.constraints).map_err(|problem| input.refuse(problem))?;
        Ok(Self {
            demand,
            constraints,
            since: Codec::take(input)?,
            handle: Codec::take(input)?,
            offered: Codec::take(input)?,
        })
    }
}

/// A timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimerRecord {
    pub(crate) due: Due,
    pub(crate) at: Timestamp,
    /// It is in the queue or in a batch.
    pub(crate) fired: bool,
    /// Tells a setting from those before it under the same id.
    pub(crate) setting: u64,
}

codec_struct!(TimerRecord {
    due,
    at,
    fired,
    setting
});

impl Framework {
    pub(crate) fn new(record: FrameworkRecord) -> Self {
        Self {
            record,
            clients: BTreeMap::new(),
            queue: VecDeque::new(),
            in_flight: None,
            supervision: Supervision::default(),
            tasks: BTreeMap::new(),
            ended: VecDeque::new(),
            outputs: Outputs::default(),
            demands: BTreeMap::new(),
            suppressed: BTreeSet::new(),
            timers: BTreeMap::new(),
            timers_set: 0,
            durable: BTreeMap::new(),
            durable_next: 0,
            offers: BTreeSet::new(),
            kept: BTreeSet::new(),
            counters: Counters::default(),
            requests_waiting: 0,
            removal_waits_for: None,
            started: false,
            asked: Asked::default(),
            rejections_waiting: 0,
            upgrade: None,
            last_upgrade: None,
            blamed: None,
            skipped: VecDeque::new(),
            changes_missed: BTreeMap::new(),
            options: FrameworkOptions::default(),
            constraints: RoleConstraints::new(),
            lapsed: BTreeSet::new(),
            reservations: ReservationFate::Keep,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.record.standing == FrameworkStanding::Active
    }

    /// Whether offers are made to it.
    pub(crate) fn takes_offers(&self) -> bool {
        self.is_active() && self.options.active
    }

    /// Tasks that have not ended.
    pub(crate) fn live_tasks(&self) -> impl Iterator<Item = &Task> {
        self.shared_live_tasks().map(|task| &**task)
    }

    pub(crate) fn shared_live_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        let tasks = self.tasks.values();
        tasks.filter(|task| !task.state.is_final())
    }

    /// Applies an effect to what concerns the framework alone; live and in recovery alike. Tasks,
    /// demands and roles touch the ledger and the feed, and are the caller's.
    pub(crate) fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Started => self.started = true,
            Effect::TimerSet { id, due, at } => {
                self.timers_set += 1;
                self.timers.insert(
                    id.clone(),
                    TimerRecord {
                        due: *due,
                        at: *at,
                        fired: false,
                        setting: self.timers_set,
                    },
                );
            }
            Effect::TimerCleared { id } => {
                self.timers.remove(id);
            }
            Effect::EventQueued { number, event } => {
                self.rejections_waiting += usize::from(matches!(event, Event::Rejected(_)));
                self.durable.insert(*number, event.clone());
                self.durable_next = self.durable_next.max(number + 1);
            }
            Effect::EventTaken { number } => {
                let taken = self.durable.remove(number);
                let rejection = matches!(taken, Some(Event::Rejected(_)));
                self.rejections_waiting -= usize::from(rejection);
            }
            Effect::UpgradeTried(record) => self.last_upgrade = Some(UpgradeRecord::clone(record)),
            Effect::EventBlamed { event } => self.blamed = event.clone(),
            Effect::EventSkipped(event) => {
                self.skipped.push_back(SkippedEvent::clone(event));
                while self.skipped.len() > SKIPPED_MAX {
                    self.skipped.pop_front();
                }
            }
            Effect::Suppressed { roles } => self.suppressed.extend(roles.iter().cloned()),
            Effect::Revived { roles } => {
                for role in roles {
                    self.suppressed.remove(role);
                }
            }
            Effect::TaskKillAsked { task, grace } => {
                if let Some(task) = self.tasks.get_mut(task) {
                    Arc::make_mut(task).ask_kill(*grace);
                }
            }
            Effect::TaskLaunched(_)
            | Effect::TaskAcknowledged { .. }
            | Effect::TaskDecided { .. }
            | Effect::TaskForgotten { .. }
            | Effect::DemandSet { .. }
            | Effect::DemandCleared { .. }
            | Effect::Converted { .. }
            | Effect::OutputBound(_)
            | Effect::TimeTold { .. } => {}
        }
    }
}
