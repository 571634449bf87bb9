//! The format of scenarios, read strictly: what is not known is refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::values::{Number, Piles, Quantities};

/// One scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Unique.
    pub name: String,
    /// What its steps are about.
    pub kind: Kind,
    #[serde(rename = "source")]
    _source: String,
    /// What it is about, for people.
    pub checks: String,
    /// Features that it uses.
    #[serde(default)]
    pub needs: Vec<String>,
    #[serde(default, rename = "derived")]
    _derived: bool,
    #[serde(default, rename = "disabled_upstream")]
    _disabled_upstream: bool,
    #[serde(default)]
    pub(crate) pool: Pool,
    #[serde(default, rename = "undeclared")]
    _undeclared: Vec<String>,
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
    pub(crate) function: Option<Function>,
    #[serde(default)]
    pub(crate) cases: Vec<Case>,
}

/// What a scenario's steps are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Agents, frameworks, offers.
    Allocator,
    /// The order of clients alone.
    Sorter,
    /// Tables for the host's own functions.
    Cases,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pool {
    #[serde(default = "one")]
    pub(crate) interval: f64,
    pub(crate) min_offer: Option<Vec<Quantities>>,
    #[serde(default)]
    pub(crate) fair_exclude: Vec<String>,
    #[serde(default = "yes")]
    pub(crate) gpu_guard: bool,
    #[serde(default)]
    pub(crate) home_region: String,
    #[serde(default)]
    pub(crate) nested_quota: bool,
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            interval: one(),
            min_offer: None,
            fair_exclude: Vec::new(),
            gpu_guard: yes(),
            home_region: String::new(),
            nested_quota: false,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UseThere {
    pub(crate) framework: String,
    pub(crate) role: String,
    pub(crate) resources: Piles,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UseOf {
    pub(crate) agent: String,
    pub(crate) role: String,
    pub(crate) resources: Piles,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Downtime {
    pub(crate) start_in: f64,
    pub(crate) lasts: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    pub(crate) attribute: String,
    pub(crate) test: Test,
    pub(crate) value: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Test {
    Exists,
    NotExists,
    Equals,
    NotEquals,
    Matches,
    NotMatches,
}

/// By role, groups of conditions.
pub(crate) type Conditions = BTreeMap<String, Vec<Vec<Condition>>>;

/// By role, alternatives.
pub(crate) type Minimums = BTreeMap<String, Vec<Quantities>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Capability {
    Gpus,
    Revocable,
    Shared,
    RefinedReservations,
    RegionAware,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attribute(pub(crate) String, pub(crate) Value);

/// Framework, role, agent, resources.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Four {
    pub(crate) framework: String,
    pub(crate) role: String,
    pub(crate) agent: String,
    pub(crate) resources: Piles,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Total {
    pub(crate) framework: String,
    pub(crate) role: String,
    pub(crate) resources: Piles,
    pub(crate) offers: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) framework: String,
    pub(crate) agent: String,
}

/// Tells a field that is null from one that is not there.
fn given<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A step. Those of both kinds; [`Scenario::problem`] says which do not belong.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    AddAgent {
        id: String,
        resources: Piles,
        #[serde(default)]
        used: Vec<UseThere>,
        #[serde(default)]
        attributes: Vec<Attribute>,
        #[serde(default)]
        region: String,
        unavailable: Option<Downtime>,
    },
    UpdateAgent {
        id: String,
        resources: Option<Piles>,
        attributes: Option<Vec<Attribute>>,
    },
    GrowAgent {
        id: String,
        resources: Piles,
        used: Vec<UseThere>,
    },
    RemoveAgent {
        id: String,
    },
    DeactivateAgent {
        id: String,
    },
    ActivateAgent {
        id: String,
    },
    AddFramework {
        id: String,
        roles: Vec<String>,
        #[serde(default)]
        suppressed: Vec<String>,
        #[serde(default)]
        capabilities: Vec<Capability>,
        #[serde(default = "yes")]
        active: bool,
        #[serde(default)]
        used: Vec<UseOf>,
        #[serde(default)]
        min_offer: Minimums,
        #[serde(default)]
        constraints: Conditions,
    },
    UpdateFramework {
        id: String,
        roles: Option<Vec<String>>,
        suppressed: Option<Vec<String>>,
        capabilities: Option<Vec<Capability>>,
        min_offer: Option<Minimums>,
        constraints: Option<Conditions>,
    },
    RemoveFramework {
        id: String,
    },
    DeactivateFramework {
        id: String,
    },
    ActivateFramework {
        id: String,
    },
    Suppress {
        framework: String,
        roles: Option<Vec<String>>,
    },
    Revive {
        framework: String,
        roles: Option<Vec<String>>,
    },
    Accept {
        framework: String,
        role: String,
        agent: String,
        resources: Piles,
    },
    Finish {
        framework: String,
        role: String,
        agent: String,
        resources: Piles,
    },
    Release {
        framework: String,
        role: String,
        agent: String,
        resources: Piles,
    },
    Decline {
        framework: String,
        role: String,
        agent: String,
        resources: Piles,
        refuse_seconds: f64,
    },
    ReleaseAll {
        framework: Option<String>,
    },
    Reserve {
        agent: String,
        resources: Piles,
        framework: Option<String>,
        role: Option<String>,
        #[serde(default)]
        error: bool,
    },
    Unreserve {
        agent: String,
        resources: Piles,
        framework: Option<String>,
        role: Option<String>,
        #[serde(default)]
        error: bool,
    },
    Convert {
        framework: String,
        role: String,
        agent: String,
        from: Piles,
        to: Piles,
    },
    SetWeight {
        role: Option<String>,
        path: Option<String>,
        weight: Number,
    },
    SetQuota {
        role: String,
        #[serde(default)]
        guarantees: Quantities,
        #[serde(default)]
        limits: Quantities,
    },
    RemoveQuota {
        role: String,
    },
    SetAllowedAgents {
        #[serde(deserialize_with = "given")]
        agents: Option<Option<Vec<String>>>,
    },
    SetUnavailable {
        agent: String,
        #[serde(deserialize_with = "given")]
        unavailable: Option<Option<Downtime>>,
    },
    AnswerInverse {
        framework: String,
        agent: String,
        accept: bool,
        refuse_seconds: f64,
    },
    Advance {
        seconds: f64,
    },
    Allocate {
        agents: Option<Vec<String>>,
    },
    Expect {
        offers: Vec<Four>,
    },
    ExpectTotals {
        totals: Vec<Total>,
    },
    ExpectSum {
        resources: Piles,
        offers: Option<usize>,
    },
    ExpectInverse {
        offers: Vec<Asked>,
    },
    ExpectInverseStatus {
        framework: String,
        agent: String,
        status: String,
    },
    ExpectRescinded {
        offers: Vec<Four>,
    },
    ExpectShares {
        shares: BTreeMap<String, Option<f64>>,
    },
    ExpectUsage {
        total: Quantities,
        taken: Quantities,
    },
    ExpectFilters {
        counts: BTreeMap<String, usize>,
    },
    ExpectCycles {
        count: u64,
    },
    ExpectRole {
        role: String,
        in_use: Option<Quantities>,
        offered: Option<Quantities>,
        reserved: Option<Quantities>,
        consumed: Option<Quantities>,
    },
    ExpectRoles {
        known: Vec<String>,
    },
    // Of sorters alone.
    Add {
        client: String,
        #[serde(default = "yes")]
        active: bool,
    },
    Remove {
        client: String,
    },
    Activate {
        client: String,
    },
    Deactivate {
        client: String,
    },
    Allocated {
        client: String,
        agent: String,
        resources: Piles,
    },
    Unallocated {
        client: String,
        agent: String,
        resources: Piles,
    },
    Update {
        client: String,
        agent: String,
        from: Piles,
        to: Piles,
    },
    ExpectOrder {
        clients: Vec<String>,
        #[serde(default)]
        or_else: Vec<Vec<String>>,
    },
    ExpectMembers {
        clients: Vec<String>,
    },
    ExpectKnown {
        present: Vec<String>,
        absent: Vec<String>,
        count: usize,
    },
    ExpectAllocation {
        client: Option<String>,
        #[serde(default)]
        agents: BTreeMap<String, Piles>,
        total: Option<Quantities>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Function {
    RoleNameIsValid,
    RoleAncestors,
    IsStrictSubrole,
    AllocatableTo,
    ShrinkToQuantities,
    ShrinkToLimits,
    QuantitiesAdd,
    QuantitiesSubtract,
    QuantitiesContain,
    LimitsSubtract,
    LimitsContainLimits,
    LimitsContainQuantities,
    AgentExcludedByConstraints,
    QuotaAdmission,
    WeightIsValid,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) input: Value,
    #[serde(default, deserialize_with = "given")]
    pub(crate) expect: Option<Value>,
    pub(crate) expect_one_of: Option<Vec<Value>>,
}

impl Step {
    /// Its operation, as it is written.
    pub(crate) fn op(&self) -> String {
        let debug = format!("{self:?}");
        let name = debug.split([' ', '{']).next().unwrap_or_default();
        let mut op = String::new();
        for char in name.chars() {
            if char.is_ascii_uppercase() && !op.is_empty() {
                op.push('_');
            }
            op.push(char.to_ascii_lowercase());
        }
        op
    }

    fn is_of_sorters(&self) -> bool {
        matches!(
            self,
            Self::Add { .. }
                | Self::Remove { .. }
                | Self::Activate { .. }
                | Self::Deactivate { .. }
                | Self::Allocated { .. }
                | Self::Unallocated { .. }
                | Self::Update { .. }
                | Self::ExpectOrder { .. }
                | Self::ExpectMembers { .. }
                | Self::ExpectKnown { .. }
                | Self::ExpectAllocation { .. }
        )
    }

    fn is_of_both(&self) -> bool {
        matches!(
            self,
            Self::AddAgent { .. } | Self::RemoveAgent { .. } | Self::SetWeight { .. }
        )
    }
}

impl Scenario {
    /// What is wrong with it that no single field shows.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.kind == Kind::Cases {
            return match (self.function, self.cases.is_empty()) {
                (None, _) => Some("kind cases: wanted a function".to_owned()),
                (_, true) => Some("kind cases: wanted cases".to_owned()),
                _ => self
                    .cases
                    .iter()
                    .position(|case| case.expect.is_some() == case.expect_one_of.is_some())
                    .map(|case| format!("case {case}: wanted expect, or expect_one_of")),
            };
        }
        if self.steps.is_empty() {
            return Some("wanted steps".to_owned());
        }
        for (index, step) in self.steps.iter().enumerate() {
            let here = match self.kind {
                Kind::Sorter => step.is_of_sorters() || step.is_of_both(),
                _ => !step.is_of_sorters(),
            };
            if !here {
                return Some(format!("step {index}: {} is of the other kind", step.op()));
            }
            let wanted = match (self.kind, step) {
                (Kind::Sorter, Step::SetWeight { path: None, .. }) => "path",
                (Kind::Allocator, Step::SetWeight { role: None, .. }) => "role",
                (
                    _,
                    Step::Reserve {
                        framework, role, ..
                    }
                    | Step::Unreserve {
                        framework, role, ..
                    },
                ) if framework.is_some() != role.is_some() => "framework and role together",
                _ => continue,
            };
            return Some(format!("step {index} ({}): wanted {wanted}", step.op()));
        }
        None
    }
}
