//! `proffer.toml`: tables and keys, each value as a text with its line.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{OTHER_VARIABLES, Source, Written, all_settings, variable_of};

/// A misspelt key has at most so many wrong letters.
const TYPOS_MAX: usize = 3;

/// Reads a file; what is wrong with it goes to `wrong`, by line.
pub(super) fn read(
    path: &Path,
    text: &str,
    wrong: &mut Vec<String>,
) -> Vec<(&'static str, Written)> {
    let at = |offset: usize, problem: &str| {
        format!("{}:{}: {problem}", path.display(), line_of(text, offset))
    };
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            wrong.push(at(offset, error.message()));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for (name, value) in table.get_ref() {
        let name_at = name.span().start;
        let name = name.get_ref();
        let Some(section) = value.get_ref().as_table() else {
            take(name, name_at, value.get_ref(), &mut found, wrong, &at);
            continue;
        };
        if !all_settings().any(|setting| setting.key.starts_with(&format!("{name}."))) {
            wrong.push(at(name_at, &format!("unknown table [{name}]")));
            continue;
        }
        for (key, value) in section {
            let full = format!("{name}.{}", key.get_ref());
            let key_at = key.span().start;
            take(&full, key_at, value.get_ref(), &mut found, wrong, &at);
        }
    }
    found
        .into_iter()
        .map(|(key, text_of_value, offset)| {
            let source = Source::File(path.to_owned(), line_of(text, offset));
            let written = Written {
                text: text_of_value,
                source,
            };
            (key, written)
        })
        .collect()
}

fn take(
    key: &str,
    offset: usize,
    value: &DeValue<'_>,
    found: &mut Vec<(&'static str, String, usize)>,
    wrong: &mut Vec<String>,
    at: &dyn Fn(usize, &str) -> String,
) {
    let Some(setting) = all_settings().find(|setting| setting.key == key) else {
        wrong.push(at(offset, &unknown_key(key)));
        return;
    };
    match text_of(value) {
        Some(text) => found.push((setting.key, text, offset)),
        None => wrong.push(at(
            offset,
            &format!(
                "{key} is {} {}; wanted text, a number, true or false, or a list of texts",
                article(value.type_str()),
                value.type_str()
            ),
        )),
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

/// Lists are joined as in PATH.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<&str>> =
                items.iter().map(|item| item.get_ref().as_str()).collect();
            Some(texts?.join(":"))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// Says that there is no such setting, and which one was perhaps meant.
pub(super) fn unknown_key(key: &str) -> String {
    let keys = all_settings().map(|setting| setting.key.to_owned());
    match nearest(key, keys) {
        Some(meant) => format!("unknown setting '{key}'; did you mean '{meant}'?"),
        None => format!("unknown setting '{key}'; `proffer config check` lists all"),
    }
}

/// Says that a variable is none of ours, and which one was perhaps meant.
pub(super) fn unknown_variable(name: &str) -> String {
    let settings = all_settings().map(|setting| variable_of(setting.key));
    let others = OTHER_VARIABLES.iter().map(|name| (*name).to_owned());
    match nearest(name, settings.chain(others)) {
        Some(meant) => format!("{name} is set and is no setting; did you mean {meant}?"),
        None => format!("{name} is set and is no setting; `proffer config check --json` lists all"),
    }
}

/// The word with the fewest letters wrong, if they are few.
fn nearest(word: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let distances = known.map(|known| (distance(word, &known), known));
    let (typos, meant) = distances.min()?;
    (typos <= TYPOS_MAX).then_some(meant)
}

/// Levenshtein's: how many letters to change, add or leave out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
