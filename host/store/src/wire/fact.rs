//! Facts and their effects.

use proffer_model::fact;
use serde::{Deserialize, Serialize};

use super::agent::{AgentRecord, Constraint, Demand, Window};
use super::basic::{Bundle, Reason, Resources};
use super::event::{Due, Event};
use super::task::{TaskSpec, TaskState};
use super::{InvalidRecord, Wire, wire_enum, wire_struct};

wire_enum!(Fact = fact::Fact {
    IdsReserved { offers_below: u64, requests_below: u64 },
    AgentSet(record: Box<AgentRecord>),
    AgentGone(record: Box<GoneRecord>),
    FrameworkSet(record: Box<FrameworkRecord>),
    FrameworkRemoved { framework: u32 },
    StepCommitted(record: Box<StepRecord>),
    Changed { framework: u32, effect: Effect },
    RoleSet { role: String, weight: i64 },
    AgentUnreachable { agent: u32, since: u64 },
    AgentReturned { agent: u32 },
    HostAlive { at: u64 },
    HostResumed { at: u64, away: u64 },
    QuotaSet { role: String, quotas: Vec<KindQuota> },
    AgentShaped(shape: Box<AgentShape>),
    AgentsAllowed { agents: Option<Vec<u32>> },
    FrameworkShaped { framework: u32, options: Box<FrameworkOptions> },
    PolicySet(record: Box<PolicyRecord>),
    PolicyCarried { sections: Vec<Section> },
    ReservationsDecided { framework: u32, fate: ReservationFate },
    RolePolicySet { role: String, policy: Option<Box<PolicyRecord>> },
});

wire_enum!(
    ReservationFate = fact::ReservationFate {
        Keep,
        Release,
        Wipe
    }
);

wire_struct!(
    PolicyRecord = fact::PolicyRecord {
        number: u64,
        name: String,
        version: String,
        digest: String,
        config: String,
        by: String,
        at: u64,
        cause: PolicyCause,
        why: String,
        guards: Vec<WaitGuard>,
        before: Option<u64>,
    }
);

wire_struct!(
    WaitGuard = fact::WaitGuard {
        wait: GuardedWait,
        below: u64,
    }
);

wire_enum!(GuardedWait = fact::GuardedWait { Longest, P99 });

wire_enum!(PolicyCause = fact::PolicyCause {
    Settings,
    Swapped,
    RolledBack,
    Failed(why: Reason),
    Canary { roles: Vec<String> },
    CanaryEnded(why: Reason),
});

wire_struct!(
    Section = proffer_model::policy::Section {
        name: String,
        version: u32,
        data: Vec<u8>,
    }
);

wire_struct!(
    GoneRecord = fact::GoneRecord {
        agent: u32,
        key: String,
        hostname: String,
        at: u64,
        why: Reason,
    }
);

wire_struct!(FrameworkRecord = fact::FrameworkRecord {
    framework: u32,
    name: String,
    version: String,
    digest: String,
    roles: Vec<String>,
    config: String,
    gpus: bool,
    standing: FrameworkStanding,
    step: u64,
});

wire_struct!(
    KindQuota = proffer_model::KindQuota {
        kind: String,
        guarantee: i64,
        limit: Option<i64>,
    }
);

wire_struct!(
    AgentShape = fact::AgentShape {
        agent: u32,
        special: Resources,
        total: Resources,
        deactivated: bool,
        down: Option<Window>,
    }
);

wire_struct!(
    FrameworkOptions = fact::FrameworkOptions {
        active: bool,
        revocable: bool,
        shared: bool,
        refined: bool,
        region_aware: bool,
        rules: Vec<RoleRules>,
    }
);

wire_struct!(
    RoleRules = fact::RoleRules {
        role: String,
        least: Option<Vec<Bundle>>,
        constraints: Vec<Vec<Constraint>>,
    }
);

wire_enum!(FrameworkStanding = fact::FrameworkStanding {
    Active,
    Quarantined(why: Reason),
    Removing(why: Reason),
});

/// A step without its state writes: those are in the state table.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StepRecord {
    framework: u32,
    step: u64,
    effects: Vec<Effect>,
}

impl Wire<fact::StepRecord> for StepRecord {
    fn of(model: &fact::StepRecord) -> Self {
        let fact::StepRecord {
            framework,
            step,
            writes: _,
            effects,
        } = model;
        Self {
            framework: Wire::of(framework),
            step: Wire::of(step),
            effects: Wire::of(effects),
        }
    }
    fn into_model(self) -> Result<fact::StepRecord, InvalidRecord> {
        Ok(fact::StepRecord {
            framework: self.framework.into_model()?,
            step: self.step.into_model()?,
            writes: Vec::new(),
            effects: self.effects.into_model()?,
        })
    }
}

wire_enum!(Effect = fact::Effect {
    Started,
    TaskLaunched(record: Box<LaunchRecord>),
    TaskAcknowledged { task: String, sequence: u64, state: TaskState, why: Reason, exit: Option<i32>, at: u64 },
    TaskDecided { task: String, state: TaskState, why: Reason, at: u64 },
    TaskForgotten { task: String },
    TaskKillAsked { task: String, grace: u64 },
    DemandSet { demand: Box<Demand>, since: u64 },
    DemandCleared { key: String },
    Suppressed { roles: Vec<String> },
    Revived { roles: Vec<String> },
    TimerSet { id: String, due: Due, at: u64 },
    TimerCleared { id: String },
    EventQueued { number: u64, event: Event },
    EventTaken { number: u64 },
    UpgradeTried(record: Box<UpgradeRecord>),
    EventBlamed { event: Option<BlamedEvent> },
    EventSkipped(event: Box<SkippedEvent>),
    Converted { agent: u32, from: Resources, to: Resources },
    OutputBound(output: Box<OutputRecord>),
    TimeTold { at: u64 },
});

wire_struct!(
    OutputRecord = fact::OutputRecord {
        name: String,
        task: String,
        launch: u64,
        agent: u32,
        suspect: bool,
    }
);

wire_struct!(UpgradeRecord = fact::UpgradeRecord {
    from: String,
    version: String,
    digest: String,
    at: u64,
    refused: Option<Reason>,
});

wire_struct!(
    BlamedEvent = fact::BlamedEvent {
        id: String,
        what: String,
    }
);

wire_struct!(
    SkippedEvent = fact::SkippedEvent {
        id: String,
        what: String,
        at: u64,
    }
);

wire_struct!(
    LaunchRecord = fact::LaunchRecord {
        launch: u64,
        agent: u32,
        role: String,
        task: TaskSpec,
        group: u64,
        at: u64,
    }
);
