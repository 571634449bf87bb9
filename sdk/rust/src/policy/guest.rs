//! What [`export_policy!`](crate::export_policy) expands to calls these; authors do not.

use proffer_policy::Policy;

use super::{answers, changes};

pub use super::bindings::exports::proffer::policy::guest::Guest as Exports;
pub use super::bindings::proffer::policy::model::{
    Changes, Cycle, Feeds, Finding, Place, Proposal, Question, Section,
};

/// What the macro expands to natively: the type is a policy and begins as its default.
pub fn check<P: Policy + Default>() {}

/// The policy's `configure`.
///
/// # Errors
/// The policy's.
pub fn configure(policy: &mut impl Policy, config: &str) -> Result<Feeds, String> {
    policy.configure(config).map(answers::feeds)
}

/// The policy's `apply`.
pub fn apply(policy: &mut impl Policy, wit: Changes) {
    policy.apply(&changes::changes(wit));
}

/// The policy's `decide`.
pub fn decide(policy: &mut impl Policy, cycle: Cycle) -> Proposal {
    answers::proposal(policy.decide(&changes::cycle(cycle)))
}

/// The policy's `explain`.
pub fn explain(policy: &impl Policy, question: Question) -> Vec<Finding> {
    let findings = policy.explain(&changes::question(question));
    findings.into_iter().map(answers::finding).collect()
}

/// The policy's `places`.
pub fn places(policy: &impl Policy) -> Vec<Place> {
    policy.places().into_iter().map(answers::place).collect()
}

/// The policy's `carry`.
pub fn carry(policy: &impl Policy) -> Vec<Section> {
    policy.carry().into_iter().map(answers::section).collect()
}

/// The policy's `adopt`.
///
/// # Errors
/// The policy's.
pub fn adopt(policy: &mut impl Policy, sections: Vec<Section>) -> Result<Vec<String>, String> {
    let sections: Vec<_> = sections.into_iter().map(changes::section).collect();
    policy.adopt(&sections)
}
