//! Scenarios of kind cases: tables for the host's own small functions.

use std::collections::BTreeMap;

use proffer_model::{
    Admission, Amount, Amounts, RoleName, admit, contains, difference, shrink, sum,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::convert::{attributes_of, constraints_of, role_of};
use crate::report::Failed;
use crate::scenario::{Attribute, Case, Conditions, Function, Scenario};
use crate::values::{Piles, Quantities, trimmed};

pub(crate) fn run(scenario: &Scenario) -> Result<(), Failed> {
    for (index, case) in scenario.cases.iter().enumerate() {
        let failed = |expected: String, actual: String| Failed {
            step: Some(index),
            op: "case".to_owned(),
            expected,
            actual,
        };
        let Some(function) = scenario.function else {
            return Ok(());
        };
        let wanted = wanted(case);
        let texts: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let expected = texts.join(", or ");
        match answer(function, &case.input, &wanted) {
            Ok(None) => {}
            Ok(Some(actual)) => return Err(failed(expected, actual)),
            Err(problem) => return Err(failed("an input of the function".to_owned(), problem)),
        }
    }
    Ok(())
}

fn wanted(case: &Case) -> Vec<&Value> {
    let one = case.expect.iter();
    one.chain(case.expect_one_of.iter().flatten()).collect()
}

/// None: as wanted; otherwise what it was.
fn answer(function: Function, input: &Value, wanted: &[&Value]) -> Result<Option<String>, String> {
    Ok(match function {
        Function::RoleNameIsValid => {
            let Named { name } = read(input)?;
            plain(wanted, json!(RoleName::new(name).is_ok()))
        }
        Function::RoleAncestors => {
            let role = role_of(&read::<OfRole>(input)?.role)?;
            let ancestors = std::iter::successors(role.parent(), RoleName::parent);
            plain(
                wanted,
                json!(ancestors.map(|role| role.to_string()).collect::<Vec<_>>()),
            )
        }
        Function::IsStrictSubrole => {
            let Pair { left, right } = read::<Pair<String>>(input)?;
            plain(
                wanted,
                json!(role_of(&left)?.is_strictly_below(&role_of(&right)?)),
            )
        }
        Function::AllocatableTo => {
            let OpenTo { resources, role } = read(input)?;
            let role = role_of(&role)?;
            let open = resources.0.only(|terms| terms.is_open_to(&role));
            typed(wanted, &Piles(open), |piles| piles.0.to_string())?
        }
        Function::ShrinkToQuantities => cut(input, wanted, Some(Amount::ZERO))?,
        Function::ShrinkToLimits => cut(input, wanted, None)?,
        Function::QuantitiesAdd => {
            let Pair { left, right } = amounts(input)?;
            same_amounts(wanted, trimmed(&sum(&left, &right)))?
        }
        Function::QuantitiesSubtract => {
            let Pair { left, right } = amounts(input)?;
            same_amounts(wanted, difference(&left, &right))?
        }
        Function::QuantitiesContain => {
            let Pair { left, right } = amounts(input)?;
            plain(wanted, json!(contains(&left, &right)))
        }
        Function::LimitsSubtract => {
            let Pair { left, right } = amounts(input)?;
            let rest = difference(&left, &right);
            let limits = left.into_keys().map(|kind| {
                let left = rest.get(&kind).copied().unwrap_or_default();
                (kind, left)
            });
            same_amounts(wanted, limits.collect())?
        }
        Function::LimitsContainLimits => {
            let Pair { left, right } = amounts(input)?;
            let within = left
                .iter()
                .all(|(kind, limit)| right.get(kind).is_some_and(|other| other <= limit));
            plain(wanted, json!(within))
        }
        Function::LimitsContainQuantities => {
            let Pair { left, right } = amounts(input)?;
            let within = right
                .iter()
                .all(|(kind, amount)| left.get(kind).is_none_or(|limit| amount <= limit));
            plain(wanted, json!(within))
        }
        Function::AgentExcludedByConstraints => {
            let Excluded {
                constraints,
                role,
                attributes,
            } = read(input)?;
            let groups = constraints
                .get(&role)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let admits = proffer_core::constraints_admit(
                &constraints_of(groups)?,
                attributes_of(&attributes)?,
            )?;
            plain(wanted, json!(!admits))
        }
        Function::QuotaAdmission => plain(wanted, json!(admission(&read(input)?)?)),
        Function::WeightIsValid => {
            let Weight { weight } = read(input)?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "saturates, and no weight is so large"
            )]
            let milli = (weight * 1_000.0).ceil() as i64;
            let weight = Amount::from_milli(milli);
            plain(wanted, json!(proffer_core::weight_is_valid(weight)))
        }
    })
}

fn read<T: DeserializeOwned>(input: &Value) -> Result<T, String> {
    T::deserialize(input).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfRole {
    role: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair<T> {
    left: T,
    right: T,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenTo {
    resources: Piles,
    role: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shrink {
    resources: Piles,
    target: Quantities,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Excluded {
    constraints: Conditions,
    role: String,
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weight {
    weight: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfOther {
    #[serde(default)]
    guarantees: Quantities,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quota {
    role: String,
    #[serde(default)]
    guarantees: Quantities,
    #[serde(default)]
    limits: Quantities,
    capacity: Option<Quantities>,
    #[serde(default)]
    consumed: Quantities,
    #[serde(default)]
    existing: BTreeMap<String, OfOther>,
    #[serde(default)]
    force: bool,
}

fn amounts(input: &Value) -> Result<Pair<Amounts>, String> {
    let Pair { left, right } = read::<Pair<Quantities>>(input)?;
    Ok(Pair {
        left: left.amounts(),
        right: right.amounts(),
    })
}

fn admission(quota: &Quota) -> Result<&'static str, String> {
    let role = role_of(&quota.role)?;
    let mut guarantees = BTreeMap::new();
    for (name, other) in &quota.existing {
        guarantees.insert(role_of(name)?, other.guarantees.amounts());
    }
    guarantees.insert(role.clone(), quota.guarantees.amounts());
    let capacity = quota.capacity.as_ref().map(Quantities::amounts);
    let asked = Admission {
        guarantees,
        limits: quota.limits.amounts(),
        capacity: capacity.as_ref(),
        consumed: quota.consumed.amounts(),
        force: quota.force,
    };
    Ok(match admit(&role, &asked) {
        Ok(()) => "accept",
        Err(_) => "reject",
    })
}

/// `absent`: what a kind that the target does not name is cut to.
fn cut(input: &Value, wanted: &[&Value], absent: Option<Amount>) -> Result<Option<String>, String> {
    let Shrink { resources, target } = read(input)?;
    let target = target.amounts();
    // In which order pieces of one kind are cut is random: any that comes out is fine if it is one
    // of those that are.
    let mut last = String::new();
    for seed in 0..64 {
        let cut = shrink(&resources.0, seed, |kind| {
            target.get(kind).copied().or(absent)
        });
        match typed(wanted, &Piles(cut), |piles| piles.0.to_string())? {
            None => return Ok(None),
            Some(actual) => last = actual,
        }
    }
    Ok(Some(last))
}

fn plain(wanted: &[&Value], actual: Value) -> Option<String> {
    (!wanted.contains(&&actual)).then(|| actual.to_string())
}

fn same_amounts(wanted: &[&Value], actual: Amounts) -> Result<Option<String>, String> {
    let text = crate::values::text(&actual);
    for wanted in wanted {
        if read::<Quantities>(wanted)?.amounts() == actual {
            return Ok(None);
        }
    }
    Ok(Some(text))
}

fn typed<T: DeserializeOwned + PartialEq>(
    wanted: &[&Value],
    actual: &T,
    words: impl Fn(&T) -> String,
) -> Result<Option<String>, String> {
    for wanted in wanted {
        if read::<T>(wanted)? == *actual {
            return Ok(None);
        }
    }
    Ok(Some(words(actual)))
}
