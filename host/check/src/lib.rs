//! Replays scenarios of an allocator's behaviour against a policy, through the real core: its ledger,
//! its filters, its judgement of every grant. Frameworks and agents are played by hand
//! ([`proffer_core::Play`]); cycles run when the scenario format's table says so.
//!
//! A scenario is a JSON file's entry: steps in order, expectations among them. Each runs under its
//! own pool settings; nothing here looks at a scenario's or a file's name. The policy is asked
//! natively or as a component ([`Seat`]), and knows nothing of all this.

mod allocator;
mod cases;
mod convert;
mod expect;
mod read;
mod report;
mod scenario;
mod seat;
mod sorter;
mod stage;
mod values;

pub use allocator::StepOffers;
pub use read::{ReadError, read};
pub use report::{Failed, Report, Verdict};
pub use scenario::{Kind, Scenario};
pub use seat::{Component, Native, Seat, Seats};

/// Tags of features that scenarios may need, all of which are offered.
pub const FEATURES: [&str; 25] = [
    "agent_activation",
    "agent_list",
    "constraints",
    "conversions",
    "fair_exclude",
    "framework_minimum",
    "gpus",
    "grow_agent",
    "guarantees",
    "indivisible_disks",
    "limits",
    "maintenance",
    "nested_roles",
    "ranges",
    "refined_reservations",
    "refusals",
    "regions",
    "rescind",
    "reservations",
    "reserve_operations",
    "revocable",
    "shared",
    "suppression",
    "volumes",
    "weights",
];

/// Replays one scenario. What it needs and is not offered is a failure of its own kind.
pub fn replay(scenario: &Scenario, seats: &mut dyn Seats) -> Verdict {
    let missing: Vec<&str> = scenario
        .needs
        .iter()
        .map(String::as_str)
        .filter(|need| !FEATURES.contains(need))
        .collect();
    if !missing.is_empty() {
        return Verdict::Unsupported(missing.join(", "));
    }
    let done = match scenario.kind {
        Kind::Allocator => allocator::run(scenario, seats),
        Kind::Sorter => sorter::run(scenario, seats),
        Kind::Cases => cases::run(scenario),
    };
    match done {
        Ok(()) => Verdict::Passed,
        Err(failed) => Verdict::Failed(failed),
    }
}

/// What a policy offers in each step of a scenario about allocation, whatever that expects, and where it
/// could not go on; none for scenarios about something else.
#[must_use]
pub fn offers(
    scenario: &Scenario,
    seats: &mut dyn Seats,
) -> Option<(Vec<StepOffers>, Option<Failed>)> {
    if scenario.kind != Kind::Allocator {
        return None;
    }
    match allocator::offers(scenario, seats) {
        Ok(offered) => Some(offered),
        Err(failed) => Some((Vec::new(), Some(failed))),
    }
}
