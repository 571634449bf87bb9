//! Roles with policies of their own: what they see, what they share, and what their faults cost whom.

use proffer_core::{Asked, DemandFindings, Event, Reply, RolePolicy, TenantView, Ticket};
use proffer_model::fact::{GuardedWait, WaitGuard};
use proffer_model::policy::{Changes, Finding, NONE, Piece, Proposal, TERMS_PLAIN, kind};
use proffer_model::{Amount, Duration, Reason, Remedy, RoleName};

use super::cluster::{ALL_FEEDS, Cluster, Decider};
use super::swaps::{drf, fault, identity};
use super::words::want_as;

/// Clients and demands of the pool below, in the order in which they came.
const X: u32 = 0;
const Z: u32 = 1;
const Y: u32 = 2;

fn role(name: &str) -> RoleName {
    RoleName::new(name).unwrap()
}

impl Cluster {
    fn role_policy(&mut self, name: &str, tenant: u64, policy: Option<&str>) -> Reply {
        self.role_policy_guarded(name, tenant, policy, Vec::new())
    }

    fn role_policy_guarded(
        &mut self,
        name: &str,
        tenant: u64,
        policy: Option<&str>,
        guards: Vec<WaitGuard>,
    ) -> Reply {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let set = Box::new(RolePolicy {
            tenant,
            identity: policy.map(identity),
            by: "ann".to_owned(),
            why: "ours".to_owned(),
            guards,
        });
        self.event(Event::RolePolicyAsked {
            ticket,
            role: role(name),
            set,
        });
        self.replies[&ticket].clone()
    }

    fn tenant_of_eng(&self) -> TenantView {
        self.core.tenants().next().expect("eng has a policy")
    }

    /// What is on offer, by framework, in cpus.
    fn cpus(&self, name: &str) -> i64 {
        let offers = self.core.offers(None);
        let own = offers.filter(|offer| *offer.framework == *name);
        own.map(|offer| offer.resources.total().cpus.milli() / 1_000)
            .sum()
    }
}

/// x under eng/a, z under eng/b and y under ops want more than there will be; eng has a policy of its own.
fn pool(tenant: Decider) -> Cluster {
    let mut cluster = Cluster::new();
    for (name, role) in [("x", "eng/a"), ("z", "eng/b"), ("y", "ops")] {
        cluster.framework(name, role);
    }
    cluster.loaded = drf();
    cluster.event(Event::PolicyLoaded {
        identity: identity("seat"),
        feeds: ALL_FEEDS,
    });
    for (name, role) in [("x", "eng/a"), ("z", "eng/b"), ("y", "ops")] {
        let want = want_as("d", role, "cpus:1;mem:10", 100, |_| {});
        cluster.command(name, vec![want]);
    }
    cluster.tenant = tenant;
    assert_eq!(cluster.role_policy("eng", 1, Some("ours")), Reply::Done);
    cluster
}

fn with_agents(mut cluster: Cluster) -> Cluster {
    for agent in 0..4 {
        cluster.agent(&format!("a{agent}"), "cpus:4;mem:40");
    }
    cluster
}

/// Of the picture, what is free: by agent, in thousandths of a cpu.
fn free_cpus(changes: &[Changes]) -> Vec<(u32, i64)> {
    let (totals, cells) = (&changes[0].totals, &changes[0].cells);
    let mut free = Vec::new();
    for (row, agent) in totals.agent.iter().enumerate() {
        if totals.kind[row] != kind::CPUS {
            continue;
        }
        let own = |at: &usize| cells.agent[*at] == *agent && cells.kind[*at] == kind::CPUS;
        let held = (0..cells.agent.len()).filter(own);
        let held: i64 = held.map(|at| cells.offered[at] + cells.used[at]).sum();
        free.push((*agent, totals.total[row] - held));
    }
    free
}

/// Gives all that is free of each agent to one client, for its demand.
fn all_to(client: u32) -> Decider {
    Decider::Script(Box::new(move |changes, _| {
        let mut proposal = Proposal::default();
        for (agent, free) in free_cpus(changes) {
            if free > 0 {
                let piece = |kind, amount| Piece {
                    terms: TERMS_PLAIN,
                    kind,
                    amount: Amount::from_milli(amount),
                };
                let pieces = [piece(kind::CPUS, free), piece(kind::MEM, free * 10)];
                proposal.grants.push(agent, client, client, &pieces);
            }
        }
        Ok(proposal)
    }))
}

#[test]
fn a_subtree_is_granted_its_share_and_its_policy_gives_it_to_whom_it_will() {
    let cluster = with_agents(pool(all_to(Z)));
    // Half of the pool is eng's, all of which its policy gives to z.
    assert_eq!(
        (cluster.cpus("x"), cluster.cpus("z"), cluster.cpus("y")),
        (0, 8, 8)
    );
    let tenant = cluster.tenant_of_eng();
    assert!(!tenant.fallback);
    assert_eq!((tenant.tally.failures, tenant.tally.native_turns), (0, 0));
    let counters = |name| {
        cluster
            .core
            .framework_named(name)
            .unwrap()
            .counters
            .offers_made
    };
    assert_eq!(
        counters("x"),
        0,
        "what is the subtree's is offered to nobody"
    );
    // The seat's policy is told that the subtree has its own.
    assert_eq!(cluster.core.policy().grants_invalid, 0);
    let decides = |name| cluster.core.explain_framework(name).unwrap().policy;
    assert_eq!(decides("x"), "seat 1; ours 1 within eng");
    assert_eq!(decides("y"), "seat 1");
}

#[test]
fn a_tenants_picture_holds_its_own_and_nothing_else() {
    let mut cluster = with_agents(pool(Decider::Hand));
    let (turn, native, changes) = cluster.turns[0].clone();
    assert!(!native);
    let picture = &changes[0];
    let names: Vec<&str> = picture
        .roles
        .iter()
        .map(|role| role.name.as_str())
        .collect();
    assert_eq!(names, ["eng", "eng/a", "eng/b"]);
    let clients: Vec<u32> = picture.clients.iter().map(|client| client.handle).collect();
    assert_eq!(clients, [X, Z]);
    let demands: Vec<(u32, u32)> = picture
        .demands
        .iter()
        .map(|d| (d.client, d.offered))
        .collect();
    assert_eq!(
        demands,
        [(X, 0), (Z, 0)],
        "what was granted is nobody's yet"
    );
    // Agent 0 only, and of it what was granted: that is what it has, and it is free.
    let granted: i64 = free_cpus(&changes).iter().map(|(_, free)| free).sum();
    assert_eq!(picture.agents.len(), 1);
    assert!(granted > 0 && granted <= 4_000, "{granted}");
    assert_eq!(picture.totals.total[0], granted);
    // While it thinks, nobody waits for it: more comes, and y gets its part.
    let before = cluster.cpus("y");
    cluster.agent("b0", "cpus:4;mem:40");
    cluster.agent("b1", "cpus:4;mem:40");
    assert!(cluster.cpus("y") > before);
    assert_eq!(cluster.turns.len(), 1, "one turn at a time");
    cluster.event(Event::TenantProposed {
        turn,
        proposal: Box::default(),
    });
    assert_eq!(cluster.turns.len(), 2, "the next has what came meanwhile");
}

#[test]
fn a_tenant_that_traps_loses_its_turn_to_the_native_policy_within_its_subtree() {
    let trap = || Decider::Script(Box::new(|_, _| Err(fault())));
    let mut cluster = with_agents(pool(trap()));
    let (x, z, y) = (cluster.cpus("x"), cluster.cpus("z"), cluster.cpus("y"));
    assert!(x > 0 && z > 0 && x + z == 8 && y == 8, "{x} {z} {y}");
    let tenant = cluster.tenant_of_eng();
    assert!(tenant.fallback && tenant.tally.failures > 0 && tenant.tally.native_turns > 0);
    assert_eq!(&*tenant.last_fault.unwrap().code, "trap");
    let seat = cluster.core.policy();
    assert_eq!(
        (seat.failed_cycles, seat.grants_invalid),
        (0, 0),
        "the seat's did not fail"
    );
    // It is tried again, and in the end left out.
    let mut agents = 0;
    while cluster.tenant_of_eng().left_out.is_none() {
        cluster.advance(30_000);
        cluster.agent(&format!("c{agents}"), "cpus:4;mem:40");
        agents += 1;
        assert!(agents < 50);
    }
    assert_eq!(cluster.tenant_of_eng().tally.failures, 5);
    // Set anew, it has another chance.
    cluster.tenant = all_to(X);
    assert_eq!(cluster.role_policy("eng", 2, Some("mended")), Reply::Done);
    assert!(cluster.lifecycle.contains(&"drop tenant 1".to_owned()));
    let before = (cluster.cpus("x"), cluster.cpus("z"));
    cluster.agent("d", "cpus:4;mem:40");
    cluster.agent("e", "cpus:4;mem:40");
    assert!(cluster.cpus("x") > before.0);
    assert_eq!(cluster.cpus("z"), before.1);
}

#[test]
fn a_hostile_tenant_gets_no_more_than_its_subtree_was_granted_and_nobody_else_anything() {
    let unit = |cpus: i64| {
        let piece = |kind, amount| Piece {
            terms: TERMS_PLAIN,
            kind,
            amount: Amount::from_units(amount),
        };
        [piece(kind::CPUS, cpus), piece(kind::MEM, cpus * 10)]
    };
    type Attack = Box<dyn Fn(u32) -> Proposal>;
    let one = |agent: u32, client: u32, demand: u32, pieces: Vec<Piece>| {
        let mut proposal = Proposal::default();
        proposal.grants.push(agent, client, demand, &pieces);
        proposal
    };
    let attacks: Vec<(&str, bool, Attack)> = vec![
        (
            "to a stranger",
            true,
            Box::new(move |a| one(a, Y, Y, unit(1).to_vec())),
        ),
        (
            "to nobody",
            true,
            Box::new(move |a| one(a, 99, NONE, unit(1).to_vec())),
        ),
        (
            "more than was granted",
            true,
            Box::new(move |a| one(a, X, X, unit(5).to_vec())),
        ),
        (
            "another's agent",
            true,
            Box::new(move |a| one(a + 1, X, X, unit(1).to_vec())),
        ),
        (
            "another's demand",
            true,
            Box::new(move |a| one(a, X, Z, unit(1).to_vec())),
        ),
        (
            "less than nothing",
            false,
            Box::new(move |a| one(a, X, X, unit(-1).to_vec())),
        ),
        (
            "twice the same",
            true,
            Box::new(move |a| {
                let mut twice = one(a, X, NONE, Vec::new());
                twice.grants.push(a, Z, NONE, &[]);
                twice
            }),
        ),
        (
            "torn columns",
            true,
            Box::new(move |a| {
                let mut torn = one(a, X, X, unit(1).to_vec());
                torn.grants.lease.clear();
                torn
            }),
        ),
    ];
    for (name, is_fault, attack) in attacks {
        let script = Decider::Script(Box::new(move |changes, _| {
            Ok(attack(changes[0].agents[0].handle))
        }));
        let mut cluster = with_agents(pool(script));
        let tenant = cluster.tenant_of_eng();
        assert_eq!(tenant.tally.failures > 0, is_fault, "{name}: {tenant:?}");
        let policy = cluster.core.policy();
        assert_eq!(
            (policy.grants_invalid, policy.failed_cycles),
            (0, 0),
            "{name}"
        );
        cluster.advance(3_000);
        // y has its half at least, and what was left within eng went on.
        assert!(cluster.cpus("y") >= 8, "{name}: {}", cluster.cpus("y"));
        let all = cluster.cpus("x") + cluster.cpus("z") + cluster.cpus("y");
        assert!(all <= 16, "{name}");
    }
}

#[test]
fn what_a_tenant_leaves_goes_to_others_and_the_host_does_not_spin() {
    let rest = Decider::Script(Box::new(|_, _| Ok(Proposal::default())));
    let mut cluster = with_agents(pool(rest));
    assert_eq!((cluster.cpus("x"), cluster.cpus("z")), (0, 0));
    assert_eq!(cluster.cpus("y"), 16, "it is y's at once");
    cluster.command("y", vec![want_as("d", "ops", "cpus:1;mem:10", 16, |_| {})]);
    cluster.agent("b", "cpus:4;mem:40");
    let before = cluster.cycles_asked;
    cluster.advance(60_000);
    let cycles = cluster.cycles_asked - before;
    assert!(cycles < 60 * 25, "{cycles} cycles in a minute");
    assert_eq!(cluster.tenant_of_eng().tally.failures, 0);
}

#[test]
fn what_goes_away_while_a_tenant_thinks_is_not_its_fault() {
    let mut cluster = with_agents(pool(Decider::Hand));
    let (turn, _, changes) = cluster.turns[0].clone();
    let mut proposal = Proposal::default();
    for (agent, _) in free_cpus(&changes) {
        proposal.grants.push(agent, X, NONE, &[]);
    }
    cluster.disconnect("a0");
    cluster.event(Event::TenantProposed {
        turn,
        proposal: Box::new(proposal),
    });
    let tenant = cluster.tenant_of_eng();
    assert_eq!((tenant.tally.failures, tenant.tally.turns), (0, 1));
    // A late answer is nobody's.
    cluster.event(Event::TenantFailed {
        turn,
        fault: fault(),
    });
    assert_eq!(cluster.tenant_of_eng().tally.failures, 0);
    // Nor does one hold what is its clients', who go.
    cluster.remove("x");
    cluster.remove("z");
    cluster.advance(5_000);
    assert_eq!(cluster.cpus("y"), 12);
}

#[test]
fn a_roles_policy_is_kept_over_a_restart_and_the_native_one_stands_in_until_it_is_loaded() {
    let cluster = pool(all_to(Z));
    let facts = |core: &proffer_core::Core| {
        let facts = core.snapshot().into_facts().into_iter();
        let own =
            facts.filter(|fact| matches!(fact, proffer_model::fact::Fact::RolePolicySet { .. }));
        own.count()
    };
    let mut again = cluster.again();
    assert_eq!(facts(&again), 1);
    let tenant = again.tenants().next().unwrap();
    assert_eq!(
        (tenant.role.as_str(), tenant.record.name.as_str()),
        ("eng", "ours")
    );
    assert!(tenant.fallback, "it is not loaded yet");
    assert!(
        again.components_in_use().contains(&tenant.record.digest),
        "its component may go"
    );
    let mut out = proffer_core::Outbox::new();
    let now = proffer_model::Timestamp(cluster.now);
    let loaded = Event::TenantLoaded {
        role: role("eng"),
        tenant: 9,
    };
    again.handle(now, loaded, &mut out);
    assert!(!again.tenants().next().unwrap().fallback);
    // One that cannot be loaded leaves the subtree to the native policy, with its reason.
    let mut again = cluster.again();
    let fault = Reason::new(
        "policy-unavailable",
        proffer_model::Remedy::Mend,
        "its file is gone",
    );
    let unavailable = Event::TenantUnavailable {
        role: role("eng"),
        fault: fault.clone(),
    };
    again.handle(now, unavailable, &mut out);
    assert_eq!(again.tenants().next().unwrap().left_out, Some(fault));
}

#[test]
fn roles_policies_that_cannot_be_are_refused_and_one_is_taken_away() {
    let mut cluster = with_agents(pool(all_to(Z)));
    let refused = |reply: Reply| match reply {
        Reply::Refused(why) => why.text,
        other => panic!("{other:?}"),
    };
    for (name, policy, words) in [
        (
            "eng/a",
            Some("other"),
            "eng has a policy of its own, and a policy within another's subtree is not offered: give one to \
             roles side by side, or take that one away first with `role set eng --policy none`",
        ),
        ("nobody", None, "nobody has no policy of its own"),
        ("ops", None, "ops has no policy of its own"),
    ] {
        let why = refused(cluster.role_policy(name, 7, policy));
        assert!(why.contains(words), "{name}: {why}");
    }
    assert_eq!(cluster.role_policy("eng", 0, None), Reply::Done);
    assert_eq!(cluster.core.tenants().count(), 0);
    let before = cluster.cpus("x");
    cluster.agent("b", "cpus:4;mem:40");
    cluster.agent("c", "cpus:4;mem:40");
    assert!(
        cluster.cpus("x") > before,
        "the seat's policy shares within again"
    );
    assert_eq!(cluster.again().tenants().count(), 0);
}

#[test]
fn a_policy_may_be_set_for_a_role_that_nobody_has_used_and_decides_when_somebody_does() {
    let mut cluster = pool(all_to(Z));
    assert_eq!(cluster.role_policy("eng", 0, None), Reply::Done);
    assert_eq!(cluster.role_policy("new/a", 3, Some("theirs")), Reply::Done);
    let known = |core: &proffer_core::Core| {
        let views = core.role_views().into_iter();
        let own = views.filter(|view| view.name.as_str().starts_with("new"));
        own.map(|view| view.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(known(&cluster.core), ["new", "new/a"]);
    assert_eq!(known(&cluster.again()), ["new", "new/a"]);
    // Nobody is in it: nobody's share is less.
    cluster.tenant = Decider::Script(Box::new(|_, _| panic!("nothing was granted to it")));
    let mut cluster = with_agents(cluster);
    cluster.framework("w", "new/a");
    cluster.tenant = Decider::Script(Box::new(|changes, _| {
        let client = changes[0].clients[0].handle;
        let (agent, _) = free_cpus(changes)[0];
        let mut proposal = Proposal::default();
        proposal.grants.push(agent, client, NONE, &[]);
        Ok(proposal)
    }));
    cluster.command("w", vec![want_as("d", "new/a", "cpus:1;mem:10", 4, |_| {})]);
    cluster.agent("b", "cpus:4;mem:40");
    assert!(cluster.cpus("w") > 0);
    let tenant = cluster.tenant_of_eng();
    assert_eq!((tenant.tally.failures, tenant.tally.offers), (0, 1));
}

/// As an operator is told when its policy has something to say of one agent: code, agents, and who says so.
fn why_x_waits(cluster: &Cluster) -> Vec<(&'static str, u32, &'static str)> {
    let core = &cluster.core;
    let questions = core.policy_questions("x");
    let [asking] = questions.as_slice() else {
        panic!("{questions:?}");
    };
    assert_eq!(
        asking.asked,
        Asked::Tenant(2),
        "the seat has granted what it could"
    );
    let found = DemandFindings {
        key: asking.key.clone(),
        asked: asking.asked,
        policy: asking.policy.clone(),
        findings: vec![Finding {
            agent: asking.question.agents[0],
            why: Reason::new("mood", Remedy::Retry, "not today"),
            short: Vec::new(),
        }],
    };
    let report = core.with_findings(core.explain_framework("x").unwrap(), &[found]);
    let rows = report.demands[0].reasons.iter();
    let rows = rows.filter(|reason| reason.why.code != proffer_model::code::NO_FIT);
    let mut rows: Vec<_> = rows
        .map(|reason| {
            let known = |text: &str, all: [&'static str; 2]| {
                let found = all.into_iter().find(|one| *one == text);
                found.unwrap_or_else(|| panic!("{text}"))
            };
            let code = known(&reason.why.code, ["mood", "passed-over"]);
            (code, reason.agents, known(&reason.policy, ["", "miser 1"]))
        })
        .collect();
    rows.sort_unstable();
    rows
}

/// It leaves what its clients could use, time and again: that is its own doing, and not the seat's.
#[test]
fn a_tenant_that_starves_its_clients_breaches_its_guard_and_the_seat_does_not() {
    for wait in [GuardedWait::Longest, GuardedWait::P99] {
        let guard = |below| WaitGuard {
            wait,
            below: Duration(below),
        };
        let rest = || Decider::Script(Box::new(|_, _| Ok(Proposal::default())));
        let mut cluster = pool(rest());
        let guarded = proffer_core::PolicySwap {
            guards: vec![guard(4_000)],
            ..super::swaps::swap_to("guarded")
        };
        cluster.swap(guarded, drf());
        cluster.tenant = rest();
        // y is content with two agents, and the rest is the subtree's for the taking.
        cluster.command("y", vec![want_as("d", "ops", "cpus:1;mem:10", 8, |_| {})]);
        cluster.remove("z");
        let set = cluster.role_policy_guarded("eng", 2, Some("miser"), vec![guard(8_000)]);
        assert_eq!(set, Reply::Done);
        let mut cluster = with_agents(cluster);
        cluster.advance(6_000);
        let waits = cluster.core.waits_of_tenant(&role("eng"));
        assert_eq!(waits.waiting, 1, "{waits:?}");
        assert!(waits.longest >= Duration(4_000), "{waits:?}");
        assert_eq!(cluster.core.waits().longest, waits.longest);
        assert!(!cluster.tenant_of_eng().fallback);
        assert_eq!(
            why_x_waits(&cluster),
            [("mood", 1, "miser 1"), ("passed-over", 1, "")]
        );
        cluster.advance(12_000);
        let tenant = cluster.tenant_of_eng();
        let why = tenant.left_out.expect("it is left out").text;
        assert!(why.contains("-wait<8s' is breached"), "{why}");
        assert_eq!(tenant.tally.failures, 0, "it has not failed");
        assert_eq!(cluster.decides(), "guarded", "the seat did what it could");
        // The native policy serves them within.
        assert_eq!((cluster.cpus("x"), cluster.cpus("y")), (8, 8));
        assert_eq!(cluster.core.waits_of_tenant(&role("eng")).waiting, 0);
        // One that is set anew is judged by its own.
        cluster.tenant = all_to(X);
        assert_eq!(cluster.role_policy("eng", 3, Some("ours")), Reply::Done);
        assert!(!cluster.tenant_of_eng().fallback);
    }
}

#[test]
fn a_seat_that_grants_a_subtree_nothing_cannot_blame_its_policy() {
    let mut cluster = pool(all_to(X));
    let guarded = proffer_core::PolicySwap {
        guards: vec![WaitGuard {
            wait: GuardedWait::Longest,
            below: Duration(15_000),
        }],
        ..super::swaps::swap_to("second")
    };
    let miser = Decider::Script(Box::new(|_, _| Ok(Proposal::default())));
    cluster.swap(guarded, miser);
    assert_eq!(cluster.decides(), "second");
    let mut cluster = with_agents(cluster);
    // A look comes with a cycle, and a cycle with a sweep.
    cluster.advance(21_000);
    assert!(cluster.core.waits().longest >= Duration(5_000));
    let own = cluster.core.waits_of_tenant(&role("eng"));
    assert_eq!((own.waiting, own.longest), (0, Duration::ZERO));
    cluster.advance(30_000);
    assert_ne!(cluster.decides(), "second");
    assert!(!cluster.tenant_of_eng().fallback);
}
