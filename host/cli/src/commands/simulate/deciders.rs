//! Who decides in simulations: what the command line names, with its configurations.

use anyhow::Context;
use proffer_sim::workload::{Decide, Native};

use super::component::Component;
use crate::args::Deciders;
use crate::commands::policy::built;
use crate::commands::shipped::Named;
use crate::failure::Failure;
use crate::settings::Settings;

/// Decides if nobody is named.
const DEFAULT: &str = "drf";
/// Stands for every native policy.
const ALL: &str = "all";

/// A policy to be run, and how it was named.
pub(super) struct Decider {
    pub(super) named: String,
    pub(super) decide: Box<dyn Decide>,
}

/// All that were named, each loaded and configured, so that what is wrong with the last is said
/// before the first has run.
pub(super) fn load(deciders: &Deciders, settings: &Settings) -> anyhow::Result<Vec<Decider>> {
    let mut names: Vec<&str> = Vec::new();
    for name in &deciders.policy {
        match name.as_str() {
            ALL => {
                for name in Native::names() {
                    names.push(name);
                }
            }
            name => names.push(name),
        }
    }
    if names.is_empty() {
        names.push(DEFAULT);
    }
    let configs = read_configs(&deciders.policy_config)?;
    if let Some((name, _)) = configs.iter().find(|(name, _)| !names.contains(name)) {
        let text = format!("--policy-config is for '{name}', which --policy does not name");
        return Err(Failure::Usage(text).into());
    }
    let load = |name: &&str| {
        let config = configs.iter().find(|(other, _)| other == name);
        let config = config.map_or("", |(_, config)| config);
        if Native::names().any(|native| native == *name) {
            return Ok(Decider {
                named: (*name).to_owned(),
                decide: Box::new(Native::named(name, config)?),
            });
        }
        let found = Named::find(name).map_err(|error| Failure::Usage(format!("{error:#}")))?;
        let file = match found {
            Named::File(file) => Some(file),
            Named::Shipped(name) => Some(built(&name)?),
            Named::Native => None,
        };
        let decide: Box<dyn Decide> = match file {
            Some(file) => Box::new(Component::load(&file, config, &settings.data_dir()?)?),
            None => Box::new(Native::named(DEFAULT, config)?),
        };
        Ok(Decider {
            named: (*name).to_owned(),
            decide,
        })
    };
    names.iter().map(load).collect()
}

/// `NAME=FILE`, each read.
fn read_configs(options: &[String]) -> anyhow::Result<Vec<(&str, String)>> {
    let read = |option: &String| -> anyhow::Result<String> {
        let file = option.split_once('=').map_or("", |(_, file)| file);
        let missing = || Failure::NotFound(format!("cannot read the configuration {file}"));
        crate::input::read_text(file.as_ref()).with_context(missing)
    };
    let mut configs: Vec<(&str, String)> = Vec::new();
    for option in options {
        let Some((name, _)) = option.split_once('=') else {
            let text = format!("--policy-config {option}: wanted NAME=FILE");
            return Err(Failure::Usage(text).into());
        };
        if configs.iter().any(|(other, _)| *other == name) {
            let text = format!("--policy-config names {name} twice");
            return Err(Failure::Usage(text).into());
        }
        configs.push((name, read(option)?));
    }
    Ok(configs)
}
