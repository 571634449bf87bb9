//! The settings that every policy of this layer understands.

use proffer_model::{Amount, Bundle};

use crate::draft::{DemandUse, Rules};
use crate::json::Setting;

/// The names of the settings that are the pool's rules.
const RULES: [&str; 5] = ["demand", "minimum", "gpu-guard", "region", "nested-quota"];

/// Takes the pool's rules out of the settings.
pub(super) fn take_rules(settings: &mut Vec<(String, Setting)>) -> Result<Rules, String> {
    let mut rules = Rules::default();
    let (of_rules, others) = std::mem::take(settings)
        .into_iter()
        .partition(|(name, _)| RULES.contains(&name.as_str()));
    *settings = others;
    for (name, setting) in of_rules {
        match (name.as_str(), setting) {
            ("demand", Setting::Text(text)) if text == "honour" => {
                rules.demand = DemandUse::Honour;
            }
            ("demand", Setting::Text(text)) if text == "ignore" => {
                rules.demand = DemandUse::Ignore;
            }
            ("demand", _) => {
                return Err("the setting 'demand' is \"honour\" or \"ignore\"".to_owned());
            }
            ("minimum", Setting::List(list)) => {
                let alternatives = list.iter().map(|text| parse_minimum(text));
                rules.minimum = alternatives.collect::<Result<_, _>>()?;
            }
            ("minimum", _) => {
                return Err(
                    "the setting 'minimum' is a list, as in [\"cpus:0.01\", \"mem:32\"]".to_owned(),
                );
            }
            ("gpu-guard", Setting::Flag(flag)) => rules.gpu_guard = flag,
            ("nested-quota", Setting::Flag(flag)) => rules.nested_quota = flag,
            ("nested-quota", _) => {
                return Err("the setting 'nested-quota' is true or false".to_owned());
            }
            ("gpu-guard", _) => {
                return Err("the setting 'gpu-guard' is true or false".to_owned());
            }
            (_, Setting::Text(region)) => rules.region = region,
            (name, _) => return Err(format!("the setting '{name}' is a text")),
        }
    }
    Ok(rules)
}

/// Refuses settings that are not known, by name; `known`: a decision's own.
///
/// # Errors
/// The first that is not known, and all that are.
pub fn refuse_unknown(settings: &[(String, Setting)], known: &[&str]) -> Result<(), String> {
    let Some((name, _)) = settings
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()))
    else {
        return Ok(());
    };
    let mut all = [&RULES, known].concat();
    all.sort_unstable();
    Err(format!(
        "there is no setting '{}'; there are {}",
        name.escape_debug(),
        all.join(", ")
    ))
}

fn parse_minimum(text: &str) -> Result<Vec<(String, Amount)>, String> {
    let bundle: Bundle = text
        .parse()
        .map_err(|error| format!("the setting 'minimum': {error}"))?;
    Ok(bundle
        .amounts()
        .map(|(kind, amount)| (kind.to_owned(), amount))
        .collect())
}
