//! A policy that decides for some roles while another one decides for the rest.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use proffer_core::{
    Asked, CanaryEnd, CanaryOutcome, Event, PolicySeat, PolicySwap, Reply, SwapTrial, Ticket,
};
use proffer_model::fact::{GuardedWait, WaitGuard};
use proffer_model::policy::{Changes, NONE, Proposal};
use proffer_model::{Duration, Reason, RoleName, code};

use super::cluster::{ALL_FEEDS, Cluster, Decider};
use super::swaps::{drf, fault, identity, swap_to};
use super::words::{decline, want_as};

/// Clients of the pool below, in the order in which they came.
const X: u32 = 0;
const Y: u32 = 1;

fn role(name: &str) -> RoleName {
    RoleName::new(name).unwrap()
}

/// x under eng/web and y under ops want all that there is; nothing is there yet.
fn pool(seat: Decider) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.framework("x", "eng/web");
    cluster.framework("y", "ops");
    cluster.loaded = seat;
    cluster.event(Event::PolicyLoaded {
        identity: identity("seat"),
        feeds: ALL_FEEDS,
    });
    for (framework, role) in [("x", "eng/web"), ("y", "ops")] {
        let want = want_as("d", role, "cpus:1;mem:10", 8, |_| {});
        cluster.command(framework, vec![want]);
    }
    cluster
}

fn canary_for_eng(length: Option<u64>, switch: bool) -> PolicySwap {
    PolicySwap {
        trial: Some(SwapTrial {
            length: length.map(Duration),
            switch,
            canary: vec![role("eng")],
        }),
        ..swap_to("bird")
    }
}

fn with_canary(seat: Decider, canary: Decider) -> Cluster {
    let mut cluster = pool(seat);
    let ticket = cluster.swap(canary_for_eng(None, true), canary);
    assert_eq!(cluster.replies[&ticket], Reply::Done);
    cluster
}

/// Grants each agent that it is asked about, once and whole, to one client; what it is told of its grants.
fn all_to(client: u32) -> (Decider, Rc<RefCell<Vec<String>>>) {
    let told = Rc::new(RefCell::new(Vec::new()));
    let (codes, mut given) = (Rc::clone(&told), BTreeSet::new());
    let script = Decider::Script(Box::new(move |changes: &[Changes], cycle| {
        let rejected = changes.iter().flat_map(|part| &part.rejected);
        codes
            .borrow_mut()
            .extend(rejected.map(|row| row.why.code.to_string()));
        let mut proposal = Proposal::default();
        for agent in cycle.agents.iter().flatten() {
            if given.insert(*agent) {
                proposal.grants.push(*agent, client, NONE, &[]);
            }
        }
        Ok(proposal)
    }));
    (script, told)
}

fn rest() -> Decider {
    Decider::Script(Box::new(|_, _| Ok(Proposal::default())))
}

fn end(cluster: &mut Cluster, outcome: CanaryOutcome) -> Reply {
    cluster.tickets += 1;
    let ticket = Ticket(cluster.tickets);
    let end = Box::new(CanaryEnd {
        outcome,
        by: "bob".to_owned(),
        why: "seen enough".to_owned(),
    });
    cluster.event(Event::CanaryEndAsked { ticket, end });
    cluster.replies[&ticket].clone()
}

#[test]
fn each_decides_for_its_own_roles_and_nothing_is_given_twice() {
    let mut cluster = with_canary(drf(), drf());
    for agent in 0..4 {
        cluster.agent(&format!("a{agent}"), "cpus:4;mem:100");
    }
    let tally = cluster.core.policy_canary().unwrap().tally;
    let of = |name: &str| {
        let offers = cluster.offers();
        offers.iter().filter(|row| row.starts_with(name)).count()
    };
    assert!(of("x ") > 0 && of("y ") > 0, "{:?}", cluster.offers());
    let pool = cluster.core.pool();
    assert_eq!(
        pool.offered.to_string(),
        "cpus:16;mem:160",
        "all of it, once"
    );
    assert!(
        tally.grants > 0 && tally.outside > 0 && tally.left_to_it > 0,
        "{tally:?}"
    );
    assert_eq!(cluster.core.policy().grants_invalid, 0);
    assert_eq!(cluster.decides(), "seat");
    assert_eq!(
        cluster.history(),
        [
            "1 seat by the host, settings, before -",
            "2 bird by ann, canary for eng, before -"
        ]
    );
    assert_eq!(
        cluster.core.explain_framework("x").unwrap().policy,
        "bird 1, a canary for eng"
    );
    assert_eq!(
        cluster.core.explain_framework("y").unwrap().policy,
        "seat 1"
    );
}

/// Both want every agent, whole, for their own.
#[test]
fn who_comes_second_finds_it_stale_and_is_first_the_next_time() {
    let mut cluster = with_canary(all_to(Y).0, all_to(X).0);
    for agent in 0..6 {
        cluster.agent(&format!("a{agent}"), "cpus:1;mem:10");
    }
    let mut owners: Vec<String> = Vec::new();
    for row in cluster.offers() {
        owners.push(row.split(' ').next().unwrap().to_owned());
    }
    owners.sort_unstable();
    assert_eq!(owners, ["x", "x", "x", "y", "y", "y"]);
    let policy = cluster.core.policy();
    assert_eq!((policy.grants_stale, policy.grants_invalid), (6, 0));
    assert_eq!(cluster.core.policy_canary().unwrap().tally.stale, 3);
}

#[test]
fn grants_to_others_roles_count_for_nothing_and_both_are_told_so() {
    // Each grants all to the other's client: nobody gets anything, and nobody is blamed.
    let (seat, seat_told) = all_to(X);
    let (canary, canary_told) = all_to(Y);
    let mut cluster = with_canary(seat, canary);
    cluster.agent("a0", "cpus:1;mem:10");
    cluster.advance(2_000);
    assert_eq!(cluster.offers(), Vec::<String>::new());
    assert_eq!(*seat_told.borrow(), [code::OUT_OF_DOMAIN]);
    assert_eq!(*canary_told.borrow(), [code::OUT_OF_DOMAIN]);
    let tally = cluster.core.policy_canary().unwrap().tally;
    assert_eq!((tally.outside, tally.left_to_it, tally.grants), (1, 1, 0));
    let policy = cluster.core.policy();
    assert_eq!((policy.grants_invalid, policy.failed_cycles), (0, 0));
}

#[test]
fn a_canary_that_fails_is_taken_out_and_the_cycle_is_decided_for_all() {
    type Bad = fn() -> Result<Proposal, Reason>;
    let traps: Bad = || Err(fault());
    let nonsense: Bad = || {
        let mut proposal = Proposal::default();
        proposal.grants.push(99, X, NONE, &[]);
        Ok(proposal)
    };
    let torn: Bad = || {
        let mut proposal = Proposal::default();
        proposal.grants.push(0, X, NONE, &[]);
        proposal.grants.client.clear();
        Ok(proposal)
    };
    for (bad, words) in [
        (traps, "it trapped"),
        (nonsense, "1 invalid grants in cycle"),
        (torn, "the columns of the grants differ in length"),
    ] {
        let mut cycles = 0;
        let script = Decider::Script(Box::new(move |_, _| {
            cycles += 1;
            if cycles < 3 {
                Ok(Proposal::default())
            } else {
                bad()
            }
        }));
        let mut cluster = with_canary(drf(), script);
        for agent in 0..3 {
            cluster.agent(&format!("a{agent}"), "cpus:4;mem:100");
        }
        assert_eq!(cluster.core.policy_canary(), None);
        let history = cluster.history();
        let last = history.last().unwrap();
        assert!(
            last.starts_with("3 bird by the host, canary ended: "),
            "{last}"
        );
        assert!(last.contains(words), "{last}");
        assert_eq!(cluster.lifecycle.last().unwrap(), "drop 1");
        assert_eq!(
            (cluster.decides().as_str(), cluster.core.policy().failures),
            ("seat", 0)
        );
        cluster.advance(2_000);
        let offers = cluster.offers();
        assert!(offers.iter().any(|row| row.starts_with("x ")), "{offers:?}");
        assert_eq!(cluster.core.pool().offered.to_string(), "cpus:12;mem:120");
        // It is on record, and another may be put in.
        let kept: Vec<_> = cluster.again().policy_history().cloned().collect();
        assert!(cluster.core.policy_history().eq(&kept));
        let ticket = cluster.swap(swap_to("third"), drf());
        assert_eq!(cluster.replies[&ticket], Reply::Done);
    }
}

/// What it leaves is not held ready for its clients: others get it, and its guard sees the wait.
#[test]
fn a_canary_that_grants_nothing_keeps_nothing_from_others_and_breaches_its_guard() {
    for wait in [GuardedWait::Longest, GuardedWait::P99] {
        let mut cluster = pool(drf());
        let swap = PolicySwap {
            guards: vec![WaitGuard {
                wait,
                below: Duration(5_000),
            }],
            ..canary_for_eng(None, true)
        };
        cluster.swap(swap, rest());
        cluster.agent("a0", "cpus:4;mem:100");
        cluster.agent("a1", "cpus:4;mem:100");
        cluster.advance(1_500);
        let offers = cluster.offers();
        assert!(offers.iter().all(|row| row.starts_with("y ")), "{offers:?}");
        assert_eq!(cluster.core.pool().offered.to_string(), "cpus:8;mem:80");
        // More than y wants: x's demand fits, and waits.
        cluster.agent("a2", "cpus:4;mem:100");
        cluster.advance(3_000);
        let waits = cluster.core.policy_canary().unwrap().waits;
        assert_eq!(waits.waiting, 1, "{waits:?}");
        cluster.advance(10_000);
        let history = cluster.history();
        let last = history.last().unwrap();
        assert!(last.contains("-wait<5s' is breached"), "{history:?}");
        assert_eq!(
            (cluster.decides().as_str(), cluster.core.policy_canary()),
            ("seat", None)
        );
        assert_eq!(cluster.core.pool().offered.to_string(), "cpus:12;mem:120");
    }
}

#[test]
fn whoever_decides_for_a_role_is_asked_why() {
    let mut cluster = pool(rest());
    cluster.swap(canary_for_eng(None, true), rest());
    cluster.agent("a0", "cpus:4;mem:100");
    let asked = |cluster: &Cluster, name: &str| -> Vec<(Asked, String)> {
        let questions = cluster.core.policy_questions(name).into_iter();
        questions
            .map(|asking| (asking.asked, asking.policy))
            .collect()
    };
    let canary = cluster.core.policy_canary().unwrap().identity;
    let number = canary_for_eng(None, true).candidate;
    let name = format!("{} {}", canary.name, canary.version);
    assert_eq!(asked(&cluster, "x"), [(Asked::Canary(number), name)]);
    let seat = |seat| vec![(Asked::Seat(seat), cluster.core.policy_name())];
    assert_eq!(asked(&cluster, "y"), seat(PolicySeat::Loaded));
}

#[test]
fn the_seats_guard_is_not_about_the_canarys_roles() {
    let mut cluster = pool(drf());
    let guarded = PolicySwap {
        candidate: 7,
        guards: vec![WaitGuard {
            wait: GuardedWait::Longest,
            below: Duration(2_000),
        }],
        ..swap_to("guarded")
    };
    cluster.swap(guarded, drf());
    assert_eq!(cluster.decides(), "guarded");
    cluster.swap(canary_for_eng(None, true), rest());
    for agent in 0..3 {
        cluster.agent(&format!("a{agent}"), "cpus:4;mem:100");
    }
    cluster.advance(20_000);
    assert!(cluster.core.policy_canary().unwrap().waits.longest >= Duration(5_000));
    assert_eq!(cluster.decides(), "guarded");
}

#[test]
fn a_canary_is_promoted_or_rolled_back_by_hand_or_when_its_time_is_over() {
    let mut cluster = with_canary(drf(), drf());
    assert_eq!(end(&mut cluster, CanaryOutcome::Promoted), Reply::Done);
    assert_eq!(
        (cluster.decides().as_str(), cluster.core.policy_canary()),
        ("bird", None)
    );
    assert_eq!(cluster.history()[2], "3 bird by bob, swapped, before 1");
    assert_eq!(cluster.core.policy_before().unwrap().name, "seat");
    assert!(matches!(
        end(&mut cluster, CanaryOutcome::Promoted),
        Reply::Refused(_)
    ));

    let mut cluster = with_canary(drf(), drf());
    assert_eq!(end(&mut cluster, CanaryOutcome::RolledBack), Reply::Done);
    assert_eq!(
        (cluster.decides().as_str(), cluster.core.policy_canary()),
        ("seat", None)
    );
    assert_eq!(
        cluster.history()[2],
        "3 bird by bob, canary ended: an operator took it out, before -"
    );
    assert!(matches!(
        end(&mut cluster, CanaryOutcome::RolledBack),
        Reply::Refused(_)
    ));

    for (switch, decides, last) in [
        (true, "bird", "3 bird by ann, swapped, before 1"),
        (
            false,
            "seat",
            "3 bird by the host, canary ended: its time as a canary is over, before -",
        ),
    ] {
        let mut cluster = pool(drf());
        cluster.swap(canary_for_eng(Some(60_000), switch), drf());
        cluster.advance(59_000);
        assert!(cluster.core.policy_canary().is_some());
        cluster.advance(2_000);
        assert_eq!(
            (cluster.decides().as_str(), cluster.core.policy_canary()),
            (decides, None)
        );
        assert_eq!(cluster.history().last().unwrap(), last);
    }
}

#[test]
fn a_host_that_starts_anew_decides_without_the_canary_and_says_so() {
    let cluster = with_canary(drf(), drf());
    let mut again = cluster.again();
    let mut out = proffer_core::Outbox::new();
    again.handle(
        proffer_model::Timestamp(cluster.now),
        Event::Ticked,
        &mut out,
    );
    assert_eq!(again.policy_canary(), None);
    assert_eq!(again.policy_record().unwrap().name, "seat");
    let last = again.policy_history().next_back().unwrap();
    let proffer_model::fact::PolicyCause::CanaryEnded(why) = &last.cause else {
        panic!("{last:?}");
    };
    assert_eq!((last.name.as_str(), &*why.code), ("bird", "host-restarted"));
    // Once: a restart after that has nothing to end.
    let count = again.policy_history().count();
    assert_eq!(count, 3);
}

#[test]
fn the_running_policy_may_fail_beside_a_canary_and_it_goes_on() {
    let mut cycles = 0;
    let script = Decider::Script(Box::new(move |_, _| {
        cycles += 1;
        if cycles == 3 {
            Err(fault())
        } else {
            Ok(Proposal::default())
        }
    }));
    let mut cluster = with_canary(script, drf());
    for agent in 0..3 {
        cluster.agent(&format!("a{agent}"), "cpus:4;mem:100");
    }
    assert!(cluster.core.policy_canary().is_some());
    assert_eq!(cluster.core.policy().failed_cycles, 1);
    let offers = cluster.offers();
    assert!(offers.iter().any(|row| row.starts_with("x ")), "{offers:?}");
    assert!(
        offers.iter().any(|row| row.starts_with("y ")),
        "the fallback's: {offers:?}"
    );
    assert_eq!(cluster.core.policy().grants_invalid, 0);
    // What was declined comes again, from whoever decides for it.
    for name in ["x", "y"] {
        let offers = cluster.core.offers(None);
        let own = offers.filter(|offer| *offer.framework == *name);
        let ids: Vec<u64> = own.map(|offer| offer.id.0).collect();
        cluster.answer(name, vec![decline(&ids, 0)]);
    }
    cluster.advance(5_000);
    assert!(cluster.core.policy_canary().is_some());
}

#[test]
fn roles_that_nobody_knows_and_a_second_swap_are_refused() {
    let mut cluster = pool(drf());
    let refused = |cluster: &Cluster, ticket| match &cluster.replies[&ticket] {
        Reply::Refused(why) => why.text.clone(),
        other => panic!("{other:?}"),
    };
    for (roles, words) in [
        (vec![role("enj")], "no role 'enj' is in use"),
        (vec![role("eng"); 17], "17 roles, and 16 are room"),
    ] {
        let mut swap = canary_for_eng(None, true);
        swap.trial.as_mut().unwrap().canary = roles;
        let ticket = cluster.swap(swap, drf());
        assert!(refused(&cluster, ticket).starts_with(words));
    }
    let mut endless = canary_for_eng(None, true);
    endless.trial.as_mut().unwrap().canary.clear();
    let ticket = cluster.swap(endless, drf());
    assert!(refused(&cluster, ticket).contains("say when"));
    cluster.swap(canary_for_eng(None, true), drf());
    let second = PolicySwap {
        candidate: 2,
        ..swap_to("third")
    };
    let ticket = cluster.swap(second, drf());
    assert_eq!(
        refused(&cluster, ticket),
        "bird 1 is a canary: promote it or roll it back first"
    );
}
