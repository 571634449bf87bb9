//! Which policy a host begins with, as its settings say it.

use std::path::PathBuf;

use proffer_policy::Policy as _;

use super::Checker;

/// Which policy decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyChoice {
    /// The reference policy, compiled in.
    Native {
        /// Its configuration; empty: none, and it is the one that stands in for others.
        config: String,
    },
    /// A component.
    Component {
        /// Its file, as it was written: whoever starts a host puts a path in the place of a name.
        file: PathBuf,
        /// Its configuration.
        config: String,
    },
}

/// What the reference policy that is compiled in is called, beside nothing at all.
pub const NATIVE_POLICY: &str = "native";

impl Checker<'_> {
    pub(super) fn policy(&mut self) -> PolicyChoice {
        let file = (self.text)("host.policy");
        let config = (self.text)("host.policy-config");
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&config) {
            self.reject("host.policy-config", format!("it is not JSON: {error}"));
        }
        if file.is_empty() || file == NATIVE_POLICY {
            return self.native(config);
        }
        PolicyChoice::Component {
            file: file.into(),
            config,
        }
    }

    fn native(&mut self, config: String) -> PolicyChoice {
        let says_nothing = match serde_json::from_str::<serde_json::Value>(&config) {
            Ok(value) => value == serde_json::json!({}),
            // That it is no JSON was told.
            Err(_) => true,
        };
        if says_nothing {
            return PolicyChoice::Native {
                config: String::new(),
            };
        }
        if let Err(why) = proffer_policy::Drf::default().configure(&config) {
            self.reject("host.policy-config", why);
        }
        PolicyChoice::Native { config }
    }
}
