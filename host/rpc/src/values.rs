//! Conversions of the values that several services share, and the checks that go with them.
//!
//! Encoding cannot fail. Decoding checks every id, amount and range against the model's own rules and
//! names the field that is wrong; how long texts and lists may be is bounded by the size of a message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proffer_model::{
    AgentInfo, Amount, Attribute, AttributeValue, Bundle, Marks, Quantity, Range, Ranges, Reason,
    Remedy, Resources, RoleName, TaskId, Terms,
};

use crate::proto::values::v0 as wire;

mod task;
mod update;

pub(crate) use update::{state_from_wire, state_to_wire};

/// Why a message was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message field '{field}': {problem}")]
pub struct InvalidMessage {
    /// Which field, as the `.proto` file calls it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl InvalidMessage {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self {
            field,
            problem: problem.into(),
        }
    }

    pub(crate) fn missing(field: &'static str) -> Self {
        Self::new(field, "it is missing")
    }
}

/// Names in resources and attributes: they are shown, sorted and compared all the time.
const NAME_MAX: usize = 255;

/// Codes of reasons, and the roles in a reservation, are few and short by nature.
const CODE_MAX: usize = 64;

pub(crate) fn task_id(field: &'static str, text: String) -> Result<TaskId, InvalidMessage> {
    TaskId::new(text).map_err(|error| InvalidMessage::new(field, error.to_string()))
}

pub(crate) fn role(field: &'static str, text: String) -> Result<RoleName, InvalidMessage> {
    RoleName::new(text).map_err(|error| InvalidMessage::new(field, error.to_string()))
}

pub(crate) fn name(field: &'static str, text: String) -> Result<String, InvalidMessage> {
    if text.is_empty() || text.len() > NAME_MAX {
        return Err(InvalidMessage::new(
            field,
            format!("{} bytes long, wanted 1 to {NAME_MAX}", text.len()),
        ));
    }
    Ok(text)
}

fn amount(field: &'static str, milli: i64, most: Amount) -> Result<Amount, InvalidMessage> {
    let amount = Amount::from_milli(milli);
    if amount < Amount::ZERO || amount > most {
        return Err(InvalidMessage::new(
            field,
            format!("{amount} is not from 0 to {most}"),
        ));
    }
    Ok(amount)
}

impl From<&Ranges> for wire::Ranges {
    fn from(ranges: &Ranges) -> Self {
        let ranges = ranges.as_slice().iter().map(|range| wire::Range {
            begin: range.begin(),
            end: range.end(),
        });
        Self {
            ranges: ranges.collect(),
        }
    }
}

impl TryFrom<wire::Ranges> for Ranges {
    type Error = InvalidMessage;

    fn try_from(ranges: wire::Ranges) -> Result<Self, InvalidMessage> {
        let ranges: Result<Vec<Range>, _> = ranges
            .ranges
            .iter()
            .map(|range| Range::new(range.begin, range.end))
            .collect();
        match ranges {
            Ok(ranges) => Ok(Self::new(ranges)),
            Err(error) => Err(InvalidMessage::new("ranges", error.to_string())),
        }
    }
}

impl From<&Bundle> for wire::Bundle {
    fn from(bundle: &Bundle) -> Self {
        let Bundle {
            cpus,
            mem,
            disk,
            gpus,
            ports,
            other,
        } = bundle;
        let other = other.iter().map(|(kind, quantity)| wire::Other {
            kind: kind.to_string(),
            quantity: Some(match quantity {
                Quantity::Scalar(amount) => wire::other::Quantity::Scalar(amount.milli()),
                Quantity::Ranges(ranges) => wire::other::Quantity::Ranges(ranges.into()),
                Quantity::Items(items) => wire::other::Quantity::Items(wire::Items {
                    items: items.iter().map(|item| item.to_string()).collect(),
                }),
            }),
        });
        Self {
            cpus: cpus.milli(),
            mem: mem.milli(),
            disk: disk.milli(),
            gpus: gpus.milli(),
            ports: (!ports.is_empty()).then(|| ports.into()),
            other: other.collect(),
        }
    }
}

impl TryFrom<wire::Bundle> for Bundle {
    type Error = InvalidMessage;

    fn try_from(bundle: wire::Bundle) -> Result<Self, InvalidMessage> {
        bundle_up_to(bundle, Amount::MAX_INPUT)
    }
}

/// What a host says of many agents together: amounts beyond what a single one may have.
pub(crate) fn sums(bundle: wire::Bundle) -> Result<Bundle, InvalidMessage> {
    bundle_up_to(bundle, Amount::from_milli(i64::MAX))
}

fn bundle_up_to(bundle: wire::Bundle, most: Amount) -> Result<Bundle, InvalidMessage> {
    let mut other = BTreeMap::new();
    for part in bundle.other {
        let kind = name("other.kind", part.kind)?;
        let quantity = match part.quantity {
            Some(wire::other::Quantity::Scalar(milli)) => {
                Quantity::Scalar(amount("other.scalar", milli, most)?)
            }
            Some(wire::other::Quantity::Ranges(ranges)) => Quantity::Ranges(ranges.try_into()?),
            Some(wire::other::Quantity::Items(items)) => Quantity::Items(
                items
                    .items
                    .into_iter()
                    .map(|item| name("other.items", item).map(Arc::from))
                    .collect::<Result<BTreeSet<_>, _>>()?,
            ),
            None => return Err(InvalidMessage::missing("other.quantity")),
        };
        if !quantity.is_empty() && other.insert(Arc::from(kind.as_str()), quantity).is_some() {
            return Err(InvalidMessage::new(
                "other.kind",
                format!("'{kind}' is given twice"),
            ));
        }
    }
    let gpus = amount("gpus", bundle.gpus, most)?;
    if !gpus.is_whole() {
        return Err(InvalidMessage::new("gpus", format!("{gpus} is not whole")));
    }
    Ok(Bundle {
        cpus: amount("cpus", bundle.cpus, most)?,
        mem: amount("mem", bundle.mem, most)?,
        disk: amount("disk", bundle.disk, most)?,
        gpus,
        ports: bundle.ports.unwrap_or_default().try_into()?,
        other,
    })
}

impl From<&Terms> for wire::Terms {
    fn from(terms: &Terms) -> Self {
        let Terms {
            reserved,
            label,
            volume,
            disk,
            marks,
        } = terms;
        Self {
            reserved: reserved.iter().map(RoleName::to_string).collect(),
            label: label.clone(),
            volume: volume.clone(),
            disk: disk.clone(),
            dynamic: marks.dynamic,
            revocable: marks.revocable,
            shared: marks.shared,
            indivisible: marks.indivisible,
        }
    }
}

impl TryFrom<wire::Terms> for Terms {
    type Error = InvalidMessage;

    fn try_from(terms: wire::Terms) -> Result<Self, InvalidMessage> {
        let reserved = terms.reserved.into_iter();
        Ok(Self {
            reserved: reserved
                .map(|text| role("terms.reserved", text))
                .collect::<Result<_, _>>()?,
            label: terms.label,
            volume: terms.volume,
            disk: terms.disk,
            marks: Marks {
                dynamic: terms.dynamic,
                revocable: terms.revocable,
                shared: terms.shared,
                indivisible: terms.indivisible,
            },
        })
    }
}

impl From<&Resources> for wire::Resources {
    fn from(resources: &Resources) -> Self {
        let piles = resources.piles().map(|(terms, bundle)| wire::Pile {
            terms: (!terms.is_plain()).then(|| terms.into()),
            bundle: Some(bundle.into()),
        });
        Self {
            piles: piles.collect(),
        }
    }
}

impl TryFrom<wire::Resources> for Resources {
    type Error = InvalidMessage;

    fn try_from(resources: wire::Resources) -> Result<Self, InvalidMessage> {
        let mut all = Self::none();
        for pile in resources.piles {
            let terms: Terms = pile.terms.unwrap_or_default().try_into()?;
            let bundle = pile
                .bundle
                .ok_or_else(|| InvalidMessage::missing("pile.bundle"))?;
            if all.get(&terms).is_some() {
                return Err(InvalidMessage::new(
                    "piles",
                    "two piles have the same terms",
                ));
            }
            all.add_pile(&terms, &bundle.try_into()?);
        }
        Ok(all)
    }
}

impl From<&Reason> for wire::Reason {
    fn from(reason: &Reason) -> Self {
        let remedy = match reason.remedy {
            Remedy::Retry => wire::Remedy::Retry,
            Remedy::ChooseAnew => wire::Remedy::ChooseAnew,
            Remedy::Mend => wire::Remedy::Mend,
            Remedy::Denied => wire::Remedy::Denied,
            Remedy::Unsupported => wire::Remedy::Unsupported,
        };
        Self {
            code: reason.code.to_string(),
            text: reason.text.clone(),
            remedy: remedy.into(),
        }
    }
}

impl TryFrom<wire::Reason> for Reason {
    type Error = InvalidMessage;

    fn try_from(reason: wire::Reason) -> Result<Self, InvalidMessage> {
        let remedy = match reason.remedy() {
            wire::Remedy::Unspecified => return Err(InvalidMessage::missing("reason.remedy")),
            wire::Remedy::Retry => Remedy::Retry,
            wire::Remedy::ChooseAnew => Remedy::ChooseAnew,
            wire::Remedy::Mend => Remedy::Mend,
            wire::Remedy::Denied => Remedy::Denied,
            wire::Remedy::Unsupported => Remedy::Unsupported,
        };
        if reason.code.len() > CODE_MAX {
            return Err(InvalidMessage::new(
                "reason.code",
                format!("longer than {CODE_MAX} bytes"),
            ));
        }
        Ok(Self {
            code: reason.code.into(),
            text: reason.text,
            remedy,
        })
    }
}

impl From<&AgentInfo> for wire::AgentInfo {
    fn from(info: &AgentInfo) -> Self {
        let AgentInfo {
            hostname,
            region,
            zone,
            attributes,
        } = info;
        let attributes = attributes.iter().map(|attribute| wire::Attribute {
            name: attribute.name.clone(),
            value: Some(match &attribute.value {
                AttributeValue::Text(text) => wire::attribute::Value::Text(text.clone()),
                AttributeValue::Scalar(amount) => wire::attribute::Value::Scalar(amount.milli()),
                AttributeValue::Ranges(ranges) => wire::attribute::Value::Ranges(ranges.into()),
            }),
        });
        Self {
            hostname: hostname.to_string(),
            region: region.to_string(),
            zone: zone.to_string(),
            attributes: attributes.collect(),
        }
    }
}

impl TryFrom<wire::AgentInfo> for AgentInfo {
    type Error = InvalidMessage;

    fn try_from(info: wire::AgentInfo) -> Result<Self, InvalidMessage> {
        let attributes = info.attributes.into_iter().map(|attribute| {
            let value = match attribute.value {
                Some(wire::attribute::Value::Text(text)) => AttributeValue::Text(text),
                Some(wire::attribute::Value::Scalar(milli)) => {
                    AttributeValue::Scalar(Amount::from_milli(milli))
                }
                Some(wire::attribute::Value::Ranges(ranges)) => {
                    AttributeValue::Ranges(ranges.try_into()?)
                }
                None => return Err(InvalidMessage::missing("attribute.value")),
            };
            Ok(Attribute {
                name: name("attribute.name", attribute.name)?,
                value,
            })
        });
        Ok(Self {
            attributes: attributes.collect::<Result<_, _>>()?,
            hostname: name("hostname", info.hostname)?.into(),
            region: info.region.into(),
            zone: info.zone.into(),
        })
    }
}
