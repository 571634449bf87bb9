//! Quota: what a role is held ready, and what it may never exceed, by kind.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Amount, Quantity, Ranges, Resources, RoleName};

/// Amounts by kind. A kind that is not in it: none of it, or in limits, without bound.
pub type Amounts = BTreeMap<String, Amount>;

/// A role's quota of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindQuota {
    /// The kind's name.
    pub kind: String,
    /// Held ready for the role, its subtree included.
    pub guarantee: Amount,
    /// Never more than this; none: no bound.
    pub limit: Option<Amount>,
}

/// Memory and disk, in MiB: Mesos's bound, an exbibyte.
const SPACE_MAX: Amount = Amount::from_units(1 << 40);
/// Anything else: Mesos's bound.
const OTHER_MAX: Amount = Amount::from_units(1_000_000_000_000);

/// Both, kind by kind.
#[must_use]
pub fn sum(one: &Amounts, other: &Amounts) -> Amounts {
    let mut sum = one.clone();
    for (kind, amount) in other {
        *sum.entry(kind.clone()).or_default() += *amount;
    }
    sum
}

/// What is left of `one`; what would be nothing or less is left out.
#[must_use]
pub fn difference(one: &Amounts, other: &Amounts) -> Amounts {
    let left = one.iter().map(|(kind, amount)| {
        let taken = other.get(kind).copied().unwrap_or_default();
        (kind.clone(), *amount - taken)
    });
    left.filter(|(_, amount)| *amount > Amount::ZERO).collect()
}

/// Whether every amount of `other` is met in `one`.
#[must_use]
pub fn contains(one: &Amounts, other: &Amounts) -> bool {
    other
        .iter()
        .all(|(kind, amount)| one.get(kind).copied().unwrap_or_default() >= *amount)
}

/// Cuts resources kind by kind to at most `target`; `None`: not cut. Pieces of one kind are taken in
/// an order that `seed` decides, until the target is used up; what is had whole or not at all and
/// does not fit is left out, and the next piece is tried. Items of ranges and sets are not cut.
#[must_use]
pub fn shrink(
    resources: &Resources,
    seed: u64,
    target: impl Fn(&str) -> Option<Amount>,
) -> Resources {
    let mut left: BTreeMap<String, Option<Amount>> = BTreeMap::new();
    let mut cut = Resources::none();
    let mut piles: Vec<_> = resources.piles().collect();
    let mut state = seed;
    for index in (1..piles.len()).rev() {
        // A linear congruence is enough to try every order of a few piles.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(state >> 33).unwrap_or(0) % (index + 1);
        piles.swap(index, other);
    }
    for (terms, bundle) in piles {
        let mut kept = bundle.clone();
        let mut fit = |kind: &str, amount: Amount, divisible: bool| {
            let left = left.entry(kind.to_owned()).or_insert_with(|| target(kind));
            let Some(left) = left else {
                return amount;
            };
            let taken = match (amount <= *left, divisible) {
                (true, _) => amount,
                (false, true) => *left,
                (false, false) => Amount::ZERO,
            };
            *left -= taken;
            taken
        };
        let divisible = !terms.is_whole();
        kept.cpus = fit("cpus", bundle.cpus, divisible);
        kept.mem = fit("mem", bundle.mem, divisible);
        kept.disk = fit("disk", bundle.disk, divisible);
        kept.gpus = fit("gpus", bundle.gpus, divisible);
        let ports = bundle.ports.amount();
        if fit("ports", ports, false) != ports {
            kept.ports = Ranges::default();
        }
        kept.other.clear();
        for (kind, quantity) in &bundle.other {
            let scalar = matches!(quantity, Quantity::Scalar(_));
            let amount = fit(kind, quantity.amount(), divisible && scalar);
            if amount.is_zero() {
                continue;
            }
            let quantity = if scalar {
                Quantity::Scalar(amount)
            } else {
                quantity.clone()
            };
            kept.other.insert(kind.clone(), quantity);
        }
        cut.add_pile(terms, &kept);
    }
    cut
}

/// A quota about to be set, and what it is looked at against.
#[derive(Clone, Debug, Default)]
pub struct Admission<'a> {
    /// Every role's quota as it would be then, this one's included.
    pub guarantees: BTreeMap<RoleName, Amounts>,
    /// The role's limits.
    pub limits: Amounts,
    /// All that the pool has and that is not revocable; none: not looked at.
    pub capacity: Option<&'a Amounts>,
    /// What the role and its sub-roles consume now.
    pub consumed: Amounts,
    /// An operator insists: what the pool cannot hold and what is over the limit now is let pass.
    pub force: bool,
}

/// Why a quota is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaRefused {
    /// In words for an operator.
    pub problem: String,
    /// Whether to insist helps.
    pub may_force: bool,
}

impl fmt::Display for QuotaRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for QuotaRefused {}

/// Whether a role's quota may be set.
///
/// # Errors
/// The first reason against it.
pub fn admit(role: &RoleName, asked: &Admission<'_>) -> Result<(), QuotaRefused> {
    let never = |problem: String| {
        Err(QuotaRefused {
            problem,
            may_force: false,
        })
    };
    let nothing = Amounts::new();
    let guarantees = asked.guarantees.get(role).unwrap_or(&nothing);
    for (kind, amount) in guarantees.iter().chain(&asked.limits) {
        let bound = match kind.as_str() {
            "mem" | "disk" => SPACE_MAX,
            _ => OTHER_MAX,
        };
        if *amount < Amount::ZERO || *amount > bound {
            return never(format!("{amount} of {kind} is not between 0 and {bound}"));
        }
    }
    for (kind, guarantee) in guarantees {
        if let Some(limit) = asked.limits.get(kind).filter(|limit| *limit < guarantee) {
            return never(format!(
                "the guarantee of {guarantee} {kind} is above the limit of {limit}"
            ));
        }
    }
    if *role == RoleName::star() {
        return never("the role * belongs to everybody and has no quota".to_owned());
    }
    if let Some(problem) = family_problem(role, &asked.guarantees) {
        return never(problem);
    }
    if asked.force {
        return Ok(());
    }
    for (kind, limit) in &asked.limits {
        let consumed = asked.consumed.get(kind).copied().unwrap_or_default();
        if consumed > *limit {
            return Err(QuotaRefused {
                problem: format!(
                    "{role} consumes {consumed} {kind} now, over the limit of {limit}"
                ),
                may_force: true,
            });
        }
    }
    let Some(capacity) = asked.capacity else {
        return Ok(());
    };
    let top = asked
        .guarantees
        .iter()
        .filter(|(role, _)| role.parent().is_none());
    let all = top.fold(Amounts::new(), |all, (_, one)| sum(&all, one));
    for (kind, amount) in &all {
        let there = capacity.get(kind).copied().unwrap_or_default();
        if *amount > there {
            return Err(QuotaRefused {
                problem: format!(
                    "all guarantees come to {amount} {kind}, and the pool has {there}"
                ),
                may_force: true,
            });
        }
    }
    Ok(())
}

/// A parent's guarantee holds its children's: what it has no part of it cannot hand down. Roles
/// without any quota above them stand for themselves.
fn family_problem(role: &RoleName, all: &BTreeMap<RoleName, Amounts>) -> Option<String> {
    let parents = role.parent().into_iter().chain([role.clone()]);
    for parent in parents {
        let Some(own) = all.get(&parent) else {
            continue;
        };
        let children = all
            .iter()
            .filter(|(child, _)| child.parent().as_ref() == Some(&parent));
        let below = children.fold(Amounts::new(), |below, (_, one)| sum(&below, one));
        if let Some((kind, amount)) = below
            .iter()
            .find(|(kind, amount)| own.get(*kind).copied().unwrap_or_default() < **amount)
        {
            return Some(format!(
                "the guarantees below {parent} come to {amount} {kind}, more than its own"
            ));
        }
    }
    None
}
