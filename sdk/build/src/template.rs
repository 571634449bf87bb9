//! Starting a plug-in from a template.
//!
//! The texts are in `templates/` of this crate, with `@…@` for what differs between plug-ins, so that
//! they remain valid TOML and nearly valid Rust to read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::{DRAFT_TOML, ManifestError, PluginWorld, check_name};

/// Names that cargo refuses for a package: Rust's keywords, its own crates, and cargo's directories.
const RESERVED_NAMES: &str = "\
    abstract alloc as async await become box break build const continue core crate deps do dyn \
    else enum examples extern false final fn for gen if impl in incremental let loop macro \
    match mod move mut override priv pub ref return self static std struct super test trait \
    true try type typeof unsafe unsized use virtual where while yield";

/// The files of a template, by their place in the plug-in's directory.
type Template = [(&'static str, &'static str); 4];

const FRAMEWORK: Template = [
    (
        "Cargo.toml",
        include_str!("../templates/framework/Cargo.toml.template"),
    ),
    (
        DRAFT_TOML,
        include_str!("../templates/framework/proffer-plugin.toml"),
    ),
    (
        "src/lib.rs",
        include_str!("../templates/framework/src/lib.rs.template"),
    ),
    (".gitignore", "/target\n"),
];

const POLICY: Template = [
    (
        "Cargo.toml",
        include_str!("../templates/policy/Cargo.toml.template"),
    ),
    (
        DRAFT_TOML,
        include_str!("../templates/policy/proffer-plugin.toml"),
    ),
    (
        "src/lib.rs",
        include_str!("../templates/policy/src/lib.rs.template"),
    ),
    (".gitignore", "/target\n"),
];

/// Where a new plug-in takes the SDK from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SdkSource {
    /// The directory of the crate, in a checkout.
    Path(PathBuf),
    /// A git repository.
    Git {
        /// Its address.
        url: String,
        /// A tag in it.
        tag: String,
    },
    /// A version in cargo's registry.
    Version(String),
}

impl SdkSource {
    /// The SDK of the checkout that this program was built in, if that is still there; otherwise the
    /// registry's of the same version.
    pub fn of_this_build() -> SdkSource {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("rust");
        if sdk.join("Cargo.toml").is_file() {
            SdkSource::Path(sdk)
        } else {
            SdkSource::Version(format!("={}", env!("CARGO_PKG_VERSION")))
        }
    }

    /// As the value of a dependency in `Cargo.toml`.
    fn dependency(&self) -> String {
        // Debug-quoting is no TOML for odd characters; the TOML crate's own quoting is.
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        match self {
            SdkSource::Path(path) => format!("{{ path = {} }}", quoted(&path.to_string_lossy())),
            SdkSource::Git { url, tag } => {
                format!("{{ git = {}, tag = {} }}", quoted(url), quoted(tag))
            }
            SdkSource::Version(version) => quoted(version),
        }
    }
}

/// A plug-in to be started.
#[derive(Clone, Debug)]
pub struct NewPlugin {
    /// The directory in which the plug-in's own is made.
    pub parent: PathBuf,
    /// Its name, also that of its directory.
    pub name: String,
    /// The contract that it will implement.
    pub world: PluginWorld,
    /// Where it takes the SDK from.
    pub sdk: SdkSource,
}

/// Why no plug-in was started; nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum NewPluginError {
    /// The name cannot be a plug-in's.
    #[error(transparent)]
    BadName(#[from] ManifestError),
    /// The name cannot be a cargo package's.
    #[error("the name `{name}` is reserved by Rust or cargo")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// There is something of its name already.
    #[error("{} exists already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writes a plug-in that builds and does something small, and returns its directory.
pub fn new_plugin(new: &NewPlugin) -> Result<PathBuf, NewPluginError> {
    let NewPlugin {
        parent,
        name,
        world,
        sdk,
    } = new;
    check_name(name)?;
    if RESERVED_NAMES.split(' ').any(|reserved| reserved == name) {
        return Err(NewPluginError::ReservedName { name: name.clone() });
    }
    let path = parent.join(name);
    if fs::symlink_metadata(&path).is_ok() {
        return Err(NewPluginError::Exists { path });
    }
    let template = match world {
        PluginWorld::Framework => FRAMEWORK,
        PluginWorld::Policy => POLICY,
    };
    let fill = |text: &str| {
        text.replace("@name@", name)
            .replace("@type@", &type_name(name))
            .replace("\"@sdk@\"", &sdk.dependency())
    };
    write_directory(&path, template.map(|(file, text)| (file, fill(text)))).map_err(|source| {
        NewPluginError::Write {
            path: path.clone(),
            source,
        }
    })?;
    Ok(path)
}

/// Writes the files beside, and gives the directory its name when all are there.
fn write_directory(path: &Path, files: [(&'static str, String); 4]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    // Removed when an error is returned.
    let partial = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(parent)?;
    // A rename keeps permissions, and those of a temporary directory are its owner's alone.
    let whole = partial.path().join("plugin");
    for (file, text) in files {
        let file = whole.join(file);
        fs::create_dir_all(file.parent().unwrap_or(&whole))?;
        fs::write(file, text)?;
    }
    fs::rename(&whole, path)
}

/// `my-plugin` as the name of a Rust type: `MyPlugin`.
fn type_name(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_ascii_uppercase() + rest
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{GuestKind, Package};

    fn new_in(parent: &Path, name: &str, world: PluginWorld) -> Result<PathBuf, NewPluginError> {
        new_plugin(&NewPlugin {
            parent: parent.to_owned(),
            name: name.to_owned(),
            world,
            sdk: SdkSource::Version("=1.0.0".to_owned()),
        })
    }

    fn entries(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_new_plugin_is_a_guest_of_its_own() {
        let parent = tempfile::tempdir().unwrap();
        for (name, world, kind) in [
            ("my-cron", PluginWorld::Framework, GuestKind::Framework),
            ("fair2", PluginWorld::Policy, GuestKind::Policy),
        ] {
            let dir = new_in(parent.path(), name, world).unwrap();
            assert_eq!(dir, parent.path().join(name));
            let package = Package::read(&dir).unwrap();
            assert_eq!((package.name.as_str(), package.kind), (name, kind));
            assert_eq!(package.workspace_root, fs::canonicalize(&dir).unwrap());
            assert!(package.has_guest_profile);
            for (file, _) in FRAMEWORK {
                let text = fs::read_to_string(dir.join(file)).unwrap();
                for left in ["@name@", "@type@", "@sdk@"] {
                    assert!(!text.contains(left), "{left} in {file}");
                }
            }
        }
        assert_eq!(entries(parent.path()), 2);
    }

    #[test]
    fn bad_names_and_existing_directories_are_refused_and_nothing_is_written() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["", "Cron", "../up", "a/b", "1st", "end-", "fn", "test"] {
            let error = new_in(parent.path(), name, PluginWorld::Framework).unwrap_err();
            assert!(error.to_string().starts_with("the name `"), "{error}");
        }
        assert_eq!(entries(parent.path()), 0);
        fs::create_dir(parent.path().join("taken")).unwrap();
        let error = new_in(parent.path(), "taken", PluginWorld::Policy).unwrap_err();
        assert!(matches!(error, NewPluginError::Exists { .. }));
        assert_eq!(
            (
                entries(parent.path()),
                entries(&parent.path().join("taken"))
            ),
            (1, 0)
        );
        let nowhere = parent.path().join("nowhere");
        let error = new_in(&nowhere, "cron", PluginWorld::Policy).unwrap_err();
        assert!(matches!(error, NewPluginError::Write { .. }));
    }

    #[test]
    fn the_sdk_is_a_dependency_in_valid_toml() {
        let odd = PathBuf::from("/a \"b\"\\c");
        for (sdk, key, expected) in [
            (SdkSource::Path(odd), "path", "/a \"b\"\\c"),
            (
                SdkSource::Git {
                    url: "https://example.org/p".to_owned(),
                    tag: "v1".to_owned(),
                },
                "git",
                "https://example.org/p",
            ),
        ] {
            let table: toml::Table =
                toml::from_str(&format!("sdk = {}", sdk.dependency())).unwrap();
            assert_eq!(table["sdk"][key].as_str(), Some(expected));
        }
    }

    #[test]
    fn type_names_are_camel_case() {
        assert_eq!(type_name("my-cron2"), "MyCron2");
        assert_eq!(type_name("a--b"), "AB");
    }
}
