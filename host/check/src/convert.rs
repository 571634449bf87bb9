//! From what scenarios write to what the host knows.

use std::collections::BTreeSet;

use proffer_model::{
    Amount, AttributeValue, Constraint, ConstraintTest, KindQuota, Range, Ranges, Resources,
    RoleName,
};
use serde_json::Value;

use crate::scenario::{Attribute, Condition, Test, UseThere};
use crate::values::{Quantities, amount_of};

pub(crate) fn role_of(name: &str) -> Result<RoleName, String> {
    RoleName::new(name).map_err(|error| error.to_string())
}

pub(crate) fn roles_of(names: &[String]) -> Result<Vec<RoleName>, String> {
    names.iter().map(|name| role_of(name)).collect()
}

/// What is in use, by framework and role.
type Uses = Vec<((String, RoleName), Resources)>;

pub(crate) fn uses_of(used: &[UseThere]) -> Result<Uses, String> {
    let row = |used: &UseThere| {
        let role = role_of(&used.role)?;
        Ok(((used.framework.clone(), role), used.resources.0.clone()))
    };
    used.iter().map(row).collect()
}

pub(crate) fn quota_rows(guarantees: &Quantities, limits: &Quantities) -> Vec<KindQuota> {
    let (guarantees, limits) = (guarantees.amounts(), limits.amounts());
    let kinds: BTreeSet<&String> = guarantees.keys().chain(limits.keys()).collect();
    kinds
        .into_iter()
        .map(|kind| KindQuota {
            kind: kind.clone(),
            guarantee: guarantees.get(kind).copied().unwrap_or(Amount::ZERO),
            limit: limits.get(kind).copied(),
        })
        .collect()
}

pub(crate) fn attributes_of(
    attributes: &[Attribute],
) -> Result<Vec<proffer_model::Attribute>, String> {
    let one = |Attribute(name, value): &Attribute| {
        let wanted = || format!("attribute {name}: wanted a text, a number or ranges");
        let value = match value {
            Value::String(text) => AttributeValue::Text(text.clone()),
            Value::Number(number) => {
                let number = number.as_f64().ok_or_else(wanted)?;
                AttributeValue::Scalar(amount_of(number).ok_or_else(wanted)?)
            }
            Value::Array(rows) => {
                let range = |row: &Value| {
                    let first = row.get(0)?.as_u64()?;
                    Range::new(first, row.get(1)?.as_u64()?).ok()
                };
                let ranges: Option<Vec<Range>> = rows.iter().map(range).collect();
                AttributeValue::Ranges(Ranges::new(ranges.ok_or_else(wanted)?))
            }
            _ => return Err(wanted()),
        };
        Ok(proffer_model::Attribute {
            name: name.clone(),
            value,
        })
    };
    attributes.iter().map(one).collect()
}

pub(crate) fn constraints_of(groups: &[Vec<Condition>]) -> Result<Vec<Vec<Constraint>>, String> {
    let one = |condition: &Condition| {
        let test = match condition.test {
            Test::Exists => ConstraintTest::Exists,
            Test::NotExists => ConstraintTest::NotExists,
            Test::Equals => ConstraintTest::Equals,
            Test::NotEquals => ConstraintTest::NotEquals,
            Test::Matches => ConstraintTest::Matches,
            Test::NotMatches => ConstraintTest::NotMatches,
        };
        let wants = !matches!(condition.test, Test::Exists | Test::NotExists);
        if wants != condition.value.is_some() {
            return Err(format!("{}: wanted a value, or none", condition.attribute));
        }
        Ok(Constraint {
            attribute: condition.attribute.clone(),
            test,
            values: condition.value.iter().cloned().collect(),
        })
    };
    let group = |group: &Vec<Condition>| group.iter().map(one).collect();
    groups.iter().map(group).collect()
}
