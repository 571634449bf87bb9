//! What scenarios expect, and what there is.

use std::collections::{BTreeMap, BTreeSet};

use proffer_model::{Amounts, Resources, RoleName};

use crate::allocator::Run;
use crate::convert::role_of;
use crate::scenario::{Asked, Four, Step, Total};
use crate::stage::Made;
use crate::values::{Quantities, scalars, text, trimmed};

/// Shares are told in millionths.
const SHARE_TOLERANCE: f64 = 1.000_001e-6;

/// An expectation that does not hold.
#[derive(Debug)]
pub(crate) struct Mismatch {
    pub(crate) expected: String,
    pub(crate) actual: String,
}

impl From<String> for Mismatch {
    fn from(actual: String) -> Self {
        Self {
            expected: "it to be done".to_owned(),
            actual,
        }
    }
}

type Key = (String, RoleName, String);

/// Offers summed per framework, role and agent.
pub(crate) fn summed(made: &[Made]) -> BTreeMap<Key, Resources> {
    let mut sums: BTreeMap<Key, Resources> = BTreeMap::new();
    for offer in made {
        let key = (
            offer.framework.clone(),
            offer.role.clone(),
            offer.agent.clone(),
        );
        sums.entry(key).or_default().add(&offer.resources);
    }
    sums
}

/// Offers in words.
pub(crate) fn offers_text(offers: &BTreeMap<Key, Resources>) -> String {
    if offers.is_empty() {
        return "no offer".to_owned();
    }
    let rows = offers.iter().map(|((framework, role, agent), resources)| {
        format!("{framework} under {role} on {agent}: {resources}")
    });
    rows.collect::<Vec<_>>().join(", ")
}

pub(crate) fn same<T: PartialEq>(
    expected: &T,
    actual: &T,
    words: impl Fn(&T) -> String,
) -> Result<(), Mismatch> {
    if expected == actual {
        return Ok(());
    }
    Err(Mismatch {
        expected: words(expected),
        actual: words(actual),
    })
}

/// Looks at an expectation; none: the step is none.
pub(crate) fn look(run: &mut Run<'_>, step: &Step) -> Option<Result<(), Mismatch>> {
    Some(match step {
        Step::Expect { offers } => {
            let made = std::mem::take(&mut run.stage.made);
            same_offers(offers, &made)
        }
        Step::ExpectRescinded { offers } => {
            let gone = std::mem::take(&mut run.rescinded);
            same_offers(offers, &gone)
        }
        Step::ExpectTotals { totals } => {
            let made = std::mem::take(&mut run.stage.made);
            same_totals(totals, &made)
        }
        Step::ExpectSum { resources, offers } => {
            let made = std::mem::take(&mut run.stage.made);
            let mut all = Resources::none();
            for offer in &made {
                all.add(&scalars(&offer.resources));
            }
            same(&scalars(&resources.0), &all, ToString::to_string)
                .and_then(|()| same_count(*offers, count(&made)))
        }
        Step::ExpectInverse { offers } => {
            same_inverse(offers, &std::mem::take(&mut run.inverse_made))
        }
        Step::ExpectInverseStatus {
            framework,
            agent,
            status,
        } => inverse_status(run, framework, agent, status),
        Step::ExpectShares { shares } => same_shares(run, shares),
        Step::ExpectUsage { total, taken } => {
            let (there, held) = run.stage.core.pool_use();
            same_amounts("in all", total, &there).and_then(|()| same_amounts("taken", taken, &held))
        }
        Step::ExpectFilters { counts } => {
            let all = run.stage.core.filters_by_role();
            let mut actual: BTreeMap<String, usize> = BTreeMap::new();
            for role in counts.keys() {
                let there = role_of(role).ok().and_then(|role| all.get(&role).copied());
                actual.insert(role.clone(), there.unwrap_or(0));
            }
            same(counts, &actual, |counts| format!("{counts:?}"))
        }
        Step::ExpectCycles { count } => same(count, &run.stage.cycles_run, |count| {
            format!("{count} cycles")
        }),
        Step::ExpectRole {
            role,
            in_use,
            offered,
            reserved,
            consumed,
        } => same_sums(run, role, [in_use, offered, reserved, consumed]),
        Step::ExpectRoles { known } => {
            let expected: BTreeSet<String> = known.iter().cloned().collect();
            let actual = run.stage.core.roles_known();
            let actual: BTreeSet<String> = actual.iter().map(ToString::to_string).collect();
            same(&expected, &actual, |roles| format!("{roles:?}"))
        }
        _ => return None,
    })
}

fn same_offers(expected: &[Four], made: &[Made]) -> Result<(), Mismatch> {
    let mut sums: BTreeMap<Key, Resources> = BTreeMap::new();
    for offer in expected {
        let key = (
            offer.framework.clone(),
            role_of(&offer.role)?,
            offer.agent.clone(),
        );
        sums.entry(key).or_default().add(&offer.resources.0);
    }
    same(&sums, &summed(made), offers_text)
}

/// (cycle, framework, role, agent) is one offer.
fn count(made: &[Made]) -> usize {
    let keys = made
        .iter()
        .map(|offer| (offer.cycle, &offer.framework, &offer.role, &offer.agent));
    keys.collect::<BTreeSet<_>>().len()
}

fn same_count(expected: Option<usize>, actual: usize) -> Result<(), Mismatch> {
    match expected {
        Some(expected) => same(&expected, &actual, |count| format!("{count} offers")),
        None => Ok(()),
    }
}

fn same_totals(expected: &[Total], made: &[Made]) -> Result<(), Mismatch> {
    let mut sums: BTreeMap<(String, RoleName), Resources> = BTreeMap::new();
    for offer in made {
        let key = (offer.framework.clone(), offer.role.clone());
        sums.entry(key).or_default().add(&scalars(&offer.resources));
    }
    let words = |sums: &BTreeMap<(String, RoleName), Resources>| {
        let rows = sums
            .iter()
            .map(|((framework, role), resources)| format!("{framework} under {role}: {resources}"));
        rows.collect::<Vec<_>>().join(", ")
    };
    let mut wanted = BTreeMap::new();
    for total in expected {
        let key = (total.framework.clone(), role_of(&total.role)?);
        let sum: &mut Resources = wanted.entry(key).or_default();
        sum.add(&scalars(&total.resources.0));
    }
    same(&wanted, &sums, words)?;
    for total in expected {
        let role = role_of(&total.role)?;
        let of_total: Vec<Made> = made
            .iter()
            .filter(|offer| offer.framework == total.framework && offer.role == role)
            .cloned()
            .collect();
        same_count(total.offers, count(&of_total))?;
    }
    Ok(())
}

fn same_inverse(expected: &[Asked], made: &[(String, String)]) -> Result<(), Mismatch> {
    let mut wanted: Vec<(String, String)> = expected
        .iter()
        .map(|asked| (asked.framework.clone(), asked.agent.clone()))
        .collect();
    let mut made = made.to_vec();
    wanted.sort();
    made.sort();
    same(&wanted, &made, |rows| match rows.as_slice() {
        [] => "no inverse offer".to_owned(),
        rows => format!("inverse offers to {rows:?}"),
    })
}

fn inverse_status(
    run: &Run<'_>,
    framework: &str,
    agent: &str,
    status: &str,
) -> Result<(), Mismatch> {
    let agent = run.stage.agent(agent)?;
    let core = &run.stage.core;
    let found = core.inverse_offers().find(|inverse| {
        let name = core.framework_name(inverse.framework);
        inverse.agent == agent && name.is_some_and(|name| *name == *framework)
    });
    let actual = match found.and_then(|inverse| inverse.accepted) {
        Some(true) => "accepted",
        Some(false) => "declined",
        None => "no answer",
    };
    same(&status, &actual, |status| (*status).to_owned())
}

fn same_shares(
    run: &mut Run<'_>,
    expected: &BTreeMap<String, Option<f64>>,
) -> Result<(), Mismatch> {
    let places = run.stage.places()?;
    let mut shares: BTreeMap<String, f64> = BTreeMap::new();
    for place in places
        .iter()
        .filter(|place| place.client == proffer_model::policy::NONE)
    {
        let name = run.stage.role_name(place.role);
        #[expect(
            clippy::cast_precision_loss,
            reason = "millionths of a share are small"
        )]
        shares.insert(name, place.share_micro as f64 / 1e6);
    }
    for (role, wanted) in expected {
        let actual = shares.get(role).copied();
        let close = match (wanted, actual) {
            (Some(wanted), Some(actual)) => (wanted - actual).abs() <= SHARE_TOLERANCE,
            (None, None) => true,
            _ => false,
        };
        if !close {
            let words = |share: Option<f64>| match share {
                Some(share) => format!("{role} at a share of {share}"),
                None => format!("{role} without a framework"),
            };
            return Err(Mismatch {
                expected: words(*wanted),
                actual: words(actual),
            });
        }
    }
    Ok(())
}

fn same_amounts(what: &str, expected: &Quantities, actual: &Amounts) -> Result<(), Mismatch> {
    let words = |amounts: &Amounts| format!("{} {what}", text(amounts));
    same(&trimmed(&expected.amounts()), &trimmed(actual), words)
}

fn same_sums(
    run: &Run<'_>,
    role: &str,
    expected: [&Option<Quantities>; 4],
) -> Result<(), Mismatch> {
    let sums = run.stage.core.role_sums(&role_of(role)?);
    let mut consumed = sums.consumed;
    if let Some(wanted) = expected[3] {
        // Quota is of scalars; ports are compared where they are named.
        consumed.retain(|kind, _| kind != "ports" || wanted.0.contains_key(kind));
    }
    let actual = [
        ("in use", sums.in_use),
        ("offered", sums.offered),
        ("reserved", sums.reserved),
        ("consumed", consumed),
    ];
    for (wanted, (what, actual)) in expected.into_iter().zip(actual) {
        if let Some(wanted) = wanted {
            same_amounts(what, wanted, &actual)?;
        }
    }
    Ok(())
}
