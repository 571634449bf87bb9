//! Builds plug-ins and tasks to WebAssembly components, and reads what a component is.
//!
//! A *guest* is a cargo package whose manifest says what it becomes:
//!
//! ```toml
//! [package.metadata.proffer]
//! kind = "framework"          # or "policy", or "task"
//! name = "mapreduce"          # optional; otherwise the package's name
//! ```
//!
//! Frameworks and policies are *plug-ins*: `cdylib` crates for `wasm32-unknown-unknown` that import
//! nothing but `proffer:*`, with a [`Manifest`] embedded in the finished component. Tasks are
//! ordinary programs for `wasm32-wasip1`, adapted to WASI 0.2 commands.
//!
//! The library is used by the `proffer` command and by tests. [`build`] builds guests, [`inspect()`]
//! says what a component is, [`new_plugin`] starts one from a template, and [`finish_plugin`] embeds
//! the manifest in a component that another language's tools have made.
//!
//! What it is not: it never talks to a host, and it knows no plug-in's semantics. It reads the
//! environment only to hand it, cleaned, to the compilers that it starts.
//!
//! Invariants:
//! - An output is written whole or not at all (a temporary file, then a rename).
//! - An output whose inputs have not changed is not built again, and no cargo is started for it.
//! - `RUSTC_BOOTSTRAP` is set in the one child that needs it, and nowhere else.

mod sections;

mod manifest;

mod inspect;

mod exit_status;

mod component;

mod package;

mod fingerprint;

mod environment;

mod toolchain;

mod cargo;

mod progress;

mod stop;

mod builder;

mod template;

pub use builder::{BuildError, BuildOptions, Built, build};
pub use cargo::RunCargoError;
pub use component::{FinishError, finish_plugin, finish_task};
pub use inspect::{InspectError, Inspection, Item, World, WrongWorld, inspect};
pub use manifest::{
    Limits, LimitsDraft, MANIFEST_BYTES_MAX, MANIFEST_SECTION, Manifest, ManifestDraft,
    ManifestError, PluginWorld,
};
pub use package::{GuestKind, Package, ReadPackageError};
pub use progress::{Progress, Silent};
pub use sections::ReadWasmError;
pub use stop::Stop;
pub use template::{NewPlugin, NewPluginError, SdkSource, new_plugin};
pub use toolchain::{FindToolchainError, Toolchain, ToolchainChoice, WasmTarget};
