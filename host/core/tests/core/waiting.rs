//! How long demand that fits waits, and what its guards do.

use proffer_core::PolicySwap;
use proffer_model::Duration;
use proffer_model::fact::{GuardedWait, WaitGuard};
use proffer_model::policy::Proposal;

use super::cluster::{Cluster, Decider};
use super::swaps::{run_by_first, swap_to};
use super::words::{decline, want, want_as};

#[test]
fn demand_that_fits_and_gets_nothing_is_seen_to_wait_and_a_guard_takes_the_policy_out() {
    let guard = |wait| WaitGuard {
        wait,
        below: Duration(5_000),
    };
    for wait in [GuardedWait::Longest, GuardedWait::P99] {
        let mut cluster = run_by_first();
        let swap = PolicySwap {
            guards: vec![guard(wait)],
            ..swap_to("second")
        };
        let miser = Decider::Script(Box::new(|_, _| Ok(Proposal::default())));
        cluster.swap(swap, miser);
        assert_eq!(cluster.core.waits().waiting, 0, "all is on offer");
        cluster.agent("b1", "cpus:1;mem:10");
        cluster.advance(2_000);
        cluster.agent("b2", "cpus:1;mem:10");
        let waits = cluster.core.waits();
        assert_eq!(waits.waiting, 1, "{waits:?}");
        assert_eq!(cluster.decides(), "second");
        cluster.advance(20_000);
        assert_eq!(cluster.decides(), "native", "{:?}", cluster.core.waits());
        let history = cluster.history();
        assert!(history[2].contains("-wait<5s' is breached"), "{history:?}");
        assert_eq!(cluster.lifecycle.last().unwrap(), "load sha256:first");
        // The fallback has served it at once.
        assert_eq!(cluster.offers().len(), 5);
        assert_eq!(cluster.core.waits().longest, Duration::ZERO);
    }
}

#[test]
fn demand_that_fits_nowhere_does_not_wait() {
    let mut cluster = run_by_first();
    cluster.framework("g", "*");
    cluster.command("g", vec![want("cpus:64;mem:1", 1)]);
    let ids = cluster.offer_ids();
    // What a framework refuses it does not wait for either.
    cluster.answer("f", vec![decline(&ids, 3_600_000)]);
    cluster.advance(30_000);
    let waits = cluster.core.waits();
    assert_eq!((waits.waiting, waits.longest), (0, Duration::ZERO));
    cluster.agent("big", "cpus:64;mem:100");
    cluster.advance(2_000);
    assert_eq!(cluster.offers().len(), 1);
}

#[test]
fn a_gang_waits_once_all_of_it_fits_and_its_wait_ends_with_its_offers() {
    let guarded = PolicySwap {
        guards: vec![WaitGuard {
            wait: GuardedWait::Longest,
            below: Duration(30_000),
        }],
        ..swap_to("second")
    };
    let miser = Decider::Script(Box::new(|_, _| Ok(Proposal::default())));
    let mut cluster = run_by_first();
    cluster.remove("f");
    cluster.swap(guarded, miser);
    cluster.framework("g", "*");
    let gang = |demand: &mut proffer_model::Demand| {
        demand.gang = 5;
        demand.per_agent = 2;
    };
    cluster.command("g", vec![want_as("d", "*", "cpus:8;mem:10", 5, gang)]);
    // Two on each of these at most, however much there is.
    cluster.agent("big1", "cpus:64;mem:1000");
    cluster.agent("big2", "cpus:64;mem:1000");
    let waiting = |cluster: &mut Cluster| {
        // A look comes with a cycle, and a cycle with a sweep.
        cluster.advance(11_000);
        cluster.core.waits().waiting
    };
    assert_eq!(waiting(&mut cluster), 0);
    cluster.agent("big3", "cpus:8;mem:10");
    assert_eq!(waiting(&mut cluster), 1);
    cluster.disconnect("big3");
    assert_eq!(
        waiting(&mut cluster),
        0,
        "less than a gang is of no use to it"
    );
    cluster.agent("big4", "cpus:9;mem:10");
    assert_eq!(waiting(&mut cluster), 1);
    assert_eq!(cluster.decides(), "second", "the wait began anew");
    cluster.advance(40_000);
    assert_eq!(cluster.decides(), "native", "{:?}", cluster.core.waits());
    let offers = cluster.core.offers(None);
    let units = offers.map(|offer| offer.resources.total().cpus.milli() / 8_000);
    assert_eq!(units.sum::<i64>(), 5);
    assert_eq!(cluster.core.waits().waiting, 0);
}
