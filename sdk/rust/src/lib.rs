//! Write a framework or a policy in Rust: one trait and one macro line.
