//! The text form of resources: `cpus:4;mem:8192;ports:[31000-32000];licenses:{a,b}`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Amount, Bundle, Quantity, Range, Ranges};

/// Why a text is not resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseResourcesError {
    /// The part between semicolons that is wrong.
    pub part: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for ParseResourcesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "resources: '{}': {}; wanted KIND:VALUE separated by ';', as in cpus:4;mem:8192;ports:[31000-32000]",
            self.part, self.problem
        )
    }
}

impl std::error::Error for ParseResourcesError {}

impl FromStr for Bundle {
    type Err = ParseResourcesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bundle = Self::default();
        let mut seen = BTreeSet::new();
        for part in text
            .split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let fail = |problem: String| ParseResourcesError {
                part: part.to_owned(),
                problem,
            };
            let (kind, value) = part
                .split_once(':')
                .ok_or_else(|| fail("there is no ':'".to_owned()))?;
            let (kind, value) = (kind.trim(), value.trim());
            if !is_kind(kind) {
                return Err(fail(
                    "a kind is letters, digits, '-', '_' and '.'".to_owned(),
                ));
            }
            if !seen.insert(kind) {
                return Err(fail(format!("{kind} is given twice")));
            }
            let quantity = parse_quantity(value).map_err(fail)?;
            set(&mut bundle, kind, quantity).map_err(fail)?;
        }
        Ok(bundle)
    }
}

fn is_kind(kind: &str) -> bool {
    !kind.is_empty()
        && kind.len() <= 64
        && kind
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn parse_quantity(value: &str) -> Result<Quantity, String> {
    if let Some(list) = value
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let ranges = list
            .split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(parse_range);
        return Ok(Quantity::Ranges(Ranges::new(
            ranges.collect::<Result<Vec<_>, _>>()?,
        )));
    }
    if let Some(list) = value
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
    {
        let items = list
            .split(',')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .map(Arc::from);
        return Ok(Quantity::Items(items.collect()));
    }
    value
        .parse::<Amount>()
        .map(Quantity::Scalar)
        .map_err(|error| error.to_string())
}

fn parse_range(text: &str) -> Result<Range, String> {
    let (begin, end) = text.split_once('-').unwrap_or((text, text));
    let number = |s: &str| {
        s.trim()
            .parse::<u64>()
            .map_err(|_| format!("'{text}' is not a range"))
    };
    Range::new(number(begin)?, number(end)?).map_err(|error| error.to_string())
}

fn set(bundle: &mut Bundle, kind: &str, quantity: Quantity) -> Result<(), String> {
    let scalar = match kind {
        "cpus" => Some(&mut bundle.cpus),
        "mem" => Some(&mut bundle.mem),
        "disk" => Some(&mut bundle.disk),
        "gpus" => Some(&mut bundle.gpus),
        _ => None,
    };
    match (scalar, quantity) {
        (Some(_), Quantity::Scalar(amount)) if kind == "gpus" && !amount.is_whole() => {
            return Err("gpus are whole".to_owned());
        }
        (Some(field), Quantity::Scalar(amount)) => *field = amount,
        (Some(_), _) => return Err(format!("{kind} is a number")),
        (None, Quantity::Ranges(ranges)) if kind == "ports" => bundle.ports = ranges,
        (None, _) if kind == "ports" => {
            return Err("ports are ranges, as in [31000-32000]".to_owned());
        }
        (None, quantity) if !quantity.is_empty() => {
            bundle.other.insert(Arc::from(kind), quantity);
        }
        (None, _) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parses_prints_the_same() {
        for text in [
            "cpus:4;mem:8192;ports:[31000-32000]",
            "cpus:0.5;gpus:2;licenses:{a,b}",
            "disk:10;rack:[1-1,3-4];tokens:7",
        ] {
            assert_eq!(text.parse::<Bundle>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn errors_name_the_part_and_the_mend() {
        for (text, part) in [
            ("cpus:4;mem", "mem"),
            ("cpus:x", "cpus:x"),
            ("cpus:-1", "cpus:-1"),
            ("gpus:0.5", "gpus:0.5"),
            ("ports:4", "ports:4"),
            ("ports:[4-1]", "ports:[4-1]"),
            ("cpus:1;cpus:2", "cpus:2"),
            ("c pus:1", "c pus:1"),
            ("mem:[1-2]", "mem:[1-2]"),
        ] {
            assert_eq!(text.parse::<Bundle>().unwrap_err().part, part);
        }
    }
}
