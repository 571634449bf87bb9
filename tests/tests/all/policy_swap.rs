//! Policies are swapped in a busy cluster, and nobody's offers or tasks notice.

#[path = "../../benches/policy_swap/stage.rs"]
#[expect(dead_code, reason = "the bench uses the rest of it")]
mod stage;

use proffer_tests::guests;

use stage::Stage;

#[test]
fn offers_and_tasks_do_not_notice_that_policies_are_swapped() {
    let (Some(drf), Some(binpack)) = (
        guests::component("plugins/policies/drf"),
        guests::component("plugins/policies/binpack"),
    ) else {
        return;
    };
    let mut stage = Stage::new(200, 20);
    let policies = [stage.load(&drf), stage.load(&binpack)];
    for swap in 0..8 {
        stage.swap(&policies[swap % 2], "");
    }
    let policy = stage.core.policy();
    assert_eq!((policy.failed_cycles, policy.grants_invalid), (0, 0));
    assert_eq!(stage.core.policy_swaps().swapped, 8);
    let (launched, _) = stage.tasks();
    assert!(launched > 900, "{launched} tasks");
}

#[test]
fn a_component_that_traps_in_its_third_cycle_is_taken_back_and_all_go_on() {
    let (Some(drf), Some(hostile)) = (
        guests::component("plugins/policies/drf"),
        guests::component("tests/guests/policy"),
    ) else {
        return;
    };
    let mut stage = Stage::new(50, 5);
    let (drf, hostile) = (stage.load(&drf), stage.load(&hostile));
    stage.swap(&drf, "");
    stage.swap(&hostile, "rest 3");
    stage.until(|core| core.policy_swaps().taken_back == 1);
    // Its component was never kept, as an operator's would be: the native policy is next.
    stage.until(|core| core.policy_history().count() == 5);
    let (before, cycles) = (stage.tasks().0, stage.core.policy().cycles);
    stage.until(|core| core.policy().cycles > cycles + 10);
    assert!(stage.tasks().0 > before, "tasks are launched on");
    assert_eq!(stage.core.policy().failed_cycles, 1);
}
