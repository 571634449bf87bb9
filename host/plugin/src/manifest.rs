//! The manifest that a component carries in its custom section `proffer:manifest`: JSON, written by
//! the build, read here as untrusted input. The format is documented with its writer, `proffer-build`.

use serde::Deserialize;

/// The section's name.
pub(crate) const SECTION: &str = "proffer:manifest";

/// The largest section: room for a long configuration schema.
const BYTES_MAX: usize = 64 * 1024;
/// The format's version.
const VERSION: u32 = 1;
/// As a DNS label.
const NAME_BYTES_MAX: usize = 63;
/// Any other text.
const TEXT_BYTES_MAX: usize = 4_096;
/// Roles, imports.
const ENTRIES_MAX: usize = 256;

/// What a plug-in is and what it asks for, in its own words.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// The format's version.
    manifest_version: u32,
    /// Its name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// `framework` or `policy`.
    pub world: String,
    /// The contract's version that it was built against.
    pub contract: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// The roles that it asks to be in.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Whether it takes gpus.
    #[serde(default)]
    pub gpus: bool,
    /// What it asks for.
    #[serde(default)]
    pub limits: AskedLimits,
    /// The JSON schema of its configuration.
    #[serde(default)]
    pub config_schema: Option<serde_json::Value>,
    /// The interfaces that it asks for, without versions.
    #[serde(default)]
    pub imports: Vec<String>,
    /// What it was written in.
    #[serde(default)]
    pub language: String,
}

/// Limits that a plug-in asks for; none: the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AskedLimits {
    /// Linear memory of one instance.
    #[serde(default)]
    pub memory_mib: Option<u32>,
    /// Processor time of one call.
    #[serde(default)]
    pub step_cpu_ms: Option<u32>,
    /// Keys and values of a framework's state together.
    #[serde(default)]
    pub state_mib: Option<u32>,
}

impl Manifest {
    /// Reads and checks a section's content. The error is a sentence for people.
    pub(crate) fn read(json: &[u8]) -> Result<Self, String> {
        if json.len() > BYTES_MAX {
            return Err(format!(
                "it has {} bytes, more than {BYTES_MAX}",
                json.len()
            ));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if manifest.manifest_version != VERSION {
            return Err(format!(
                "its format is version {}, and this host knows {VERSION}",
                manifest.manifest_version
            ));
        }
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        let name_is_good = self.name.len() <= NAME_BYTES_MAX
            && self.name.starts_with(|c: char| c.is_ascii_lowercase())
            && !self.name.ends_with('-')
            && self
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !name_is_good {
            return Err("its name is not small letters, digits and dashes".to_owned());
        }
        let texts = [
            ("version", &self.version),
            ("world", &self.world),
            ("contract", &self.contract),
            ("description", &self.description),
            ("language", &self.language),
        ];
        let roles = self.roles.iter().map(|text| ("roles", text));
        let imports = self.imports.iter().map(|text| ("imports", text));
        for (field, text) in texts.into_iter().chain(roles).chain(imports) {
            if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
                return Err(format!("'{field}' is too long or has control characters"));
            }
        }
        if self.version.is_empty() {
            return Err("its version is empty".to_owned());
        }
        if self.roles.len() > ENTRIES_MAX || self.imports.len() > ENTRIES_MAX {
            return Err(format!("it has more than {ENTRIES_MAX} roles or imports"));
        }
        Ok(())
    }
}
