//! Real agents against a scripted host: real processes, real files, real sockets.

mod bare;
mod data;
mod inputs;
mod restart;
mod stage;
mod tasks;
mod wasm;
