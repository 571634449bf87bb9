//! Whole-system tests, misbehaving guests, benchmarks and tidy checks.

pub mod cluster;
pub mod guests;
pub mod simulated;
