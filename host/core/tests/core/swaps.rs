//! Policies that are put in while others decide, and taken out again.

use std::sync::Arc;

use proffer_core::{Event, PolicyIdentity, PolicySwap, Reply, SwapTrial, Ticket};
use proffer_model::fact::{Fact, PolicyCause};
use proffer_model::policy::{Changes, ChangesPart, Proposal, Section};
use proffer_model::{Duration, Reason, Remedy};
use proffer_policy::{Drf, Policy};

use super::cluster::{ALL_FEEDS, Cluster, Decider};
use super::words::{decline, want_anything};

pub(super) fn drf() -> Decider {
    let mut drf = Drf::default();
    drf.configure("").unwrap();
    Decider::Drf(Box::new(drf))
}

pub(super) fn fault() -> Reason {
    Reason::new("trap", Remedy::Mend, "it trapped")
}

pub(super) fn identity(name: &str) -> Arc<PolicyIdentity> {
    Arc::new(PolicyIdentity {
        name: name.to_owned(),
        version: "1".to_owned(),
        digest: format!("sha256:{name}"),
        config: "{}".to_owned(),
    })
}

pub(super) fn swap_to(name: &str) -> PolicySwap {
    PolicySwap {
        candidate: 1,
        identity: identity(name),
        feeds: ALL_FEEDS,
        by: "ann".to_owned(),
        why: "better".to_owned(),
        rollback_to: None,
        guards: Vec::new(),
        trial: None,
    }
}

/// A pool in which somebody wants more than there is.
fn pool() -> Cluster {
    let mut cluster = Cluster::new();
    for agent in 0..3 {
        cluster.agent(&format!("a{agent}"), "cpus:4;mem:100");
    }
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(9)]);
    cluster
}

/// The pool with the policy `first` in the seat, whose cycles are answered at once.
pub(super) fn run_by_first() -> Cluster {
    let mut cluster = pool();
    cluster.loaded = drf();
    cluster.event(Event::PolicyLoaded {
        identity: identity("first"),
        feeds: ALL_FEEDS,
    });
    cluster
}

impl Cluster {
    pub(super) fn swap(&mut self, swap: PolicySwap, candidate: Decider) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.candidate = candidate;
        let swap = Box::new(swap);
        self.event(Event::PolicySwapAsked { ticket, swap });
        ticket
    }

    pub(super) fn history(&self) -> Vec<String> {
        let records = self.core.policy_history();
        let cause = |cause: &PolicyCause| match cause {
            PolicyCause::Settings => "settings".to_owned(),
            PolicyCause::Swapped => "swapped".to_owned(),
            PolicyCause::RolledBack => "rolled back".to_owned(),
            PolicyCause::Failed(why) => format!("failed: {}", why.text),
            PolicyCause::Canary { roles } => format!("canary for {}", roles[0]),
            PolicyCause::CanaryEnded(why) => format!("canary ended: {}", why.text),
        };
        let row = |record: &proffer_model::fact::PolicyRecord| {
            let before = record.before.map_or("-".to_owned(), |n| n.to_string());
            let (number, name, by) = (record.number, &record.name, &record.by);
            format!(
                "{number} {name} by {by}, {}, before {before}",
                cause(&record.cause)
            )
        };
        records.map(row).collect()
    }

    pub(super) fn decides(&self) -> String {
        let view = self.core.policy();
        view.loaded
            .map_or("native".to_owned(), |one| one.name.clone())
    }

    /// As a host does that goes on where the facts end.
    pub(super) fn again(&self) -> proffer_core::Core {
        let facts = self.base.iter().chain(self.facts.iter().flatten()).cloned();
        let config = self.config.clone();
        proffer_core::Core::recover(config, facts, proffer_model::Timestamp(self.now)).unwrap()
    }
}

fn parts(changes: &[Changes]) -> Vec<ChangesPart> {
    changes.iter().map(|part| part.part).collect()
}

#[test]
fn a_candidate_is_fed_beside_and_takes_the_seat_between_two_cycles() {
    let mut cluster = run_by_first();
    cluster.loaded = Decider::Hand;
    cluster.prompt_candidate = false;
    let offers = cluster.offers();
    cluster.agent("b1", "cpus:1;mem:10");
    assert_eq!(cluster.cycles.len(), 1, "a cycle is under way");
    let ticket = cluster.swap(swap_to("second"), drf());
    assert_eq!(
        parts(&cluster.candidate_fed),
        [],
        "it waits for the cycle's end"
    );
    cluster.agent("b2", "cpus:1;mem:10");
    cluster.propose(Proposal::default());
    // The next cycle's changes go to both: what the one has not seen, and everything.
    let (_, changes, _) = cluster.cycles.front().unwrap();
    assert_eq!(parts(changes), [ChangesPart::Delta]);
    assert_eq!(changes[0].agents.len(), 1);
    assert_eq!(parts(&cluster.candidate_fed), [ChangesPart::SnapshotLast]);
    assert_eq!(cluster.candidate_fed[0].agents.len(), 5);
    cluster.event(Event::CandidateReady { candidate: 1 });
    assert_eq!(cluster.decides(), "first", "its cycle is under way");
    assert!(cluster.replies.is_empty() || !cluster.replies.contains_key(&ticket));
    cluster.agent("b3", "cpus:1;mem:10");
    cluster.propose(Proposal::default());
    // The seat changes, and the first cycle of the new one has a delta: it knows the rest.
    assert_eq!(cluster.decides(), "second");
    assert_eq!(cluster.replies[&ticket], Reply::Done);
    assert_eq!(
        cluster.offers().len(),
        offers.len() + 3,
        "what was on offer stays, what is new is granted by the second"
    );
    assert_eq!(cluster.core.policy().failures, 0);
    assert_eq!(
        cluster.history(),
        [
            "1 first by the host, settings, before -",
            "2 second by ann, swapped, before 1"
        ]
    );
    let again = cluster.again();
    assert_eq!(
        again.policy_history().collect::<Vec<_>>(),
        cluster.core.policy_history().collect::<Vec<_>>()
    );
}

#[test]
fn a_candidate_is_fed_also_when_nobody_wants_anything() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.loaded = drf();
    cluster.event(Event::PolicyLoaded {
        identity: identity("first"),
        feeds: ALL_FEEDS,
    });
    let ticket = cluster.swap(swap_to("second"), drf());
    assert_eq!(cluster.replies[&ticket], Reply::Done);
    assert_eq!(cluster.decides(), "second");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    assert_eq!(cluster.offers().len(), 1);
}

#[test]
fn what_does_not_fit_leaves_the_running_policy_untouched() {
    let mut cluster = run_by_first();
    cluster.prompt_candidate = false;
    let first = cluster.swap(swap_to("second"), drf());
    let refused = |cluster: &Cluster, ticket| match &cluster.replies[&ticket] {
        Reply::Refused(why) => why.text.clone(),
        other => panic!("{other:?}"),
    };
    let other = PolicySwap {
        candidate: 2,
        ..swap_to("third")
    };
    let ticket = cluster.swap(other.clone(), drf());
    assert_eq!(
        refused(&cluster, ticket),
        "second 1 is being put in already; ask again when it is"
    );
    // It fails before it has the seat: it is dropped, and the operator has its words.
    cluster.event(Event::CandidateFailed {
        candidate: 1,
        fault: fault(),
    });
    assert_eq!(refused(&cluster, first), "it trapped");
    // What is said of it later is of nobody.
    cluster.event(Event::CandidateReady { candidate: 1 });
    let stale = PolicySwap {
        rollback_to: Some(7),
        ..other.clone()
    };
    let ticket = cluster.swap(stale, drf());
    assert!(refused(&cluster, ticket).starts_with("another policy was put in meanwhile"));
    let wordy = PolicySwap {
        why: "x".repeat(2_000),
        ..other
    };
    let ticket = cluster.swap(wordy, drf());
    assert_eq!(
        refused(&cluster, ticket),
        "the reason has 2000 bytes, and 1024 are room"
    );
    assert_eq!(
        (cluster.decides().as_str(), cluster.history().len()),
        ("first", 0)
    );
    assert_eq!(cluster.core.policy().failed_cycles, 0);
}

#[test]
fn a_policy_that_fails_soon_is_taken_back_and_what_it_was_to_decide_is_decided() {
    let unit: fn(u32) -> Result<Proposal, Reason> = |_| Err(fault());
    let nonsense: fn(u32) -> Result<Proposal, Reason> = |_| {
        let mut proposal = Proposal::default();
        proposal.grants.push(99, 99, 99, &[]);
        Ok(proposal)
    };
    for bad in [unit, nonsense] {
        let mut cluster = run_by_first();
        let mut cycles = 0;
        let script = Decider::Script(Box::new(move |_, _| {
            cycles += 1;
            if cycles < 3 {
                Ok(Proposal::default())
            } else {
                bad(cycles)
            }
        }));
        cluster.swap(swap_to("second"), script);
        assert_eq!(cluster.decides(), "second");
        cluster.agent("b1", "cpus:1;mem:10");
        assert_eq!(cluster.decides(), "second");
        let before = cluster.offers().len();
        cluster.agent("b2", "cpus:1;mem:10");
        // Its third cycle: the native policy decides it at once, the one before is loaded.
        assert_eq!(cluster.decides(), "native");
        assert_eq!(cluster.lifecycle.last().unwrap(), "load sha256:first");
        assert!(cluster.offers().len() > before);
        let history = cluster.history();
        assert_eq!(history.len(), 3);
        assert!(
            history[2].starts_with("3 first by the host, failed: "),
            "{history:?}"
        );
        assert!(history[2].ends_with("before -"));
        // Nobody else may be put in meanwhile, and it is fed from the beginning.
        let ticket = cluster.swap(swap_to("third"), drf());
        assert!(matches!(cluster.replies[&ticket], Reply::Refused(_)));
        cluster.loaded = Decider::Hand;
        cluster.event(Event::PolicyLoaded {
            identity: identity("first"),
            feeds: ALL_FEEDS,
        });
        assert_eq!(cluster.decides(), "first");
        let (_, changes, _) = cluster.cycles.front().unwrap();
        assert_eq!(parts(changes), [ChangesPart::SnapshotLast]);
        let swaps = cluster.core.policy_swaps();
        assert_eq!(
            (swaps.swapped, swaps.taken_back, swaps.probation),
            (1, 1, 0)
        );
    }
}

#[test]
fn after_its_probation_a_policy_is_tried_again_before_it_is_taken_back() {
    let mut cluster = run_by_first();
    cluster.swap(swap_to("second"), drf());
    let probation = cluster.core.policy_swaps().probation;
    let mut filler = 0;
    while cluster.core.policy_swaps().probation > 0 {
        let ids = cluster.offer_ids();
        cluster.answer("f", vec![decline(&ids, 0)]);
        cluster.advance(1_000);
        filler += 1;
        assert!(filler < 4 * probation, "its probation does not end");
    }
    cluster.loaded = Decider::Script(Box::new(|_, _| Err(fault())));
    cluster.agent("c1", "cpus:1;mem:10");
    assert_eq!(
        (cluster.decides().as_str(), cluster.core.policy().failures),
        ("second", 1)
    );
    cluster.advance(20_000);
    assert_eq!(cluster.decides(), "native");
    assert_eq!(cluster.lifecycle.last().unwrap(), "load sha256:first");
}

#[test]
fn an_operator_goes_back_step_by_step_and_never_to_one_that_was_rolled_back() {
    let mut cluster = pool();
    for name in ["second", "third"] {
        let ticket = cluster.swap(swap_to(name), drf());
        assert_eq!(cluster.replies[&ticket], Reply::Done);
    }
    let before = cluster.core.policy_before().unwrap().clone();
    assert_eq!((before.number, before.name.as_str()), (2, "second"));
    let back = PolicySwap {
        rollback_to: Some(2),
        ..swap_to("second")
    };
    cluster.swap(back, drf());
    assert_eq!(cluster.decides(), "second");
    // Then to the native one, which needs no snapshot beside.
    let native = PolicySwap {
        candidate: 0,
        identity: Arc::new(PolicyIdentity::native()),
        rollback_to: Some(1),
        ..swap_to("")
    };
    let ticket = cluster.swap(native, Decider::Hand);
    assert_eq!(cluster.replies[&ticket], Reply::Done);
    assert_eq!(cluster.decides(), "native");
    assert_eq!(
        cluster.history(),
        [
            "1 drf by the host, settings, before -",
            "2 second by ann, swapped, before 1",
            "3 third by ann, swapped, before 2",
            "4 second by ann, rolled back, before 1",
            "5 drf by ann, rolled back, before -",
        ]
    );
    assert_eq!(cluster.core.policy_before(), None);
}

#[test]
fn one_that_cannot_be_loaded_leaves_the_seat_to_those_before_it() {
    let mut cluster = pool();
    cluster.swap(swap_to("second"), drf());
    cluster.swap(swap_to("third"), drf());
    let mut core = cluster.again();
    // A host goes on, and the component is gone.
    let mut out = proffer_core::Outbox::new();
    let now = proffer_model::Timestamp(cluster.now);
    for _ in 0..3 {
        core.handle(now, Event::PolicyUnavailable { fault: fault() }, &mut out);
    }
    let names: Vec<_> = core.policy_history().map(|r| r.name.clone()).collect();
    assert_eq!(names, ["drf", "second", "third", "second", "drf", "drf"]);
    assert!(core.policy_history().next_back().unwrap().digest.is_empty());
}

#[test]
fn what_is_carried_is_kept_once_and_survives_a_restart() {
    let mut cluster = run_by_first();
    cluster.swap(swap_to("second"), drf());
    let sections = vec![Section {
        name: "usage".to_owned(),
        version: 1,
        data: vec![1, 2, 3],
    }];
    let facts = |cluster: &Cluster| {
        let all = cluster.facts.iter().flatten();
        all.filter(|fact| matches!(fact, Fact::PolicyCarried { .. }))
            .count()
    };
    for _ in 0..2 {
        cluster.event(Event::PolicyCarried {
            sections: sections.clone(),
        });
    }
    assert_eq!(facts(&cluster), 1, "the same is not written twice");
    let again = cluster.again();
    assert_eq!(again.policy_carried(), sections);
    let mut of_snapshot = again.snapshot().into_facts().into_iter();
    assert!(of_snapshot.any(|fact| matches!(fact, Fact::PolicyCarried { .. })));
    // It is asked now and then, and what is too much is not kept.
    cluster.advance(61_000);
    cluster.agent("b9", "cpus:1;mem:10");
    assert_eq!(
        cluster
            .lifecycle
            .iter()
            .filter(|what| *what == "carry")
            .count(),
        1
    );
    let huge = vec![Section {
        name: "usage".to_owned(),
        version: 1,
        data: vec![0; 2 << 20],
    }];
    cluster.event(Event::PolicyCarried { sections: huge });
    assert_eq!(cluster.core.policy_carried(), sections);
    assert!(cluster.notes.last().unwrap().contains("more than 1048576"));
}

fn trial(millis: u64, switch: bool) -> Option<SwapTrial> {
    Some(SwapTrial {
        length: Some(Duration(millis)),
        switch,
        canary: Vec::new(),
    })
}

#[test]
fn a_candidate_in_the_shadow_is_asked_the_same_and_changes_nothing() {
    for switch in [false, true] {
        let mut cluster = run_by_first();
        let swap = PolicySwap {
            trial: trial(10_000, switch),
            ..swap_to("second")
        };
        // It would take everything that it sees, whole, for the same framework.
        let miser = Decider::Script(Box::new(|_, _| Ok(Proposal::default())));
        let ticket = cluster.swap(swap, miser);
        assert_eq!(
            cluster.replies[&ticket],
            Reply::Done,
            "a trial is answered at once"
        );
        for agent in ["b1", "b2", "b3"] {
            cluster.agent(agent, "cpus:1;mem:10");
        }
        assert_eq!(cluster.offers().len(), 6, "the running policy decides");
        let trial = cluster.core.policy_trial().unwrap();
        let compared = &trial.compared;
        assert!(!trial.ended);
        assert_eq!((compared.cycles, compared.alike), (4, 1), "{compared:?}");
        assert_eq!(compared.demands, (3, 0));
        let (role, row) = compared.roles.first_key_value().unwrap();
        assert_eq!((role.as_str(), row.grants), ("*", (3, 0)));
        assert_eq!(row.amounts.0.to_string(), "cpus:3;mem:30");
        // What it holds and is granted of 12 to 15 cpus; of the miser it would get nothing more.
        assert!(
            compared.looks > 0 && row.shares.0 >= row.shares.1,
            "{row:?}"
        );
        assert!(row.shares.1 > 0, "{row:?}");
        // Demand that the running policy serves at once is passed over by the miser as long as it stands.
        for agent in ["c1", "c2", "c3"] {
            cluster.advance(1_000);
            cluster.agent(agent, "cpus:1;mem:10");
        }
        let waits = cluster.core.policy_trial().unwrap().compared.longest_wait;
        assert_eq!(waits, (Duration::ZERO, Duration(3_000)));
        cluster.advance(10_000);
        let trial = cluster.core.policy_trial().unwrap();
        assert!(trial.ended && trial.failed.is_none());
        let decides = if switch { "second" } else { "first" };
        assert_eq!(cluster.decides(), decides);
        let last = if switch { "switch to 1" } else { "drop 1" };
        assert!(cluster.lifecycle.iter().any(|what| *what == last));
        assert_eq!(
            cluster.core.policy_history().count(),
            if switch { 2 } else { 0 }
        );
    }
}

#[test]
fn a_policy_that_decides_the_same_is_seen_to() {
    let mut cluster = run_by_first();
    let swap = PolicySwap {
        trial: trial(60_000, false),
        ..swap_to("second")
    };
    cluster.swap(swap, drf());
    for round in 0..20 {
        let ids = cluster.offer_ids();
        cluster.answer("f", vec![decline(&ids, 0)]);
        cluster.advance(1_100);
        cluster.agent(&format!("b{round}"), "cpus:1;mem:10");
    }
    let compared = &cluster.core.policy_trial().unwrap().compared;
    assert!(compared.cycles > 20, "{compared:?}");
    assert_eq!(compared.alike, compared.cycles, "{compared:?}");
    assert_eq!(compared.demands.0, compared.demands.1);
    // It can be called off.
    cluster.tickets += 1;
    let ticket = Ticket(cluster.tickets);
    cluster.event(Event::SwapCancelAsked { ticket });
    assert_eq!(cluster.replies[&ticket], Reply::Done);
    assert_eq!(
        cluster
            .core
            .policy_trial()
            .unwrap()
            .failed
            .as_ref()
            .unwrap()
            .code,
        "operator"
    );
    cluster.tickets += 1;
    let ticket = Ticket(cluster.tickets);
    cluster.event(Event::SwapCancelAsked { ticket });
    assert!(matches!(cluster.replies[&ticket], Reply::Refused(_)));
}
