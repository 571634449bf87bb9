//! A framework that misbehaves to order: its configuration is one word for what it does.
//!
//! Natively it is empty; it exists only as a component.

#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(target_arch = "wasm32")]
mod guest;
#[cfg(target_arch = "wasm32")]
mod orders;
