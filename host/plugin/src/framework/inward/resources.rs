//! Piles, amounts and ranges out of an answer.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use proffer_model::{Amount, Bundle, Marks, Quantity, Range, Ranges, Resources, Terms};

use super::{Empty, Malformed, Read, id, role};
use crate::bindings::framework::proffer::framework::model as wit;
use crate::bindings::framework::proffer::types::values;
use crate::log::printable;

/// Longest name of a kind; as in the text form of resources.
const KIND_BYTES_MAX: usize = 64;
/// Kinds that have fields of their own.
const KNOWN_KINDS: [&str; 5] = ["cpus", "mem", "disk", "gpus", "ports"];

pub(crate) fn resources(piles: Vec<wit::Pile>) -> Read<Resources> {
    let mut resources = Resources::none();
    for pile in piles {
        let terms = match pile.terms {
            Some(terms) => read_terms(terms)?,
            None => Terms::default(),
        };
        let bundle = Bundle {
            cpus: amount("cpus", pile.cpus)?,
            mem: amount("mem", pile.mem)?,
            disk: amount("disk", pile.disk)?,
            gpus: amount("gpus", pile.gpus)?,
            ports: ranges(&pile.ports)?,
            other: others(pile.other)?,
        };
        // Sums of piles under the same terms: a scalar and a set of one kind do not add up.
        if let Some(own) = resources.get(&terms)
            && let Some(kind) = clash(own, &bundle)
        {
            return Err(Malformed(format!(
                "{kind} is a scalar in one pile and a set in another"
            )));
        }
        resources.add_pile(&terms, &bundle);
    }
    Ok(resources)
}

fn clash<'a>(a: &'a Bundle, b: &Bundle) -> Option<&'a str> {
    a.other.iter().find_map(|(kind, own)| {
        let other = b.other.get(kind)?;
        let same = std::mem::discriminant(own) == std::mem::discriminant(other);
        (!same).then_some(&**kind)
    })
}

pub(crate) fn amount(what: &str, milli: i64) -> Read<Amount> {
    let amount = Amount::from_milli(milli);
    if amount < Amount::ZERO || amount > Amount::MAX_INPUT {
        return Err(Malformed(format!(
            "{amount} is not an amount of {what}: wanted 0 to {}",
            Amount::MAX_INPUT
        )));
    }
    Ok(amount)
}

pub(crate) fn ranges(ranges: &[values::Range]) -> Read<Ranges> {
    let ranges: Result<Vec<Range>, _> = ranges
        .iter()
        .map(|range| Range::new(range.begin, range.end))
        .collect();
    ranges
        .map(Ranges::new)
        .map_err(|error| Malformed(error.to_string()))
}

pub(crate) fn others(
    others: Vec<wit::Other>,
) -> Read<std::collections::BTreeMap<Arc<str>, Quantity>> {
    let mut quantities = std::collections::BTreeMap::new();
    for other in others {
        let kind = other.kind;
        let good = !kind.is_empty()
            && kind.len() <= KIND_BYTES_MAX
            && !KNOWN_KINDS.contains(&kind.as_str())
            && kind
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !good {
            return Err(Malformed(format!(
                "'{}' is not another kind: wanted letters, digits, '-', '_' and '.', and none of {}",
                printable(&kind, KIND_BYTES_MAX),
                KNOWN_KINDS.join(", ")
            )));
        }
        let quantity = match other.value {
            wit::Quantity::Scalar(milli) => Quantity::Scalar(amount(&kind, milli)?),
            wit::Quantity::Ranges(set) => Quantity::Ranges(ranges(&set)?),
            wit::Quantity::Items(items) => {
                let items: Read<BTreeSet<Arc<str>>> = items
                    .into_iter()
                    .map(|item| id("item", item, Empty::Refused).map(Arc::from))
                    .collect();
                Quantity::Items(items?)
            }
        };
        match quantities.entry(Arc::from(kind)) {
            Entry::Occupied(entry) => {
                return Err(Malformed(format!("{} is given twice", entry.key())));
            }
            // Kinds of which there is nothing are left out.
            Entry::Vacant(_) if quantity.is_empty() => {}
            Entry::Vacant(entry) => {
                entry.insert(quantity);
            }
        }
    }
    Ok(quantities)
}

fn read_terms(terms: wit::Terms) -> Read<Terms> {
    let reserved: Read<Vec<_>> = terms.reserved.into_iter().map(role).collect();
    Ok(Terms {
        reserved: reserved?,
        label: id("label", terms.label, Empty::Allowed)?,
        volume: id("volume", terms.volume, Empty::Allowed)?,
        disk: id("disk", terms.disk, Empty::Allowed)?,
        marks: Marks {
            dynamic: terms.marks.contains(wit::Marks::DYNAMIC),
            revocable: terms.marks.contains(wit::Marks::REVOCABLE),
            shared: terms.marks.contains(wit::Marks::SHARED),
            indivisible: terms.marks.contains(wit::Marks::INDIVISIBLE),
        },
    })
}
