//! A policy as people name it: one of the project's, the host's own, or a component's file.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use proffer_daemon::{HostConfig, InvalidSetting, PolicyChoice};

use super::framework::read_component;
use super::policy;
use crate::demo::project;
use crate::failure::Failure;
use crate::settings::Settings;

/// What the host's own policy is called.
pub(crate) const NATIVE: &str = proffer_daemon::NATIVE_POLICY;
/// Where the project's policies are.
const POLICIES: &str = "plugins/policies";

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// The host's own.
    Native,
    /// A component.
    File(PathBuf),
    /// One of the project's, whose component is built from its sources.
    Shipped(String),
}

impl Named {
    /// What people mean by it. A file is one that ends in `.wasm`, or that is there.
    pub(crate) fn find(named: &str) -> anyhow::Result<Self> {
        let path = Path::new(named);
        let is_component = path
            .extension()
            .is_some_and(|extension| extension == "wasm");
        if is_component || path.is_file() {
            return Ok(Self::File(path.to_owned()));
        }
        if named == NATIVE {
            return Ok(Self::Native);
        }
        let known = all()?;
        if known.iter().any(|name| name == named) {
            return Ok(Self::Shipped(named.to_owned()));
        }
        let text = format!(
            "there is no policy '{}'; there are {}, or give a component's file",
            named.escape_debug(),
            known.join(", ")
        );
        Err(Failure::NotFound(text).into())
    }

    /// The bytes of its component, built if it is not there yet; none of the host's own.
    pub(crate) fn component(&self) -> anyhow::Result<Bytes> {
        match self {
            Self::Native => Ok(Bytes::new()),
            Self::File(file) => read_component(file),
            Self::Shipped(name) => read_component(&policy::built(name)?),
        }
    }
}

/// The names of the project's policies, and of the host's own.
fn all() -> anyhow::Result<Vec<String>> {
    let mut names = vec![NATIVE.to_owned()];
    for entry in std::fs::read_dir(project()?.join(POLICIES))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What `host.policy` stands for; none: the host's own.
pub(crate) fn of_settings(host: &HostConfig) -> Result<Option<Named>, InvalidSetting> {
    let PolicyChoice::Component { file, .. } = &host.policy else {
        return Ok(None);
    };
    let text = file.to_string_lossy();
    Named::find(&text)
        .map(Some)
        .map_err(|error| InvalidSetting {
            key: "host.policy",
            value: text.into_owned(),
            problem: format!("{error:#}"),
        })
}

/// The configuration of a host that is about to start: a policy that is named is built, and its file is
/// the setting's.
pub(crate) fn with_component(
    settings: &Settings,
    mut host: HostConfig,
) -> anyhow::Result<HostConfig> {
    let named = of_settings(&host).map_err(|wrong| settings.explain(&[wrong]))?;
    if let (Some(Named::Shipped(name)), PolicyChoice::Component { file, .. }) =
        (named, &mut host.policy)
    {
        *file = policy::built(&name)?;
    }
    Ok(host)
}

/// What `host.policy` stands for, in words.
pub(crate) fn in_words(host: &HostConfig, named: Option<&Named>) -> anyhow::Result<String> {
    Ok(match named {
        Some(Named::File(file)) => {
            let inspection = proffer_build::inspect(&read_component(file)?)?;
            let manifest = inspection.manifest.as_ref();
            let name = manifest.map_or_else(String::new, |manifest| {
                format!("{} {} ", manifest.name, manifest.version)
            });
            let digest = crate::show::short_digest(&inspection.digest);
            format!("the component {name}({digest}) in {}", file.display())
        }
        Some(Named::Shipped(name)) => {
            let dir = project()?.join(POLICIES).join(name);
            format!(
                "the component {name}, built from {} when the host starts",
                dir.display()
            )
        }
        Some(Named::Native) | None => match &host.policy {
            PolicyChoice::Native { config } if !config.is_empty() => {
                format!("the host's own drf policy, with {config}")
            }
            _ => "the host's own drf policy".to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_s_the_host_s_own_or_a_shipped_policy_s() {
        let file = |path: &str| Named::File(path.into());
        for (named, found) in [
            ("native", Named::Native),
            ("static", Named::Shipped("static".to_owned())),
            ("no/such.wasm", file("no/such.wasm")),
            ("Cargo.toml", file("Cargo.toml")),
        ] {
            assert_eq!(Named::find(named).unwrap(), found);
        }
        assert_eq!(Named::Native.component().unwrap(), Bytes::new());
        let unknown = Named::find("no/such").unwrap_err();
        let status = crate::failure::status_of(&unknown);
        assert_eq!(status, crate::failure::NOT_FOUND);
    }
}
