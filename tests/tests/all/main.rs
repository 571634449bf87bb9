//! Tests of the whole, and of the project itself.

mod policy_check;
mod policy_differential;
mod policy_swap;
mod tidy;
