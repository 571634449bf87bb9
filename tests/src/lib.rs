//! Whole-system tests, misbehaving guests, benchmarks and tidy checks.

pub mod guests;
