//! Settings: from defaults, `proffer.toml`, `PROFFER_*` variables and flags, the later before the
//! earlier; each knows where it comes from.
//!
//! Here they are texts ([`Settings`], the raw form). What they mean is checked once, where a command
//! needs them ([`HostConfig::check`], [`agent`]); nothing later reads the environment
//! or the file.

pub(crate) mod agent;
mod file;
mod places;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use proffer_daemon::{HOST_SETTINGS, HostConfig, InvalidSetting, Setting};

pub(crate) use agent::AGENT_SETTINGS;
pub(crate) use places::default_data_dir;

use crate::failure::Failure;

/// Settings that are not one component's.
const GENERAL_SETTINGS: &[Setting] = &[
    Setting {
        key: "data",
        default: "",
        what: "the data directory; empty: proffer in the user's data directory (XDG)",
    },
    Setting {
        key: "connect",
        default: "",
        what: "the host that commands talk to, or several with commas: whichever leads; empty: the one that runs on the data directory",
    },
];

/// Variables of ours that are no settings: what people say, what tests and benchmarks read, and what a task
/// finds, which may well be a `proffer` itself.
const OTHER_VARIABLES: [&str; 11] = [
    "PROFFER_SETTINGS",
    "PROFFER_LOG",
    "PROFFER_BENCH_DIR",
    "PROFFER_FAULT_SEED",
    "PROFFER_REQUIRE_ALL",
    "PROFFER_FRAMEWORK",
    "PROFFER_TASK",
    "PROFFER_LAUNCH",
    "PROFFER_CPUS",
    "PROFFER_MEM",
    "PROFFER_PORTS",
];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody said anything.
    Default,
    /// A line of the file.
    File(PathBuf, usize),
    /// A variable.
    Environment(String),
    /// The command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) source: Source,
}

/// What the command line says: key, text, and the flag that said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlagValue {
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) flag: String,
}

/// Why the settings cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct InvalidSettings(pub(crate) Vec<String>);

/// Every setting's text and source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Written>,
    /// The file that was read, if one was.
    pub(crate) file: Option<PathBuf>,
    /// What is said of variables that look like settings and are none.
    pub(crate) unknown_variables: Vec<String>,
}

/// All settings, in the order in which they are shown.
pub(crate) fn all_settings() -> impl Iterator<Item = &'static Setting> {
    GENERAL_SETTINGS
        .iter()
        .chain(HOST_SETTINGS)
        .chain(AGENT_SETTINGS)
}

/// The variable of a setting: `PROFFER_HOST_LISTEN` for `host.listen`.
pub(crate) fn variable_of(key: &str) -> String {
    let upper = key.to_ascii_uppercase();
    format!("PROFFER_{}", upper.replace(['.', '-'], "_"))
}

impl Settings {
    /// Puts the layers together. `file` is the path and text of `proffer.toml`.
    pub(crate) fn layer(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: Vec<FlagValue>,
    ) -> Result<Self, InvalidSettings> {
        let mut values: BTreeMap<&'static str, Written> = all_settings()
            .map(|setting| {
                let written = Written {
                    text: setting.default.to_owned(),
                    source: Source::Default,
                };
                (setting.key, written)
            })
            .collect();
        let mut wrong = Vec::new();
        if let Some((path, text)) = file {
            let entries = file::read(path, text, &mut wrong);
            for (key, written) in entries {
                values.insert(key, written);
            }
        }
        let mut unknown_variables = Vec::new();
        for (name, text) in environment {
            if !name.starts_with("PROFFER_") || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            match all_settings().find(|setting| variable_of(setting.key) == name) {
                Some(setting) => {
                    let source = Source::Environment(name);
                    values.insert(setting.key, Written { text, source });
                }
                None => unknown_variables.push(file::unknown_variable(&name)),
            }
        }
        for FlagValue { key, text, flag } in flags {
            match all_settings().find(|setting| setting.key == key) {
                Some(setting) => {
                    let source = Source::Flag(flag);
                    values.insert(setting.key, Written { text, source });
                }
                None => wrong.push(format!("{flag}: {}", file::unknown_key(&key))),
            }
        }
        unknown_variables.sort();
        if !wrong.is_empty() {
            return Err(InvalidSettings(wrong));
        }
        Ok(Self {
            values,
            file: file.map(|(path, _)| path.to_owned()),
            unknown_variables,
        })
    }

    /// What was written for a setting.
    pub(crate) fn get(&self, key: &str) -> &Written {
        static NOTHING: Written = Written {
            text: String::new(),
            source: Source::Default,
        };
        self.values.get(key).unwrap_or(&NOTHING)
    }

    /// The text of a setting.
    pub(crate) fn text(&self, key: &str) -> String {
        self.get(key).text.clone()
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> Result<PathBuf, Failure> {
        match self.get("data").text.as_str() {
            "" => default_data_dir(),
            dir => Ok(std::path::absolute(dir).unwrap_or_else(|_| dir.into())),
        }
    }

    /// The host's configuration, for this data directory.
    pub(crate) fn host(&self, data: PathBuf) -> Result<HostConfig, InvalidSettings> {
        HostConfig::check(data, |key| self.text(key)).map_err(|wrong| self.explain(&wrong))
    }

    /// Adds to each wrong setting where it was written.
    pub(crate) fn explain(&self, wrong: &[InvalidSetting]) -> InvalidSettings {
        let lines = wrong.iter().map(|wrong| match &self.get(wrong.key).source {
            Source::Default => wrong.to_string(),
            source => format!("{source}: {wrong}"),
        });
        InvalidSettings(lines.collect())
    }
}

/// Reads the file that applies and puts all layers together; says what was perhaps mistyped.
pub(crate) fn load(given: Option<&Path>, flags: Vec<FlagValue>) -> anyhow::Result<Settings> {
    let found = places::find_file(given)?;
    let file = found
        .as_ref()
        .map(|(path, text)| (path.as_path(), text.as_str()));
    // Variables that are not text are not ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    let settings = Settings::layer(file, environment, flags)?;
    for warning in &settings.unknown_variables {
        errln!("warning: {warning}");
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
