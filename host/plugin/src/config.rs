//! A configuration, held against the schema that the plug-in's manifest states.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError};
use serde_json::Value;

use crate::manifest::Manifest;

/// Problems told at once: whoever mends a file wants more than the first, and less than a page.
const PROBLEMS_MAX: usize = 5;

/// Why a configuration is refused. Nothing of the plug-in has run.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// It is not JSON, which the schema is about.
    #[error("the configuration of {plugin} is not JSON: {source}")]
    NotJson {
        /// Whose.
        plugin: String,
        /// Where.
        source: serde_json::Error,
    },
    /// It is not what the schema says.
    #[error("the configuration of {plugin} is not what its manifest says: {problems}")]
    Unfit {
        /// Whose.
        plugin: String,
        /// Where and why, the first of them.
        problems: String,
    },
    /// There is no telling, as the schema is none.
    #[error(
        "the manifest of {plugin} has a config-schema that is no JSON schema: {problem}; mend it and build the plug-in again"
    )]
    Schema {
        /// Whose.
        plugin: String,
        /// Why.
        problem: String,
    },
}

/// Checks a configuration; an empty one counts as `{}`. Without a schema anything fits. What a schema
/// refers to is never fetched, and its patterns take linear time.
pub(crate) fn check(manifest: &Manifest, config: &str) -> Result<(), InvalidConfig> {
    let Some(schema) = &manifest.config_schema else {
        return Ok(());
    };
    let plugin = || manifest.name.clone();
    let config = if config.trim().is_empty() {
        "{}"
    } else {
        config
    };
    let config = serde_json::from_str(config).map_err(|source| InvalidConfig::NotJson {
        plugin: plugin(),
        source,
    })?;
    let validator = jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| InvalidConfig::Schema {
            plugin: plugin(),
            problem: error.to_string(),
        })?;
    let problems: Vec<String> = validator
        .iter_errors(&config)
        .take(PROBLEMS_MAX)
        .map(|error| told(&config, &error))
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(InvalidConfig::Unfit {
        plugin: plugin(),
        problems: problems.join("; "),
    })
}

/// Where it is wrong, and how.
fn told(config: &Value, error: &ValidationError<'_>) -> String {
    let path = error.instance_path().as_str();
    // Of a field that a schema without fields does not allow, the library tells the value alone.
    let stray = match error.kind() {
        ValidationErrorKind::FalseSchema => config.pointer(path).and_then(|at| {
            let mut fields = at.as_object()?.iter();
            fields.find(|(_, value)| *value == &**error.instance())
        }),
        _ => None,
    };
    let what = match stray {
        Some((name, _)) => format!("'{name}' is not allowed"),
        None => error.to_string(),
    };
    match path {
        "" => what,
        path => format!("at {path}: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checked(schema: serde_json::Value, config: &str) -> String {
        let manifest = json!({
            "manifest-version": 1, "name": "mr", "version": "1", "world": "framework", "contract": "1",
            "config-schema": schema,
        });
        let manifest = Manifest::read(manifest.to_string().as_bytes()).unwrap();
        match check(&manifest, config) {
            Ok(()) => "fits".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_configuration_fits_its_schema_or_the_places_are_named() {
        let schema = || {
            json!({
                "type": "object", "additionalProperties": false,
                "properties": { "maps": { "type": "integer", "minimum": 1 }, "to": { "pattern": "^(a+)+$" } },
            })
        };
        assert_eq!(checked(schema(), ""), "fits");
        assert_eq!(checked(schema(), "{\"maps\": 3}"), "fits");
        // A backtracking engine would not come back from this.
        let long = format!("{{\"to\": \"{}b\"}}", "a".repeat(50_000));
        assert!(checked(schema(), &long).contains("at /to: "));
        assert_eq!(
            checked(schema(), "{\"maps\": 0, \"reduces\": 1}"),
            "the configuration of mr is not what its manifest says: at /maps: 0 is less than the minimum \
             of 1; Additional properties are not allowed ('reduces' was unexpected)"
        );
        let none = json!({ "type": "object", "additionalProperties": false });
        assert_eq!(
            checked(none, "{\"maps\": 3}"),
            "the configuration of mr is not what its manifest says: 'maps' is not allowed"
        );
        assert_eq!(
            checked(schema(), "maps = 3"),
            "the configuration of mr is not JSON: expected value at line 1 column 1"
        );
    }

    #[test]
    fn a_schema_that_is_none_or_elsewhere_is_refused() {
        let refused = |schema| checked(schema, "{}");
        assert!(refused(json!({ "type": "thing" })).contains("is no JSON schema"));
        let elsewhere = json!({ "$ref": "https://example.org/schema.json" });
        assert!(refused(elsewhere).contains("is no JSON schema"));
    }
}
