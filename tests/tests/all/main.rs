//! Tests of the whole, and of the project itself.

// The policies' own tests describe pools; these ask components about the same ones.
#[path = "../../../sdk/policy/tests/policy/case.rs"]
#[expect(dead_code, reason = "the policy's own tests use the rest of it")]
mod case;
#[path = "../../../sdk/policy/tests/policy/scene.rs"]
mod scene;
#[path = "../../../sdk/policy/tests/policy/starvation.rs"]
mod starvation;

mod policy_check;
mod policy_differential;
mod policy_hostile;
mod policy_swap;
mod policy_turns;
mod simulated_components;
mod tidy;
