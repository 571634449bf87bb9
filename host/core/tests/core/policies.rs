//! Allocation cycles, good and bad policies: behaviour 22, and what else a host must bear.

use proffer_model::framework::Command;
use proffer_model::policy::{Feeds, NONE, Piece, Proposal, Reclaim, TERMS_PLAIN, kind};
use proffer_model::{Amount, Duration, OfferId, Reason, Remedy, code};

use super::cluster::{Cluster, Decider};
use super::words::{decline, want, want_anything, want_as};

fn piece(kind: u32, units: i64) -> Piece {
    Piece {
        terms: TERMS_PLAIN,
        kind,
        amount: Amount::from_units(units),
    }
}

fn grant(agent: u32, client: u32, demand: u32, pieces: &[Piece]) -> Proposal {
    let mut proposal = Proposal::default();
    proposal.grants.push(agent, client, demand, pieces);
    proposal
}

fn broken() -> Decider {
    Decider::Script(Box::new(|_, _| {
        Err(Reason::new("overrun", Remedy::Retry, "it took too long"))
    }))
}

#[test]
fn b22_cycles_are_coalesced_and_a_failed_policy_stops_nothing() {
    // While a cycle runs everything that happens waits for one more, not for many.
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(9)]);
    cluster.load_policy(Decider::Hand);
    let before = cluster.cycles_asked;
    for agent in 0..9 {
        cluster.agent(&format!("a{agent}"), "cpus:1;mem:100");
    }
    assert_eq!(
        cluster.cycles_asked - before,
        0,
        "one has been in flight since the policy came"
    );
    cluster.propose(Proposal::default());
    assert_eq!(cluster.cycles_asked - before, 1);
    let (_, _, cycle) = &cluster.cycles[0];
    assert_eq!(cycle.agents.as_ref().unwrap().len(), 9);

    // It traps: the fallback decides at once, the policy is tried again, in the end left out.
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(9)]);
    cluster.load_policy(broken());
    cluster.agent("a1", "cpus:1;mem:100");
    assert_eq!(cluster.offers().len(), 1);
    assert!(cluster.core.policy().fallback);
    assert_eq!(cluster.core.policy().failures, 1);
    cluster.agent("a2", "cpus:1;mem:100");
    assert_eq!(
        cluster.offers().len(),
        2,
        "while it waits the fallback goes on"
    );
    cluster.advance(5_000);
    let policy = cluster.core.policy();
    assert_eq!((policy.failures, policy.left_out.is_some()), (5, true));
    cluster.agent("a3", "cpus:1;mem:100");
    assert_eq!(cluster.offers().len(), 3);
    // A good one takes over with a snapshot.
    cluster.load_policy(Decider::Hand);
    assert_eq!(cluster.cycles.back().unwrap().1[0].agents.len(), 3);
    assert!(!cluster.core.policy().fallback);
}

#[test]
fn wrong_by_what_the_policy_knew_is_a_fault_and_wrong_only_now_is_stale() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.load_policy(Decider::Hand);
    cluster.command("f", vec![want("cpus:1;mem:1", 9)]);
    // The agent leaves while the policy thinks: stale, harmless.
    cluster.disconnect("a1");
    let unit = [piece(kind::CPUS, 1), piece(kind::MEM, 1)];
    cluster.propose(grant(0, 0, 0, &unit));
    let policy = cluster.core.policy();
    assert_eq!(
        (policy.grants_stale, policy.grants_invalid, policy.failures),
        (1, 0, 0)
    );
    // It knows that the agent is away, and grants it all the same.
    cluster.command("f", vec![want("cpus:1;mem:1", 10)]);
    while cluster.cycles.len() > 1 {
        cluster.propose(Proposal::default());
    }
    cluster.propose(grant(0, 0, 0, &unit));
    let policy = cluster.core.policy();
    assert_eq!(
        (policy.grants_stale, policy.grants_invalid, policy.failures),
        (1, 1, 1)
    );
}

#[test]
fn nonsense_of_a_policy_is_rejected_by_itself_and_the_rest_stands() {
    let unit = [piece(kind::CPUS, 1), piece(kind::MEM, 1)];
    let too_much = [piece(kind::CPUS, 5), piece(kind::MEM, 5)];
    let negative = [piece(kind::CPUS, -1)];
    for (name, bad) in [
        ("an unknown agent", grant(7, 0, 0, &unit)),
        ("an unknown client", grant(0, 7, 0, &unit)),
        ("an unknown demand", grant(0, 0, 7, &unit)),
        ("more than is there", grant(0, 0, 0, &too_much)),
        ("a negative amount", grant(0, 0, NONE, &negative)),
        ("an unknown kind", grant(0, 0, 0, &[piece(99, 1)])),
        ("a crumb", grant(0, 0, NONE, &[piece(kind::DISK, 1)])),
    ] {
        let mut cluster = Cluster::new();
        cluster.agent("a1", "cpus:4;mem:100;disk:10");
        cluster.framework("f", "*");
        cluster.load_policy(Decider::Hand);
        cluster.command("f", vec![want("cpus:1;mem:1", 1)]);
        let mut proposal = bad;
        proposal.grants.push(0, 0, 0, &unit);
        cluster.fallback = Decider::Hand;
        cluster.propose(proposal);
        assert_eq!(cluster.offers(), ["f a1 cpus:1;mem:1"], "{name}");
        assert_eq!(cluster.core.policy().grants_invalid, 1, "{name}");
    }
    // Columns that differ in length are no proposal at all, and the fallback decides.
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.load_policy(Decider::Hand);
    cluster.command("f", vec![want("cpus:1;mem:1", 1)]);
    let mut torn = grant(0, 0, 0, &unit);
    torn.grants.client.clear();
    cluster.propose(torn);
    assert_eq!(cluster.offers(), ["f a1 cpus:1;mem:1"]);
    assert_eq!(cluster.core.policy().fallback_cycles, 1);
}

#[test]
fn gangs_are_granted_together_in_one_batch_or_not_at_all() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:2;mem:100");
    cluster.agent("a2", "cpus:2;mem:100");
    cluster.framework("f", "*");
    let gang = |count| {
        want_as("d", "*", "cpus:1;mem:1", count, |demand| {
            demand.gang = count
        })
    };
    cluster.command("f", vec![gang(5)]);
    assert_eq!(cluster.offers(), Vec::<String>::new());
    cluster.command("f", vec![gang(4)]);
    assert_eq!(cluster.offers().len(), 2);
    assert!(
        cluster.told("f").iter().all(|told| told.ends_with("gang")),
        "{:?}",
        cluster.told("f")
    );
    // Less than a gang for a demand that is of no use otherwise: a fault.
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:2;mem:100");
    cluster.framework("f", "*");
    cluster.fallback = Decider::Hand;
    cluster.load_policy(Decider::Hand);
    cluster.command("f", vec![gang(2)]);
    cluster.propose(grant(0, 0, 0, &[piece(kind::CPUS, 1), piece(kind::MEM, 1)]));
    assert_eq!(cluster.offers(), Vec::<String>::new());
    assert_eq!(cluster.core.policy().grants_invalid, 1);
}

#[test]
fn a_policy_that_wants_no_filters_is_not_blamed_for_them() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let id = cluster.offer_ids()[0];
    let feeds = Feeds {
        tasks: false,
        filters: false,
        demands: true,
    };
    cluster.load_policy_fed(
        Decider::Script(Box::new(|_, _| Ok(grant(0, 0, 0, &[])))),
        feeds,
    );
    cluster.answer("f", vec![decline(&[id], 60_000)]);
    let before = cluster.cycles_asked;
    cluster.advance(50_000);
    assert_eq!(cluster.offers(), Vec::<String>::new());
    let policy = cluster.core.policy();
    assert!(policy.grants_stale > 0);
    assert_eq!((policy.grants_invalid, policy.failures), (0, 0));
    assert!(
        cluster.cycles_asked - before < 20,
        "{}",
        cluster.cycles_asked - before
    );
}

#[test]
fn what_would_be_taken_back_is_said_and_not_done() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("low", "batch");
    cluster.framework("high", "prod");
    let reclaim = |client, why: &str| Reclaim {
        client,
        agent: 0,
        pieces: vec![piece(kind::CPUS, 2)],
        tasks: Vec::new(),
        beneficiary: 1,
        demand: NONE,
        gang: 0,
        priority: 0,
        notice: Duration::ZERO,
        why: why.to_owned(),
    };
    let mut proposal = Proposal::default();
    // One is about a client that there is not, and one about less than nothing.
    let mut negative = reclaim(0, "");
    negative.pieces[0].amount = Amount::from_units(-1);
    negative.demand = 5;
    proposal.reclaims = vec![reclaim(0, "it matters more"), reclaim(77, ""), negative];
    let mut asked = 0;
    let script = Decider::Script(Box::new(move |_, _| {
        asked += 1;
        Ok(if asked < 4 {
            proposal.clone()
        } else {
            Proposal::default()
        })
    }));
    cluster.load_policy(script);
    cluster.notes.clear();
    for count in 1..3 {
        cluster.command(
            "low",
            vec![want_as("d", "batch", "cpus:1;mem:1", count, |_| {})],
        );
    }
    let words = "cpus:2 of low under batch on agent-0 for high under prod: it matters more";
    let takes: Vec<String> = cluster
        .core
        .would_take_back()
        .map(ToString::to_string)
        .collect();
    assert_eq!(takes, [words]);
    // Said once, however often it is proposed.
    let notes = cluster.notes.iter().filter(|note| note.contains(words));
    assert_eq!(notes.count(), 1, "{:?}", cluster.notes);
    assert_eq!(cluster.offers(), Vec::<String>::new());
    for name in ["low", "high"] {
        let report = cluster.core.explain_framework(name).unwrap();
        let own = report
            .general
            .iter()
            .filter(|why| why.code == code::RECLAIM);
        let texts: Vec<&str> = own.map(|why| why.text.as_str()).collect();
        assert_eq!(
            texts,
            [format!("the policy would take back {words}")],
            "{name}"
        );
    }
    assert_eq!(
        cluster.core.reclaims_of(0),
        ["cpus:2 from batch for prod, in 1 proposals"]
    );
    // The policy does not say so any more.
    for count in 3..9 {
        cluster.command(
            "low",
            vec![want_as("d", "batch", "cpus:1;mem:1", count, |_| {})],
        );
    }
    assert_eq!(cluster.core.would_take_back().count(), 0);
    assert_eq!(cluster.core.reclaims_of(0).len(), 1);
}

/// Whoever declines everything with 0 s, and does all that could bring the offer back, costs a
/// bounded number of cycles.
#[test]
fn a_framework_that_declines_for_ever_does_not_make_the_host_spin() {
    type More = fn() -> Vec<Command>;
    let commands: [(&str, More); 3] = [
        ("with 0 s", Vec::new),
        ("and revives", || vec![Command::Revive(vec![])]),
        ("and restates", || {
            vec![Command::ClearDemand(vec!["d".to_owned()]), want_anything(1)]
        }),
    ];
    for (name, more) in commands {
        let mut cluster = Cluster::new();
        for agent in 0..5 {
            cluster.agent(&format!("a{agent}"), "cpus:4;mem:100");
        }
        cluster.framework("f", "*");
        cluster.command("f", vec![want_anything(1)]);
        let end = cluster.now + 60_000;
        let mut steps = 0;
        while cluster.now < end {
            while !cluster.told("f").is_empty() {
                let ids: Vec<u64> = cluster.offer_ids();
                let mut commands = vec![decline(&ids, 0)];
                commands.extend(more());
                cluster.answer("f", commands);
                steps += 1;
                assert!(steps < 10_000, "{name}: spins at {}", cluster.now);
            }
            cluster.advance(10);
        }
        super::words::say(&format!(
            "a framework that declines for ever {name}: {} cycles and {steps} steps in 60 s, 5 agents\n",
            cluster.cycles_asked
        ));
        assert!(
            cluster.cycles_asked < 60 * 25,
            "{name}: {} cycles",
            cluster.cycles_asked
        );
    }
}

#[test]
fn demand_that_comes_free_again_is_met_elsewhere_at_once() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.agent("a2", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.command("f", vec![want_anything(1)]);
    let first = cluster.offer_ids();
    cluster.answer("f", vec![decline(&first, 3_600_000)]);
    cluster.advance(200);
    assert_eq!(cluster.offers().len(), 1, "not with the next sweep");
    assert_ne!(cluster.offer_ids(), first);
    let keep: Vec<OfferId> = cluster.offer_ids().into_iter().map(OfferId).collect();
    cluster.answer("f", vec![Command::Keep(keep)]);
}

#[test]
fn policies_are_told_nothing_of_offers_that_came_and_went() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:4;mem:100");
    cluster.framework("f", "*");
    cluster.load_policy(Decider::Hand);
    cluster.command("f", vec![want("cpus:1;mem:1", 9)]);
    let unit = [piece(kind::CPUS, 1), piece(kind::MEM, 1)];
    // Cpus on offer and in use, as stated for the cycle that was asked for last.
    let told = |cluster: &Cluster| -> Vec<(i64, i64)> {
        let cells = &cluster.cycles.back().unwrap().1[0].cells;
        let cpus = (0..cells.kind.len()).filter(|row| cells.kind[*row] == kind::CPUS);
        cpus.map(|row| (cells.offered[row], cells.used[row]))
            .collect()
    };
    cluster.propose(grant(0, 0, 0, &unit));
    let made = cluster.offer_ids();
    cluster.answer("f", vec![decline(&made, 0)]);
    assert_eq!((made.len(), told(&cluster)), (1, vec![]));
    // One that stands is told, and that it has gone since.
    cluster.propose(Proposal::default());
    cluster.advance(2_000);
    cluster.propose(grant(0, 0, 0, &unit));
    cluster.agent("a2", "cpus:1;mem:1");
    assert_eq!(told(&cluster), [(1_000, 0)]);
    let made = cluster.offer_ids();
    cluster.answer("f", vec![decline(&made, 0)]);
    cluster.propose(Proposal::default());
    assert_eq!(told(&cluster), [(0, 0)]);
}

/// Found by random runs with policies that answer late: a gang that was enough when the policy looked was
/// called nonsense, and the policy blamed.
#[test]
fn a_gang_that_has_become_too_small_meanwhile_is_stale() {
    let mut cluster = Cluster::new();
    cluster.agent("a1", "cpus:2;mem:20");
    cluster.framework("f", "*");
    cluster.load_policy(Decider::Hand);
    let gang_of = |gang| {
        let gang_of = move |demand: &mut proffer_model::Demand| demand.gang = gang;
        vec![want_as("d", "*", "cpus:1;mem:1", 3, gang_of)]
    };
    cluster.command("f", gang_of(2));
    // As the policy is asked, two at once are enough; as it answers, they are not.
    cluster.command("f", gang_of(3));
    let mut proposal = Proposal::default();
    proposal.grants.push(0, 0, 0, &[]);
    cluster.propose(proposal);
    let policy = cluster.core.policy();
    assert_eq!((policy.grants_stale, policy.grants_invalid), (1, 0));
    assert_eq!(policy.failures, 0);
    // What was nonsense when it looked still is.
    let mut proposal = Proposal::default();
    proposal.grants.push(0, 0, 0, &[]);
    cluster.propose(proposal);
    assert_eq!(cluster.core.policy().grants_invalid, 1);
}
