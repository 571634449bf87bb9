//! Write a framework or an allocation policy in Rust: implement one trait, add one macro line.
//!
//! ```
//! use proffer_sdk::framework::{
//!     Cause, Context, Demand, Framework, Host, Offer, Shape, Step, Template,
//! };
//!
//! /// Runs `date` on every offer, for ever.
//! struct Dates {
//!     role: String,
//! }
//!
//! impl Framework for Dates {
//!     fn start(context: &Context, _: &mut Host<'_>) -> Result<Self, String> {
//!         let role = context.roles.first().ok_or("no role")?.clone();
//!         Ok(Dates { role })
//!     }
//!
//!     fn started(&mut self, step: &mut Step<'_>, _: Cause) -> Result<(), String> {
//!         let shape: Shape = "cpus:0.1;mem:32".parse()?;
//!         step.set_demand(Demand::new("dates", &self.role, shape, 10));
//!         Ok(())
//!     }
//!
//!     fn offers(&mut self, step: &mut Step<'_>, offers: Vec<Offer>) -> Result<(), String> {
//!         let shape: Shape = "cpus:0.1;mem:32".parse()?;
//!         for offer in &offers {
//!             let date = step.template(Template::shell("date", "date"));
//!             if let Some(piles) = offer.room().take(&shape) {
//!                 let id = format!("date-{}", offer.id);
//!                 step.launch([offer.id], [date.task(id, piles)]);
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! proffer_sdk::export_framework!(Dates);
//! # fn main() {}
//! ```
//!
//! A plug-in is a `cdylib` for `wasm32-unknown-unknown`; `proffer plugin new` starts one and
//! `proffer plugin build` makes the component. The same source runs natively in tests: the
//! [`testkit`] plays the host, without any Wasm.
//!
//! The contract itself, with what each event and command promises, is `wit/` in the project's
//! repository; the types here are generated from it, under the same names, and this crate adds
//! constructors, a dispatcher from events to methods, and typed state. What it is not: a second
//! contract. It hides no event and no command.
//!
//! Natively the `export_…!` macros export nothing, so that a plug-in's crate can be linked into
//! tests and programs beside others.

// The generated bindings and the macros name this crate by its name, also inside of it.
extern crate self as proffer_sdk;

pub mod framework;

pub mod log;

pub mod policy;

// A component has the real host.
#[cfg(not(target_arch = "wasm32"))]
pub mod testkit;

// The runtime that generated bindings call; not for authors.
#[doc(hidden)]
pub use wit_bindgen::rt;
