//! From a file's bytes to a component that fits the contract, or a message that says what is wrong.
//!
//! Everything that can be told from the bytes is told before anything is compiled: compiling is the
//! expensive part, and what it is spent on should at least be a plug-in.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmparser::{Chunk, Encoding, Parser, Payload};

use crate::config::{self, InvalidConfig};
use crate::fault::Blame;
use crate::manifest::{self, Manifest};

/// The version of the contract that this host speaks. Until 0.1.0 it matches exactly.
pub const CONTRACT_VERSION: &str = "0.1.0-dev.1";

/// The largest plug-in: a Python interpreter is 18 MB, and compiles for 16 s.
pub const PLUGIN_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Modules in components in components: more levels than any tool makes.
const NESTING_MAX: usize = 32;

/// What a framework may import, if its manifest names it.
const FRAMEWORK_IMPORTS: [&str; 4] = [
    "proffer:types/log",
    "proffer:framework/state",
    "proffer:framework/metrics",
    "proffer:framework/random",
];
/// What a policy may import, if its manifest names it.
const POLICY_IMPORTS: [&str; 1] = ["proffer:types/log"];
/// Interfaces of types only: nothing can be done through them, so nobody need ask for them.
const TYPE_INTERFACES: [&str; 3] = [
    "proffer:types/values",
    "proffer:framework/model",
    "proffer:policy/model",
];

/// Which contract a plug-in implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It decides what to run.
    Framework,
    /// It decides whom to offer what.
    Policy,
}

/// Why a file is not a plug-in that this host can load. Nothing of it has run.
#[derive(Debug, thiserror::Error)]
pub enum LoadPluginError {
    /// It is something else.
    #[error("not a WebAssembly file: it does not begin with \\0asm")]
    NotWebAssembly,
    /// It is too large.
    #[error("the file has {bytes} bytes, more than {PLUGIN_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It ends too soon.
    #[error(
        "the file is truncated: it ends at byte {bytes} in the middle of a section; copy it again"
    )]
    Truncated {
        /// Where it ends.
        bytes: usize,
    },
    /// It is a module.
    #[error(
        "a core WebAssembly module, not a component; build it with `proffer plugin build`, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// It is malformed.
    #[error("not a valid component: {problem}")]
    Invalid {
        /// What is wrong.
        problem: String,
    },
    /// It has no manifest.
    #[error(
        "the component has no manifest (custom section proffer:manifest); build it with `proffer plugin build`"
    )]
    NoManifest,
    /// Its manifest cannot be used.
    #[error("the component's manifest cannot be used: {problem}")]
    BadManifest {
        /// Why.
        problem: String,
    },
    /// It is no plug-in of this kind.
    #[error("not a {wanted}: it exports {exports}, wanted {interface}@{CONTRACT_VERSION}")]
    WrongWorld {
        /// Which kind was wanted.
        wanted: Kind,
        /// The interface that was wanted.
        interface: &'static str,
        /// What it exports.
        exports: String,
    },
    /// It was built against another version of the contract.
    #[error(
        "built against another version of the contract: it exports {interface}@{found}, wanted {interface}@{CONTRACT_VERSION}; build it again"
    )]
    WrongVersion {
        /// The interface.
        interface: &'static str,
        /// The version that it exports.
        found: String,
    },
    /// It wants something that no plug-in gets.
    #[error("it imports {import}, which no {kind} is given{advice}")]
    ImportRefused {
        /// Which kind it is.
        kind: Kind,
        /// What it wants.
        import: String,
        /// The mend, if there is a known one.
        advice: &'static str,
    },
    /// It wants something that its manifest does not ask for.
    #[error(
        "it imports {import}, which its manifest does not ask for; add it to 'imports' and build it again"
    )]
    ImportNotAsked {
        /// What it wants.
        import: String,
    },
    /// Its interfaces are of the right names and the wrong types.
    #[error("it does not fit the contract {CONTRACT_VERSION}: {problem}")]
    DoesNotFit {
        /// What does not fit.
        problem: String,
    },
    /// It could not be compiled.
    #[error("it cannot be compiled: {problem}")]
    Compile {
        /// Why.
        problem: String,
    },
    /// Something of ours failed.
    #[error("it could not be loaded: {problem}")]
    Host {
        /// What.
        problem: String,
    },
}

impl LoadPluginError {
    /// Whose fault it is: the same file may load later only if it is the environment's.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Host { .. } => Blame::Environment,
            _ => Blame::Plugin,
        }
    }
}

/// A plug-in as far as its bytes tell, before it is compiled.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) manifest: Manifest,
    pub(crate) digest: String,
    pub(crate) bytes: usize,
    pub(crate) imports: Vec<String>,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Framework => "framework",
            Self::Policy => "policy",
        }
    }

    const fn interface(self) -> &'static str {
        match self {
            Self::Framework => "proffer:framework/guest",
            Self::Policy => "proffer:policy/guest",
        }
    }

    const fn imports(self) -> &'static [&'static str] {
        match self {
            Self::Framework => &FRAMEWORK_IMPORTS,
            Self::Policy => &POLICY_IMPORTS,
        }
    }
}

/// Checks all that can be told without compiling.
pub(crate) fn describe(bytes: &[u8], kind: Kind) -> Result<Described, LoadPluginError> {
    let outline = Outline::read(bytes)?;
    check_exports(&outline.exports, kind)?;
    let manifest = match outline.manifests.as_slice() {
        [] => Err(LoadPluginError::NoManifest),
        [json] => Manifest::read(json).map_err(|problem| LoadPluginError::BadManifest { problem }),
        more => Err(LoadPluginError::BadManifest {
            problem: format!("there are {} of them", more.len()),
        }),
    }?;
    let bad = |problem: String| Err(LoadPluginError::BadManifest { problem });
    if manifest.world != kind.name() {
        return bad(format!(
            "it says '{}', and the component is a {kind}",
            manifest.world
        ));
    }
    if manifest.contract != CONTRACT_VERSION {
        return bad(format!(
            "it says contract {}, and the component exports {CONTRACT_VERSION}",
            manifest.contract
        ));
    }
    let imports = check_imports(&outline.imports, kind, &manifest)?;
    Ok(Described {
        manifest,
        digest: format!("sha256:{}", hex::encode(Sha256::digest(bytes))),
        bytes: bytes.len(),
        imports,
    })
}

/// The outermost component's names and manifests.
#[derive(Default)]
struct Outline<'a> {
    imports: Vec<String>,
    exports: Vec<String>,
    manifests: Vec<&'a [u8]>,
}

impl<'a> Outline<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, LoadPluginError> {
        if !bytes.starts_with(b"\0asm") {
            return Err(LoadPluginError::NotWebAssembly);
        }
        if bytes.len() > PLUGIN_BYTES_MAX {
            return Err(LoadPluginError::TooLarge { bytes: bytes.len() });
        }
        let invalid = |error: wasmparser::BinaryReaderError| LoadPluginError::Invalid {
            problem: error.to_string(),
        };
        let mut outline = Self::default();
        let mut parser = Parser::new(0);
        let mut outer: Vec<Parser> = Vec::new();
        let mut rest = bytes;
        loop {
            // "More may follow" is what tells a truncated file from a malformed one.
            let (consumed, payload) = match parser.parse(rest, false).map_err(invalid)? {
                Chunk::NeedMoreData(_) if rest.is_empty() && outer.is_empty() => {
                    return Ok(outline);
                }
                Chunk::NeedMoreData(_) => {
                    return Err(LoadPluginError::Truncated { bytes: bytes.len() });
                }
                Chunk::Parsed { consumed, payload } => (consumed, payload),
            };
            rest = rest.get(consumed..).unwrap_or_default();
            if outer.is_empty() {
                outline.note(&payload)?;
            }
            match payload {
                Payload::ModuleSection { parser: inner, .. }
                | Payload::ComponentSection { parser: inner, .. } => {
                    if outer.len() >= NESTING_MAX {
                        return Err(LoadPluginError::Invalid {
                            problem: format!("more than {NESTING_MAX} levels of nesting"),
                        });
                    }
                    outer.push(std::mem::replace(&mut parser, inner));
                }
                Payload::End(_) => match outer.pop() {
                    Some(parent) => parser = parent,
                    None => return Ok(outline),
                },
                _ => {}
            }
        }
    }

    fn note(&mut self, payload: &Payload<'a>) -> Result<(), LoadPluginError> {
        let invalid = |error: wasmparser::BinaryReaderError| LoadPluginError::Invalid {
            problem: error.to_string(),
        };
        match payload {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } => return Err(LoadPluginError::CoreModule),
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    self.imports
                        .push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    self.exports
                        .push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) if section.name() == manifest::SECTION => {
                self.manifests.push(section.data());
            }
            _ => {}
        }
        Ok(())
    }
}

fn split_version(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

fn check_exports(exports: &[String], kind: Kind) -> Result<(), LoadPluginError> {
    let interface = kind.interface();
    let found: Vec<&str> = exports
        .iter()
        .map(|name| split_version(name))
        .filter(|(name, _)| *name == interface)
        .map(|(_, version)| version)
        .collect();
    if found.contains(&CONTRACT_VERSION) {
        return Ok(());
    }
    if let Some(version) = found.first() {
        return Err(LoadPluginError::WrongVersion {
            interface,
            found: crate::log::printable(version, 64),
        });
    }
    let listed = exports.join(", ");
    Err(LoadPluginError::WrongWorld {
        wanted: kind,
        interface,
        exports: if listed.is_empty() {
            "nothing".to_owned()
        } else {
            crate::log::printable(&listed, 512)
        },
    })
}

/// Answers the interfaces that it imports and can do something with, without versions.
fn check_imports(
    imports: &[String],
    kind: Kind,
    manifest: &Manifest,
) -> Result<Vec<String>, LoadPluginError> {
    let mut used = Vec::new();
    for import in imports {
        let (name, version) = split_version(import);
        if TYPE_INTERFACES.contains(&name) && version == CONTRACT_VERSION {
            continue;
        }
        if !kind.imports().contains(&name) || version != CONTRACT_VERSION {
            let advice = if name.starts_with("wasi:") {
                ": plug-ins have no files, clocks or sockets; build it for wasm32-unknown-unknown, or stub WASI in its language's tools"
            } else {
                ""
            };
            return Err(LoadPluginError::ImportRefused {
                kind,
                import: crate::log::printable(import, 256),
                advice,
            });
        }
        if !manifest
            .imports
            .iter()
            .any(|asked| split_version(asked).0 == name)
        {
            return Err(LoadPluginError::ImportNotAsked {
                import: name.to_owned(),
            });
        }
        used.push(name.to_owned());
    }
    Ok(used)
}

/// A plug-in that can be run. Cheap to clone.
#[derive(Clone)]
pub struct LoadedPlugin {
    pub(crate) shared: Arc<Loaded>,
}

pub(crate) struct Loaded {
    pub(crate) described: Described,
    pub(crate) kind: Kind,
    pub(crate) code: Code,
}

/// The compiled component, linked and checked against its world.
pub(crate) enum Code {
    Framework(crate::bindings::framework::FrameworkPre<crate::framework::FrameworkGuest>),
    Policy(crate::bindings::policy::PolicyPre<crate::policy::PolicyGuest>),
}

impl std::fmt::Debug for LoadedPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedPlugin")
            .field("kind", &self.shared.kind)
            .field("name", &self.name())
            .field("version", &self.version())
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

impl LoadedPlugin {
    /// Which contract it implements.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.described.manifest.name
    }

    /// Its own version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.shared.described.manifest.version
    }

    /// Of its bytes: `sha256:` and 64 hex digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.shared.described.digest
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.described.bytes
    }

    /// Whether a configuration is what its manifest says.
    ///
    /// # Errors
    /// If it is not, with the places that are wrong.
    pub fn check_config(&self, config: &str) -> Result<(), InvalidConfig> {
        config::check(self.manifest(), config)
    }

    /// What it says of itself and asks for.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.shared.described.manifest
    }

    /// The interfaces that it really imports, without versions; each is in the manifest too.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.shared.described.imports
    }
}
