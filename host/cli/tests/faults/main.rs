//! Plugs that are pulled out of a real cluster while a real job runs: its result must be that of an
//! undisturbed one, no task lost, none run twice that nobody asked for.
//!
//! Needs a wasm toolchain for the guests, and for the full disks the right to mount, for the slow ones
//! a C compiler; without, the tests say so and end, unless `PROFFER_REQUIRE_ALL=1`.

mod disks;
mod kills;
mod moments;
mod partitions;
mod slow;

/// The built command.
const PROGRAM: &str = env!("CARGO_BIN_EXE_proffer");
