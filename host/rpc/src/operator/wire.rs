//! Conversions between this module's types and the wire's.
//!
//! A type is taken apart in full on its way out, so that a field which is added does not compile
//! until the wire has it.

use bytes::Bytes;
use proffer_model as model;

use super as plain;
use crate::proto::operator::v0 as wire;
use crate::proto::values::v0 as values;
use crate::values::{InvalidMessage, state_from_wire, state_to_wire, sums};

/// A type with a form on the wire.
pub(super) trait Wired: Sized {
    type Wire;
    fn to_wire(&self) -> Self::Wire;
    /// `field`: what to call it if it is wrong.
    fn from_wire(field: &'static str, wire: Self::Wire) -> Result<Self, InvalidMessage>;
}

macro_rules! same {
    ($($type:ty),*) => {$(
        impl Wired for $type {
            type Wire = $type;
            fn to_wire(&self) -> $type {
                self.clone()
            }
            fn from_wire(_: &'static str, wire: $type) -> Result<$type, InvalidMessage> {
                Ok(wire)
            }
        }
    )*};
}

macro_rules! number {
    ($($type:path: $repr:ty),* $(,)?) => {$(
        impl Wired for $type {
            type Wire = $repr;
            fn to_wire(&self) -> $repr {
                self.0
            }
            fn from_wire(_: &'static str, wire: $repr) -> Result<Self, InvalidMessage> {
                Ok($type(wire))
            }
        }
    )*};
}

macro_rules! text {
    ($($type:path),*) => {$(
        impl Wired for $type {
            type Wire = String;
            fn to_wire(&self) -> String {
                self.to_string()
            }
            fn from_wire(field: &'static str, wire: String) -> Result<Self, InvalidMessage> {
                <$type>::new(wire).map_err(|error| InvalidMessage::new(field, error.to_string()))
            }
        }
    )*};
}

/// Types that all services share.
macro_rules! shared {
    ($($type:ident),*) => {$(
        impl Wired for model::$type {
            type Wire = values::$type;
            fn to_wire(&self) -> values::$type {
                self.into()
            }
            fn from_wire(_: &'static str, wire: values::$type) -> Result<Self, InvalidMessage> {
                wire.try_into()
            }
        }
    )*};
}

/// Messages. Fields under `required` are messages that must be there, under `or_default` messages
/// that need not.
macro_rules! message {
    ($($type:ident = $wire:ident { $($field:ident),* } $(required { $($must:ident),* })? $(or_default { $($may:ident),* })?;)*) => {$(
        impl Wired for plain::$type {
            type Wire = wire::$wire;
            fn to_wire(&self) -> wire::$wire {
                let plain::$type { $($field,)* $($($must,)*)? $($($may,)*)? } = self;
                wire::$wire {
                    $($field: Wired::to_wire($field),)*
                    $($($must: Some(Wired::to_wire($must)),)*)?
                    $($($may: Some(Wired::to_wire($may)),)*)?
                }
            }
            #[allow(unused_variables, reason = "some messages have no fields")]
            fn from_wire(_: &'static str, wire: wire::$wire) -> Result<Self, InvalidMessage> {
                Ok(plain::$type {
                    $($field: Wired::from_wire(stringify!($field), wire.$field)?,)*
                    $($($must: match wire.$must {
                        Some(value) => Wired::from_wire(stringify!($must), value)?,
                        None => return Err(InvalidMessage::missing(stringify!($must))),
                    },)*)?
                    $($($may: Wired::from_wire(stringify!($may), wire.$may.unwrap_or_default())?,)*)?
                })
            }
        }
    )*};
}

macro_rules! enumeration {
    ($($type:ident { $($variant:ident),* })*) => {$(
        impl Wired for plain::$type {
            type Wire = i32;
            fn to_wire(&self) -> i32 {
                match self {
                    $(plain::$type::$variant => wire::$type::$variant.into(),)*
                }
            }
            fn from_wire(field: &'static str, wire: i32) -> Result<Self, InvalidMessage> {
                match wire::$type::try_from(wire) {
                    $(Ok(wire::$type::$variant) => Ok(plain::$type::$variant),)*
                    _ => Err(InvalidMessage::new(field, format!("{wire} is not one of its values"))),
                }
            }
        }
    )*};
}

macro_rules! pages {
    ($($row:ident = $wire:ident),*) => {$(
        impl Wired for plain::Paged<plain::$row> {
            type Wire = wire::$wire;
            fn to_wire(&self) -> wire::$wire {
                let plain::Paged { rows, next } = self;
                wire::$wire { rows: rows.to_wire(), next: next.clone() }
            }
            fn from_wire(field: &'static str, wire: wire::$wire) -> Result<Self, InvalidMessage> {
                let rows = Wired::from_wire(field, wire.rows)?;
                Ok(plain::Paged { rows, next: wire.next })
            }
        }
    )*};
}

same!(bool, u32, u64, i32, String, Bytes);

number! {
    model::AgentId: u32,
    model::FrameworkId: u32,
    model::OfferId: u64,
    model::LaunchNumber: u64,
    model::Timestamp: u64,
    model::Duration: u64,
}

impl Wired for model::KindQuota {
    type Wire = wire::KindQuota;
    fn to_wire(&self) -> wire::KindQuota {
        let model::KindQuota {
            kind,
            guarantee,
            limit,
        } = self;
        wire::KindQuota {
            kind: kind.clone(),
            guarantee: guarantee.milli(),
            limit: limit.map(model::Amount::milli),
        }
    }
    fn from_wire(_: &'static str, wire: wire::KindQuota) -> Result<Self, InvalidMessage> {
        let amount = |field, milli| {
            let amount = model::Amount::from_milli(milli);
            let sound = (model::Amount::ZERO..=model::Amount::MAX_INPUT).contains(&amount);
            sound
                .then_some(amount)
                .ok_or_else(|| InvalidMessage::new(field, "negative, or beyond measure"))
        };
        if wire.kind.is_empty() || wire.kind.len() > 255 {
            return Err(InvalidMessage::new("kind", "wanted 1 to 255 bytes"));
        }
        Ok(Self {
            guarantee: amount("guarantee", wire.guarantee)?,
            limit: wire.limit.map(|limit| amount("limit", limit)).transpose()?,
            kind: wire.kind,
        })
    }
}

text!(model::TaskId, model::RoleName);

shared!(Resources, Reason, AgentInfo);

/// Bundles are in answers alone, and most of them are sums over agents.
impl Wired for model::Bundle {
    type Wire = values::Bundle;
    fn to_wire(&self) -> values::Bundle {
        self.into()
    }
    fn from_wire(_: &'static str, wire: values::Bundle) -> Result<Self, InvalidMessage> {
        sums(wire)
    }
}

enumeration! {
    AgentState { Active, Disconnected, Unreachable, Gone }
    FrameworkState { Active, Quarantined, Removing }
    LogStream { Stdout, Stderr }
    PolicyCause { Settings, Swapped, RolledBack, Failed, Canary, CanaryEnded }
    ReservationFate { Keep, Release, Wipe }
    Left { Kept, Released, Wiped }
}

pages! {
    Agent = ListAgentsResponse,
    Framework = ListFrameworksResponse,
    Task = ListTasksResponse,
    Offer = ListOffersResponse,
    Role = ListRolesResponse,
    PolicyRecord = ListPolicyHistoryResponse
}

message! {
    Page = Page { size, token };
    StatusQuery = GetStatusRequest {};
    Status = Status {
        version, contract, cluster, started, now, http_address, agents, agents_active, frameworks,
        tasks_active, tasks_ended, cycles
    } required { pool, used, offered, offers };
    OfferCounts = OfferCounts { made, accepted, declined, expired, rescinded };
    AgentQuery = ListAgentsRequest {} or_default { page };
    DeclareAgentGone = DeclareAgentGoneRequest { agent };
    Agent = Agent { id, state, since, tasks, data_address, gone_at } required { info, total, used, offered };
    OfferQuery = ListOffersRequest { framework } or_default { page };
    Offer = Offer { id, framework, role, agent, hostname, expires, demand } required { resources };
    RoleQuery = ListRolesRequest {} or_default { page };
    Role = Role { name, weight, frameworks, share_milli, quotas, policy } required { used, reserved };
    RolePolicy = RolePolicy {
        name, version, digest, config, by, at, why, fallback, last_fault, turns, native_turns,
        granted, offers, stale, failures, guards, waiting, longest_wait, p99_wait
    };
    SetRolePolicy = SetRolePolicyRequest { name, component, config, by, why, guards };
    SetQuota = SetQuotaRequest { name, quotas, force, weight };
    Reserve = ReserveRequest { agent, unreserve } required { resources };
    SetRole = SetRoleRequest { name, weight };
    PolicyQuery = GetPolicyRequest {};
    Policy = Policy {
        name, version, digest, fallback, config, cycles, grants, rejected, stale, failures, last_fault,
        number, swapping, probation, before, swapped, taken_back, guards, waiting, longest_wait,
        p99_wait, trial, canary, would_take_back
    };
    PolicyCanary = PolicyCanary {
        name, version, digest, roles, since, until, promotes, cycles, grants, stale, outside,
        left_to_it, waiting, longest_wait, p99_wait, guards
    };
    PolicyTrial = PolicyTrial {
        candidate, until, ended, fault, cycles, alike, wanting, served, would_serve, reclaims,
        would_reclaim, invalid, would_be_invalid, roles, longest_wait, would_wait, take_back,
        would_take_back
    };
    TrialRole = TrialRole {
        role, grants, would_grant, share_milli, would_share_milli
    } required { amounts, would_amounts };
    CancelPolicySwap = CancelPolicySwapRequest {};
    SwapPolicy = SwapPolicyRequest {
        component, config, by, why, guards, shadow, dry_run, canary, canary_for
    };
    PromotePolicy = PromotePolicyRequest { by, why };
    RollBackPolicy = RollBackPolicyRequest { by, why };
    SwappedPolicy = SwappedPolicy { record } required { from };
    PolicyHistoryQuery = ListPolicyHistoryRequest {} or_default { page };
    PolicyRecord = PolicyRecord {
        number, name, version, digest, config, by, at, cause, why, fault, before, guards,
        roles, would_take_back
    };
    UsageQuery = GetUsageRequest { since };
    Usage = Usage { times, frameworks };
    FrameworkUsage = FrameworkUsage { framework, share_milli };
    FrameworkQuery = ListFrameworksRequest {} or_default { page };
    Framework = Framework {
        id, name, version, digest, roles, state, why, tasks_active, tasks_ended, share_milli
    } required { used, offers };
    FrameworkName = GetFrameworkRequest { name };
    FrameworkDetail = FrameworkDetail {
        config, steps, steps_failed, last_fault, demands, suppressed, limits, failing, upgrading,
        last_upgrade, skipped
    } required { framework };
    DemandRow = Demand { key, role, count, since } required { shape };
    InspectComponent = InspectComponentRequest { component };
    Plugin = Plugin {
        name, version, world, contract, description, digest, size, roles, imports, limits,
        config_schema
    };
    Limit = Limit { name, value };
    AddFramework = AddFrameworkRequest { name, component, roles, config, approved };
    AddedFramework = AddFrameworkResponse { id, name, digest };
    FailingEvent = FailingEvent { id, what };
    SkippedEvent = SkippedEvent { id, what, at };
    UpgradeOutcome = UpgradeOutcome { from, version, digest, at, refused };
    UpgradeFramework = UpgradeFrameworkRequest { name, component, config, approved };
    UpgradedFramework = UpgradeFrameworkResponse { from, version, digest };
    SkipEvent = SkipEventRequest { name, event };
    PlanRemoval = PlanRemovalRequest { name, reservations };
    LeftBehind = LeftBehind { agent, hostname, shared_role, becomes } required { resources };
    RemovalPlan = RemovalPlan { tasks_active, tasks_away, tasks, kept, released, wiped, left, refused };
    RemoveFramework = RemoveFrameworkRequest { name, reservations };
    ResumeFramework = ResumeFrameworkRequest { name };
    FrameworkRequest = FrameworkRequest { framework, method, path, query, headers, body, principal };
    FrameworkResponse = FrameworkResponse { status, headers, body };
    TaskQuery = ListTasksRequest { framework, agent, states } or_default { page };
    Task = Task {
        framework, id, name, state, why, exit, agent, hostname, role, launch, launched, started, ended
    } required { resources };
    KillTask = KillTaskRequest { framework, task, grace };
    TaskLogs = TaskLogsRequest { framework, task, stream, follow };
    FetchOutput = FetchOutputRequest { framework, task, path };
    TaskName = TaskName { framework, task };
    Explanation = Explanation { sentences, reasons };
    ReasonCount = ReasonCount { subject, agents, sample, policy } required { why, short };
}

impl<T: Wired> Wired for Vec<T> {
    type Wire = Vec<T::Wire>;
    fn to_wire(&self) -> Self::Wire {
        self.iter().map(T::to_wire).collect()
    }
    fn from_wire(field: &'static str, wire: Self::Wire) -> Result<Self, InvalidMessage> {
        wire.into_iter()
            .map(|item| T::from_wire(field, item))
            .collect()
    }
}

impl<T: Wired> Wired for Option<T> {
    type Wire = Option<T::Wire>;
    fn to_wire(&self) -> Self::Wire {
        self.as_ref().map(T::to_wire)
    }
    fn from_wire(field: &'static str, wire: Self::Wire) -> Result<Self, InvalidMessage> {
        wire.map(|value| T::from_wire(field, value)).transpose()
    }
}

impl Wired for () {
    type Wire = wire::Done;
    fn to_wire(&self) -> wire::Done {
        wire::Done {}
    }
    fn from_wire(_: &'static str, _: wire::Done) -> Result<Self, InvalidMessage> {
        Ok(())
    }
}

/// An HTTP status.
impl Wired for u16 {
    type Wire = u32;
    fn to_wire(&self) -> u32 {
        u32::from(*self)
    }
    fn from_wire(field: &'static str, wire: u32) -> Result<Self, InvalidMessage> {
        u16::try_from(wire).map_err(|_| InvalidMessage::new(field, format!("{wire} is no status")))
    }
}

/// A header.
impl Wired for (String, String) {
    type Wire = wire::Header;
    fn to_wire(&self) -> wire::Header {
        wire::Header {
            name: self.0.clone(),
            value: self.1.clone(),
        }
    }
    fn from_wire(_: &'static str, wire: wire::Header) -> Result<Self, InvalidMessage> {
        Ok((wire.name, wire.value))
    }
}

/// Only weights are bare amounts here.
impl Wired for model::Amount {
    type Wire = i64;
    fn to_wire(&self) -> i64 {
        self.milli()
    }
    fn from_wire(field: &'static str, wire: i64) -> Result<Self, InvalidMessage> {
        let amount = Self::from_milli(wire);
        if amount < Self::ZERO || amount > Self::MAX_INPUT {
            let problem = format!("{amount} is not from 0 to {}", Self::MAX_INPUT);
            return Err(InvalidMessage::new(field, problem));
        }
        Ok(amount)
    }
}

impl Wired for model::TaskState {
    type Wire = i32;
    fn to_wire(&self) -> i32 {
        state_to_wire(*self).into()
    }
    fn from_wire(field: &'static str, wire: i32) -> Result<Self, InvalidMessage> {
        let state = values::TaskState::try_from(wire)
            .map_err(|_| InvalidMessage::new(field, format!("{wire} is no state of a task")))?;
        state_from_wire(field, state)
    }
}

impl Wired for plain::Subject {
    type Wire = wire::ExplainRequest;
    fn to_wire(&self) -> wire::ExplainRequest {
        use wire::explain_request::Subject;
        let subject = match self {
            Self::Framework(name) => Subject::Framework(name.clone()),
            Self::Task(name) => Subject::Task(name.to_wire()),
            Self::Agent(name) => Subject::Agent(name.clone()),
            Self::Role(name) => Subject::Role(name.clone()),
        };
        wire::ExplainRequest {
            subject: Some(subject),
        }
    }
    fn from_wire(_: &'static str, wire: wire::ExplainRequest) -> Result<Self, InvalidMessage> {
        use wire::explain_request::Subject;
        match wire.subject {
            Some(Subject::Framework(name)) => Ok(Self::Framework(name)),
            Some(Subject::Task(name)) => Wired::from_wire("task", name).map(Self::Task),
            Some(Subject::Agent(name)) => Ok(Self::Agent(name)),
            Some(Subject::Role(name)) => Ok(Self::Role(name)),
            None => Err(InvalidMessage::missing("subject")),
        }
    }
}
