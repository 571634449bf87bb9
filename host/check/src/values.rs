//! Amounts and resources as scenarios write them, and as the host knows them.

use std::collections::BTreeMap;
use std::fmt;

use proffer_model::{
    Amount, Amounts, Bundle, Marks, Quantity, Range, Ranges, Resources, RoleName, Terms,
};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A number with at most three decimals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Number(pub(crate) Amount);

/// A number, or a set of whole numbers as inclusive ranges.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Figure {
    Scalar(Amount),
    Ranges(Ranges),
}

/// Amounts by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Quantities(pub(crate) BTreeMap<String, Figure>);

/// One plain pile, or a list of piles.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Piles(pub(crate) Resources);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pile {
    amounts: Quantities,
    #[serde(default)]
    reserved: Vec<String>,
    #[serde(default)]
    dynamic: bool,
    #[serde(default)]
    revocable: bool,
    #[serde(default)]
    volume: String,
    #[serde(default)]
    shared: bool,
    #[serde(default)]
    mount: bool,
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        amount(number).map(Self).ok_or_else(|| {
            D::Error::custom(format!(
                "{number}: wanted an amount of at most three decimals"
            ))
        })
    }
}

/// An attribute's number, which may be negative.
pub(crate) fn amount_of(number: f64) -> Option<Amount> {
    if number < 0.0 {
        return amount(-number).map(|amount| -amount);
    }
    amount(number)
}

/// In thousandths; none: not from 0 up, too large, or finer than that.
fn amount(number: f64) -> Option<Amount> {
    let milli = number * 1_000.0;
    let whole = milli.round();
    let fits = (0.0..9e15).contains(&whole) && (milli - whole).abs() < 1e-4_f64.max(whole * 1e-12);
    #[expect(clippy::cast_possible_truncation, reason = "looked at a line above")]
    fits.then_some(Amount::from_milli(whole as i64))
}

impl<'de> Deserialize<'de> for Figure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Figure;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount: a number, or a list of [first, last] ranges")
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Figure, E> {
                amount(number).map(Figure::Scalar).ok_or_else(|| {
                    E::custom(format!(
                        "{number}: wanted an amount of at most three decimals"
                    ))
                })
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Figure, E> {
                self.visit_f64(number as f64)
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Figure, E> {
                self.visit_f64(number as f64)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Figure, A::Error> {
                let mut ranges = Vec::new();
                while let Some((first, last)) = seq.next_element::<(u64, u64)>()? {
                    ranges.push(Range::new(first, last).map_err(A::Error::custom)?);
                }
                Ok(Figure::Ranges(Ranges::new(ranges)))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Quantities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Piles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Piles;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("resources: amounts by kind, or a list of piles with `amounts`")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Piles, A::Error> {
                let plain =
                    Quantities::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let bundle = plain.bundle().map_err(A::Error::custom)?;
                Ok(Piles(Resources::plain(bundle)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Piles, A::Error> {
                let mut all = Resources::none();
                while let Some(pile) = seq.next_element::<Pile>()? {
                    let bundle = pile.amounts.bundle().map_err(A::Error::custom)?;
                    all.add_pile(&pile.terms().map_err(A::Error::custom)?, &bundle);
                }
                Ok(Piles(all))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Pile {
    fn terms(&self) -> Result<Terms, String> {
        let roles = self
            .reserved
            .iter()
            .map(|role| RoleName::new(role.as_str()).map_err(|error| error.to_string()));
        let reserved: Vec<RoleName> = roles.collect::<Result<_, _>>()?;
        if let Some(pair) = reserved
            .windows(2)
            .find(|pair| !pair[1].is_strictly_below(&pair[0]))
        {
            return Err(format!("{} does not lie below {}", pair[1], pair[0]));
        }
        if self.shared && self.volume.is_empty() {
            return Err("shared: wanted a volume".to_owned());
        }
        Ok(Terms {
            reserved,
            label: String::new(),
            volume: self.volume.clone(),
            disk: if self.mount {
                "mount".to_owned()
            } else {
                String::new()
            },
            marks: Marks {
                dynamic: self.dynamic,
                revocable: self.revocable,
                shared: self.shared,
                indivisible: self.mount,
            },
        })
    }
}

impl Quantities {
    /// As a bundle; a count of ports, or a range of processors, is none.
    pub(crate) fn bundle(&self) -> Result<Bundle, String> {
        let mut bundle = Bundle::default();
        for (kind, quantity) in &self.0 {
            match (kind.as_str(), quantity) {
                ("cpus", Figure::Scalar(amount)) => bundle.cpus = *amount,
                ("mem", Figure::Scalar(amount)) => bundle.mem = *amount,
                ("disk", Figure::Scalar(amount)) => bundle.disk = *amount,
                ("gpus", Figure::Scalar(amount)) => bundle.gpus = *amount,
                ("ports", Figure::Ranges(ranges)) => bundle.ports = ranges.clone(),
                ("cpus" | "mem" | "disk" | "gpus", _) => {
                    return Err(format!("{kind}: wanted a number"));
                }
                ("ports", _) => return Err("ports: wanted [first, last] ranges".to_owned()),
                (_, Figure::Scalar(amount)) if amount.is_zero() => {}
                (_, Figure::Scalar(amount)) => {
                    let quantity = Quantity::Scalar(*amount);
                    bundle.other.insert(kind.as_str().into(), quantity);
                }
                (_, Figure::Ranges(ranges)) if ranges.is_empty() => {}
                (_, Figure::Ranges(ranges)) => {
                    let quantity = Quantity::Ranges(ranges.clone());
                    bundle.other.insert(kind.as_str().into(), quantity);
                }
            }
        }
        Ok(bundle)
    }

    /// As a smallest amount worth an offer: a count of ports is any so many.
    pub(crate) fn least(&self) -> Result<Bundle, String> {
        let mut least = self.clone();
        if let Some(Figure::Scalar(count)) = least.0.get("ports") {
            let count = u64::try_from(count.milli() / 1_000).unwrap_or(0);
            let ranges = match count {
                0 => Ranges::default(),
                count => Ranges::new([Range::new(1, count).map_err(|error| error.to_string())?]),
            };
            least.0.insert("ports".to_owned(), Figure::Ranges(ranges));
        }
        least.bundle()
    }

    /// By kind, items counted; zeros stay.
    pub(crate) fn amounts(&self) -> Amounts {
        let amount = |quantity: &Figure| match quantity {
            Figure::Scalar(amount) => *amount,
            Figure::Ranges(ranges) => ranges.amount(),
        };
        let rows = self.0.iter();
        rows.map(|(kind, quantity)| (kind.clone(), amount(quantity)))
            .collect()
    }
}

/// Scalars only.
pub(crate) fn scalars(resources: &Resources) -> Resources {
    let mut all = Resources::none();
    for (terms, bundle) in resources.piles() {
        let mut bundle = bundle.clone();
        bundle.ports = Ranges::default();
        bundle
            .other
            .retain(|_, quantity| matches!(quantity, Quantity::Scalar(_)));
        all.add_pile(terms, &bundle);
    }
    all
}

/// Sums that keep every addend: unlike a ledger's, for ranges are counted apart.
pub(crate) fn text(amounts: &Amounts) -> String {
    if amounts.is_empty() {
        return "nothing".to_owned();
    }
    let rows = amounts.iter();
    let texts: Vec<String> = rows
        .map(|(kind, amount)| format!("{kind}:{amount}"))
        .collect();
    texts.join(";")
}

/// Without zeros.
pub(crate) fn trimmed(amounts: &Amounts) -> Amounts {
    let rows = amounts.iter().filter(|(_, amount)| !amount.is_zero());
    rows.map(|(kind, amount)| (kind.clone(), *amount)).collect()
}
