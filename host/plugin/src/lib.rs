//! Hosts policies, frameworks and Wasm tasks as WebAssembly components; the only crate that knows
//! wasmtime.

mod cache;
mod memory;
mod ticker;

pub mod command;
mod compiled;

pub use cache::OpenCacheError;
