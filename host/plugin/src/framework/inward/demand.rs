//! Demand out of an answer.

use proffer_model::framework::CONSTRAINTS_MAX;
use proffer_model::{
    Bundle, Constraint, ConstraintTest, Demand, Duration, Near, Ranges, Resources, RevocableUse,
    Shape, Timestamp,
};

use super::resources::{amount, others, ranges};
use super::{Empty, Malformed, Read, id, role};
use crate::bindings::framework::proffer::framework::model as wit;

pub(crate) fn read(row: wit::Demand) -> Read<Demand> {
    let constraints: Vec<Vec<Constraint>> = row
        .constraints
        .into_iter()
        .map(|group| group.into_iter().map(constraint).collect())
        .collect();
    let count = proffer_model::framework::constraint_count(&constraints);
    if count > CONSTRAINTS_MAX || constraints.len() > CONSTRAINTS_MAX {
        return Err(Malformed(format!(
            "{count} constraints in {} groups, more than {CONSTRAINTS_MAX}",
            constraints.len()
        )));
    }
    let near = row.near.into_iter().map(|near| Near {
        attribute: near.attribute,
        value: near.value,
        count: near.count,
    });
    Ok(Demand {
        key: id("demand's key", row.key, Empty::Refused)?,
        role: role(row.role)?,
        shape: shape(row.shape)?,
        count: row.count,
        gang: row.gang,
        per_agent: row.per_agent,
        priority: row.priority,
        until: row.until.map(Timestamp),
        constraints,
        near: near.collect(),
        near_for: Duration(row.near_for),
    })
}

fn shape(shape: wit::Shape) -> Read<Shape> {
    let bundle = Bundle {
        cpus: amount("cpus", shape.cpus)?,
        mem: amount("mem", shape.mem)?,
        disk: amount("disk", shape.disk)?,
        gpus: amount("gpus", shape.gpus)?,
        ports: Ranges::default(),
        other: others(shape.other)?,
    };
    Ok(Shape {
        resources: Resources::plain(bundle),
        ports: shape.ports,
        fixed_ports: ranges(&shape.fixed_ports)?,
        label: id("label", shape.label, Empty::Allowed)?,
        volume: id("volume", shape.volume, Empty::Allowed)?,
        revocable: match shape.revocable {
            wit::RevocableUse::Never => RevocableUse::Never,
            wit::RevocableUse::Also => RevocableUse::Also,
            wit::RevocableUse::Only => RevocableUse::Only,
        },
    })
}

fn constraint(row: wit::Constraint) -> Constraint {
    Constraint {
        attribute: row.attribute,
        test: match row.test {
            wit::Test::Exists => ConstraintTest::Exists,
            wit::Test::NotExists => ConstraintTest::NotExists,
            wit::Test::Equals => ConstraintTest::Equals,
            wit::Test::NotEquals => ConstraintTest::NotEquals,
            wit::Test::Matches => ConstraintTest::Matches,
            wit::Test::NotMatches => ConstraintTest::NotMatches,
        },
        values: row.values,
    }
}
