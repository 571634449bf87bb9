//! The manifest of a plug-in: what it is and what it asks for.
//!
//! # Format
//!
//! A component carries its manifest as one custom section of the *outermost* component (never of a
//! nested module) with the name `proffer:manifest` ([`MANIFEST_SECTION`]). Its content is one JSON
//! object in UTF-8 of at most 64 KiB ([`MANIFEST_BYTES_MAX`]); two such sections are an error.
//!
//! | field | type | meaning |
//! |---|---|---|
//! | `manifest-version` | number | 1, the version of this format |
//! | `name` | string | `[a-z][a-z0-9-]*`, at most 63 characters, no dash at the end |
//! | `version` | string | the plug-in's own version, at most 64 characters |
//! | `world` | `"framework"` or `"policy"` | which of the contracts it implements |
//! | `contract` | string | the contract's version that it was built against, as in its exports: `"0.1.0-dev.1"` |
//! | `description` | string | one line for people; may be empty |
//! | `roles` | strings | the roles that it asks to be in; may be empty |
//! | `gpus` | boolean | whether it takes gpus: without, it is offered no agent that has some |
//! | `limits` | object | `memory-mib`, `step-cpu-ms`, `state-mib`: whole numbers above 0, each optional: what it asks for, the host's defaults otherwise |
//! | `config-schema` | object or boolean | the JSON schema of its configuration, optional: the host holds a framework's to it before it runs; a policy's `configure` judges for itself |
//! | `imports` | strings | the interfaces that it asks for, without versions: `"proffer:framework/state"` |
//! | `language` | string | what it was written in: `"rust"` |
//!
//! `manifest-version`, `name`, `version`, `world` and `contract` are always there; of the others, one
//! that is absent is empty. Readers ignore fields that they do not know; a manifest whose
//! `manifest-version` is above their own they refuse.
//!
//! A component is untrusted input, and so is its manifest: what it says of imports and of the
//! contract is a claim, which the host checks against the component.
//!
//! # Sources
//!
//! An author writes `proffer-plugin.toml` (or `proffer-plugin.json`) with the same fields, all
//! optional: a [`ManifestDraft`]. Name, version and description default to those of the cargo
//! package; the contract always, and the imports if they are not given, are taken from the component
//! that was built. Unknown fields are refused there, as they are most likely misspelt.

use serde::{Deserialize, Serialize};
use wasmparser::Payload;

use crate::sections::{ReadWasmError, walk};

/// The name of the custom section that holds the manifest.
pub const MANIFEST_SECTION: &str = "proffer:manifest";

/// The largest manifest: room for a long configuration schema, and little enough to read for
/// every component of a registry.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;

/// The version of the format that this crate writes.
const MANIFEST_VERSION: u32 = 1;

/// As DNS labels, so that a plug-in's name can be part of a host name or a path anywhere.
const NAME_CHARACTERS_MAX: usize = 63;
const VERSION_CHARACTERS_MAX: usize = 64;
/// One line on a wide terminal, several times over.
const DESCRIPTION_CHARACTERS_MAX: usize = 1024;
/// More than anybody lists by hand; the host may allow fewer.
const LIST_ENTRIES_MAX: usize = 256;
const ENTRY_CHARACTERS_MAX: usize = 256;

/// The file of a manifest draft, beside the package's `Cargo.toml`, as TOML.
pub(crate) const DRAFT_TOML: &str = "proffer-plugin.toml";
/// The same as JSON, for tools that write it.
pub(crate) const DRAFT_JSON: &str = "proffer-plugin.json";

/// The contract that a plug-in implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginWorld {
    /// It decides what to run on the resources that it is offered.
    Framework,
    /// It decides whom to offer what.
    Policy,
}

impl PluginWorld {
    /// The word for it in manifests, messages and WIT.
    pub fn as_str(self) -> &'static str {
        match self {
            PluginWorld::Framework => "framework",
            PluginWorld::Policy => "policy",
        }
    }
}

/// What a plug-in asks for; `None` is the host's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Linear memory of one instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// CPU time of one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_cpu_ms: Option<u32>,
    /// Keys and values of a framework's state together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_mib: Option<u32>,
}

/// The manifest as embedded in a component: complete and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// The version of this format, always 1 for now.
    pub manifest_version: u32,
    /// The plug-in's name.
    pub name: String,
    /// The plug-in's own version.
    pub version: String,
    /// The contract that it implements.
    pub world: PluginWorld,
    /// The contract's version that it was built against.
    pub contract: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// The roles that it asks to be in.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Whether it takes gpus: without, it is offered no agent that has some.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gpus: bool,
    /// What it asks for.
    #[serde(default)]
    pub limits: Limits,
    /// The JSON schema of its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<serde_json::Value>,
    /// The interfaces that it asks for, without versions.
    #[serde(default)]
    pub imports: Vec<String>,
    /// What it was written in.
    #[serde(default)]
    pub language: String,
}

impl Manifest {
    /// Reads the manifest of a component; `None` if it has none.
    ///
    /// The component is untrusted: the work is one pass over its sections, and what is allocated is
    /// bounded by [`MANIFEST_BYTES_MAX`].
    pub fn from_component(component: &[u8]) -> Result<Option<Manifest>, ManifestError> {
        let mut found: Option<&[u8]> = None;
        let mut sections = 0_u32;
        walk(component, |depth, payload| {
            if let Payload::CustomSection(section) = payload
                && depth == 0
                && section.name() == MANIFEST_SECTION
            {
                found = Some(section.data());
                sections = sections.saturating_add(1);
            }
            Ok(())
        })?;
        match (found, sections) {
            (None, _) => Ok(None),
            (Some(json), 1) => Manifest::from_json(json).map(Some),
            (Some(_), sections) => Err(ManifestError::Repeated { sections }),
        }
    }

    /// Reads and checks the section's content.
    pub fn from_json(json: &[u8]) -> Result<Manifest, ManifestError> {
        if json.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { bytes: json.len() });
        }
        // The version comes first: a manifest of a later format may not parse as ours.
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Format {
            manifest_version: u32,
        }
        let format: Format = serde_json::from_slice(json)?;
        if format.manifest_version != MANIFEST_VERSION {
            return Err(ManifestError::UnknownFormat {
                version: format.manifest_version,
            });
        }
        let manifest: Manifest = serde_json::from_slice(json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The section's content. One manifest has one text, so that builds can be repeated.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let json = serde_json::to_vec(self)?;
        if json.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { bytes: json.len() });
        }
        Ok(json)
    }

    fn check(&self) -> Result<(), ManifestError> {
        check_name(&self.name)?;
        check_text("version", &self.version, VERSION_CHARACTERS_MAX)?;
        check_text("contract", &self.contract, VERSION_CHARACTERS_MAX)?;
        for (field, text) in [("version", &self.version), ("contract", &self.contract)] {
            if text.is_empty() {
                return Err(ManifestError::Empty { field });
            }
        }
        check_text("description", &self.description, DESCRIPTION_CHARACTERS_MAX)?;
        check_text("language", &self.language, ENTRY_CHARACTERS_MAX)?;
        check_list("roles", &self.roles)?;
        check_list("imports", &self.imports)?;
        let Limits {
            memory_mib,
            step_cpu_ms,
            state_mib,
        } = self.limits;
        for (field, limit) in [
            ("limits.memory-mib", memory_mib),
            ("limits.step-cpu-ms", step_cpu_ms),
            ("limits.state-mib", state_mib),
        ] {
            if limit == Some(0) {
                return Err(ManifestError::Zero { field });
            }
        }
        match &self.config_schema {
            None | Some(serde_json::Value::Object(_) | serde_json::Value::Bool(_)) => Ok(()),
            Some(_) => Err(ManifestError::NotASchema),
        }
    }
}

/// The manifest as an author writes it, in `proffer-plugin.toml` or `proffer-plugin.json`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ManifestDraft {
    /// The plug-in's name; otherwise the package's.
    pub name: Option<String>,
    /// The plug-in's version; otherwise the package's.
    pub version: Option<String>,
    /// The contract that it implements; otherwise the package's kind.
    pub world: Option<PluginWorld>,
    /// One line for people; otherwise the package's description.
    pub description: Option<String>,
    /// The roles that it asks to be in.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Whether it takes gpus.
    #[serde(default)]
    pub gpus: bool,
    /// What it asks for.
    #[serde(default)]
    pub limits: LimitsDraft,
    /// The JSON schema of its configuration.
    pub config_schema: Option<serde_json::Value>,
    /// The interfaces that it asks for; otherwise those that the component imports.
    pub imports: Option<Vec<String>>,
    /// What it is written in; otherwise `rust` when cargo builds it, and empty when not.
    pub language: Option<String>,
}

/// [`Limits`] as an author writes them: a field that is misspelt is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LimitsDraft {
    /// See [`Limits::memory_mib`].
    pub memory_mib: Option<u32>,
    /// See [`Limits::step_cpu_ms`].
    pub step_cpu_ms: Option<u32>,
    /// See [`Limits::state_mib`].
    pub state_mib: Option<u32>,
}

impl ManifestDraft {
    /// Parses the text of a `proffer-plugin.toml`.
    pub fn from_toml(text: &str) -> Result<ManifestDraft, ManifestError> {
        Ok(toml::from_str(text)?)
    }

    /// Parses the text of a `proffer-plugin.json`.
    pub fn from_json(text: &str) -> Result<ManifestDraft, ManifestError> {
        Ok(serde_json::from_str(text)?)
    }

    /// Completes the draft with what was learnt from the component itself.
    pub(crate) fn complete(&self, learnt: Learnt) -> Result<Manifest, ManifestError> {
        let Learnt {
            world,
            contract,
            imports,
        } = learnt;
        let missing = |field| ManifestError::Empty { field };
        let manifest = Manifest {
            manifest_version: MANIFEST_VERSION,
            name: self.name.clone().ok_or(missing("name"))?,
            version: self.version.clone().ok_or(missing("version"))?,
            world,
            contract,
            description: self.description.clone().unwrap_or_default(),
            roles: self.roles.clone(),
            gpus: self.gpus,
            limits: Limits {
                memory_mib: self.limits.memory_mib,
                step_cpu_ms: self.limits.step_cpu_ms,
                state_mib: self.limits.state_mib,
            },
            config_schema: self.config_schema.clone(),
            imports: self.imports.clone().unwrap_or(imports),
            language: self.language.clone().unwrap_or_default(),
        };
        manifest.check()?;
        Ok(manifest)
    }
}

/// What the component says of itself, and the author need not.
pub(crate) struct Learnt {
    pub(crate) world: PluginWorld,
    pub(crate) contract: String,
    pub(crate) imports: Vec<String>,
}

/// Whether `name` can be a plug-in's: `[a-z][a-z0-9-]*`, not too long, no dash at the end.
pub(crate) fn check_name(name: &str) -> Result<(), ManifestError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let first_is_letter = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase());
    if first_is_letter
        && name.len() <= NAME_CHARACTERS_MAX
        && name.bytes().all(plain)
        && !name.ends_with('-')
    {
        return Ok(());
    }
    // A hostile name may be long and full of control characters.
    let shown = name
        .chars()
        .take(NAME_CHARACTERS_MAX)
        .flat_map(char::escape_default)
        .collect();
    Err(ManifestError::BadName { name: shown })
}

fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), ManifestError> {
    if text.chars().count() > max {
        return Err(ManifestError::TooLong { field, max });
    }
    if text.chars().any(char::is_control) {
        return Err(ManifestError::ControlCharacter { field });
    }
    Ok(())
}

fn check_list(field: &'static str, entries: &[String]) -> Result<(), ManifestError> {
    if entries.len() > LIST_ENTRIES_MAX {
        return Err(ManifestError::TooMany {
            field,
            max: LIST_ENTRIES_MAX,
        });
    }
    for entry in entries {
        if entry.is_empty() {
            return Err(ManifestError::Empty { field });
        }
        check_text(field, entry, ENTRY_CHARACTERS_MAX)?;
    }
    Ok(())
}

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The component around it cannot be read.
    #[error("the component that holds the manifest cannot be read")]
    Component(#[from] ReadWasmError),
    /// More than one section of its name.
    #[error("{sections} sections `{MANIFEST_SECTION}` where one is allowed")]
    Repeated {
        /// How many there are.
        sections: u32,
    },
    /// Over [`MANIFEST_BYTES_MAX`].
    #[error("the manifest has {bytes} bytes, more than {MANIFEST_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Written in a format that this crate does not know.
    #[error("the manifest's format is version {version}, and only {MANIFEST_VERSION} is known")]
    UnknownFormat {
        /// The version it states.
        version: u32,
    },
    /// It is not the JSON object that was expected.
    #[error("the manifest is not valid JSON of a manifest")]
    Json(#[from] serde_json::Error),
    /// The author's file is not the TOML that was expected.
    #[error("not valid TOML of a manifest")]
    Toml(#[from] toml::de::Error),
    /// A name that cannot be one.
    #[error(
        "the name `{name}` is not a plug-in's: a small letter, then small letters, digits and \
         dashes, at most {NAME_CHARACTERS_MAX}, no dash at the end"
    )]
    BadName {
        /// Its beginning, made printable.
        name: String,
    },
    /// A field, or an entry of a list, that must not be empty.
    #[error("`{field}` is missing or empty")]
    Empty {
        /// Which.
        field: &'static str,
    },
    /// A text that is too long.
    #[error("`{field}` has more than {max} characters")]
    TooLong {
        /// Which.
        field: &'static str,
        /// How long it may be.
        max: usize,
    },
    /// A text that would garble a terminal.
    #[error("`{field}` has control characters")]
    ControlCharacter {
        /// Which.
        field: &'static str,
    },
    /// A list that is too long.
    #[error("`{field}` has more than {max} entries")]
    TooMany {
        /// Which.
        field: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// A limit of nothing.
    #[error("`{field}` is 0; leave it out for the host's default")]
    Zero {
        /// Which.
        field: &'static str,
    },
    /// A configuration schema that is neither an object nor a boolean.
    #[error("`config-schema` is not a JSON schema: it must be an object or a boolean")]
    NotASchema,
}

#[cfg(test)]
mod tests;
