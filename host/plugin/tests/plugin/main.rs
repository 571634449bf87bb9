//! Plug-ins and tasks that misbehave to order, each contained with a reason.
//!
//! The guests are real components, built here; where there is no compiler for WebAssembly the tests
//! say so and pass, and with `PROFFER_REQUIRE_ALL=1` they fail.

mod guests;

mod loading;

mod framework;

mod policy;

mod command;
