//! Hosts policies and frameworks as WebAssembly components; the only crate that knows wasmtime.
