//! The shell around the core: event loop, actions, timers, HTTP, telemetry.
